//! What admin is told (spec 04 §11). Pure.

mod array;
mod inline;

use flyte_core::{identifiers::ExecutionId, unique_id::Parent};
use flyte_crd::status::TaskPhase;
use flyte_idl::{
    core::{
        ExecutionError, Identifier, NodeExecutionIdentifier, TaskExecutionIdentifier,
        WorkflowExecutionIdentifier, node_execution::Phase as NodeEventPhase,
        task_execution::Phase as TaskEventPhase, workflow_execution::Phase as WorkflowEventPhase,
    },
    event::{
        DynamicWorkflowNodeMetadata, EventReason, NodeExecutionEvent, ParentNodeExecutionMetadata,
        TaskExecutionEvent, TaskExecutionMetadata, TaskNodeMetadata, WorkflowExecutionEvent,
        WorkflowNodeMetadata, node_execution_event, task_execution_event,
        task_execution_metadata::InstanceClass, workflow_execution_event,
    },
    time::to_wire,
};
use flyte_plugins::PhaseInfo;
use jiff::Timestamp;

use crate::config::RawOutputPolicy;

pub use array::{ArrayTask, array_task};
pub use inline::{Data, References};

/// Longer error messages are cut in the middle (spec 04 §3.5).
const MAX_MESSAGE_BYTES: usize = 102_400;
/// Longer codes and names in errors are cut.
const MAX_NAME_BYTES: usize = 2_048;
/// Version of the events' own conventions.
const EVENT_VERSION: i32 = 1;

/// One event for admin.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Of the workflow.
    Workflow(Box<WorkflowExecutionEvent>),
    /// Of a node.
    Node(Box<NodeExecutionEvent>),
    /// Of an attempt of a task.
    Task(Box<TaskExecutionEvent>),
}

impl Event {
    /// Whether it says that its entity has ended, so that "already ended" answers it well enough (spec 04 §11.4).
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Workflow(event) => matches!(
                event.phase(),
                WorkflowEventPhase::Succeeded
                    | WorkflowEventPhase::Failed
                    | WorkflowEventPhase::Aborted
                    | WorkflowEventPhase::TimedOut
            ),
            Self::Node(event) => matches!(
                event.phase(),
                NodeEventPhase::Succeeded
                    | NodeEventPhase::Failed
                    | NodeEventPhase::Aborted
                    | NodeEventPhase::Skipped
                    | NodeEventPhase::TimedOut
                    | NodeEventPhase::Recovered
            ),
            Self::Task(event) => {
                matches!(
                    event.phase(),
                    TaskEventPhase::Succeeded | TaskEventPhase::Failed | TaskEventPhase::Aborted
                )
            }
        }
    }
}

/// An error that fits into an event and into a status, whatever a task wrote.
pub(crate) fn cut(mut error: ExecutionError) -> ExecutionError {
    for name in [&mut error.code, &mut error.error_uri, &mut error.worker] {
        name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
    }
    if error.message.len() > MAX_MESSAGE_BYTES {
        let half = MAX_MESSAGE_BYTES / 2;
        let head = error
            .message
            .get(..error.message.floor_char_boundary(half))
            .unwrap_or_default();
        let tail = error
            .message
            .get(
                error
                    .message
                    .floor_char_boundary(error.message.len() - half)..,
            )
            .unwrap_or_default();
        error.message = format!("{head}\n... <Message Truncated> ...\n{tail}");
    }
    error
}

/// A workflow event.
pub fn workflow(
    execution: &ExecutionId,
    producer: &str,
    phase: WorkflowEventPhase,
    occurred_at: Timestamp,
    output: Option<WorkflowOutput>,
) -> Event {
    let output_result = output.map(|output| match output {
        WorkflowOutput::Uri(uri) => workflow_execution_event::OutputResult::OutputUri(uri),
        WorkflowOutput::Error(error) => workflow_execution_event::OutputResult::Error(cut(error)),
    });
    Event::Workflow(Box::new(WorkflowExecutionEvent {
        execution_id: Some(execution.to_proto()),
        producer_id: producer.to_owned(),
        phase: phase.into(),
        occurred_at: Some(to_wire(occurred_at)),
        output_result,
    }))
}

