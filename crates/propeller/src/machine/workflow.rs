//! The workflow itself: begin, announce, fail (spec 04 §4.2).

use flyte_crd::{Proto, Time, WorkflowPhase};
use flyte_idl::core::{ExecutionError, workflow_execution::Phase as EventPhase};
use jiff::{SignedDuration, Timestamp};

use super::{
    GraphState, Job, JobFor, JobTask, Machine, Outcome, Receipt, Rejection, Stage, closing::Last,
    ends::Scope, system_error,
};
use crate::events::{self, WorkflowOutput};

/// How long to wait before a workflow that could not begin is tried again.
const BEGIN_RETRY: SignedDuration = SignedDuration::from_secs(5);

impl Machine {
    pub(super) fn workflow_can_step(&self) -> bool {
        if self.stage_busy || matches!(self.stage, Stage::Over) {
            return false;
        }
        if self.must_begin_aborting() {
            return true;
        }
        match self.stage {
            Stage::Beginning => self.retry_begin_at.is_none(),
            Stage::AnnouncingFailure(_) => true,
            Stage::Aborting => self.aborting_nodes(0) == 0,
            Stage::Announcing
            | Stage::Running
            | Stage::Failing
            | Stage::Sweeping(_)
            | Stage::Clearing(_)
            | Stage::Ending(_)
            | Stage::Over => false,
        }
    }

    pub(super) fn step_workflow(&mut self, now: Timestamp) {
        if self.must_begin_aborting() {
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
            Stage::Aborting => self.close(Last::Aborted, now),
            Stage::Announcing
            | Stage::Running
            | Stage::Failing
            | Stage::Sweeping(_)
            | Stage::Clearing(_)
            | Stage::Ending(_)
            | Stage::Over => {}
        }
    }

    /// The resource is being deleted and nothing has been done about it.
    fn must_begin_aborting(&self) -> bool {
        self.abort_reason.is_some() && self.stage != Stage::Aborting && !self.is_closing()
    }

    pub(super) fn workflow_job(&mut self, task: JobTask) {
        self.stage_busy = true;
        self.jobs.push_back(Job {
            whom: JobFor::Workflow,
            task,
        });
    }

    pub(super) fn send(
        &mut self,
        phases: Vec<(EventPhase, Option<WorkflowOutput>)>,
        now: Timestamp,
    ) {
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

    pub(super) fn workflow_outcome(&mut self, outcome: Outcome, now: Timestamp) {
        self.stage_busy = false;
        match (outcome, self.stage.clone()) {
            (Outcome::Begun(Ok(())), Stage::Beginning) => {
                self.stage = Stage::Announcing;
                self.send(vec![(EventPhase::Running, None)], now);
            }
            (Outcome::Begun(Err(error)) | Outcome::Broken(error), _) => self.fail_workflow(error),
            (Outcome::Swept(remains), Stage::Sweeping(last)) => self.swept(remains, last, now),
            // Whatever admin says of them, they are over with the workflow.
            (Outcome::Sent(_), Stage::Clearing(last)) => self.tell_end(last, now),
            (Outcome::Sent(Ok(receipt)), stage) => {
                self.is_first |= stage == Stage::Announcing && receipt == Receipt::New;
                self.acknowledged(stage, now);
            }
            (Outcome::Sent(Err(rejection)), stage) => self.workflow_rejected(stage, rejection, now),
            _ => {}
        }
    }

    pub(super) fn acknowledged(&mut self, stage: Stage, now: Timestamp) {
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
            Stage::Beginning
            | Stage::Running
            | Stage::Failing
            | Stage::Aborting
            | Stage::Sweeping(_)
            | Stage::Clearing(_)
            | Stage::Over => {}
        }
    }

    pub(super) fn workflow_rejected(&mut self, stage: Stage, rejection: Rejection, now: Timestamp) {
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
                self.close(Last::EndedElsewhere, now);
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
    pub(super) fn fail_workflow(&mut self, error: ExecutionError) {
        let failing = matches!(
            self.stage,
            Stage::AnnouncingFailure(_) | Stage::Failing | Stage::Aborting
        );
        if failing || self.is_closing() {
            return;
        }
        if let Some(graph) = self.graphs.first_mut() {
            graph.state = GraphState::Aborting(error.clone());
        }
        self.stage = Stage::AnnouncingFailure(error);
    }
}
