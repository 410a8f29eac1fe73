//! The workflow's end: nothing may be left behind, then the last event, then the last status (spec 04 §4.2, §4.4).

use flyte_core::layout::END_NODE;
use flyte_crd::{NodeKind, NodePhase, Proto, Time, WorkflowPhase};
use flyte_idl::core::{ExecutionError, workflow_execution::Phase as EventPhase};
use jiff::Timestamp;

use super::{JobTask, Machine, Stage, run::AUTO_ABORT};
use crate::{
    events::WorkflowOutput,
    sweep::{self, PodSearch, Remains, Search},
};

/// How a workflow ends that does not succeed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Last {
    /// Because of this.
    Failed(ExecutionError),
    /// Its resource is being deleted.
    Aborted,
    /// Admin has its end from somebody else, so that there is none to tell.
    EndedElsewhere,
}

impl Machine {
    /// Whether the end is decided.
    pub(super) fn is_closing(&self) -> bool {
        matches!(
            self.stage,
            Stage::Sweeping(_) | Stage::Clearing(_) | Stage::Ending(_) | Stage::Over
        )
    }

    /// The top-level graph has ended.
    pub(super) fn finish(&mut self, result: Result<(), ExecutionError>) {
        self.finishing = Some(result);
    }

    /// Tells admin how the workflow ended, once all events of nodes are acknowledged.
    pub(super) fn conclude(&mut self, now: Timestamp) -> bool {
        if self.under_way > 0 || self.stage_busy || !self.jobs.is_empty() {
            return false;
        }
        if self.stage == Stage::Aborting || self.is_closing() {
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
            Err(error) => self.close(Last::Failed(error), now),
        }
        true
    }

    /// Ends a workflow that does not succeed. If an earlier process may have begun what no status tells of, that is
    /// looked for first; a workflow that succeeds has run all of its nodes, and so has none of these.
    pub(super) fn close(&mut self, last: Last, now: Timestamp) {
        if self.is_first {
            self.tell_end(last, now);
            return;
        }
        let search = self.search();
        self.stage = Stage::Sweeping(last);
        self.workflow_job(JobTask::Sweep(search));
    }

    fn search(&self) -> Search {
        let run = &self.run;
        Search {
            execution: run.execution.clone(),
            parents: self
                .nodes
                .iter()
                .filter(|node| {
                    matches!(node.spec.kind, NodeKind::Branch | NodeKind::Workflow)
                        && node.status.phase != NodePhase::NotYetStarted
                })
                .map(|node| node.unique_id.clone())
                .collect(),
            pods: run.labels.get("execution-id").map(|label| PodSearch {
                namespace: run.namespace.clone(),
                execution_label: label.clone(),
                owner: run.name.clone(),
            }),
        }
    }

    /// What was found ends before the workflow does; its pods go when that is written.
    pub(super) fn swept(&mut self, remains: Remains, last: Last, now: Timestamp) {
        for pod in remains.pods {
            if !self.deletions.contains(&pod) {
                self.deletions.push(pod);
            }
        }
        let reason = self.abort_reason.as_deref().unwrap_or(AUTO_ABORT);
        let producer = &self.run.settings.propeller.cluster_id;
        let events = sweep::events(remains.nodes, producer, reason, now);
        if events.is_empty() {
            self.tell_end(last, now);
        } else {
            self.stage = Stage::Clearing(last);
            self.workflow_job(JobTask::Send(events));
        }
    }

    pub(super) fn tell_end(&mut self, last: Last, now: Timestamp) {
        let (phase, event) = match last {
            Last::Failed(error) => {
                self.status.error = Some(Proto(error.clone()));
                let output = Some(WorkflowOutput::Error(error));
                (WorkflowPhase::Failed, (EventPhase::Failed, output))
            }
            Last::Aborted => (WorkflowPhase::Aborted, (EventPhase::Aborted, None)),
            Last::EndedElsewhere => {
                self.end(WorkflowPhase::Failed, now);
                return;
            }
        };
        self.stage = Stage::Ending(phase);
        self.send(vec![event], now);
    }

    pub(super) fn end(&mut self, phase: WorkflowPhase, now: Timestamp) {
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
