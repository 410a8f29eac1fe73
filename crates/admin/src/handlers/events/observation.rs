//! What an event adds to the metrics once it is recorded (spec 07 §3.2).
//!
//! It is observed before the payloads of the event go to the blob store, and counted after the commit.

use flyte_platform::metrics::Labels;
use jiff::Timestamp;

use crate::metrics::StepMetrics;

/// What an event did to the row of a node or an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowChange {
    /// It was the first: there is a row now.
    Created {
        /// Bytes of the encoded closure.
        closure_bytes: usize,
    },
    /// It changed a row.
    Updated,
}

/// Where the event's phase is in the life of what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It begins to run.
    Begins,
    /// The phase is terminal: what ran runs no more.
    Ends,
    /// The phase is neither the first that runs nor terminal.
    Between,
}

impl Stage {
    pub(super) fn of(is_terminal: bool, is_running: bool) -> Self {
        match (is_terminal, is_running) {
            (true, _) => Self::Ends,
            (false, true) => Self::Begins,
            (false, false) => Self::Between,
        }
    }
}

/// What metrics need of an event.
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) stage: Stage,
    /// Name of the phase.
    pub(super) phase: String,
    /// The event's own time.
    pub(super) occurred_at: Option<Timestamp>,
    /// Name of the kind of an execution's error; empty without one.
    pub(super) error_kind: &'static str,
    /// Bytes of outputs that the event carries inline.
    pub(super) output_bytes: Option<usize>,
}

impl Observation {
    /// Counts an event of a node or an attempt.
    pub(super) fn count_step(&self, metrics: &StepMetrics, labels: Labels<'_>, change: RowChange) {
        metrics.event();
        if let RowChange::Created { closure_bytes } = change {
            metrics.created(closure_bytes);
        }
        match self.stage {
            Stage::Begins => metrics.running(),
            Stage::Ends => {
                metrics.ended(&Labels {
                    phase: &self.phase,
                    ..labels
                });
                if let Some(bytes) = self.output_bytes {
                    metrics.data.outputs(bytes);
                }
            }
            Stage::Between => {}
        }
    }
}
