//! Wake-ups: stepping marked nodes and applying what their work brought (spec 04 §5, §6).

use std::{collections::BTreeMap, sync::Arc};

use flyte_core::layout::END_NODE;
use flyte_crd::{NodeKind, NodePhase, Time};
use flyte_idl::core::{ExecutionError, execution_error::ErrorKind};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{
    AbortState, GraphState, Job, JobFor, JobTask, Machine, NodeIndex, Outcome, Rejection, Stage,
    ends::failure_of,
    graph::{Readiness, is_active},
    system_error,
};
use crate::{
    node::{self, Change, Observation, Source, Step, Then, Work},
    resolve,
};

/// Why active nodes end when another one has failed.
pub(super) const AUTO_ABORT: &str = "Some node execution failed, auto-abort.";
impl Machine {
    /// Marks what goes on after the resource was read.
    pub(super) fn resume(&mut self) {
        if matches!(self.stage, Stage::Running) {
            self.resume_graph(0);
            // The write that ended the last node may have been the last one.
            self.check_graph(0);
        }
        if self.stage == Stage::Failing {
            let error = self
                .status
                .error
                .as_ref()
                .map(|error| error.0.clone())
                .unwrap_or_default();
            self.abort_graph(0, error);
        }
    }

    /// Steps everything that is marked; `pods` knows the pods that the watch has seen.
    pub fn next_jobs(
        &mut self,
        now: Timestamp,
        pods: impl Fn(&str) -> Option<Arc<Pod>>,
    ) -> Vec<Job> {
        loop {
            if self.workflow_can_step() {
                self.step_workflow(now);
                continue;
            }
            let free = self
                .dirty
                .iter()
                .copied()
                .find(|index| self.nodes.get(*index).is_some_and(|node| !node.busy));
            let Some(index) = free else {
                if self.conclude(now) {
                    continue;
                }
                break;
            };
            self.dirty.remove(&index);
            self.step_node(index, now, &pods);
        }
        let jobs: Vec<_> = self.jobs.drain(..).collect();
        self.under_way += jobs.len();
        jobs
    }

    /// Applies what a job brought.
    pub fn complete(&mut self, whom: JobFor, outcome: Outcome, now: Timestamp) {
        self.under_way = self.under_way.saturating_sub(1);
        match whom {
            JobFor::Workflow => self.workflow_outcome(outcome, now),
            JobFor::Node(index) => self.node_outcome(index, outcome, now),
        }
    }

    pub(super) fn step_node(
        &mut self,
        index: NodeIndex,
        now: Timestamp,
        pods: &impl Fn(&str) -> Option<Arc<Pod>>,
    ) {
        let Some(node) = self.nodes.get(index) else {
            return;
        };
        if node.abort == AbortState::Done {
            return;
        }
        let observation = if node.abort == AbortState::Wanted {
            self.observations.remove(&index);
            if node.status.phase == NodePhase::NotYetStarted || node.status.phase.is_terminal() {
                // Admin has not heard of it from this process, or has heard its end.
                self.abort_done(index);
                return;
            }
            Observation::Abort {
                reason: self
                    .abort_reason
                    .clone()
                    .unwrap_or_else(|| AUTO_ABORT.into()),
                pod_exists: self.pod_exists(index, pods),
            }
        } else {
            if !self.may_step(index) {
                return;
            }
            if node.status.phase == NodePhase::NotYetStarted
                && !self.observations.contains_key(&index)
            {
                match self.readiness(index) {
                    Readiness::NotReady => return,
                    Readiness::Skip => {
                        if let Some(view) = self.view(index) {
                            let change = node::skip(&view, now);
                            self.begin_change(index, Box::new(change), now);
                        }
                        return;
                    }
                    Readiness::Ready => {}
                }
                if !self.has_room(index) {
                    self.waiting.insert(index);
                    return;
                }
                self.waiting.remove(&index);
            }
            match self.observations.remove(&index) {
                Some(observation) => observation,
                None => Observation::Look(self.known_pod(index, pods)),
            }
        };
        let Some(view) = self.view(index) else { return };
        match node::step(&view, observation, now) {
            Step::Wait(until) => self.set_timer(index, until),
            Step::Do(work) => self.begin_work(index, work),
            Step::Change(change) => self.begin_change(index, change, now),
        }
    }

