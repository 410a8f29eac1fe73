//! Launch plan nodes: another execution, which flyteadmin makes and whose end it tells (spec 04 §7.5).
//!
//! ```text
//! Queued ──── the child is made ────▶ Running ──── the child has ended ────▶ Succeeded, Failed
//! Failing, TimingOut, RetryableFailure, to be aborted ──── the child is terminated ────▶ the node ends
//! ```
//!
//! The child's name follows from the node and its attempt, so that whoever makes it again meets the one that is there.

use std::sync::Arc;

use flyte_core::{identifiers::ExecutionId, unique_id};
use flyte_crd::{
    NodePhase, NodeSpec,
    status::{WorkflowNodePhase, WorkflowNodeStatus},
};
use flyte_idl::core::{
    ExecutionError, Identifier, LiteralMap, node_execution::Phase as EventPhase,
};
use jiff::Timestamp;

use super::{
    Change, NodeEffect, NodeResult, NodeView, Step, WorkflowContext, container, error, identity,
    node_end::{failed_with, succeeded},
    running, subworkflow, system, user,
};
use crate::events::{self, NodeDetails};

/// Version of the definitions that hash the names of children as since Go Flyte 0.1: with 64 bits.
const DEFINITION_VERSION: u32 = 1;

/// What terminating a child is for.
pub(crate) const TERMINATE: &str = "terminate the child execution";

/// What flyteadmin says of a child execution.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildState {
    /// It is to begin, runs, or is about to end.
    UnderWay,
    /// It has outputs, if its workflow declares any.
    Succeeded,
    /// It failed, because of this.
    Failed(Box<ExecutionError>),
    /// Somebody terminated it.
    Aborted,
    /// It took longer than it may.
    TimedOut,
    /// flyteadmin has no such execution, although it was made.
    Missing,
    /// An execution that something else made has its name.
    Foreign,
}

/// The launch plan of a node that runs one.
pub fn of(spec: &NodeSpec) -> Option<&Identifier> {
    let workflow = spec.workflow.as_ref()?;
    workflow.launch_plan_ref_id.as_ref().map(|id| &id.0)
}

/// The name of the execution that the node's attempt under way makes; its project and domain are those of the workflow.
pub fn child_name(view: &NodeView<'_>) -> String {
    name_of_child(
        &view.workflow.execution,
        view.unique_id,
        view.status.attempts,
    )
}

/// The name of the execution that an attempt of a node of `execution` makes.
pub(crate) fn name_of_child(execution: &ExecutionId, unique_node_id: &str, attempt: u32) -> String {
    let name = &execution.name;
    unique_id::child_execution(name, unique_node_id, attempt, DEFINITION_VERSION)
}

/// Whether flyteadmin is to be asked what has become of the child: it was made, and its end is not taken in.
pub fn awaits_child(view: &NodeView<'_>) -> bool {
    may_have_child(view) && is_made(view)
}

/// Whether there may be a child that goes on, whatever the status says of it.
pub fn may_have_child(view: &NodeView<'_>) -> bool {
    of(view.spec).is_some() && view.status.phase.is_active()
}

/// Why a child is terminated, as its users read it.
pub(crate) fn cause(parent: &WorkflowContext, reason: &str) -> String {
    let execution = &parent.execution.name;
    format!("cascading abort as parent execution id [{execution}] aborted, reason [{reason}]")
}

/// Whether the status says that the child was made.
fn is_made(view: &NodeView<'_>) -> bool {
    let status = view.status.workflow_node_status.as_ref();
    status.is_some_and(|status| status.phase == WorkflowNodePhase::Executing)
}

/// On its way out: the child ends before the node does.
fn is_leaving(phase: NodePhase) -> bool {
    matches!(
        phase,
        NodePhase::Failing | NodePhase::TimingOut | NodePhase::RetryableFailure
    )
}

pub(super) fn step(
    view: &NodeView<'_>,
    plan: &Identifier,
    result: Option<NodeResult>,
    now: Timestamp,
) -> Step {
    if is_leaving(view.status.phase) && !matches!(result, Some(NodeResult::ChildTerminated)) {
        let reason = view
            .status
            .error
            .as_ref()
            .map_or("node timed out", |error| error.0.message.as_str());
        return Step::Do(NodeEffect::TerminateChild {
            cause: cause(view.workflow, reason),
        });
    }
    container::within_deadlines(view, |view| decide(view, plan, result, now), now)
}

