//! Workflows to simulate.

use std::collections::BTreeMap;

use flyte_crd::FlyteWorkflow;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::{NAMESPACE, OTHER, made};

/// Nodes by id, each with what it is and what it comes after.
#[derive(Default)]
struct Draft {
    nodes: BTreeMap<String, Value>,
    upstream: BTreeMap<String, Vec<String>>,
    tasks: BTreeMap<String, Value>,
}

impl Draft {
    /// A task whose pod ends as `behaviour` says (see the node of the simulation).
    fn task(&mut self, id: &str, behaviour: &str, after: &[&str]) -> &mut Self {
        self.task_with(id, behaviour, 1, after)
    }

    fn task_with(&mut self, id: &str, behaviour: &str, attempts: u32, after: &[&str]) -> &mut Self {
        let key = self.template(behaviour);
        let mut node = json!({ "id": id, "kind": "task", "resources": {}, "task": key });
        if attempts > 1 {
            node["retry"] = json!({ "minAttempts": attempts });
        }
        let binding = |from: &str, output: &str| json!({ "var": "n", "binding": { "promise": { "nodeId": from, "var": output } } });
        node["inputBindings"] = match after.first() {
            Some(before) if *before != "start-node" => json!([binding(before, "o0")]),
            _ => json!([binding("start-node", "n")]),
        };
        self.add(id, node, after)
    }

    /// A gate; its input `n` is the workflow's.
    fn gate(&mut self, id: &str, condition: Value, after: &[&str]) -> &mut Self {
        let inputs = json!([{ "var": "n", "binding": { "promise": { "nodeId": "start-node", "var": "n" } } }]);
        let node = json!({
            "id": id, "kind": "gate", "resources": {}, "gate": condition, "inputBindings": inputs,
        });
        self.add(id, node, after)
    }

    /// An execution that becomes what `plan` says (see the children of the simulation).
    fn launch_plan(&mut self, id: &str, plan: &str, after: &[&str]) -> &mut Self {
        let (from, output) = match after.first() {
            Some(before) if *before != "start-node" => (*before, "o0"),
            _ => ("start-node", "n"),
        };
        let reference = json!({
            "resourceType": "LAUNCH_PLAN", "project": "project", "domain": "development", "name": plan, "version": "v",
        });
        let node = json!({
            "id": id, "kind": "workflow", "resources": {}, "workflow": { "launchPlanRefId": reference },
            "inputBindings": [{ "var": "o0", "binding": { "promise": { "nodeId": from, "var": output } } }],
        });
        self.add(id, node, after)
    }

    fn template(&mut self, behaviour: &str) -> String {
        let name = made::name_of(behaviour);
        let key = format!(
            "resource_type:TASK project:\"project\" domain:\"development\" name:\"{name}\" version:\"v\""
        );
        self.tasks.entry(key.clone()).or_insert_with(|| {
            json!({
                "id": { "resourceType": "TASK", "project": "project", "domain": "development", "name": name, "version": "v" },
                "type": "container",
                "metadata": { "retries": {} },
                "interface": { "outputs": { "variables": { "o0": { "type": { "simple": "INTEGER" } } } } },
                "container": { "image": "i", "args": [behaviour, "{{.outputPrefix}}", "{{.input}}"], "resources": {} },
            })
        });
        key
    }

    /// All tasks are cached under this version.
    fn cache(&mut self, version: &str, serialized: bool) {
        for template in self.tasks.values_mut() {
            template["metadata"] = json!({
                "retries": {}, "discoverable": true, "discoveryVersion": version, "cacheSerializable": serialized,
            });
            template["interface"]["inputs"] =
                json!({ "variables": { "n": { "type": { "simple": "INTEGER" } } } });
        }
    }

    fn add(&mut self, id: &str, node: Value, after: &[&str]) -> &mut Self {
        self.nodes.insert(id.to_owned(), node);
        self.upstream.insert(
            id.to_owned(),
            after.iter().map(ToString::to_string).collect(),
        );
        self
    }

