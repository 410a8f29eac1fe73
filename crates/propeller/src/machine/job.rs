//! What a machine asks for, and what comes back.
//!
//! ```text
//! decision ──▶ Effect ──▶ Job { id, effect } ──▶ effects::WorkflowEffects::run ──▶ EffectResult ──▶ decision
//! ```

use std::collections::{BTreeMap, VecDeque};

use flyte_idl::core::{ExecutionError, LiteralMap};

use super::NodeIndex;
use crate::{
    cleanup::leftovers::{Clearance, LeftoverQuery, Leftovers},
    events::Event,
    node::{NodeEffect, NodeResult},
};

/// How many jobs of one workflow are under way at once: enough to fill a cluster, and few enough that a workflow of
/// thousands of nodes leaves some of the engine's effects to others.
const AT_ONCE: usize = 128;

/// Whose job it is; each has at most one under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobId {
    /// The workflow itself.
    Workflow,
    /// A node.
    Node(NodeIndex),
}

/// An effect to be had, once; what it brought comes back through [`super::Machine::complete`].
#[derive(Clone, Debug)]
pub struct Job {
    /// Whose it is.
    pub id: JobId,
    /// What is to be done.
    pub effect: Effect,
}

/// Something to be done outside of the machine.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make the workflow's inputs the outputs of its start node.
    Begin {
        /// Inputs that stand in the resource.
        inputs: Option<LiteralMap>,
        /// URI of the inputs otherwise.
        offloaded: String,
        /// URI of the start node's outputs.
        to: String,
    },
    /// An effect of a node.
    Node {
        /// What is to be done for it.
        effect: NodeEffect,
        /// URI of the outputs of each node that its bindings name, by id.
        outputs: BTreeMap<String, String>,
        /// URI of the outputs of the node inside that gives this node its own.
        inner: Option<String>,
        /// An input to replace: the error that a failure node gets.
        error: Option<ExecutionError>,
    },
    /// Send events to admin, in order.
    Send(Vec<Event>),
    /// Look for what the workflow would leave behind.
    FindLeftovers(LeftoverQuery),
    /// End what was found: executions, then by events nodes and attempts. Answers as [`Effect::Send`] does.
    Clear(Clearance),
}

/// What an effect brought.
#[derive(Clone, Debug)]
pub enum EffectResult {
    /// Inputs were written.
    Begun,
    /// Of a node.
    Node(Box<NodeResult>),
    /// Admin has all events, or refused one for good.
    Sent(Result<Receipt, Rejection>),
    /// What was found.
    Leftovers(Leftovers),
}

/// Admin has the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It had not heard of any before.
    New,
    /// It had: an earlier try, or an earlier process, came as far.
    Repeated,
}

/// Admin refused an event for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Its entity has already ended.
    AlreadyEnded {
        /// The phase that admin has recorded, by name.
        phase: String,
        /// Admin's words.
        message: String,
    },
    /// The workflow cannot enter this phase from the one that admin has recorded: it is being aborted.
    WrongPhase(String),
    /// The execution belongs to another cluster.
    IncompatibleCluster(String),
    /// There is no such execution.
    NoExecution(String),
    /// It is too large or malformed.
    Invalid(String),
}

/// Jobs that are to be handed out, and how many are under way.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    waiting: VecDeque<Job>,
    under_way: usize,
}

impl Jobs {
    pub(super) fn add(&mut self, id: JobId, effect: Effect) {
        self.waiting.push_back(Job { id, effect });
    }

    /// As many as may be under way; the others when some of those are over.
    pub(super) fn hand_out(&mut self) -> Vec<Job> {
        let free = AT_ONCE.saturating_sub(self.under_way);
        let jobs: Vec<_> = self.waiting.drain(..free.min(self.waiting.len())).collect();
        self.under_way += jobs.len();
        jobs
    }

    pub(super) fn completed(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether none is under way or waits.
    pub(super) fn are_over(&self) -> bool {
        self.under_way == 0 && self.waiting.is_empty()
    }
}
