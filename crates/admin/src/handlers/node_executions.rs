//! Node executions: reading (spec 01 §14).

use std::collections::BTreeSet;

use flyte_core::identifiers::{ExecutionId, NodeExecutionId, TaskExecutionId};
use flyte_idl::{
    admin::{self, node_execution_closure::OutputResult},
    core,
    stored::Stored,
};

use super::{executions::trim_error, pages};
use crate::{
    caller::{Action, Caller},
    context::AdminContext,
    domain::{
        events::not_found,
        ids::{execution_scope, node_scope, require_execution, with_task_type},
    },
    error::{Error, NotFoundKind, Result},
    filters::{NODE_EXECUTIONS, Page},
    records::{NodeExecution, NodeExecutionRow},
    repository::{
        node_executions::{self, Level},
        task_executions,
    },
    unknown_fields::{Reply, UnknownFields, fields},
};

pub(crate) async fn load(context: &AdminContext, id: &NodeExecutionId) -> Result<NodeExecution> {
    let mut tx = context.database.read().await?;
    node_executions::get(&mut tx, id)
        .await?
        .ok_or_else(|| not_found::node(id))
}

fn answer(node: NodeExecution) -> Reply<admin::NodeExecution> {
    let of_closure = UnknownFields::of_stored(&node.closure);
    let of_metadata = UnknownFields::of_stored(&node.metadata);
    let message = admin::NodeExecution {
        id: Some(node.id.to_proto()),
        input_uri: node.input_uri,
        closure: Some(node.closure.into_inner()),
        metadata: Some(node.metadata.into_inner()),
    };
    Reply::from(message)
        .with(fields::NODE_EXECUTION_CLOSURE, of_closure)
        .with(fields::NODE_EXECUTION_METADATA, of_metadata)
}

pub(crate) async fn get(
    context: &AdminContext,
    caller: &Caller,
    request: admin::NodeExecutionGetRequest,
) -> Result<Reply<admin::NodeExecution>> {
    let id = NodeExecutionId::from_proto(request.id.as_ref())?;
    context.allow(caller, Action::Read, node_scope(&id))?;
    let node = load(context, &id).await?;
    if node.event_version != 0 {
        return Ok(answer(node));
    }
    // Rows of old propellers do not say what they are.
    let mut tx = context.database.read().await?;
    let parents = node_executions::with_children(&mut tx, node.row.as_slice()).await?;
    let is_parent = node.row.is_some_and(|row| parents.contains(&row));
    let is_dynamic = is_parent && !node.dynamic_closure_uri.is_empty();
    Ok(answer(node).map(|message| {
        let metadata = message.metadata.get_or_insert_default();
        metadata.is_parent_node = is_parent;
        metadata.is_dynamic = is_dynamic;
    }))
}

/// In a list a node with children is a parent, whatever its row says: the console unfolds branches by it.
fn listed(
    node: NodeExecution,
    parents: &BTreeSet<NodeExecutionRow>,
) -> Reply<admin::NodeExecution> {
    let has_children = node.row.is_some_and(|row| parents.contains(&row));
    let dynamic_closure = !node.dynamic_closure_uri.is_empty();
    answer(node).map(|message| {
        let metadata = message.metadata.get_or_insert_default();
        if has_children && !metadata.is_parent_node && !metadata.is_dynamic {
            metadata.is_parent_node = true;
            metadata.is_dynamic = dynamic_closure;
        }
        if let Some(closure) = &mut message.closure
            && let Some(OutputResult::Error(error)) = &mut closure.output_result
        {
            trim_error(error);
        }
    })
}

pub(crate) async fn list(
    context: &AdminContext,
    caller: &Caller,
    request: admin::NodeExecutionListRequest,
) -> Result<Reply<admin::NodeExecutionList>> {
    let execution = require_execution(request.workflow_execution_id.as_ref())?;
    context.allow(caller, Action::Read, execution_scope(&execution))?;
    let page = pages::page!(request, "ListNodeExecutions");
    page.require_limit()?;
    let level = if request.unique_parent_id.is_empty() {
        Level::Top
    } else {
        let parent = core::NodeExecutionIdentifier {
            node_id: request.unique_parent_id.clone(),
            execution_id: Some(execution.to_proto()),
        };
        let parent = NodeExecutionId::from_proto(Some(&parent))?;
        let mut tx = context.database.read().await?;
        let row = node_executions::row(&mut tx, &parent)
            .await?
            .ok_or_else(|| not_found::node(&parent))?;
        Level::ChildrenOf(row)
    };
    select(context, &execution, level, page).await
}

async fn select(
    context: &AdminContext,
    execution: &ExecutionId,
    level: Level,
    page: Page<'_>,
) -> Result<Reply<admin::NodeExecutionList>> {
    let query = page.parse(&NODE_EXECUTIONS, context.clock.now())?;
    let mut tx = context.database.read().await?;
    let nodes = node_executions::list(&mut tx, execution, level, &query).await?;
    let rows: Vec<_> = nodes.iter().filter_map(|node| node.row).collect();
    let parents = node_executions::with_children(&mut tx, &rows).await?;
    let nodes = nodes.map(|node| listed(node, &parents));
    Ok(pages::reply(
        context,
        &query,
        nodes,
        fields::NODE_EXECUTIONS,
        |node_executions, token| admin::NodeExecutionList {
            node_executions,
            token,
        },
    ))
}

pub(crate) async fn list_for_task(
    context: &AdminContext,
    caller: &Caller,
    request: admin::NodeExecutionForTaskListRequest,
) -> Result<Reply<admin::NodeExecutionList>> {
    let id = TaskExecutionId::from_proto(with_task_type(request.task_execution_id).as_ref())?;
    context.allow(caller, Action::Read, node_scope(&id.node))?;
    let page = pages::page!(request, "ListNodeExecutions");
    page.require_limit()?;
    let mut tx = context.database.read().await?;
    let row = task_executions::row(&mut tx, &id)
        .await?
        .ok_or_else(|| not_found::task(&id))?;
    drop(tx);
    select(context, &id.node.execution, Level::MadeBy(row), page).await
}

pub(crate) async fn dynamic_workflow(
    context: &AdminContext,
    caller: &Caller,
    request: admin::GetDynamicNodeWorkflowRequest,
) -> Result<Reply<admin::DynamicNodeWorkflowResponse>> {
    let id = NodeExecutionId::from_proto(request.id.as_ref())?;
    context.allow(caller, Action::Read, node_scope(&id))?;
    let node = load(context, &id).await?;
    if node.dynamic_closure_uri.is_empty() {
        return Err(Error::not_found(NotFoundKind::DynamicWorkflow, ""));
    }
    let closure: Stored<core::CompiledWorkflowClosure> = context
        .read_stored(&node.dynamic_closure_uri, "WorkflowClosure")
        .await?;
    let unknown = UnknownFields::of_stored(&closure);
    let message = admin::DynamicNodeWorkflowResponse {
        compiled_workflow: Some(closure.into_inner()),
    };
    Ok(Reply::from(message).with(fields::DYNAMIC_NODE_WORKFLOW, unknown))
}
