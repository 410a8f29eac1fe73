//! What a node becomes, and what follows from it (spec 04 §5.2, §6.2).

use std::collections::BTreeMap;

use flyte_crd::{NodeKind, NodePhase, Time};
use flyte_idl::core::{ExecutionError, execution_error::ErrorKind};
use jiff::Timestamp;

use super::{
    AbortState, Job, JobFor, JobTask, Machine, NodeIndex, Rejection, Room, ends::failure_of,
    system_error,
};
use crate::node::{self, Change, Observation, Then};

impl Machine {
    pub(super) fn begin_change(
        &mut self,
        index: NodeIndex,
        mut change: Box<Change>,
        now: Timestamp,
    ) {
        let events = std::mem::take(&mut change.events);
        if events.is_empty() {
            self.commit(index, *change, now);
            return;
        }
        self.set_busy(index);
        if let Some(node) = self.nodes.get_mut(index) {
            node.pending = Some(change);
        }
        self.jobs.push_back(Job {
            whom: JobFor::Node(index),
            task: JobTask::Send(events),
        });
    }

    /// Admin refused an event of a node for good (spec 04 §11.4, §6.2).
    pub(super) fn rejected(&mut self, index: NodeIndex, rejection: Rejection, now: Timestamp) {
        match rejection {
            Rejection::IncompatibleCluster(message) => {
                self.fail_workflow(system_error("EventIncompatibleClusterError", message));
            }
            Rejection::NoExecution(message) => {
                self.fail_workflow(system_error("ExecutionNotFound", message));
            }
            Rejection::AlreadyEnded { message, .. } => {
                self.fail_node(index, system_error("IllegalStateError", message), now);
            }
            Rejection::Invalid(message) => {
                let error = ExecutionError {
                    code: "NodeFailed".into(),
                    message,
                    kind: ErrorKind::User.into(),
                    ..ExecutionError::default()
                };
                self.fail_node(index, error, now);
            }
        }
    }

    /// Fails a node outside its own decisions. If admin refuses even this, the node has failed all the same.
    pub(super) fn fail_node(&mut self, index: NodeIndex, error: ExecutionError, now: Timestamp) {
        let Some(node) = self.nodes.get(index) else {
            return;
        };
        let refused_before = node
            .status
            .error
            .as_ref()
            .is_some_and(|known| known.0 == error);
        let Some(view) = self.view(index) else { return };
        let mut change = node::fail(&view, error, now);
        if refused_before {
            change.events.clear();
        } else if let Some(node) = self.nodes.get_mut(index) {
            node.status.error.clone_from(&change.status.error);
        }
        self.begin_change(index, Box::new(change), now);
    }

    /// What an earlier process told of a change may have been less than what was told now.
    pub(super) fn repeated(change: &mut Change) {
        let Some(state) = change
            .told
            .as_mut()
            .and_then(|told| told.if_repeated.take())
        else {
            return;
        };
        change.told = None;
        if let Some(task) = &mut change.status.task_node_status {
            task.plugin_state = state;
        }
    }

    /// The events of a change are acknowledged: the node becomes what it was to become.
    pub(super) fn commit(&mut self, index: NodeIndex, change: Change, now: Timestamp) {
        let before = self.before_change(index, now);
        let is_over = self.nodes.get(index).is_some_and(|node| {
            change.status.phase.is_terminal() || change.status.attempts != node.status.attempts
        });
        if is_over && change.delete_pod.is_none() {
            let pod = self.pod_of(index);
            self.ended_pods.extend(pod);
        }
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let attempt_before = node.status.attempts;
        node.status = change.status;
        let is_task = node.spec.kind == NodeKind::Task;
        let ended = node.status.phase.is_terminal();
        let new_attempt = node.status.attempts != attempt_before;
        if new_attempt {
            node.pod_expected = false;
            node.room = Room::Free;
            node.told = None;
        }
        node.told = node.told.max(change.told.map(|told| told.arrival));
        if change.then == Then::Aborted {
            self.end_abort(index);
        }
        self.deletions.extend(change.delete_pod);
        self.set_timer(index, None);
        self.note_change(index, change.derivable);
        if ended {
            self.release_slot(index);
        }
        if new_attempt {
            // A place that was valid for one attempt is valid for the next.
            drop(self.place(index));
        }
        if is_task {
            self.remember_pod(index);
        }
        if let Some(before) = before.filter(|_| change.then != Then::Aborted) {
            self.after_change(&before);
        }
        match change.then {
            Then::Nothing => {}
            Then::StartSubWorkflow => {
                if let Err(error) = self.start_sub_workflow(index, BTreeMap::new()) {
                    self.fail_node(
                        index,
                        system_error("BadSpecificationError", error.to_string()),
                        now,
                    );
                    return;
                }
            }
            Then::ChooseArm(chosen) => self.choose_arm(index, chosen.as_deref(), now),
            Then::Aborted => {
                self.check_aborted(index);
                return;
            }
        }
        if ended {
            let abort_wanted = self
                .nodes
                .get(index)
                .is_some_and(|node| node.abort == AbortState::Wanted);
            if abort_wanted {
                self.abort_done(index);
            } else {
                self.node_ended(index);
            }
        } else {
            self.mark(index);
        }
    }

    /// The chosen arm may start; all others are skipped without an event (spec 04 §7.3).
    pub(super) fn choose_arm(&mut self, branch: NodeIndex, chosen: Option<&str>, now: Timestamp) {
        let Some(node) = self.nodes.get(branch) else {
            return;
        };
        let branch_id = node.spec.id.clone();
        let arms: Vec<String> = node
            .spec
            .branch
            .as_ref()
            .map(|spec| spec.arms().map(str::to_owned).collect())
            .unwrap_or_default();
        let Some(graph) = self.graphs.get(node.graph) else {
            return;
        };
        let indices: Vec<_> = arms
            .iter()
            .filter_map(|arm| graph.ids.get(arm).copied())
            .collect();
        for index in indices {
            let Some(arm) = self.nodes.get_mut(index) else {
                continue;
            };
            if Some(arm.spec.id.as_str()) == chosen {
                arm.status.parent_node.clone_from(&branch_id);
                self.mark(index);
            } else if !arm.status.phase.is_terminal() {
                arm.status.phase = NodePhase::Skipped;
                arm.status.stopped_at = Some(Time::new(now));
            }
            self.note_change(index, true);
        }
    }

    pub(super) fn node_ended(&mut self, index: NodeIndex) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        node.inputs = None;
        let (graph_index, arm_of, phase) = (node.graph, node.arm_of, node.status.phase);
        let failed = matches!(phase, NodePhase::Failed | NodePhase::TimedOut);
        let failure = failed.then(|| failure_of(node));
        let downstream = node.downstream.clone();
        if let Some(branch) = arm_of {
            let result = failure.map_or(Ok(()), Err);
            self.observations.insert(branch, Observation::Inner(result));
            self.mark(branch);
            return;
        }
        let Some(graph) = self.graphs.get_mut(graph_index) else {
            return;
        };
        if graph.failure_node == Some(index) {
            self.failure_node_ended(graph_index, failure);
            return;
        }
        graph.remaining = graph.remaining.saturating_sub(1);
        if failure.is_some() {
            graph.failure = failure;
        }
        self.mark_all(downstream);
        self.check_graph(graph_index);
    }
}
