//! Random workflows as clients register them, and as admin makes a resource of them.

use std::collections::BTreeMap;

use flyte_core::compiler::{self, Rules};
use flyte_crd::{FlyteWorkflow, Proto, transform};
use flyte_idl::core::{
    CompiledWorkflowClosure, TaskTemplate, WorkflowExecutionIdentifier, WorkflowTemplate,
};
use serde_json::{Map, Value as Json, json};

use super::{
    message,
    program::{
        Bind, Branch, Comparison, Condition, Node, Operand, Otherwise, Policy, Program, Promise,
        Runs, START, Step, Task, Workflow,
    },
    values::{Type, Value, to_literals},
};
use crate::simulation::NAMESPACE;

/// The resource of an execution of this program: registered, compiled, transformed.
///
/// # Errors
/// What the compiler has against it.
pub fn resource(program: &Program) -> Result<FlyteWorkflow, String> {
    let closure = compile(program)?;
    let execution = WorkflowExecutionIdentifier {
        project: "project".into(),
        domain: "development".into(),
        name: "run".into(),
        ..WorkflowExecutionIdentifier::default()
    };
    let inputs = to_literals(&program.inputs);
    let mut resource = transform::build(&closure, Some(inputs), Some(&execution), NAMESPACE)
        .map_err(|error| error.to_string())?;
    // As admin decorates it.
    resource.execution_id.0 = execution;
    let mut json = serde_json::to_value(&resource).map_err(|error| error.to_string())?;
    json["workflowMeta"] = json!({ "eventVersion": 2 });
    json["metadata"]["finalizers"] = json!([flyte_crd::FINALIZER]);
    if let Some(most) = program.max_parallelism {
        json["executionConfig"] = json!({ "MaxParallelism": most });
    }
    serde_json::from_value(json).map_err(|error| error.to_string())
}

