//! Arrays under way: which of their elements run, and what is known of those that are over (spec 04 §7.7).
//!
//! ```text
//!              cursor                       a slot is free
//! not begun ──────────▶ node of the machine ──────────────▶ over: bits in the array's status, and a count
//!                             │ events
//!                             ▼
//!                         Progress ── at most one event a second ──▶ admin, then the status is written
//! ```
//!
//! An element is a node while it is under way, and no more than bits before and after. What it does can be found out
//! again from those and its pod, so that it is written when admin is told of it, for all elements at once.

mod packed;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flyte_crd::{
    NodeKind, NodePhase, NodeSpec, NodeStatus,
    status::{ArrayNodeStatus, ArrayPhase},
};
use jiff::{SignedDuration, Timestamp};

use super::{
    Machine, NodeIndex, Unreadable,
    graph_state::GraphState,
    nodes::{AbortState, GraphIndex, Member},
};
use crate::{
    config::ParallelismBehavior,
    events::Event,
    node::{
        Change, Progress, Then,
        array::{self, element},
        system,
    },
};
use packed::Packed;

/// How long admin is left alone between two events of one array.
const BETWEEN_EVENTS: SignedDuration = SignedDuration::from_secs(1);
/// How often in a row news are told again under another version, each time twice as far away, because admin says that it
/// has heard them: an earlier process told of others under these versions, or the array's task has ended.
const MOST_REPEATS: u32 = 8;

/// All arrays whose elements have begun.
#[derive(Debug, Default)]
pub(super) struct Arrays(BTreeMap<NodeIndex, Elements>);

/// The elements of one array.
#[derive(Debug)]
struct Elements {
    progress: Progress,
    /// The node that each of them is.
    spec: NodeSpec,
    bound: Arc<BTreeSet<String>>,
    /// What their names begin with.
    prefix: String,
    /// All before have begun.
    cursor: u32,
    limits: Limits,
    /// How often in a row admin had heard what it was told.
    repeats: u32,
}

/// How many elements run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limits {
    None,
    Own(u32),
    /// They count as tasks of the workflow.
    Workflow,
}

impl Arrays {
    pub(super) fn progress(&self, index: NodeIndex) -> Option<&Progress> {
        self.0.get(&index).map(|elements| &elements.progress)
    }
}

fn limits(spec: &flyte_crd::ArraySpec, behavior: ParallelismBehavior) -> Limits {
    use ParallelismBehavior::{Hybrid, Unlimited, Workflow};
    match (spec.parallelism, behavior) {
        (Some(limit), _) if limit > 0 => Limits::Own(limit),
        (_, Workflow) | (None, Hybrid) => Limits::Workflow,
        (_, Unlimited | Hybrid) => Limits::None,
    }
}

impl Machine {
    /// Takes the elements of an array up as its status has them: those that are under way are nodes from now on.
    pub(super) fn open_array(&mut self, index: NodeIndex) -> Result<(), Unreadable> {
        let node = &self.nodes[index];
        let Some(spec) = node.spec.array.clone() else {
            return Ok(());
        };
        let Some(known) = &node.status.array_node_status else {
            return Ok(());
        };
        if known.phase == ArrayPhase::None {
            return Ok(());
        }
        let config = &self.context.settings.propeller.array_node_config;
        let view = self.nodes.view(&self.context, index);
        let mut elements = Elements {
            progress: Progress::default(),
            bound: Arc::new(array::bound_inputs(&spec)),
            prefix: array::name_prefix(&view),
            cursor: 0,
            limits: limits(&spec, config.default_parallelism_behavior),
            repeats: 0,
            spec: spec.sub_node_spec,
        };
        let mut under_way = Vec::new();
        for element in 0..array::size(view.status) {
            let packed = Packed::read(view.status, element);
            elements.progress.count(packed.phase());
            if packed.phase().is_active() {
                under_way.push((element, packed.unpack(view.status)));
            }
        }
        self.nodes.add_array_graph(index)?;
        self.nodes[index].inputs = None;
        self.arrays.0.insert(index, elements);
        for (element, status) in under_way {
            self.add_element(index, element, status)?;
        }
        Ok(())
    }

