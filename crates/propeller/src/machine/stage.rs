//! The stages of a workflow, and its ends; how it goes through them is in `lifecycle` and `workflow_end`.

use flyte_idl::core::ExecutionError;

use crate::events::Event;

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
    /// Its end, told by these events, to be acknowledged, before this end.
    ClearingLeftovers(End, Vec<Event>),
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
