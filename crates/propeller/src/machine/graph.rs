//! The arena: graphs and nodes, edges, what is ready.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use flyte_core::{
    layout::START_NODE,
    unique_id::{self, Parent},
};
use flyte_crd::{
    NodeKind, NodePhase, NodeSpec, NodeStatus, WorkflowSpec,
    status::{BranchPhase, WorkflowNodePhase},
};

use super::{
    AbortState, Activity, Graph, GraphIndex, GraphState, Instance, Machine, NodeIndex, Past, Room,
    Unreadable, Upstream,
};
use crate::node::Places;

/// What a node's upstream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    NotReady,
    Skip,
}

impl Machine {
    /// Adds a graph with the statuses that are known of its nodes.
    pub(super) fn add_graph(
        &mut self,
        owner: Option<NodeIndex>,
        spec: Arc<WorkflowSpec>,
        mut statuses: BTreeMap<String, NodeStatus>,
    ) -> Result<GraphIndex, Unreadable> {
        let parent = owner
            .and_then(|owner| self.nodes.get(owner))
            .map(|owner| Parent {
                unique_id: owner.unique_id.clone(),
                attempt: owner.status.attempts,
            });
        let graph_index = self.graphs.len();
        let mut ids = HashMap::new();
        let first = self.nodes.len();
        let on_failure = spec.on_failure.as_deref();
        for (offset, node) in spec.nodes.values().chain(on_failure).enumerate() {
            ids.insert(node.id.clone(), first + offset);
            self.nodes.push(Instance {
                graph: graph_index,
                spec: Arc::new(NodeSpec::clone(node)),
                unique_id: String::new(),
                parent: None,
                places: Places::top_level("s3://unset", "unset", 0)?,
                status: statuses.remove(&node.id).unwrap_or_default(),
                upstream: Upstream::default(),
                downstream: Vec::new(),
                arm_of: None,
                inner: None,
                holds_slot: false,
                activity: Activity::Free,
                pending: None,
                inputs: None,
                pod_expected: false,
                room: Room::default(),
                past: Past::default(),
                told: None,
                abort: AbortState::None,
                timer: None,
            });
        }
        if !ids.contains_key(START_NODE) {
            return Err(Unreadable::Graph("there is no start node".into()));
        }
        let failure_node = on_failure.and_then(|node| ids.get(&node.id).copied());
        self.graphs.push(Graph {
            owner,
            parent,
            ids,
            failure_node,
            remaining: 0,
            aborting: 0,
            failure: None,
            state: GraphState::Running,
            spec: spec.clone(),
        });
        self.connect(graph_index, &spec)?;
        self.place_all(graph_index)?;
        self.count(graph_index);
        // Sub-workflows that were under way go on.
        for index in first..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(index) else {
                continue;
            };
            let started = node.status.workflow_node_status.as_ref();
            if node.status.phase.is_terminal()
                || started.is_none_or(|status| status.phase == WorkflowNodePhase::Undefined)
            {
                continue;
            }
            let inner = std::mem::take(&mut node.status.sub_node_status);
            let failing = node
                .status
                .workflow_node_status
                .as_ref()
                .filter(|status| status.phase == WorkflowNodePhase::Failing)
                .map(|status| {
                    status
                        .execution_error
                        .as_ref()
                        .map(|error| error.0.clone())
                        .unwrap_or_default()
                });
            self.start_sub_workflow(index, inner)?;
            let inner = self.nodes.get(index).and_then(|node| node.inner);
            if let (Some(error), Some(inner)) = (failing, inner) {
                self.abort_graph(inner, error);
            }
        }
        Ok(graph_index)
    }

    /// Starts the sub-workflow of a node.
    pub(super) fn start_sub_workflow(
        &mut self,
        owner: NodeIndex,
        statuses: BTreeMap<String, NodeStatus>,
    ) -> Result<(), Unreadable> {
        let spec = self
            .nodes
            .get(owner)
            .and_then(|node| node.spec.workflow.as_ref()?.sub_workflow_ref.as_ref())
            .and_then(|key| self.run.sub_workflows.get(key))
            .cloned();
        let Some(spec) = spec else { return Ok(()) };
        let graph = self.add_graph(Some(owner), spec, statuses)?;
        if let Some(node) = self.nodes.get_mut(owner) {
            node.inner = Some(graph);
        }
        self.resume_graph(graph);
        Ok(())
    }

    fn connect(&mut self, graph: GraphIndex, spec: &WorkflowSpec) -> Result<(), Unreadable> {
        let Some(ids) = self.graphs.get(graph).map(|graph| graph.ids.clone()) else {
            return Ok(());
        };
        let find = |id: &String| {
            ids.get(id).copied().ok_or_else(|| {
                Unreadable::Graph(format!("an edge names node [{id}], which does not exist"))
            })
        };
        let edges = spec.complete_edges();
        for (id, list) in &edges.upstream {
            let upstream = list.iter().map(find).collect::<Result<Vec<_>, _>>()?;
            let index = find(id)?;
            if let Some(node) = self.nodes.get_mut(index) {
                node.upstream.nodes = upstream;
            }
        }
        for (id, list) in &edges.downstream {
            let downstream = list.iter().map(find).collect::<Result<Vec<_>, _>>()?;
            let index = find(id)?;
            if let Some(node) = self.nodes.get_mut(index) {
                node.downstream = downstream;
            }
        }
        for node in spec.nodes.values() {
            let Some(branch) = &node.branch else { continue };
            let branch_index = find(&node.id)?;
            for arm in branch.arms() {
                let arm = find(&arm.to_owned())?;
                if let Some(arm) = self.nodes.get_mut(arm) {
                    arm.arm_of = Some(branch_index);
                }
            }
        }
        Ok(())
    }

    /// Names and folders of all nodes of a graph; branches before their arms.
    fn place_all(&mut self, graph: GraphIndex) -> Result<(), Unreadable> {
        let mut indices: Vec<_> = self
            .graphs
            .get(graph)
            .map(|graph| graph.ids.values().copied().collect())
            .unwrap_or_default();
        indices.sort_by_key(|index| (self.depth(*index), *index));
        for index in indices {
            self.place(index)?;
            self.remember_pod(index);
        }
        Ok(())
    }

    /// How many branches a node is an arm of, one inside the other.
    fn depth(&self, index: NodeIndex) -> usize {
        let mut depth = 0;
        let mut at = self.nodes.get(index).and_then(|node| node.arm_of);
        while let Some(branch) = at {
            depth += 1;
            if depth > self.nodes.len() {
                break;
            }
            at = self.nodes.get(branch).and_then(|node| node.arm_of);
        }
        depth
    }

    /// The node around a node: its branch, or the owner of its graph.
    pub(super) fn parent_of(&self, index: NodeIndex) -> Option<Parent> {
        let node = self.nodes.get(index)?;
        match node.arm_of.and_then(|branch| self.nodes.get(branch)) {
            Some(branch) => Some(Parent {
                unique_id: branch.unique_id.clone(),
                attempt: branch.status.attempts,
            }),
            None => self.graphs.get(node.graph)?.parent.clone(),
        }
    }

    /// Unique id and folders of a node, for its current attempt.
    pub(super) fn place(&mut self, index: NodeIndex) -> Result<(), Unreadable> {
        let parent = self.parent_of(index);
        let Some(node) = self.nodes.get(index) else {
            return Ok(());
        };
        let unique_id = unique_id::node(parent.as_ref(), &node.spec.id);
        let attempt = node.status.attempts;
        let around = node
            .arm_of
            .or_else(|| self.graphs.get(node.graph).and_then(|graph| graph.owner))
            .and_then(|around| self.nodes.get(around));
        let places = match around {
            Some(around) => Places::nested(around.places.output(), &node.spec.id, attempt)?,
            None => Places::top_level(&self.run.data_dir, &node.spec.id, attempt)?,
        };
        if let Some(node) = self.nodes.get_mut(index) {
            node.unique_id = unique_id;
            node.parent = parent;
            node.places = places;
        }
        Ok(())
    }

    /// Which node a pod belongs to, for the attempt under way.
    pub(super) fn remember_pod(&mut self, index: NodeIndex) {
        let over = |status: &NodeStatus| status.phase.is_terminal();
        if self.nodes.get(index).is_some_and(|node| over(&node.status)) {
            return;
        }
        if let Some(name) = self.pod_of(index) {
            self.pods.insert(name, index);
        }
    }

    /// Name of the pod of the attempt under way, whether or not there is one.
    pub(super) fn pod_of(&self, index: NodeIndex) -> Option<String> {
        let view = self.view(index)?;
        if view.spec.kind != NodeKind::Task {
            return None;
        }
        let attempt = crate::node::task::Attempt::of(view).ok()?;
        Some(attempt.pod_name())
    }

    fn count(&mut self, graph: GraphIndex) {
        let Some(known) = self.graphs.get(graph) else {
            return;
        };
        let failure_node = known.failure_node;
        let mut remaining = 0;
        let mut failure = None;
        let mut active = Vec::new();
        for index in known.ids.values().copied() {
            let Some(node) = self.nodes.get(index) else {
                continue;
            };
            if is_active(node) {
                active.push(index);
            }
            if node.arm_of.is_some() || Some(index) == failure_node {
                continue;
            }
            if !node.status.phase.is_terminal() {
                remaining += 1;
            }
            if matches!(node.status.phase, NodePhase::Failed | NodePhase::TimedOut) {
                failure = Some(super::ends::failure_of(node));
            }
        }
        if let Some(graph) = self.graphs.get_mut(graph) {
            graph.remaining = remaining;
            graph.failure = failure;
        }
        for index in active {
            self.take_slot(index);
        }
    }

    /// Whether a node may start (spec 04 §5.3). An upstream node that is done with stays so, and is not looked at
    /// again.
    pub(super) fn readiness(&mut self, index: NodeIndex) -> Readiness {
        let Some(node) = self.nodes.get(index) else {
            return Readiness::NotReady;
        };
        let graph = self.graphs.get(node.graph);
        if node.spec.kind == NodeKind::Start {
            return Readiness::Ready;
        }
        if graph.is_some_and(|graph| graph.failure_node == Some(index)) {
            return match graph.map(|graph| &graph.state) {
                Some(GraphState::FailureNode(_)) => Readiness::Ready,
                _ => Readiness::NotReady,
            };
        }
        if node.arm_of.is_some() && node.status.parent_node.is_empty() {
            return Readiness::NotReady;
        }
        let (mut done, mut skips) = (node.upstream.done, node.upstream.skips);
        let mut ended_at = node.upstream.ended_at;
        let waits = loop {
            let Some(upstream) = node.upstream.nodes.get(done) else {
                break false;
            };
            match self.upstream(node, *upstream) {
                Readiness::NotReady => break true,
                Readiness::Skip => skips = true,
                Readiness::Ready => {}
            }
            let ended = self
                .nodes
                .get(*upstream)
                .and_then(|node| node.status.stopped_at);
            ended_at = ended_at.max(ended.map(flyte_crd::Time::timestamp));
            done += 1;
        };
        if let Some(node) = self.nodes.get_mut(index) {
            node.upstream.done = done;
            node.upstream.skips = skips;
            node.upstream.ended_at = ended_at;
        }
        match (waits, skips) {
            (true, _) => Readiness::NotReady,
            (false, true) => Readiness::Skip,
            (false, false) => Readiness::Ready,
        }
    }

    /// What one upstream node says about a node.
    fn upstream(&self, node: &Instance, upstream: NodeIndex) -> Readiness {
        let Some(upstream) = self.nodes.get(upstream) else {
            return Readiness::Ready;
        };
        if let Some(branch) = &upstream.status.branch_status {
            if branch.phase != BranchPhase::Success {
                return Readiness::NotReady;
            }
            if upstream.spec.id == node.status.parent_node {
                return Readiness::Ready;
            }
        }
        match upstream.status.phase {
            NodePhase::Succeeded | NodePhase::Recovered => Readiness::Ready,
            NodePhase::Skipped | NodePhase::Failed | NodePhase::TimedOut => Readiness::Skip,
            _ => Readiness::NotReady,
        }
    }

    /// Marks what has to be looked at after a start: nodes under way, and those that may start.
    pub(super) fn resume_graph(&mut self, graph: GraphIndex) {
        let Some(indices) = self
            .graphs
            .get(graph)
            .map(|graph| graph.ids.values().copied().collect::<Vec<_>>())
        else {
            return;
        };
        for index in indices {
            let Some(node) = self.nodes.get(index) else {
                continue;
            };
            let (ended, active) = (node.status.phase.is_terminal(), is_active(node));
            if !ended && (active || self.readiness(index) != Readiness::NotReady) {
                self.mark(index);
            }
        }
    }
}

/// Whether a node has begun and not ended.
pub(super) fn is_active(node: &Instance) -> bool {
    node.status.phase != NodePhase::NotYetStarted && !node.status.phase.is_terminal()
}
