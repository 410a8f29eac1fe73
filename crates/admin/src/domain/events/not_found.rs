//! NOT_FOUND for what an event or a request names and what is not there.

use flyte_core::identifiers::{ExecutionId, NodeExecutionId, ResourceType, TaskExecutionId};
use flyte_idl::text;

use crate::error::{Error, NotFoundKind};

/// The error of a call or event about a workflow execution that has no row.
pub fn execution(id: &ExecutionId) -> Error {
    Error::not_found(NotFoundKind::Execution, text::prototext(&id.to_proto()))
}

/// The execution that a node event belongs to.
pub fn execution_of_node(id: &ExecutionId) -> Error {
    Error::not_found(
        NotFoundKind::ExecutionOfNode,
        text::prototext(&id.to_proto()),
    )
}

/// A node execution.
pub fn node(id: &NodeExecutionId) -> Error {
    Error::not_found(NotFoundKind::NodeExecution, text::prototext(&id.to_proto()))
}

/// The node execution that a task event belongs to.
pub fn node_of_task(id: &NodeExecutionId) -> Error {
    Error::not_found(NotFoundKind::NodeOfTask, text::prototext(&id.to_proto()))
}

/// A task execution.
pub fn task(id: &TaskExecutionId) -> Error {
    let mut shown = id.to_proto();
    shown.retry_attempt = 0;
    if let Some(task) = &mut shown.task_id {
        task.resource_type = ResourceType::Unspecified as i32;
    }
    Error::not_found(NotFoundKind::TaskExecution, text::prototext(&shown))
}
