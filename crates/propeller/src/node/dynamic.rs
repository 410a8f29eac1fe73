//! Dynamic nodes: tasks that made a workflow, which runs inside the node (spec 04 §7.6).
//!
//! ```text
//! task ── futures.pb ──▶ ParentFinalizing ── compiled, flyteadmin has DYNAMIC_RUNNING ──▶ Executing ── ended ──▶ the node ends
//!                                                                                            │ a node failed
//!                                                                                            ▼
//!                                                                                         Failing ── aborted ──▶ the node fails
//! ```
//!
//! A process that finds Executing or Failing in a status does not know what runs inside, only where it stands: it reads what was
//! compiled before anything else ([`Inside::Unread`]).

use std::collections::BTreeMap;

use flyte_crd::{
    NodePhase, NodeStatus, Proto, Time,
    status::{DynamicNodeStatus, DynamicPhase, TaskPhase},
};
use flyte_idl::{
    core::{ExecutionError, execution_error::ErrorKind, node_execution::Phase as EventPhase},
    event::DynamicWorkflowNodeMetadata,
};
use flyte_plugins::{PhaseInfo, TaskInfo};
use jiff::Timestamp;

use super::{
    Change, Inside, NodeEffect, NodeResult, NodeView, Source, Step, Then, WorkflowDefinition,
    attempts_left, container, declares_outputs, error, failed, identity, succeeded, system,
    task::Attempt, template,
};
use crate::events::{self, NodeDetails};

/// What compiling is for.
pub(crate) const COMPILE: &str = "compile what the dynamic task made";
/// The entry of a node's inner statuses below which those of the dynamic workflow are.
pub(crate) const INNER_ENTRY: &str = "dynamic-node";
/// Why a node is failing, in its status.
const FAILING_REASON: &str = "Dynamic workflow failed";

/// A workflow that a dynamic task has made, ready to run.
#[derive(Debug, PartialEq)]
pub struct DynamicWorkflow {
    /// What runs.
    pub definition: WorkflowDefinition,
    /// What flyteadmin is told of it: its id, its closure, and the URI of what the task wrote.
    pub reported: DynamicWorkflowNodeMetadata,
}

/// Whether the task of a node has ended and made a workflow.
pub(crate) fn has_begun(status: &NodeStatus) -> bool {
    phase(status) != DynamicPhase::None
}

/// Whether nodes inside may have been started.
pub(crate) fn is_under_way(status: &NodeStatus) -> bool {
    matches!(
        phase(status),
        DynamicPhase::Executing | DynamicPhase::Failing
    )
}

fn phase(status: &NodeStatus) -> DynamicPhase {
    let dynamic = status.dynamic_node_status.as_ref();
    dynamic.map_or(DynamicPhase::None, |dynamic| dynamic.phase)
}

/// The task has ended and left a workflow behind.
pub(super) fn begin(attempt: &Attempt<'_>, now: Timestamp) -> Step {
    let info = PhaseInfo::new(TaskPhase::Success, 0, "", TaskInfo::default());
    let mut status = attempt.view.status.clone();
    let task = status.task_node_status.get_or_insert_default();
    task.phase = TaskPhase::Success;
    task.phase_version = 0;
    status.dynamic_node_status.get_or_insert_default().phase = DynamicPhase::ParentFinalizing;
    status.last_updated_at = Some(Time::new(now));
    Change::new(vec![attempt.event(&info, now)], status).step()
}

pub(super) fn step(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    match (view.inside, result) {
        (Inside::Nothing | Inside::Unread, Some(NodeResult::DynamicCompiled(compiled))) => {
            match compiled {
                Ok(compiled) => start(view, &compiled, now),
                Err(error) => failed(view, *error, Vec::new(), now),
            }
        }
        // Whatever is to become of the node, what is inside it has a say.
        (Inside::Unread, _) => Step::Do(NodeEffect::CompileDynamic),
        (_, result) => container::within_deadlines(view, |view| decide(view, result, now), now),
    }
}

