//! Whether a node may start.

use flyte_crd::{NodeKind, NodePhase, status::BranchPhase};

use super::{Node, NodeIndex, Nodes, Readiness};
use crate::machine::graph_state::GraphState;

impl Nodes {
    /// Whether a node may start (spec 04 §5.3). An upstream node that is done with stays so, and is not looked at
    /// again.
    pub(in crate::machine) fn readiness(&mut self, index: NodeIndex) -> Readiness {
        let node = &self[index];
        if node.spec.kind == NodeKind::Start {
            return Readiness::Ready;
        }
        let graph = &self[node.graph];
        if graph.failure_node == Some(index) {
            return match graph.state {
                GraphState::FailureNode(_) => Readiness::Ready,
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
            let upstream = &self[*upstream];
            match permits(upstream, node) {
                Readiness::NotReady => break true,
                Readiness::Skip => skips = true,
                Readiness::Ready => {}
            }
            ended_at = ended_at.max(upstream.status.stopped_at.map(flyte_crd::Time::timestamp));
            done += 1;
        };
        let known = &mut self[index].upstream;
        known.done = done;
        known.skips = skips;
        known.ended_at = ended_at;
        match (waits, skips) {
            (true, _) => Readiness::NotReady,
            (false, true) => Readiness::Skip,
            (false, false) => Readiness::Ready,
        }
    }
}

/// What one upstream node says about a node.
fn permits(upstream: &Node, node: &Node) -> Readiness {
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
        NodePhase::NotYetStarted
        | NodePhase::Queued
        | NodePhase::Running
        | NodePhase::Failing
        | NodePhase::Succeeding
        | NodePhase::RetryableFailure
        | NodePhase::TimingOut
        | NodePhase::DynamicRunning
        | NodePhase::Unknown(_) => Readiness::NotReady,
    }
}
