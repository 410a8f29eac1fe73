//! How an effect fails: for good, or so that another try may succeed.

use std::{fmt, time::Duration};

use flyte_idl::core::{ExecutionError, execution_error::ErrorKind};
use flyte_platform::{Chain, blob::BlobError};
use tonic::{Code, Status};

use super::templates;

/// What an effect goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// The API server of the cluster.
    Kubernetes,
    /// The blob store.
    Blobs,
    /// flyteadmin.
    Admin,
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kubernetes => "the Kubernetes API",
            Self::Blobs => "the blob store",
            Self::Admin => "flyteadmin",
        })
    }
}

/// Whether a backend that did not do what it was asked for answered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It refused. So it may do until somebody mends something, and tries of it are counted.
    Refused,
    /// It was not there, had no time, or did not say anything in time: everybody waits until it is back.
    NoAnswer,
}

/// Another try may succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TransientError {
    /// Who was asked.
    pub backend: Backend,
    /// Whether it answered.
    pub answered: Answered,
    /// What it said, with its causes.
    pub message: String,
    /// It is not to be asked again before: others of the namespace wait for their next try as well.
    pub retry_after: Duration,
}

impl TransientError {
    pub(crate) fn no_answer(backend: Backend, message: String) -> Self {
        Self {
            backend,
            answered: Answered::NoAnswer,
            message,
            retry_after: Duration::ZERO,
        }
    }

    pub(crate) fn refused(backend: Backend, message: String) -> Self {
        Self {
            backend,
            answered: Answered::Refused,
            message,
            retry_after: Duration::ZERO,
        }
    }

    /// Of a call of admin that did not say anything about what it was asked.
    pub(super) fn of_status(status: &Status) -> Self {
        let message = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Cancelled
            | Code::Aborted
            | Code::Unauthenticated => Self::no_answer(Backend::Admin, message),
            _ => Self::refused(Backend::Admin, message),
        }
    }
}

impl From<kube::Error> for TransientError {
    fn from(error: kube::Error) -> Self {
        let message = Chain(&error).to_string();
        match &error {
            kube::Error::Api(status) => {
                let is_overloaded = matches!(status.code, 408 | 429 | 502..=504)
                    || matches!(
                        status.reason.as_str(),
                        "Timeout" | "ServerTimeout" | "TooManyRequests"
                    );
                let message = format!("{} {}: {}", status.code, status.reason, status.message);
                if is_overloaded {
                    Self::no_answer(Backend::Kubernetes, message)
                } else {
                    Self::refused(Backend::Kubernetes, message)
                }
            }
            _ => Self::no_answer(Backend::Kubernetes, message),
        }
    }
}

impl From<templates::NotListed> for TransientError {
    fn from(error: templates::NotListed) -> Self {
        Self::no_answer(Backend::Kubernetes, error.to_string())
    }
}

impl From<BlobError> for TransientError {
    fn from(error: BlobError) -> Self {
        let message = Chain(&error).to_string();
        match &error {
            BlobError::Store { source, .. } if is_missing_permission(source) => {
                Self::refused(Backend::Blobs, message)
            }
            BlobError::Store { .. } => Self::no_answer(Backend::Blobs, message),
            _ => Self::refused(Backend::Blobs, message),
        }
    }
}

/// Whether the store refused because it does not want to, rather than because it cannot for now.
fn is_missing_permission(error: &object_store::Error) -> bool {
    if matches!(
        error,
        object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. }
            | object_store::Error::NotSupported { .. }
            | object_store::Error::NotImplemented { .. }
    ) {
        return true;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                io.kind(),
                std::io::ErrorKind::PermissionDenied
                    | std::io::ErrorKind::ReadOnlyFilesystem
                    | std::io::ErrorKind::NotADirectory
                    | std::io::ErrorKind::IsADirectory
                    | std::io::ErrorKind::InvalidFilename
            );
        }
        cause = error.source();
    }
    false
}

/// No other try can succeed.
#[derive(Clone, Debug, PartialEq)]
pub struct PermanentError(pub Box<ExecutionError>);

impl PermanentError {
    pub(super) fn new(kind: ErrorKind, code: &str, message: String) -> Self {
        Self(Box::new(ExecutionError {
            code: code.to_owned(),
            message,
            kind: kind.into(),
            ..ExecutionError::default()
        }))
    }
}

/// How an effect failed.
#[derive(Clone, Debug, PartialEq)]
pub enum EffectError {
    /// Another try may succeed.
    Transient(TransientError),
    /// None can: what the node, or the workflow, fails with.
    Permanent(PermanentError),
}

impl From<TransientError> for EffectError {
    fn from(error: TransientError) -> Self {
        Self::Transient(error)
    }
}

impl From<PermanentError> for EffectError {
    fn from(error: PermanentError) -> Self {
        Self::Permanent(error)
    }
}

impl From<kube::Error> for EffectError {
    fn from(error: kube::Error) -> Self {
        Self::Transient(error.into())
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status as KubeStatus;

    use super::*;

    #[test]
    fn who_is_overloaded_is_waited_for_and_who_refuses_is_counted() {
        let api = |code: u16, reason: &str| {
            let status = KubeStatus {
                code,
                reason: reason.into(),
                message: "m".into(),
                ..KubeStatus::default()
            };
            TransientError::from(kube::Error::Api(Box::new(status))).answered
        };
        let store = |kind: std::io::ErrorKind| {
            let error = BlobError::Store {
                reference: "r".into(),
                source: object_store::Error::Generic {
                    store: "s",
                    source: Box::new(std::io::Error::from(kind)),
                },
            };
            TransientError::from(error).answered
        };
        let admin = |code: Code| TransientError::of_status(&Status::new(code, "m")).answered;
        use Answered::{NoAnswer, Refused};
        for (case, found, expected) in [
            ("a webhook fails", api(500, "InternalError"), Refused),
            ("no such namespace", api(404, "NotFound"), Refused),
            ("too many requests", api(429, "TooManyRequests"), NoAnswer),
            ("etcd is slow", api(500, "ServerTimeout"), NoAnswer),
            ("a proxy without a server", api(503, ""), NoAnswer),
            (
                "a read-only folder",
                store(std::io::ErrorKind::PermissionDenied),
                Refused,
            ),
            (
                "a full disk",
                store(std::io::ErrorKind::StorageFull),
                NoAnswer,
            ),
            ("admin is down", admin(Code::Unavailable), NoAnswer),
            ("admin has a fault", admin(Code::Internal), Refused),
        ] {
            assert_eq!(found, expected, "{case}");
        }
    }
}
