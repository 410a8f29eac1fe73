//! What goes wrong in flyteadmin, and the one place where it becomes a gRPC status.
//!
//! Texts and codes are what Go's clients key on (spec 01 §4). No answer is ever UNKNOWN, because flytekit
//! takes it for a request to log in (spec 08 C1).

use flyte_core::{identifiers::IdError, names::NameError};
use flyte_idl::{admin, core, rpc};
use flyte_platform::{
    Chain,
    sql::{DbError, Retryable},
};
use prost::{Message, Name};
use tonic::{Code, Status};

/// The longest message and details that are sent, in bytes of their encoding: flytekit accepts 32 KiB of
/// metadata altogether (spec 01 §4.2).
const MAX_STATUS: usize = 30 * 1024;

/// An error of an admin RPC.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong; the text names field and value.
    #[error("{0}")]
    Invalid(String),
    /// The project is archived.
    #[error("project [{0}] is not active")]
    InactiveProject(String),
    /// What the request names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What the request creates exists already.
    #[error("{0}")]
    AlreadyExists(String),
    /// A workflow is registered under this id; the detail says whether it is the same one.
    #[error("{message}")]
    WorkflowExists {
        /// The text for people.
        message: String,
        /// Id of the registered workflow.
        id: Box<core::Identifier>,
        /// Whether both have the same digest.
        structure: Structure,
    },
    /// The object is not in a state that allows this.
    #[error("{message}")]
    Precondition {
        /// The text for people.
        message: String,
        /// The detail that propeller decides by.
        reason: Option<admin::event_failure_reason::Reason>,
    },
    /// A payload is larger than the configuration allows.
    #[error("{0}")]
    TooLarge(String),
    /// An RPC that this version does not have.
    #[error("{0} is not implemented yet")]
    Unimplemented(&'static str),
    /// A failure whose text clients are shown.
    #[error("{0}")]
    Internal(String),
    /// The relational store failed.
    #[error("the database failed")]
    Store(#[from] DbError),
    /// The blob store failed.
    #[error("{context}")]
    Blob {
        /// What was being done, with the location.
        context: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A cluster refused or could not be reached.
    #[error("{context}")]
    Cluster {
        /// What was being done.
        context: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How a registered workflow compares with the one in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// The same digest.
    Identical,
    /// Another digest.
    Different,
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// INVALID_ARGUMENT with `text`.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// INVALID_ARGUMENT `missing <field>`.
    pub fn missing(field: &str) -> Self {
        Self::Invalid(format!("missing {field}"))
    }

    /// `missing entity of type <kind> with identifier <id>` (spec 01 §4.3).
    pub fn missing_entity(kind: &str, id: &str) -> Self {
        Self::NotFound(format!(
            "missing entity of type {kind} with identifier {id}"
        ))
    }

    /// FAILED_PRECONDITION whose detail says in which phase the object has ended.
    pub fn terminal(message: String, phase: &str) -> Self {
        Self::Precondition {
            message,
            reason: Some(admin::event_failure_reason::Reason::AlreadyInTerminalState(
                admin::EventErrorAlreadyInTerminalState {
                    current_phase: phase.to_owned(),
                },
            )),
        }
    }

    /// The gRPC code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::InactiveProject(_) => Code::InvalidArgument,
            Self::NotFound(_) => Code::NotFound,
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::WorkflowExists { structure, .. } => match structure {
                Structure::Identical => Code::AlreadyExists,
                Structure::Different => Code::InvalidArgument,
            },
            Self::Precondition { .. } => Code::FailedPrecondition,
            Self::TooLarge(_) => Code::ResourceExhausted,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::Internal(_) | Self::Blob { .. } | Self::Cluster { .. } => Code::Internal,
            Self::Store(error) => match error {
                DbError::UniqueViolation { .. } => Code::AlreadyExists,
                DbError::InvalidValue { .. } | DbError::UndefinedObject { .. } => {
                    Code::InvalidArgument
                }
                DbError::Serialization(_) => Code::Aborted,
                DbError::Unavailable(_) => Code::Unavailable,
                DbError::Column { .. }
                | DbError::Config(_)
                | DbError::Panicked
                | DbError::Other(_) => Code::Internal,
            },
        }
    }

    /// The text that the client sees.
    pub fn public_text(&self) -> String {
        match self {
            Self::Store(error) => match error {
                DbError::UniqueViolation { .. } => {
                    format!("value with matching already exists ({error})")
                }
                DbError::InvalidValue { .. } => format!("failed database operation with {error}"),
                DbError::UndefinedObject { .. } => {
                    format!("cannot query with specified table attributes: {error}")
                }
                DbError::Serialization(_) | DbError::Unavailable(_) => error.to_string(),
                DbError::Column { .. }
                | DbError::Config(_)
                | DbError::Panicked
                | DbError::Other(_) => "internal error".to_owned(),
            },
            // Kubernetes' own words belong to the answer, as in the reference.
            Self::Cluster { context, source } => format!("{context} {}", Chain(source.as_ref())),
            other => other.to_string(),
        }
    }

    fn detail(&self) -> Option<prost_types::Any> {
        match self {
            Self::InactiveProject(id) => Some(any(&admin::InactiveProject {
                id: id.clone(),
                ..Default::default()
            })),
            Self::WorkflowExists { id, structure, .. } => {
                use admin::create_workflow_failure_reason::Reason;
                let id = Some(id.as_ref().clone());
                let reason = match structure {
                    Structure::Identical => Reason::ExistsIdenticalStructure(
                        admin::WorkflowErrorExistsIdenticalStructure { id },
                    ),
                    Structure::Different => Reason::ExistsDifferentStructure(
                        admin::WorkflowErrorExistsDifferentStructure { id },
                    ),
                };
                Some(any(&admin::CreateWorkflowFailureReason {
                    reason: Some(reason),
                }))
            }
            Self::Precondition {
                reason: Some(reason),
                ..
            } => Some(any(&admin::EventFailureReason {
                reason: Some(reason.clone()),
            })),
            _ => None,
        }
    }
}

impl Retryable for Error {
    fn collided(&self) -> bool {
        matches!(self, Self::Store(error) if error.collided())
    }
}

impl From<IdError> for Error {
    fn from(error: IdError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.code();
        match code {
            Code::Internal | Code::Unavailable | Code::Aborted => {
                tracing::error!(error = %Chain(&error), "a request failed");
            }
            _ => tracing::debug!(error = %Chain(&error), %code, "a request was refused"),
        }
        let message = error.public_text();
        match error.detail() {
            None => Status::new(code, shortened(message, MAX_STATUS)),
            Some(detail) => {
                let detail_size = detail.encoded_len() * 4 / 3;
                let message = shortened(message, MAX_STATUS.saturating_sub(detail_size) / 2);
                let status = rpc::Status {
                    code: code as i32,
                    message: message.clone(),
                    details: vec![detail],
                };
                Status::with_details(code, message, status.encode_to_vec().into())
            }
        }
    }
}

fn any<M: Message + Name>(message: &M) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("type.googleapis.com/{}", M::full_name()),
        value: message.encode_to_vec(),
    }
}

