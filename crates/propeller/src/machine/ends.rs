//! How graphs end: succeeded, or failed and aborted (spec 04 §4.3, §5.2, §5.5).

use flyte_crd::{NodePhase, WorkflowPhase};
use flyte_idl::core::{
    ExecutionError, execution_error::ErrorKind, workflow_metadata::OnFailurePolicy,
};

use super::{
    AbortState, Activity, GraphIndex, GraphState, Instance, Machine, NodeIndex, graph::is_active,
};
use crate::node::{Observation, subworkflow};

/// Which nodes of a graph are to end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    /// The failure node may be running already when a failing workflow is read again.
    WithoutFailureNode,
}

/// The error of a node that failed or timed out.
pub(super) fn failure_of(node: &Instance) -> ExecutionError {
    if node.status.phase == NodePhase::TimedOut {
        return ExecutionError {
            code: "Timeout".into(),
            message: "Timeout in node".into(),
            kind: ErrorKind::User.into(),
            ..ExecutionError::default()
        };
    }
    node.status.error.as_ref().map_or_else(
        || ExecutionError {
            code: "UnknownError".into(),
            message: format!("node [{}] failed without saying why", node.spec.id),
            ..ExecutionError::default()
        },
        |error| error.0.clone(),
    )
}

impl Machine {
    /// Whether a graph has succeeded or failed by now (spec 04 §5.2). The policy is always the top-level one.
    pub(super) fn check_graph(&mut self, index: GraphIndex) {
        let policy = self
            .graphs
            .first()
            .map_or(OnFailurePolicy::FailImmediately, |graph| {
                graph.spec.on_failure_policy
            });
        let Some(graph) = self.graphs.get(index) else {
            return;
        };
        if graph.state != GraphState::Running {
            return;
        }
        match &graph.failure {
            Some(error) if policy == OnFailurePolicy::FailImmediately || graph.remaining == 0 => {
                let error = error.clone();
                self.graph_failed(index, error);
            }
            None if graph.remaining == 0 => self.graph_ended(index, Ok(())),
            _ => {}
        }
    }

    pub(super) fn graph_failed(&mut self, index: GraphIndex, error: ExecutionError) {
        let Some(graph) = self.graphs.get(index) else {
            return;
        };
        match graph.owner {
            None => self.fail_workflow(error),
            Some(owner) => {
                if let Some(node) = self.nodes.get_mut(owner) {
                    node.status = subworkflow::failing(&node.status, &error);
                }
                self.note_change(owner, false);
                self.abort_graph(index, error);
            }
        }
    }

    /// Ends all active nodes of a graph and of those inside it.
    pub(super) fn abort_graph(&mut self, index: GraphIndex, error: ExecutionError) {
        if let Some(graph) = self.graphs.get_mut(index) {
            graph.state = GraphState::Aborting(error);
        }
        self.want_abort(index, Scope::WithoutFailureNode);
        self.abort_progress(index);
    }

    pub(super) fn want_abort(&mut self, index: GraphIndex, scope: Scope) {
        let Some(graph) = self.graphs.get(index) else {
            return;
        };
        let spared = graph
            .failure_node
            .filter(|_| scope == Scope::WithoutFailureNode);
        let indices: Vec<_> = graph
            .ids
            .values()
            .copied()
            .filter(|index| Some(*index) != spared)
            .collect();
        for node_index in indices {
            let Some(node) = self.nodes.get_mut(node_index) else {
                continue;
            };
            let working =
                node.activity != Activity::Free && node.status.phase == NodePhase::NotYetStarted;
            if (is_active(node) || working)
                && node.abort == AbortState::None
                && !node.status.phase.is_terminal()
            {
                node.abort = AbortState::Wanted;
                self.count_aborting(node_index, usize::saturating_add);
                self.mark(node_index);
            }
            let Some(node) = self.nodes.get(node_index) else {
                continue;
            };
            if let Some(inner) = node.inner.filter(|_| !node.status.phase.is_terminal()) {
                if let Some(graph) = self.graphs.get_mut(inner) {
                    graph.state = GraphState::Ended;
                }
                self.want_abort(inner, Scope::Everything);
            }
        }
    }

