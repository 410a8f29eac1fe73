//! How nodes end: events, and what is left of their status.

use flyte_crd::{NodeKind, NodePhase, NodeStatus, Proto, Time};
use flyte_idl::core::{
    ExecutionError, execution_error::ErrorKind, node_execution::Phase as EventPhase,
    task_execution::Phase as TaskEventPhase,
};
use jiff::Timestamp;

use super::{Change, NodeView, Step, Then, array, dynamic, identity, task};
use crate::events::{self, Event, NodeDetails};

/// The event and status of a node that cannot go on, for a reason outside its own decisions.
pub fn fail(view: &NodeView<'_>, error: ExecutionError, now: Timestamp) -> Change {
    let (mut before, mut delete_pod) = (Vec::new(), None);
    if runs_task(view) {
        (before, delete_pod) = task::abort(view, now);
    }
    let mut change = failure(view, NodeDetails::default(), error, now).deleting(delete_pod);
    change.events.splice(..0, before);
    change
}

/// Whether an attempt of its task may be under way, and not what it has made.
fn runs_task(view: &NodeView<'_>) -> bool {
    view.spec.kind == NodeKind::Task && !dynamic::has_begun(view.status)
}

/// The last event of a node that failed, with what else it says, and what is left of its status.
pub(super) fn failure(
    view: &NodeView<'_>,
    details: NodeDetails,
    error: ExecutionError,
    now: Timestamp,
) -> Change {
    let details = NodeDetails {
        error: Some(error.clone()),
        ..details
    };
    let event = events::node(&identity(view), EventPhase::Failed, now, details);
    let mut status = ended(view.status, NodePhase::Failed, now);
    status.error = Some(Proto(error));
    Change::new(vec![event], status)
}

/// The event and status of a node that will not run.
pub fn skip(view: &NodeView<'_>, now: Timestamp) -> Change {
    let details = NodeDetails::default();
    let event = events::node(&identity(view), EventPhase::Skipped, now, details);
    Change::new(vec![event], ended(view.status, NodePhase::Skipped, now))
}

/// The events of a node that is terminated; its status stays, for it goes on when the workflow does.
pub fn abort(view: &NodeView<'_>, reason: &str, now: Timestamp) -> Change {
    let mut events = Vec::new();
    let mut delete_pod = None;
    if runs_task(view) {
        (events, delete_pod) = task::abort(view, now);
    }
    events.extend(array::last_event(view, TaskEventPhase::Aborted, now));
    let identity = identity(view);
    events.push(events::node_aborted(
        identity.id(),
        identity.target.clone(),
        identity.producer,
        reason,
        now,
    ));
    Change {
        derivable: true,
        ..Change::new(events, view.status.clone())
            .then(Then::Aborted)
            .deleting(delete_pod)
    }
}

/// The status of a node that has ended (spec 04 §6.7).
pub(super) fn ended(status: &NodeStatus, phase: NodePhase, now: Timestamp) -> NodeStatus {
    NodeStatus {
        phase,
        stopped_at: Some(Time::new(now)),
        attempts: status.attempts,
        system_failures: status.system_failures,
        parent_node: status.parent_node.clone(),
        error: status.error.clone(),
        ..NodeStatus::default()
    }
}

/// A node that failed for good; `before` are events of its task.
pub(super) fn failed(
    view: &NodeView<'_>,
    error: ExecutionError,
    before: Vec<Event>,
    now: Timestamp,
) -> Step {
    match failed_with(view, NodeDetails::default(), error, now) {
        Step::Change(mut change) => {
            change.events.splice(..0, before);
            Step::Change(change)
        }
        other @ (Step::Wait(_) | Step::Do(_)) => other,
    }
}

/// A node that failed for good; its last event has these details too.
pub(super) fn failed_with(
    view: &NodeView<'_>,
    details: NodeDetails,
    error: ExecutionError,
    now: Timestamp,
) -> Step {
    let is_system = error.kind() == ErrorKind::System;
    let mut change = failure(view, details, error, now);
    change.status.system_failures += u32::from(is_system);
    change.step()
}

/// A node that succeeded.
pub(super) fn succeeded(
    view: &NodeView<'_>,
    details: NodeDetails,
    before: Vec<Event>,
    now: Timestamp,
) -> Step {
    let mut events = before;
    events.push(events::node(
        &identity(view),
        EventPhase::Succeeded,
        now,
        details,
    ));
    Change::new(events, ended(view.status, NodePhase::Succeeded, now)).step()
}
