//! `node:` what happens to nodes.

use std::time::Duration;

use flyte_crd::{NodePhase, status::TaskPhase};
use flyte_idl::core::execution_error::ErrorKind;
use flyte_platform::metrics::{
    LabelledCounter, LabelledStopWatch, Labels, MetricError, Scope, Unit, Unlabelled,
};

use super::between;
use crate::machine::NodeChanged;

/// `node:`
#[derive(Debug)]
pub struct NodeMetrics {
    success: LabelledStopWatch,
    failure: LabelledStopWatch,
    user_error: LabelledStopWatch,
    system_error: LabelledStopWatch,
    unknown_error: LabelledStopWatch,
    permanent_user_error: LabelledStopWatch,
    permanent_system_error: LabelledStopWatch,
    permanent_unknown_error: LabelledStopWatch,
    transition: LabelledStopWatch,
    queueing: LabelledStopWatch,
    parallelism_wait: LabelledStopWatch,
    execution: LabelledStopWatch,
    inputs: LabelledStopWatch,
    inputs_not_resolved: LabelledCounter,
    inputs_not_written: LabelledCounter,
    timed_out: LabelledCounter,
    interruptible_running: LabelledCounter,
    interruptible_ended: LabelledCounter,
    interrupted_threshold: LabelledCounter,
}

impl NodeMetrics {
    pub(super) fn register(scope: &Scope) -> Result<Self, MetricError> {
        let of = |name, help, unit| scope.labelled_stop_watch(name, help, unit, Unlabelled::Emit);
        let milliseconds = |name, help| of(name, help, Unit::Milliseconds);
        let counter = |name, help| scope.labelled_counter(name, help, Unlabelled::Omit);
        Ok(Self {
            success: milliseconds("success_duration", "Nodes that succeeded.")?,
            failure: milliseconds("failure_duration", "Nodes that failed.")?,
            user_error: milliseconds(
                "user_error_duration",
                "Attempts that failed by their own fault.",
            )?,
            system_error: milliseconds("system_error_duration", "Attempts lost to the system.")?,
            unknown_error: milliseconds(
                "unknown_error_duration",
                "Attempts that failed for whatever reason.",
            )?,
            permanent_user_error: milliseconds(
                "perma_user_error_duration",
                "Last attempts that failed by their own fault.",
            )?,
            permanent_system_error: milliseconds(
                "perma_system_error_duration",
                "Last attempts lost to the system.",
            )?,
            permanent_unknown_error: milliseconds(
                "perma_unknown_error_duration",
                "Last attempts that failed for whatever reason.",
            )?,
            transition: milliseconds(
                "transition_latency",
                "From the end of what comes before a node until it is queued.",
            )?,
            queueing: milliseconds("queueing_latency", "From being queued until a node runs.")?,
            parallelism_wait: milliseconds(
                "parallelism_wait_latency",
                "From the end of what comes before a node until others leave it room.",
            )?,
            execution: of(
                "node_exec_latency",
                "One piece of work or news of a node: blobs, pods, admin.",
                Unit::Microseconds,
            )?,
            inputs: milliseconds("node_input_latency", "Gathering inputs.")?,
            inputs_not_resolved: counter(
                "input_resolve_fail",
                "Inputs that could not be resolved.",
            )?,
            inputs_not_written: counter("inputs_write_fail", "Inputs that could not be written.")?,
            timed_out: counter("timeout_fail", "Nodes that took too long.")?,
            interruptible_running: counter(
                "interruptible_nodes_running",
                "Nodes that began and may be interrupted.",
            )?,
            interruptible_ended: counter(
                "interruptible_nodes_terminated",
                "Nodes that ended and might have been interrupted.",
            )?,
            interrupted_threshold: counter(
                "interrupted_threshold",
                "Nodes that were interrupted too often to be interrupted once more.",
            )?,
        })
    }

    /// A node is not what it was before.
    pub(crate) fn changed(&self, labels: &Labels<'_>, node: &NodeChanged) {
        let since = |start: Option<_>| start.map(|start| between(start, node.at));
        let observe = |watch: &LabelledStopWatch, time: Option<Duration>| {
            if let Some(time) = time {
                watch.observe(labels, time);
            }
        };
        if node.from == NodePhase::NotYetStarted && node.to == NodePhase::Queued {
            observe(&self.transition, since(node.upstream_ended_at));
            if node.waited_for_others {
                observe(&self.parallelism_wait, since(node.upstream_ended_at));
            }
            if node.interruptible {
                self.interruptible_running.inc(labels);
            }
        }
        if node.from == NodePhase::Queued && node.to == NodePhase::Running {
            observe(&self.queueing, since(node.queued_at));
        }
        if let Some(kind) = node.error {
            let time = since(node.attempt_started_at).unwrap_or_default();
            let (any, last) = match kind {
                ErrorKind::User => (&self.user_error, &self.permanent_user_error),
                ErrorKind::System => (&self.system_error, &self.permanent_system_error),
                ErrorKind::Unknown => (&self.unknown_error, &self.permanent_unknown_error),
            };
            any.observe(labels, time);
            if node.to == NodePhase::Failed {
                last.observe(labels, time);
            }
        }
        if node.no_longer_interruptible {
            self.interrupted_threshold.inc(labels);
        }
        let ended = match node.to {
            NodePhase::Succeeded => Some(&self.success),
            NodePhase::Failed => Some(&self.failure),
            _ => None,
        };
        let is_end = node.from != node.to;
        if let Some(watch) = ended.filter(|_| is_end) {
            watch.observe(labels, since(node.started_at).unwrap_or_default());
        }
        if node.to == NodePhase::TimedOut && is_end {
            self.timed_out.inc(labels);
        }
        if is_end && node.interruptible && (ended.is_some() || node.to == NodePhase::TimedOut) {
            self.interruptible_ended.inc(labels);
        }
    }

    /// A piece of a node's work took this long.
    pub(crate) fn worked(&self, labels: &Labels<'_>, time: Duration) {
        self.execution.observe(labels, time);
    }

    /// Gathering inputs took this long.
    pub(crate) fn gathered(&self, labels: &Labels<'_>, time: Duration, gathered: Gathered) {
        self.inputs.observe(labels, time);
        match gathered {
            Gathered::All => {}
            Gathered::NotResolved => self.inputs_not_resolved.inc(labels),
            Gathered::NotWritten => self.inputs_not_written.inc(labels),
        }
    }
}

/// What became of a node's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    All,
    NotResolved,
    NotWritten,
}

/// Whether a task goes from one of these phases to one of those.
pub(super) fn goes(change: (TaskPhase, TaskPhase), from: TaskPhase, to: &[TaskPhase]) -> bool {
    change.0 == from && to.contains(&change.1)
}