    /// Nothing of this node is left to end.
    pub(super) fn abort_done(&mut self, index: NodeIndex) {
        self.end_abort(index);
        self.check_aborted(index);
    }

    pub(super) fn end_abort(&mut self, index: NodeIndex) {
        self.release_slot(index);
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let before = std::mem::replace(&mut node.abort, AbortState::Done);
        if before != AbortState::Done {
            self.note_aborted(index);
        }
        if before == AbortState::Wanted {
            self.count_aborting(index, usize::saturating_sub);
        }
    }

    /// Counts a node that is to end, or has, in its graph and in those around it.
    fn count_aborting(&mut self, index: NodeIndex, change: fn(usize, usize) -> usize) {
        let mut at = self.nodes.get(index).map(|node| node.graph);
        while let Some(graph) = at.and_then(|graph| self.graphs.get_mut(graph)) {
            graph.aborting = change(graph.aborting, 1);
            at = graph
                .owner
                .and_then(|owner| self.nodes.get(owner))
                .map(|owner| owner.graph);
        }
    }

    /// A node was aborted: is it the last one?
    pub(super) fn check_aborted(&mut self, index: NodeIndex) {
        let mut graph = self.nodes.get(index).map(|node| node.graph);
        while let Some(graph_index) = graph {
            self.abort_progress(graph_index);
            graph = self
                .graphs
                .get(graph_index)
                .and_then(|graph| graph.owner)
                .and_then(|owner| self.nodes.get(owner))
                .map(|owner| owner.graph);
        }
    }

    pub(super) fn abort_progress(&mut self, index: GraphIndex) {
        if self.aborting_nodes(index) > 0 {
            return;
        }
        let Some(graph) = self.graphs.get_mut(index) else {
            return;
        };
        let GraphState::Aborting(error) = graph.state.clone() else {
            return;
        };
        let aborted_by_deletion = self.abort_reason.is_some();
        match graph.failure_node {
            Some(failure_node) if !aborted_by_deletion => {
                graph.state = GraphState::FailureNode(error);
                if graph.owner.is_none() {
                    self.status.phase = WorkflowPhase::HandlingFailureNode;
                    self.note_workflow_change();
                }
                let status = self.nodes.get(failure_node).map(|node| node.status.phase);
                if status.is_some_and(NodePhase::is_terminal) {
                    let failure = self
                        .nodes
                        .get(failure_node)
                        .filter(|node| {
                            matches!(node.status.phase, NodePhase::Failed | NodePhase::TimedOut)
                        })
                        .map(failure_of);
                    self.failure_node_ended(index, failure);
                } else {
                    self.mark(failure_node);
                }
            }
            _ => self.graph_ended(index, Err(error)),
        }
    }

    pub(super) fn aborting_nodes(&self, index: GraphIndex) -> usize {
        self.graphs.get(index).map_or(0, |graph| graph.aborting)
    }

    /// The failure node has ended; its own failure hides the first one (spec 04 §4.3).
    pub(super) fn failure_node_ended(
        &mut self,
        index: GraphIndex,
        failure: Option<ExecutionError>,
    ) {
        let Some(graph) = self.graphs.get(index) else {
            return;
        };
        let GraphState::FailureNode(original) = graph.state.clone() else {
            return;
        };
        self.graph_ended(index, Err(failure.unwrap_or(original)));
    }

    pub(super) fn graph_ended(&mut self, index: GraphIndex, result: Result<(), ExecutionError>) {
        let Some(graph) = self.graphs.get_mut(index) else {
            return;
        };
        graph.state = GraphState::Ended;
        match graph.owner {
            Some(owner) => {
                self.observations.insert(owner, Observation::Inner(result));
                self.mark(owner);
            }
            None => self.finish(result),
        }
    }
}
