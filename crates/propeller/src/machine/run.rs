//! Wake-ups: stepping marked nodes and taking in what their work brought (spec 04 §5, §6).

use std::collections::BTreeMap;

use flyte_core::layout::END_NODE;
use flyte_crd::{NodeKind, NodePhase, status::TaskPhase};
use jiff::Timestamp;

use super::{
    AbortState, GraphState, Job, JobFor, JobTask, Machine, NodeIndex, Outcome, Receipt, Room,
    Stage,
    graph::{Readiness, is_active},
};
use crate::{
    node::{self, NodeView, Observation, Source, Step, Then, Work},
    resolve,
    sighting::Sighting,
};

/// Why active nodes end when another one has failed.
pub(crate) const AUTO_ABORT: &str = "Some node execution failed, auto-abort.";
/// How many jobs of one workflow are under way at once: enough to fill a cluster, and few enough that a workflow of
/// thousands of nodes leaves some of the engine's effects to others.
const JOBS_AT_ONCE: usize = 128;

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

    /// Steps everything that is marked, and hands out jobs, more of them as others are completed; `pods` knows the pods that the watch has seen.
    pub fn next_jobs(
        &mut self,
        now: Timestamp,
        pods: impl Fn(&str) -> Option<Sighting>,
    ) -> Vec<Job> {
        loop {
            self.steps += 1;
            if self.workflow_can_step() {
                self.step_workflow(now);
            } else if let Some(index) = self.next_marked() {
                self.step_node(index, now, &pods);
            } else if !self.conclude(now) {
                break;
            }
        }
        let room = JOBS_AT_ONCE.saturating_sub(self.under_way);
        let jobs: Vec<_> = self.jobs.drain(..room.min(self.jobs.len())).collect();
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
        pods: &impl Fn(&str) -> Option<Sighting>,
    ) {
        let Some(node) = self.nodes.get(index) else {
            return;
        };
        if node.abort == AbortState::Done {
            return;
        }
        let mut object_events = None;
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
                    if let Some(node) = self.nodes.get_mut(index) {
                        node.past.waited_for_others = true;
                    }
                    return;
                }
                self.waiting.remove(&index);
            }
            let observation = self.observations.remove(&index);
            let sends_events = self.run.settings.plugins.k8s.send_object_events;
            let sighting = if observation.is_none() || sends_events {
                self.sighting(index, pods)
            } else {
                None
            };
            object_events = sighting.as_ref().map(|sighting| sighting.events.clone());
            observation.unwrap_or_else(|| Observation::Look(sighting.map(|sighting| sighting.pod)))
        };
        let Some(view) = self.view(index) else { return };
        let view = NodeView {
            object_events: object_events.as_deref().unwrap_or_default(),
            ..view
        };
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

    /// What the watches know of the pod of an attempt under way.
    pub(super) fn sighting(
        &self,
        index: NodeIndex,
        pods: &impl Fn(&str) -> Option<Sighting>,
    ) -> Option<Sighting> {
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
        pods: &impl Fn(&str) -> Option<Sighting>,
    ) -> bool {
        self.view(index)
            .filter(|view| view.spec.kind == NodeKind::Task)
            .and_then(|view| node::task::Attempt::of(view).ok())
            .is_some_and(|attempt| pods(&attempt.pod_name()).is_some())
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
        let begins = matches!(work, Work::Prepare { .. });
        self.set_busy(index);
        if begins {
            self.take_slot(index);
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

    pub(super) fn node_outcome(&mut self, index: NodeIndex, outcome: Outcome, now: Timestamp) {
        self.set_free(index);
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let observation = match outcome {
            Outcome::Prepared(result) => {
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
                node.pod_expected = info.phase != TaskPhase::WaitingForResources;
                node.room = match node.room {
                    Room::Free | Room::Awaited if !node.pod_expected => Room::Awaited,
                    Room::Free | Room::Awaited | Room::CalledEarly => Room::Free,
                };
                Observation::Launched(info)
            }
            Outcome::LookedUp(pod) => Observation::LookedUp(pod),
            Outcome::Result(result) => {
                node.past.result_read = true;
                Observation::Result(result)
            }
            Outcome::Copied(found) => Observation::Copied(found),
            Outcome::Sent(result) => {
                // The end of a terminated node and the end node's events are told, not asked about.
                let told = node.unique_id == END_NODE
                    || node
                        .pending
                        .as_ref()
                        .is_some_and(|change| change.then == Then::Aborted);
                match (result, node.pending.take()) {
                    (Ok(receipt), Some(mut change)) => {
                        if receipt == Receipt::Repeated {
                            Self::repeated(&mut change);
                        }
                        self.commit(index, *change, now);
                    }
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
        self.mark(index);
    }
}
