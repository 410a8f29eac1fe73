//! The workflow itself: begin, announce, run, fail, end (spec 04 §4.2).
//!
//! | stage | left when | with | to |
//! |---|---|---|---|
//! | Beginning | inputs are written | | Announcing |
//! | | they cannot be | error | AnnouncingFailure |
//! | Announcing | admin has RUNNING | phase Running | Running |
//! | | admin has no such execution, for some time | attempt counted | Beginning, in the end AnnouncingFailure |
//! | Running | the graph has succeeded, nothing under way | | Ending(Succeeded) |
//! | | the graph has failed | error | AnnouncingFailure |
//! | AnnouncingFailure | admin has FAILING, or refuses it | phase Failing | Failing |
//! | Failing | the graph has ended (abort, failure node) | error | FindingLeftovers(Failed) |
//! | any before Ending | the resource is being deleted | | Aborting |
//! | Aborting | nothing is left to abort | | FindingLeftovers(Aborted) |
//! | FindingLeftovers(end) | found; skipped when this process began the workflow | | ClearingLeftovers(end), Ending(end) |
//! | ClearingLeftovers(end) | children are terminated, admin has the events, or refuses them | | Ending(end) |
//! | Ending(end) | admin has the last event | last phase | Over |
//! | | admin says that it is being aborted | | Ending(Aborted) |
//! | any | admin says that it has ended | message | FindingLeftovers(EndedElsewhere) |
//!
//! A status that has ended without the mark that this was told (`EndMark`) is not believed to be over: `workflow_end` tells it.

use flyte_crd::{Proto, Time, WorkflowPhase};
use flyte_idl::core::{ExecutionError, workflow_execution::Phase as EventPhase};
use jiff::{SignedDuration, Timestamp};

use super::{
    Effect, EffectResult, JobId, Machine, Receipt, Rejection,
    nodes::Nodes,
    retry::{Policy, Retry},
    stage::{End, EndMark, Stage},
    step::SEND,
};
use crate::{
    effects::{Backend, EffectError, PermanentError, TransientError},
    events::{self, WorkflowOutput},
    node::system,
};

/// Admin may commit the row of an execution a moment after creating its resource.
const CREATION_RACE: SignedDuration = SignedDuration::from_secs(5);
/// How long to wait before a workflow that could not begin is tried again.
const BEGIN_RETRY: SignedDuration = SignedDuration::from_secs(5);

/// Where the workflow stands, beside its graph.
#[derive(Debug)]
pub(super) struct Lifecycle {
    stage: Stage,
    /// An effect of the workflow is under way.
    is_busy: bool,
    /// Its last effect failed and is tried again.
    retry: Option<Retry>,
    /// Nothing is tried before.
    held_until: Option<Timestamp>,
    abort_reason: Option<String>,
    /// All that admin and the cluster know of this workflow is from this process.
    is_first: bool,
    /// How the top-level graph ended.
    pub(super) finishing: Option<Result<(), ExecutionError>>,
}

impl Lifecycle {
    /// Where a workflow goes on that was read in this phase. One that has ended by its phase, which does not say that this
    /// was told, goes on where it decides on its end.
    pub(super) fn read(phase: WorkflowPhase, end: EndMark) -> Self {
        let stage = match phase {
            WorkflowPhase::Ready => Stage::Beginning,
            WorkflowPhase::Running | WorkflowPhase::Succeeding | WorkflowPhase::Unknown(_) => {
                Stage::Running
            }
            WorkflowPhase::Failing | WorkflowPhase::HandlingFailureNode => Stage::Failing,
            WorkflowPhase::Success | WorkflowPhase::Failed | WorkflowPhase::Aborted => match end {
                EndMark::Told => Stage::Over,
                EndMark::Missing => Stage::Running,
            },
        };
        Self {
            stage,
            is_busy: false,
            retry: None,
            held_until: None,
            abort_reason: None,
            is_first: false,
            finishing: None,
        }
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Whether the resource is being deleted.
    pub(super) fn is_aborted(&self) -> bool {
        self.abort_reason.is_some()
    }

    pub(super) fn abort_reason(&self) -> Option<&str> {
        self.abort_reason.as_deref()
    }

    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Enters a stage; what was tried for the last one is of no interest any more.
    pub(super) fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.retry = None;
        self.held_until = None;
    }

    /// When it is to be looked at again.
    pub(super) fn timer(&self) -> Option<Timestamp> {
        self.held_until
    }

