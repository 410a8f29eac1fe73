//! What each kind of node does next, as tables: (where it stands, what its last effect brought) -> (what it becomes,
//! events, effect). A broken rule fails with its own name.

use std::sync::Arc;

use flyte_crd::{
    FlyteWorkflow, NodePhase, NodeSpec, NodeStatus, Time,
    gob::PluginState,
    status::{
        BranchPhase, BranchStatus, TaskNodeStatus, TaskPhase, WorkflowNodePhase, WorkflowNodeStatus,
    },
};
use flyte_idl::core::{
    ExecutionError, LiteralMap, execution_error::ErrorKind, node_execution, task_execution,
};
use flyte_plugins::{PhaseInfo, Registry, TaskInfo, config::PluginsConfig};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::{
    events::Event,
    machine::{Machine, Origin},
};

fn now() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap()
}

fn ago(seconds: i64) -> Option<Time> {
    now()
        .checked_sub(SignedDuration::from_secs(seconds))
        .ok()
        .map(Time::new)
}

fn context() -> Arc<WorkflowContext> {
    let sub = |outputs: Value| {
        json!({
            "id": "p:d:sub", "nodes": { "start-node": { "id": "start-node", "kind": "start" } },
            "connections": {}, "outputBindings": outputs,
        })
    };
    let outputs =
        json!([{ "var": "o0", "binding": { "promise": { "nodeId": "n0", "var": "o0" } } }]);
    let task = json!({
        "id": { "resourceType": "TASK", "project": "p", "domain": "d", "name": "t", "version": "v" },
        "type": "container", "metadata": {}, "container": { "image": "i", "resources": {} },
        "interface": { "outputs": { "variables": { "o0": { "type": { "simple": "INTEGER" } } } } },
    });
    let workflow = json!({
        "metadata": { "name": "run", "namespace": "ns" },
        "spec": {
            "id": "p:d:wf", "nodes": { "start-node": { "id": "start-node", "kind": "start" } },
            "connections": {},
        },
        "subWorkflows": { "sub": sub(outputs), "bare": sub(json!([])) },
        "tasks": { "t": task },
        "executionId": { "project": "p", "domain": "d", "name": "run" },
        "status": { "phase": 0 },
    });
    let workflow: FlyteWorkflow = serde_json::from_value(workflow).unwrap();
    let plugins = PluginsConfig::default();
    let settings = Arc::new(Settings {
        registry: Registry::new(&plugins.tasks).unwrap(),
        propeller: PropellerConfig::default(),
        plugins,
        metadata_root: "mem://bucket/metadata".into(),
    });
    let machine = Machine::load(&workflow, Origin::default(), settings).unwrap();
    machine.context().clone()
}

/// A node, where it stands, and what is known around it.
#[derive(Clone, Default)]
struct Scene {
    spec: NodeSpec,
    status: NodeStatus,
    inside: Inside<'static>,
    inputs: Option<Arc<LiteralMap>>,
    is_retrying: bool,
    pod: Option<Arc<Pod>>,
    pod_created_at: Option<Timestamp>,
    may_have_pod: bool,
    waits_for_quota: bool,
}

impl Scene {
    fn of(kind: &str, more: Value) -> Self {
        let mut spec = json!({ "id": "n0", "kind": kind });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let scene = Self {
            spec: serde_json::from_value(spec).unwrap(),
            ..Self::default()
        };
        scene.at(NodePhase::Queued)
    }

    fn task() -> Self {
        Self::of("task", json!({ "task": "t" }))
    }

    fn branch() -> Self {
        let compares = json!({ "comparison": { "operator": "EQ",
            "leftValue": { "var": ".n" }, "rightValue": { "primitive": { "integer": "1" } } } });
        let branch = json!({ "if": { "condition": compares, "then": "yes" }, "else": "no" });
        Self::of("branch", json!({ "branch": branch }))
    }

    fn sub_workflow(key: &str) -> Self {
        Self::of("workflow", json!({ "workflow": { "subWorkflowRef": key } }))
    }

    fn at(mut self, phase: NodePhase) -> Self {
        self.status.phase = phase;
        self
    }

    fn decided(mut self) -> Self {
        self.status.phase = NodePhase::Running;
        self.status.branch_status = Some(BranchStatus {
            phase: BranchPhase::Success,
            final_node_id: "yes".into(),
        });
        self
    }

    fn started(mut self) -> Self {
        self.status.phase = NodePhase::Running;
        self.status.workflow_node_status = Some(WorkflowNodeStatus {
            phase: WorkflowNodePhase::Executing,
            execution_error: None,
        });
        self
    }

    fn with_task(mut self, phase: TaskPhase) -> Self {
        self.status.phase = NodePhase::Running;
        self.status.last_attempt_started_at = ago(10);
        self.status.task_node_status = Some(TaskNodeStatus {
            phase,
            ..TaskNodeStatus::default()
        });
        self
    }

    /// That it runs, and its log links, were sent.
    fn reported(mut self) -> Self {
        let state = PluginState {
            phase: TaskPhase::Running,
            phase_version: 1,
            ..PluginState::default()
        };
        if let Some(task) = &mut self.status.task_node_status {
            task.plugin_state = state.encode();
        }
        self
    }

    fn with_pod(mut self, phase: &str) -> Self {
        let pod = json!({ "status": { "phase": phase } });
        self.pod = Some(Arc::new(serde_json::from_value(pod).unwrap()));
        self
    }

