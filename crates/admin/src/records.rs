//! What is stored, as the domain sees it: complete identifiers and decoded messages, no columns.

use flyte_core::identifiers::{EntityId, ExecutionId, NodeExecutionId, TaskExecutionId};
use flyte_idl::{admin, core, stored::Stored};
use jiff::Timestamp;

/// A project.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Project {
    /// Its id, an RFC 1123 label.
    pub identifier: String,
    /// Its name for people.
    pub name: String,
    /// Its description.
    pub description: String,
    /// The whole message of the request that set labels; only its labels are read (spec 01 §6.1).
    pub labels: Option<Stored<admin::Project>>,
    /// Number of `admin.Project.ProjectState`; newer numbers are kept.
    pub state: i32,
}

/// A registered task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Row number, which executions refer to.
    pub row: i64,
    /// Its id.
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
    /// Row number, which launch plans and executions refer to.
    pub row: i64,
    /// Its id.
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
    /// Row number, which executions refer to.
    pub row: i64,
    /// Its id.
    pub id: EntityId,
    /// The spec whose default inputs are the expected ones.
    pub spec: Stored<admin::LaunchPlanSpec>,
    /// Row number of the workflow.
    pub workflow_row: i64,
    /// Expected inputs and outputs; state and times are columns.
    pub closure: Stored<admin::LaunchPlanClosure>,
    /// Number of `admin.LaunchPlanState`.
    pub state: i32,
    /// Decides whether another registration is the same (spec 01 §9).
    pub digest: Vec<u8>,
    /// `NONE`, `CRON` or `RATE`.
    pub schedule_type: &'static str,
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
    /// The name.
    pub name: String,
    /// Description from the metadata row.
    pub description: String,
    /// Number of `admin.NamedEntityState`.
    pub state: i32,
}

/// A workflow execution.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Row number; 0 before it is inserted.
    pub row: i64,
    /// Its id.
    pub id: ExecutionId,
    /// Row of the launch plan, or 0.
    pub launch_plan_row: i64,
    /// Row of the workflow.
    pub workflow_row: i64,
    /// Row of the task of a single-task execution, or 0.
    pub task_row: i64,
    /// Name of the phase, as the column has it.
    pub phase: String,
    /// The closure.
    pub closure: Stored<admin::ExecutionClosure>,
    /// The spec.
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
    /// Number of `ExecutionMetadata.ExecutionMode`.
    pub mode: i32,
    /// Row of the execution that this one was made from, or 0.
    pub source_execution_row: i64,
    /// Row of the node that launched it, or 0.
    pub parent_node_row: i64,
    /// The cluster that it runs on.
    pub cluster: String,
    /// Where its inputs are.
    pub inputs_uri: String,
    /// Where the inputs are that the user gave.
    pub user_inputs_uri: String,
    /// Name of the error's kind.
    pub error_kind: Option<String>,
    /// The error's code.
    pub error_code: Option<String>,
    /// Who created it.
    pub user: String,
    /// Number of `ExecutionState`.
    pub state: i32,
    /// `launch_plan` or `task`.
    pub launch_entity: String,
    /// When the row was written first.
    pub row_created_at: Option<Timestamp>,
}

impl Execution {
    /// An execution of which nothing has been reported yet, and which refers to nothing.
    pub fn new(id: ExecutionId) -> Self {
        Self {
            row: 0,
            id,
            launch_plan_row: 0,
            workflow_row: 0,
            task_row: 0,
            phase: core::workflow_execution::Phase::Undefined
                .as_str_name()
                .to_owned(),
            closure: Stored::new(admin::ExecutionClosure::default()),
            spec: Stored::new(admin::ExecutionSpec::default()),
            started_at: None,
            created_at: None,
            updated_at: None,
            duration: 0,
            abort_cause: String::new(),
            mode: 0,
            source_execution_row: 0,
            parent_node_row: 0,
            cluster: String::new(),
            inputs_uri: String::new(),
            user_inputs_uri: String::new(),
            error_kind: None,
            error_code: None,
            user: String::new(),
            state: admin::ExecutionState::ExecutionActive as i32,
            launch_entity: String::new(),
            row_created_at: None,
        }
    }
}

/// A node execution.
#[derive(Clone, Debug)]
pub struct NodeExecution {
    /// Row number; 0 before it is inserted.
    pub row: i64,
    /// Its id.
    pub id: NodeExecutionId,
    /// Name of the phase.
    pub phase: String,
    /// Where its inputs are.
    pub input_uri: String,
    /// The closure.
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
    /// Row of the parent node, if it has one.
    pub parent_row: Option<i64>,
    /// Row of the task execution that made it, if one did.
    pub parent_task_row: Option<i64>,
    /// Name of the error's kind.
    pub error_kind: Option<String>,
    /// The error's code.
    pub error_code: Option<String>,
    /// Name of the catalog cache status.
    pub cache_status: Option<String>,
    /// Where the compiled dynamic workflow is; empty if there is none.
    pub dynamic_closure_uri: String,
    /// The protocol version of its events; 0 for rows of old propellers.
    pub event_version: i32,
}

/// One attempt of a task.
#[derive(Clone, Debug)]
pub struct TaskExecution {
    /// Row number; 0 before it is inserted.
    pub row: i64,
    /// Its id.
    pub id: TaskExecutionId,
    /// Name of the phase.
    pub phase: String,
    /// Orders events of one phase.
    pub phase_version: u32,
    /// Where its inputs are.
    pub input_uri: String,
    /// The closure.
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
    /// The execution.
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
    /// Cron text; empty for a fixed rate.
    pub cron: String,
    /// Fixed rate; 0 for cron.
    pub rate_value: u32,
    /// Number of `FixedRateUnit`.
    pub rate_unit: i32,
    /// The input that gets the time of the launch.
    pub kickoff_input: String,
}
