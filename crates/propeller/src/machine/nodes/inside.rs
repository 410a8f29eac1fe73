//! A node as decisions see it, and what is inside of it: the arm of a branch, the graph of a sub-workflow or of a dynamic
//! task.

use flyte_core::layout::END_NODE;
use flyte_crd::{NodeKind, NodeStatus, status::BranchPhase};

use super::{AbortState, NodeIndex, Nodes, QuotaWait, TaskState};
use crate::{
    machine::{Unreadable, graph_state::GraphState},
    node::{Inside, NodeView, TaskView, WorkflowContext, cache::CacheView, dynamic},
};

impl Nodes {
    /// A node as decisions see it, without what the watches show.
    pub(in crate::machine) fn view<'a>(
        &'a self,
        context: &'a WorkflowContext,
        index: NodeIndex,
    ) -> NodeView<'a> {
        let node = &self[index];
        NodeView {
            workflow: context,
            entities: &self[node.graph].definition.entities,
            spec: &node.spec,
            status: &node.status,
            unique_id: &node.unique_id,
            parent: node.parent.as_ref(),
            files: &node.files,
            inputs: node.inputs.as_ref(),
            inside: self.inside(index),
            is_retrying: node.retry.is_some(),
            task: TaskView {
                pod: None,
                pod_created_at: node.task.pod_created_at,
                may_have_pod: node.task.may_have_pod,
                waits_for_quota: node.task.quota == QuotaWait::Waiting,
                object_events: &[],
                reported: node.task.reported,
            },
            checkpoint: node.checkpoint.as_deref(),
            cache: &node.cache,
            child: None,
            element: node.member.as_ref().map(|member| &member.element),
            elements: None,
        }
    }

    /// Where what is inside a node stands.
    pub(in crate::machine) fn inside(&self, index: NodeIndex) -> Inside<'_> {
        let node = &self[index];
        match node.spec.kind {
            NodeKind::Branch => match self.chosen_arm(index) {
                None => Inside::Nothing,
                Some(arm) => {
                    let arm = &self[arm];
                    if arm.has_failed() {
                        Inside::Failed(arm.failure())
                    } else if arm.status.phase.is_terminal() {
                        Inside::Succeeded
                    } else if arm.abort == AbortState::Done {
                        Inside::Stopped
                    } else {
                        Inside::UnderWay
                    }
                }
            },
            NodeKind::Workflow | NodeKind::Task => match node.inner.map(|inner| &self[inner]) {
                None if dynamic::is_under_way(&node.status) => Inside::Unread,
                None => Inside::Nothing,
                Some(graph) => match &graph.state {
                    GraphState::Ended(Ok(())) => Inside::Succeeded,
                    GraphState::Ended(Err(error)) => Inside::Failed(error),
                    GraphState::Stopping if graph.aborting == 0 => Inside::Stopped,
                    GraphState::Running
                    | GraphState::Aborting(_)
                    | GraphState::FailureNode(_)
                    | GraphState::Stopping => Inside::UnderWay,
                },
            },
            NodeKind::Array => match node.inner.map(|inner| &self[inner]) {
                None => Inside::Nothing,
                Some(graph) if graph.aborting > 0 => Inside::UnderWay,
                Some(graph) if graph.state == GraphState::Stopping => Inside::Stopped,
                Some(_) => Inside::UnderWay,
            },
            NodeKind::Start | NodeKind::End | NodeKind::Gate => Inside::Nothing,
        }
    }

    /// The arm that a branch has chosen.
    pub(in crate::machine) fn chosen_arm(&self, branch: NodeIndex) -> Option<NodeIndex> {
        let node = &self[branch];
        let status = node.status.branch_status.as_ref()?;
        if status.phase != BranchPhase::Success {
            return None;
        }
        self[node.graph].find(&status.final_node_id)
    }

    /// All arms of a branch.
    pub(in crate::machine) fn arms(&self, branch: NodeIndex) -> Vec<NodeIndex> {
        let node = &self[branch];
        let graph = &self[node.graph];
        let arms = node
            .spec
            .branch
            .iter()
            .flat_map(flyte_crd::BranchSpec::arms);
        arms.filter_map(|arm| graph.find(arm)).collect()
    }

    /// Where the outputs are that the node inside gives a node: of the chosen arm, or of the end node of the graph inside.
    pub(in crate::machine) fn inner_outputs(&self, index: NodeIndex) -> Option<String> {
        let inner = match self[index].inner {
            Some(graph) => self[graph].find(END_NODE)?,
            None => self.chosen_arm(index)?,
        };
        Some(self[inner].files.outputs())
    }

    /// Forgets everything about a node and what is inside it, which is to run again in another attempt of the node
    /// around it. Answers with the nodes concerned.
    pub(in crate::machine) fn reset(
        &mut self,
        context: &WorkflowContext,
        index: NodeIndex,
    ) -> Result<Vec<NodeIndex>, Unreadable> {
        let node = &mut self[index];
        node.status = NodeStatus::default();
        node.upstream.done = 0;
        node.upstream.skips = false;
        node.inner = None;
        node.inputs = None;
        node.result = None;
        node.retry = None;
        node.repeats = 0;
        node.abort = AbortState::None;
        node.task = TaskState::default();
        node.cache = CacheView::default();
        node.checkpoint = None;
        self.place(context, index)?;
        self.remember_pod(context, index);
        let mut concerned = vec![index];
        for arm in self.arms(index) {
            concerned.extend(self.reset(context, arm)?);
        }
        Ok(concerned)
    }
}
