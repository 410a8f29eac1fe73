//! What goes wrong in flyteadmin, and the one place where it becomes a gRPC status.
//!
//! Texts and codes are what Go's clients key on (spec 01 §4). No answer is ever UNKNOWN, because flytekit
//! takes it for a request to log in (spec 08 C1).

use flyte_core::{
    identifiers::{IdError, ResourceType},
    inputs::InputError,
    launch_plans::LaunchPlanError,
    names::NameError,
    reference::InvalidReference,
};
use flyte_crd::transform::BuildError;
use flyte_idl::{
    admin::{self, event_failure_reason::Reason},
    core,
};
use flyte_platform::{
    Chain,
    blob::BlobError,
    server::status,
    sql::{DbError, Retryable},
};
use prost::{Message, Name};
use tonic::{Code, Status};

/// An error of an admin RPC.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong; the text names field and value.
    #[error("{0}")]
    Invalid(String),
    /// An id in the request is incomplete or of the wrong kind.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A name in the request breaks the rules for names.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Inputs of an execution do not fit its interface.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Inputs of a launch plan do not fit its workflow's interface.
    #[error(transparent)]
    LaunchPlan(#[from] LaunchPlanError),
    /// A closure that cannot become a resource.
    #[error(transparent)]
    Transform(#[from] BuildError),
    /// A location that would leave its folder.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The project is archived.
    #[error("project [{0}] is not active")]
    InactiveProject(String),
    /// What the request names does not exist.
    #[error("{}", what.text(id))]
    NotFound {
        /// What kind of thing.
        what: NotFoundKind,
        /// Its id, as the text shows it.
        id: String,
    },
    /// What the request creates exists already; the text says what.
    #[error("{0}")]
    AlreadyExists(String),
    /// The event's phase is recorded: propeller takes it for success.
    #[error("{0}")]
    PhaseRecorded(String),
    /// As many executions of a launch plan are under way as its concurrency policy allows.
    #[error("concurrency limit ({max}) reached for launch plan {launch_plan}; skipping execution")]
    LimitReached {
        /// The most that the policy allows at once.
        max: i32,
        /// The launch plan's name.
        launch_plan: String,
    },
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
    /// The execution, node or attempt has ended. Propeller decides by the phase in the detail.
    #[error("{message}")]
    Terminal {
        /// The text for people.
        message: String,
        /// Name of the phase in which it ended.
        phase: String,
    },
    /// An event of another cluster than the one that the execution runs on. The detail names the event's.
    #[error(
        "Cluster/producer from event [{producer}] does not match existing workflow execution clusterInDB: [{stored}]"
    )]
    ForeignCluster {
        /// The event's cluster.
        producer: String,
        /// The execution's cluster.
        stored: String,
    },
    /// The object is not in a state that allows this.
    #[error("{0}")]
    Precondition(String),
    /// The execution would write into the folder of another one.
    #[error(
        "execution {id} would write into folder {folder} of execution {other}, whose outputs it would overwrite: \
         folders are named <project>-<domain>-<name>; choose another name"
    )]
    SharedFolder {
        /// The refused execution, as `project:domain:name`.
        id: String,
        /// The folder, below the engine's prefix.
        folder: String,
        /// The execution that has it.
        other: String,
    },
    /// A payload is larger than the configuration allows.
    #[error("{0}")]
    TooLarge(String),
    /// An RPC that this version does not have, by its full name.
    #[error("{0} is not built yet")]
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
    /// A cluster refused.
    #[error("{context}")]
    Cluster {
        /// What was being done.
        context: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A cluster did not say whether it did what it was asked for.
    #[error("{context}")]
    ClusterAway {
        /// What was being done.
        context: String,
        /// Why nothing is known.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a request or an event names that does not exist. Each has its own words in the reference (spec 01 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFoundKind {
    /// A version of a task, workflow or launch plan.
    Entity(ResourceType),
    /// A workflow execution.
    Execution,
    /// The execution that a node event belongs to.
    ExecutionOfNode,
    /// The workflow that an execution runs, named by the execution.
    WorkflowOfExecution,
    /// A node execution.
    NodeExecution,
    /// The node execution that a task event belongs to.
    NodeOfTask,
    /// A task execution.
    TaskExecution,
    /// A project, by its id.
    Project,
    /// An active version of a launch plan, named `<project>:<domain>:<name>`.
    ActiveLaunchPlan,
    /// A name of a task, workflow or launch plan.
    NamedEntity,
    /// The description of a version.
    Description,
    /// The workflow that a dynamic node made.
    DynamicWorkflow,
    /// The deck of a node; the id is the request's text.
    Deck,
    /// What a download link is asked for.
    Object,
}

impl NotFoundKind {
    fn text(self, id: &str) -> String {
        let entity = |kind: &str| format!("missing entity of type {kind} with identifier {id}");
        match self {
            Self::Entity(kind) => entity(kind.as_str_name()),
            Self::Execution => entity("execution"),
            Self::NodeExecution => entity("node execution"),
            Self::TaskExecution => entity("task execution"),
            Self::ExecutionOfNode => format!(
                "Failed to get existing execution id: [{id}] with err: {}",
                entity("execution")
            ),
            Self::NodeOfTask => format!(
                "Failed to get existing node execution id: [{id}] with err: entry not found"
            ),
            Self::WorkflowOfExecution => "the workflow of the execution is gone".to_owned(),
            Self::Project => format!("project [{id}] not found"),
            Self::ActiveLaunchPlan => format!("No active launch plan could be found: {id}"),
            Self::NamedEntity | Self::Description => "entry not found".to_owned(),
            Self::DynamicWorkflow => "node does not contain dynamic workflow".to_owned(),
            Self::Deck => format!("no deckUrl found for request [{id}]"),
            Self::Object => "object not found".to_owned(),
        }
    }
}

/// How a registered workflow compares with the one in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// The same digest.
    Identical,
    /// The id is taken by an entity of another digest.
    Different,
}

