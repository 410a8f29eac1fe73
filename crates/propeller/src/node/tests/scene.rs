//! A node as a table puts it, and what its next step is in one line.

use std::sync::Arc;

use flyte_crd::{
    FlyteWorkflow, NodePhase, NodeSpec, NodeStatus, Time,
    gob::PluginState,
    status::{
        BranchPhase, BranchStatus, TaskNodeStatus, TaskPhase, WorkflowNodePhase, WorkflowNodeStatus,
    },
};
use flyte_idl::core::{ExecutionError, LiteralMap, node_execution, task_execution};
use flyte_plugins::{Registry, config::PluginsConfig};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::super::*;
use crate::{
    events::Event,
    machine::{Machine, Origin},
};

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap()
}

pub(super) fn ago(seconds: i64) -> Option<Time> {
    now()
        .checked_sub(SignedDuration::from_secs(seconds))
        .ok()
        .map(Time::new)
}

pub(super) fn context() -> Arc<WorkflowContext> {
    context_with(json!({}))
}

/// The context of the workflow with this merged into its resource.
pub(super) fn context_with(change: Value) -> Arc<WorkflowContext> {
    let plugins = PluginsConfig::default();
    let settings = Arc::new(Settings {
        registry: Registry::new(&plugins.tasks).unwrap(),
        propeller: PropellerConfig::default(),
        plugins,
        metadata_root: "mem://bucket/metadata".into(),
        caches: true,
    });
    let machine = Machine::load(&workflow(change), Origin::default(), settings).unwrap();
    machine.context().clone()
}

/// The workflow with this merged into its resource.
fn workflow(change: Value) -> FlyteWorkflow {
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
    let with = |metadata: Value| {
        let mut task = task.clone();
        task["metadata"] = metadata;
        task
    };
    let cached = json!({ "discoverable": true, "discoveryVersion": "1" });
    let serialized =
        json!({ "discoverable": true, "discoveryVersion": "1", "cacheSerializable": true });
    let mut workflow = json!({
        "metadata": { "name": "run", "namespace": "ns" },
        "spec": {
            "id": "p:d:wf", "nodes": { "start-node": { "id": "start-node", "kind": "start" } },
            "connections": {},
        },
        "subWorkflows": { "sub": sub(outputs), "bare": sub(json!([])) },
        "tasks": { "t": task, "cached": with(cached), "serialized": with(serialized) },
        "executionId": { "project": "p", "domain": "d", "name": "run" },
        "status": { "phase": 0 },
    });
    flyte_platform::json::merge(&mut workflow, &change);
    serde_json::from_value(workflow).unwrap()
}

/// The workflow's nodes, and what they refer to.
pub(super) fn definition() -> WorkflowDefinition {
    definition_with(json!({}))
}

fn definition_with(change: Value) -> WorkflowDefinition {
    WorkflowDefinition::of(&workflow(change)).unwrap()
}

/// A node, where it stands, and what is known around it.
#[derive(Clone, Default)]
pub(super) struct Scene {
    pub(super) spec: NodeSpec,
    pub(super) status: NodeStatus,
    pub(super) inside: Inside<'static>,
    pub(super) inputs: Option<Arc<LiteralMap>>,
    pub(super) is_retrying: bool,
    pub(super) pod: Option<Arc<Pod>>,
    pub(super) pod_created_at: Option<Timestamp>,
    pub(super) may_have_pod: bool,
    pub(super) waits_for_quota: bool,
    pub(super) child: Option<ChildState>,
    pub(super) cache: CacheView,
    pub(super) checkpoint: Option<&'static str>,
    pub(super) element: Option<Element>,
    pub(super) elements: Option<Progress>,
}

