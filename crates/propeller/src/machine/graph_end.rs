//! How graphs begin and end: started, succeeded, or failed and aborted (spec 04 §4.3, §5.2, §5.5).
//!
//! ```text
//!            all nodes ended, none failed
//! Running ───────────────────────────────────────────────────────────▶ Ended(Ok)
//!    │ a node failed (and, FAIL_AFTER_EXECUTABLE_NODES_COMPLETE, nothing is left)
//!    ▼            nothing is left to abort                 it has ended
//! Aborting(error) ─── there is a failure node ─▶ FailureNode(error) ─▶ Ended(Err)
//!    │            └── there is none ─────────────────────────────────▶ Ended(Err)
//!    │ what is around it is aborted
//!    └───────────▶ Stopping (from any state but Ended)
//! ```
//!
//! Whether a graph has ended is a question that can be asked at any time: [`Machine::check_graph`] answers it when a
//! node ends and when a status is read, so that it does not matter which process saw the last node end.

use std::collections::BTreeMap;

use flyte_crd::{NodeKind, NodePhase, NodeStatus, WorkflowPhase, status::WorkflowNodePhase};
use flyte_idl::core::{ExecutionError, workflow_metadata::OnFailurePolicy};

use super::{
    Machine, NodeIndex, Unreadable,
    graph_state::GraphState,
    nodes::{AbortState, GraphIndex, Nodes, Readiness, Which},
};
use crate::node::{self, WorkflowDefinition, dynamic, subworkflow};

/// Which nodes of a graph are to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Everything,
    /// The failure node may be running already when a failing workflow is read again.
    WithoutFailureNode,
}

impl Machine {
    /// Adds a graph and, as far as statuses say that they were under way, the sub-workflows in it.
    pub(super) fn open_graph(
        &mut self,
        owner: Option<NodeIndex>,
        definition: &WorkflowDefinition,
        statuses: BTreeMap<String, NodeStatus>,
    ) -> Result<GraphIndex, Unreadable> {
        let context = self.context.clone();
        let graph = self
            .nodes
            .add_graph(&context, owner, definition, statuses)?;
        if let Some(owner) = owner {
            self.nodes[owner].inner = Some(graph);
        }
        for index in self.nodes.in_graph(graph) {
            let node = &self.nodes[index];
            if !node.is_active() {
                continue;
            }
            match node.spec.kind {
                NodeKind::Task if node.takes_slot() => self.queue.take_slot(index),
                NodeKind::Workflow if node.takes_slot() => {
                    self.queue.take_slot(index);
                    self.await_child(index);
                }
                NodeKind::Workflow => {
                    let started = node.status.workflow_node_status.as_ref();
                    if started.is_some_and(|status| status.phase != WorkflowNodePhase::Undefined) {
                        self.open_sub_workflow(index)?;
                    }
                }
                NodeKind::Array => self.open_array(index)?,
                // What a task has made is read first.
                NodeKind::Task
                | NodeKind::Start
                | NodeKind::End
                | NodeKind::Branch
                | NodeKind::Gate => {}
            }
        }
        Ok(graph)
    }

    /// Adds the graph of a node's sub-workflow, with the statuses that the node's own has of it.
    pub(super) fn open_sub_workflow(
        &mut self,
        owner: NodeIndex,
    ) -> Result<Option<GraphIndex>, Unreadable> {
        let node = &mut self.nodes[owner];
        let statuses = std::mem::take(&mut node.status.sub_node_status);
        let reference = node.spec.workflow.as_ref();
        let key = reference.and_then(|workflow| workflow.sub_workflow_ref.clone());
        let entities = self.nodes[self.nodes[owner].graph]
            .definition
            .entities
            .clone();
        let spec = key.and_then(|key| entities.sub_workflows.get(&key).cloned());
        let Some(spec) = spec else { return Ok(None) };
        let definition = WorkflowDefinition { spec, entities };
        self.open_graph(Some(owner), &definition, statuses)
            .map(Some)
    }

    /// Adds the graph that the task of a node has made, with the statuses that the node's own has of it.
    pub(super) fn open_dynamic(
        &mut self,
        owner: NodeIndex,
        definition: &WorkflowDefinition,
    ) -> Result<GraphIndex, Unreadable> {
        let statuses = dynamic::take_statuses(&mut self.nodes[owner].status);
        self.open_graph(Some(owner), definition, statuses)
    }