    pub(super) fn wake(&mut self, now: Timestamp) {
        if self.held_until.is_some_and(|time| time <= now) {
            self.held_until = None;
        }
    }

    /// Whether the end is decided.
    pub(super) fn is_closing(&self) -> bool {
        match self.stage {
            Stage::FindingLeftovers(_)
            | Stage::ClearingLeftovers(..)
            | Stage::Ending(_)
            | Stage::Over => true,
            Stage::Beginning
            | Stage::Announcing
            | Stage::Running
            | Stage::AnnouncingFailure(_)
            | Stage::Failing
            | Stage::Aborting => false,
        }
    }

    /// The resource is being deleted and nothing has been done about it.
    fn must_begin_aborting(&self) -> bool {
        self.is_aborted() && self.stage != Stage::Aborting && !self.is_closing()
    }
}

impl Machine {
    /// Goes on where the resource was read.
    pub(super) fn resume(&mut self) {
        match self.lifecycle.stage {
            Stage::Running if self.status.phase.is_terminal() => self.tell_end(),
            Stage::Running => self.resume_graph(Nodes::TOP),
            Stage::Failing => self.resume_failing(),
            _ => {}
        }
        if let WorkflowPhase::Unknown(phase) = self.status.phase {
            let message = format!(
                "the workflow has phase [{phase}], which this engine does not know: a newer version wrote it, or it \
                 was changed by hand"
            );
            self.fail_workflow(system("IllegalStateError", message));
        }
    }

    /// Goes on with ending what is active, because of the error that the status has.
    pub(super) fn resume_failing(&mut self) {
        let error = self.status.error.as_ref().map_or_else(
            || system("RuntimeExecutionError", "Unknown error"),
            |error| error.0.clone(),
        );
        self.resume_graph(Nodes::TOP);
        self.abort_graph(Nodes::TOP, error);
    }

    /// The resource is being deleted: ends the workflow as aborted.
    pub fn abort(&mut self, reason: &str) {
        if !self.lifecycle.is_aborted() && !self.lifecycle.is_closing() {
            self.lifecycle.abort_reason = Some(reason.to_owned());
        }
    }

    pub(super) fn workflow_can_step(&self) -> bool {
        if self.lifecycle.is_busy {
            return false;
        }
        if self.lifecycle.must_begin_aborting() {
            return true;
        }
        let is_due = self.lifecycle.held_until.is_none();
        match &self.lifecycle.stage {
            Stage::Beginning
            | Stage::Announcing
            | Stage::AnnouncingFailure(_)
            | Stage::FindingLeftovers(_)
            | Stage::ClearingLeftovers(..)
            | Stage::Ending(_) => is_due,
            Stage::Aborting => self.nodes[Nodes::TOP].aborting == 0,
            Stage::Running | Stage::Failing | Stage::Over => false,
        }
    }

    pub(super) fn step_workflow(&mut self, now: Timestamp) {
        if self.lifecycle.must_begin_aborting() {
            self.lifecycle.enter(Stage::Aborting);
            self.stop_graph(Nodes::TOP);
            return;
        }
        match self.lifecycle.stage.clone() {
            Stage::Beginning => {
                let start = self.nodes[Nodes::TOP].find(flyte_core::layout::START_NODE);
                let to = start.map(|start| self.nodes[start].files.outputs());
                self.workflow_job(Effect::Begin {
                    inputs: self.inputs.clone(),
                    offloaded: self.offloaded_inputs.clone(),
                    to: to.unwrap_or_default(),
                });
            }
            Stage::Announcing => self.send(vec![(EventPhase::Running, None)], now),
            Stage::AnnouncingFailure(error) => {
                let output = WorkflowOutput::Error(error);
                self.send(vec![(EventPhase::Failing, Some(output))], now);
            }
            Stage::Aborting => self.close(End::Aborted),
            Stage::FindingLeftovers(_) => {
                let query = self.leftover_query();
                self.workflow_job(Effect::FindLeftovers(query));
            }
            Stage::ClearingLeftovers(_, clearance) => self.workflow_job(Effect::Clear(clearance)),
            Stage::Ending(end) => self.send_end(&end, now),
            Stage::Running | Stage::Failing | Stage::Over => {}
        }
    }

    pub(super) fn workflow_job(&mut self, effect: Effect) {
        self.lifecycle.is_busy = true;
        self.jobs.add(JobId::Workflow, effect);
    }

