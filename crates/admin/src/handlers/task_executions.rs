//! Task executions: reading (spec 01 §14).

use std::collections::BTreeSet;

use flyte_core::identifiers::{NodeExecutionId, TaskExecutionId};
use flyte_idl::admin;

use super::pages;
use crate::{
    caller::{Action, Caller},
    context::AdminContext,
    domain::{
        events::not_found,
        ids::{node_scope, with_task_type},
    },
    error::Result,
    filters::TASK_EXECUTIONS,
    records::{TaskExecution, TaskExecutionRow},
    repository::{node_executions, task_executions},
    unknown_fields::{Reply, UnknownFields, fields},
};

pub(crate) async fn load(context: &AdminContext, id: &TaskExecutionId) -> Result<TaskExecution> {
    let mut tx = context.database.read().await?;
    task_executions::get(&mut tx, id)
        .await?
        .ok_or_else(|| not_found::task(id))
}

fn message(
    task: TaskExecution,
    parents: &BTreeSet<TaskExecutionRow>,
) -> Reply<admin::TaskExecution> {
    let unknown = UnknownFields::of_stored(&task.closure);
    let message = admin::TaskExecution {
        id: Some(task.id.to_proto()),
        input_uri: task.input_uri,
        is_parent: task.row.is_some_and(|row| parents.contains(&row)),
        closure: Some(task.closure.into_inner()),
    };
    Reply::from(message).with(fields::TASK_EXECUTION_CLOSURE, unknown)
}

pub(crate) async fn get(
    context: &AdminContext,
    caller: &Caller,
    request: admin::TaskExecutionGetRequest,
) -> Result<Reply<admin::TaskExecution>> {
    let id = TaskExecutionId::from_proto(with_task_type(request.id).as_ref())?;
    context.allow(caller, Action::Read, node_scope(&id.node))?;
    let task = load(context, &id).await?;
    let mut tx = context.database.read().await?;
    let parents = node_executions::made_by_tasks(&mut tx, task.row.as_slice()).await?;
    Ok(message(task, &parents))
}

pub(crate) async fn list(
    context: &AdminContext,
    caller: &Caller,
    request: admin::TaskExecutionListRequest,
) -> Result<Reply<admin::TaskExecutionList>> {
    let node = NodeExecutionId::from_proto(request.node_execution_id.as_ref())?;
    context.allow(caller, Action::Read, node_scope(&node))?;
    let page = pages::page!(request, "ListTaskExecutions");
    page.require_limit()?;
    let query = page.parse(&TASK_EXECUTIONS, context.clock.now())?;
    let mut tx = context.database.read().await?;
    let tasks = task_executions::list(&mut tx, &node, &query).await?;
    let rows: Vec<_> = tasks.iter().filter_map(|task| task.row).collect();
    let parents = node_executions::made_by_tasks(&mut tx, &rows).await?;
    let tasks = tasks.map(|task| message(task, &parents));
    Ok(pages::reply(
        context,
        &query,
        tasks,
        fields::TASK_EXECUTIONS,
        |task_executions, token| admin::TaskExecutionList {
            task_executions,
            token,
        },
    ))
}
