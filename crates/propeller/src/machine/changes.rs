//! What became of nodes, for those who count it (spec 04 §15). Nothing is decided by it.

use flyte_crd::{NodeKind, NodePhase, status::TaskPhase};
use flyte_idl::core::execution_error::ErrorKind;
use jiff::Timestamp;

use super::{
    Machine, NodeIndex,
    nodes::{AbortState, Node},
};
use crate::node::is_interruptible;

/// A node is not what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeChanged {
    /// The node that changed.
    pub index: NodeIndex,
    /// When it changed, by the engine's clock.
    pub at: Timestamp,
    /// What it was.
    pub from: NodePhase,
    /// What it is.
    pub to: NodePhase,
    /// When it was queued, if it was before.
    pub queued_at: Option<Timestamp>,
    /// When it began to run, if it had before.
    pub started_at: Option<Timestamp>,
    /// When the attempt that was under way began.
    pub attempt_started_at: Option<Timestamp>,
    /// When the last of the nodes before it ended.
    pub upstream_ended_at: Option<Timestamp>,
    /// It waited for others to end (max parallelism).
    pub waited_for_others: bool,
    /// Whose fault the failure of an attempt or of the node is.
    pub error: Option<ErrorKind>,
    /// Its machine could be taken away.
    pub interruptible: bool,
    /// It could, and cannot for the next attempt.
    pub no_longer_interruptible: bool,
    /// What its task was, what it is, and when it became what it was.
    pub task: Option<(TaskPhase, TaskPhase, Option<Timestamp>)>,
    /// How an attempt of its task ended.
    pub task_end: Option<TaskEnd>,
}

/// How an attempt of a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// It ended with outputs.
    Success,
    /// By its pod, or for lack of one.
    PodFailed,
    /// By what it left behind.
    ResultFailed,
}

/// How many nodes have begun and not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Active {
    /// Nodes of all kinds.
    pub nodes: usize,
    /// Those that run tasks.
    pub tasks: usize,
}

/// A node before it changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    changed: NodeChanged,
    attempts: u32,
    task: (TaskPhase, Option<Timestamp>),
    active: bool,
}

fn counts(node: &Node) -> bool {
    node.is_active() && node.abort != AbortState::Done
}

/// What nobody has counted yet, and how much is under way.
#[derive(Debug, Default)]
pub(super) struct Changes {
    nodes: Vec<NodeChanged>,
    active: Active,
}

impl Changes {
    fn note_active(&mut self, is_task: bool, before: bool, after: bool) {
        let change = |count: usize| match (before, after) {
            (false, true) => count + 1,
            (true, false) => count.saturating_sub(1),
            _ => count,
        };
        self.active.nodes = change(self.active.nodes);
        if is_task {
            self.active.tasks = change(self.active.tasks);
        }
    }
}

impl Machine {
    /// What became of nodes since the last time.
    pub fn take_changes(&mut self) -> Vec<NodeChanged> {
        self.nodes.recycle();
        std::mem::take(&mut self.changes.nodes)
    }

    /// How much is under way.
    pub fn active(&self) -> Active {
        self.changes.active
    }

    /// Counts all nodes, when they have just been read.
    pub(super) fn count_active(&mut self) {
        let active = || {
            let nodes = self.nodes.all();
            nodes.map(|(_, node)| node).filter(|node| counts(node))
        };
        let tasks = active().filter(|node| node.spec.kind == NodeKind::Task);
        self.changes.active = Active {
            nodes: active().count(),
            tasks: tasks.count(),
        };
    }

    pub(super) fn before_change(&self, index: NodeIndex, now: Timestamp) -> Before {
        let node = &self.nodes[index];
        let (status, time) = (&node.status, |time: Option<flyte_crd::Time>| {
            time.map(flyte_crd::Time::timestamp)
        });
        let task = status.task_node_status.as_ref();
        Before {
            changed: NodeChanged {
                index,
                at: now,
                from: status.phase,
                to: status.phase,
                queued_at: time(status.queued_at),
                started_at: time(status.started_at),
                attempt_started_at: time(status.last_attempt_started_at),
                upstream_ended_at: node.upstream.ended_at,
                waited_for_others: node.metrics.waited_for_others,
                error: None,
                interruptible: is_interruptible(&self.view(index)),
                no_longer_interruptible: false,
                task: None,
                task_end: None,
            },
            attempts: status.attempts,
            task: task.map_or((TaskPhase::Undefined, None), |task| {
                (task.phase, task.updated_at.0)
            }),
            active: counts(node),
        }
    }

    pub(super) fn after_change(&mut self, before: &Before) {
        let index = before.changed.index;
        let node = &self.nodes[index];
        let (status, is_task) = (&node.status, node.spec.kind == NodeKind::Task);
        let mut changed = NodeChanged {
            to: status.phase,
            ..before.changed
        };
        let active = counts(node);
        let ran = matches!(
            changed.from,
            NodePhase::Queued | NodePhase::Running | NodePhase::DynamicRunning
        );
        let new_attempt = ran && status.attempts != before.attempts;
        if new_attempt || changed.from != changed.to && changed.to == NodePhase::Failed {
            changed.error = status.error.as_ref().map(|error| error.kind());
        }
        changed.no_longer_interruptible =
            new_attempt && changed.interruptible && !is_interruptible(&self.view(index));
        if is_task && ran {
            let phase = status.task_node_status.as_ref().map(|task| task.phase);
            changed.task = phase
                .filter(|phase| *phase != before.task.0)
                .map(|phase| (before.task.0, phase, before.task.1));
            let failure = if node.metrics.result_read {
                TaskEnd::ResultFailed
            } else {
                TaskEnd::PodFailed
            };
            changed.task_end = match changed.to {
                _ if new_attempt => Some(failure),
                NodePhase::Succeeded => Some(TaskEnd::Success),
                NodePhase::Failed | NodePhase::TimedOut => Some(failure),
                _ => None,
            };
        }
        self.changes.nodes.push(changed);
        if new_attempt {
            self.nodes[index].metrics.result_read = false;
        }
        self.changes.note_active(is_task, before.active, active);
    }

    /// An active node has been aborted.
    pub(super) fn note_aborted(&mut self, index: NodeIndex) {
        let node = &self.nodes[index];
        if node.is_active() {
            let is_task = node.spec.kind == NodeKind::Task;
            self.changes.note_active(is_task, true, false);
        }
    }
}
