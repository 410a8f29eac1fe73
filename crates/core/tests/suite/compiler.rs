//! The compiler against what the reference answered to registrations (recorded/admin/compiler-errors.jsonl) and
//! the closures that it stored (recorded/blobs.jsonl).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_core::compiler::{
    self, DynamicParent, DynamicWorkflow, LaunchPlanInterface, Rules, compile_task,
    compile_workflow, requirements,
};
use flyte_core::identifiers::ExecutionId;
use flyte_idl::{
    admin::{
        LaunchPlan, LaunchPlanCreateRequest, TaskCreateRequest, WorkflowClosure,
        WorkflowCreateRequest,
    },
    core::{
        CompiledTask, CompiledWorkflowClosure, Identifier, Node, TypedInterface, WorkflowTemplate,
    },
    json::{self, Unknown},
    text::prototext,
};
use serde_json::Value;

/// What has been registered; a missing entity is admin's answer, not the compiler's.
#[derive(Default)]
struct Registry {
    tasks: HashMap<Identifier, CompiledTask>,
    workflows: HashMap<Identifier, TypedInterface>,
    launch_plans: HashMap<Identifier, LaunchPlanInterface>,
    rules: Rules,
}

/// Admin's fetch looks at everything but the type of an id.
fn of_type(id: &Identifier, resource_type: i32) -> Identifier {
    Identifier {
        resource_type,
        ..id.clone()
    }
}

impl Registry {
    fn create_task(&mut self, request: TaskCreateRequest) -> Result<(), String> {
        let mut template = request.spec.unwrap().template.unwrap();
        template.id.clone_from(&request.id);
        let compiled = compile_task(template).map_err(|errors| compiler::task_failure(&errors))?;
        self.tasks.insert(request.id.unwrap(), compiled);
        Ok(())
    }

    fn create_workflow(&mut self, request: WorkflowCreateRequest) -> Result<(), String> {
        let id = request.id.unwrap();
        let spec = request.spec.unwrap();
        let mut template = spec.template.unwrap();
        template.id = Some(id.clone());
        let interface = template.interface.clone().unwrap_or_default();
        let closure = self
            .compile(template, spec.sub_workflows)
            .map_err(|cause| compiler::workflow_failure(&id, &cause))?;
        let nodes = closure.primary.unwrap().template.unwrap().nodes.len() - 2;
        if nodes > 100 {
            return Err(format!(
                "number of nodes in workflow [{}] exceeds limit ({nodes} > 100)",
                prototext(&id)
            ));
        }
        self.workflows.insert(id, interface);
        Ok(())
    }

    fn compile(
        &self,
        template: WorkflowTemplate,
        sub_workflows: Vec<WorkflowTemplate>,
    ) -> Result<CompiledWorkflowClosure, String> {
        let needed = requirements(&template, &sub_workflows)
            .map_err(|errors| compiler::requirements_failure(&errors))?;
        let missing = |kind: &str, id: &Identifier| {
            let id = prototext(&of_type(id, 0));
            format!("missing entity of type {kind} with identifier {id}")
        };
        let mut tasks = Vec::new();
        for id in &needed.tasks {
            let task = self.tasks.get(&of_type(id, 1));
            tasks.push(task.cloned().ok_or_else(|| missing("TASK", id))?);
        }
        let mut launch_plans = Vec::new();
        for id in &needed.launch_plans {
            let plan = self.launch_plans.get(&of_type(id, 3));
            launch_plans.push(plan.cloned().ok_or_else(|| missing("LAUNCH_PLAN", id))?);
        }
        compile_workflow(template, sub_workflows, tasks, &launch_plans, self.rules)
            .map_err(|errors| errors.to_string())
    }

    fn create_launch_plan(&mut self, request: LaunchPlanCreateRequest) {
        let id = request.id.unwrap();
        let spec = request.spec.unwrap();
        let workflow = &self.workflows[&spec.workflow_id.unwrap()];
        self.launch_plans.insert(
            id.clone(),
            LaunchPlanInterface {
                id,
                expected_inputs: spec.default_inputs,
                expected_outputs: workflow.outputs.clone(),
            },
        );
    }

