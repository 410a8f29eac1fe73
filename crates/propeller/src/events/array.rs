//! Events of the task of an array node, which tell of its elements (spec 04 §11.7).

use flyte_idl::{
    core::{ExecutionError, Identifier, task_execution::Phase},
    event::{
        ExternalResourceInfo, TaskExecutionEvent, TaskExecutionMetadata, task_execution_event,
    },
    time::to_wire,
};
use jiff::Timestamp;

use super::{EVENT_VERSION, Event, NodeIdentity, cut};

/// Type of the task of an array, whatever runs for each element.
const TASK_TYPE: &str = "container_array";
/// What is said to run it.
const PLUGIN: &str = "k8s-array";

/// What is told of the task of an array node.
#[derive(Clone, Debug, Default)]
pub struct ArrayTask {
    /// The task that runs for each element.
    pub task: Option<Identifier>,
    /// Where the array stands.
    pub phase: Phase,
    /// Number of the event within the phase; a client is told of each only once.
    pub version: u32,
    /// Attempts of elements, in the order of index and attempt.
    pub resources: Vec<ExternalResourceInfo>,
    /// Why it failed.
    pub error: Option<ExecutionError>,
    /// URI of the outputs.
    pub outputs: Option<String>,
}

/// An event of the task of an array node. There is one attempt of it, however often the node is tried.
pub fn array_task(identity: &NodeIdentity<'_>, told: ArrayTask, now: Timestamp) -> Event {
    let output_result = match (told.error, told.outputs) {
        (Some(error), _) => Some(task_execution_event::OutputResult::Error(cut(error))),
        (None, Some(uri)) => Some(task_execution_event::OutputResult::OutputUri(uri)),
        (None, None) => None,
    };
    let is_first = told.phase == Phase::Queued;
    Event::Task(Box::new(TaskExecutionEvent {
        task_id: told.task,
        parent_node_execution_id: Some(identity.id()),
        phase: told.phase.into(),
        phase_version: told.version,
        producer_id: identity.producer.to_owned(),
        occurred_at: Some(to_wire(now)),
        reported_at: Some(to_wire(now)),
        task_type: TASK_TYPE.into(),
        metadata: Some(TaskExecutionMetadata {
            external_resources: told.resources,
            plugin_identifier: PLUGIN.into(),
            ..TaskExecutionMetadata::default()
        }),
        event_version: EVENT_VERSION,
        input_value: is_first
            .then(|| task_execution_event::InputValue::InputUri(identity.inputs.clone())),
        output_result,
        ..TaskExecutionEvent::default()
    }))
}
