//! How an effect fails: for good, or so that another try may succeed.

use std::{fmt, time::Duration};

use flyte_idl::core::{ExecutionError, execution_error::ErrorKind};
use flyte_platform::{Chain, blob::BlobError, kubernetes};
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
    /// datacatalog.
    Catalog,
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kubernetes => "the Kubernetes API",
            Self::Blobs => "the blob store",
            Self::Admin => "flyteadmin",
            Self::Catalog => "datacatalog",
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
        Self::of_answer(Backend::Admin, status)
    }

    /// Of a call of datacatalog that did not say anything about what it was asked.
    pub(super) fn of_catalog(status: &Status) -> Self {
        Self::of_answer(Backend::Catalog, status)
    }

    fn of_answer(backend: Backend, status: &Status) -> Self {
        let message = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Cancelled
            | Code::Aborted
            | Code::Unauthenticated => Self::no_answer(backend, message),
            _ => Self::refused(backend, message),
        }
    }
}

/// Whether asking flyteadmin again would bring the same answer.
pub(super) fn is_refused_for_good(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::Unimplemented => true,
        // Ours and Go's servers word it so.
        Code::ResourceExhausted => status.message().contains("message larger than max"),
        _ => false,
    }
}

impl From<kube::Error> for TransientError {
    fn from(error: kube::Error) -> Self {
        let message = match &error {
            kube::Error::Api(status) => {
                format!("{} {}: {}", status.code, status.reason, status.message)
            }
            error => Chain(error).to_string(),
        };
        if kubernetes::is_away(&error) {
            Self::no_answer(Backend::Kubernetes, message)
        } else {
            Self::refused(Backend::Kubernetes, message)
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
        if error.is_away() {
            Self::no_answer(Backend::Blobs, message)
        } else {
            Self::refused(Backend::Blobs, message)
        }
    }
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
            (
                "a disk that is full",
                api(507, "InsufficientStorage"),
                NoAnswer,
            ),
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
