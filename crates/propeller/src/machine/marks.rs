//! Which nodes are to be looked at, and when.
//!
//! A mark costs the same however many nodes there are: a node that is busy keeps its mark to itself until its work is
//! done, and of the tasks that wait for others to end as many are marked as may run.

use flyte_crd::{NodeKind, status::TaskPhase};
use jiff::Timestamp;

use super::{AbortState, Activity, Machine, NodeIndex, Room};
use crate::node::task::Attempt;

impl Machine {
    /// Marks a node.
    pub(super) fn mark(&mut self, index: NodeIndex) {
        match self.nodes.get_mut(index) {
            Some(node) if node.activity != Activity::Free => {
                node.activity = Activity::BusyAndMarked;
            }
            Some(_) => {
                self.dirty.insert(index);
            }
            None => {}
        }
    }

    pub(super) fn mark_all(&mut self, indices: Vec<NodeIndex>) {
        for index in indices {
            self.mark(index);
        }
    }

    /// A job of the node is under way: nothing else is done with it until that is over.
    pub(super) fn set_busy(&mut self, index: NodeIndex) {
        let marked = self.dirty.remove(&index);
        if let Some(node) = self.nodes.get_mut(index) {
            node.activity = match (node.activity, marked) {
                (Activity::Free | Activity::Busy, false) => Activity::Busy,
                (Activity::Free | Activity::Busy, true) | (Activity::BusyAndMarked, _) => {
                    Activity::BusyAndMarked
                }
            };
        }
    }

    pub(super) fn set_free(&mut self, index: NodeIndex) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        if std::mem::take(&mut node.activity) == Activity::BusyAndMarked {
            self.dirty.insert(index);
        }
    }

    /// The next marked node, no longer marked.
    pub(super) fn next_marked(&mut self) -> Option<NodeIndex> {
        if self.dirty.is_empty() {
            for index in self.able_to_go_on() {
                self.waiting.remove(&index);
                self.dirty.insert(index);
            }
        }
        self.dirty.pop_first()
    }

    /// Waiting tasks for which there is room.
    fn able_to_go_on(&self) -> Vec<NodeIndex> {
        self.waiting.iter().copied().take(self.room()).collect()
    }

    /// Whether one more task may run (max parallelism).
    pub(super) fn has_room(&self, index: NodeIndex) -> bool {
        let counts = self
            .nodes
            .get(index)
            .is_some_and(|node| node.spec.kind == NodeKind::Task);
        !counts || self.room() > 0
    }

    /// How many more tasks may run.
    fn room(&self) -> usize {
        match usize::try_from(self.run.execution_config.max_parallelism) {
            Ok(limit) if limit > 0 => limit.saturating_sub(self.slots),
            _ => usize::MAX,
        }
    }

    /// A task begins, or was under way when the resource was read.
    pub(super) fn take_slot(&mut self, index: NodeIndex) {
        if let Some(node) = self.nodes.get_mut(index)
            && node.spec.kind == NodeKind::Task
            && !std::mem::replace(&mut node.holds_slot, true)
        {
            self.slots += 1;
        }
    }

    pub(super) fn release_slot(&mut self, index: NodeIndex) {
        if let Some(node) = self.nodes.get_mut(index)
            && std::mem::take(&mut node.holds_slot)
        {
            self.slots -= 1;
        }
    }

    pub(super) fn set_timer(&mut self, index: NodeIndex, until: Option<Timestamp>) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        if let Some(old) = node.timer.take() {
            self.timers.remove(&(old, index));
        }
        if let Some(time) = until {
            node.timer = Some(time);
            self.timers.insert((time, index));
        }
    }

    /// When something is to be looked at again.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let node = self.timers.first().map(|(time, _)| *time);
        [node, self.retry_begin_at].into_iter().flatten().min()
    }

    /// Marks the nodes whose time has come.
    pub fn wake_timers(&mut self, now: Timestamp) {
        while let Some((time, index)) = self.timers.first().copied() {
            if time > now {
                break;
            }
            self.timers.remove(&(time, index));
            if let Some(node) = self.nodes.get_mut(index) {
                node.timer = None;
            }
            self.mark(index);
        }
        if self.retry_begin_at.is_some_and(|time| time <= now) {
            self.retry_begin_at = None;
        }
    }

    /// Marks the node whose pod this is; false when the pod belongs to none under way.
    pub fn wake_pod(&mut self, pod: &str) -> bool {
        let Some(index) = self.pods.get(pod).copied() else {
            return false;
        };
        if let Some(node) = self.nodes.get_mut(index) {
            node.pod_expected = false;
        }
        self.mark(index);
        true
    }

    /// Marks the node that waits for room for this pod: there may be some.
    pub fn wake_waiting(&mut self, pod: &str) {
        let Some(index) = self.launching(pod) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        if node.room == Room::Awaited {
            node.room = Room::Free;
            self.mark(index);
        } else if node.activity != Activity::Free {
            node.room = Room::CalledEarly;
        }
    }

    /// Names of the pods of its attempts.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(String::as_str)
    }

    /// Whether this pod is still to be created.
    pub fn may_launch(&self, pod: &str) -> bool {
        self.launching(pod).is_some()
    }

    /// The node that is to create this pod.
    fn launching(&self, pod: &str) -> Option<NodeIndex> {
        let index = self.pods.get(pod).copied()?;
        let goes_on = self
            .nodes
            .get(index)
            .is_some_and(|node| node.abort == AbortState::None)
            && self.may_step(index);
        let view = self.view(index).filter(|_| goes_on)?;
        let is_launched = view.status.task_node_status.as_ref().is_some_and(|task| {
            task.phase != TaskPhase::Undefined && task.phase != TaskPhase::WaitingForResources
        });
        let attempt = Attempt::of(view).ok()?;
        (!is_launched && !view.status.phase.is_terminal() && attempt.pod_name() == pod)
            .then_some(index)
    }

    /// Whether nothing is under way and nothing is marked.
    pub fn is_quiescent(&self) -> bool {
        self.under_way == 0
            && self.jobs.is_empty()
            && self.dirty.is_empty()
            && self.able_to_go_on().is_empty()
            && !self.workflow_can_step()
    }

    /// How many steps were taken, of nodes and of the workflow.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}
