//! What a node event does to a node execution (spec 01 §13.2).

use flyte_core::identifiers::NodeExecutionId;
use flyte_idl::{
    admin,
    event::{
        NodeExecutionEvent, TaskNodeMetadata,
        node_execution_event::{InputValue, OutputResult, TargetMetadata},
    },
    stored::Stored,
    text,
};
use jiff::Timestamp;

use crate::{
    error::{Error, Result},
    records::{
        CacheStatus, ErrorKind, NodeExecution, NodeExecutionRow, NodePhase, TaskExecutionRow,
        or_zero,
    },
    time,
};

/// What the references of an event were resolved to, and where its dynamic workflow went.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// Row of the parent node that the event names.
    pub parent_row: Option<NodeExecutionRow>,
    /// Row of the parent task execution that the event names.
    pub parent_task_row: Option<TaskExecutionRow>,
    /// Where the event's dynamic workflow was written; empty if it has none.
    pub dynamic_closure_uri: String,
}

/// Whether the stored node accepts `event`.
///
/// # Errors
/// ALREADY_EXISTS for the phase that is recorded, FAILED_PRECONDITION for a node that has ended.
pub fn check(node: &NodeExecution, event: &NodeExecutionEvent) -> Result<()> {
    let stored = &node.phase;
    let next = NodePhase::from(event.phase);
    if *stored == next {
        return Err(Error::PhaseRecorded(format!(
            "This phase was already recorded {next} for {}",
            text::prototext(&node.id.to_proto())
        )));
    }
    if stored.is_terminal() {
        // The reference sends the event's phase in the detail; the stored one is what it means
        // (spec 01 §24 no. 7).
        return Err(Error::Terminal {
            message: format!(
                "Invalid phase change from {stored} to {next} for node execution {}",
                or_zero(node.row)
            ),
            phase: stored.to_string(),
        });
    }
    occurred(event).map(drop)
}

fn occurred(event: &NodeExecutionEvent) -> Result<Timestamp> {
    time::from_wire(event.occurred_at.as_ref()).ok_or_else(|| Error::missing("occurred_at"))
}

/// When the event says that the node changed: reported, else occurred.
fn reported(event: &NodeExecutionEvent, occurred: Timestamp) -> Timestamp {
    time::from_wire(event.reported_at.as_ref())
        .filter(|moment| *moment != Timestamp::UNIX_EPOCH)
        .unwrap_or(occurred)
}

/// The node execution that the first event about a node makes.
///
/// # Errors
/// `missing occurred_at`.
pub fn create(
    id: NodeExecutionId,
    event: &NodeExecutionEvent,
    resolved: &Resolved,
) -> Result<NodeExecution> {
    let occurred = occurred(event)?;
    let metadata = admin::NodeExecutionMetaData {
        retry_group: event.retry_group.clone(),
        is_parent_node: event.is_parent,
        spec_node_id: event.spec_node_id.clone(),
        is_dynamic: event.is_dynamic,
        is_array: event.is_array,
        is_eager: event.is_eager,
    };
    let mut node = NodeExecution {
        row: None,
        id,
        phase: NodePhase::Undefined,
        input_uri: String::new(),
        closure: Stored::new(admin::NodeExecutionClosure {
            created_at: Some(time::to_wire(occurred)),
            ..Default::default()
        }),
        started_at: None,
        created_at: Some(occurred),
        updated_at: None,
        duration: 0,
        metadata: Stored::new(metadata),
        parent_row: resolved.parent_row,
        parent_task_row: resolved.parent_task_row,
        error_kind: None,
        error_code: None,
        cache_status: None,
        dynamic_closure_uri: String::new(),
        event_version: event.event_version,
    };
    change(&mut node, event, resolved, occurred);
    Ok(node)
}

/// Changes a node that exists as `event` says.
///
/// # Errors
/// Those of [`check`].
pub fn apply(
    node: &mut NodeExecution,
    event: &NodeExecutionEvent,
    resolved: &Resolved,
) -> Result<()> {
    check(node, event)?;
    let occurred = occurred(event)?;
    node.metadata.update(|metadata| {
        metadata.is_parent_node |= event.is_parent;
        metadata.is_dynamic |= event.is_dynamic;
        metadata.is_array |= event.is_array;
        metadata.is_eager |= event.is_eager;
    });
    change(node, event, resolved, occurred);
    Ok(())
}

