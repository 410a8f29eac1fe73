//! Sub-workflow nodes (spec 04 §7.4).

use flyte_core::layout::START_NODE;
use flyte_crd::{
    GoStruct, NodeStatus,
    status::{WorkflowNodePhase, WorkflowNodeStatus},
};
use flyte_idl::core::ExecutionError;
use jiff::Timestamp;

use super::{
    Change, Inside, NodeEffect, NodeFiles, NodeResult, NodeView, Source, Step, Then, failed,
    running, running_event, succeeded, system, unsupported,
};
use crate::events::NodeDetails;

pub(super) fn step(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    let reference = view
        .spec
        .workflow
        .as_ref()
        .and_then(|workflow| workflow.sub_workflow_ref.as_ref());
    let Some(key) = reference else {
        let message = format!("node [{}] names no workflow to run", view.spec.id);
        return failed(
            view,
            system("BadSpecificationError", message),
            Vec::new(),
            now,
        );
    };
    let Some(sub) = view.entities.sub_workflows.get(key) else {
        let message = format!(
            "node [{}] runs sub-workflow [{key}], which the execution does not have",
            view.spec.id
        );
        let error = system("BadSpecificationError", message);
        return failed(view, error, Vec::new(), now);
    };
    match (view.inside, result) {
        (Inside::Nothing, result) => begin(view, result, now),
        (Inside::Succeeded, _) if sub.output_bindings.is_empty() => {
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
            let message = "Subworkflow outputs are missing";
            let error = system("SubWorkflowExecutionFailed", message);
            failed(view, error, Vec::new(), now)
        }
        (Inside::Succeeded, _) => Step::Do(NodeEffect::CopyOutputs {
            from: Source::Inner,
            to: view.files.outputs(),
        }),
        (Inside::Failed(error), _) => failed(view, error.clone(), Vec::new(), now),
        (Inside::UnderWay | Inside::Stopped | Inside::Unread, _) => Step::Wait(None),
    }
}

/// The node's inputs become the outputs of the start node inside, and then the graph inside starts.
fn begin(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    let Some(NodeResult::Copied(_)) = result else {
        return match NodeFiles::nested(view.files.output(), START_NODE, 0) {
            Ok(start) => Step::Do(NodeEffect::CopyOutputs {
                from: Source::File(view.files.inputs()),
                to: start.outputs(),
            }),
            Err(error) => unsupported::fail(view, &error.to_string(), now),
        };
    };
    let mut status = running(view.status, now);
    status.workflow_node_status = Some(WorkflowNodeStatus {
        phase: WorkflowNodePhase::Executing,
        execution_error: None,
    });
    Change::new(running_event(view, now), status)
        .then(Then::StartSubWorkflow)
        .step()
}

/// The status of a node whose sub-workflow is being aborted because of `error`.
pub(crate) fn failing(status: &NodeStatus, error: &ExecutionError) -> NodeStatus {
    let mut status = status.clone();
    status.workflow_node_status = Some(WorkflowNodeStatus {
        phase: WorkflowNodePhase::Failing,
        execution_error: Some(GoStruct(error.clone())),
    });
    status
}

/// Why the sub-workflow of a node is being aborted, if it is; an error that nobody wrote down has a name of its own
/// (spec 04 §7.4).
pub(crate) fn failing_because(status: &NodeStatus) -> Option<ExecutionError> {
    let inner = status.workflow_node_status.as_ref()?;
    (inner.phase == WorkflowNodePhase::Failing).then(|| {
        inner.execution_error.as_ref().map_or_else(
            || {
                super::error(
                    flyte_idl::core::execution_error::ErrorKind::Unknown,
                    "SubworkflowNodeFailing",
                    "the sub-workflow failed; its error was not written down",
                )
            },
            |error| error.0.clone(),
        )
    })
}