    /// Makes a node of an element.
    fn add_element(
        &mut self,
        array: NodeIndex,
        index: u32,
        status: NodeStatus,
    ) -> Result<Option<NodeIndex>, Unreadable> {
        let Some(elements) = self.arrays.0.get_mut(&array) else {
            return Ok(None);
        };
        elements.progress.running += 1;
        let limits = elements.limits;
        let id = array::Element::id(index);
        let spec = NodeSpec {
            name: id.clone(),
            id,
            input_bindings: Vec::new(),
            ..elements.spec.clone()
        };
        let member = Member {
            array,
            element: element(index, &elements.bound),
        };
        let made = self
            .nodes
            .add_element(&self.context, member, spec, status)?;
        if limits == Limits::Workflow {
            self.queue.take_slot(made);
        }
        Ok(Some(made))
    }

    /// Lets as many elements begin as may run.
    pub(super) fn start_elements(&mut self, array: NodeIndex) -> Result<(), Unreadable> {
        while self.may_start_elements(array) {
            let status = &self.nodes[array].status;
            let size = array::size(status);
            let Some(elements) = self.arrays.0.get_mut(&array) else {
                return Ok(());
            };
            while elements.cursor < size
                && Packed::read(status, elements.cursor).phase() != NodePhase::NotYetStarted
            {
                elements.cursor += 1;
            }
            let is_full = match elements.limits {
                Limits::Own(limit) => elements.progress.running >= limit,
                Limits::None => false,
                Limits::Workflow => elements.cursor < size && self.queue.waits_for_slot(array),
            };
            if is_full || elements.cursor >= size {
                return Ok(());
            }
            let index = elements.cursor;
            elements.cursor += 1;
            if let Some(made) = self.add_element(array, index, NodeStatus::default())? {
                self.queue.mark(made);
            }
        }
        Ok(())
    }

    fn may_start_elements(&self, array: NodeIndex) -> bool {
        let node = &self.nodes[array];
        let is_running = node
            .inner
            .is_some_and(|inner| self.nodes[inner].state == GraphState::Running);
        is_running
            && node.abort == AbortState::None
            && node.status.phase == NodePhase::Running
            && array::is_executing(&node.status)
            && self.may_step(array)
    }

    /// As [`Machine::start_elements`]; an array whose elements cannot be named fails. False when it has.
    pub(super) fn started_elements(&mut self, array: NodeIndex, now: Timestamp) -> bool {
        let Err(error) = self.start_elements(array) else {
            return true;
        };
        let error = system("BadSpecificationError", error.to_string());
        self.fail_node(array, error, now);
        false
    }

    /// Goes on with the elements that were under way when the status was read.
    pub(super) fn resume_array(&mut self, array: NodeIndex, graph: GraphIndex) {
        for index in self.nodes.in_graph(graph) {
            self.queue.mark(index);
        }
        if array::is_failing(&self.nodes[array].status) {
            self.abort_inside(array);
        }
    }

    /// What an element would tell admin is told with that of the others.
    pub(super) fn gather_news(&mut self, index: NodeIndex, events: Vec<Event>) {
        let node = &self.nodes[index];
        let Some(member) = &node.member else { return };
        let Some(elements) = self.arrays.0.get_mut(&member.array) else {
            return;
        };
        let attempt = node.status.attempts;
        let progress = &mut elements.progress;
        progress.take_in(&member.element, &elements.prefix, attempt, events);
        if progress.has_news() {
            self.queue.mark(member.array);
        }
    }