    /// Starts a graph, or goes on with it where its statuses say that it stands: marks the nodes that are under way or
    /// may start, and ends what has ended. Sub-workflows in it before itself.
    pub(super) fn resume_graph(&mut self, graph: GraphIndex) {
        let indices = self.nodes.in_graph(graph);
        for index in &indices {
            match self.nodes[*index].inner {
                Some(elements) if self.has_elements(*index) => self.resume_array(*index, elements),
                Some(inner) => self.resume_graph(inner),
                None => {}
            }
        }
        for index in &indices {
            let node = &self.nodes[*index];
            if node.status.phase.is_terminal() {
                continue;
            }
            let is_leaving = node::is_leaving(&node.status);
            if node.is_active() || self.nodes.readiness(*index) != Readiness::NotReady {
                self.queue.mark(*index);
            }
            if is_leaving {
                self.abort_inside(*index);
            }
        }
        let failing = self.nodes[graph].owner.and_then(|owner| {
            let status = &self.nodes[owner].status;
            subworkflow::failing_because(status).or_else(|| dynamic::failing_because(status))
        });
        match failing {
            Some(error) => self.abort_graph(graph, error),
            None => self.check_graph(graph),
        }
    }

    /// Whether a graph has succeeded or failed by now (spec 04 §5.2). The policy is always the top-level one.
    pub(super) fn check_graph(&mut self, index: GraphIndex) {
        let policy = self.nodes[Nodes::TOP].definition.spec.on_failure_policy;
        let graph = &self.nodes[index];
        if graph.state != GraphState::Running {
            return;
        }
        let failed = match graph.first_failed {
            None if graph.remaining == 0 => {
                self.graph_ended(index, Ok(()));
                return;
            }
            None => return,
            Some(first) if policy == OnFailurePolicy::FailImmediately => first,
            Some(_) if graph.remaining > 0 => return,
            Some(first) => self.nodes.failure_in(index, Which::Last).unwrap_or(first),
        };
        self.graph_failed(index, failed);
    }

    fn graph_failed(&mut self, index: GraphIndex, failed: NodeIndex) {
        let error = self.nodes[failed].failure().clone();
        let has_timed_out = self.nodes[failed].status.phase == NodePhase::TimedOut;
        match self.nodes[index].owner {
            None => self.fail_workflow(error),
            Some(owner) => {
                let node = &mut self.nodes[owner];
                node.status = if node.spec.kind == NodeKind::Task {
                    dynamic::failing(&node.status, &error, !has_timed_out)
                } else {
                    subworkflow::failing(&node.status, &error)
                };
                self.note_change(owner, false);
                self.abort_graph(index, error);
            }
        }
    }

    /// Ends all active nodes of a graph that has failed and of those inside it.
    pub(super) fn abort_graph(&mut self, index: GraphIndex, error: ExecutionError) {
        self.nodes[index].state = GraphState::Aborting(error);
        self.want_abort(index, Scope::WithoutFailureNode);
        self.abort_progress(index);
    }

    /// Ends all active nodes of a graph, because what is around it is to end.
    pub(super) fn stop_graph(&mut self, index: GraphIndex) {
        if matches!(self.nodes[index].state, GraphState::Ended(_)) {
            return;
        }
        self.nodes[index].state = GraphState::Stopping;
        self.want_abort(index, Scope::Everything);
    }

    /// Ends what is inside a node, but not the node.
    pub(super) fn abort_inside(&mut self, index: NodeIndex) {
        if let Some(inner) = self.nodes[index].inner {
            self.stop_graph(inner);
        }
        if self.nodes[index].spec.kind == NodeKind::Branch
            && let Some(arm) = self.nodes.chosen_arm(index)
        {
            self.want_node_abort(arm);
        }
    }

    fn want_abort(&mut self, index: GraphIndex, scope: Scope) {
        let graph = &self.nodes[index];
        let spared = graph
            .failure_node
            .filter(|_| scope == Scope::WithoutFailureNode);
        for node in self.nodes.in_graph(index) {
            if Some(node) != spared {
                self.want_node_abort(node);
            }
        }
    }