/// Why the blob store cannot do for now what it was asked for; none when it is there.
fn storage_is_away(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<String> {
    error.downcast_ref::<BlobError>()?.away()
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

    /// NOT_FOUND for `what` with this id.
    pub fn not_found(what: NotFoundKind, id: impl Into<String>) -> Self {
        Self::NotFound {
            what,
            id: id.into(),
        }
    }

    /// The gRPC code of this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_)
            | Self::Id(_)
            | Self::Name(_)
            | Self::Input(_)
            | Self::LaunchPlan(_)
            | Self::Transform(_)
            | Self::Reference(_)
            | Self::InactiveProject(_) => Code::InvalidArgument,
            Self::NotFound { .. } => Code::NotFound,
            Self::AlreadyExists(_) | Self::PhaseRecorded(_) | Self::LimitReached { .. } => {
                Code::AlreadyExists
            }
            Self::WorkflowExists { structure, .. } => match structure {
                Structure::Identical => Code::AlreadyExists,
                Structure::Different => Code::InvalidArgument,
            },
            Self::Terminal { .. }
            | Self::ForeignCluster { .. }
            | Self::SharedFolder { .. }
            | Self::Precondition(_) => Code::FailedPrecondition,
            Self::TooLarge(_) => Code::ResourceExhausted,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::Blob { source, .. } if storage_is_away(source.as_ref()).is_some() => {
                Code::Unavailable
            }
            Self::Internal(_) | Self::Blob { .. } | Self::Cluster { .. } => Code::Internal,
            Self::ClusterAway { .. } => Code::Unavailable,
            Self::Store(error) => error.code(),
        }
    }

    /// The text that the client sees.
    pub fn public_text(&self) -> String {
        match self {
            Self::Store(error) => error.public_text(),
            Self::Blob { context, source } => match storage_is_away(source.as_ref()) {
                Some(reason) => format!("{context}: storage is not available: {reason}"),
                None => context.clone(),
            },
            // Kubernetes' own words belong to the answer, as in the reference.
            Self::Cluster { context, source } | Self::ClusterAway { context, source } => {
                format!("{context} {}", Chain(source.as_ref()))
            }
            other => other.to_string(),
        }
    }

    /// What clients read besides the text. Clients chose most of its texts: each is cut.
    fn detail(&self) -> Option<prost_types::Any> {
        match self {
            Self::InactiveProject(id) => Some(any(&admin::InactiveProject {
                id: status::of_detail(id),
                ..Default::default()
            })),
            Self::WorkflowExists { id, structure, .. } => {
                use admin::create_workflow_failure_reason::Reason;
                let id = Some(core::Identifier {
                    resource_type: id.resource_type,
                    project: status::of_detail(&id.project),
                    domain: status::of_detail(&id.domain),
                    name: status::of_detail(&id.name),
                    version: status::of_detail(&id.version),
                    org: status::of_detail(&id.org),
                });
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
            Self::Terminal { phase, .. } => {
                let current_phase = status::of_detail(phase);
                let reason =
                    Reason::AlreadyInTerminalState(admin::EventErrorAlreadyInTerminalState {
                        current_phase,
                    });
                Some(event_failure(reason))
            }
            Self::ForeignCluster { producer, .. } => {
                let cluster = status::of_detail(producer);
                let reason =
                    Reason::IncompatibleCluster(admin::EventErrorIncompatibleCluster { cluster });
                Some(event_failure(reason))
            }
            _ => None,
        }
    }
}