    fn answer(&mut self, row: &Value) -> Result<(), String> {
        let request = &row["request"];
        match row["rpc"].as_str().unwrap() {
            "CreateTask" => self.create_task(json::from_value(Unknown::Refuse, request).unwrap()),
            "CreateWorkflow" => {
                self.create_workflow(json::from_value(Unknown::Refuse, request).unwrap())
            }
            "CreateLaunchPlan" => {
                self.create_launch_plan(json::from_value(Unknown::Refuse, request).unwrap());
                Ok(())
            }
            other => panic!("{other}"),
        }
    }
}

/// Cases that we answer otherwise, and how (spec 08 A18): a crash of the reference, a failure without reason,
/// what is accepted although the reference refuses it, and lists whose order is random there.
fn ours(note: &str) -> Option<Result<(), &'static str>> {
    Some(match note {
        "sub-workflow without id" => Err(
            "failed to get workflow requirements with err Collected Errors: 1\n\tError 0: Code: ValueRequired, Node Id: root, Description: Value required [Template.Id].\n",
        ),
        "scalar with nothing set" => Err(
            "Collected Errors: 1\n\tError 0: Code: UnrecognizedValue, Node Id: n0, Description: Unrecognized value [<nil>].\n",
        ),
        "cycle not reachable from start" => Err(
            "Collected Errors: 1\n\tError 0: Code: UnreachableNodes, Node Id: start-node, Description: The Workflow contain unreachable nodes [n0,n1].\n",
        ),
        "scalar operand"
        | "promise variable with a dash"
        | "two words as variable"
        | "branch input promises a later node"
        | "branch input promises a later branch"
        | "approve gate promises a later gate" => Ok(()),
        _ => return None,
    })
}

/// Fields of dataclasses come in random order there and sorted here.
fn with_sorted_fields(message: &str) -> String {
    message.replace(
        "dataclass_type:{key:y value:{simple:STRING}, dataclass_type:{key:x value:{simple:INTEGER}}",
        "dataclass_type:{key:x value:{simple:INTEGER}, dataclass_type:{key:y value:{simple:STRING}}",
    )
}

/// What the reference accepts, or refuses for another reason, although it cannot work (spec 08 A18, 3-5), and the code of
/// the error that is given unless an operator asks for the reference's rules.
fn strict(note: &str) -> Option<Result<(), &'static str>> {
    Some(Err(match note {
        "two nodes with one id" => {
            "Error 0: Code: DuplicateId, Node Id: n0, Description: Trying to insert two nodes with the same id.\n"
        }
        "user node named start-node" => {
            "Error 0: Code: DuplicateId, Node Id: start-node, Description: Trying to insert two nodes with the same id.\n"
        }
        "user node named end-node" => {
            "Error 0: Code: DuplicateId, Node Id: end-node, Description: Trying to insert two nodes with the same id.\n"
        }
        "explicit upstream id unknown, only upstream"
        | "explicit upstream id unknown, other upstream known" => {
            "Error 0: Code: NodeReferenceNotFound, Node Id: n0, Description: Referenced node [ghost] not found.\n"
        }
        "union with a collection variant not bound" => {
            "Error 0: Code: ParameterNotBound, Node Id: n0, Description: Parameter not bound [u].\n"
        }
        _ => return None,
    }))
}

#[test]
fn registrations_are_answered_as_recorded() {
    answers(Rules::Reference, ours);
}

#[test]
fn what_cannot_work_is_refused_and_all_else_answered_as_recorded() {
    answers(Rules::Strict, |note| strict(note).or_else(|| ours(note)));
}

