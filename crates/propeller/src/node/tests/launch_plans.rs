//! Launch plan nodes, and what they ask flyteadmin for.

use std::sync::Arc;

use flyte_crd::{GoStruct, NodePhase, Proto, status::WorkflowNodePhase};
use flyte_idl::{core::Literal, event::node_execution_event::TargetMetadata};

use super::{super::*, scene::*};
use crate::events::Event;

fn launched(result: Result<(), &'static ExecutionError>) -> NodeResult {
    NodeResult::ChildLaunched(result.map_err(|error| Box::new(error.clone())))
}

#[test]
fn a_child_is_made_and_awaited() {
    let queued = Scene::launch_plan();
    let running = || Scene::launch_plan().started();
    let failed = ChildState::Failed(Box::new(failure().clone()));
    check(vec![
        (
            "its inputs are those of the node",
            queued.clone(),
            None,
            "read the inputs",
        ),
        (
            "which this process may have",
            queued
                .clone()
                .change(|scene| scene.inputs = Some(Arc::default())),
            None,
            "launch the child execution",
        ),
        (
            "or have read",
            queued.clone(),
            Some(NodeResult::Inputs(Arc::default())),
            "launch the child execution",
        ),
        (
            "flyteadmin has it",
            queued.clone(),
            Some(launched(Ok(()))),
            "RUNNING, Running",
        ),
        (
            "or will not",
            queued.clone(),
            Some(launched(Err(failure()))),
            "FAILED, Failed Code",
        ),
        (
            "another attempt makes another",
            queued
                .at(NodePhase::Running)
                .change(|scene| scene.status.attempts = 1),
            Some(NodeResult::Inputs(Arc::default())),
            "launch the child execution",
        ),
        ("nobody has asked for it yet", running(), None, "wait"),
        (
            "it runs",
            running().child(ChildState::UnderWay),
            None,
            "wait",
        ),
        (
            "its outputs become the node's",
            running().child(ChildState::Succeeded),
            None,
            "copy the outputs of the child execution",
        ),
        (
            "then the node has succeeded",
            running().child(ChildState::Succeeded),
            Some(NodeResult::Copied(true)),
            "SUCCEEDED, Succeeded",
        ),
        (
            "also without any",
            running().child(ChildState::Succeeded),
            Some(NodeResult::Copied(false)),
            "SUCCEEDED, Succeeded",
        ),
        (
            "its failure is the node's",
            running().child(failed),
            None,
            "FAILED, Failed Code",
        ),
        (
            "somebody terminated it",
            running().child(ChildState::Aborted),
            None,
            "FAILED, Failed RemoteChildWorkflowExecutionFailed",
        ),
        (
            "it took too long",
            running().child(ChildState::TimedOut),
            None,
            "FAILED, Failed LaunchPlanExecutionFailed",
        ),
        (
            "somebody removed it",
            running().child(ChildState::Missing),
            None,
            "FAILED, Failed NotFound",
        ),
        (
            "its name is that of another one",
            running().child(ChildState::Foreign),
            None,
            "FAILED, Failed RuntimeExecutionError",
        ),
        (
            "Go has written down that it failed",
            running().change(|scene| {
                scene.status.workflow_node_status = Some(flyte_crd::status::WorkflowNodeStatus {
                    phase: WorkflowNodePhase::Failing,
                    execution_error: Some(GoStruct(failure().clone())),
                });
            }),
            None,
            "FAILED, Failed Code",
        ),
    ]);
}

#[test]
fn a_child_ends_before_its_node_does() {
    let leaving = |phase| {
        Scene::launch_plan()
            .started()
            .at(phase)
            .change(|scene| scene.status.error = Some(Proto(failure().clone())))
    };
    let over = |seconds, attempts| {
        Scene::launch_plan()
            .change(|scene| {
                scene.spec.execution_deadline = Some("1m0s".into());
                scene.spec.retry = Some(flyte_crd::RetryStrategy { min_attempts: 2 });
                scene.status.attempts = attempts;
            })
            .started()
            .change(|scene| scene.status.last_attempt_started_at = ago(seconds))
            .child(ChildState::UnderWay)
    };
    let ended = || Some(NodeResult::ChildTerminated);
    check(vec![
        ("there is time left", over(20, 0), None, "wait 40 s"),
        (
            "the attempt took too long",
            over(60, 0),
            None,
            "RetryableFailure, abort inside",
        ),
        (
            "and was the last",
            over(60, 1),
            None,
            "Failing attempt 1 RetriesExhausted|TimeoutExpired, abort inside",
        ),
        (
            "a failing node ends its child",
            leaving(NodePhase::Failing),
            None,
            "terminate the child execution",
        ),
        (
            "and then itself",
            leaving(NodePhase::Failing),
            ended(),
            "FAILED, Failed Code",
        ),
        (
            "one that took too long",
            leaving(NodePhase::TimingOut),
            None,
            "terminate the child execution",
        ),
        (
            "has timed out then",
            leaving(NodePhase::TimingOut),
            ended(),
            "TIMED_OUT, TimedOut",
        ),
        (
            "one with attempts left",
            leaving(NodePhase::RetryableFailure),
            None,
            "terminate the child execution",
        ),
        (
            "makes the next child",
            leaving(NodePhase::RetryableFailure),
            ended(),
            "Running attempt 1",
        ),
    ]);
}

#[test]
fn the_engine_may_be_told_to_launch_nothing() {
    let mut context = Arc::into_inner(context()).unwrap();
    let propeller = PropellerConfig {
        enable_admin_launcher: false,
        ..PropellerConfig::default()
    };
    context.settings = Arc::new(Settings {
        propeller,
        plugins: PluginsConfig::default(),
        registry: Registry::new(&PluginsConfig::default().tasks).unwrap(),
        metadata_root: String::new(),
        caches: false,
    });
    let scene = Scene::launch_plan();
    let step = scene.with_view_in(&context, |view| step(view, None, now()));
    let Step::Change(change) = step else {
        panic!("{step:?}")
    };
    assert_eq!(described(&change), "FAILED, Failed RuntimeExecutionError");
    let error = &change.status.error.as_ref().unwrap().0.message;
    assert!(error.contains("propeller.enable-admin-launcher"), "{error}");
}

#[test]
fn events_name_the_child_and_launches_carry_the_inputs() {
    let literal = Literal {
        hash: "h".into(),
        ..Literal::default()
    };
    let inputs = LiteralMap {
        literals: [("a".to_owned(), literal)].into(),
    };
    let scene = Scene::launch_plan().change(|scene| scene.inputs = Some(Arc::new(inputs.clone())));
    scene.with_view(|view| {
        let Step::Do(NodeEffect::LaunchChild { inputs: given }) = step(view, None, now()) else {
            panic!("not launched")
        };
        assert_eq!(*given, inputs);
        let Step::Change(change) = step(view, Some(launched(Ok(()))), now()) else {
            panic!("not running")
        };
        let [Event::Node(event)] = change.events.as_slice() else {
            panic!("{:?}", change.events)
        };
        let Some(TargetMetadata::WorkflowNodeMetadata(launched)) = &event.target_metadata else {
            panic!("{event:?}")
        };
        let child = launched.execution_id.as_ref().unwrap();
        // As recorded: the execution, the node, the attempt.
        assert_eq!(child.name, "run-n0-0");
        assert_eq!((child.project.as_str(), child.domain.as_str()), ("p", "d"));
    });
}
