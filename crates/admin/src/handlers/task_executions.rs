//! Task executions: reading (spec 01 §14).

use std::collections::BTreeSet;

use flyte_core::identifiers::{NodeExecutionId, TaskExecutionId};
use flyte_idl::admin;

use crate::{
    caller::{Action, Caller},
    domain::{
        events::absent,
        ids::{node_scope, with_task_type},
    },
    error::Result,
    filters::{Page, TASK_EXECUTIONS},
    records::{TaskExecution, TaskExecutionRow},
    repository::{node_executions, task_executions},
    service::Service,
    unknown::{Answer, Unknown},
};

pub(crate) async fn load(service: &Service, id: &TaskExecutionId) -> Result<TaskExecution> {
    let mut tx = service.database.read().await?;
    task_executions::get(&mut tx, id)
        .await?
        .ok_or_else(|| absent::task(id))
}

fn message(
    task: TaskExecution,
    parents: &BTreeSet<TaskExecutionRow>,
) -> Answer<admin::TaskExecution> {
    let unknown = Unknown::of_stored(&task.closure);
    let message = admin::TaskExecution {
        id: Some(task.id.to_proto()),
        input_uri: task.input_uri,
        is_parent: task.row.is_some_and(|row| parents.contains(&row)),
        closure: Some(task.closure.into_inner()),
    };
    Answer::made_from(message, [("closure", unknown)])
}

pub(crate) async fn get(
    service: &Service,
    caller: &Caller,
    request: admin::TaskExecutionGetRequest,
) -> Result<Answer<admin::TaskExecution>> {
    let id = TaskExecutionId::from_proto(with_task_type(request.id).as_ref())?;
    service.allow(caller, Action::Read, node_scope(&id.node))?;
    let task = load(service, &id).await?;
    let mut tx = service.database.read().await?;
    let parents = node_executions::made_by_tasks(&mut tx, task.row.as_slice()).await?;
    Ok(message(task, &parents))
}

pub(crate) async fn list(
    service: &Service,
    caller: &Caller,
    request: admin::TaskExecutionListRequest,
) -> Result<Answer<admin::TaskExecutionList>> {
    let node = NodeExecutionId::from_proto(request.node_execution_id.as_ref())?;
    service.allow(caller, Action::Read, node_scope(&node))?;
    let page = Page {
        filters: &request.filters,
        sort_by: request.sort_by.as_ref(),
        token: &request.token,
        limit: request.limit,
        rpc: "ListTaskExecutions",
    };
    page.require_limit()?;
    let query = page.parse(&TASK_EXECUTIONS, service.clock.now())?;
    let mut tx = service.database.read().await?;
    let tasks = task_executions::list(&mut tx, &node, &query).await?;
    let rows: Vec<_> = tasks.iter().filter_map(|task| task.row).collect();
    let parents = node_executions::made_by_tasks(&mut tx, &rows).await?;
    let token = query.next_token(tasks.len());
    let tasks = tasks
        .into_iter()
        .map(|task| message(task, &parents))
        .collect();
    Ok(Answer::list(tasks, "task_executions", |task_executions| {
        admin::TaskExecutionList {
            task_executions,
            token,
        }
    }))
}