    fn want_node_abort(&mut self, index: NodeIndex) {
        let node = &self.nodes[index];
        if node.status.phase.is_terminal() {
            return;
        }
        let has_begun = node.is_active() || self.queue.is_busy(index);
        if node.abort == AbortState::None {
            if has_begun {
                self.nodes[index].abort = AbortState::Wanted;
                self.count_aborting(index, usize::saturating_add);
                self.queue.mark(index);
            } else {
                // It will not begin any more.
                self.nodes[index].abort = AbortState::Done;
            }
        }
        self.abort_inside(index);
    }

    /// Nothing of this node is left to end.
    pub(super) fn abort_done(&mut self, index: NodeIndex) {
        self.end_abort(index);
        self.check_aborted(index);
    }

    pub(super) fn end_abort(&mut self, index: NodeIndex) {
        self.queue.release_slot(index);
        self.children.awaits(index, None);
        let before = std::mem::replace(&mut self.nodes[index].abort, AbortState::Done);
        if before != AbortState::Done {
            self.note_aborted(index);
        }
        if before == AbortState::Wanted {
            self.count_aborting(index, usize::saturating_sub);
        }
    }

    /// Whether something inside a node is still being aborted.
    pub(super) fn aborts_inside(&self, index: NodeIndex) -> bool {
        let node = &self.nodes[index];
        node.inner
            .is_some_and(|inner| self.nodes[inner].aborting > 0)
            || self
                .nodes
                .chosen_arm(index)
                .is_some_and(|arm| self.nodes[arm].abort == AbortState::Wanted)
    }

    /// Counts a node that is to end, or has, in its graph and in those around it.
    fn count_aborting(&mut self, index: NodeIndex, change: fn(usize, usize) -> usize) {
        let mut at = Some(self.nodes[index].graph);
        while let Some(graph) = at {
            let graph = &mut self.nodes[graph];
            graph.aborting = change(graph.aborting, 1);
            at = graph.owner.map(|owner| self.nodes[owner].graph);
        }
    }

    /// A node was aborted: is it the last one? What is around it may have waited for that.
    pub(super) fn check_aborted(&mut self, index: NodeIndex) {
        let mut at = Some(index);
        while let Some(node) = at {
            at = self.nodes.around(node);
            if let Some(around) = at {
                self.queue.mark(around);
            }
            let graph = self.nodes[node].graph;
            if at.is_none_or(|around| self.nodes[around].graph != graph) {
                self.abort_progress(graph);
            }
        }
    }

    fn abort_progress(&mut self, index: GraphIndex) {
        let is_deleted = self.lifecycle.is_aborted();
        let graph = &mut self.nodes[index];
        if graph.aborting > 0 {
            return;
        }
        let GraphState::Aborting(error) = graph.state.clone() else {
            return;
        };
        match graph.failure_node {
            Some(failure_node) if !is_deleted => {
                graph.state = GraphState::FailureNode(error);
                if graph.owner.is_none() {
                    self.status.phase = WorkflowPhase::HandlingFailureNode;
                    self.note_workflow_change();
                }
                if self.nodes[failure_node].status.phase.is_terminal() {
                    self.failure_node_ended(index);
                } else {
                    self.queue.mark(failure_node);
                }
            }
            _ => self.graph_ended(index, Err(error)),
        }
    }

    /// The failure node has ended; its own failure hides the first one (spec 04 §4.3).
    pub(super) fn failure_node_ended(&mut self, index: GraphIndex) {
        let graph = &self.nodes[index];
        let (GraphState::FailureNode(original), Some(node)) = (&graph.state, graph.failure_node)
        else {
            return;
        };
        let node = &self.nodes[node];
        let error = if node.has_failed() {
            node.failure().clone()
        } else {
            original.clone()
        };
        self.graph_ended(index, Err(error));
    }

    fn graph_ended(&mut self, index: GraphIndex, result: Result<(), ExecutionError>) {
        self.nodes[index].state = GraphState::Ended(result.clone());
        match self.nodes[index].owner {
            Some(owner) => self.queue.mark(owner),
            None => self.finish(result),
        }
    }
}
