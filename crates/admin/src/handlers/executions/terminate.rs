//! Terminating executions (spec 01 §12.9), and the end of those whose resource is gone.

use flyte_core::identifiers::ExecutionId;
use flyte_idl::{admin, text};

use crate::{
    caller::{Action, Caller},
    context::AdminContext,
    domain::{events::not_found, executions::transitions, ids::execution_scope},
    error::{Error, Result},
    metrics::ExecutionEnd,
    records::{Execution, WorkflowPhase},
    repository::executions,
    targets::{self, Deletion},
};

pub(crate) async fn terminate(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ExecutionTerminateRequest,
) -> Result<admin::ExecutionTerminateResponse> {
    let id = ExecutionId::from_proto(request.id.as_ref())?;
    context.allow(caller, Action::Execute, execution_scope(&id))?;
    let now = context.clock.now();
    let abort = admin::AbortMetadata {
        cause: request.cause,
        principal: caller.user.clone(),
    };
    let execution = context
        .database
        .write((id, abort, now), |(id, abort, now), tx| {
            Box::pin(async move {
                let mut execution = executions::lock(tx, id)
                    .await?
                    .ok_or_else(|| not_found::execution(id))?;
                transitions::abort(&mut execution, abort)?;
                executions::update(tx, &execution, *now).await?;
                Ok::<_, Error>(execution)
            })
        })
        .await?;
    end_resource(context, &execution)
        .await
        .inspect_err(|_error| context.metrics().executions.termination_failures.inc())?;
    Ok(admin::ExecutionTerminateResponse {})
}

/// Where the resource of an execution is: the stored namespace, or for old rows the computed one.
pub(crate) fn namespace(context: &AdminContext, execution: &Execution) -> String {
    let stored = execution
        .spec
        .get()
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.system_metadata.as_ref())
        .map(|system| system.namespace.clone())
        .unwrap_or_default();
    if stored.is_empty() {
        context
            .config()
            .namespace_mapping
            .namespace(execution.id.project.as_str(), execution.id.domain.as_str())
    } else {
        stored
    }
}

/// Deletes the resource of an ABORTING execution. Without one nobody else would end the execution, so it
/// ends here (spec 01 §24 no. 20).
pub(crate) async fn end_resource(context: &AdminContext, execution: &Execution) -> Result<()> {
    let target = context.targets.stored(&execution.cluster)?;
    let namespace = namespace(context, execution);
    let deletion = target
        .delete(&namespace, &execution.id)
        .await
        .map_err(|error| {
            let id = text::prototext(&execution.id.to_proto());
            let context = format!("failed to terminate execution: {id} with err");
            targets::failed(context, error)
        })?;
    match deletion {
        Deletion::Accepted => Ok(()),
        Deletion::Absent => finish_aborting(context, &execution.id).await,
    }
}

/// Makes an ABORTING execution ABORTED; one in any other phase stays as it is.
async fn finish_aborting(context: &AdminContext, id: &ExecutionId) -> Result<()> {
    let now = context.clock.now();
    let ended = context
        .database
        .write((id.clone(), now), |(id, now), tx| {
            Box::pin(async move {
                let Some(mut execution) = executions::lock(tx, id).await? else {
                    return Ok(None);
                };
                if !transitions::finish_abort(&mut execution, *now) {
                    return Ok(None);
                }
                executions::update(tx, &execution, *now).await?;
                Ok::<_, Error>(Some(execution.created_at))
            })
        })
        .await?;
    if let Some(created) = ended {
        let metrics = &context.metrics().executions;
        let end = ExecutionEnd {
            phase: WorkflowPhase::Aborted.name(),
            error_kind: "",
            created,
            ended: Some(now),
        };
        metrics.ended(id, &end);
    }
    Ok(())
}
