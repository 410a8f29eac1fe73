//! A wake-up costs what it changes, not what there is (design: The engine).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says where"
)]

use std::{collections::BTreeMap, sync::Arc};

use flyte_crd::{FlyteWorkflow, status::TaskPhase};
use flyte_idl::core::{Literal, LiteralCollection, LiteralMap, literal};
use flyte_plugins::{PhaseInfo, Registry, TaskInfo, config::PluginsConfig};
use flyte_propeller::{
    config::PropellerConfig,
    effects::EffectError,
    machine::{Effect, EffectResult, Job, JobId, Machine, Origin, Receipt, Watches},
    node::{
        ChildState, NodeEffect, NodeResult, Settings, TaskResult,
        resolve::{PromiseError, PromiseFault, ResolveError},
        task::observed_pod::ObservedPod,
    },
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A machine whose jobs are done at once.
struct Driven {
    machine: Machine,
    pods: BTreeMap<String, Arc<Pod>>,
    /// Jobs that were handed out at once, at most.
    most_jobs: usize,
    /// Tasks whose pods were created and that have not been ended.
    launched: Vec<usize>,
    /// Nodes whose inputs cannot be resolved.
    unresolvable: Vec<String>,
    /// How many events were sent.
    events: usize,
}

fn settings() -> Arc<Settings> {
    let plugins = PluginsConfig::default();
    Arc::new(Settings {
        registry: Registry::new(&plugins.tasks).unwrap(),
        propeller: PropellerConfig {
            max_resource_bytes: 0,
            ..PropellerConfig::default()
        },
        plugins,
        metadata_root: "mem://bucket/metadata".into(),
        caches: false,
    })
}

/// `width` tasks side by side, between start and end.
fn fan(width: usize, changes: Value) -> FlyteWorkflow {
    let names: Vec<String> = (0..width).map(|index| format!("n{index}")).collect();
    let mut nodes = json!({
        "start-node": { "id": "start-node", "kind": "start", "resources": {} },
        "end-node": { "id": "end-node", "kind": "end", "resources": {} },
    });
    let mut upstream = json!({ "end-node": names });
    for name in &names {
        nodes[name] = json!({ "id": name, "kind": "task", "resources": {}, "task": "t" });
        upstream[name] = json!(["start-node"]);
    }
    let mut downstream: BTreeMap<&str, Value> = names
        .iter()
        .map(|name| (name.as_str(), json!(["end-node"])))
        .collect();
    downstream.insert("start-node", json!(names));
    let mut workflow = json!({
        "metadata": { "name": "run", "namespace": "ns", "labels": { "execution-id": "run" } },
        "spec": {
            "id": "p:d:wf", "nodes": nodes,
            "edges": { "upstream": upstream, "downstream": downstream },
        },
        "tasks": { "t": {
            "id": { "resourceType": "TASK", "project": "p", "domain": "d", "name": "t", "version": "v" },
            "type": "container", "metadata": {}, "container": { "image": "i", "resources": {} },
        } },
        "executionId": { "project": "p", "domain": "d", "name": "run" },
        "status": { "phase": 0 },
    });
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Object(members) => {
                for (inner, value) in members {
                    workflow[key][inner] = value.clone();
                }
            }
            value => workflow[key] = value.clone(),
        }
    }
    serde_json::from_value(workflow).unwrap()
}

fn pod(phase: &str) -> Arc<Pod> {
    let state = match phase {
        "Running" => json!({ "running": {} }),
        _ => json!({ "terminated": { "exitCode": 0, "reason": "Completed" } }),
    };
    let pod = json!({ "status": { "phase": phase, "containerStatuses": [
        { "name": "main", "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": state } ] } });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn now() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap()
}

/// The pods that a watch has shown.
struct Shown<'a>(&'a BTreeMap<String, Arc<Pod>>);

impl Watches for Shown<'_> {
    fn pod(&self, name: &str) -> Option<ObservedPod> {
        self.0.get(name).cloned().map(Into::into)
    }

    fn child(&self, _: &str) -> Option<ChildState> {
        None
    }
}

impl Driven {
    fn new(workflow: &FlyteWorkflow) -> Self {
        Self {
            machine: Machine::load(workflow, Origin::default(), settings()).unwrap(),
            pods: BTreeMap::new(),
            most_jobs: 0,
            launched: Vec::new(),
            unresolvable: Vec::new(),
            events: 0,
        }
    }

    /// A list as long as an array node says, which says so in a member of ours.
    fn inputs(&self, job: &Job) -> Arc<LiteralMap> {
        let JobId::Node(index) = job.id else {
            return Arc::default();
        };
        let size = self.machine.view(index).spec.other.get("size");
        let Some(size) = size.and_then(Value::as_u64) else {
            return Arc::default();
        };
        let literals = vec![Literal::default(); usize::try_from(size).unwrap()];
        let list = Literal {
            value: Some(literal::Value::Collection(LiteralCollection { literals })),
            ..Literal::default()
        };
        Arc::new(LiteralMap {
            literals: [("x".to_owned(), list)].into(),
        })
    }