    /// Nodes of graphs that are being aborted or have ended do not go on.
    pub(super) fn may_step(&self, index: NodeIndex) -> bool {
        let Some(node) = self.nodes.get(index) else {
            return false;
        };
        let Some(graph) = self.graphs.get(node.graph) else {
            return false;
        };
        match &graph.state {
            GraphState::Running => true,
            // The failure node, and what is inside it, run while the rest stands still.
            GraphState::FailureNode(_) => graph.failure_node == Some(index),
            GraphState::Aborting(_) | GraphState::Ended => false,
        }
    }

    pub(super) fn known_pod(
        &self,
        index: NodeIndex,
        pods: &impl Fn(&str) -> Option<Arc<Pod>>,
    ) -> Option<Arc<Pod>> {
        let view = self.view(index)?;
        if view.spec.kind != NodeKind::Task || !self.nodes.get(index).is_some_and(is_active) {
            return None;
        }
        pods(&node::task::Attempt::of(view).ok()?.pod_name())
    }

    /// Whether the watch knows a pod of the attempt.
    pub(super) fn pod_exists(
        &self,
        index: NodeIndex,
        pods: &impl Fn(&str) -> Option<Arc<Pod>>,
    ) -> bool {
        self.view(index)
            .filter(|view| view.spec.kind == NodeKind::Task)
            .and_then(|view| node::task::Attempt::of(view).ok())
            .is_some_and(|attempt| pods(&attempt.pod_name()).is_some())
    }

    /// Whether one more task may run (max parallelism).
    pub(super) fn has_room(&self, index: NodeIndex) -> bool {
        let limit =
            usize::try_from(self.run.execution_config.max_parallelism).unwrap_or(usize::MAX);
        let counts = self
            .nodes
            .get(index)
            .is_some_and(|node| node.spec.kind == NodeKind::Task);
        // Tasks whose inputs are being prepared are not active yet, but on their way.
        limit == 0 || !counts || self.active + self.preparing_tasks < limit
    }

