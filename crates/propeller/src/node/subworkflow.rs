//! Sub-workflow nodes (spec 04 §7.4). Launch plans are child executions and come with the next issue.

use flyte_core::layout::START_NODE;
use flyte_crd::{
    GoStruct, NodePhase,
    status::{WorkflowNodePhase, WorkflowNodeStatus},
};
use flyte_idl::core::{
    ExecutionError, execution_error::ErrorKind, node_execution::Phase as EventPhase,
};
use jiff::Timestamp;

use super::{
    Change, NodeView, Observation, Places, Source, Step, Then, Work, event, failed, running,
    succeeded, unsupported,
};
use crate::events::NodeDetails;

pub(super) fn step(view: &NodeView<'_>, observation: Observation, now: Timestamp) -> Step {
    let reference = view
        .spec
        .workflow
        .as_ref()
        .and_then(|workflow| workflow.sub_workflow_ref.as_ref());
    let Some(key) = reference else {
        return unsupported::fail(view, "launch_plan", now);
    };
    let Some(sub) = view.run.sub_workflows.get(key) else {
        let error = ExecutionError {
            code: "BadSpecificationError".into(),
            message: format!(
                "node [{}] runs sub-workflow [{key}], which the execution does not have",
                view.spec.id
            ),
            kind: ErrorKind::System.into(),
            ..ExecutionError::default()
        };
        return failed(view, error, Vec::new(), now);
    };
    let started = view
        .status
        .workflow_node_status
        .as_ref()
        .is_some_and(|status| status.phase != WorkflowNodePhase::Undefined);
    if !started {
        return match observation {
            Observation::Copied(_) => {
                let mut status = running(view.status, now);
                status.workflow_node_status = Some(WorkflowNodeStatus {
                    phase: WorkflowNodePhase::Executing,
                    execution_error: None,
                });
                let queued = view.status.phase == NodePhase::Queued;
                let events = if queued {
                    vec![event(view, EventPhase::Running, now)]
                } else {
                    Vec::new()
                };
                Step::Change(Box::new(Change {
                    events,
                    status,
                    derivable: false,
                    then: Then::StartSubWorkflow,
                    delete_pod: None,
                    told: None,
                }))
            }
            // The node's inputs are the outputs of the start node inside.
            _ => match Places::nested(view.places.output(), START_NODE, 0) {
                Ok(start) => Step::Do(Work::Copy {
                    from: Source::File(view.places.inputs()),
                    to: start.outputs(),
                }),
                Err(error) => unsupported::fail(view, &error.to_string(), now),
            },
        };
    }
    match observation {
        Observation::Inner(Ok(())) if sub.output_bindings.is_empty() => {
            succeeded(view, NodeDetails::default(), Vec::new(), now)
        }
        Observation::Inner(Ok(())) => Step::Do(Work::Copy {
            from: Source::Inner,
            to: view.places.outputs(),
        }),
        Observation::Copied(true) => {
            let outputs = Some(view.places.outputs());
            succeeded(
                view,
                NodeDetails {
                    outputs,
                    ..NodeDetails::default()
                },
                Vec::new(),
                now,
            )
        }
        Observation::Copied(false) => {
            let error = ExecutionError {
                code: "SubWorkflowExecutionFailed".into(),
                message: "Subworkflow outputs are missing".into(),
                kind: ErrorKind::System.into(),
                ..ExecutionError::default()
            };
            failed(view, error, Vec::new(), now)
        }
        Observation::Inner(Err(error)) => failed(view, error, Vec::new(), now),
        _ => Step::Wait(None),
    }
}

/// The status of a node whose sub-workflow is being aborted because of `error`.
pub(crate) fn failing(
    status: &flyte_crd::NodeStatus,
    error: &ExecutionError,
) -> flyte_crd::NodeStatus {
    let mut status = status.clone();
    status.workflow_node_status = Some(WorkflowNodeStatus {
        phase: WorkflowNodePhase::Failing,
        execution_error: Some(GoStruct(error.clone())),
    });
    status
}
