//! Retries, deadlines and interruptions (spec 04 §6.3-6.5).

use flyte_core::duration;
use flyte_idl::core::{
    ExecutionError, execution_error::ErrorKind, task_metadata::InterruptibleValue,
};
use jiff::{SignedDuration, Timestamp};

use super::{NodeView, template};
use crate::config::NodeConfig;

/// Attempts that a node has in all for failures of its own.
fn max_attempts(view: &NodeView<'_>) -> u32 {
    let default = view.workflow.settings.nodes().default_max_attempts;
    match view.spec.retry {
        Some(retry) if retry.min_attempts != 1 => retry.min_attempts,
        _ => default,
    }
}

/// Whether a failure of this kind gets another attempt, and how the last one is counted (`current/max`).
pub fn attempts_left(view: &NodeView<'_>, kind: ErrorKind) -> Attempts {
    let config: &NodeConfig = view.workflow.settings.nodes();
    let (attempts, failures) = (view.status.attempts, view.status.system_failures);
    let max = max_attempts(view);
    let current = attempts + 1;
    if config.ignore_retry_cause {
        return Attempts {
            left: current < max,
            current,
            max,
        };
    }
    if kind == ErrorKind::System {
        let max = config.max_node_retries_system_failures;
        return Attempts {
            left: failures < max,
            current: failures,
            max,
        };
    }
    let current = current.saturating_sub(failures);
    Attempts {
        left: current < max,
        current,
        max,
    }
}

/// How many attempts were made of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// Whether there is another.
    pub left: bool,
    /// How many were made.
    pub current: u32,
    /// Of how many.
    pub max: u32,
}

impl Attempts {
    /// The error of a node whose attempts are used up.
    pub(super) fn exhausted(self, error: &ExecutionError) -> ExecutionError {
        ExecutionError {
            code: format!("RetriesExhausted|{}", error.code),
            message: format!(
                "[{}/{}] currentAttempt done. Last Error: {}::{}",
                self.current,
                self.max,
                error.kind().as_str_name(),
                error.message
            ),
            error_uri: error.error_uri.clone(),
            kind: ErrorKind::User.into(),
            ..ExecutionError::default()
        }
    }
}

/// Whether this attempt may run on a machine that can be taken away (spec 04 §6.5). Nodes of workflows carry what their
/// tasks say; the node that is made for a task which is run alone does not.
pub fn is_interruptible(view: &NodeView<'_>) -> bool {
    let of_task = || {
        let metadata = template(view)?.metadata.as_ref()?;
        let InterruptibleValue::Interruptible(wanted) = metadata.interruptible_value?;
        Some(wanted)
    };
    let wanted = view
        .spec
        .interruptible
        .or(view.workflow.execution_config.interruptible)
        .or_else(of_task)
        .unwrap_or(view.workflow.interruptible);
    if !wanted {
        return false;
    }
    let config = view.workflow.settings.nodes();
    let (failures, max) = if config.ignore_retry_cause {
        if view.status.attempts == 0 {
            return true;
        }
        (view.status.attempts, max_attempts(view))
    } else {
        (
            view.status.system_failures,
            config.max_node_retries_system_failures + 1,
        )
    };
    let threshold = config.interruptible_failure_threshold;
    let limit = if threshold > 0 {
        threshold.unsigned_abs()
    } else {
        max.saturating_sub(threshold.unsigned_abs())
    };
    failures < limit
}

/// What is over or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// None, or the next one.
    Ahead(Option<Timestamp>),
    /// This attempt took too long.
    AttemptOver(SignedDuration),
    /// The node took too long, all attempts together.
    NodeOver(SignedDuration),
}

/// Where the node stands with respect to its deadlines.
pub(super) fn deadline(view: &NodeView<'_>, now: Timestamp) -> Deadline {
    let defaults = &view.workflow.settings.nodes().default_deadlines;
    let length = |text: &Option<String>, default: SignedDuration| {
        text.as_deref()
            .and_then(|text| duration::parse(text).ok())
            .filter(|nanoseconds| *nanoseconds > 0)
            .map_or(default, SignedDuration::from_nanos)
    };
    let active = length(
        &view.spec.active_deadline,
        defaults.node_active_deadline.to_signed(),
    );
    let attempt = length(
        &view.spec.execution_deadline,
        defaults.node_execution_deadline.to_signed(),
    );
    let end = |since: Option<flyte_crd::Time>, length: SignedDuration| {
        since
            .filter(|_| length > SignedDuration::ZERO)
            .and_then(|since| since.timestamp().checked_add(length).ok())
    };
    let node_end = end(view.status.queued_at, active);
    let attempt_end = end(view.status.last_attempt_started_at, attempt);
    if node_end.is_some_and(|end| end <= now) {
        return Deadline::NodeOver(active);
    }
    if attempt_end.is_some_and(|end| end <= now) {
        return Deadline::AttemptOver(attempt);
    }
    Deadline::Ahead([node_end, attempt_end].into_iter().flatten().min())
}

/// When the node is to be looked at again because it may have taken too long.
pub fn next_deadline(view: &NodeView<'_>, now: Timestamp) -> Option<Timestamp> {
    match deadline(view, now) {
        Deadline::Ahead(end) => end,
        Deadline::AttemptOver(_) | Deadline::NodeOver(_) => Some(now),
    }
}

/// An attempt that took longer than it may (spec 04 §6.3).
pub(super) fn execution_timeout(length: SignedDuration) -> ExecutionError {
    let text = duration::format(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX));
    ExecutionError {
        code: "TimeoutExpired".into(),
        message: format!("task execution timeout [{text}] expired"),
        kind: ErrorKind::User.into(),
        ..ExecutionError::default()
    }
}
