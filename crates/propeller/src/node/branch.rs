//! Branch nodes: choose an arm, wait for it, hand on its outputs (spec 04 §7.3).

pub mod condition;

use flyte_crd::status::{BranchPhase, BranchStatus};
use jiff::Timestamp;

use super::{
    Change, Inside, NodeEffect, NodeResult, NodeView, Source, Step, Then, failed, running,
    running_event, succeeded, system, user,
};
use crate::events::NodeDetails;
use condition::{BranchError, Choice, MALFORMED};

pub(super) fn step(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    let phase = view
        .status
        .branch_status
        .as_ref()
        .map_or(BranchPhase::NotYetEvaluated, |branch| branch.phase);
    match phase {
        BranchPhase::NotYetEvaluated => choose(view, result, now),
        BranchPhase::Success => follow(view, result, now),
        BranchPhase::Error => fail(
            view,
            user(MALFORMED, BranchError::NothingHolds.to_string()),
            now,
        ),
        BranchPhase::Unknown(phase) => {
            let message = format!(
                "branch [{}] has phase [{phase}], which this engine does not know",
                view.spec.id
            );
            fail(view, system("IllegalStateError", message), now)
        }
    }
}

/// The arm is chosen: what has become of it?
fn follow(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    match (view.inside, result) {
        // An arm without outputs leaves none to copy.
        (Inside::Succeeded, Some(NodeResult::Copied(_))) => {
            let outputs = Some(view.files.outputs());
            let details = NodeDetails {
                outputs,
                ..NodeDetails::default()
            };
            succeeded(view, details, Vec::new(), now)
        }
        (Inside::Succeeded, _) => Step::Do(NodeEffect::CopyOutputs {
            from: Source::Inner,
            to: view.files.outputs(),
        }),
        (Inside::Failed(error), _) => failed(view, error.clone(), Vec::new(), now),
        (Inside::Nothing, _) => {
            let chosen = view.status.branch_status.as_ref();
            let chosen = chosen.map_or("", |branch| branch.final_node_id.as_str());
            let message = format!("Downstream node [{chosen}] not found");
            let error = system("DownstreamNodeNotFound", message);
            failed(view, error, Vec::new(), now)
        }
        (Inside::UnderWay | Inside::Stopped | Inside::Unread, _) => Step::Wait(None),
    }
}

/// Decides on the inputs.
fn choose(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    let inputs = match &result {
        Some(NodeResult::Inputs(inputs)) => Some(inputs),
        _ => view.inputs,
    };
    let Some(inputs) = inputs else {
        return Step::Do(NodeEffect::ReadInputs(view.files.inputs()));
    };
    let Some(branch) = &view.spec.branch else {
        let message = "Invoked branch handler, for a non branch node.";
        return fail(view, system("IllegalStateError", message), now);
    };
    match condition::choose(branch, inputs) {
        Ok(Choice::Arm(node)) => {
            let mut status = running(view.status, now);
            status.branch_status = Some(BranchStatus {
                phase: BranchPhase::Success,
                final_node_id: node.clone(),
            });
            Change::new(running_event(view, now), status)
                .then(Then::ChooseArm(Some(node)))
                .step()
        }
        Ok(Choice::Fail(message)) => {
            let error = user(
                "UserProvidedError",
                format!("[UserProvidedError] {message}"),
            );
            fail(view, error, now)
        }
        Err(error) => fail(view, user(MALFORMED, error.to_string()), now),
    }
}

/// No arm can be chosen: all of them are skipped.
fn fail(view: &NodeView<'_>, error: flyte_idl::core::ExecutionError, now: Timestamp) -> Step {
    match failed(view, error, Vec::new(), now) {
        Step::Change(change) => change.then(Then::ChooseArm(None)).step(),
        other @ (Step::Wait(_) | Step::Do(_)) => other,
    }
}
