//! What the engine counts, under Go's names (spec 04 §15, 07 §3.4).
//!
//! Go's terms, as far as they have a meaning here: a *round* lasts from a wake-up of a workflow until nothing is left
//! to do for it; what Go calls a streak is each look at the workflow within one; the *queue* holds workflows that were
//! woken and have not looked yet; a *worker* is the right to have one effect under way. Nothing here is proportional to
//! a graph: every number is changed by what happens.

mod cache;
mod node;
mod plugin;
mod queue;
mod recording;

use std::time::Duration;

use flyte_core::identifiers::ExecutionId;
use flyte_platform::metrics::{
    LabelledCounter, LabelledGauge, LabelledStopWatch, Labels, MetricError, Scope, StopWatch, Unit,
    Unlabelled,
};
use jiff::Timestamp;
use prometheus::{IntCounter, IntCounterVec, IntGauge};

use crate::node::{NodeView, WorkflowContext, task::Attempt};

pub use cache::CacheMetrics;
pub(crate) use node::Gathered;
pub use node::NodeMetrics;
pub use plugin::PluginMetrics;
pub(crate) use queue::Round;
pub use queue::{QueueMetrics, Waiting};
pub use recording::{Recording, RecordingMetrics};

/// All that one engine counts.
#[derive(Debug)]
pub struct EngineMetrics {
    pub(crate) round: RoundMetrics,
    pub(crate) store: StoreMetrics,
    pub(crate) workflow: WorkflowMetrics,
    pub(crate) node: NodeMetrics,
    pub(crate) plugin: PluginMetrics,
    pub(crate) cache: CacheMetrics,
    pub(crate) recording: RecordingMetrics,
    pub(crate) queue: QueueMetrics,
    pub(crate) levels: LevelMetrics,
    pub(crate) garbage: GarbageMetrics,
    /// Wake-ups, by what woke.
    pub(crate) wakes: IntCounterVec,
    /// Looks and steps of this engine alone; the simulation bounds them.
    pub(crate) passes: IntCounter,
    pub(crate) steps: IntCounter,
}

/// `round:`
#[derive(Debug)]
pub struct RoundMetrics {
    /// Time that a round took to decide, without its effects.
    pub(crate) raw: LabelledStopWatch,
    /// One look: deciding and, if there was something to write, writing.
    pub(crate) time: LabelledStopWatch,
    /// From the wake-up until nothing is left to do.
    pub(crate) total: StopWatch,
    pub(crate) success: IntCounter,
    pub(crate) error: IntCounter,
    pub(crate) skipped: IntCounter,
    pub(crate) not_found: IntCounter,
    pub(crate) panic: LabelledCounter,
    pub(crate) system_error: LabelledCounter,
    /// Looks within rounds, apart from the last of each.
    pub(crate) streak_length: LabelledCounter,
    /// Workflows that were started again after a panic.
    pub(crate) workers_restarted: IntCounter,
    /// Effects that may still begin.
    pub(crate) free_workers: IntGauge,
}

/// Writes of workflow resources.
#[derive(Debug)]
pub struct StoreMetrics {
    pub(crate) updated: IntCounter,
    pub(crate) success: IntCounter,
    pub(crate) failed: IntCounter,
    pub(crate) conflict: IntCounter,
    pub(crate) too_large: IntCounter,
    pub(crate) latency: StopWatch,
    /// Somebody else had written.
    pub(crate) stale: LabelledCounter,
}

/// `workflow:`
#[derive(Debug)]
pub struct WorkflowMetrics {
    pub(crate) accepted: LabelledCounter,
    pub(crate) acceptance_latency: LabelledStopWatch,
    pub(crate) completion_latency: LabelledStopWatch,
    pub(crate) success_duration: LabelledStopWatch,
    pub(crate) failure_duration: LabelledStopWatch,
    pub(crate) aborted: LabelledCounter,
}

/// How much is under way.
#[derive(Debug)]
pub struct LevelMetrics {
    pub(crate) workflows: IntGauge,
    pub(crate) nodes: IntGauge,
    pub(crate) tasks: IntGauge,
    /// By project and domain.
    pub(crate) collected: LabelledGauge,
}

/// Deletion of finished resources.
#[derive(Debug)]
pub struct GarbageMetrics {
    pub(crate) latency: LabelledStopWatch,
    pub(crate) success: LabelledCounter,
    pub(crate) failure: LabelledCounter,
}

/// The labels of a workflow.
pub(crate) fn labels(run: &WorkflowContext) -> Labels<'_> {
    Labels {
        workflow: &run.workflow_name,
        ..labels_of(&run.execution)
    }
}

/// The labels of an execution of which no more is known.
pub(crate) fn labels_of(execution: &ExecutionId) -> Labels<'_> {
    Labels {
        project: execution.project.as_str(),
        domain: execution.domain.as_str(),
        ..Labels::default()
    }
}

/// The labels of a node.
pub(crate) fn labels_of_node<'a>(view: &NodeView<'a>) -> Labels<'a> {
    Labels {
        node: &view.spec.id,
        ..labels(view.workflow)
    }
}

/// The labels of a task.
pub(crate) fn labels_of_task<'a>(view: &NodeView<'a>, attempt: &Attempt<'a>) -> Labels<'a> {
    Labels {
        task_type: &attempt.template.r#type,
        ..labels_of_node(view)
    }
}

