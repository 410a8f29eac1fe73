//! What a workflow event does to an execution (spec 01 §13.1).

use flyte_idl::{
    admin::{self, execution_closure},
    event::{WorkflowExecutionEvent, workflow_execution_event::OutputResult},
    text,
};

use super::{DEFAULT_PRODUCER, check_cluster};
use crate::{
    error::{Error, Result},
    records::{ErrorKind, Execution, WorkflowPhase},
    time,
};

/// Whether the stored execution accepts `event`.
///
/// # Errors
/// ALREADY_EXISTS for a phase that is recorded, FAILED_PRECONDITION for a transition that the table of
/// spec 01 §13.1 forbids or a foreign cluster.
pub fn check(execution: &Execution, event: &WorkflowExecutionEvent) -> Result<()> {
    let stored = &execution.phase;
    let next = WorkflowPhase::from(event.phase);
    let id = || text::prototext(&execution.id.to_proto());
    if next != WorkflowPhase::Queued {
        if *stored == next {
            return Err(Error::PhaseRecorded(format!(
                "This phase {next} was already recorded for workflow execution {}",
                id()
            )));
        }
        check_cluster(&execution.cluster, &event.producer_id)?;
    }
    if stored.is_terminal() {
        let message = format!(
            "Invalid phase change from {stored} to {next} for workflow execution {}",
            id()
        );
        return Err(Error::Terminal {
            message,
            phase: stored.to_string(),
        });
    }
    if *stored == WorkflowPhase::Running && next == WorkflowPhase::Queued {
        return Err(Error::Precondition(format!(
            "Cannot go from RUNNING to QUEUED for workflow execution {}",
            id()
        )));
    }
    if *stored == WorkflowPhase::Aborting && !next.is_terminal() {
        return Err(Error::Precondition(format!(
            "Invalid phase change from aborting to {next} for workflow execution {}",
            id()
        )));
    }
    if time::from_wire(event.occurred_at.as_ref()).is_none() {
        return Err(Error::missing("occurred_at"));
    }
    Ok(())
}

/// Changes the execution as `event` says.
///
/// # Errors
/// Those of [`check`].
pub fn apply(execution: &mut Execution, event: &WorkflowExecutionEvent) -> Result<()> {
    check(execution, event)?;
    let Some(occurred) = time::from_wire(event.occurred_at.as_ref()) else {
        return Err(Error::missing("occurred_at"));
    };
    execution.phase = WorkflowPhase::from(event.phase);
    execution.updated_at = Some(occurred);
    let terminal = execution.phase.is_terminal();
    let running = execution.phase == WorkflowPhase::Running;
    if running {
        execution.started_at = Some(occurred);
    }
    if let (true, Some(start)) = (terminal, execution.started_at) {
        execution.duration = time::nanoseconds_between(start, occurred);
    }
    reassign(execution, event);
    if let Some(OutputResult::Error(error)) = &event.output_result {
        execution.error_kind = Some(ErrorKind::from(error.kind));
        execution.error_code = Some(error.code.clone());
    }
    let (started, duration) = (execution.started_at, execution.duration);
    execution.closure.update(|closure| {
        closure.phase = event.phase;
        closure.updated_at = Some(time::to_wire(occurred));
        if running {
            closure.started_at = Some(time::to_wire(occurred));
        }
        if terminal && started.is_some() {
            closure.duration = Some(time::duration_to_wire(duration));
        }
        if let Some(output) = &event.output_result {
            closure.output_result = Some(output_result(output));
        }
    });
    Ok(())
}

/// A queued event of a named cluster moves the execution there (spec 03 §3.4).
fn reassign(execution: &mut Execution, event: &WorkflowExecutionEvent) {
    let producer = event.producer_id.as_str();
    let early = matches!(
        execution.phase,
        WorkflowPhase::Undefined | WorkflowPhase::Queued
    );
    if !early || producer.is_empty() || producer == DEFAULT_PRODUCER {
        return;
    }
    producer.clone_into(&mut execution.cluster);
    execution.spec.update(|spec| {
        let metadata = spec.metadata.get_or_insert_default();
        let system = metadata.system_metadata.get_or_insert_default();
        producer.clone_into(&mut system.execution_cluster);
    });
}

fn output_result(output: &OutputResult) -> execution_closure::OutputResult {
    use admin::literal_map_blob::Data;
    let outputs =
        |data| execution_closure::OutputResult::Outputs(admin::LiteralMapBlob { data: Some(data) });
    match output {
        OutputResult::OutputUri(uri) => outputs(Data::Uri(uri.clone())),
        OutputResult::OutputData(data) => execution_closure::OutputResult::OutputData(data.clone()),
        OutputResult::Error(error) => execution_closure::OutputResult::Error(error.clone()),
    }
}
