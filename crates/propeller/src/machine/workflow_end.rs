//! The workflow's end: nothing may be left behind, then the last event, then the last status (spec 04 §4.2, §4.4).

use flyte_core::layout::END_NODE;
use flyte_crd::{NodeKind, NodePhase, Proto, Time, WorkflowPhase};
use flyte_idl::core::{ExecutionError, workflow_execution::Phase as EventPhase};
use jiff::Timestamp;

use super::{
    Machine,
    nodes::Nodes,
    stage::{End, Stage},
    step::AUTO_ABORT,
};
use crate::{
    cleanup::leftovers::{self, Clearance, LeftoverQuery, Leftovers, PodQuery},
    events::{self, WorkflowOutput},
    node::{launch_plan, system},
};

/// Why a workflow fails whose status claims that it has succeeded.
const NOT_SUCCEEDED: &str = "the status of the workflow says that it has succeeded, but not all of its nodes have: it was \
                             changed by hand";
/// Why nodes end that are active in a workflow whose status says that it was aborted.
const ABORTED_IN_STATUS: &str = "Workflow aborted: its status says so.";

impl Machine {
    /// The top-level graph has ended.
    pub(super) fn finish(&mut self, result: Result<(), ExecutionError>) {
        self.lifecycle.finishing = Some(result);
    }

    /// The status has ended, and nothing says that admin knows: its end is told, again if need be, as if it had just been
    /// reached. Admin refuses what it has already, which is an answer. A phase is not believed more than what it stands
    /// for: what is active ends first, and a workflow has succeeded only when its nodes have, since the outputs are theirs.
    pub(super) fn tell_end(&mut self) {
        match self.status.phase {
            WorkflowPhase::Success => {
                self.resume_graph(Nodes::TOP);
                if self.lifecycle.finishing != Some(Ok(())) {
                    self.fail_workflow(system("IllegalStateError", NOT_SUCCEEDED));
                }
            }
            WorkflowPhase::Failed => {
                self.lifecycle.enter(Stage::Failing);
                self.resume_failing();
            }
            WorkflowPhase::Aborted => {
                self.resume_graph(Nodes::TOP);
                self.abort(ABORTED_IN_STATUS);
            }
            WorkflowPhase::Ready
            | WorkflowPhase::Running
            | WorkflowPhase::Succeeding
            | WorkflowPhase::Failing
            | WorkflowPhase::HandlingFailureNode
            | WorkflowPhase::Unknown(_) => {}
        }
    }

    /// Decides on the end of the workflow, once all events of nodes are acknowledged.
    pub(super) fn conclude(&mut self) -> bool {
        if !self.jobs.are_over() || self.lifecycle.is_busy() {
            return false;
        }
        if *self.lifecycle.stage() == Stage::Aborting || self.lifecycle.is_closing() {
            return false;
        }
        match self.lifecycle.finishing.take() {
            None => return false,
            Some(Ok(())) => {
                let end = self.nodes[Nodes::TOP].find(END_NODE);
                let outputs = end.map(|end| self.nodes[end].files.outputs());
                self.status.output_ref = outputs.unwrap_or_default();
                self.lifecycle.enter(Stage::Ending(End::Succeeded));
            }
            Some(Err(error)) => self.close(End::Failed(error)),
        }
        true
    }

    /// Ends a workflow that does not succeed. If an earlier process may have begun what no status tells of, that is
    /// looked for first; a workflow that succeeds has run all of its nodes, and so has none of these.
    pub(super) fn close(&mut self, end: End) {
        let stage = if self.lifecycle.is_first() {
            Stage::Ending(end)
        } else {
            Stage::FindingLeftovers(end)
        };
        self.lifecycle.enter(stage);
    }

    pub(super) fn leftover_query(&self) -> LeftoverQuery {
        let context = &self.context;
        LeftoverQuery {
            execution: context.execution.clone(),
            parents: self
                .nodes
                .all()
                .filter(|(_, node)| match node.spec.kind {
                    NodeKind::Branch | NodeKind::Workflow => {
                        node.status.phase != NodePhase::NotYetStarted
                    }
                    // An earlier process may have come as far as starting what it made. Elements of arrays have no records.
                    NodeKind::Task => {
                        node.member.is_none() && (node.is_active() || node.has_failed())
                    }
                    NodeKind::Start | NodeKind::End | NodeKind::Gate | NodeKind::Array => false,
                })
                .map(|(_, node)| node.unique_id.clone())
                .collect(),
            pods: context.labels.get("execution-id").map(|label| PodQuery {
                namespace: context.namespace.clone(),
                execution_label: label.clone(),
                owner: context.name.clone(),
            }),
        }
    }

    /// What was found ends before the workflow does; its pods go when that is written.
    pub(super) fn found_leftovers(&mut self, found: Leftovers, end: End, now: Timestamp) {
        for pod in found.pods {
            if !self.cleanup.delete.contains(&pod) {
                self.cleanup.delete.push(pod);
            }
        }
        let reason = self.lifecycle.abort_reason().unwrap_or(AUTO_ABORT);
        let producer = &self.context.settings.propeller.cluster_id;
        let children = found.nodes.iter().filter_map(|node| node.child.clone());
        let clearance = Clearance {
            children: children.collect(),
            cause: launch_plan::cause(&self.context, reason),
            events: leftovers::events(found.nodes, producer, reason, now),
        };
        let stage = if clearance.events.is_empty() {
            Stage::Ending(end)
        } else {
            Stage::ClearingLeftovers(end, clearance)
        };
        self.lifecycle.enter(stage);
    }

    /// Sends the last event, if there is one to send.
    pub(super) fn send_end(&mut self, end: &End, now: Timestamp) {
        match end {
            End::Succeeded => {
                let output = Some(WorkflowOutput::Uri(self.status.output_ref.clone()));
                let phases = vec![
                    (EventPhase::Succeeding, None),
                    (EventPhase::Succeeded, output),
                ];
                self.send(phases, now);
            }
            End::Failed(error) => {
                let output = Some(WorkflowOutput::Error(error.clone()));
                self.send(vec![(EventPhase::Failed, output)], now);
            }
            End::Aborted => self.send(vec![(EventPhase::Aborted, None)], now),
            End::EndedElsewhere => self.end(end, now),
        }
    }

    /// The workflow is over.
    pub(super) fn end(&mut self, end: &End, now: Timestamp) {
        let time = Some(Time::new(now));
        self.lifecycle.enter(Stage::Over);
        self.status.phase = match end {
            End::Succeeded => WorkflowPhase::Success,
            End::Failed(error) => {
                self.status.error = Some(Proto(events::cut(error.clone())));
                WorkflowPhase::Failed
            }
            End::EndedElsewhere => WorkflowPhase::Failed,
            End::Aborted => WorkflowPhase::Aborted,
        };
        self.status.stopped_at = self.status.stopped_at.or(time);
        self.status.last_updated_at = time;
        if *end == End::Succeeded {
            self.status.message.clear();
        }
        self.note_workflow_change();
    }
}
