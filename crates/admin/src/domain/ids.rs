//! Ids in requests and events, with what the reference lets clients leave out.

use flyte_core::identifiers::{ExecutionId, NodeExecutionId, ResourceType};
use flyte_idl::core;

use crate::{
    caller::Resource,
    error::{Error, Result},
};

/// The id with an unspecified resource type taken for TASK.
pub(crate) fn with_task_type(
    id: Option<core::TaskExecutionIdentifier>,
) -> Option<core::TaskExecutionIdentifier> {
    let mut id = id?;
    if let Some(task) = &mut id.task_id
        && task.resource_type == ResourceType::Unspecified as i32
    {
        task.resource_type = ResourceType::Task as i32;
    }
    Some(id)
}

/// `missing execution_id` for any gap in the id of an execution.
pub(crate) fn require_execution(
    id: Option<&core::WorkflowExecutionIdentifier>,
) -> Result<ExecutionId> {
    ExecutionId::from_proto(id).map_err(|_incomplete| Error::missing("execution_id"))
}

/// Project and domain of an execution, which the policy is asked about.
pub(crate) fn execution_scope(id: &ExecutionId) -> Resource<'_> {
    Resource::of(id.project.as_str(), id.domain.as_str())
}

/// Project and domain of a node execution, which the policy is asked about.
pub(crate) fn node_scope(id: &NodeExecutionId) -> Resource<'_> {
    execution_scope(&id.execution)
}