/// Cuts `message` so that its percent-encoding, which triples what is not printable ASCII, has at most
/// `limit` bytes.
fn shortened(message: String, limit: usize) -> String {
    let mut size = 0;
    for (index, character) in message.char_indices() {
        size += match character {
            '%' => 3,
            ' '..='~' => 1,
            other => other.len_utf8() * 3,
        };
        if size > limit {
            return message.get(..index).unwrap_or_default().to_owned();
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_to_what_clients_accept() {
        let status = Status::from(Error::invalid("é".repeat(40_000)));
        assert_eq!(status.message().chars().count(), MAX_STATUS / 6);
    }

    #[test]
    fn an_existing_workflow_says_in_its_detail_which_kind_of_existing_it_is() {
        let status = Status::from(Error::WorkflowExists {
            message: "workflow with identical structure already exists".to_owned(),
            id: Box::default(),
            structure: Structure::Identical,
        });
        assert_eq!(status.code(), Code::AlreadyExists);
        let details = rpc::Status::decode(status.details()).unwrap().details;
        assert_eq!(
            details.first().unwrap().type_url,
            "type.googleapis.com/flyteidl.admin.CreateWorkflowFailureReason"
        );
    }

    #[test]
    fn internals_of_the_database_stay_inside() {
        let error = Error::Store(DbError::Other(sqlx::Error::RowNotFound));
        assert_eq!(Status::from(error).message(), "internal error");
    }
}