    /// A spec: start and end nodes added, nodes that nothing follows followed by the end.
    fn spec(&self, id: &str) -> Value {
        let mut nodes = self.nodes.clone();
        let mut upstream = self.upstream.clone();
        let followed: Vec<&String> = upstream.values().flatten().collect();
        let mut last: Vec<String> = self
            .upstream
            .iter()
            .filter(|(node, after)| !followed.contains(node) && !after.is_empty())
            .map(|(node, _)| node.clone())
            .collect();
        last.sort();
        nodes.insert(
            "start-node".into(),
            json!({ "id": "start-node", "kind": "start", "resources": {} }),
        );
        let bindings: Vec<_> = last
            .first()
            .map(|node| json!({ "var": "o0", "binding": { "promise": { "nodeId": node, "var": "o0" } } }))
            .into_iter()
            .collect();
        nodes.insert(
            "end-node".into(),
            json!({ "id": "end-node", "kind": "end", "resources": {}, "inputBindings": bindings }),
        );
        upstream.insert("end-node".into(), last);
        let mut downstream: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (node, after) in &upstream {
            for before in after {
                downstream
                    .entry(before.clone())
                    .or_default()
                    .push(node.clone());
            }
        }
        upstream.retain(|_, after| !after.is_empty());
        json!({
            "id": id, "nodes": nodes, "connections": downstream,
            "edges": { "downstream": downstream, "upstream": upstream },
            "outputs": { "variables": { "o0": { "type": { "simple": "INTEGER" } } } },
            "outputBindings": bindings,
        })
    }

    fn workflow(&self) -> Value {
        json!({
            "apiVersion": "flyte.lyft.com/v1alpha1", "kind": "FlyteWorkflow",
            "metadata": {
                "name": "run", "namespace": NAMESPACE, "finalizers": ["flyte.org/finalizer"],
                "labels": { "execution-id": "run", "project": "project", "domain": "development" },
            },
            "spec": self.spec("project:development:wf"),
            "tasks": self.tasks,
            "workflowMeta": { "eventVersion": 2 },
            "inputs": { "literals": { "n": { "scalar": { "primitive": { "integer": "1" } } } } },
            "executionId": { "project": "project", "domain": "development", "name": "run" },
            "status": { "phase": 0 },
        })
    }
}

fn resource(value: Value) -> FlyteWorkflow {
    serde_json::from_value(value).expect("the drafts are valid resources")
}

/// One task whose input, as a type and as a literal, is a list of lists of lists, so many levels deep.
pub fn nested(levels: usize) -> FlyteWorkflow {
    let mut draft = Draft::default();
    let key = draft.template("ok");
    let (mut kind, mut literal) = (
        json!({ "simple": "INTEGER" }),
        json!({ "scalar": { "primitive": { "integer": "1" } } }),
    );
    for _ in 0..levels {
        kind = json!({ "collectionType": kind });
        literal = json!({ "collection": { "literals": [literal] } });
    }
    let inputs = json!({ "variables": { "n": { "type": kind } } });
    if let Some(template) = draft.tasks.get_mut(&key) {
        template["interface"]["inputs"] = inputs;
    }
    draft.task("n0", "ok", &["start-node"]);
    let mut workflow = draft.workflow();
    workflow["inputs"]["literals"]["n"] = literal;
    resource(workflow)
}

/// Three tasks, one after the other.
pub fn chain() -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .task("n0", "ok", &["start-node"])
        .task("n1", "ok", &["n0"])
        .task("n2", "ok", &["n1"]);
    resource(draft.workflow())
}

/// `depth` layers of `width` tasks, each after all of the layer before.
pub fn layers(width: usize, depth: usize) -> FlyteWorkflow {
    let mut draft = Draft::default();
    for layer in 0..depth {
        let before: Vec<String> = match layer.checked_sub(1) {
            None => vec!["start-node".into()],
            Some(previous) => (0..width)
                .map(|index| format!("n{previous}-{index}"))
                .collect(),
        };
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        for index in 0..width {
            draft.task(&format!("n{layer}-{index}"), "ok", &before);
        }
    }
    resource(draft.workflow())
}

/// Two tasks between one and one, one of which is tried three times.
pub fn diamond_with_retries() -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .task("n0", "ok", &["start-node"])
        .task_with("n1", "fail:2", 3, &["n0"])
        .task("n2", "ok", &["n0"])
        .task("n3", "ok", &["n1", "n2"]);
    resource(draft.workflow())
}