fn change(
    node: &mut NodeExecution,
    event: &NodeExecutionEvent,
    resolved: &Resolved,
    occurred: Timestamp,
) {
    let updated = reported(event, occurred);
    node.phase = NodePhase::from(event.phase);
    let running = node.phase == NodePhase::Running;
    node.updated_at = Some(updated);
    let terminal = node.phase.is_terminal();
    if running {
        node.started_at = Some(occurred);
    }
    if let (true, Some(start)) = (terminal, node.started_at) {
        node.duration = time::nanoseconds_between(start, occurred);
    }
    if node.input_uri.is_empty()
        && let Some(InputValue::InputUri(uri)) = &event.input_value
    {
        node.input_uri.clone_from(uri);
    }
    if !resolved.dynamic_closure_uri.is_empty() {
        node.dynamic_closure_uri
            .clone_from(&resolved.dynamic_closure_uri);
    }
    if let (true, Some(OutputResult::Error(error))) = (terminal, &event.output_result) {
        node.error_kind = Some(ErrorKind::from(error.kind));
        node.error_code = Some(error.code.clone());
    }
    if let Some(TargetMetadata::TaskNodeMetadata(metadata)) = &event.target_metadata
        && metadata.catalog_key.is_some()
    {
        node.cache_status = Some(CacheStatus::from(metadata.cache_status));
    }
    let duration = node.started_at.map(|_start| node.duration);
    node.closure.update(|closure| {
        closure.phase = event.phase;
        closure.updated_at = Some(time::to_wire(updated));
        if running {
            closure.started_at = Some(time::to_wire(occurred));
        }
        if running || terminal {
            closure.deck_uri.clone_from(&event.deck_uri);
        }
        if terminal {
            closure.duration = duration.map(time::duration_to_wire);
            if let Some(output) = &event.output_result {
                closure.output_result = Some(output_result(output));
            }
        }
        target_metadata(closure, event);
    });
}

fn target_metadata(closure: &mut admin::NodeExecutionClosure, event: &NodeExecutionEvent) {
    use admin::node_execution_closure::TargetMetadata as Target;
    match &event.target_metadata {
        None => {}
        // A child execution never changes once it is known.
        Some(TargetMetadata::WorkflowNodeMetadata(_))
            if matches!(
                closure.target_metadata,
                Some(Target::WorkflowNodeMetadata(_))
            ) => {}
        Some(TargetMetadata::WorkflowNodeMetadata(metadata)) => {
            closure.target_metadata =
                Some(Target::WorkflowNodeMetadata(admin::WorkflowNodeMetadata {
                    execution_id: metadata.execution_id.clone(),
                }));
        }
        Some(TargetMetadata::TaskNodeMetadata(metadata)) => {
            closure.target_metadata = Some(Target::TaskNodeMetadata(task_node_metadata(metadata)));
            if let Some(dynamic) = &metadata.dynamic_workflow
                && !dynamic.dynamic_job_spec_uri.is_empty()
            {
                closure
                    .dynamic_job_spec_uri
                    .clone_from(&dynamic.dynamic_job_spec_uri);
            }
        }
    }
}

fn task_node_metadata(metadata: &TaskNodeMetadata) -> admin::TaskNodeMetadata {
    let mut stored = admin::TaskNodeMetadata {
        checkpoint_uri: metadata.checkpoint_uri.clone(),
        ..Default::default()
    };
    if metadata.catalog_key.is_some() {
        stored.cache_status = metadata.cache_status;
        stored.catalog_key.clone_from(&metadata.catalog_key);
    }
    stored
}

fn output_result(output: &OutputResult) -> admin::node_execution_closure::OutputResult {
    use admin::node_execution_closure::OutputResult as Stored;
    match output {
        OutputResult::OutputUri(uri) => Stored::OutputUri(uri.clone()),
        OutputResult::Error(error) => Stored::Error(error.clone()),
        OutputResult::OutputData(data) => Stored::OutputData(data.clone()),
    }
}