/// The closure that admin would store.
fn compile(program: &Program) -> Result<CompiledWorkflowClosure, String> {
    let tasks = program
        .tasks
        .iter()
        .enumerate()
        .map(|(index, task)| {
            compiler::compile_task(task_template(index, task)).map_err(|error| error.to_string())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut templates: Vec<WorkflowTemplate> = program
        .workflows
        .iter()
        .enumerate()
        .map(|(index, workflow)| workflow_template(index, workflow, program.policy))
        .collect();
    let primary = templates.remove(0);
    compiler::compile_workflow(primary, templates, tasks, &[], Rules::Strict)
        .map_err(|errors| errors.to_string())
}

fn id(kind: &str, name: &str, index: usize) -> Json {
    json!({ "resourceType": kind, "project": "project", "domain": "development", "name": format!("{name}{index}"), "version": "v" })
}

fn variables<'a>(types: impl IntoIterator<Item = (&'a String, &'a Type)>) -> Json {
    let variables: Map<String, Json> = types
        .into_iter()
        .map(|(name, kind)| (name.clone(), json!({ "type": kind.to_json() })))
        .collect();
    json!({ "variables": variables })
}

fn task_template(index: usize, task: &Task) -> TaskTemplate {
    message(json!({
        "id": id("TASK", "task", index),
        "type": "container",
        "metadata": { "retries": { "retries": task.retries } },
        "interface": { "inputs": variables(&task.inputs), "outputs": variables(&task.behaviour.outputs) },
        "container": {
            "image": "i", "args": [task.behaviour.to_text(), "{{.outputPrefix}}", "{{.input}}"], "resources": {},
        },
    }))
}

fn workflow_template(index: usize, workflow: &Workflow, policy: Policy) -> WorkflowTemplate {
    let policy = match policy {
        Policy::FailImmediately => "FAIL_IMMEDIATELY",
        Policy::FailAfterExecutableNodesComplete => "FAIL_AFTER_EXECUTABLE_NODES_COMPLETE",
    };
    let outputs = workflow.outputs.iter();
    let types = outputs.clone().map(|(name, (kind, _))| (name, kind));
    let binds = outputs.map(|(name, (_, bind))| (name, bind));
    let mut template = json!({
        "id": id("WORKFLOW", "workflow", index),
        "metadata": { "onFailure": policy },
        "interface": { "inputs": variables(&workflow.inputs), "outputs": variables(types) },
        "nodes": workflow.nodes.iter().map(node).collect::<Vec<_>>(),
        "outputs": bindings(binds),
    });
    if let Some(handler) = &workflow.on_failure {
        template["failureNode"] = node(handler);
    }
    message(template)
}

fn node(node: &Node) -> Json {
    let mut template = json!({
        "id": node.id,
        "metadata": { "name": format!("{} by name", node.id), "retries": { "retries": node.retries } },
        "inputs": bindings(&node.inputs),
        "upstreamNodeIds": node.after,
    });
    if let Some(seconds) = node.timeout {
        template["metadata"]["timeout"] = format!("{seconds}s").into();
    }
    match &node.runs {
        Runs::Task(index) => {
            template["taskNode"] = json!({ "referenceId": id("TASK", "task", *index) });
        }
        Runs::Workflow(index) => {
            let reference = id("WORKFLOW", "workflow", *index);
            template["workflowNode"] = json!({ "subWorkflowRef": reference });
        }
        Runs::Branch(branch) => template["branchNode"] = json!({ "ifElse": if_else(branch) }),
    }
    template
}

fn if_else(branch: &Branch) -> Json {
    let mut cases: Vec<Json> = branch
        .cases
        .iter()
        .map(|(when, then)| json!({ "condition": condition(when), "thenNode": node(then) }))
        .collect();
    let first = cases.remove(0);
    let mut block = json!({ "case": first, "other": cases });
    match &branch.otherwise {
        Otherwise::Run(other) => block["elseNode"] = node(other),
        Otherwise::Fail(message) => {
            block["error"] = json!({ "failedNodeId": "a node", "message": message });
        }
    }
    block
}

fn condition(condition_: &Condition) -> Json {
    let conjunction = |operator: &str, left: &Condition, right: &Condition| {
        json!({ "conjunction": {
            "operator": operator, "leftExpression": condition(left), "rightExpression": condition(right) } })
    };
    match condition_ {
        Condition::And(left, right) => conjunction("AND", left, right),
        Condition::Or(left, right) => conjunction("OR", left, right),
        Condition::Compare(comparison, left, right) => {
            let operator = match comparison {
                Comparison::Eq => "EQ",
                Comparison::Neq => "NEQ",
                Comparison::Gt => "GT",
                Comparison::Gte => "GTE",
                Comparison::Lt => "LT",
                Comparison::Lte => "LTE",
            };
            json!({ "comparison": { "operator": operator, "leftValue": operand(left), "rightValue": operand(right) } })
        }
    }
}

/// Primitives go where flytekit puts them, nothing goes where it puts it for `is_none()`.
fn operand(operand: &Operand) -> Json {
    match operand {
        Operand::Input(name) => json!({ "var": name }),
        Operand::Constant(Value::None) => json!({ "scalar": { "noneType": {} } }),
        Operand::Constant(value) => json!({ "primitive": scalar(value)["primitive"] }),
    }
}

fn scalar(value: &Value) -> Json {
    let mut literal =
        serde_json::to_value(Proto(value.to_literal())).expect("literals can be written as JSON");
    literal["scalar"].take()
}

fn bindings<'a>(binds: impl IntoIterator<Item = (&'a String, &'a Bind)>) -> Json {
    binds
        .into_iter()
        .map(|(name, bind)| json!({ "var": name, "binding": binding(bind) }))
        .collect()
}

fn binding(bind: &Bind) -> Json {
    match bind {
        Bind::Constant(value) => json!({ "scalar": scalar(value) }),
        Bind::Promise(promise) => json!({ "promise": reference(promise) }),
        Bind::List(items) => {
            let items: Vec<Json> = items.iter().map(binding).collect();
            json!({ "collection": { "bindings": items } })
        }
        Bind::Map(items) => {
            let items: BTreeMap<&String, Json> = items
                .iter()
                .map(|(key, item)| (key, binding(item)))
                .collect();
            json!({ "map": { "bindings": items } })
        }
    }
}

fn reference(promise: &Promise) -> Json {
    let output = match promise.index {
        Some(index) => format!("[{index}].{}", promise.output),
        None => promise.output.clone(),
    };
    let path: Vec<Json> = promise
        .path
        .iter()
        .map(|step| match step {
            Step::Key(key) => json!({ "stringValue": key }),
            Step::Index(index) => json!({ "intValue": index }),
        })
        .collect();
    // Clients leave the id out for inputs of the workflow.
    let node = if promise.node == START {
        ""
    } else {
        &promise.node
    };
    json!({ "nodeId": node, "var": output, "attrPath": path })
}
