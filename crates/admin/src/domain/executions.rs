//! Executions: reading, archiving, terminating (spec 01 §12.8-12.10). Creating them is in [`create`].

pub(crate) mod config;
pub(crate) mod create;
mod files;
pub(crate) mod launch;
mod reserve;
pub(crate) mod resource;
pub(crate) mod single_task;

use flyte_core::identifiers::ExecutionId;
use flyte_idl::{
    admin::{self, execution_closure::OutputResult},
    core::workflow_execution::Phase,
    text,
};

use super::{
    events::absent,
    lists::{Comparison, EXECUTIONS, Predicate, Test},
    time,
};
use crate::{
    caller::{Action, Caller},
    error::{Error, Result},
    records::{Execution, ExecutionState, WorkflowPhase},
    repository::executions,
    service::Service,
    targets::Deletion,
    unknown::{Answer, Unknown},
};

/// How much of an error's message a list shows, in bytes.
const LISTED_ERROR_BYTES: usize = 100;

pub(crate) async fn load(service: &Service, id: &ExecutionId) -> Result<Execution> {
    let mut tx = service.database.read().await?;
    executions::get(&mut tx, id)
        .await?
        .ok_or_else(|| absent::execution(id))
}

pub(crate) async fn get(
    service: &Service,
    caller: &Caller,
    request: admin::WorkflowExecutionGetRequest,
) -> Result<Answer<admin::Execution>> {
    let id = ExecutionId::from_proto(request.id.as_ref())?;
    service.allow(
        caller,
        Action::Read,
        (id.project.as_str(), id.domain.as_str()),
    )?;
    let execution = load(service, &id).await?;
    let namespace = service
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

fn answer(execution: Execution) -> Answer<admin::Execution> {
    let unknown = [
        ("spec", Unknown::of_stored(&execution.spec)),
        ("closure", Unknown::of_stored(&execution.closure)),
    ];
    Answer::made_from(execution.into(), unknown)
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
    service: &Service,
    caller: &Caller,
    request: admin::ResourceListRequest,
) -> Result<Answer<admin::ExecutionList>> {
    let names = super::entities::require_names(request.id.as_ref())?;
    service.allow(caller, Action::Read, (names.0, names.1))?;
    let page = super::entities::page(&request, "ListExecutions");
    page.require_limit()?;
    let mut query = page.parse(&EXECUTIONS, service.clock.now())?;
    let about_state = query
        .predicates
        .iter()
        .any(|predicate| predicate.column.name == "state");
    if !about_state {
        query.predicates.extend(active());
    }
    let mut tx = service.database.read_lagging().await?;
    let list = executions::list(&mut tx, names, &query).await?;
    let token = query.next_token(list.len());
    let executions = list.into_iter().map(listed).collect();
    Ok(Answer::list(executions, "executions", |executions| {
        admin::ExecutionList { executions, token }
    }))
}

fn active() -> Option<Predicate> {
    Some(Predicate {
        entity: &EXECUTIONS,
        column: EXECUTIONS.column("state")?,
        test: Test::Compare(Comparison::Equal, ExecutionState::Active.number().into()),
    })
}

fn listed(execution: Execution) -> Answer<admin::Execution> {
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
    let mut end = error.message.len().min(LISTED_ERROR_BYTES);
    while !error.message.is_char_boundary(end) {
        end -= 1;
    }
    error.message.truncate(end);
}

pub(crate) async fn update(
    service: &Service,
    caller: &Caller,
    request: admin::ExecutionUpdateRequest,
) -> Result<admin::ExecutionUpdateResponse> {
    let id = ExecutionId::from_proto(request.id.as_ref())?;
    service.allow(
        caller,
        Action::Execute,
        (id.project.as_str(), id.domain.as_str()),
    )?;
    let now = service.clock.now();
    let details = admin::ExecutionStateChangeDetails {
        state: request.state,
        occurred_at: Some(time::to_wire(now)),
        principal: caller.user.clone(),
    };
    service
        .database
        .write((id, details, now), |(id, details, now), tx| {
            Box::pin(async move {
                let mut execution = executions::lock(tx, id)
                    .await?
                    .ok_or_else(|| absent::execution(id))?;
                execution.state = details.state.into();
                execution
                    .closure
                    .update(|closure| closure.state_change_details = Some(details.clone()));
                executions::update(tx, &execution, *now).await?;
                Ok::<_, Error>(())
            })
        })
        .await?;
    Ok(admin::ExecutionUpdateResponse {})
}

pub(crate) async fn terminate(
    service: &Service,
    caller: &Caller,
    request: admin::ExecutionTerminateRequest,
) -> Result<admin::ExecutionTerminateResponse> {
    let id = ExecutionId::from_proto(request.id.as_ref())?;
    service.allow(
        caller,
        Action::Execute,
        (id.project.as_str(), id.domain.as_str()),
    )?;
    let now = service.clock.now();
    let abort = admin::AbortMetadata {
        cause: request.cause,
        principal: caller.user.clone(),
    };
    let execution = service
        .database
        .write((id, abort, now), |(id, abort, now), tx| {
            Box::pin(async move {
                let mut execution = executions::lock(tx, id)
                    .await?
                    .ok_or_else(|| absent::execution(id))?;
                if execution.phase.is_terminal() {
                    return Err(Error::Terminal {
                        message: "Cannot abort an already terminated workflow execution".to_owned(),
                        phase: execution.phase.to_string(),
                    });
                }
                abort_record(&mut execution, abort, Phase::Aborting);
                executions::update(tx, &execution, *now).await?;
                Ok::<_, Error>(execution)
            })
        })
        .await?;
    end_resource(service, &execution)
        .await
        .inspect_err(|_error| service.counts().executions.termination_failures.inc())?;
    Ok(admin::ExecutionTerminateResponse {})
}

fn abort_record(execution: &mut Execution, abort: &admin::AbortMetadata, phase: Phase) {
    execution.phase = phase.into();
    execution.abort_cause.clone_from(&abort.cause);
    execution.closure.update(|closure| {
        closure.phase = phase as i32;
        closure.output_result = Some(OutputResult::AbortMetadata(abort.clone()));
    });
}

/// Where the resource of an execution is: the stored namespace, or for old rows the computed one.
pub(crate) fn namespace(service: &Service, execution: &Execution) -> String {
    let stored = execution
        .spec
        .get()
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.system_metadata.as_ref())
        .map(|system| system.namespace.clone())
        .unwrap_or_default();
    if stored.is_empty() {
        service
            .config()
            .namespace_mapping
            .namespace(execution.id.project.as_str(), execution.id.domain.as_str())
    } else {
        stored
    }
}

