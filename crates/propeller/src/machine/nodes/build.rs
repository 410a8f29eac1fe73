//! How a graph is made: its nodes with their names and files, and the edges between them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use flyte_core::{
    layout::START_NODE,
    unique_id::{self, Parent},
};
use flyte_crd::{NodeSpec, NodeStatus};

use super::{
    AbortState, Graph, GraphIndex, Node, NodeHistory, NodeIndex, Nodes, TaskState, Upstream, Which,
    order::in_order,
};
use crate::{
    machine::{Unreadable, graph_state::GraphState},
    node::{NodeFiles, WorkflowContext, WorkflowDefinition, cache::CacheView},
};

/// Where in the workflow a node is.
struct Position {
    graph: GraphIndex,
    /// The branch whose arm it is.
    arm_of: Option<NodeIndex>,
}

impl Nodes {
    /// Adds a graph with the statuses that are known of its nodes. Answers with its nodes.
    pub(in crate::machine) fn add_graph(
        &mut self,
        context: &WorkflowContext,
        owner: Option<NodeIndex>,
        definition: &WorkflowDefinition,
        mut statuses: BTreeMap<String, NodeStatus>,
    ) -> Result<GraphIndex, Unreadable> {
        let number = u32::try_from(self.graphs.len());
        let graph = GraphIndex(number.map_err(|_| Unreadable::TooLarge)?);
        let spec = &definition.spec;
        let order = in_order(spec)?;
        self.graphs.push(Graph {
            owner,
            definition: definition.clone(),
            ids: HashMap::with_capacity(order.len()),
            failure_node: None,
            remaining: 0,
            aborting: 0,
            first_failed: None,
            state: GraphState::Running,
        });
        for (node, branch) in order {
            let arm_of = branch.and_then(|branch| self[graph].find(branch));
            let status = statuses.remove(&node.id).unwrap_or_default();
            self.add_node(context, Position { graph, arm_of }, node, status)?;
        }
        if self[graph].find(START_NODE).is_none() {
            return Err(Unreadable::Graph("there is no start node".into()));
        }
        self[graph].failure_node = spec
            .on_failure
            .as_deref()
            .and_then(|node| self[graph].find(&node.id));
        self.connect(graph)?;
        self.count(graph);
        Ok(graph)
    }

    fn add_node(
        &mut self,
        context: &WorkflowContext,
        position: Position,
        spec: &NodeSpec,
        status: NodeStatus,
    ) -> Result<(), Unreadable> {
        let number = u32::try_from(self.arena.len());
        let index = NodeIndex(number.map_err(|_| Unreadable::TooLarge)?);
        let Position { graph, arm_of } = position;
        let around = arm_of.or(self[graph].owner);
        let place = Place::of(
            context,
            around.map(|around| &self[around]),
            &spec.id,
            status.attempts,
        )?;
        self[graph].ids.insert(spec.id.clone(), index);
        let mut node = new_node(graph, Arc::new(spec.clone()), status, place);
        node.arm_of = arm_of;
        self.arena.push(node);
        self.remember_pod(context, index);
        Ok(())
    }

    /// Names and files of a node for its current attempt.
    pub(in crate::machine) fn place(
        &mut self,
        context: &WorkflowContext,
        index: NodeIndex,
    ) -> Result<(), Unreadable> {
        let around = self.around(index).map(|around| &self[around]);
        let node = &self[index];
        let place = match &node.member {
            Some(member) => self.element_place(member, node.status.attempts)?,
            None => Place::of(context, around, &node.spec.id, node.status.attempts)?,
        };
        let node = &mut self[index];
        node.unique_id = place.unique_id;
        node.parent = place.parent;
        node.files = place.files;
        Ok(())
    }

    /// Every edge in both directions. A node is woken by all that it comes after, whichever of the two lists of the
    /// resource names the edge: of arms only `upstream` does (spec 03 §4.5).
    fn connect(&mut self, graph: GraphIndex) -> Result<(), Unreadable> {
        let edges = self[graph].definition.spec.complete_edges();
        let find = |nodes: &Self, id: &String| {
            nodes[graph].find(id).ok_or_else(|| {
                Unreadable::Graph(format!("an edge names node [{id}], which does not exist"))
            })
        };
        for (id, list) in &edges.upstream {
            let index = find(self, id)?;
            for before in list {
                let before = find(self, before)?;
                self[index].upstream.nodes.push(before);
                self[before].downstream.push(index);
            }
        }
        for (id, list) in &edges.downstream {
            let index = find(self, id)?;
            for after in list {
                let after = find(self, after)?;
                self[index].downstream.push(after);
            }
        }
        for index in self.in_graph(graph) {
            let downstream = &mut self[index].downstream;
            downstream.sort_unstable();
            downstream.dedup();
        }
        Ok(())
    }

    fn count(&mut self, graph: GraphIndex) {
        let counts = |index: &NodeIndex| {
            self[*index].arm_of.is_none() && self[graph].failure_node != Some(*index)
        };
        let open = |index: &NodeIndex| !self[*index].status.phase.is_terminal();
        let indices = self.in_graph(graph);
        let remaining = indices.iter().filter(|index| counts(index) && open(index));
        self[graph].remaining = remaining.count();
        self[graph].first_failed = self.failure_in(graph, Which::First);
    }
}

/// A node of which this process knows nothing but its status.
pub(super) fn new_node(
    graph: GraphIndex,
    spec: Arc<NodeSpec>,
    status: NodeStatus,
    place: Place,
) -> Node {
    Node {
        graph,
        unique_id: place.unique_id,
        parent: place.parent,
        files: place.files,
        spec,
        status,
        upstream: Upstream::default(),
        downstream: Vec::new(),
        arm_of: None,
        inner: None,
        inputs: None,
        result: None,
        pending: None,
        retry: None,
        purpose: "",
        repeats: 0,
        abort: AbortState::None,
        task: TaskState::default(),
        cache: CacheView::default(),
        checkpoint: None,
        metrics: NodeHistory::default(),
        member: None,
    }
}

/// Name and files of a node's attempt.
pub(super) struct Place {
    pub(super) unique_id: String,
    pub(super) parent: Option<Parent>,
    pub(super) files: NodeFiles,
}

impl Place {
    fn of(
        context: &WorkflowContext,
        around: Option<&Node>,
        id: &str,
        attempt: u32,
    ) -> Result<Self, Unreadable> {
        let parent = around.map(|around| Parent {
            unique_id: around.unique_id.clone(),
            attempt: around.status.attempts,
        });
        Ok(Self {
            unique_id: unique_id::node(parent.as_ref(), id),
            files: match around {
                Some(around) => NodeFiles::nested(around.files.output(), id, attempt)?,
                None => NodeFiles::top_level(&context.data_dir, id, attempt)?,
            },
            parent,
        })
    }
}