    pub(super) fn send(
        &mut self,
        phases: Vec<(EventPhase, Option<WorkflowOutput>)>,
        now: Timestamp,
    ) {
        let context = self.context.clone();
        let producer = &context.settings.propeller.cluster_id;
        let events = phases
            .into_iter()
            .map(|(phase, output)| {
                events::workflow(&context.execution, producer, phase, now, output)
            })
            .collect();
        self.workflow_job(Effect::Send(events));
    }

    pub(super) fn workflow_result(
        &mut self,
        result: Result<EffectResult, EffectError>,
        now: Timestamp,
    ) {
        self.lifecycle.is_busy = false;
        match (result, self.lifecycle.stage.clone()) {
            (Ok(EffectResult::Begun), Stage::Beginning) => {
                self.lifecycle.enter(Stage::Announcing);
            }
            (Ok(EffectResult::Leftovers(found)), Stage::FindingLeftovers(end)) => {
                self.found_leftovers(found, end, now);
            }
            // Whatever admin says of them, they are over with the workflow.
            (Ok(EffectResult::Sent(_)), Stage::ClearingLeftovers(end, _)) => {
                self.lifecycle.enter(Stage::Ending(end));
            }
            (Ok(EffectResult::Sent(Ok(receipt))), stage) => {
                let begins = stage == Stage::Announcing;
                self.lifecycle.is_first |= begins && receipt == Receipt::New;
                self.acknowledged(stage, now);
            }
            (Ok(EffectResult::Sent(Err(rejection))), stage) => {
                self.workflow_rejected(stage, rejection, now);
            }
            (Err(EffectError::Permanent(PermanentError(error))), stage) => {
                self.workflow_gives_up(stage, *error, now);
            }
            (Err(EffectError::Transient(error)), stage) => {
                self.try_workflow_again(stage, error, now);
            }
            // Of a stage that was left meanwhile.
            (Ok(EffectResult::Begun | EffectResult::Leftovers(_) | EffectResult::Node(_)), _) => {}
        }
    }

