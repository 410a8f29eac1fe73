//! What an event must have before anything is looked up, in the reference's order of checks (spec 01 §13).

use flyte_core::{
    identifiers::{ExecutionId, NodeExecutionId, NodeId, TaskExecutionId},
    names,
};
use flyte_idl::{
    core::{LiteralMap, TaskExecutionIdentifier},
    event::{
        NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent, task_execution_event,
        workflow_execution_event,
    },
    text,
};
use prost::Message as _;

use crate::{
    domain::ids::with_task_type,
    error::{Error, Result},
};

/// The event of a workflow, and the execution that it is about. Inline outputs have at most `max_data_bytes`.
///
/// # Errors
/// INVALID_ARGUMENT for what is missing, RESOURCE_EXHAUSTED for too much data.
pub fn workflow(
    event: Option<WorkflowExecutionEvent>,
    max_data_bytes: u64,
) -> Result<(ExecutionId, WorkflowExecutionEvent)> {
    let event =
        event.ok_or_else(|| Error::invalid("Workflow event handler was called without event"))?;
    let Some(id) = &event.execution_id else {
        return Err(Error::Invalid(format!(
            "Workflow event handler request event doesn't have an execution id - {}",
            text::prototext(&event)
        )));
    };
    if let Some(workflow_execution_event::OutputResult::OutputData(data)) = &event.output_result {
        require_size(data, max_data_bytes)?;
    }
    Ok((ExecutionId::from_proto(Some(id))?, event))
}

/// The event of a node, and the node that it is about.
///
/// # Errors
/// INVALID_ARGUMENT for what is missing.
pub fn node(event: Option<NodeExecutionEvent>) -> Result<(NodeExecutionId, NodeExecutionEvent)> {
    let event = event.ok_or_else(|| Error::missing("event"))?;
    let id = NodeExecutionId::from_proto(event.id.as_ref())?;
    names::node_id(id.node.as_str())?;
    Ok((id, event))
}

/// The event of a task, and the attempt that it is about. Inline outputs have at most `max_data_bytes`.
///
/// # Errors
/// INVALID_ARGUMENT for what is missing, RESOURCE_EXHAUSTED for too much data.
pub fn task(
    event: Option<TaskExecutionEvent>,
    max_data_bytes: u64,
) -> Result<(TaskExecutionId, TaskExecutionEvent)> {
    let event = event.ok_or_else(|| Error::missing("event"))?;
    if event.occurred_at.is_none() {
        return Err(Error::missing("occurred_at"));
    }
    if let Some(task_execution_event::OutputResult::OutputData(data)) = &event.output_result {
        require_size(data, max_data_bytes)?;
    }
    let id = TaskExecutionId::from_proto(Some(&TaskExecutionIdentifier {
        task_id: event.task_id.clone(),
        node_execution_id: event.parent_node_execution_id.clone(),
        retry_attempt: event.retry_attempt,
    }))?;
    names::node_id(id.node.node.as_str())?;
    Ok((id, event))
}

/// The child execution that the event of a node names.
///
/// # Errors
/// INVALID_ARGUMENT for an incomplete id.
pub fn child(event: &NodeExecutionEvent) -> Result<Option<ExecutionId>> {
    use flyte_idl::event::node_execution_event::TargetMetadata;
    match &event.target_metadata {
        Some(TargetMetadata::WorkflowNodeMetadata(metadata)) => Ok(Some(ExecutionId::from_proto(
            metadata.execution_id.as_ref(),
        )?)),
        Some(TargetMetadata::TaskNodeMetadata(_)) | None => Ok(None),
    }
}

/// The attempt that made the node of an event.
///
/// # Errors
/// INVALID_ARGUMENT for an incomplete id.
pub fn parent_task(event: &NodeExecutionEvent) -> Result<Option<TaskExecutionId>> {
    let Some(metadata) = &event.parent_task_metadata else {
        return Ok(None);
    };
    let parent = with_task_type(metadata.id.clone());
    Ok(Some(TaskExecutionId::from_proto(parent.as_ref())?))
}

/// The node around the node of an event about `id`.
///
/// # Errors
/// INVALID_ARGUMENT for an empty node id.
pub fn parent_node(
    id: &NodeExecutionId,
    event: &NodeExecutionEvent,
) -> Result<Option<NodeExecutionId>> {
    let Some(metadata) = &event.parent_node_metadata else {
        return Ok(None);
    };
    Ok(Some(NodeExecutionId {
        execution: id.execution.clone(),
        node: NodeId::new(metadata.node_id.as_str())?,
    }))
}

fn require_size(data: &LiteralMap, limit: u64) -> Result<()> {
    let size = data.encoded_len() as u64;
    if size > limit {
        return Err(Error::TooLarge(format!(
            "Output data size exceeds platform configured threshold ({size} > {limit})"
        )));
    }
    Ok(())
}
