//! Programs in the shape that flytekit gives them.

use std::collections::{BTreeMap, BTreeSet};

use super::Unwritable;
use crate::truth::{
    program::{
        Bind, Branch, Condition, Node, Operand, Program, Promise, Runs, START, Step, Workflow,
    },
    values::{Type, Value},
};

type Types = BTreeMap<String, Type>;

/// Inputs by task and by workflow.
struct Interfaces {
    tasks: Vec<Types>,
    workflows: Vec<Types>,
}

impl Interfaces {
    fn of(&self, runs: &Runs) -> Option<&Types> {
        match runs {
            Runs::Task(index) => self.tasks.get(*index),
            Runs::Workflow(index) => self.workflows.get(*index),
            Runs::Branch(_) => None,
        }
    }
}

/// The nearest program that flytekit can say.
pub(super) fn shape(program: &Program) -> Result<Program, Unwritable> {
    let mut program = program.clone();
    for workflow in &program.workflows {
        take_all_inputs(workflow, &mut program.tasks);
    }
    let of_tasks = program
        .tasks
        .iter()
        .flat_map(|task| task.inputs.values().chain(task.behaviour.outputs.values()));
    let of_workflows = program.workflows.iter().flat_map(|workflow| {
        let outputs = workflow.outputs.values().map(|(kind, _)| kind);
        workflow.inputs.values().chain(outputs)
    });
    if of_tasks.chain(of_workflows).any(is_structure) {
        return Err(Unwritable::Structure);
    }
    let interfaces = Interfaces {
        tasks: program
            .tasks
            .iter()
            .map(|task| task.inputs.clone())
            .collect(),
        workflows: program
            .workflows
            .iter()
            .map(|workflow| workflow.inputs.clone())
            .collect(),
    };
    for workflow in &mut program.workflows {
        number(workflow);
        for node in &mut workflow.nodes {
            if hides_a_workflow(node) {
                return Err(Unwritable::Hidden);
            }
            shape_node(node, &interfaces)?;
        }
        for (kind, bind) in workflow.outputs.values_mut() {
            shape_bind(bind, kind);
        }
        if let Some(handler) = &mut workflow.on_failure {
            for (name, kind) in &workflow.inputs {
                let promise = Promise {
                    node: START.to_owned(),
                    output: name.clone(),
                    index: None,
                    path: Vec::new(),
                };
                let bind = Bind::Promise(promise);
                handler.inputs.insert(name.clone(), bind);
                debug_assert!(
                    interfaces
                        .of(&handler.runs)
                        .is_some_and(|all| all.get(name) == Some(kind))
                );
            }
            shape_node(handler, &interfaces)?;
        }
    }
    Ok(program)
}

fn is_structure(kind: &Type) -> bool {
    match kind {
        Type::Structure => true,
        Type::List(inner) | Type::Map(inner) | Type::Optional(inner) => is_structure(inner),
        Type::Int | Type::Float | Type::Text | Type::Flag | Type::Record | Type::Failure => false,
    }
}

/// Whether a branch has a branch as an arm that runs a workflow.
fn hides_a_workflow(node: &Node) -> bool {
    fn runs_one(node: &Node, depth: usize) -> bool {
        match &node.runs {
            Runs::Task(_) => false,
            Runs::Workflow(_) => depth > 1,
            Runs::Branch(branch) => branch.arms().any(|arm| runs_one(arm, depth + 1)),
        }
    }
    runs_one(node, 0)
}

/// A failure handler has at least the inputs of its workflow. Its task is nobody else's.
fn take_all_inputs(workflow: &Workflow, tasks: &mut [crate::truth::program::Task]) {
    let Some(Runs::Task(index)) = workflow.on_failure.as_ref().map(|handler| &handler.runs) else {
        return;
    };
    if let Some(task) = tasks.get_mut(*index) {
        task.inputs.extend(workflow.inputs.clone());
    }
}

/// All nodes that a node reads, its arms included, or comes after.
fn needed(node: &Node, found: &mut Vec<String>) {
    found.extend(node.promised());
    if let Runs::Branch(branch) = &node.runs {
        branch.arms().for_each(|arm| needed(arm, found));
    } else {
        found.extend(node.after.clone());
    }
}

/// Puts nodes in an order in which each can be called, and numbers them as their calls do.
fn number(workflow: &mut Workflow) {
    let mut left = std::mem::take(&mut workflow.nodes);
    let mut called: BTreeSet<String> = [START.to_owned()].into();
    while !left.is_empty() {
        let ready = left
            .iter()
            .position(|node| {
                let mut needs = node.after.clone();
                needed(node, &mut needs);
                needs.iter().all(|id| called.contains(id))
            })
            .unwrap_or_else(|| panic!("{left:?} wait for one another"));
        let node = left.remove(ready);
        called.insert(node.id.clone());
        workflow.nodes.push(node);
    }
    let ids: BTreeMap<String, String> = workflow
        .nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (node.id.clone(), format!("n{index}")))
        .collect();
    for node in &mut workflow.nodes {
        if let Some(id) = ids.get(&node.id) {
            node.id.clone_from(id);
        }
        rename(node, &ids);
    }
    for (_, bind) in workflow.outputs.values_mut() {
        rename_bind(bind, &ids);
    }
}