/// Deletes the resource of an ABORTING execution. Without one nobody else would end the execution, so it
/// ends here (spec 01 §24 no. 20).
pub(crate) async fn end_resource(service: &Service, execution: &Execution) -> Result<()> {
    let target = service.targets.stored(&execution.cluster)?;
    let namespace = namespace(service, execution);
    let deletion = target
        .delete(&namespace, &execution.id.name)
        .await
        .map_err(|error| Error::Cluster {
            context: format!(
                "failed to terminate execution: {} with err",
                text::prototext(&execution.id.to_proto())
            ),
            source: error.into(),
        })?;
    match deletion {
        Deletion::Accepted => Ok(()),
        Deletion::Absent => finish_aborting(service, &execution.id).await,
    }
}

/// Makes an ABORTING execution ABORTED; one in any other phase stays as it is.
async fn finish_aborting(service: &Service, id: &ExecutionId) -> Result<()> {
    let now = service.clock.now();
    let ended = service
        .database
        .write((id.clone(), now), |(id, now), tx| {
            Box::pin(async move {
                let Some(mut execution) = executions::lock(tx, id).await? else {
                    return Ok(None);
                };
                if execution.phase != WorkflowPhase::Aborting {
                    return Ok(None);
                }
                execution.phase = WorkflowPhase::Aborted;
                execution.updated_at = Some(*now);
                if let Some(start) = execution.started_at {
                    execution.duration = time::nanoseconds_between(start, *now);
                }
                let duration = execution.started_at.map(|_start| execution.duration);
                execution.closure.update(|closure| {
                    closure.phase = Phase::Aborted as i32;
                    closure.updated_at = Some(time::to_wire(*now));
                    closure.duration = duration.map(time::duration_to_wire);
                });
                executions::update(tx, &execution, *now).await?;
                Ok::<_, Error>(Some(execution.created_at))
            })
        })
        .await?;
    if let Some(created) = ended {
        let counts = &service.counts().executions;
        let phase = WorkflowPhase::Aborted;
        counts.ended(id, (phase.name(), ""), created, Some(now));
    }
    Ok(())
}