/// What a workflow event ends with.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkflowOutput {
    /// Where the outputs are.
    Uri(String),
    /// Why it failed.
    Error(ExecutionError),
}

/// The workflow inside a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InnerWorkflow {
    /// There is none.
    None,
    /// A sub-workflow.
    Static,
    /// What its task has made.
    Dynamic,
}

/// The node that events speak of.
#[derive(Clone, Debug)]
pub struct NodeIdentity<'a> {
    /// The workflow execution that the node belongs to.
    pub execution: &'a ExecutionId,
    /// The id of the cluster, by which admin refuses events of another one.
    pub producer: &'a str,
    /// The node's id within the execution.
    pub unique_id: &'a str,
    /// The node's id within its workflow.
    pub spec_id: &'a str,
    /// The author's name for it.
    pub name: &'a str,
    /// The node around it.
    pub parent: Option<&'a Parent>,
    /// Where its inputs are.
    pub inputs: String,
    /// How inputs stand in its events.
    pub policy: RawOutputPolicy,
    /// What it runs.
    pub target: Option<Identifier>,
    /// What other nodes run inside.
    pub inside: InnerWorkflow,
    /// Whether it runs a task or workflow for each element of a list; clients look its interface up accordingly.
    pub is_array: bool,
    /// Whether it is a start node, which has no inputs.
    pub is_start: bool,
}

impl NodeIdentity<'_> {
    /// Its id on the wire.
    pub fn id(&self) -> NodeExecutionIdentifier {
        NodeExecutionIdentifier {
            node_id: self.unique_id.to_owned(),
            execution_id: Some(self.execution.to_proto()),
        }
    }

    /// Data are large and told once, references always (spec 04 §11.5).
    fn tells_inputs(&self, first: bool) -> bool {
        match self.policy {
            RawOutputPolicy::Reference => true,
            RawOutputPolicy::Inline => first,
        }
    }
}

/// What is particular to one node event.
#[derive(Clone, Debug, Default)]
pub struct NodeDetails {
    /// Where the outputs are.
    pub outputs: Option<String>,
    /// Why it failed.
    pub error: Option<ExecutionError>,
    /// Where the deck is.
    pub deck: String,
    /// Where the checkpoint of a task is; terminal events of tasks carry it.
    pub checkpoint: Option<String>,
    /// Name of the execution that a launch plan node has made, in the project and domain of its own.
    pub child: Option<String>,
    /// What the cache did for it.
    pub cache: Option<TaskNodeMetadata>,
    /// The workflow that its task has made.
    pub dynamic: Option<DynamicWorkflowNodeMetadata>,
}

/// A node event.
pub fn node(
    identity: &NodeIdentity<'_>,
    phase: NodeEventPhase,
    now: Timestamp,
    details: NodeDetails,
) -> Event {
    let target_metadata = target_metadata(identity, &details);
    let inside = match &details.dynamic {
        Some(_) => InnerWorkflow::Dynamic,
        None => identity.inside,
    };
    let output_result = match (details.error, details.outputs) {
        (Some(error), _) => Some(node_execution_event::OutputResult::Error(cut(error))),
        (None, Some(uri)) => Some(node_execution_event::OutputResult::OutputUri(uri)),
        (None, None) => None,
    };
    Event::Node(Box::new(NodeExecutionEvent {
        id: Some(identity.id()),
        producer_id: identity.producer.to_owned(),
        phase: phase.into(),
        occurred_at: Some(to_wire(now)),
        reported_at: Some(to_wire(now)),
        input_value: (!identity.is_start && identity.tells_inputs(phase == NodeEventPhase::Queued))
            .then(|| node_execution_event::InputValue::InputUri(identity.inputs.clone())),
        output_result,
        deck_uri: details.deck,
        target_metadata,
        parent_node_metadata: identity.parent.map(|parent| ParentNodeExecutionMetadata {
            node_id: parent.unique_id.clone(),
        }),
        retry_group: identity
            .parent
            .map(|parent| parent.attempt.to_string())
            .unwrap_or_default(),
        spec_node_id: identity.spec_id.to_owned(),
        node_name: identity.name.to_owned(),
        event_version: EVENT_VERSION,
        is_parent: inside != InnerWorkflow::None,
        is_dynamic: inside == InnerWorkflow::Dynamic,
        is_array: identity.is_array,
        target_entity: identity.target.clone(),
        ..NodeExecutionEvent::default()
    }))
}

