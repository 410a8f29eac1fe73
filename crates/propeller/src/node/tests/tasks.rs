//! Tasks and their pods.

use flyte_crd::{NodePhase, status::TaskPhase};
use flyte_idl::core::execution_error::ErrorKind;
use flyte_plugins::{PhaseInfo, TaskInfo};
use jiff::SignedDuration;
use serde_json::json;

use super::super::*;
use super::scene::*;
use crate::events::Event;

#[test]
fn tasks_follow_their_pod() {
    let task = Scene::task;
    let created = |phase, reason: &str| {
        let info = PhaseInfo::new(phase, 0, reason, TaskInfo::default());
        Some(NodeResult::PodCreated(info))
    };
    let failed = |info: PhaseInfo| Some(NodeResult::PodCreated(info));
    let result = |result| Some(NodeResult::TaskResult(result));
    let wrong = |recoverable| TaskResult::Failed {
        error: user("Code", "text"),
        recoverable,
        deck: false,
    };
    let retried = || {
        task().with_task(TaskPhase::Running).change(|scene| {
            scene.spec.retry = Some(flyte_crd::RetryStrategy { min_attempts: 2 });
        })
    };
    let overdue = || {
        task().with_task(TaskPhase::Running).change(|scene| {
            scene.spec.execution_deadline = Some("5s".into());
        })
    };
    check(vec![
        ("queued", task(), None, "create the pod"),
        (
            "no quota",
            task(),
            created(TaskPhase::WaitingForResources, "quota"),
            "task WAITING_FOR_RESOURCES, RUNNING, Running",
        ),
        (
            "still none",
            task()
                .with_task(TaskPhase::WaitingForResources)
                .change(|scene| {
                    scene.waits_for_quota = true;
                }),
            None,
            "wait",
        ),
        (
            "some",
            task().with_task(TaskPhase::WaitingForResources),
            None,
            "create the pod",
        ),
        (
            "created",
            task(),
            created(TaskPhase::Queued, "submitted"),
            "task QUEUED, RUNNING, Running",
        ),
        (
            "the pod cannot be",
            task(),
            failed(PhaseInfo::permanent(ErrorKind::User, "BadTaskFormat", "no")),
            "task FAILED, FAILED, Failed BadTaskFormat",
        ),
        (
            "created a moment ago, not shown yet",
            task().with_task(TaskPhase::Queued).change(|scene| {
                scene.pod_created_at = Some(now());
            }),
            None,
            "wait 30 s",
        ),
        (
            "created and never shown",
            task().with_task(TaskPhase::Queued).change(|scene| {
                scene.pod_created_at = now().checked_sub(SignedDuration::from_secs(31)).ok();
            }),
            None,
            "look the pod up",
        ),
        (
            "the watch shows no pod",
            task().with_task(TaskPhase::Running),
            None,
            "look the pod up",
        ),
        (
            "there is none",
            task().with_task(TaskPhase::Running),
            Some(NodeResult::Pod(None)),
            "task FAILED, Running attempt 1",
        ),
        (
            "it runs",
            task().with_task(TaskPhase::Queued).with_pod("Running"),
            None,
            "task RUNNING, Running",
        ),
        (
            "nothing new",
            task()
                .with_task(TaskPhase::Running)
                .with_pod("Running")
                .reported(),
            None,
            "wait",
        ),
        (
            "it has succeeded",
            task().with_task(TaskPhase::Running).with_pod("Succeeded"),
            None,
            "read what the task wrote",
        ),
        (
            "Go saw that it has",
            task().with_task(TaskPhase::Success),
            None,
            "read what the task wrote",
        ),
        (
            "and left outputs",
            task().with_task(TaskPhase::Running),
            result(TaskResult::Outputs { deck: false }),
            "task SUCCEEDED, SUCCEEDED, Succeeded",
        ),
        (
            "or an error",
            task().with_task(TaskPhase::Running),
            result(wrong(false)),
            "task FAILED, FAILED, Failed Code",
        ),
        (
            "that another attempt may not have",
            retried(),
            result(wrong(true)),
            "task FAILED, Running attempt 1",
        ),
        (
            "of which there is none",
            task().with_task(TaskPhase::Running),
            result(wrong(true)),
            "task FAILED, FAILED, Failed RetriesExhausted|Code",
        ),
        (
            "too long",
            overdue().reported().with_pod("Running"),
            None,
            "task ABORTED, FAILED, Failed RetriesExhausted|TimeoutExpired, delete run-n0-0",
        ),
        (
            "too long, and nobody says what it does",
            overdue().change(|scene| scene.is_retrying = true),
            None,
            "task ABORTED, FAILED, Failed RetriesExhausted|TimeoutExpired, delete run-n0-0",
        ),
        (
            "Go decided on another attempt",
            task()
                .with_task(TaskPhase::Running)
                .at(NodePhase::RetryableFailure),
            None,
            "Running attempt 1, delete run-n0-0",
        ),
        (
            "Go decided that it took too long",
            task()
                .with_task(TaskPhase::Running)
                .at(NodePhase::TimingOut),
            None,
            "TimedOut, delete run-n0-0",
        ),
        (
            "a task phase of a newer version",
            task().with_task(TaskPhase::Unknown(42)),
            None,
            "task ABORTED, FAILED, Failed IllegalStateError, delete run-n0-0",
        ),
    ]);
}

