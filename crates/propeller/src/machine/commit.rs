//! What a node becomes, and what follows from it (spec 04 §5.2, §6.2).

use flyte_crd::{NodeKind, NodePhase, Time};
use flyte_idl::core::{ExecutionError, execution_error::ErrorKind};
use jiff::Timestamp;

use super::{
    Machine, NodeIndex, Rejection,
    nodes::{AbortState, QuotaWait},
};
use crate::node::{self, Change, Then, launch_plan, system};

impl Machine {
    /// Admin refused an event of a node for good (spec 04 §11.4, §6.2).
    pub(super) fn rejected(&mut self, index: NodeIndex, rejection: Rejection, now: Timestamp) {
        match rejection {
            Rejection::IncompatibleCluster(message) => {
                self.fail_workflow(system("EventIncompatibleClusterError", message));
            }
            Rejection::NoExecution(message) => {
                self.fail_workflow(system("ExecutionNotFound", message));
            }
            Rejection::AlreadyEnded { message, .. } => {
                self.fail_node(index, system("IllegalStateError", message), now);
            }
            Rejection::Invalid(message) | Rejection::WrongPhase(message) => {
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
        let node = &self.nodes[index];
        let refused_before = node
            .status
            .error
            .as_ref()
            .is_some_and(|known| known.0 == error);
        let view = self.nodes.view(&self.context, index);
        if launch_plan::may_have_child(&view) && view.status.phase != NodePhase::Failing {
            let change = launch_plan::failing(&view, error, now);
            let node = &mut self.nodes[index];
            node.retry = None;
            node.result = None;
            node.repeats = 0;
            self.begin_change(index, change, now);
            return;
        }
        if self.has_elements(index) && view.status.phase != NodePhase::Failing {
            let change = node::array::failing(&view, error, now);
            let node = &mut self.nodes[index];
            node.retry = None;
            node.result = None;
            node.repeats = 0;
            self.begin_change(index, change, now);
            return;
        }
        let mut change = node::fail(&view, error, now);
        let node = &mut self.nodes[index];
        node.retry = None;
        node.result = None;
        node.repeats = 0;
        if refused_before {
            change.events.clear();
        } else {
            node.status.error.clone_from(&change.status.error);
        }
        if node.inner.is_some() || node.spec.kind == NodeKind::Branch {
            self.abort_inside(index);
        }
        self.begin_change(index, change, now);
    }

    /// What an earlier process reported with a change may have been less than what was reported now.
    pub(super) fn repeated(change: &mut Change) {
        let Some(state) = change
            .reported
            .as_mut()
            .and_then(|reported| reported.if_repeated.take())
        else {
            return;
        };
        change.reported = None;
        if let Some(task) = &mut change.status.task_node_status {
            task.plugin_state = state;
        }
    }

    /// The events of a change are acknowledged: the node becomes what it was to become.
    pub(super) fn commit(&mut self, index: NodeIndex, change: Change, now: Timestamp) {
        let before = self.before_change(index, now);
        let attempt_before = self.nodes[index].status.attempts;
        let ended = change.status.phase.is_terminal();
        let new_attempt = change.status.attempts != attempt_before;
        // An earlier process may have died before it had released the pod of a task that made a workflow.
        let starts_dynamic = matches!(change.then, Then::StartDynamic(_));
        if (ended || new_attempt || starts_dynamic) && change.delete_pod.is_none() {
            let pod = self.nodes.pod_name(&self.context, index);
            self.cleanup.release.extend(pod);
        }
        let status = self.with_elements(index, change.status);
        let node = &mut self.nodes[index];
        node.status = status;
        super::status_writer::bound(&mut node.status);
        node.repeats = 0;
        let (is_task, is_element) = (node.spec.kind == NodeKind::Task, node.member.is_some());
        if new_attempt {
            node.retry = None;
            node.task.pod_created_at = None;
            node.task.may_have_pod = false;
            node.task.quota = QuotaWait::None;
            node.task.reported = None;
            // The next attempt is another owner.
            node.cache.reservation = None;
        }
        let arrival = change.reported.map(|reported| reported.arrival);
        node.task.reported = node.task.reported.max(arrival);
        self.keep_element(index);
        if (ended || new_attempt) && self.has_elements(index) {
            self.close_array(index);
        }
        self.await_child(index);
        if change.then == Then::Aborted {
            self.end_abort(index);
        }
        self.cleanup.delete.extend(change.delete_pod);
        self.queue.set_timer(index, None);
        // Of an element everything is found out again, except that it goes on without a pod that is lost.
        self.note_change(index, change.derivable || is_element && !change.lost_pod);
        if change.lost_pod {
            self.writer.hold(index);
        }
        let node = &self.nodes[index];
        // Slots of elements are their array's business.
        if ended || (node.member.is_none() && !node.takes_slot()) {
            self.queue.release_slot(index);
        } else if new_attempt && node.takes_slot() {
            self.queue.take_slot(index);
        }
        if new_attempt && let Err(error) = self.begin_attempt(index) {
            self.fail_node(index, system("IllegalStateError", error.to_string()), now);
            return;
        }
        if is_task {
            self.nodes.remember_pod(&self.context, index);
        }
        if change.then != Then::Aborted {
            self.after_change(&before);
        }
        match change.then {
            Then::Nothing => {}
            Then::StartSubWorkflow => match self.open_sub_workflow(index) {
                Ok(Some(inner)) => self.resume_graph(inner),
                Ok(None) => {}
                Err(error) => {
                    let error = system("BadSpecificationError", error.to_string());
                    self.fail_node(index, error, now);
                    return;
                }
            },
            Then::StartDynamic(definition) => match self.open_dynamic(index, &definition) {
                Ok(_) if node::is_leaving(&self.nodes[index].status) => self.abort_inside(index),
                Ok(inner) => self.resume_graph(inner),
                Err(error) => {
                    let error = node::unbuildable(error.to_string());
                    self.fail_node(index, error, now);
                    return;
                }
            },
            Then::ChooseArm(chosen) => self.choose_arm(index, chosen.as_deref(), now),
            Then::AbortInside => self.abort_inside(index),
            Then::StartElements => {
                if let Err(error) = self.open_array(index) {
                    let error = system("BadSpecificationError", error.to_string());
                    self.fail_node(index, error, now);
                    return;
                }
            }
            Then::TellElements(_) => self.news_taken(index),
            Then::Aborted => {
                self.check_aborted(index);
                return;
            }
        }
        if !ended {
            self.queue.mark(index);
        } else if self.nodes[index].abort == AbortState::Wanted {
            self.abort_done(index);
        } else if is_element {
            self.element_ended(index, now);
        } else {
            self.node_ended(index);
        }
    }

    /// Whether the node waits for a child execution now is told to whoever asks about them.
    pub(super) fn await_child(&mut self, index: NodeIndex) {
        let view = self.nodes.view(&self.context, index);
        let child = launch_plan::awaits_child(&view).then(|| launch_plan::child_name(&view));
        self.children.awaits(index, child);
    }

    /// What is inside a node runs again with its next attempt, under other names.
    fn begin_attempt(&mut self, index: NodeIndex) -> Result<(), super::Unreadable> {
        self.nodes[index].inner = None;
        self.nodes.place(&self.context, index)?;
        for arm in self.nodes.arms(index) {
            for concerned in self.nodes.reset(&self.context, arm)? {
                self.queue.set_timer(concerned, None);
                self.close_array(concerned);
                self.note_change(concerned, false);
            }
        }
        Ok(())
    }

    /// The chosen arm may start; all others are skipped without an event (spec 04 §7.3).
    fn choose_arm(&mut self, branch: NodeIndex, chosen: Option<&str>, now: Timestamp) {
        let branch_id = self.nodes[branch].spec.id.clone();
        for index in self.nodes.arms(branch) {
            let arm = &mut self.nodes[index];
            if Some(arm.spec.id.as_str()) == chosen {
                arm.status.parent_node.clone_from(&branch_id);
                self.queue.mark(index);
            } else if !arm.status.phase.is_terminal() {
                arm.status.phase = NodePhase::Skipped;
                arm.status.stopped_at = Some(Time::new(now));
            }
            self.note_change(index, true);
        }
    }

    /// A node has ended: everything that may have waited for it looks again.
    fn node_ended(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index];
        node.inputs = None;
        node.retry = None;
        let (graph_index, arm_of, has_failed) = (node.graph, node.arm_of, node.has_failed());
        for after in node.downstream.clone() {
            self.queue.mark(after);
        }
        if let Some(branch) = arm_of {
            self.queue.mark(branch);
            return;
        }
        if self.nodes[graph_index].failure_node == Some(index) {
            self.failure_node_ended(graph_index);
            return;
        }
        let graph = &mut self.nodes[graph_index];
        if has_failed {
            graph.first_failed.get_or_insert(index);
        }
        graph.remaining = graph.remaining.saturating_sub(1);
        self.check_graph(graph_index);
    }
}