    fn purpose(stage: &Stage) -> &'static str {
        match stage {
            Stage::Beginning => "write the inputs of the workflow",
            Stage::FindingLeftovers(_) => "look for what the workflow leaves behind",
            Stage::Announcing
            | Stage::Running
            | Stage::AnnouncingFailure(_)
            | Stage::Failing
            | Stage::Aborting
            | Stage::ClearingLeftovers(..)
            | Stage::Ending(_)
            | Stage::Over => SEND,
        }
    }

    fn try_workflow_again(&mut self, stage: Stage, error: TransientError, now: Timestamp) {
        let purpose = Self::purpose(&stage);
        let most_refusals = match stage {
            // Nobody else would tell admin, which would show for ever what is long over.
            Stage::Ending(_) => u32::MAX,
            _ => self.context.settings.propeller.max_workflow_retries,
        };
        let policy = Policy {
            most_refusals,
            subject: "",
        };
        match Retry::next(self.lifecycle.retry.take(), purpose, error, policy, now) {
            Ok(retry) => {
                tracing::warn!("{retry}; trying again");
                if retry.is_shown() {
                    self.status.message = retry.to_string();
                    self.note_workflow_change();
                }
                self.lifecycle.held_until = Some(retry.not_before);
                self.lifecycle.retry = Some(retry);
            }
            Err(error) => self.workflow_gives_up(stage, *error, now),
        }
    }

    /// An effect of the workflow itself will not succeed.
    fn workflow_gives_up(&mut self, stage: Stage, error: ExecutionError, now: Timestamp) {
        tracing::error!("{}", error.message);
        match stage {
            // Whatever admin thinks, the resource must come to its end.
            Stage::Ending(end) => self.end(&end, now),
            Stage::AnnouncingFailure(_) => self.acknowledged(stage, now),
            // What is not found now is found by the cleanup of orphans.
            Stage::FindingLeftovers(end) | Stage::ClearingLeftovers(end, _) => {
                self.lifecycle.enter(Stage::Ending(end));
            }
            Stage::Beginning
            | Stage::Announcing
            | Stage::Running
            | Stage::Failing
            | Stage::Aborting
            | Stage::Over => self.fail_workflow(error),
        }
    }

    fn acknowledged(&mut self, stage: Stage, now: Timestamp) {
        let time = Some(Time::new(now));
        match stage {
            Stage::Announcing => {
                self.lifecycle.enter(Stage::Running);
                self.status.phase = WorkflowPhase::Running;
                self.status.started_at = self.status.started_at.or(time);
                self.status.last_updated_at = time;
                self.status.message = "Workflow Started".into();
                self.status.data_dir.clone_from(&self.context.data_dir);
                self.status.def_version = Some(1);
                self.note_workflow_change();
                self.resume_graph(Nodes::TOP);
            }
            Stage::AnnouncingFailure(error) => {
                self.lifecycle.enter(Stage::Failing);
                self.status.phase = WorkflowPhase::Failing;
                self.status.last_updated_at = time;
                self.status.message.clear();
                self.status.error = Some(Proto(events::cut(error.clone())));
                self.note_workflow_change();
                self.abort_graph(Nodes::TOP, error);
            }
            Stage::Ending(end) => self.end(&end, now),
            Stage::Beginning
            | Stage::Running
            | Stage::Failing
            | Stage::Aborting
            | Stage::FindingLeftovers(_)
            | Stage::ClearingLeftovers(..)
            | Stage::Over => {}
        }
    }

    fn workflow_rejected(&mut self, stage: Stage, rejection: Rejection, now: Timestamp) {
        match (stage, rejection) {
            // Terminated just before its end: what admin waits for is that it was aborted.
            (Stage::Ending(end), Rejection::WrongPhase(_)) if end != End::Aborted => {
                self.lifecycle.enter(Stage::Ending(End::Aborted));
            }
            // Whatever admin thinks, the resource must come to its end.
            (Stage::Ending(end), _) => self.end(&end, now),
            // It is being aborted: its resource will be deleted any moment.
            (stage, Rejection::WrongPhase(message)) => {
                let error = TransientError::refused(Backend::Admin, message);
                self.try_workflow_again(stage, error, now);
            }
            (stage @ Stage::AnnouncingFailure(_), _) => self.acknowledged(stage, now),
            (Stage::Announcing, Rejection::NoExecution(message)) => {
                self.execution_missing(message, now);
            }
            // An earlier run of ours got further than its last write: do over what it did.
            (Stage::Announcing, Rejection::AlreadyEnded { phase, .. }) if phase == "SUCCEEDED" => {
                self.acknowledged(Stage::Announcing, now);
            }
            (_, Rejection::AlreadyEnded { message, .. }) => {
                self.status.message = format!(
                    "Workflow execution already in terminal state: state mismatch: {message}"
                );
                self.close(End::EndedElsewhere);
            }
            (_, Rejection::IncompatibleCluster(message)) => {
                self.fail_workflow(system("EventIncompatibleClusterError", message));
            }
            (_, Rejection::NoExecution(message)) => {
                self.fail_workflow(system("ExecutionNotFound", message));
            }
            (_, Rejection::Invalid(message)) => {
                self.fail_workflow(system("ErrorRecordingError", message));
            }
        }
    }

    /// Admin may commit its row after creating the resource: try again before giving up.
    fn execution_missing(&mut self, message: String, now: Timestamp) {
        let since = self
            .lifecycle
            .retry
            .as_ref()
            .map_or(now, |retry| retry.since);
        if now.duration_since(since) < CREATION_RACE {
            let error = TransientError::no_answer(Backend::Admin, message);
            self.try_workflow_again(Stage::Announcing, error, now);
            return;
        }
        self.status.failed_attempts += 1;
        self.status.message = format!("ExecutionNotFound: {message}");
        self.note_workflow_change();
        let most = self.context.settings.propeller.max_workflow_retries;
        if self.status.failed_attempts > most {
            self.fail_workflow(system("ExecutionNotFound", message));
        } else {
            self.lifecycle.enter(Stage::Beginning);
            self.lifecycle.held_until = now.checked_add(BEGIN_RETRY).ok();
        }
    }

    /// Ends the workflow as failed, whatever its nodes are doing: they are aborted.
    pub fn give_up(&mut self, error: ExecutionError) {
        self.fail_workflow(error);
    }

    /// Nodes have failed, or the workflow could not even begin.
    pub(super) fn fail_workflow(&mut self, error: ExecutionError) {
        let is_failing = matches!(
            self.lifecycle.stage,
            Stage::AnnouncingFailure(_) | Stage::Failing | Stage::Aborting
        );
        if is_failing || self.lifecycle.is_closing() {
            return;
        }
        self.nodes[Nodes::TOP].state = super::graph_state::GraphState::Aborting(error.clone());
        self.lifecycle.enter(Stage::AnnouncingFailure(error));
    }
}