impl Retryable for Error {
    fn collided(&self) -> bool {
        matches!(self, Self::Store(error) if error.collided())
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
            None => status::of_message(code, message),
            Some(detail) => status::with_detail(code, message, detail),
        }
    }
}

fn event_failure(reason: Reason) -> prost_types::Any {
    any(&admin::EventFailureReason {
        reason: Some(reason),
    })
}

fn any<M: Message + Name>(message: &M) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("type.googleapis.com/{}", M::full_name()),
        value: message.encode_to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use flyte_idl::rpc;

    use super::*;

    #[test]
    fn what_a_client_chose_does_not_make_an_error_too_large() {
        let long = |character: char| character.to_string().repeat(1_100_000);
        let errors = |character: char| {
            let id = core::Identifier {
                project: long(character),
                domain: long(character),
                name: long(character),
                version: long(character),
                org: long(character),
                ..Default::default()
            };
            [
                Error::invalid(long(character)),
                Error::InactiveProject(long(character)),
                Error::WorkflowExists {
                    message: long(character),
                    id: Box::new(id),
                    structure: Structure::Different,
                },
                Error::Terminal {
                    message: long(character),
                    phase: long(character),
                },
                Error::ForeignCluster {
                    producer: long(character),
                    stored: "here".to_owned(),
                },
            ]
        };
        for error in ['x', '{', 'é'].into_iter().flat_map(errors) {
            let headers = Status::from(error).into_http::<()>().into_parts().0.headers;
            let size: usize = headers.values().map(http::HeaderValue::len).sum();
            assert!((29_000..31_000).contains(&size), "{size}");
        }
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
    fn a_storage_that_is_away_is_told_with_its_reason() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let store = |source: Box<dyn std::error::Error + Send + Sync>| BlobError::Store {
            reference: "s3://bucket/key".to_owned(),
            source: object_store::Error::Generic {
                store: "local",
                source,
            },
        };
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        for (source, code, text) in [
            (
                store(full.into()),
                Code::Unavailable,
                "Failed to write: storage is not available: no storage space",
            ),
            (
                store("connection refused".into()),
                Code::Unavailable,
                "Failed to write: storage is not available: it does not answer",
            ),
            (store(denied.into()), Code::Internal, "Failed to write"),
            (
                BlobError::NotFound("s3://bucket/key".to_owned()),
                Code::Internal,
                "Failed to write",
            ),
        ] {
            let error = Error::Blob {
                context: "Failed to write".to_owned(),
                source: source.into(),
            };
            assert_eq!((error.code(), error.public_text().as_str()), (code, text));
        }
    }

    #[test]
    fn internals_of_the_database_stay_inside() {
        let error = Error::Store(DbError::Other(sqlx::Error::RowNotFound));
        assert_eq!(Status::from(error).message(), "internal error");
    }
}
