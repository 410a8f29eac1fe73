//! Executions: reading and archiving (spec 01 §12.8, §12.10). Creating them is in [`create`], ending them in [`terminate`].

pub(crate) mod create;
mod files;
pub(crate) mod launch;
mod reserve;
mod single_task;
pub(crate) mod terminate;

use flyte_core::identifiers::ExecutionId;
use flyte_idl::admin::{self, execution_closure::OutputResult};

use super::{entities, pages};
use crate::{
    caller::{Action, Caller},
    context::AdminContext,
    domain::{events::not_found, executions::transitions, ids::execution_scope},
    error::{Error, Result},
    filters::{Comparison, EXECUTIONS, Predicate, Test},
    records::{Execution, ExecutionState, WorkflowPhase},
    repository::executions,
    time,
    unknown_fields::{Reply, UnknownFields, fields},
};

/// How much of an error's message a list shows, in bytes.
const LISTED_ERROR_BYTES: usize = 100;

pub(crate) async fn load(context: &AdminContext, id: &ExecutionId) -> Result<Execution> {
    let mut tx = context.database.read().await?;
    executions::get(&mut tx, id)
        .await?
        .ok_or_else(|| not_found::execution(id))
}

pub(crate) async fn get(
    context: &AdminContext,
    caller: &Caller,
    request: admin::WorkflowExecutionGetRequest,
) -> Result<Reply<admin::Execution>> {
    let id = ExecutionId::from_proto(request.id.as_ref())?;
    context.allow(caller, Action::Read, execution_scope(&id))?;
    let execution = load(context, &id).await?;
    let namespace = context
        .config()
        .namespace_mapping
        .namespace(id.project.as_str(), id.domain.as_str());
    Ok(answer(execution).map(|message| {
        let system = message
            .spec
            .get_or_insert_default()
            .metadata
            .get_or_insert_default()
            .system_metadata
            .get_or_insert_default();
        if system.namespace.is_empty() {
            system.namespace = namespace;
        }
    }))
}

fn answer(execution: Execution) -> Reply<admin::Execution> {
    let of_spec = UnknownFields::of_stored(&execution.spec);
    let of_closure = UnknownFields::of_stored(&execution.closure);
    Reply::from(admin::Execution::from(execution))
        .with(fields::EXECUTION_SPEC, of_spec)
        .with(fields::EXECUTION_CLOSURE, of_closure)
}

/// The wire form of an execution, with what old rows lack filled in (spec 01 §12.10).
impl From<Execution> for admin::Execution {
    fn from(execution: Execution) -> Self {
        let id = execution.id.to_proto();
        let mut closure = execution.closure.into_inner();
        if closure.state_change_details.is_none() {
            closure.state_change_details = Some(admin::ExecutionStateChangeDetails {
                state: admin::ExecutionState::ExecutionActive as i32,
                occurred_at: execution.row_created_at.map(time::to_wire),
                principal: execution.user.clone(),
            });
        }
        let aborted = execution.phase == WorkflowPhase::Aborted;
        if aborted && !matches!(closure.output_result, Some(OutputResult::AbortMetadata(_))) {
            closure.output_result = Some(OutputResult::AbortMetadata(admin::AbortMetadata {
                cause: execution.abort_cause,
                principal: String::new(),
            }));
        }
        Self {
            id: Some(id),
            spec: Some(execution.spec.into_inner()),
            closure: Some(closure),
        }
    }
}

pub(crate) async fn list(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ResourceListRequest,
) -> Result<Reply<admin::ExecutionList>> {
    let (names, mut query) =
        entities::list_query(context, caller, &request, &EXECUTIONS, "ListExecutions")?;
    let about_state = query
        .predicates
        .iter()
        .any(|predicate| predicate.column.name == "state");
    if !about_state {
        query.predicates.extend(active());
    }
    let mut tx = context.database.read_lagging().await?;
    let list = executions::list(&mut tx, names, &query).await?;
    let executions = list.map(listed);
    Ok(pages::reply(
        context,
        &query,
        executions,
        fields::EXECUTIONS,
        |executions, token| admin::ExecutionList { executions, token },
    ))
}

fn active() -> Option<Predicate> {
    Some(Predicate {
        entity: &EXECUTIONS,
        column: EXECUTIONS.column("state")?,
        test: Test::Compare(Comparison::Equal, ExecutionState::Active.number().into()),
        checked: false,
    })
}

fn listed(execution: Execution) -> Reply<admin::Execution> {
    answer(execution).map(|message| {
        if let Some(spec) = &mut message.spec {
            spec.inputs = None;
        }
        if let Some(closure) = &mut message.closure {
            closure.computed_inputs = None;
            if let Some(OutputResult::Error(error)) = &mut closure.output_result {
                trim_error(error);
            }
        }
    })
}

/// Cuts an error's message to what lists show.
pub(crate) fn trim_error(error: &mut flyte_idl::core::ExecutionError) {
    let end = error.message.floor_char_boundary(LISTED_ERROR_BYTES);
    error.message.truncate(end);
}

pub(crate) async fn update(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ExecutionUpdateRequest,
) -> Result<admin::ExecutionUpdateResponse> {
    let id = ExecutionId::from_proto(request.id.as_ref())?;
    context.allow(caller, Action::Execute, execution_scope(&id))?;
    let now = context.clock.now();
    let details = admin::ExecutionStateChangeDetails {
        state: request.state,
        occurred_at: Some(time::to_wire(now)),
        principal: caller.user.clone(),
    };
    context
        .database
        .write((id, details, now), |(id, details, now), tx| {
            Box::pin(async move {
                let mut execution = executions::lock(tx, id)
                    .await?
                    .ok_or_else(|| not_found::execution(id))?;
                transitions::set_state(&mut execution, details);
                executions::update(tx, &execution, *now).await?;
                Ok::<_, Error>(())
            })
        })
        .await?;
    Ok(admin::ExecutionUpdateResponse {})
}
