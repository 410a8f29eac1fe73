//! Wake-ups: stepping marked nodes, applying outcomes, ending graphs and the workflow (spec 04 §4, §5).

use std::{collections::BTreeMap, sync::Arc};

use flyte_core::layout::END_NODE;
use flyte_crd::{NodeKind, NodePhase, Proto, Time, WorkflowPhase};
use flyte_idl::core::{
    ExecutionError, execution_error::ErrorKind, workflow_execution::Phase as EventPhase,
    workflow_metadata::OnFailurePolicy,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::{
    AbortState, GraphIndex, GraphState, Instance, Job, JobFor, JobTask, Machine, NodeIndex,
    Outcome, Rejection, Stage,
    graph::{Readiness, is_active},
    system_error,
};
use crate::{
    events::{self, WorkflowOutput},
    node::{self, Change, Observation, Source, Step, Then, Work, subworkflow},
    resolve,
};

/// Why active nodes end when another one has failed.
const AUTO_ABORT: &str = "Some node execution failed, auto-abort.";
/// How long to wait before a workflow that could not begin is tried again.
const BEGIN_RETRY: SignedDuration = SignedDuration::from_secs(5);

/// Which nodes of a graph are to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
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
    /// Marks what goes on after the resource was read.
    pub(super) fn resume(&mut self) {
        if matches!(self.stage, Stage::Running) {
            self.resume_graph(0);
            // What was ready may have been begun by a run of ours that did not live to write it down.
            for index in self.dirty.clone() {
                if let Some(node) = self.nodes.get_mut(index) {
                    node.maybe_known = node.status.phase == NodePhase::NotYetStarted;
                }
            }
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

    // --- nodes -------------------------------------------------------------------------------------------------

    fn step_node(
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
            let unheard = node.status.phase == NodePhase::NotYetStarted && !node.maybe_known;
            if unheard || node.status.phase.is_terminal() {
                // Admin has never heard of it, or has heard its end.
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
    fn may_step(&self, index: NodeIndex) -> bool {
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

    fn known_pod(
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
    fn pod_exists(&self, index: NodeIndex, pods: &impl Fn(&str) -> Option<Arc<Pod>>) -> bool {
        self.view(index)
            .filter(|view| view.spec.kind == NodeKind::Task)
            .and_then(|view| node::task::Attempt::of(view).ok())
            .is_some_and(|attempt| pods(&attempt.pod_name()).is_some())
    }

    /// Whether one more task may run (max parallelism).
    fn has_room(&self, index: NodeIndex) -> bool {
        let limit =
            usize::try_from(self.run.execution_config.max_parallelism).unwrap_or(usize::MAX);
        let counts = self
            .nodes
            .get(index)
            .is_some_and(|node| node.spec.kind == NodeKind::Task);
        // Tasks whose inputs are being prepared are not active yet, but on their way.
        limit == 0 || !counts || self.active + self.preparing_tasks < limit
    }

    fn set_timer(&mut self, index: NodeIndex, until: Option<Timestamp>) {
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

    fn begin_work(&mut self, index: NodeIndex, work: Work) {
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
    fn inner_outputs(&self, index: NodeIndex) -> Option<String> {
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

    fn begin_change(&mut self, index: NodeIndex, mut change: Box<Change>, now: Timestamp) {
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

    fn node_outcome(&mut self, index: NodeIndex, outcome: Outcome, now: Timestamp) {
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
                    (Ok(()), Some(change)) => self.commit(index, *change, now),
                    (Err(_), Some(change)) if told => self.commit(index, *change, now),
                    (Err(rejection), _) => self.rejected(index, rejection, now),
                    (Ok(()), None) => {}
                }
                return;
            }
            Outcome::Broken(error) => {
                self.fail_node(index, error, now);
                return;
            }
            Outcome::Begun(_) => return,
        };
        self.observations.insert(index, observation);
        self.dirty.insert(index);
    }

    /// Admin refused an event of a node for good (spec 04 §11.4, §6.2).
    fn rejected(&mut self, index: NodeIndex, rejection: Rejection, now: Timestamp) {
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
    fn fail_node(&mut self, index: NodeIndex, error: ExecutionError, now: Timestamp) {
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
    fn commit(&mut self, index: NodeIndex, change: Change, now: Timestamp) {
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
    fn choose_arm(&mut self, branch: NodeIndex, chosen: Option<&str>, now: Timestamp) {
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

    fn node_ended(&mut self, index: NodeIndex) {
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

    // --- graphs ------------------------------------------------------------------------------------------------

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

    fn graph_failed(&mut self, index: GraphIndex, error: ExecutionError) {
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

    fn want_abort(&mut self, index: GraphIndex, scope: Scope) {
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
            let working = node.busy && node.status.phase == NodePhase::NotYetStarted;
            if (is_active(node) || working || node.maybe_known)
                && node.abort == AbortState::None
                && !node.status.phase.is_terminal()
            {
                node.abort = AbortState::Wanted;
                self.dirty.insert(node_index);
            }
            if let Some(inner) = node.inner.filter(|_| !node.status.phase.is_terminal()) {
                if let Some(graph) = self.graphs.get_mut(inner) {
                    graph.state = GraphState::Ended;
                }
                self.want_abort(inner, Scope::Everything);
            }
        }
    }

    /// Nothing of this node is left to end.
    fn abort_done(&mut self, index: NodeIndex) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.abort = AbortState::Done;
        }
        self.check_aborted(index);
    }

    /// A node was aborted: is it the last one?
    fn check_aborted(&mut self, index: NodeIndex) {
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

    fn abort_progress(&mut self, index: GraphIndex) {
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
                    self.dirty.insert(failure_node);
                }
            }
            _ => self.graph_ended(index, Err(error)),
        }
    }

    fn aborting_nodes(&self, index: GraphIndex) -> usize {
        let Some(graph) = self.graphs.get(index) else {
            return 0;
        };
        graph
            .ids
            .values()
            .filter_map(|index| self.nodes.get(*index))
            .map(|node| {
                let own = usize::from(node.abort == AbortState::Wanted);
                own + node.inner.map_or(0, |inner| self.aborting_nodes(inner))
            })
            .sum()
    }

    /// The failure node has ended; its own failure hides the first one (spec 04 §4.3).
    fn failure_node_ended(&mut self, index: GraphIndex, failure: Option<ExecutionError>) {
        let Some(graph) = self.graphs.get(index) else {
            return;
        };
        let GraphState::FailureNode(original) = graph.state.clone() else {
            return;
        };
        self.graph_ended(index, Err(failure.unwrap_or(original)));
    }

    fn graph_ended(&mut self, index: GraphIndex, result: Result<(), ExecutionError>) {
        let Some(graph) = self.graphs.get_mut(index) else {
            return;
        };
        graph.state = GraphState::Ended;
        match graph.owner {
            Some(owner) => {
                self.observations.insert(owner, Observation::Inner(result));
                self.dirty.insert(owner);
            }
            None => self.finish(result),
        }
    }

    // --- the workflow ------------------------------------------------------------------------------------------

    pub(super) fn workflow_can_step(&self) -> bool {
        if self.stage_busy || matches!(self.stage, Stage::Over) {
            return false;
        }
        if self.abort_reason.is_some() && !matches!(self.stage, Stage::Aborting | Stage::Ending(_))
        {
            return true;
        }
        match self.stage {
            Stage::Beginning => self.retry_begin_at.is_none(),
            Stage::AnnouncingFailure(_) => true,
            Stage::Aborting => self.aborting_nodes(0) == 0,
            Stage::Announcing
            | Stage::Running
            | Stage::Failing
            | Stage::Ending(_)
            | Stage::Over => false,
        }
    }

    fn step_workflow(&mut self, now: Timestamp) {
        if self.abort_reason.is_some() && !matches!(self.stage, Stage::Aborting | Stage::Ending(_))
        {
            self.stage = Stage::Aborting;
            if let Some(graph) = self.graphs.first_mut() {
                graph.state = GraphState::Ended;
            }
            self.want_abort(0, Scope::Everything);
            return;
        }
        match &self.stage {
            Stage::Beginning => {
                let to = self
                    .graphs
                    .first()
                    .and_then(|graph| graph.ids.get(flyte_core::layout::START_NODE));
                let Some(start) = to.and_then(|index| self.nodes.get(*index)) else {
                    return;
                };
                let to = start.places.outputs();
                let job = JobTask::Begin {
                    inputs: self.inputs.clone(),
                    offloaded: self.offloaded_inputs.clone(),
                    to,
                };
                self.workflow_job(job);
            }
            Stage::AnnouncingFailure(error) => {
                let output = WorkflowOutput::Error(error.clone());
                self.send(vec![(EventPhase::Failing, Some(output))], now);
            }
            Stage::Aborting => {
                self.stage = Stage::Ending(WorkflowPhase::Aborted);
                self.send(vec![(EventPhase::Aborted, None)], now);
            }
            Stage::Announcing
            | Stage::Running
            | Stage::Failing
            | Stage::Ending(_)
            | Stage::Over => {}
        }
    }

    fn workflow_job(&mut self, task: JobTask) {
        self.stage_busy = true;
        self.jobs.push_back(Job {
            whom: JobFor::Workflow,
            task,
        });
    }

    fn send(&mut self, phases: Vec<(EventPhase, Option<WorkflowOutput>)>, now: Timestamp) {
        let run = self.run.clone();
        let events = phases
            .into_iter()
            .map(|(phase, output)| {
                events::workflow(
                    &run.execution,
                    &run.settings.propeller.cluster_id,
                    phase,
                    now,
                    output,
                )
            })
            .collect();
        self.workflow_job(JobTask::Send(events));
    }

    fn workflow_outcome(&mut self, outcome: Outcome, now: Timestamp) {
        self.stage_busy = false;
        match (outcome, self.stage.clone()) {
            (Outcome::Begun(Ok(())), Stage::Beginning) => {
                self.stage = Stage::Announcing;
                self.send(vec![(EventPhase::Running, None)], now);
            }
            (Outcome::Begun(Err(error)) | Outcome::Broken(error), _) => self.fail_workflow(error),
            (Outcome::Sent(Ok(())), stage) => self.acknowledged(stage, now),
            (Outcome::Sent(Err(rejection)), stage) => self.workflow_rejected(stage, rejection, now),
            _ => {}
        }
    }

    fn acknowledged(&mut self, stage: Stage, now: Timestamp) {
        let time = Some(Time::new(now));
        match stage {
            Stage::Announcing => {
                self.stage = Stage::Running;
                self.status.phase = WorkflowPhase::Running;
                self.status.started_at = self.status.started_at.or(time);
                self.status.last_updated_at = time;
                self.status.message = "Workflow Started".into();
                self.status.data_dir.clone_from(&self.run.data_dir);
                self.status.def_version = Some(1);
                self.note_workflow_change();
                self.resume_graph(0);
            }
            Stage::AnnouncingFailure(error) => {
                self.stage = Stage::Failing;
                self.status.phase = WorkflowPhase::Failing;
                self.status.last_updated_at = time;
                self.status.message.clear();
                self.status.error = Some(Proto(error.clone()));
                self.note_workflow_change();
                self.abort_graph(0, error);
            }
            Stage::Ending(phase) => self.end(phase, now),
            Stage::Beginning | Stage::Running | Stage::Failing | Stage::Aborting | Stage::Over => {}
        }
    }

    fn workflow_rejected(&mut self, stage: Stage, rejection: Rejection, now: Timestamp) {
        match (stage, rejection) {
            // Whatever admin thinks, the resource must come to its end.
            (Stage::Ending(phase), _) => self.end(phase, now),
            (Stage::AnnouncingFailure(_), _) => self.acknowledged(self.stage.clone(), now),
            (Stage::Announcing, Rejection::NoExecution(message)) => {
                // Admin may commit its row after creating the resource: try again before giving up.
                self.status.failed_attempts += 1;
                self.status.message = format!("ExecutionNotFound: {message}");
                self.note_workflow_change();
                if self.status.failed_attempts > self.run.settings.propeller.max_workflow_retries {
                    self.fail_workflow(system_error("ExecutionNotFound", message));
                } else {
                    self.stage = Stage::Beginning;
                    self.retry_begin_at = now.checked_add(BEGIN_RETRY).ok();
                }
            }
            // An earlier run of ours got further than its last write: do over what it did.
            (Stage::Announcing, Rejection::AlreadyEnded { phase, .. }) if phase == "SUCCEEDED" => {
                self.acknowledged(Stage::Announcing, now);
            }
            (_, Rejection::AlreadyEnded { message, .. }) => {
                self.status.message = format!(
                    "Workflow execution already in terminal state: state mismatch: {message}"
                );
                self.end(WorkflowPhase::Failed, now);
            }
            (_, Rejection::IncompatibleCluster(message)) => {
                self.fail_workflow(system_error("EventIncompatibleClusterError", message));
            }
            (_, Rejection::NoExecution(message)) => {
                self.fail_workflow(system_error("ExecutionNotFound", message));
            }
            (_, Rejection::Invalid(message)) => {
                self.fail_workflow(system_error("ErrorRecordingError", message));
            }
        }
    }

    /// Ends the workflow as failed, whatever its nodes are doing: they are aborted.
    pub fn give_up(&mut self, error: ExecutionError) {
        self.fail_workflow(error);
    }

    /// Nodes have ended, or the workflow could not even begin.
    fn fail_workflow(&mut self, error: ExecutionError) {
        if matches!(
            self.stage,
            Stage::AnnouncingFailure(_)
                | Stage::Failing
                | Stage::Aborting
                | Stage::Ending(_)
                | Stage::Over
        ) {
            return;
        }
        if let Some(graph) = self.graphs.first_mut() {
            graph.state = GraphState::Aborting(error.clone());
        }
        self.stage = Stage::AnnouncingFailure(error);
    }

    /// The top-level graph has ended.
    fn finish(&mut self, result: Result<(), ExecutionError>) {
        self.finishing = Some(result);
    }

    /// Tells admin how the workflow ended, once all events of nodes are acknowledged.
    fn conclude(&mut self, now: Timestamp) -> bool {
        if self.under_way > 0 || self.stage_busy || !self.jobs.is_empty() {
            return false;
        }
        if matches!(self.stage, Stage::Aborting | Stage::Ending(_) | Stage::Over) {
            return false;
        }
        let Some(result) = self.finishing.take() else {
            return false;
        };
        match result {
            Ok(()) => {
                let end = self
                    .graphs
                    .first()
                    .and_then(|graph| graph.ids.get(END_NODE));
                self.status.output_ref = end
                    .and_then(|index| self.nodes.get(*index))
                    .map(|node| node.places.outputs())
                    .unwrap_or_default();
                let output = Some(WorkflowOutput::Uri(self.status.output_ref.clone()));
                self.stage = Stage::Ending(WorkflowPhase::Success);
                self.send(
                    vec![
                        (EventPhase::Succeeding, None),
                        (EventPhase::Succeeded, output),
                    ],
                    now,
                );
            }
            Err(error) => {
                self.status.error = Some(Proto(error.clone()));
                self.stage = Stage::Ending(WorkflowPhase::Failed);
                self.send(
                    vec![(EventPhase::Failed, Some(WorkflowOutput::Error(error)))],
                    now,
                );
            }
        }
        true
    }

    fn end(&mut self, phase: WorkflowPhase, now: Timestamp) {
        let time = Some(Time::new(now));
        self.stage = Stage::Over;
        self.status.phase = phase;
        self.status.stopped_at = self.status.stopped_at.or(time);
        self.status.last_updated_at = time;
        if phase == WorkflowPhase::Success {
            self.status.message.clear();
        }
        self.note_workflow_change();
    }
}
