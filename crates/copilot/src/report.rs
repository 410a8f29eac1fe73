//! The error document, by which the engine learns why there are no inputs or outputs (spec 05 §10.1, §17).

use std::time::Duration;

use flyte_idl::core::{ContainerError, ErrorDocument, container_error};

use crate::transfer::{Transfer, TransferError};

/// Longest message, in bytes: it becomes part of events and of a status.
const LONGEST: usize = 64 * 1024;

/// How long a document is tried to be written at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Inputs did not come.
    Download,
    /// Outputs did not go.
    Upload,
}

impl Failed {
    /// Its code, as Go names it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Download => "InputDownloadFailed",
            Self::Upload => "OutputUploadFailed",
        }
    }
}

/// The document: another attempt may succeed, as Go says of every failure of copilot.
pub fn document(failed: Failed, message: &str) -> ErrorDocument {
    let mut end = message.len().min(LONGEST);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    ErrorDocument {
        error: Some(ContainerError {
            code: failed.code().to_owned(),
            message: message.get(..end).unwrap_or_default().to_owned(),
            kind: container_error::Kind::Recoverable.into(),
            ..ContainerError::default()
        }),
    }
}

/// Writes a document, for as long as `patience` lasts.
///
/// # Errors
/// What the store says, or that it says nothing.
pub(crate) async fn write(
    transfer: &Transfer,
    reference: &str,
    (document, patience): (&ErrorDocument, Duration),
) -> Result<(), Unwritten> {
    let put = transfer.put_message(reference, document);
    match tokio::time::timeout(patience, put).await {
        Ok(done) => Ok(done?),
        Err(_elapsed) => Err(Unwritten::Late {
            patience,
            trouble: transfer.trouble(),
        }),
    }
}

/// Nobody will learn why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unwritten {
    #[error("the error document cannot be written")]
    Store(#[from] TransferError),
    #[error("the error document could not be written in {patience:?}: {trouble}")]
    Late { patience: Duration, trouble: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_between_characters() {
        for (message, length) in [
            ("short".to_owned(), 5),
            ("x".repeat(LONGEST + 1), LONGEST),
            (format!("x{}", "ü".repeat(LONGEST)), LONGEST - 1),
        ] {
            let error = document(Failed::Upload, &message).error.unwrap();
            assert_eq!(error.message.len(), length);
            assert_eq!(error.kind(), container_error::Kind::Recoverable);
        }
    }
}