/// From one point in time to another; nothing when clocks disagree.
pub(crate) fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

impl EngineMetrics {
    /// Registers all of it in the scope of the engine, `flyte:propeller:all:`.
    ///
    /// # Errors
    /// When it is registered already, or a configured label is no name.
    pub fn register(scope: &Scope) -> Result<Self, MetricError> {
        let execstats = scope.sub("execstats");
        Ok(Self {
            round: RoundMetrics::register(scope)?,
            store: StoreMetrics::register(scope)?,
            workflow: WorkflowMetrics::register(&scope.sub("workflow"))?,
            node: NodeMetrics::register(&scope.sub("node"))?,
            plugin: PluginMetrics::register(scope)?,
            cache: CacheMetrics::register(scope)?,
            recording: RecordingMetrics::register(scope)?,
            queue: QueueMetrics::register(scope)?,
            levels: LevelMetrics {
                workflows: execstats.gauge("active_workflow_executions", "Workflows under way.")?,
                nodes: execstats.gauge("active_node_executions", "Nodes under way.")?,
                tasks: execstats.gauge("active_task_executions", "Tasks under way.")?,
                collected: scope.sub("collector").labelled_gauge(
                    "flyteworkflow",
                    "Workflow resources that are not finished.",
                    Unlabelled::Omit,
                )?,
            },
            garbage: GarbageMetrics {
                latency: scope.labelled_stop_watch(
                    "gc_latency",
                    "Deleting finished workflows.",
                    Unit::Milliseconds,
                    Unlabelled::Omit,
                )?,
                success: scope.labelled_counter(
                    "gc_success",
                    "Rounds of deletion that went through.",
                    Unlabelled::Omit,
                )?,
                failure: scope.labelled_counter(
                    "gc_failure",
                    "Rounds of deletion that did not.",
                    Unlabelled::Omit,
                )?,
            },
            wakes: scope.counters("wf_enqueue", "Wake-ups, by what woke.", &["type"])?,
            passes: scope.counter("wf_rounds", "Looks at a workflow that was woken.")?,
            steps: scope.counter("wf_steps", "Steps of nodes and of workflows.")?,
        })
    }
}

impl RoundMetrics {
    fn register(engine: &Scope) -> Result<Self, MetricError> {
        let scope = engine.sub("round");
        let stop_watch = |name, help| {
            scope.labelled_stop_watch(name, help, Unit::Milliseconds, Unlabelled::Emit)
        };
        let counter = |name, help| scope.labelled_counter(name, help, Unlabelled::Emit);
        Ok(Self {
            raw: stop_watch("raw", "Deciding what a workflow does next.")?,
            time: stop_watch("round_time", "One look at a workflow, with its write.")?,
            total: scope.stop_watch(
                "round_total",
                "From a wake-up until nothing is left to do.",
                Unit::Milliseconds,
            )?,
            success: scope.counter("success_count", "Rounds that came to their end.")?,
            error: scope.counter("error_count", "Rounds after which all was read again.")?,
            skipped: scope.counter("skipped", "Reads of a workflow that had moved on.")?,
            not_found: scope.counter("not_found", "Workflows that were gone.")?,
            panic: counter("panic", "Panics of effects and of workflows.")?,
            system_error: counter("system_error", "Failures that are not the workflow's own.")?,
            streak_length: counter("streak_length", "Looks within rounds, but for the last.")?,
            workers_restarted: engine.counter(
                "workers_restarted",
                "Workflows started again after a panic.",
            )?,
            free_workers: engine.gauge("free_workers_count", "Effects that may still begin.")?,
        })
    }
}

impl StoreMetrics {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        Ok(Self {
            updated: scope.counter("wf_updated", "Writes of status.")?,
            success: scope.counter("wf_update_success", "Writes that went through.")?,
            failed: scope.counter("wf_update_failed", "Writes that did not.")?,
            conflict: scope.counter(
                "wf_update_conflict",
                "Writes refused because somebody else wrote.",
            )?,
            too_large: scope.counter("wf_too_large", "Writes refused for their size.")?,
            latency: scope.stop_watch("wf_update_latency", "Writes.", Unit::Milliseconds)?,
            stale: scope.labelled_counter(
                "wf_stale",
                "Workflows that somebody else had written.",
                Unlabelled::Emit,
            )?,
        })
    }
}

impl WorkflowMetrics {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        let stop_watch = |name, help| {
            scope.labelled_stop_watch(name, help, Unit::Milliseconds, Unlabelled::Emit)
        };
        Ok(Self {
            accepted: scope.labelled_counter(
                "accepted",
                "Workflows taken up.",
                Unlabelled::Omit,
            )?,
            acceptance_latency: stop_watch(
                "acceptance_latency",
                "From admin's acceptance until a workflow runs.",
            )?,
            completion_latency: stop_watch(
                "completion_latency",
                "From the last node until admin knows the end.",
            )?,
            success_duration: stop_watch("success_duration", "Workflows that succeeded.")?,
            failure_duration: stop_watch("failure_duration", "Workflows that failed.")?,
            aborted: scope.labelled_counter(
                "workflow_aborted",
                "Workflows that were terminated.",
                Unlabelled::Emit,
            )?,
        })
    }
}
