//! Which nodes are to be looked at, and when.
//!
//! A mark costs the same however many nodes there are: a node that is busy keeps its mark to itself until its effect
//! is over, and of the tasks that wait for others to end as many are marked as may run.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::NodeIndex;

/// Marks, timers and slots of all nodes.
#[derive(Debug)]
pub(super) struct ReadyQueue {
    nodes: Vec<Scheduling>,
    /// Marked nodes; none of them is busy.
    marked: BTreeSet<NodeIndex>,
    timers: BTreeSet<(Timestamp, NodeIndex)>,
    /// Ready tasks, and arrays with some, that wait for others to end (max parallelism).
    waiting: BTreeSet<NodeIndex>,
    /// How many tasks may run at once.
    slots: Option<usize>,
    /// How many do.
    taken: usize,
}

/// What is known of one node.
#[derive(Clone, Copy, Debug, Default)]
struct Scheduling {
    activity: Activity,
    timer: Option<Timestamp>,
    /// It counts as a task that runs, from the preparation of its inputs to its end (max parallelism).
    holds_slot: bool,
}

/// Whether an effect of a node is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Activity {
    #[default]
    Free,
    Busy,
    /// And something happened meanwhile.
    BusyAndMarked,
}

impl ReadyQueue {
    /// For nodes of which so many tasks may run at once; 0 is all of them.
    pub(super) fn new(max_parallelism: i64) -> Self {
        Self {
            nodes: Vec::new(),
            marked: BTreeSet::new(),
            timers: BTreeSet::new(),
            waiting: BTreeSet::new(),
            slots: usize::try_from(max_parallelism)
                .ok()
                .filter(|limit| *limit > 0),
            taken: 0,
        }
    }

    fn node(&mut self, index: NodeIndex) -> &mut Scheduling {
        if self.nodes.len() <= index.position() {
            self.nodes
                .resize(index.position() + 1, Scheduling::default());
        }
        let node = self.nodes.get_mut(index.position());
        node.expect("there is room for it since the line before")
    }

    /// Marks a node.
    pub(super) fn mark(&mut self, index: NodeIndex) {
        let node = self.node(index);
        if node.activity == Activity::Free {
            self.marked.insert(index);
        } else {
            node.activity = Activity::BusyAndMarked;
        }
    }

    /// An effect of the node is under way: nothing else is done with it until that is over.
    pub(super) fn set_busy(&mut self, index: NodeIndex) {
        let is_marked = self.marked.remove(&index);
        let node = self.node(index);
        node.activity = match (node.activity, is_marked) {
            (Activity::Free | Activity::Busy, false) => Activity::Busy,
            (Activity::Free | Activity::Busy, true) | (Activity::BusyAndMarked, _) => {
                Activity::BusyAndMarked
            }
        };
    }

    pub(super) fn set_free(&mut self, index: NodeIndex) {
        if std::mem::take(&mut self.node(index).activity) == Activity::BusyAndMarked {
            self.marked.insert(index);
        }
    }

    pub(super) fn is_busy(&self, index: NodeIndex) -> bool {
        self.nodes
            .get(index.position())
            .is_some_and(|node| node.activity != Activity::Free)
    }

    /// The next marked node, no longer marked.
    pub(super) fn next(&mut self) -> Option<NodeIndex> {
        if self.marked.is_empty() {
            for index in self.able_to_go_on() {
                self.waiting.remove(&index);
                // An array may be busy with telling of its elements.
                self.mark(index);
            }
        }
        self.marked.pop_first()
    }

    /// Whether no node is marked or could be.
    pub(super) fn is_empty(&self) -> bool {
        self.marked.is_empty() && self.able_to_go_on().is_empty()
    }

    /// Waiting tasks for which there is a slot.
    fn able_to_go_on(&self) -> Vec<NodeIndex> {
        self.waiting
            .iter()
            .copied()
            .take(self.free_slots())
            .collect()
    }

    fn free_slots(&self) -> usize {
        self.slots
            .map_or(usize::MAX, |slots| slots.saturating_sub(self.taken))
    }

    /// Whether a task may run; if not, it waits until one may.
    pub(super) fn waits_for_slot(&mut self, index: NodeIndex) -> bool {
        let waits = self.free_slots() == 0;
        if waits {
            self.waiting.insert(index);
        } else {
            self.waiting.remove(&index);
        }
        waits
    }

    /// A task begins, or was under way when the resource was read.
    pub(super) fn take_slot(&mut self, index: NodeIndex) {
        if !std::mem::replace(&mut self.node(index).holds_slot, true) {
            self.taken += 1;
        }
    }

    /// A node has ended; if it is a task, another one may run.
    pub(super) fn release_slot(&mut self, index: NodeIndex) {
        self.waiting.remove(&index);
        if std::mem::take(&mut self.node(index).holds_slot) {
            self.taken -= 1;
        }
    }

    pub(super) fn set_timer(&mut self, index: NodeIndex, until: Option<Timestamp>) {
        let old = std::mem::replace(&mut self.node(index).timer, until);
        if let Some(old) = old {
            self.timers.remove(&(old, index));
        }
        if let Some(time) = until {
            self.timers.insert((time, index));
        }
    }

    /// When a node is to be looked at again.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// Marks the nodes whose time has come.
    pub(super) fn wake_timers(&mut self, now: Timestamp) {
        while let Some((time, index)) = self.timers.first().copied() {
            if time > now {
                break;
            }
            self.timers.remove(&(time, index));
            self.node(index).timer = None;
            self.mark(index);
        }
    }
}
