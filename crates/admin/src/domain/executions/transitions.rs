//! What admin itself does to the record of an execution, besides what events do to it (spec 01 §12.8-12.10).

use flyte_idl::{
    admin::{self, execution_closure::OutputResult},
    core::{ExecutionError, workflow_execution::Phase},
};
use jiff::Timestamp;

use crate::{
    error::{Error, Result},
    records::{Execution, WorkflowPhase},
    time,
};

/// Archives an execution or takes it back.
pub(crate) fn set_state(execution: &mut Execution, details: &admin::ExecutionStateChangeDetails) {
    execution.state = details.state.into();
    execution
        .closure
        .update(|closure| closure.state_change_details = Some(details.clone()));
}

/// Makes an execution ABORTING: its resource is to be deleted.
///
/// # Errors
/// [`Error::Terminal`] for one that has ended.
pub(crate) fn abort(execution: &mut Execution, abort: &admin::AbortMetadata) -> Result<()> {
    if execution.phase.is_terminal() {
        return Err(Error::Terminal {
            message: "Cannot abort an already terminated workflow execution".to_owned(),
            phase: execution.phase.to_string(),
        });
    }
    execution.phase = WorkflowPhase::Aborting;
    execution.abort_cause.clone_from(&abort.cause);
    execution.closure.update(|closure| {
        closure.phase = Phase::Aborting as i32;
        closure.output_result = Some(OutputResult::AbortMetadata(abort.clone()));
    });
    Ok(())
}

/// Makes an ABORTING execution ABORTED and says whether it was one.
pub(crate) fn finish_abort(execution: &mut Execution, now: Timestamp) -> bool {
    if execution.phase != WorkflowPhase::Aborting {
        return false;
    }
    execution.phase = WorkflowPhase::Aborted;
    execution.updated_at = Some(now);
    if let Some(start) = execution.started_at {
        execution.duration = time::nanoseconds_between(start, now);
    }
    let duration = execution.started_at.map(|_start| execution.duration);
    execution.closure.update(|closure| {
        closure.phase = Phase::Aborted as i32;
        closure.updated_at = Some(time::to_wire(now));
        closure.duration = duration.map(time::duration_to_wire);
    });
    true
}

/// Makes an execution FAILED that the engine has never seen, and says whether it was one. It runs on no cluster then.
pub(crate) fn fail_launch(
    execution: &mut Execution,
    error: &ExecutionError,
    now: Timestamp,
) -> bool {
    if execution.phase != WorkflowPhase::Undefined {
        return false;
    }
    execution.phase = WorkflowPhase::Failed;
    execution.cluster = String::new();
    execution.updated_at = Some(now);
    execution.error_code = Some(error.code.clone());
    execution.error_kind = Some(error.kind.into());
    execution.closure.update(|closure| {
        closure.phase = Phase::Failed as i32;
        closure.updated_at = Some(time::to_wire(now));
        closure.output_result = Some(OutputResult::Error(error.clone()));
    });
    execution.spec.update(|spec| {
        if let Some(metadata) = &mut spec.metadata
            && let Some(system) = &mut metadata.system_metadata
        {
            system.execution_cluster = String::new();
        }
    });
    true
}

#[cfg(test)]
mod tests {
    use flyte_core::identifiers::ExecutionId;

    use super::*;

    fn execution(phase: WorkflowPhase) -> Execution {
        Execution {
            phase,
            ..Execution::new(ExecutionId::new("p", "d", "e").unwrap())
        }
    }

    #[test]
    fn each_phase_allows_what_the_table_says() {
        use WorkflowPhase::{
            Aborted, Aborting, Failed, Queued, Running, Succeeded, TimedOut, Undefined,
        };
        let unknown = WorkflowPhase::Unknown("PAUSED".to_owned());
        for (phase, aborts, ends, fails) in [
            (Undefined, true, false, true),
            (Queued, true, false, false),
            (Running, true, false, false),
            (Aborting, true, true, false),
            (Aborted, false, false, false),
            (Failed, false, false, false),
            (Succeeded, false, false, false),
            (TimedOut, false, false, false),
            (unknown, true, false, false),
        ] {
            let record = || execution(phase.clone());
            let now = Timestamp::UNIX_EPOCH;
            let metadata = admin::AbortMetadata::default();
            assert_eq!(abort(&mut record(), &metadata).is_ok(), aborts, "{phase}");
            assert_eq!(finish_abort(&mut record(), now), ends, "{phase}");
            let error = ExecutionError::default();
            assert_eq!(fail_launch(&mut record(), &error, now), fails, "{phase}");
        }
    }

    #[test]
    fn an_aborted_execution_says_how_long_it_ran() {
        let mut record = execution(WorkflowPhase::Aborting);
        record.started_at = Some(Timestamp::UNIX_EPOCH);
        let end = Timestamp::from_second(3).unwrap();
        assert!(finish_abort(&mut record, end));
        assert_eq!(record.duration, 3_000_000_000);
        assert_eq!(
            record.closure.get().duration,
            Some(time::duration_to_wire(3_000_000_000))
        );
    }
}
