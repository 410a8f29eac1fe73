//! Node statuses of workflows that do not fit into their resource.

use bytes::Bytes;
use flyte_platform::blob::BlobError;

use super::{BlobFailure, TransientError, WorkflowEffects};

/// Statuses are read whatever their size: they are the engine's own.
const NO_LIMIT: u64 = 0;

/// Node statuses cannot be kept in a blob.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusesError {
    /// Another try may succeed.
    #[error(transparent)]
    Transient(#[from] TransientError),
    /// No further try can succeed.
    #[error(transparent)]
    Permanent(#[from] BlobError),
}

impl WorkflowEffects {
    /// Writes the statuses that do not fit into the resource as the blob `uri`.
    pub(crate) async fn write_statuses(
        &self,
        uri: &str,
        bytes: Bytes,
    ) -> Result<(), StatusesError> {
        match self.blob(self.blobs.put(uri, bytes)).await {
            Ok(()) => Ok(()),
            Err(BlobFailure::NotFound) => Err(BlobError::NotFound(uri.to_owned()).into()),
            Err(BlobFailure::Permanent(error)) => Err(error.into()),
            Err(BlobFailure::Transient(error)) => Err(error.into()),
        }
    }

    /// Reads them; none when they are not there.
    pub(crate) async fn read_statuses(&self, uri: &str) -> Result<Option<Bytes>, StatusesError> {
        match self.blob(self.blobs.get_at_most(uri, NO_LIMIT)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(BlobFailure::NotFound) => Ok(None),
            Err(BlobFailure::Permanent(error)) => Err(error.into()),
            Err(BlobFailure::Transient(error)) => Err(error.into()),
        }
    }

    /// Deletes those that nothing names any more. What cannot be deleted stays and does no harm.
    pub(crate) async fn delete_statuses(&self, uri: &str) {
        if self.blob(self.blobs.delete(uri)).await.is_err() {
            tracing::debug!(uri, "cannot delete old node statuses");
        }
    }
}