/// A branch of two arms, and a task after it.
pub fn branch() -> FlyteWorkflow {
    let mut draft = Draft::default();
    let condition = json!({ "comparison": {
        "operator": "EQ", "leftValue": { "var": ".n" }, "rightValue": { "primitive": { "integer": "1" } } } });
    draft.task("n0-n0", "ok", &[]).task("n0-n1", "ok", &[]);
    let bindings =
        json!([{ "var": ".n", "binding": { "promise": { "nodeId": "start-node", "var": "n" } } }]);
    draft.add(
        "n0",
        json!({ "id": "n0", "kind": "branch", "resources": {}, "inputBindings": bindings,
                "branch": { "if": { "condition": condition, "then": "n0-n0" }, "else": "n0-n1" } }),
        &["start-node"],
    );
    draft.task("n1", "ok", &["n0"]);
    let mut workflow = draft.workflow();
    for arm in ["n0-n0", "n0-n1"] {
        workflow["spec"]["edges"]["upstream"][arm] = json!(["start-node"]);
    }
    resource(workflow)
}

/// A sub-workflow of two tasks, between two tasks.
pub fn sub_workflow() -> FlyteWorkflow {
    let mut draft = Draft::default();
    let key = "resource_type:WORKFLOW project:\"project\" domain:\"development\" name:\"sub\" version:\"v\"";
    let mut sub = Draft::default();
    sub.task("n0", "ok", &["start-node"])
        .task("n1", "ok", &["n0"]);
    draft.task("n0", "ok", &["start-node"]);
    let bindings =
        json!([{ "var": "n", "binding": { "promise": { "nodeId": "n0", "var": "o0" } } }]);
    draft.add(
        "n1",
        json!({ "id": "n1", "kind": "workflow", "resources": {}, "inputBindings": bindings,
                "workflow": { "subWorkflowRef": key } }),
        &["n0"],
    );
    draft.task("n2", "ok", &["n1"]);
    draft.tasks.append(&mut sub.tasks.clone());
    let mut workflow = draft.workflow();
    workflow["subWorkflows"] = json!({ key: sub.spec("project:development:sub") });
    resource(workflow)
}

/// A task for each element of a list, and one task after them; `change` is merged into the array node. Elements do what
/// `behaviours` says (see the node of the simulation), the numbers that they are given are 10, 11, and so on.
pub fn array(behaviours: &[&str], count: usize, change: &Value) -> FlyteWorkflow {
    let mut draft = Draft::default();
    let key = draft.template(&format!("elements:{}", behaviours.join(",")));
    let list = json!({ "collectionType": { "simple": "INTEGER" } });
    if let Some(template) = draft.tasks.get_mut(&key) {
        template["interface"] = json!({
            "inputs": { "variables": { "x": { "type": list } } },
            "outputs": { "variables": { "o0": { "type": list } } },
        });
        if let Some(arguments) = template["container"]["args"].as_array_mut() {
            arguments.push("{{.inputs.x}}".into());
        }
    }
    let mut node = json!({
        "id": "n0", "kind": "array", "resources": {},
        "inputBindings": [{ "var": "x", "binding": { "promise": { "nodeId": "start-node", "var": "xs" } } }],
        "array": {
            "SubNodeSpec": { "id": "inner", "kind": "task", "resources": {}, "task": key },
            "Parallelism": null, "MinSuccesses": null, "MinSuccessRatio": null, "BoundInputs": null,
        },
    });
    flyte_platform::json::merge(&mut node, change);
    draft
        .add("n0", node, &["start-node"])
        .task("n1", "ok", &["n0"]);
    let mut workflow = draft.workflow();
    let numbers = (10..)
        .take(count)
        .map(|number: u64| json!({ "scalar": { "primitive": { "integer": number.to_string() } } }));
    let numbers: Vec<_> = numbers.collect();
    workflow["inputs"]["literals"]["xs"] = json!({ "collection": { "literals": numbers } });
    resource(workflow)
}

/// Two launch plan nodes in a row, and a task that takes what they bring; `plan` is that of the second (see the children of the
/// simulation).
pub fn launch_plans(plan: &str) -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .launch_plan("n0", "ok", &["start-node"])
        .launch_plan("n1", plan, &["n0"])
        .task("n2", "ok", &["n1"]);
    resource(draft.workflow())
}