    pub(super) fn set_timer(&mut self, index: NodeIndex, until: Option<Timestamp>) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        if let Some(old) = node.timer.take() {
            self.timers.remove(&(old, index));
        }
        if let Some(time) = until {
            node.timer = Some(time);
            self.timers.insert((time, index));
        }
    }

    pub(super) fn begin_work(&mut self, index: NodeIndex, work: Work) {
        let Some(node) = self.nodes.get(index) else {
            return;
        };
        let Some(graph) = self.graphs.get(node.graph) else {
            return;
        };
        let mut sources = BTreeMap::new();
        let mut error = None;
        if let Work::Prepare { bindings, .. } = &work {
            for id in resolve::promised_nodes(bindings) {
                if let Some(source) = graph
                    .ids
                    .get(&id)
                    .and_then(|source| self.nodes.get(*source))
                {
                    sources.insert(id, source.places.outputs());
                }
            }
            if let (Some(failure_node), GraphState::FailureNode(failure)) =
                (graph.failure_node, &graph.state)
                && failure_node == index
            {
                error = Some(failure.clone());
            }
        }
        let inner = match &work {
            Work::Copy {
                from: Source::Inner,
                ..
            } => self.inner_outputs(index),
            _ => None,
        };
        let preparing = matches!(work, Work::Prepare { .. }) && node.spec.kind == NodeKind::Task;
        if let Some(node) = self.nodes.get_mut(index) {
            node.busy = true;
            if preparing {
                self.preparing_tasks += 1;
            }
        }
        self.jobs.push_back(Job {
            whom: JobFor::Node(index),
            task: JobTask::Node {
                work,
                sources,
                inner,
                error,
            },
        });
    }

    /// Outputs of the chosen arm, or of the end node of the sub-workflow.
    pub(super) fn inner_outputs(&self, index: NodeIndex) -> Option<String> {
        let node = self.nodes.get(index)?;
        let inner = match node.inner {
            Some(graph) => self.graphs.get(graph)?.ids.get(END_NODE).copied()?,
            None => {
                let chosen = &node.status.branch_status.as_ref()?.final_node_id;
                self.graphs.get(node.graph)?.ids.get(chosen).copied()?
            }
        };
        Some(self.nodes.get(inner)?.places.outputs())
    }

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
        if let Some(node) = self.nodes.get_mut(index) {
            node.busy = true;
            node.pending = Some(change);
        }
        self.jobs.push_back(Job {
            whom: JobFor::Node(index),
            task: JobTask::Send(events),
        });
    }

    pub(super) fn node_outcome(&mut self, index: NodeIndex, outcome: Outcome, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        node.busy = false;
        let is_task = node.spec.kind == NodeKind::Task;
        let observation = match outcome {
            Outcome::Prepared(result) => {
                if is_task {
                    self.preparing_tasks = self.preparing_tasks.saturating_sub(1);
                }
                if let (Ok(inputs), Some(node)) = (&result, self.nodes.get_mut(index)) {
                    node.inputs = Some(inputs.clone());
                }
                Observation::Prepared(result)
            }
            Outcome::Inputs(inputs) => {
                node.inputs = Some(inputs.clone());
                Observation::Inputs(inputs)
            }
            Outcome::Launched(info) => {
                node.pod_expected = true;
                Observation::Launched(info)
            }
            Outcome::LookedUp(pod) => Observation::LookedUp(pod),
            Outcome::Result(result) => Observation::Result(result),
            Outcome::Copied(found) => Observation::Copied(found),
            Outcome::Sent(result) => {
                // The end of a terminated node and the end node's events are told, not asked about.
                let told = node.unique_id == END_NODE
                    || node
                        .pending
                        .as_ref()
                        .is_some_and(|change| change.then == Then::Aborted);
                match (result, node.pending.take()) {
                    (Ok(_), Some(change)) => self.commit(index, *change, now),
                    (Err(_), Some(change)) if told => self.commit(index, *change, now),
                    (Err(rejection), _) => self.rejected(index, rejection, now),
                    (Ok(_), None) => {}
                }
                return;
            }
            Outcome::Broken(error) => {
                self.fail_node(index, error, now);
                return;
            }
            Outcome::Begun(_) | Outcome::Swept(_) => return,
        };
        self.observations.insert(index, observation);
        self.dirty.insert(index);
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

    /// The events of a change are acknowledged: the node becomes what it was to become.
    pub(super) fn commit(&mut self, index: NodeIndex, change: Change, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let was_active = is_active(node);
        let attempt_before = node.status.attempts;
        node.status = change.status;
        let is_active_now = is_active(node);
        let is_task = node.spec.kind == NodeKind::Task;
        let ended = node.status.phase.is_terminal();
        let new_attempt = node.status.attempts != attempt_before;
        if new_attempt {
            node.pod_expected = false;
        }
        if change.then == Then::Aborted {
            node.abort = AbortState::Done;
        }
        self.deletions.extend(change.delete_pod);
        self.set_timer(index, None);
        self.note_change(index, change.derivable);
        if is_task {
            match (was_active, is_active_now) {
                (false, true) => self.active += 1,
                (true, false) => {
                    self.active = self.active.saturating_sub(1);
                    self.dirty.append(&mut self.waiting);
                }
                (true, true) | (false, false) => {}
            }
        }
        if new_attempt {
            // A place that was valid for one attempt is valid for the next.
            drop(self.place(index));
        }
        if is_task {
            self.remember_pod(index);
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
            self.dirty.insert(index);
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
                self.dirty.insert(index);
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
            self.dirty.insert(branch);
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
        self.dirty.extend(downstream);
        self.check_graph(graph_index);
    }
}
