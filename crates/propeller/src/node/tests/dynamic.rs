//! Dynamic tasks: what becomes of their node while what they made is compiled, runs and ends.

use flyte_crd::{
    Proto,
    status::{DynamicNodeStatus, DynamicPhase, TaskPhase},
};
use flyte_idl::event::DynamicWorkflowNodeMetadata;

use super::{super::*, scene::*};

/// A node whose task has ended, in this phase of what it made.
fn made(phase: DynamicPhase) -> Scene {
    Scene::task().with_task(TaskPhase::Success).change(|scene| {
        scene.status.dynamic_node_status = Some(DynamicNodeStatus {
            phase,
            ..DynamicNodeStatus::default()
        });
    })
}

/// One inside which something fails, for good or not.
fn failing(is_permanent: bool) -> Scene {
    made(DynamicPhase::Failing)
        .at(NodePhase::DynamicRunning)
        .change(|scene| {
            scene.status.dynamic_node_status = Some(DynamicNodeStatus {
                phase: DynamicPhase::Failing,
                permanent_failure: is_permanent,
                error: Some(Proto(failure().clone())),
                ..DynamicNodeStatus::default()
            });
        })
        .inside(Inside::Failed(failure()))
}

fn running() -> Scene {
    made(DynamicPhase::Executing).at(NodePhase::DynamicRunning)
}

fn compiled() -> NodeResult {
    NodeResult::DynamicCompiled(Ok(Arc::new(DynamicWorkflow {
        definition: definition(),
        reported: DynamicWorkflowNodeMetadata::default(),
    })))
}

fn unbuildable() -> NodeResult {
    let error = super::super::unbuildable("no such task".into());
    NodeResult::DynamicCompiled(Err(Box::new(error)))
}

fn attempts(mut scene: Scene, attempts: u32) -> Scene {
    let retry = serde_json::json!({ "minAttempts": attempts });
    scene.spec.retry = serde_json::from_value(retry).unwrap();
    scene
}

#[test]
fn what_a_task_made_is_compiled_and_started() {
    let task = Scene::task().with_task(TaskPhase::Running).reported();
    let result = NodeResult::TaskResult(TaskResult::Futures);
    check(vec![
        (
            "its task has made one",
            task,
            Some(result),
            "task SUCCEEDED, Running",
        ),
        (
            "it is compiled",
            made(DynamicPhase::ParentFinalizing),
            None,
            "compile what the dynamic task made",
        ),
        (
            "Go has looked after the task",
            made(DynamicPhase::ParentFinalized),
            None,
            "compile what the dynamic task made",
        ),
        (
            "it starts",
            made(DynamicPhase::ParentFinalizing),
            Some(compiled()),
            "DYNAMIC_RUNNING, DynamicRunning, start inside",
        ),
        (
            "it cannot be run",
            made(DynamicPhase::ParentFinalizing),
            Some(unbuildable()),
            "FAILED, Failed DynamicWorkflowBuildFailed",
        ),
        (
            "another process started it",
            running().inside(Inside::Unread),
            None,
            "compile what the dynamic task made",
        ),
        (
            "and nobody is told again",
            running().inside(Inside::Unread),
            Some(compiled()),
            "DynamicRunning, start inside",
        ),
        (
            "also when it is on its way out",
            running().at(NodePhase::TimingOut).inside(Inside::Unread),
            None,
            "compile what the dynamic task made",
        ),
    ]);
}

#[test]
fn a_node_ends_as_what_its_task_made() {
    let done = running().inside(Inside::Succeeded);
    check(vec![
        (
            "it goes on",
            running().inside(Inside::UnderWay),
            None,
            "wait",
        ),
        (
            "outputs are handed on",
            done.clone(),
            None,
            "copy the outputs",
        ),
        (
            "it succeeds",
            done.clone(),
            Some(NodeResult::Copied(true)),
            "SUCCEEDED, Succeeded",
        ),
        (
            "there are none, which is the system's fault",
            done.clone(),
            Some(NodeResult::Copied(false)),
            "RetryableFailure, abort inside",
        ),
        (
            "and there is no other attempt",
            done.change(|scene| scene.status.system_failures = 3),
            Some(NodeResult::Copied(false)),
            "FAILED, Failed RetriesExhausted|DynamicWorkflowOutputsNotFound",
        ),
        (
            "a node failed",
            attempts(failing(true), 2),
            None,
            "FAILED, Failed Code",
        ),
        (
            "a node took too long",
            attempts(failing(false), 2),
            None,
            "RetryableFailure, abort inside",
        ),
        (
            "and there is no other attempt",
            failing(false),
            None,
            "FAILED, Failed RetriesExhausted|Code",
        ),
        (
            "all inside has ended, and the task is tried again",
            attempts(failing(false), 2).at(NodePhase::RetryableFailure),
            None,
            "Running attempt 1",
        ),
    ]);
}