fn decide(
    view: &NodeView<'_>,
    plan: &Identifier,
    result: Option<NodeResult>,
    now: Timestamp,
) -> Step {
    if let Some(error) = subworkflow::failing_because(view.status) {
        return ends_with(view, error, now);
    }
    if !is_made(view) {
        return launch(view, plan, result, now);
    }
    let name = || child_name(view);
    match (view.child, result) {
        (_, Some(NodeResult::Copied(has_outputs))) => {
            let details = NodeDetails {
                outputs: has_outputs.then(|| view.files.outputs()),
                ..details(view)
            };
            succeeded(view, details, Vec::new(), now)
        }
        (None | Some(ChildState::UnderWay), _) => Step::Wait(None),
        (Some(ChildState::Succeeded), _) => Step::Do(NodeEffect::CopyChildOutputs {
            to: view.files.outputs(),
        }),
        (Some(ChildState::Failed(error)), _) => ends_with(view, (**error).clone(), now),
        (Some(ChildState::Aborted), _) => {
            let code = "RemoteChildWorkflowExecutionFailed";
            let message = format!(
                "failed at Node[{}]. {code}: launchplan [{}] aborted, caused by: launchplan execution aborted",
                view.spec.id,
                name()
            );
            ends_with(view, user(code, message), now)
        }
        (Some(ChildState::TimedOut), _) => {
            let message = format!("launchplan [{}] took longer than it may", name());
            ends_with(view, user("LaunchPlanExecutionFailed", message), now)
        }
        (Some(ChildState::Missing), _) => {
            let message = format!(
                "child execution [{}] is not known to flyteadmin any more: somebody must have removed it",
                name()
            );
            ends_with(view, system("NotFound", message), now)
        }
        (Some(ChildState::Foreign), _) => {
            let message = format!(
                "the execution [{}] was not made by node [{}], which needs its name; rename or relaunch this execution",
                name(),
                view.spec.id
            );
            ends_with(view, user("RuntimeExecutionError", message), now)
        }
    }
}

/// The child is made, from the node's inputs.
fn launch(
    view: &NodeView<'_>,
    plan: &Identifier,
    result: Option<NodeResult>,
    now: Timestamp,
) -> Step {
    if !view.workflow.settings.propeller.enable_admin_launcher {
        let message = format!(
            "node [{}] runs launch plan [{}:{}], and propeller.enable-admin-launcher is false",
            view.spec.id, plan.name, plan.version
        );
        return ends_with(view, user("RuntimeExecutionError", message), now);
    }
    let inputs: Option<&Arc<LiteralMap>> = match &result {
        Some(NodeResult::ChildLaunched(Ok(()))) => return launched(view, now),
        Some(NodeResult::ChildLaunched(Err(error))) => {
            return ends_with(view, (**error).clone(), now);
        }
        Some(NodeResult::Inputs(inputs)) => Some(inputs),
        _ => view.inputs,
    };
    match inputs {
        Some(inputs) => Step::Do(NodeEffect::LaunchChild {
            inputs: inputs.clone(),
        }),
        None => Step::Do(NodeEffect::ReadInputs(view.files.inputs())),
    }
}

fn launched(view: &NodeView<'_>, now: Timestamp) -> Step {
    let mut status = running(view.status, now);
    status.workflow_node_status = Some(WorkflowNodeStatus {
        phase: WorkflowNodePhase::Executing,
        execution_error: None,
    });
    let event = events::node(&identity(view), EventPhase::Running, now, details(view));
    Change::new(vec![event], status).step()
}

/// What all events of the node say once the child has a name.
fn details(view: &NodeView<'_>) -> NodeDetails {
    NodeDetails {
        child: Some(child_name(view)),
        ..NodeDetails::default()
    }
}

fn ends_with(view: &NodeView<'_>, error: ExecutionError, now: Timestamp) -> Step {
    let details = if is_made(view) {
        details(view)
    } else {
        NodeDetails::default()
    };
    failed_with(view, details, error, now)
}

/// The error of a child that failed without saying why.
pub fn unknown_failure() -> ExecutionError {
    error(
        flyte_idl::core::execution_error::ErrorKind::Unknown,
        "LaunchPlanExecutionFailed",
        "Unknown Error",
    )
}

/// The node is to fail for a reason outside its own decisions: first the child ends, then the node.
pub fn failing(view: &NodeView<'_>, error: ExecutionError, now: Timestamp) -> Change {
    container::leaving(view, NodePhase::Failing, Some(error), now)
}