/// What a node event says of what the node runs.
fn target_metadata(
    identity: &NodeIdentity<'_>,
    details: &NodeDetails,
) -> Option<node_execution_event::TargetMetadata> {
    use node_execution_event::TargetMetadata;
    if let Some(name) = &details.child {
        let execution_id = WorkflowExecutionIdentifier {
            name: name.clone(),
            ..identity.execution.to_proto()
        };
        return Some(TargetMetadata::WorkflowNodeMetadata(WorkflowNodeMetadata {
            execution_id: Some(execution_id),
        }));
    }
    let NodeDetails {
        checkpoint,
        cache,
        dynamic,
        ..
    } = details;
    (checkpoint.is_some() || cache.is_some() || dynamic.is_some()).then(|| {
        TargetMetadata::TaskNodeMetadata(TaskNodeMetadata {
            checkpoint_uri: checkpoint.clone().unwrap_or_default(),
            dynamic_workflow: dynamic.clone(),
            ..cache.clone().unwrap_or_default()
        })
    })
}

/// The event of a node that was terminated, by whom and why; it carries less than others (spec 04 §11.6).
pub fn node_aborted(
    id: NodeExecutionIdentifier,
    target: Option<Identifier>,
    producer: &str,
    reason: &str,
    now: Timestamp,
) -> Event {
    let error = ExecutionError {
        code: "NodeAborted".into(),
        message: reason.to_owned(),
        ..ExecutionError::default()
    };
    Event::Node(Box::new(NodeExecutionEvent {
        id: Some(id),
        producer_id: producer.to_owned(),
        phase: NodeEventPhase::Aborted.into(),
        occurred_at: Some(to_wire(now)),
        reported_at: Some(to_wire(now)),
        output_result: Some(node_execution_event::OutputResult::Error(cut(error))),
        target_entity: target,
        ..NodeExecutionEvent::default()
    }))
}

/// The event of an attempt that is over because its node is.
pub fn attempt_aborted(id: TaskExecutionIdentifier, producer: &str, now: Timestamp) -> Event {
    Event::Task(Box::new(TaskExecutionEvent {
        task_id: id.task_id,
        parent_node_execution_id: id.node_execution_id,
        retry_attempt: id.retry_attempt,
        phase: TaskEventPhase::Aborted.into(),
        producer_id: producer.to_owned(),
        occurred_at: Some(to_wire(now)),
        reported_at: Some(to_wire(now)),
        event_version: EVENT_VERSION,
        ..TaskExecutionEvent::default()
    }))
}

/// The attempt that task events speak of.
#[derive(Clone, Debug)]
pub struct TaskIdentity<'a> {
    /// The node that runs the task.
    pub node: &'a NodeIdentity<'a>,
    /// The task with its version.
    pub task: Identifier,
    /// `type` of the task template.
    pub task_type: &'a str,
    /// Number of the attempt.
    pub attempt: u32,
    /// Name of the attempt.
    pub generated_name: &'a str,
    /// The plugin that runs it.
    pub plugin: &'a str,
    /// Whether its machine can be taken away.
    pub interruptible: bool,
    /// Whether the older single reason is left out.
    pub send_object_events: bool,
    /// Whether this is the first event of the attempt.
    pub is_first: bool,
}

