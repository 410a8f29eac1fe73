//! Node statuses of workflows that do not fit into their resource.

use bytes::Bytes;
use flyte_platform::blob::BlobError;

use super::{World, is_hopeless};

/// Statuses are read whatever their size: they are the engine's own.
const NO_LIMIT: u64 = 0;

impl World {
    /// Writes them, however long it takes.
    ///
    /// # Errors
    /// When no other try can end differently.
    pub(crate) async fn write_statuses(&self, uri: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.until_it_works("write node statuses", || async {
            match self.blobs.put(uri, bytes.clone()).await {
                Ok(()) => Ok(Ok(())),
                Err(error) if is_hopeless(&error) => Ok(Err(error)),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Reads them; none when they are not there.
    ///
    /// # Errors
    /// When no other try can end differently.
    pub(crate) async fn read_statuses(&self, uri: &str) -> Result<Option<Bytes>, BlobError> {
        self.until_it_works("read node statuses", || async {
            match self.blobs.get_at_most(uri, NO_LIMIT).await {
                Ok(bytes) => Ok(Ok(Some(bytes))),
                Err(BlobError::NotFound(_)) => Ok(Ok(None)),
                Err(error) if is_hopeless(&error) => Ok(Err(error)),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Deletes those that nothing names any more. What cannot be deleted stays and does no harm.
    pub(crate) async fn delete_statuses(&self, uri: &str) {
        if let Err(error) = self.blobs.delete(uri).await {
            tracing::debug!(%error, uri, "cannot delete old node statuses");
        }
    }
}
