//! Counting what becomes of one workflow (spec 04 §15).

use std::{sync::Arc, time::Instant};

use flyte_core::layout::END_NODE;
use flyte_crd::{NodeKind, NodePhase, WorkflowPhase};
use flyte_platform::metrics::Labels;
use jiff::Timestamp;

use crate::{
    machine::{Active, Machine, NodeChanged, TaskEnd},
    metrics::{self, EngineMetrics, Round},
    node::{WorkflowContext, task::Attempt},
};

/// What was counted of a workflow so far, and what is to be taken back when it is no longer under way.
pub(super) struct Counting {
    metrics: Arc<EngineMetrics>,
    context: Arc<WorkflowContext>,
    phase: WorkflowPhase,
    active: Active,
    /// When nothing but the end was left.
    end_queued_at: Option<Timestamp>,
    round: Option<Round>,
    /// When the pass under way began, and when deciding.
    pass: Option<Instant>,
    deciding: Instant,
    passes: u64,
}

impl Counting {
    pub(super) fn new(metrics: Arc<EngineMetrics>, machine: &Machine) -> Self {
        let context = machine.context().clone();
        let labels = metrics::labels(&context);
        metrics.levels.collected.inc(&by_domain(&labels));
        if machine.phase() == WorkflowPhase::Ready {
            metrics.workflow.accepted.inc(&labels);
        }
        let mut counting = Self {
            metrics,
            context,
            phase: machine.phase(),
            active: Active::default(),
            end_queued_at: None,
            round: None,
            pass: None,
            deciding: Instant::now(),
            passes: 0,
        };
        counting.levels(machine.active());
        counting
    }

    pub(super) fn pass_begins(&mut self) {
        self.deciding = Instant::now();
        self.pass.get_or_insert(self.deciding);
        self.round
            .get_or_insert_with(|| self.metrics.queue.begins());
    }

    /// All that could be decided is, in so many steps.
    pub(super) fn decided(&mut self, steps: u64) {
        let labels = metrics::labels(&self.context);
        let time = self.deciding.elapsed();
        self.metrics.round.raw.observe(&labels, time);
        self.metrics.passes.inc();
        self.metrics.steps.inc_by(steps);
    }

    /// Takes in what the machine says has happened.
    pub(super) fn happened(&mut self, machine: &mut Machine, now: Timestamp) {
        for changed in machine.take_changes() {
            self.node_changed(machine, &changed);
        }
        self.levels(machine.active());
        let phase = machine.phase();
        if phase != std::mem::replace(&mut self.phase, phase) {
            self.workflow_changed(machine, now);
        }
    }

    fn node_changed(&mut self, machine: &Machine, changed: &NodeChanged) {
        let view = machine.view(changed.index);
        if view.unique_id == END_NODE && changed.to == NodePhase::Queued {
            self.end_queued_at = Some(changed.at);
        }
        let labels = metrics::labels_of_node(&view);
        self.metrics.node.changed(&labels, changed);
        if view.spec.kind != NodeKind::Task {
            return;
        }
        let attempt = Attempt::of(view).ok();
        let task_type = attempt
            .as_ref()
            .map_or("", |attempt| attempt.template.r#type.as_str());
        let plugin = attempt.as_ref().map(|attempt| attempt.plugin);
        let metrics = &self.metrics.plugin;
        metrics.changed(&labels, changed, task_type, plugin);
        if let (Some(TaskEnd::PodFailed), Some(attempt), Some(error)) =
            (changed.task_end, &attempt, &view.status.error)
        {
            let labels = metrics::labels_of_task(&view, attempt);
            let plugin = attempt.plugin;
            self.metrics.plugin.failed(&labels, plugin, &error.code);
        }
    }

    fn workflow_changed(&self, machine: &Machine, now: Timestamp) {
        let labels = metrics::labels(&self.context);
        let (workflow, (started, stopped)) = (&self.metrics.workflow, machine.times());
        let length = started
            .zip(stopped)
            .map(|(started, stopped)| metrics::between(started, stopped))
            .unwrap_or_default();
        match self.phase {
            WorkflowPhase::Running => {
                if let Some(accepted) = machine.accepted_at() {
                    let latency = metrics::between(accepted, now);
                    workflow.acceptance_latency.observe(&labels, latency);
                }
            }
            WorkflowPhase::Success => {
                workflow.success_duration.observe(&labels, length);
                if let Some(queued) = self.end_queued_at {
                    let latency = metrics::between(queued, now);
                    workflow.completion_latency.observe(&labels, latency);
                }
            }
            WorkflowPhase::Failed => workflow.failure_duration.observe(&labels, length),
            WorkflowPhase::Aborted => workflow.aborted.inc(&labels),
            WorkflowPhase::Ready
            | WorkflowPhase::Succeeding
            | WorkflowPhase::Failing
            | WorkflowPhase::HandlingFailureNode
            | WorkflowPhase::Unknown(_) => {}
        }
    }

    /// Nothing is left to look at but what is awaited; `rests` says whether a round ends with that.
    pub(super) fn pass_ends(&mut self, rests: bool) {
        let labels = metrics::labels(&self.context);
        let rounds = &self.metrics.round;
        if let Some(began) = self.pass.take() {
            rounds.time.observe(&labels, began.elapsed());
        }
        if !rests {
            self.passes += 1;
            return;
        }
        if let Some(round) = self.round.take() {
            rounds.total.observe(round.began.elapsed());
            rounds.success.inc();
            rounds
                .streak_length
                .add(&labels, std::mem::take(&mut self.passes));
        }
    }

    fn levels(&mut self, active: Active) {
        let change = |before: usize, now: usize| {
            let of = |count| i64::try_from(count).unwrap_or(i64::MAX);
            of(now) - of(before)
        };
        let levels = &self.metrics.levels;
        levels.nodes.add(change(self.active.nodes, active.nodes));
        levels.tasks.add(change(self.active.tasks, active.tasks));
        self.active = active;
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if self.round.is_some() {
            self.pass_ends(true);
        }
        self.levels(Active::default());
        let labels = metrics::labels(&self.context);
        self.metrics.levels.collected.dec(&by_domain(&labels));
    }
}

/// The reference counts resources by project and domain.
fn by_domain<'a>(labels: &Labels<'a>) -> Labels<'a> {
    Labels {
        workflow: "",
        ..*labels
    }
}
