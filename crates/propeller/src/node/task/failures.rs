//! Attempts that fail, take too long or must end.

use flyte_crd::{NodePhase, NodeStatus, Proto, Time, status::TaskPhase};
use flyte_idl::core::{
    ExecutionError, execution_error::ErrorKind, node_execution::Phase as EventPhase,
};
use flyte_plugins::{PhaseInfo, TaskInfo};
use jiff::Timestamp;

use super::Attempt;
use crate::{
    events::{self, Event},
    node::{
        Change, NodeView, Step, Then, attempts_left, ended,
        endings::failure,
        failure::{Deadline, deadline},
        identity, short,
    },
};

/// An attempt failed: another one, or the end.
pub(super) fn attempt_failed(attempt: &Attempt<'_>, info: PhaseInfo, now: Timestamp) -> Step {
    let error = info.error.clone().unwrap_or_default();
    let events = vec![attempt.event(&info, now)];
    let delete_pod = info.clean_up.then(|| attempt.pod_name());
    let retryable = info.phase == TaskPhase::RetryableFailure;
    after_failure(
        attempt,
        error,
        retryable,
        Aftermath { events, delete_pod },
        now,
    )
}

struct Aftermath {
    events: Vec<Event>,
    delete_pod: Option<String>,
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
    let Aftermath { events, delete_pod } = aftermath;
    if retryable && attempts.left {
        let status = next_attempt(view.status, error, now);
        return Step::Change(Box::new(Change {
            events,
            status,
            derivable: false,
            then: Then::Nothing,
            delete_pod,
            told: None,
        }));
    }
    let error = if retryable {
        attempts.exhausted(&error)
    } else {
        error
    };
    let mut change = failure(view, attempt.details(), error, now);
    change.events.splice(..0, events);
    change.delete_pod = delete_pod;
    Step::Change(Box::new(change))
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

/// Go stored that another attempt is to be made.
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
    Step::Change(Box::new(Change {
        events: Vec::new(),
        status,
        derivable: false,
        then: Then::Nothing,
        delete_pod: None,
        told: None,
    }))
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
            let text =
                flyte_core::duration::format(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX));
            let error = ExecutionError {
                code: "TimeoutExpired".into(),
                message: format!("task execution timeout [{text}] expired"),
                kind: ErrorKind::User.into(),
                ..ExecutionError::default()
            };
            let (events, delete_pod) = abort(view, false, now);
            after_failure(attempt, error, true, Aftermath { events, delete_pod }, now)
        }
        Deadline::NodeOver(_) => {
            let (mut events, delete_pod) = abort(view, false, now);
            events.push(events::node(
                &identity(view),
                EventPhase::TimedOut,
                now,
                attempt.details(),
            ));
            let status = ended(view.status, NodePhase::TimedOut, now);
            Step::Change(Box::new(Change {
                events,
                status,
                derivable: false,
                then: Then::Nothing,
                delete_pod,
                told: None,
            }))
        }
    }
}

/// What ends the attempt under way: its last event, and the pod to delete.
pub(in crate::node) fn abort(
    view: &NodeView<'_>,
    pod_exists: bool,
    now: Timestamp,
) -> (Vec<Event>, Option<String>) {
    let launched = view
        .status
        .task_node_status
        .as_ref()
        .is_some_and(|task| !task.phase.is_terminal());
    // What the cluster says of a pod that is not wanted any more is of no use to anybody.
    let view = NodeView {
        object_events: &[],
        ..*view
    };
    let (Ok(attempt), true) = (Attempt::of(view), launched || pod_exists) else {
        return (Vec::new(), None);
    };
    let info = PhaseInfo::new(TaskPhase::Aborted, 0, "", TaskInfo::default());
    (vec![attempt.event(&info, now)], Some(attempt.pod_name()))
}
