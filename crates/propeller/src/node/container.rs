//! Deadlines and attempts of nodes that have others inside (spec 04 §6.3): first what is inside ends, then the node.
//!
//! ```text
//! Running ── attempt too long, another left ──▶ RetryableFailure ─┐ what is inside
//!         ── attempt too long, none left ─────▶ Failing ──────────┤ is aborted ──▶ next attempt, Failed, TimedOut
//!         ── node too long ───────────────────▶ TimingOut ────────┘
//! ```

use flyte_crd::{NodePhase, NodeStatus, Proto, Time};
use flyte_idl::core::{ExecutionError, node_execution::Phase as EventPhase};
use jiff::Timestamp;

use super::{
    Change, Inside, NodeView, Step, Then, attempts_left, event,
    failure::{Deadline, deadline, execution_timeout},
    node_end::{ended, failure},
    short, user,
};
use crate::events::NodeDetails;

/// What `decide` says, unless the node has taken too long or is on its way out.
pub(super) fn within_deadlines(
    view: &NodeView<'_>,
    decide: impl FnOnce(&NodeView<'_>) -> Step,
    now: Timestamp,
) -> Step {
    if is_leaving(view.status) {
        return if view.inside == Inside::UnderWay {
            Step::Wait(None)
        } else {
            leave(view, now)
        };
    }
    let step = decide(view);
    // Looked at after the decision, and only if that is not the end (spec 04 §6.3).
    let goes_on = match &step {
        Step::Wait(_) => true,
        Step::Do(_) => view.is_retrying,
        Step::Change(_) => false,
    };
    if !goes_on {
        return step;
    }
    match (step, deadline(view, now)) {
        (Step::Wait(until), Deadline::Ahead(end)) => {
            Step::Wait([until, end].into_iter().flatten().min())
        }
        (_, Deadline::AttemptOver(length)) => {
            let error = execution_timeout(length);
            let attempts = attempts_left(view, error.kind());
            let (phase, error) = if attempts.left {
                (NodePhase::RetryableFailure, error)
            } else {
                (NodePhase::Failing, attempts.exhausted(&error))
            };
            leaving(view, phase, Some(error), now).step()
        }
        (_, Deadline::NodeOver(_)) => leaving(view, NodePhase::TimingOut, None, now).step(),
        (step, Deadline::Ahead(_)) => step,
    }
}

/// Whether the node will leave its attempt as soon as what is inside has ended.
pub(crate) fn is_leaving(status: &NodeStatus) -> bool {
    matches!(
        status.phase,
        NodePhase::Failing | NodePhase::TimingOut | NodePhase::RetryableFailure
    )
}

/// The node will leave its attempt as soon as what is inside has ended.
pub(super) fn leaving(
    view: &NodeView<'_>,
    phase: NodePhase,
    error: Option<ExecutionError>,
    now: Timestamp,
) -> Change {
    let mut status = view.status.clone();
    status.phase = phase;
    status.last_updated_at = Some(Time::new(now));
    if let Some(error) = error {
        status.message = short(&error.message);
        status.error = Some(Proto(error));
    }
    Change::new(Vec::new(), status).then(Then::AbortInside)
}

/// Nothing is left inside.
fn leave(view: &NodeView<'_>, now: Timestamp) -> Step {
    match view.status.phase {
        NodePhase::RetryableFailure => {
            Change::new(Vec::new(), next_attempt(view.status, now)).step()
        }
        NodePhase::TimingOut => {
            let events = vec![event(view, EventPhase::TimedOut, now)];
            Change::new(events, ended(view.status, NodePhase::TimedOut, now)).step()
        }
        _ => {
            let error = view.status.error.as_ref().map_or_else(
                || {
                    user(
                        "UnknownError",
                        "the node failed; its error was not written down",
                    )
                },
                |error| error.0.clone(),
            );
            failure(view, NodeDetails::default(), error, now).step()
        }
    }
}

fn next_attempt(status: &NodeStatus, now: Timestamp) -> NodeStatus {
    NodeStatus {
        phase: NodePhase::Running,
        attempts: status.attempts + 1,
        message: "retrying".into(),
        last_attempt_started_at: Some(Time::new(now)),
        last_updated_at: Some(Time::new(now)),
        branch_status: None,
        task_node_status: None,
        sub_node_status: std::collections::BTreeMap::new(),
        workflow_node_status: None,
        dynamic_node_status: None,
        array_node_status: None,
        ..status.clone()
    }
}