fn rename(node: &mut Node, ids: &BTreeMap<String, String>) {
    node.inputs
        .values_mut()
        .for_each(|bind| rename_bind(bind, ids));
    for after in &mut node.after {
        if let Some(id) = ids.get(after) {
            after.clone_from(id);
        }
    }
    if let Runs::Branch(branch) = &mut node.runs {
        branch.arms_mut().for_each(|arm| rename(arm, ids));
    }
}

fn rename_bind(bind: &mut Bind, ids: &BTreeMap<String, String>) {
    match bind {
        Bind::Constant(_) => {}
        Bind::Promise(promise) => {
            if let Some(id) = ids.get(&promise.node) {
                promise.node.clone_from(id);
            }
        }
        Bind::List(items) => items.iter_mut().for_each(|item| rename_bind(item, ids)),
        Bind::Map(items) => items.values_mut().for_each(|item| rename_bind(item, ids)),
    }
}

fn shape_node(node: &mut Node, interfaces: &Interfaces) -> Result<(), Unwritable> {
    if let Some(inputs) = interfaces.of(&node.runs) {
        for (name, kind) in inputs {
            let nothing = || Bind::Constant(Value::Union(Box::new(Value::None)));
            let bind = node.inputs.entry(name.clone()).or_insert_with(nothing);
            shape_bind(bind, kind);
        }
    }
    let Runs::Branch(branch) = &mut node.runs else {
        return Ok(());
    };
    for (condition, _) in &mut branch.cases {
        inline(condition, &node.inputs)?;
    }
    node.inputs
        .retain(|_, bind| !matches!(bind, Bind::Constant(_)));
    let mut places: BTreeMap<(String, String), Vec<Step>> = BTreeMap::new();
    for bind in node.inputs.values_mut() {
        if let Bind::Promise(promise) = bind {
            by_path(promise);
            let output = (promise.node.clone(), promise.output.clone());
            let path = places.entry(output).or_insert_with(|| promise.path.clone());
            if *path != promise.path {
                return Err(Unwritable::Operands);
            }
        }
    }
    for arm in branch.arms_mut() {
        // Nobody reads these.
        arm.after.clear();
        shape_node(arm, interfaces)?;
    }
    Ok(())
}

/// Inputs that are constants become so where they are compared.
fn inline(condition: &mut Condition, inputs: &BTreeMap<String, Bind>) -> Result<(), Unwritable> {
    match condition {
        Condition::And(left, right) | Condition::Or(left, right) => {
            inline(left, inputs)?;
            inline(right, inputs)
        }
        Condition::Compare(_, left, right) => {
            for operand in [&mut *left, &mut *right] {
                let Operand::Input(name) = operand else {
                    continue;
                };
                if let Some(Bind::Constant(value)) = inputs.get(name) {
                    *operand = Operand::Constant(value.clone());
                }
            }
            match (left, right) {
                (Operand::Constant(_), Operand::Constant(_)) => Err(Unwritable::Constants),
                _ => Ok(()),
            }
        }
    }
}

/// Constants that fill an optional input are wrapped in its union; elements are named by a way into the value.
fn shape_bind(bind: &mut Bind, kind: &Type) {
    match (bind, kind) {
        (Bind::Promise(promise), _) => by_path(promise),
        (Bind::Constant(value), Type::Optional(_) | Type::Failure) => {
            if !matches!(value, Value::Union(_)) {
                *value = Value::Union(Box::new(value.clone()));
            }
        }
        (Bind::List(items), Type::List(kind)) => {
            items.iter_mut().for_each(|item| shape_bind(item, kind));
        }
        (Bind::Map(items), Type::Map(kind)) => {
            items.values_mut().for_each(|item| shape_bind(item, kind));
        }
        (Bind::Constant(_) | Bind::List(_) | Bind::Map(_), _) => {}
    }
}

fn by_path(promise: &mut Promise) {
    if let Some(index) = promise.index.take() {
        let index = i32::try_from(index).expect("lists are short");
        promise.path.insert(0, Step::Index(index));
    }
}

impl Branch {
    fn arms_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        let otherwise = match &mut self.otherwise {
            crate::truth::program::Otherwise::Run(node) => Some(&mut **node),
            crate::truth::program::Otherwise::Fail(_) => None,
        };
        self.cases.iter_mut().map(|(_, node)| node).chain(otherwise)
    }
}
