//! What is stored, as the domain sees it: complete identifiers and decoded messages, no columns.

mod phases;
mod rows;
mod states;

use flyte_core::identifiers::{EntityId, ExecutionId, NodeExecutionId, TaskExecutionId};
use flyte_idl::{admin, core, stored::Stored};
use jiff::Timestamp;

pub use phases::{CacheStatus, ErrorKind, NodePhase, TaskPhase, WorkflowPhase};
pub use rows::{
    ExecutionRow, LaunchPlanRow, NodeExecutionRow, RowNumber, TaskExecutionRow, TaskRow,
    WorkflowRow, or_zero,
};
pub use states::{
    ExecutionMode, ExecutionState, LaunchEntity, LaunchPlanState, NamedEntityState, ProjectState,
    RateUnit, ScheduleType,
};

/// A project.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Project {
    /// Its id, an RFC 1123 label.
    pub identifier: String,
    /// Its name for people.
    pub name: String,
    /// What its users wrote about it; may be empty.
    pub description: String,
    /// The whole message of the request that set labels; only its labels are read (spec 01 §6.1).
    pub labels: Option<Stored<admin::Project>>,
    /// Whether it is in use.
    pub state: ProjectState,
}

/// A registered task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its row; none before it is inserted.
    pub row: Option<TaskRow>,
    /// Project, domain, name and version: the primary key.
    pub id: EntityId,
    /// The compiled task.
    pub closure: Stored<admin::TaskClosure>,
    /// Decides whether another registration is the same (spec 01 §9).
    pub digest: Vec<u8>,
    /// `template.type`.
    pub task_type: String,
    /// One line for people.
    pub short_description: String,
    /// When it was registered.
    pub created_at: Option<Timestamp>,
}

/// A registered workflow; its closure is in the blob store.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Its row; none before it is inserted.
    pub row: Option<WorkflowRow>,
    /// Project, domain, name and version: the primary key.
    pub id: EntityId,
    /// The interface as the client sent it; absent and empty differ (spec 01 §10.1).
    pub interface: Option<Stored<core::TypedInterface>>,
    /// Where the `admin.WorkflowClosure` is.
    pub closure_uri: String,
    /// Decides whether another registration is the same (spec 01 §9).
    pub digest: Vec<u8>,
    /// One line for people.
    pub short_description: String,
    /// When it was registered.
    pub created_at: Option<Timestamp>,
}

/// A registered launch plan.
#[derive(Clone, Debug)]
pub struct LaunchPlan {
    /// Its row; none before it is inserted.
    pub row: Option<LaunchPlanRow>,
    /// Project, domain, name and version: the primary key.
    pub id: EntityId,
    /// The spec whose default inputs are the expected ones.
    pub spec: Stored<admin::LaunchPlanSpec>,
    /// The row of its workflow.
    pub workflow_row: Option<WorkflowRow>,
    /// Expected inputs and outputs; state and times are columns.
    pub closure: Stored<admin::LaunchPlanClosure>,
    /// Whether it is the active version.
    pub state: LaunchPlanState,
    /// Decides whether another registration is the same (spec 01 §9).
    pub digest: Vec<u8>,
    /// The kind of its schedule.
    pub schedule_type: ScheduleType,
    /// When it was registered.
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
}

/// A version's description.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its id, of any resource type.
    pub id: core::Identifier,
    /// One line for people.
    pub short: String,
    /// The long text with format and icon.
    pub long: Option<Stored<admin::Description>>,
    /// Where the source is.
    pub link: String,
}

/// A name with its metadata.
#[derive(Clone, Debug, Default)]
pub struct NamedEntity {
    /// Project of the name.
    pub project: String,
    /// Domain of the name.
    pub domain: String,
    /// The name that all versions share.
    pub name: String,
    /// Description from the metadata row.
    pub description: String,
    /// Whether lists show it.
    pub state: NamedEntityState,
}

/// A workflow execution.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Its row; none before it is inserted.
    pub row: Option<ExecutionRow>,
    /// Project, domain and name: the primary key.
    pub id: ExecutionId,
    /// The row of the launch plan; none for a task that was launched alone.
    pub launch_plan_row: Option<LaunchPlanRow>,
    /// The row of the workflow.
    pub workflow_row: Option<WorkflowRow>,
    /// The row of the task that was launched alone.
    pub task_row: Option<TaskRow>,
    /// Where it is in its life.
    pub phase: WorkflowPhase,
    /// What happened so far, as the last event left it.
    pub closure: Stored<admin::ExecutionClosure>,
    /// What was asked for, with defaults filled in.
    pub spec: Stored<admin::ExecutionSpec>,
    /// When it first was RUNNING.
    pub started_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// Time of the last event.
    pub updated_at: Option<Timestamp>,
    /// Nanoseconds from start to end; 0 while running.
    pub duration: i64,
    /// Why it was terminated.
    pub abort_cause: String,
    /// Who launched it.
    pub mode: ExecutionMode,
    /// The row of the execution that this one repeats, or whose node launched it.
    pub source_execution_row: Option<ExecutionRow>,
    /// The row of the node that launched it.
    pub parent_node_row: Option<NodeExecutionRow>,
    /// The cluster that it runs on.
    pub cluster: String,
    /// Where its inputs are.
    pub inputs_uri: String,
    /// Where the inputs are that the user gave.
    pub user_inputs_uri: String,
    /// Who is to blame for its error, if it has one.
    pub error_kind: Option<ErrorKind>,
    /// The error's code.
    pub error_code: Option<String>,
    /// Who created it.
    pub user: String,
    /// Whether lists show it.
    pub state: ExecutionState,
    /// What it was launched from; none in rows of old versions.
    pub launch_entity: Option<LaunchEntity>,
    /// When the row was written first.
    pub row_created_at: Option<Timestamp>,
}