/// A gate that sleeps for a second, one that waits for signal `approval`, and one that waits for signal `number` (see the
/// signals of the simulation), whose value goes to a task.
pub fn gates(approval: &str) -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .gate("n0", json!({ "kind": "sleep", "sleep": { "duration": "1s" } }), &["start-node"])
        .gate("n1", json!({ "kind": "approve", "approve": { "signalId": approval } }), &["n0"])
        .gate(
            "n2",
            json!({ "kind": "signal", "signal": { "signalId": "number", "type": { "simple": "INTEGER" }, "outputVariableName": "o0" } }),
            &["start-node"],
        )
        .task("n3", "ok", &["n2", "n1"]);
    resource(draft.workflow())
}

/// An execution of which flyteadmin says nothing, for half a minute, and one that is launched meanwhile.
pub fn launch_plan_beside_an_unreadable_one() -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .launch_plan("n0", "unreadable", &["start-node"])
        .task("n1", "compute:well:15:0:o0=i", &["start-node"])
        .launch_plan("n2", "ok", &["n1"]);
    if let Some(node) = draft.nodes.get_mut("n0") {
        node["executionDeadline"] = "30s".into();
    }
    resource(draft.workflow())
}

/// An execution that never ends by itself, beside a task that fails after a while.
pub fn launch_plan_beside_a_failure() -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft.launch_plan("n0", "stay", &["start-node"]).task(
        "n1",
        "compute:error:2:0:o0=i",
        &["start-node"],
    );
    resource(draft.workflow())
}

/// An execution that never ends by itself, in a node that takes so long at most and is tried so often.
pub fn impatient_launch_plan(deadline: &str, attempts: u32) -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft.launch_plan("n0", "stay", &["start-node"]);
    if let Some(node) = draft.nodes.get_mut("n0") {
        node["executionDeadline"] = deadline.into();
        node["retry"] = json!({ "minAttempts": attempts });
    }
    resource(draft.workflow())
}

/// A task that fails for good beside one that would run for ever, and a failure node.
pub fn failure_with_handler() -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .task("n0", "slow-error", &["start-node"])
        .task("n1", "stay", &["start-node"]);
    let handler = draft.template("ok");
    let mut workflow = draft.workflow();
    let bindings =
        json!([{ "var": "n", "binding": { "promise": { "nodeId": "start-node", "var": "n" } } }]);
    workflow["spec"]["onFailure"] = json!({ "id": "fn0", "kind": "task", "resources": {}, "task": handler, "inputBindings": bindings });
    workflow["spec"]["edges"]["upstream"]["fn0"] = json!(["start-node"]);
    resource(workflow)
}

/// A task that runs until the workflow is terminated.
pub fn endless() -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .task("n0", "stay", &["start-node"])
        .task("n1", "ok", &["start-node"]);
    resource(draft.workflow())
}

/// `count` tasks side by side that take two minutes, and one after them.
pub fn slow(count: usize) -> FlyteWorkflow {
    let mut draft = Draft::default();
    let names: Vec<_> = (0..count).map(|index| format!("n{index}")).collect();
    for name in &names {
        draft.task(name, "slow", &["start-node"]);
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    draft.task("last", "ok", &names);
    resource(draft.workflow())
}

/// Tasks one after the other, each with these outputs: the first with other inputs than those after it. All are cached under this
/// version (see the cache of the simulation), one at a time if they are serialized.
pub fn cached(behaviour: &str, version: &str, serialized: bool) -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .task("n0", behaviour, &["start-node"])
        .task("n1", behaviour, &["n0"])
        .task("n2", behaviour, &["n1"]);
    draft.cache(version, serialized);
    resource(draft.workflow())
}

/// So many tasks side by side that do the same with the same inputs, of which one at a time may.
pub fn same_side_by_side(behaviour: &str, count: usize) -> FlyteWorkflow {
    let mut draft = Draft::default();
    for index in 0..count {
        draft.task(&format!("n{index}"), behaviour, &["start-node"]);
    }
    draft.cache("1", true);
    resource(draft.workflow())
}

/// The execution that [`Simulation::recovering`](super::Simulation::recovering) recovers, of a workflow in which something ends well
/// in the execution `run` alone.
pub fn failed_before(workflow: &FlyteWorkflow) -> FlyteWorkflow {
    let mut other = workflow.clone();
    other.metadata.name = Some(OTHER.into());
    other.execution_id.0.name = OTHER.into();
    let labels = other.metadata.labels.get_or_insert_default();
    labels.insert("execution-id".into(), OTHER.into());
    other
}

