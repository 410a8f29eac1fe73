//! What an event adds to the counts once it is recorded (spec 07 §3.2).
//!
//! It is taken down before the payloads of the event go to the blob store, and counted after the commit.

use flyte_core::identifiers::{ExecutionId, NodeExecutionId, TaskExecutionId};
use flyte_idl::event::{
    NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent, node_execution_event,
    task_execution_event, workflow_execution_event,
};
use flyte_platform::metrics::Labels;
use jiff::Timestamp;
use prost::Message as _;

use crate::{
    metrics::{ExecutionMetrics, StepMetrics, of_node},
    records::{NodePhase, TaskPhase, WorkflowPhase},
    time,
};

/// What an event did to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// It was the first: there is a row with a closure of this many bytes.
    Created { closure: usize },
    /// It changed a row.
    Updated,
}

/// Where the event's phase is in the life of what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begins,
    Ends,
    /// Neither; of a task also a later version of a phase.
    Between,
}

impl Stage {
    fn of(is_terminal: bool, is_running: bool) -> Self {
        match (is_terminal, is_running) {
            (true, _) => Self::Ends,
            (false, true) => Self::Begins,
            (false, false) => Self::Between,
        }
    }
}

/// What is remembered of an event.
#[derive(Debug)]
pub(super) struct Told {
    stage: Stage,
    phase: String,
    occurred: Option<Timestamp>,
    error_kind: &'static str,
    /// Bytes of outputs that the event carries itself.
    outputs: Option<usize>,
}

impl Told {
    pub(super) fn of_workflow(event: &WorkflowExecutionEvent) -> Self {
        use workflow_execution_event::OutputResult;
        let phase = WorkflowPhase::from(event.phase);
        let (outputs, error_kind) = match &event.output_result {
            Some(OutputResult::OutputData(data)) => (Some(data.encoded_len()), ""),
            Some(OutputResult::Error(error)) => (None, error.kind().as_str_name()),
            Some(OutputResult::OutputUri(_)) | None => (None, ""),
        };
        Self {
            stage: Stage::of(phase.is_terminal(), phase == WorkflowPhase::Running),
            phase: phase.to_string(),
            occurred: time::from_wire(event.occurred_at.as_ref()),
            error_kind,
            outputs,
        }
    }

    pub(super) fn of_node(event: &NodeExecutionEvent) -> Self {
        use node_execution_event::OutputResult;
        let phase = NodePhase::from(event.phase);
        Self {
            stage: Stage::of(phase.is_terminal(), phase == NodePhase::Running),
            phase: phase.to_string(),
            occurred: time::from_wire(event.occurred_at.as_ref()),
            error_kind: "",
            outputs: match &event.output_result {
                Some(OutputResult::OutputData(data)) => Some(data.encoded_len()),
                _ => None,
            },
        }
    }

    pub(super) fn of_task(event: &TaskExecutionEvent) -> Self {
        use task_execution_event::OutputResult;
        let phase = TaskPhase::from(event.phase);
        Self {
            stage: if event.phase_version == 0 {
                Stage::of(phase.is_terminal(), phase == TaskPhase::Running)
            } else {
                Stage::Between
            },
            phase: phase.to_string(),
            occurred: time::from_wire(event.occurred_at.as_ref()),
            error_kind: "",
            outputs: match &event.output_result {
                Some(OutputResult::OutputData(data)) => Some(data.encoded_len()),
                _ => None,
            },
        }
    }

    /// The execution counts as active since it was created.
    pub(super) fn count_workflow(
        &self,
        counts: &ExecutionMetrics,
        id: &ExecutionId,
        created: Option<Timestamp>,
    ) {
        counts.event();
        if self.stage == Stage::Ends {
            let outcome = (self.phase.as_str(), self.error_kind);
            counts.ended(id, outcome, created, self.occurred);
            if let Some(bytes) = self.outputs {
                counts.data.outputs(bytes);
            }
        }
    }

    pub(super) fn count_node(&self, counts: &StepMetrics, id: &NodeExecutionId, done: Recorded) {
        self.count_step(counts, of_node(id), done);
    }

    /// Label `task` has the attempt's number too, as Go's.
    pub(super) fn count_task(&self, counts: &StepMetrics, id: &TaskExecutionId, done: Recorded) {
        let task = format!("{}-{}", id.task.name, id.retry_attempt);
        let labels = Labels {
            task: &task,
            ..of_node(&id.node)
        };
        self.count_step(counts, labels, done);
    }

    fn count_step(&self, counts: &StepMetrics, labels: Labels<'_>, done: Recorded) {
        counts.event();
        if let Recorded::Created { closure } = done {
            counts.created(closure);
        }
        match self.stage {
            Stage::Begins => counts.running(),
            Stage::Ends => {
                counts.ended(&Labels {
                    phase: &self.phase,
                    ..labels
                });
                if let Some(bytes) = self.outputs {
                    counts.data.outputs(bytes);
                }
            }
            Stage::Between => {}
        }
    }
}
