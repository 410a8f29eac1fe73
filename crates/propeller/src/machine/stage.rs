//! The stages of a workflow, and its ends; how it goes through them is in `lifecycle` and `workflow_end`.

use flyte_crd::{FlyteWorkflow, TERMINATION_LABEL};
use flyte_idl::core::ExecutionError;

use crate::cleanup::leftovers::Clearance;

/// What the workflow itself is waiting for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// The inputs to be written.
    Beginning,
    /// RUNNING to be acknowledged.
    Announcing,
    /// Nodes.
    Running,
    /// FAILING to be acknowledged, because of this.
    AnnouncingFailure(ExecutionError),
    /// Active nodes to be aborted and the failure node to end.
    Failing,
    /// The resource is being deleted; active nodes are being aborted.
    Aborting,
    /// What would be left behind to be found, before this end.
    FindingLeftovers(End),
    /// What was found to be ended, before this end.
    ClearingLeftovers(End, Clearance),
    /// The last event to be acknowledged.
    Ending(End),
    /// Nothing.
    Over,
}

/// How a workflow ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// With outputs.
    Succeeded,
    /// Because of this.
    Failed(ExecutionError),
    /// Its resource is being deleted.
    Aborted,
    /// Admin has its end from somebody else, so that there is none to send.
    EndedElsewhere,
}

/// Whether a resource says that its end was told: the label that is written after admin has acknowledged the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndMark {
    /// Nobody waits for its end.
    Told,
    /// It has not ended, or nobody knows whether admin has its end: phase and label are written at once (spec 04 §2.7), so
    /// somebody else has changed one of them.
    Missing,
}

impl EndMark {
    /// What a resource says.
    pub fn of(resource: &FlyteWorkflow) -> Self {
        let labels = resource.metadata.labels.as_ref();
        if labels.is_some_and(|labels| labels.contains_key(TERMINATION_LABEL)) {
            Self::Told
        } else {
            Self::Missing
        }
    }
}