impl Execution {
    /// An execution of which nothing has been reported yet, and which refers to nothing.
    pub fn new(id: ExecutionId) -> Self {
        Self {
            row: None,
            id,
            launch_plan_row: None,
            workflow_row: None,
            task_row: None,
            phase: WorkflowPhase::Undefined,
            closure: Stored::new(admin::ExecutionClosure::default()),
            spec: Stored::new(admin::ExecutionSpec::default()),
            started_at: None,
            created_at: None,
            updated_at: None,
            duration: 0,
            abort_cause: String::new(),
            mode: ExecutionMode::Manual,
            source_execution_row: None,
            parent_node_row: None,
            cluster: String::new(),
            inputs_uri: String::new(),
            user_inputs_uri: String::new(),
            error_kind: None,
            error_code: None,
            user: String::new(),
            state: ExecutionState::Active,
            launch_entity: None,
            row_created_at: None,
        }
    }
}

/// A node execution.
#[derive(Clone, Debug)]
pub struct NodeExecution {
    /// Its row; none before it is inserted.
    pub row: Option<NodeExecutionRow>,
    /// The execution and the node's unique id within it: the primary key.
    pub id: NodeExecutionId,
    /// Where it is in its life.
    pub phase: NodePhase,
    /// Where its inputs are.
    pub input_uri: String,
    /// What happened so far, as the last event left it.
    pub closure: Stored<admin::NodeExecutionClosure>,
    /// When it first was RUNNING.
    pub started_at: Option<Timestamp>,
    /// When it was created, by the event's clock.
    pub created_at: Option<Timestamp>,
    /// Time of the last event.
    pub updated_at: Option<Timestamp>,
    /// Nanoseconds from start to end; 0 while running.
    pub duration: i64,
    /// What kind of node it is.
    pub metadata: Stored<admin::NodeExecutionMetaData>,
    /// The row of the node around it.
    pub parent_row: Option<NodeExecutionRow>,
    /// The row of the task execution that made it.
    pub parent_task_row: Option<TaskExecutionRow>,
    /// Who is to blame for its error, if it has one.
    pub error_kind: Option<ErrorKind>,
    /// The error's code.
    pub error_code: Option<String>,
    /// What the catalog had for it.
    pub cache_status: Option<CacheStatus>,
    /// Where the compiled dynamic workflow is; empty if there is none.
    pub dynamic_closure_uri: String,
    /// The protocol version of its events; 0 for rows of old propellers.
    pub event_version: i32,
}

/// One attempt of a task.
#[derive(Clone, Debug)]
pub struct TaskExecution {
    /// Its row; none before it is inserted.
    pub row: Option<TaskExecutionRow>,
    /// The node execution, the task and the attempt: the primary key.
    pub id: TaskExecutionId,
    /// Where it is in its life.
    pub phase: TaskPhase,
    /// Orders events of one phase.
    pub phase_version: u32,
    /// Where its inputs are.
    pub input_uri: String,
    /// What happened so far, as the last event left it.
    pub closure: Stored<admin::TaskExecutionClosure>,
    /// When it first was RUNNING.
    pub started_at: Option<Timestamp>,
    /// When it was created, by the event's clock.
    pub created_at: Option<Timestamp>,
    /// Time of the last event.
    pub updated_at: Option<Timestamp>,
    /// Nanoseconds from start to end; 0 while running.
    pub duration: i64,
}

/// A signal that a gate node waits for.
#[derive(Clone, Debug)]
pub struct Signal {
    /// The execution that waits for the signal.
    pub execution: ExecutionId,
    /// The signal's id within it.
    pub signal: String,
    /// The type that a value must have.
    pub literal_type: Stored<core::LiteralType>,
    /// The value, once set.
    pub value: Option<Stored<core::Literal>>,
}

/// A schedule of a launch plan version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The launch plan.
    pub launch_plan: EntityId,
    /// When it launches.
    pub expression: ScheduleExpression,
    /// The input that gets the time of the launch.
    pub kickoff_input: String,
}

/// When a schedule launches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleExpression {
    /// At the times of a cron expression, five fields or an alias such as `@daily`.
    Cron(String),
    /// Every so many units.
    Rate {
        /// How many units lie between two runs.
        value: u32,
        /// Minutes, hours or days.
        unit: RateUnit,
    },
}