    /// An element has become something else: the bits of its array say what.
    pub(super) fn keep_element(&mut self, index: NodeIndex) {
        let node = &self.nodes[index];
        let Some(member) = &node.member else { return };
        let (array, element) = (member.array, member.element.index);
        if self.arrays.0.contains_key(&array) {
            let packed = Packed::of(&node.status, &self.nodes[array].status);
            packed.write(&mut self.nodes[array].status, element);
        }
    }

    /// An element is over: bits and a count are all that is left of it, and another one may begin.
    pub(super) fn element_ended(&mut self, index: NodeIndex, now: Timestamp) {
        let node = &self.nodes[index];
        let Some(member) = node.member.clone() else {
            return;
        };
        if let Some(elements) = self.arrays.0.get_mut(&member.array) {
            let progress = &mut elements.progress;
            progress.running = progress.running.saturating_sub(1);
            progress.count(node.status.phase);
            if node.has_failed() {
                let message = &node.failure().message;
                progress.failures.add(member.element.index, message);
            }
        }
        self.nodes.forget_element(&self.context, index);
        self.queue.mark(member.array);
        self.started_elements(member.array, now);
    }

    /// An array has ended, or begins another attempt: of its elements nothing is left.
    pub(super) fn close_array(&mut self, array: NodeIndex) {
        self.arrays.0.remove(&array);
        let Some(graph) = self.nodes[array].inner else {
            return;
        };
        for index in self.nodes.in_graph(graph) {
            let node = &self.nodes[index];
            if node.status.phase.is_terminal() || node.abort == AbortState::Done {
                self.nodes.forget_element(&self.context, index);
            }
        }
    }

    /// What an array becomes, with the bits of its elements as they are by now: those that it was decided with are older.
    pub(super) fn with_elements(&mut self, index: NodeIndex, mut new: NodeStatus) -> NodeStatus {
        let node = &mut self.nodes[index];
        if !self.arrays.0.contains_key(&index) || new.attempts != node.status.attempts {
            return new;
        }
        if let (Some(new), Some(known)) = (
            new.array_node_status.as_mut(),
            node.status.array_node_status.take(),
        ) {
            *new = ArrayNodeStatus {
                phase: new.phase,
                execution_error: new.execution_error.take(),
                task_phase_version: new.task_phase_version,
                ..known
            };
        }
        new
    }

    /// News of elements are on their way.
    pub(super) fn telling(&mut self, array: NodeIndex, told: usize, now: Timestamp) {
        if let Some(elements) = self.arrays.0.get_mut(&array) {
            elements.progress.told(told);
            elements.progress.tell_at = now.checked_add(BETWEEN_EVENTS).ok();
        }
    }

    /// Admin has taken news of elements in.
    pub(super) fn news_taken(&mut self, array: NodeIndex) {
        if let Some(elements) = self.arrays.0.get_mut(&array) {
            elements.repeats = 0;
        }
    }

    /// Admin has an event of this version already, but maybe from a process that told of other elements with it: the same
    /// under a later version. None when that was done often enough.
    pub(super) fn told_again(
        &mut self,
        array: NodeIndex,
        change: &Change,
        events: &[Event],
    ) -> Option<Change> {
        let (Then::TellElements(_), Some(elements)) = (&change.then, self.arrays.0.get_mut(&array))
        else {
            return None;
        };
        if elements.repeats >= MOST_REPEATS {
            return None;
        }
        let further = 1 << elements.repeats;
        elements.repeats += 1;
        let mut again = change.clone();
        again.events = events.to_vec();
        again.then = Then::TellElements(0);
        if let Some(known) = &mut again.status.array_node_status {
            known.task_phase_version = known.task_phase_version.saturating_add(further);
        }
        for event in &mut again.events {
            if let Event::Task(event) = event {
                event.phase_version = event.phase_version.saturating_add(further);
            }
        }
        Some(again)
    }

    /// Whether elements of an array have begun, which have to end before it fails.
    pub(super) fn has_elements(&self, index: NodeIndex) -> bool {
        self.nodes[index].spec.kind == NodeKind::Array && self.arrays.0.contains_key(&index)
    }
}
