//! Attempts that fail, take too long or must end.

use flyte_crd::{NodePhase, NodeStatus, Proto, Time, status::TaskPhase};
use flyte_idl::core::{
    ExecutionError, execution_error::ErrorKind, node_execution::Phase as EventPhase,
};
use flyte_plugins::{PhaseInfo, TaskInfo};
use jiff::Timestamp;

use super::{Attempt, OBJECT_DELETED, OBJECT_MISSING};
use crate::{
    events::{self, Event},
    node::{
        Change, NodeView, Step, TaskView, attempts_left,
        failure::{Deadline, deadline, execution_timeout},
        identity,
        node_end::{ended, failed, failure},
        short,
    },
};

/// An attempt failed: another one, or the end.
pub(super) fn attempt_failed(attempt: &Attempt<'_>, info: PhaseInfo, now: Timestamp) -> Step {
    let error = info.error.clone().unwrap_or_default();
    let events = vec![attempt.event(&info, now)];
    let delete_pod = info.clean_up.then(|| attempt.pod_name());
    let lost_pod = [OBJECT_DELETED, OBJECT_MISSING].contains(&error.code.as_str());
    let retryable = info.phase == TaskPhase::RetryableFailure;
    let aftermath = Aftermath {
        events,
        delete_pod,
        lost_pod,
    };
    after_failure(attempt, error, retryable, aftermath, now)
}

struct Aftermath {
    events: Vec<Event>,
    delete_pod: Option<String>,
    lost_pod: bool,
}

fn after_failure(
    attempt: &Attempt<'_>,
    error: ExecutionError,
    retryable: bool,
    aftermath: Aftermath,
    now: Timestamp,
) -> Step {
    let view = &attempt.view;
    let attempts = attempts_left(view, error.kind());
    let Aftermath {
        events,
        delete_pod,
        lost_pod,
    } = aftermath;
    if retryable && attempts.left {
        let status = next_attempt(view.status, error, now);
        let mut change = Change::new(events, status).deleting(delete_pod);
        change.lost_pod = lost_pod;
        return change.step();
    }
    let error = if retryable {
        attempts.exhausted(&error)
    } else {
        error
    };
    let mut change = failure(view, attempt.details(), error, now);
    change.events.splice(..0, events);
    change.delete_pod = delete_pod;
    change.step()
}

/// The node's status when another attempt begins.
fn next_attempt(status: &NodeStatus, error: ExecutionError, now: Timestamp) -> NodeStatus {
    let mut status = status.clone();
    if error.kind() == ErrorKind::System {
        status.system_failures += 1;
    }
    status.phase = NodePhase::Running;
    status.attempts += 1;
    status.message = "retrying".into();
    status.last_attempt_started_at = Some(Time::new(now));
    status.last_updated_at = Some(Time::new(now));
    status.error = Some(Proto(error));
    status.task_node_status = None;
    status.dynamic_node_status = None;
    status
}

/// Another attempt is to be made, as Go stores it between two rounds; the pod of the last one may still run.
pub(super) fn retry(attempt: &Attempt<'_>, now: Timestamp) -> Step {
    let view = &attempt.view;
    let mut status = view.status.clone();
    status.phase = NodePhase::Running;
    status.attempts += 1;
    status.message = short("retrying");
    status.last_attempt_started_at = Some(Time::new(now));
    status.last_updated_at = Some(Time::new(now));
    status.task_node_status = None;
    status.dynamic_node_status = None;
    Change::new(Vec::new(), status)
        .deleting(pod_under_way(attempt))
        .step()
}

/// The node has failed or taken too long, as Go stores it between two rounds: its events are out, its pod may still
/// run.
pub(super) fn leave(attempt: &Attempt<'_>, now: Timestamp) -> Step {
    let view = &attempt.view;
    let phase = if view.status.phase == NodePhase::TimingOut {
        NodePhase::TimedOut
    } else {
        NodePhase::Failed
    };
    Change::new(Vec::new(), ended(view.status, phase, now))
        .deleting(pod_under_way(attempt))
        .step()
}

/// The pod of an attempt whose end no status tells.
fn pod_under_way(attempt: &Attempt<'_>) -> Option<String> {
    let known = attempt.view.status.task_node_status.as_ref();
    known
        .is_some_and(|task| !task.phase.is_terminal())
        .then(|| attempt.pod_name())
}

/// A node waits before its attempt, but no longer than it may take.
pub(in crate::node) fn wait(view: &NodeView<'_>, wake: Option<Timestamp>, now: Timestamp) -> Step {
    match Attempt::of(*view) {
        Ok(attempt) => within_deadlines(&attempt, wake, now),
        Err(error) => failed(view, *error, Vec::new(), now),
    }
}

/// Waits, but no longer than the node may take.
pub(super) fn within_deadlines(
    attempt: &Attempt<'_>,
    wake: Option<Timestamp>,
    now: Timestamp,
) -> Step {
    let view = &attempt.view;
    match deadline(view, now) {
        Deadline::Ahead(end) => Step::Wait([end, wake].into_iter().flatten().min()),
        Deadline::AttemptOver(length) => {
            let error = execution_timeout(length);
            let (events, delete_pod) = abort(view, now);
            let aftermath = Aftermath {
                events,
                delete_pod,
                lost_pod: false,
            };
            after_failure(attempt, error, true, aftermath, now)
        }
        Deadline::NodeOver(_) => {
            let (mut events, delete_pod) = abort(view, now);
            events.push(events::node(
                &identity(view),
                EventPhase::TimedOut,
                now,
                attempt.details(),
            ));
            let status = ended(view.status, NodePhase::TimedOut, now);
            Change::new(events, status).deleting(delete_pod).step()
        }
    }
}

/// What ends the attempt under way: its last event, and the pod to delete.
pub(in crate::node) fn abort(view: &NodeView<'_>, now: Timestamp) -> (Vec<Event>, Option<String>) {
    let is_launched = view
        .status
        .task_node_status
        .as_ref()
        .is_some_and(|task| !task.phase.is_terminal());
    let may_have_pod = is_launched || view.task.may_have_pod || view.task.pod.is_some();
    // What the cluster says of a pod that is not wanted any more is of no use to anybody.
    let view = NodeView {
        task: TaskView {
            object_events: &[],
            ..view.task
        },
        ..*view
    };
    let (Ok(attempt), true) = (Attempt::of(view), may_have_pod) else {
        return (Vec::new(), None);
    };
    let info = PhaseInfo::new(TaskPhase::Aborted, 0, "", TaskInfo::default());
    (vec![attempt.event(&info, now)], Some(attempt.pod_name()))
}
