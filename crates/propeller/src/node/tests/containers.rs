//! Branches and sub-workflows.

use std::sync::Arc;

use flyte_crd::{NodePhase, status::BranchPhase};
use serde_json::json;

use super::super::*;
use super::scene::*;

#[test]
fn branches_choose_and_follow_an_arm() {
    let (branch, failed) = (Scene::branch, Inside::Failed(failure()));
    let read = |n: i64| Some(NodeResult::Inputs(inputs(n)));
    let odd = |status: BranchPhase| {
        branch().decided().change(|scene| {
            scene.status.branch_status.as_mut().unwrap().phase = status;
        })
    };
    check(vec![
        ("queued", branch(), None, "read the inputs"),
        (
            "a condition holds",
            branch(),
            read(1),
            "RUNNING, Running, arm yes",
        ),
        ("none does", branch(), read(2), "RUNNING, Running, arm no"),
        (
            "inputs are known",
            branch().change(|scene| scene.inputs = Some(inputs(1))),
            None,
            "RUNNING, Running, arm yes",
        ),
        (
            "an operand is missing",
            branch(),
            Some(NodeResult::Inputs(Arc::default())),
            "FAILED, Failed MalformedBranchUserError, arm none",
        ),
        (
            "the arm runs",
            branch().decided().inside(Inside::UnderWay),
            None,
            "wait",
        ),
        (
            "the arm has succeeded, whoever saw it",
            branch().decided().inside(Inside::Succeeded),
            None,
            "copy the outputs",
        ),
        (
            "its outputs are copied",
            branch().decided().inside(Inside::Succeeded),
            Some(NodeResult::Copied(false)),
            "SUCCEEDED, Succeeded",
        ),
        (
            "the arm has failed",
            branch().decided().inside(failed),
            None,
            "FAILED, Failed Code",
        ),
        (
            "the arm does not exist",
            branch().decided().inside(Inside::Nothing),
            None,
            "FAILED, Failed DownstreamNodeNotFound",
        ),
        (
            "a decision of a newer version",
            odd(BranchPhase::Unknown(9)),
            None,
            "FAILED, Failed IllegalStateError, arm none",
        ),
    ]);
}

#[test]
fn sub_workflows_start_and_hand_on_outputs() {
    let (sub, bare) = (
        || Scene::sub_workflow("sub"),
        || Scene::sub_workflow("bare"),
    );
    let copied = |found| Some(NodeResult::Copied(found));
    check(vec![
        ("queued", sub(), None, "copy the outputs"),
        (
            "its inputs are copied",
            sub(),
            copied(true),
            "RUNNING, Running, start inside",
        ),
        (
            "running, and nothing was started",
            sub().at(NodePhase::Running),
            copied(true),
            "Running, start inside",
        ),
        (
            "under way",
            sub().started().inside(Inside::UnderWay),
            None,
            "wait",
        ),
        (
            "the graph has ended, whoever saw it",
            sub().started().inside(Inside::Succeeded),
            None,
            "copy the outputs",
        ),
        (
            "its outputs are copied",
            sub().started().inside(Inside::Succeeded),
            copied(true),
            "SUCCEEDED, Succeeded",
        ),
        (
            "it left none",
            sub().started().inside(Inside::Succeeded),
            copied(false),
            "FAILED, Failed SubWorkflowExecutionFailed",
        ),
        (
            "it has none",
            bare().started().inside(Inside::Succeeded),
            None,
            "SUCCEEDED, Succeeded",
        ),
        (
            "the graph has failed",
            sub().started().inside(Inside::Failed(failure())),
            None,
            "FAILED, Failed Code",
        ),
        (
            "no such sub-workflow",
            Scene::sub_workflow("other"),
            None,
            "FAILED, Failed BadSpecificationError",
        ),
        (
            "no workflow at all",
            Scene::of("workflow", json!({ "workflow": {} })),
            None,
            "FAILED, Failed BadSpecificationError",
        ),
    ]);
}

#[test]
fn containers_that_take_too_long_end_what_is_inside_first() {
    let under_way = || {
        Scene::sub_workflow("sub")
            .started()
            .inside(Inside::UnderWay)
            .change(|scene| {
                scene.status.queued_at = ago(100);
                scene.status.last_attempt_started_at = ago(50);
            })
    };
    let with = |key: &str, text: &str| {
        let mut scene = under_way();
        let mut spec = serde_json::to_value(&scene.spec).unwrap();
        spec[key] = text.into();
        scene.spec = serde_json::from_value(spec).unwrap();
        scene
    };
    let leaving = |phase, inside| under_way().at(phase).inside(inside);
    let retried = with("executionDeadline", "40s").change(|scene| {
        scene.spec.retry = Some(flyte_crd::RetryStrategy { min_attempts: 2 });
    });
    check(vec![
        ("no deadline", under_way(), None, "wait"),
        (
            "there is time",
            with("activeDeadline", "160s"),
            None,
            "wait 60 s",
        ),
        (
            "the attempt took too long",
            with("executionDeadline", "40s"),
            None,
            "Failing RetriesExhausted|TimeoutExpired, abort inside",
        ),
        (
            "and there is another",
            retried,
            None,
            "RetryableFailure, abort inside",
        ),
        (
            "the node took too long",
            with("activeDeadline", "90s"),
            None,
            "TimingOut, abort inside",
        ),
        (
            "the inside has ended in time",
            with("activeDeadline", "90s").inside(Inside::Succeeded),
            None,
            "copy the outputs",
        ),
        (
            "still aborting",
            leaving(NodePhase::TimingOut, Inside::UnderWay),
            None,
            "wait",
        ),
        (
            "nothing is left inside",
            leaving(NodePhase::TimingOut, Inside::Stopped),
            None,
            "TIMED_OUT, TimedOut",
        ),
        (
            "nothing is left inside of a failed attempt",
            leaving(NodePhase::Failing, Inside::Stopped),
            None,
            "FAILED, Failed UnknownError",
        ),
        (
            "nor of one that is tried again",
            leaving(NodePhase::RetryableFailure, Inside::Stopped),
            None,
            "Running attempt 1",
        ),
    ]);
}