/// Three tasks one after the other, the second as `behaviour` says.
pub fn chain_with(behaviour: &str) -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .task("n0", "ok", &["start-node"])
        .task("n1", behaviour, &["n0"])
        .task("n2", "ok", &["n1"]);
    resource(draft.workflow())
}

/// A task before a dynamic one, in up to so many attempts, that makes what `behaviour` says (see `made` of the simulation), and one that
/// takes what that brings.
pub fn dynamic(behaviour: &str, attempts: u32) -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .task("n0", "ok", &["start-node"])
        .task_with("n1", behaviour, attempts, &["n0"])
        .task("n2", "ok", &["n1"]);
    resource(draft.workflow())
}

/// A dynamic task beside one that fails after a while.
pub fn dynamic_beside_a_failure(behaviour: &str) -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft.task("n0", behaviour, &["start-node"]).task(
        "n1",
        "compute:error:2:0:o0=i",
        &["start-node"],
    );
    resource(draft.workflow())
}

/// One task that ends as `behaviour` says (see the node of the simulation).
pub fn of(behaviour: &str) -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft.task("n0", behaviour, &["start-node"]);
    resource(draft.workflow())
}

/// One task that takes this long.
pub fn taking(seconds: u64) -> FlyteWorkflow {
    of(&format!("compute:well:{seconds}:0:o0=i"))
}

/// A Python task that may be interrupted and is retried, and one that may not.
pub fn interruptible() -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft
        .task_with("n0", "fail:1", 2, &["start-node"])
        .task("n1", "ok", &["n0"]);
    if let Some(node) = draft.nodes.get_mut("n0") {
        node["interruptible"] = true.into();
    }
    for template in draft.tasks.values_mut() {
        template["type"] = "python-task".into();
    }
    resource(draft.workflow())
}

/// A task that must have ended after this time, and is tried so often.
pub fn impatient(active_deadline: &str, attempts: u32) -> FlyteWorkflow {
    let mut draft = Draft::default();
    draft.task_with("n0", "ok", attempts, &["start-node"]);
    if let Some(node) = draft.nodes.get_mut("n0") {
        node["activeDeadline"] = active_deadline.into();
    }
    resource(draft.workflow())
}

/// The same workflow as another execution, in the namespace of neighbours.
pub fn neighbour(mut workflow: FlyteWorkflow, name: &str) -> FlyteWorkflow {
    workflow.metadata.name = Some(name.to_owned());
    workflow.metadata.namespace = Some(super::NEIGHBOURS.to_owned());
    let labels = workflow.metadata.labels.get_or_insert_default();
    labels.insert("execution-id".into(), name.to_owned());
    labels.insert("project".into(), "noisy".into());
    let id = &mut workflow.execution_id.0;
    (id.project, id.name) = ("noisy".into(), name.into());
    workflow
}

/// `count` tasks side by side that never end by themselves.
pub fn waiting(count: usize) -> FlyteWorkflow {
    let mut draft = Draft::default();
    for index in 0..count {
        draft.task(&format!("n{index}"), "stay", &["start-node"]);
    }
    resource(draft.workflow())
}

/// Up to nine tasks with random edges, retries and failures; always the same for one seed.
pub fn random(seed: u64) -> FlyteWorkflow {
    let mut random = StdRng::seed_from_u64(seed);
    let mut draft = Draft::default();
    let count = random.random_range(2..10);
    for index in 0..count {
        let mut after: Vec<String> = (0..index)
            .filter(|_| random.random_bool(0.4))
            .map(|before| format!("n{before}"))
            .collect();
        if after.is_empty() {
            after.push("start-node".into());
        }
        let after: Vec<&str> = after.iter().map(String::as_str).collect();
        let (behaviour, attempts) = match random.random_range(0..8) {
            0 => ("fail:1", 2),
            1 => ("recoverable", 2),
            _ => ("ok", 1),
        };
        draft.task_with(&format!("n{index}"), behaviour, attempts, &after);
    }
    let mut workflow = draft.workflow();
    if random.random_bool(0.5) {
        workflow["spec"]["onFailurePolicy"] = "FAIL_AFTER_EXECUTABLE_NODES_COMPLETE".into();
    }
    if random.random_bool(0.3) {
        workflow["executionConfig"] = json!({ "MaxParallelism": 2 });
    }
    resource(workflow)
}