fn answers(rules: Rules, ours: impl Fn(&str) -> Option<Result<(), &'static str>>) {
    let mut registry = Registry {
        rules,
        ..Registry::default()
    };
    let mut wrong = Vec::new();
    for line in include_str!("../data/compiler-errors.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let note = row["note"].as_str().unwrap();
        let expected = match (ours(note), row["code"].as_str().unwrap()) {
            (Some(Ok(())), _) | (None, "OK") => Ok(()),
            (Some(Err(text)), _) => Err(text.to_owned()),
            (None, _) => Err(with_sorted_fields(row["message"].as_str().unwrap())),
        };
        let answer = registry.answer(&row);
        let same = match (&answer, &expected) {
            (Ok(()), Ok(())) => true,
            (Err(answer), Err(expected)) => answer.ends_with(expected.as_str()),
            _ => false,
        };
        if !same {
            wrong.push(format!(
                "{note}\n  ours     {answer:?}\n  expected {expected:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn decoded<M: prost::Message + Default>(text: &Value) -> M {
    M::decode(
        BASE64_STANDARD
            .decode(text.as_str().unwrap())
            .unwrap()
            .as_slice(),
    )
    .unwrap()
}

/// A template as it was before it was compiled.
fn undone(mut template: WorkflowTemplate, compiled: bool) -> WorkflowTemplate {
    if compiled {
        template
            .nodes
            .retain(|node| node.id != "start-node" && node.id != "end-node");
        template.nodes.iter_mut().for_each(undo_branches);
    }
    template
}

fn undo_branches(node: &mut Node) {
    use flyte_idl::core::{if_else_block, node::Target};
    let prefix = format!("{}-", node.id);
    if let Some(Target::BranchNode(branch)) = &mut node.target {
        let block = branch.if_else.as_mut().unwrap();
        let cases = block
            .case
            .iter_mut()
            .filter_map(|case| case.then_node.as_deref_mut());
        let others = block
            .other
            .iter_mut()
            .filter_map(|other| other.then_node.as_deref_mut());
        let last = match &mut block.default {
            Some(if_else_block::Default::ElseNode(node)) => Some(&mut **node),
            _ => None,
        };
        for inner in cases.chain(others).chain(last) {
            undo_branches(inner);
            inner.id = inner.id.strip_prefix(&prefix).unwrap().to_owned();
        }
    }
}

#[test]
fn recorded_closures_are_made_again() {
    let mut registry = Registry::default();
    for line in include_str!("../data/entities.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        if row["message"] == "flyteidl.core.CompiledTask" {
            let task: CompiledTask = decoded(&row["proto"]);
            let id = task.template.as_ref().unwrap().id.clone().unwrap();
            registry.tasks.insert(id, task);
        } else {
            let plan: LaunchPlan = decoded(&row["proto"]);
            let closure = plan.closure.unwrap();
            let id = plan.id.unwrap();
            registry.launch_plans.insert(
                id.clone(),
                LaunchPlanInterface {
                    id,
                    expected_inputs: closure.expected_inputs,
                    expected_outputs: closure.expected_outputs,
                },
            );
        }
    }
    let mut seen = 0;
    for line in include_str!("../data/closures.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let stored: WorkflowClosure = decoded(&row["closure"]);
        let expected = stored.compiled_workflow.unwrap();
        let primary = expected.primary.clone().unwrap();
        let sub_workflows = expected
            .sub_workflows
            .iter()
            .cloned()
            .map(|workflow| undone(workflow.template.unwrap(), workflow.connections.is_some()))
            .collect();
        let compiled = registry
            .compile(undone(primary.template.unwrap(), true), sub_workflows)
            .unwrap();
        assert_eq!(compiled, expected, "{}", row["name"]);
        seen += 1;
    }
    assert_eq!(seen, 14);
}

#[test]
fn the_recorded_dynamic_workflow_is_made_again() {
    let row: Value = serde_json::from_str(include_str!("../data/dynamic.json")).unwrap();
    let expected: CompiledWorkflowClosure = decoded(&row["closure"]);
    let task: CompiledTask = decoded(&row["task"]);
    let version = expected
        .primary
        .clone()
        .unwrap()
        .template
        .unwrap()
        .id
        .unwrap()
        .version;
    let execution = ExecutionId::new("flytesnacks", "development", "rec-dyn").unwrap();
    let parent = DynamicParent {
        execution: &execution,
        node_id: "n0",
        attempt: 0,
        event_version: 2,
        task: &task.template.unwrap(),
    };
    let workflow = DynamicWorkflow::new(decoded(&row["spec"]), &parent, version);
    let tasks = workflow.compiled_tasks().unwrap();
    let mut closure = compile_workflow(
        workflow.template,
        workflow.sub_workflows,
        tasks,
        &[],
        Rules::Strict,
    )
    .unwrap();
    // The engine writes the closure after the transform took the descriptions out of it.
    let template = closure.primary.as_mut().unwrap().template.as_mut().unwrap();
    without_descriptions(template.interface.as_mut());
    for task in &mut closure.tasks {
        without_descriptions(task.template.as_mut().unwrap().interface.as_mut());
    }
    assert_eq!(closure, expected);
}

fn without_descriptions(interface: Option<&mut TypedInterface>) {
    let interface = interface.unwrap();
    for map in [&mut interface.inputs, &mut interface.outputs] {
        for variable in map.as_mut().unwrap().variables.values_mut() {
            variable.description.clear();
        }
    }
}