    fn answer(&mut self, job: &Job) -> EffectResult {
        match &job.effect {
            Effect::Begin { .. } => EffectResult::Begun,
            Effect::Send(events) => {
                self.events += events.len();
                EffectResult::Sent(Ok(Receipt::New))
            }
            Effect::Clear(_) => EffectResult::Sent(Ok(Receipt::New)),
            Effect::FindLeftovers(_) => {
                EffectResult::Leftovers(flyte_propeller::cleanup::leftovers::Leftovers::default())
            }
            Effect::Node { effect, .. } => EffectResult::Node(Box::new(match effect {
                NodeEffect::Prepare { to, .. } => {
                    let lost = self
                        .unresolvable
                        .iter()
                        .any(|node| to.contains(&format!("/{node}/")));
                    NodeResult::Prepared(if lost {
                        Err(ResolveError {
                            variable: "x".into(),
                            cause: PromiseError {
                                node: "lost".into(),
                                fault: PromiseFault::NoNode,
                            },
                        })
                    } else {
                        Ok(self.inputs(job))
                    })
                }
                NodeEffect::ReadInputs(_) => NodeResult::Inputs(Arc::default()),
                NodeEffect::CreatePod => {
                    let JobId::Node(index) = job.id else {
                        panic!("a workflow has no pod")
                    };
                    let id = self.machine.view(index).unique_id;
                    self.launched
                        .push(id.rsplit('n').next().unwrap().parse().unwrap());
                    let (reason, info) = ("task submitted to K8s", TaskInfo::default());
                    NodeResult::PodCreated(PhaseInfo::new(TaskPhase::Queued, 0, reason, info))
                }
                NodeEffect::GetPod => NodeResult::Pod(None),
                NodeEffect::CompileDynamic
                | NodeEffect::Recover
                | NodeEffect::LookUpCache { .. }
                | NodeEffect::ReserveCache { .. }
                | NodeEffect::WriteCache { .. } => unreachable!("no task makes a workflow"),
                NodeEffect::ReadResult => {
                    NodeResult::TaskResult(TaskResult::Outputs { deck: false })
                }
                NodeEffect::CopyOutputs { .. }
                | NodeEffect::WriteOutputs { .. }
                | NodeEffect::GatherOutputs { .. }
                | NodeEffect::CopyChildOutputs { .. } => NodeResult::Copied(true),
                NodeEffect::GetSignal { .. } => NodeResult::Signal(None),
                NodeEffect::LaunchChild { .. } => NodeResult::ChildLaunched(Ok(())),
                NodeEffect::TerminateChild { .. } => NodeResult::ChildTerminated,
            })),
        }
    }

    /// Until nothing is left to do; steps taken.
    fn settle(&mut self) -> u64 {
        let before = self.machine.steps();
        let mut under_way: Vec<Job> = Vec::new();
        loop {
            under_way.extend(self.machine.next_jobs(now(), Shown(&self.pods)));
            self.most_jobs = self.most_jobs.max(under_way.len());
            let Some(job) = under_way.pop() else { break };
            let result: Result<_, EffectError> = Ok(self.answer(&job));
            self.machine.complete(job.id, result, now());
        }
        assert!(self.machine.is_quiescent());
        self.machine.steps() - before
    }

    fn change(&mut self, node: usize, phase: &str) {
        self.change_pod(format!("run-n{node}-0"), phase);
    }

    fn change_pod(&mut self, name: String, phase: &str) {
        self.pods.insert(name.clone(), pod(phase));
        assert!(self.machine.wake_pod(&name), "{name} belongs to nobody");
    }

    fn write(&mut self) -> usize {
        let Some(patch) = self.machine.patch(&[], now()) else {
            return 0;
        };
        self.machine.written(&patch);
        patch.body.to_string().len()
    }
}

#[test]
fn one_pod_among_thousands_costs_what_one_pod_among_ten_does() {
    let cost = |width: usize| {
        let mut driven = Driven::new(&fan(width, json!({})));
        driven.settle();
        driven.write();
        let mut costs = Vec::new();
        for phase in ["Running", "Succeeded"] {
            driven.change(7, phase);
            costs.push((driven.settle(), driven.write()));
        }
        costs
    };
    let (few, many) = (cost(10), cost(5_000));
    assert_eq!(few, many, "steps and bytes written");
    assert!(
        many.iter()
            .all(|(steps, bytes)| *steps < 12 && *bytes < 1_000),
        "{many:?}"
    );
}