    fn inside(mut self, inside: Inside<'static>) -> Self {
        self.inside = inside;
        self
    }

    fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn with_view<T>(&self, use_it: impl FnOnce(&NodeView<'_>) -> T) -> T {
        let context = context();
        let files = NodeFiles::top_level("mem://bucket/run", "n0", self.status.attempts).unwrap();
        use_it(&NodeView {
            workflow: &context,
            spec: &self.spec,
            status: &self.status,
            unique_id: "n0",
            parent: None,
            files: &files,
            inputs: self.inputs.as_ref(),
            inside: self.inside,
            is_retrying: self.is_retrying,
            task: TaskView {
                pod: self.pod.as_ref(),
                pod_created_at: self.pod_created_at,
                may_have_pod: self.may_have_pod,
                waits_for_quota: self.waits_for_quota,
                object_events: &[],
                reported: None,
            },
        })
    }

    fn step(&self, result: Option<NodeResult>) -> String {
        self.with_view(|view| match step(view, result, now()) {
            Step::Wait(None) => "wait".into(),
            Step::Wait(Some(until)) => {
                format!("wait {} s", until.duration_since(now()).as_secs())
            }
            Step::Do(effect) => effect.purpose().into(),
            Step::Change(change) => described(&change),
        })
    }
}

/// A change in words: events, what the node becomes, what follows.
fn described(change: &Change) -> String {
    let events = change.events.iter().map(|event| match event {
        Event::Workflow(_) => "workflow".to_owned(),
        Event::Node(event) => node_execution::Phase::try_from(event.phase)
            .unwrap()
            .as_str_name()
            .to_owned(),
        Event::Task(event) => {
            let phase = task_execution::Phase::try_from(event.phase).unwrap();
            format!("task {}", phase.as_str_name())
        }
    });
    let mut words: Vec<String> = events.collect();
    let status = &change.status;
    let mut becomes = format!("{:?}", status.phase);
    if status.attempts > 0 {
        becomes += &format!(" attempt {}", status.attempts);
    }
    if let (NodePhase::Failed | NodePhase::Failing, Some(error)) = (status.phase, &status.error) {
        becomes += &format!(" {}", error.0.code);
    }
    words.push(becomes);
    match &change.then {
        Then::Nothing | Then::Aborted => {}
        Then::StartSubWorkflow => words.push("start inside".into()),
        Then::ChooseArm(arm) => words.push(format!("arm {}", arm.as_deref().unwrap_or("none"))),
        Then::AbortInside => words.push("abort inside".into()),
    }
    if let Some(pod) = &change.delete_pod {
        words.push(format!("delete {pod}"));
    }
    words.join(", ")
}

fn inputs(n: i64) -> Arc<LiteralMap> {
    let literal = json!({ "literals": { ".n": { "scalar": { "primitive": { "integer": n.to_string() } } } } });
    let map: flyte_crd::Proto<LiteralMap> = serde_json::from_value(literal).unwrap();
    Arc::new(map.0)
}

fn failure() -> &'static ExecutionError {
    Box::leak(Box::new(user("Code", "text")))
}

fn check(rows: Vec<(&str, Scene, Option<NodeResult>, &str)>) {
    for (case, scene, result, expected) in rows {
        assert_eq!(scene.step(result), expected, "{case}");
    }
}

#[test]
fn nodes_begin_and_end_as_the_table_says() {
    let new = |kind: &str| Scene::of(kind, json!({})).at(NodePhase::NotYetStarted);
    let no_node = resolve::ResolveError::NoNode("n7".into());
    let end = Scene::of("end", json!({}));
    check(vec![
        (
            "a start node ends at once",
            new("start"),
            None,
            "SUCCEEDED, Succeeded",
        ),
        (
            "any other writes its inputs",
            new("task"),
            None,
            "write the inputs",
        ),
        (
            "and is queued then",
            new("task"),
            Some(NodeResult::Prepared(Ok(Arc::default()))),
            "QUEUED, Queued",
        ),
        (
            "or fails",
            new("end"),
            Some(NodeResult::Prepared(Err(no_node))),
            "FAILED, Failed BindingResolutionFailure",
        ),
        (
            "an end node whose outputs this process wrote",
            end.clone()
                .change(|scene| scene.inputs = Some(Arc::default())),
            None,
            "SUCCEEDED, Succeeded",
        ),
        (
            "an end node that another process queued",
            end.clone(),
            None,
            "copy the outputs",
        ),
        (
            "is not copied twice",
            end.clone(),
            Some(NodeResult::Copied(true)),
            "SUCCEEDED, Succeeded",
        ),
        (
            "also when there is nothing to copy",
            end,
            Some(NodeResult::Copied(false)),
            "SUCCEEDED, Succeeded",
        ),
        (
            "a phase of a newer version",
            new("task").at(NodePhase::Unknown(77)),
            None,
            "FAILED, Failed IllegalStateError",
        ),
        (
            "what has ended",
            new("task").at(NodePhase::Skipped),
            None,
            "wait",
        ),
        (
            "a kind that this engine does not run",
            Scene::of("gate", json!({})),
            None,
            "FAILED, Failed UnsupportedNodeKind",
        ),
    ]);
}

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
            "FAILED, Failed IllegalStateError",
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
            "a launch plan",
            Scene::of("workflow", json!({ "workflow": {} })),
            None,
            "FAILED, Failed UnsupportedNodeKind",
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
