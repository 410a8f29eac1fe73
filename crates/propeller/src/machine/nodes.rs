//! The nodes and graphs of one workflow.
//!
//! A graph is the workflow itself, a sub-workflow or the workflow of a dynamic task under way. Nodes and graphs are only added, so an index that was
//! handed out stays good; one that was not handed out here is a mistake of ours, and looking it up panics (an actor
//! that panics starts over).

mod build;
mod elements;
mod inside;
mod node;
mod order;
mod readiness;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    ops::{Index, IndexMut},
};

use flyte_core::layout::START_NODE;
use flyte_crd::NodeKind;

pub(super) use elements::Member;
pub(super) use node::{AbortState, Node, NodeHistory, Pending, QuotaWait, TaskState, Upstream};

use super::graph_state::GraphState;
use crate::node::{WorkflowContext, WorkflowDefinition, task::Attempt};
use elements::Recycling;

/// A node of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(u32);

/// A graph of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GraphIndex(u32);

impl NodeIndex {
    pub(super) fn position(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for NodeIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "node#{}", self.0)
    }
}

impl fmt::Debug for GraphIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "graph#{}", self.0)
    }
}

/// Which of several failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    First,
    Last,
}

/// What a node's upstream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    NotReady,
    Skip,
}

/// One workflow or sub-workflow under way.
#[derive(Debug)]
pub(super) struct Graph {
    /// The node whose sub-workflow it is, or whose task has made it.
    pub(super) owner: Option<NodeIndex>,
    pub(super) definition: WorkflowDefinition,
    pub(super) ids: HashMap<String, NodeIndex>,
    pub(super) failure_node: Option<NodeIndex>,
    /// Nodes that have not ended, arms of branches and the failure node apart.
    pub(super) remaining: usize,
    /// Nodes here and inside that are to end and have not.
    pub(super) aborting: usize,
    /// The node that failed first.
    pub(super) first_failed: Option<NodeIndex>,
    pub(super) state: GraphState,
}

/// All nodes and graphs.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    arena: Vec<Node>,
    graphs: Vec<Graph>,
    /// Nodes by the name of their pod.
    pods: HashMap<String, NodeIndex>,
    recycling: Recycling,
}

impl Index<NodeIndex> for Nodes {
    type Output = Node;

    fn index(&self, index: NodeIndex) -> &Node {
        let node = self.arena.get(index.position());
        node.expect("node indices are made here, and nodes are never removed")
    }
}

impl IndexMut<NodeIndex> for Nodes {
    fn index_mut(&mut self, index: NodeIndex) -> &mut Node {
        let node = self.arena.get_mut(index.position());
        node.expect("node indices are made here, and nodes are never removed")
    }
}

impl Index<GraphIndex> for Nodes {
    type Output = Graph;

    fn index(&self, index: GraphIndex) -> &Graph {
        let graph = self.graphs.get(index.0 as usize);
        graph.expect("graph indices are made here, and graphs are never removed")
    }
}

impl IndexMut<GraphIndex> for Nodes {
    fn index_mut(&mut self, index: GraphIndex) -> &mut Graph {
        let graph = self.graphs.get_mut(index.0 as usize);
        graph.expect("graph indices are made here, and graphs are never removed")
    }
}

impl Graph {
    /// The start node, which every graph has.
    pub(super) fn find(&self, id: &str) -> Option<NodeIndex> {
        self.ids.get(id).copied()
    }
}

impl Nodes {
    /// The workflow itself, which is added first.
    pub(super) const TOP: GraphIndex = GraphIndex(0);

    pub(super) fn all(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        (0..).map(NodeIndex).zip(&self.arena)
    }

    /// Names of the pods of attempts that were or are under way.
    pub(super) fn pods(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(String::as_str)
    }

    /// The node whose pod has this name.
    pub(super) fn of_pod(&self, pod: &str) -> Option<NodeIndex> {
        self.pods.get(pod).copied()
    }

    /// Indices of a graph's nodes, in the order of their ids.
    pub(super) fn in_graph(&self, graph: GraphIndex) -> Vec<NodeIndex> {
        let mut indices: Vec<_> = self[graph].ids.values().copied().collect();
        indices.sort_unstable();
        indices
    }

    /// The branch or the owner of the graph.
    pub(super) fn around(&self, index: NodeIndex) -> Option<NodeIndex> {
        let node = &self[index];
        node.arm_of.or(self[node.graph].owner)
    }

    /// The node whose failure a graph ends with, when it is looked for in the order in which the reference walks: from
    /// the start, each node's downstream by id, and not beyond a node that failed (spec 04 §5.2). The walk depends on
    /// the statuses alone, so that every process finds the same.
    pub(super) fn failure_in(&self, graph: GraphIndex, which: Which) -> Option<NodeIndex> {
        let mut seen = HashSet::new();
        let mut stack: Vec<_> = self[graph].find(START_NODE).into_iter().collect();
        while let Some(index) = stack.pop() {
            let node = &self[index];
            if node.has_failed() {
                return Some(index);
            }
            if !seen.insert(index) {
                continue;
            }
            let outside = |index: &&NodeIndex| self[**index].arm_of.is_none();
            let mut after: Vec<_> = node.downstream.iter().filter(outside).copied().collect();
            after.sort_by(|one, other| {
                let order = self[*one].spec.id.cmp(&self[*other].spec.id);
                match which {
                    Which::First => order.reverse(),
                    Which::Last => order,
                }
            });
            stack.append(&mut after);
        }
        None
    }

    /// Which node a pod belongs to, for the attempt under way.
    pub(super) fn remember_pod(&mut self, context: &WorkflowContext, index: NodeIndex) {
        if self[index].status.phase.is_terminal() {
            return;
        }
        if let Some(name) = self.pod_name(context, index) {
            self.pods.insert(name, index);
        }
    }

    /// Name of the pod of the attempt under way, whether or not there is one.
    pub(super) fn pod_name(&self, context: &WorkflowContext, index: NodeIndex) -> Option<String> {
        if self[index].spec.kind != NodeKind::Task {
            return None;
        }
        let attempt = Attempt::of(self.view(context, index)).ok()?;
        Some(attempt.pod_name())
    }
}