#[test]
fn a_pod_inside_a_sub_workflow_costs_what_one_outside_does() {
    let nested = |width: usize| {
        let inner = fan(width, json!({}));
        let mut outer = fan(1, json!({}));
        let node = json!({ "id": "n0", "kind": "workflow", "resources": {}, "workflow": { "subWorkflowRef": "s" } });
        let spec = outer.spec.as_mut().unwrap();
        spec.nodes
            .insert("n0".into(), serde_json::from_value(node).unwrap());
        outer.sub_workflows.insert("s".into(), inner.spec.unwrap());
        let mut driven = Driven::new(&outer);
        driven.settle();
        driven.write();
        driven.change_pod("run-n0-0-n7-0".into(), "Running");
        (driven.settle(), driven.write())
    };
    let (few, many) = (nested(10), nested(2_000));
    assert_eq!(few, many, "steps and bytes written");
    assert!(many.0 < 12 && many.1 < 1_000, "{many:?}");
}

#[test]
fn jobs_under_way_are_bounded_however_wide_the_graph_is() {
    for width in [50, 5_000] {
        let mut driven = Driven::new(&fan(width, json!({})));
        driven.settle();
        assert!(
            driven.most_jobs >= 50 && driven.most_jobs <= 128,
            "{}",
            driven.most_jobs
        );
    }
}

#[test]
fn tasks_that_wait_for_others_are_looked_at_when_there_is_room() {
    let width = 2_000;
    let limit = json!({ "executionConfig": { "MaxParallelism": 25 } });
    let mut driven = Driven::new(&fan(width, limit));
    let mut steps = driven.settle();
    let mut ended = 0;
    while let Some(node) = driven.launched.pop() {
        assert!(driven.launched.len() < 25, "{} run", driven.launched.len());
        driven.change(node, "Succeeded");
        steps += driven.settle();
        ended += 1;
    }
    assert_eq!(ended, width);
    assert!(driven.machine.is_over());
    assert!(steps < 20 * 2_000, "{steps} steps for {width} tasks");
}

#[test]
fn a_task_that_cannot_begin_leaves_its_room_to_the_next() {
    let changes = json!({
        "executionConfig": { "MaxParallelism": 1 },
        "spec": { "onFailurePolicy": "FAIL_AFTER_EXECUTABLE_NODES_COMPLETE" },
    });
    let mut driven = Driven::new(&fan(3, changes));
    driven.unresolvable = vec!["n0".into(), "n1".into()];
    driven.settle();
    assert_eq!(driven.launched, [2]);
    driven.change(2, "Succeeded");
    driven.settle();
    assert!(driven.machine.is_over());
}

#[test]
fn thousands_of_tasks_are_aborted_at_the_cost_of_each() {
    let mut driven = Driven::new(&fan(5_000, json!({})));
    driven.settle();
    driven.machine.abort("terminated");
    let steps = driven.settle();
    assert!(
        driven.machine.is_over() && steps < 5 * 5_000,
        "{steps} steps"
    );
    assert_eq!(driven.machine.take_deletions().len(), 5_000);
}

/// An array node over a list of `size` elements, of which so many run at once.
fn array(size: usize, parallelism: Value) -> FlyteWorkflow {
    let mut workflow = fan(1, json!({}));
    let node = json!({
        "id": "n0", "kind": "array", "resources": {},
        "inputBindings": [{ "var": "x", "binding": { "promise": { "nodeId": "start-node", "var": "x" } } }],
        "array": {
            "SubNodeSpec": { "id": "inner", "kind": "task", "resources": {}, "task": "t" },
            "Parallelism": parallelism, "MinSuccesses": null, "MinSuccessRatio": null, "BoundInputs": null,
        },
        "size": size,
    });
    let spec = workflow.spec.as_mut().unwrap();
    spec.nodes
        .insert("n0".into(), serde_json::from_value(node).unwrap());
    workflow
}

#[test]
fn an_element_among_thousands_costs_what_one_among_ten_does() {
    let cost = |size: usize| {
        let mut driven = Driven::new(&array(size, json!(null)));
        driven.settle();
        driven.write();
        let mut costs = Vec::new();
        for phase in ["Running", "Succeeded"] {
            driven.change_pod("run-n0-0-n7-0".into(), phase);
            costs.push(driven.settle());
        }
        costs
    };
    let (few, many) = (cost(10), cost(20_000));
    assert_eq!(few, many, "steps");
    assert!(many.iter().all(|steps| *steps < 12), "{many:?}");
}

#[test]
fn elements_begin_as_others_end_and_admin_hears_of_them_once_a_second() {
    let size = 20_000;
    let mut driven = Driven::new(&array(size, json!(100)));
    let mut steps = driven.settle();
    for element in 0..size {
        assert_eq!(driven.launched.len(), (element + 100).min(size));
        driven.change_pod(format!("run-n0-0-n{element}-0"), "Succeeded");
        steps += driven.settle();
        driven.machine.take_changes();
        driven.pods.clear();
    }
    driven.settle();
    assert!(driven.machine.is_over());
    assert!(steps < 20 * 20_000, "{steps} steps for {size} elements");
    // All of it within one second: the workflow's, those of start, array and end, what the array begins with, its end,
    // and what it told at once.
    assert!(driven.events < 20, "{} events", driven.events);
}