#[test]
fn what_is_terminated_leaves_no_pod() {
    let task = Scene::task;
    for (case, scene, expected) in [
        ("nothing was asked for", task(), "ABORTED, Queued"),
        (
            "creation was under way",
            task().change(|scene| scene.may_have_pod = true),
            "task ABORTED, ABORTED, Queued, delete run-n0-0",
        ),
        (
            "the watch shows one",
            task().with_pod("Pending"),
            "task ABORTED, ABORTED, Queued, delete run-n0-0",
        ),
        (
            "it runs",
            task().with_task(TaskPhase::Running),
            "task ABORTED, ABORTED, Running, delete run-n0-0",
        ),
        (
            "it has no pod",
            Scene::branch().decided(),
            "ABORTED, Running",
        ),
    ] {
        let change = scene.with_view(|view| abort(view, "why", now()));
        assert_eq!(described(&change), expected, "{case}");
        assert!(change.derivable && change.then == Then::Aborted, "{case}");
    }
}

#[test]
fn trouble_stands_where_users_look() {
    let trouble = "cannot create the pod: the Kubernetes API refuses: no";
    for (case, scene, expected) in [
        (
            "a task without a pod",
            Scene::task(),
            "task WAITING_FOR_RESOURCES, RUNNING, Running",
        ),
        (
            "a task that runs",
            Scene::task().with_task(TaskPhase::Running),
            "task RUNNING, Running",
        ),
        ("a branch", Scene::branch(), "Queued"),
        (
            "a node that has not begun",
            Scene::task().at(NodePhase::NotYetStarted),
            "NotYetStarted",
        ),
    ] {
        let change = scene.with_view(|view| troubled(view, trouble, now()));
        assert_eq!(described(&change), expected, "{case}");
        assert_eq!(change.status.message, trouble, "{case}");
        assert!(!change.derivable, "{case}: it is written");
        if let Some(Event::Task(event)) = change.events.first() {
            assert_eq!(event.reasons[0].reason, trouble, "{case}");
        }
    }
}

/// Who says whether an attempt may run on a machine that can be taken away: the node, the execution, the task, the workflow.
#[test]
fn the_first_that_says_so_makes_a_task_interruptible() {
    let (yes, no, silent) = (Some(true), Some(false), None);
    for (node, execution, task, workflow, expected) in [
        (silent, silent, silent, false, false),
        (silent, silent, silent, true, true),
        (silent, silent, no, true, false),
        (silent, silent, yes, false, true),
        (silent, no, yes, true, false),
        (silent, yes, no, false, true),
        (no, yes, yes, true, false),
        (yes, no, no, false, true),
    ] {
        let change = json!({
            "executionConfig": { "Interruptible": execution },
            "tasks": { "t": { "metadata": { "interruptible": task } } },
            "node-defaults": { "interruptible": workflow },
        });
        let scene = Scene::task().change(|scene| scene.spec.interruptible = node);
        let answer = scene.with_view_of(&change, is_interruptible);
        assert_eq!(
            answer, expected,
            "node {node:?}, execution {execution:?}, task {task:?}, workflow {workflow}"
        );
    }
}
