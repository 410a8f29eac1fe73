//! Branch nodes: choose an arm, wait for it, hand on its outputs (spec 04 §7.3).

use flyte_crd::{
    NodePhase,
    status::{BranchPhase, BranchStatus},
};
use flyte_idl::core::{
    ExecutionError, execution_error::ErrorKind, node_execution::Phase as EventPhase,
};
use jiff::Timestamp;

use super::{
    Change, NodeView, Observation, Source, Step, Then, Work, event, failed, running, succeeded,
};
use crate::{
    condition::{self, Choice},
    events::NodeDetails,
};

pub(super) fn step(view: &NodeView<'_>, observation: Observation, now: Timestamp) -> Step {
    let decided = view
        .status
        .branch_status
        .as_ref()
        .is_some_and(|branch| branch.phase == BranchPhase::Success);
    if decided {
        return match observation {
            Observation::Inner(Ok(())) => Step::Do(Work::Copy {
                from: Source::Inner,
                to: view.places.outputs(),
            }),
            // An arm without outputs leaves none to copy.
            Observation::Copied(_) => {
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
            Observation::Inner(Err(error)) => failed(view, error, Vec::new(), now),
            _ => Step::Wait(None),
        };
    }
    let ((Observation::Inputs(inputs), _) | (_, Some(inputs))) = (&observation, view.inputs_known)
    else {
        return Step::Do(Work::ReadInputs(view.places.inputs()));
    };
    let Some(branch) = &view.spec.branch else {
        return fail(
            view,
            "IllegalStateError",
            "the branch has no conditions".into(),
            now,
        );
    };
    match condition::choose(branch, inputs) {
        Ok(Choice::Arm(node)) => {
            let mut status = running(view.status, now);
            status.branch_status = Some(BranchStatus {
                phase: BranchPhase::Success,
                final_node_id: node.clone(),
            });
            let events = if view.status.phase == NodePhase::Queued {
                vec![event(view, EventPhase::Running, now)]
            } else {
                Vec::new()
            };
            Step::Change(Box::new(Change {
                events,
                status,
                derivable: false,
                then: Then::ChooseArm(Some(node)),
                delete_pod: None,
                told: None,
            }))
        }
        Ok(Choice::Fail(message)) => fail(
            view,
            "UserProvidedError",
            format!("[UserProvidedError] {message}"),
            now,
        ),
        Err(error) => fail(view, "MalformedBranchUserError", error.to_string(), now),
    }
}

fn fail(view: &NodeView<'_>, code: &str, message: String, now: Timestamp) -> Step {
    let error = ExecutionError {
        code: code.to_owned(),
        message,
        kind: ErrorKind::User.into(),
        ..ExecutionError::default()
    };
    match failed(view, error, Vec::new(), now) {
        Step::Change(mut change) => {
            change.then = Then::ChooseArm(None);
            Step::Change(change)
        }
        other => other,
    }
}