impl Scene {
    pub(super) fn of(kind: &str, more: Value) -> Self {
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

    pub(super) fn task() -> Self {
        Self::of("task", json!({ "task": "t" }))
    }

    pub(super) fn branch() -> Self {
        let compares = json!({ "comparison": { "operator": "EQ",
            "leftValue": { "var": ".n" }, "rightValue": { "primitive": { "integer": "1" } } } });
        let branch = json!({ "if": { "condition": compares, "then": "yes" }, "else": "no" });
        Self::of("branch", json!({ "branch": branch }))
    }

    pub(super) fn sub_workflow(key: &str) -> Self {
        Self::of("workflow", json!({ "workflow": { "subWorkflowRef": key } }))
    }

    pub(super) fn launch_plan() -> Self {
        let plan = json!({ "resourceType": "LAUNCH_PLAN", "project": "p", "domain": "d", "name": "lp", "version": "v" });
        Self::of(
            "workflow",
            json!({ "workflow": { "launchPlanRefId": plan } }),
        )
    }

    /// What flyteadmin says of the execution that it has launched.
    pub(super) fn child(mut self, child: ChildState) -> Self {
        self.child = Some(child);
        self
    }

    pub(super) fn at(mut self, phase: NodePhase) -> Self {
        self.status.phase = phase;
        self
    }

    pub(super) fn decided(mut self) -> Self {
        self.status.phase = NodePhase::Running;
        self.status.branch_status = Some(BranchStatus {
            phase: BranchPhase::Success,
            final_node_id: "yes".into(),
        });
        self
    }

    pub(super) fn started(mut self) -> Self {
        self.status.phase = NodePhase::Running;
        self.status.workflow_node_status = Some(WorkflowNodeStatus {
            phase: WorkflowNodePhase::Executing,
            execution_error: None,
        });
        self
    }

    pub(super) fn with_task(mut self, phase: TaskPhase) -> Self {
        self.status.phase = NodePhase::Running;
        self.status.last_attempt_started_at = ago(10);
        self.status.task_node_status = Some(TaskNodeStatus {
            phase,
            ..TaskNodeStatus::default()
        });
        self
    }

    /// That it runs, and its log links, were sent.
    pub(super) fn reported(mut self) -> Self {
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

    pub(super) fn with_pod(mut self, phase: &str) -> Self {
        let pod = json!({ "status": { "phase": phase } });
        self.pod = Some(Arc::new(serde_json::from_value(pod).unwrap()));
        self
    }

    pub(super) fn inside(mut self, inside: Inside<'static>) -> Self {
        self.inside = inside;
        self
    }

    pub(super) fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn with_view<T>(&self, use_it: impl FnOnce(&NodeView<'_>) -> T) -> T {
        self.with_view_in(&context(), use_it)
    }

    pub(super) fn with_view_in<T>(
        &self,
        context: &WorkflowContext,
        use_it: impl FnOnce(&NodeView<'_>) -> T,
    ) -> T {
        self.with_view_among(context, &definition(), use_it)
    }

    /// In the workflow with this merged into its resource.
    pub(super) fn with_view_of<T>(
        &self,
        change: &Value,
        use_it: impl FnOnce(&NodeView<'_>) -> T,
    ) -> T {
        let (context, definition) = (
            context_with(change.clone()),
            definition_with(change.clone()),
        );
        self.with_view_among(&context, &definition, use_it)
    }

    fn with_view_among<T>(
        &self,
        context: &WorkflowContext,
        definition: &WorkflowDefinition,
        use_it: impl FnOnce(&NodeView<'_>) -> T,
    ) -> T {
        let files = NodeFiles::top_level("mem://bucket/run", "n0", self.status.attempts).unwrap();
        use_it(&NodeView {
            workflow: context,
            entities: &definition.entities,
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
            checkpoint: self.checkpoint,
            cache: &self.cache,
            child: self.child.as_ref(),
            element: self.element.as_ref(),
            elements: self.elements.as_ref(),
        })
    }

    pub(super) fn step(&self, result: Option<NodeResult>) -> String {
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
pub(super) fn described(change: &Change) -> String {
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
        Then::StartSubWorkflow | Then::StartDynamic(_) => words.push("start inside".into()),
        Then::ChooseArm(arm) => words.push(format!("arm {}", arm.as_deref().unwrap_or("none"))),
        Then::AbortInside => words.push("abort inside".into()),
        Then::StartElements => words.push("start elements".into()),
        Then::TellElements(told) => words.push(format!("{told} told")),
    }
    if let Some(pod) = &change.delete_pod {
        words.push(format!("delete {pod}"));
    }
    words.join(", ")
}

pub(super) fn inputs(n: i64) -> Arc<LiteralMap> {
    let literal = json!({ "literals": { ".n": { "scalar": { "primitive": { "integer": n.to_string() } } } } });
    let map: flyte_crd::Proto<LiteralMap> = serde_json::from_value(literal).unwrap();
    Arc::new(map.0)
}

pub(super) fn failure() -> &'static ExecutionError {
    Box::leak(Box::new(user("Code", "text")))
}

pub(super) fn check(rows: Vec<(&str, Scene, Option<NodeResult>, &str)>) {
    for (case, scene, result, expected) in rows {
        assert_eq!(scene.step(result), expected, "{case}");
    }
}