fn decide(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    match (view.inside, result) {
        (Inside::Nothing | Inside::Unread, _) => Step::Do(NodeEffect::CompileDynamic),
        (Inside::UnderWay | Inside::Stopped, _) => Step::Wait(None),
        (Inside::Succeeded, _) if !has_outputs(view) => {
            succeeded(view, NodeDetails::default(), Vec::new(), now)
        }
        (Inside::Succeeded, Some(NodeResult::Copied(true))) => {
            let details = NodeDetails {
                outputs: Some(view.files.outputs()),
                ..NodeDetails::default()
            };
            succeeded(view, details, Vec::new(), now)
        }
        (Inside::Succeeded, Some(NodeResult::Copied(false))) => {
            let message =
                "DynamicWorkflow is expected to produce outputs but no outputs file was written";
            let error = system("DynamicWorkflowOutputsNotFound", message);
            try_again(view, error, now)
        }
        (Inside::Succeeded, _) => Step::Do(NodeEffect::CopyOutputs {
            from: Source::Inner,
            to: view.files.outputs(),
        }),
        (Inside::Failed(error), _) => {
            let known = view.status.dynamic_node_status.as_ref();
            // A workflow that took too long may do better another time (spec 04 §7.6).
            if known.is_some_and(|dynamic| !dynamic.permanent_failure) {
                try_again(view, error.clone(), now)
            } else {
                failed(view, error.clone(), Vec::new(), now)
            }
        }
    }
}

fn has_outputs(view: &NodeView<'_>) -> bool {
    template(view).is_some_and(declares_outputs)
}

/// What was compiled begins to run, or goes on where the status says that it stands.
fn start(view: &NodeView<'_>, compiled: &DynamicWorkflow, now: Timestamp) -> Step {
    let then = Then::StartDynamic(compiled.definition.clone());
    if view.inside == Inside::Unread {
        let change = Change::new(Vec::new(), view.status.clone());
        return Change {
            derivable: true,
            ..change.then(then)
        }
        .step();
    }
    let details = NodeDetails {
        dynamic: Some(compiled.reported.clone()),
        ..NodeDetails::default()
    };
    let event = events::node(&identity(view), EventPhase::DynamicRunning, now, details);
    let mut status = view.status.clone();
    status.phase = NodePhase::DynamicRunning;
    "dynamic workflow running".clone_into(&mut status.message);
    status.last_updated_at = Some(Time::new(now));
    status.dynamic_node_status = Some(DynamicNodeStatus {
        phase: DynamicPhase::Executing,
        ..DynamicNodeStatus::default()
    });
    Change::new(vec![event], status).then(then).step()
}

/// Another attempt of the task, which makes another workflow, or the end.
fn try_again(view: &NodeView<'_>, error: ExecutionError, now: Timestamp) -> Step {
    let attempts = attempts_left(view, error.kind());
    if !attempts.left {
        return failed(view, attempts.exhausted(&error), Vec::new(), now);
    }
    let is_system = error.kind() == ErrorKind::System;
    let mut change = container::leaving(view, NodePhase::RetryableFailure, Some(error), now);
    change.status.system_failures += u32::from(is_system);
    change.step()
}

/// The status of a node inside which something has failed, because of `error`.
pub(crate) fn failing(
    status: &NodeStatus,
    error: &ExecutionError,
    is_permanent: bool,
) -> NodeStatus {
    let mut status = status.clone();
    status.dynamic_node_status = Some(DynamicNodeStatus {
        phase: DynamicPhase::Failing,
        reason: FAILING_REASON.into(),
        error: Some(Proto(error.clone())),
        permanent_failure: is_permanent,
    });
    status
}

/// Why what is inside a node is being aborted, if it is; an error that nobody wrote down has a name of its own.
pub(crate) fn failing_because(status: &NodeStatus) -> Option<ExecutionError> {
    let dynamic = status.dynamic_node_status.as_ref()?;
    (dynamic.phase == DynamicPhase::Failing).then(|| {
        dynamic.error.as_ref().map_or_else(
            || error(ErrorKind::Unknown, "DynamicNodeFailing", &*dynamic.reason),
            |error| error.0.clone(),
        )
    })
}

/// Takes the statuses of the nodes inside out of that of the node.
pub(crate) fn take_statuses(status: &mut NodeStatus) -> BTreeMap<String, NodeStatus> {
    let inner = std::mem::take(&mut status.sub_node_status).remove(INNER_ENTRY);
    inner.map(|inner| inner.sub_node_status).unwrap_or_default()
}