/// A task event for a phase that a plugin reported. `outputs` is given on success.
pub fn task(
    identity: &TaskIdentity<'_>,
    info: &PhaseInfo,
    now: Timestamp,
    outputs: Option<&str>,
) -> Event {
    let phase = match info.phase {
        TaskPhase::Queued => TaskEventPhase::Queued,
        TaskPhase::Initializing => TaskEventPhase::Initializing,
        TaskPhase::WaitingForResources => TaskEventPhase::WaitingForResources,
        TaskPhase::Running => TaskEventPhase::Running,
        TaskPhase::Success => TaskEventPhase::Succeeded,
        TaskPhase::RetryableFailure | TaskPhase::PermanentFailure => TaskEventPhase::Failed,
        TaskPhase::Aborted => TaskEventPhase::Aborted,
        TaskPhase::Undefined
        | TaskPhase::NotReady
        | TaskPhase::WaitingForCache
        | TaskPhase::Unknown(_) => TaskEventPhase::Undefined,
    };
    let occurred_at = to_wire(info.info.occurred_at.unwrap_or(now));
    let failed = matches!(
        info.phase,
        TaskPhase::RetryableFailure | TaskPhase::PermanentFailure
    );
    let output_result = match (&info.error, outputs) {
        (Some(error), _) if failed => Some(task_execution_event::OutputResult::Error(cut(
            error.clone()
        ))),
        (_, Some(uri)) => Some(task_execution_event::OutputResult::OutputUri(
            uri.to_owned(),
        )),
        _ => None,
    };
    let main = Some(&info.reason).filter(|reason| !reason.is_empty());
    let additional = info.info.additional_reasons.iter();
    let reasons = main
        .map(|reason| (reason, occurred_at))
        .into_iter()
        .chain(additional.map(|said| (&said.reason, to_wire(said.occurred_at))))
        .map(|(reason, occurred_at)| EventReason {
            reason: reason.clone(),
            occurred_at: Some(occurred_at),
        })
        .collect();
    #[expect(deprecated, reason = "older consoles read the single reason")]
    Event::Task(Box::new(TaskExecutionEvent {
        task_id: Some(identity.task.clone()),
        parent_node_execution_id: Some(identity.node.id()),
        retry_attempt: identity.attempt,
        phase: phase.into(),
        phase_version: info.version,
        producer_id: identity.node.producer.to_owned(),
        occurred_at: Some(occurred_at),
        reported_at: Some(to_wire(now)),
        task_type: identity.task_type.to_owned(),
        reason: if identity.send_object_events {
            String::new()
        } else {
            info.reason.clone()
        },
        reasons,
        logs: info.info.logs.clone(),
        metadata: Some(TaskExecutionMetadata {
            generated_name: identity.generated_name.to_owned(),
            plugin_identifier: identity.plugin.to_owned(),
            instance_class: if identity.interruptible {
                InstanceClass::Interruptible
            } else {
                InstanceClass::Default
            }
            .into(),
            ..TaskExecutionMetadata::default()
        }),
        event_version: EVENT_VERSION,
        input_value: identity
            .node
            .tells_inputs(identity.is_first)
            .then(|| task_execution_event::InputValue::InputUri(identity.node.inputs.clone())),
        output_result,
        ..TaskExecutionEvent::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_keeps_its_head_and_its_tail() {
        let message = format!("head{}tail", "ä".repeat(MAX_MESSAGE_BYTES));
        let error = cut(ExecutionError {
            message,
            ..ExecutionError::default()
        });
        assert!(error.message.len() <= MAX_MESSAGE_BYTES + 40);
        assert!(error.message.starts_with("head") && error.message.ends_with("tail"));
        assert!(error.message.contains("<Message Truncated>"));
    }
}
