//! Python of programs that have flytekit's shape.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::truth::{
    program::{
        Bind, Branch, Comparison, Condition, Node, Operand, Otherwise, Policy, Program, Promise,
        Runs, START, Step, Workflow,
    },
    values::{Type, Value},
};

/// The function of a workflow.
pub(super) fn workflow_name(prefix: &str, index: usize) -> String {
    format!("{prefix}_w{index}")
}

/// Inputs of the workflow that is run.
pub(super) fn inputs(program: &Program) -> String {
    let inputs = program.inputs.iter();
    dictionary(inputs.map(|(name, value)| (name, constant(value))))
}

/// All tasks and workflows; what is called stands before who calls it.
pub(super) fn source(program: &Program, prefix: &str) -> String {
    let mut writer = Writer {
        program,
        prefix,
        written: vec![false; program.workflows.len()],
        text: String::new(),
    };
    for (index, task) in program.tasks.iter().enumerate() {
        let types = |types: &BTreeMap<String, Type>| {
            dictionary(types.iter().map(|(name, kind)| (name, python_type(kind))))
        };
        let line = format!(
            "{prefix}_t{index} = computed(\"{prefix}.t{index}\", \"{}\", {}, {}, retries={})\n",
            task.behaviour.to_text(),
            types(&task.inputs),
            types(&task.behaviour.outputs),
            task.retries,
        );
        writer.text.push_str(&line);
    }
    writer.workflow(0);
    writer.text
}

struct Writer<'a> {
    program: &'a Program,
    prefix: &'a str,
    written: Vec<bool>,
    text: String,
}

impl Writer<'_> {
    fn workflow(&mut self, index: usize) {
        if std::mem::replace(&mut self.written[index], true) {
            return;
        }
        let workflow = &self.program.workflows[index];
        let mut called = Vec::new();
        workflow
            .nodes
            .iter()
            .for_each(|node| workflows_of(node, &mut called));
        called.into_iter().for_each(|other| self.workflow(other));
        let name = workflow_name(self.prefix, index);
        let text = self.function(workflow, &name);
        self.text.push_str(&text);
    }

    fn function(&self, workflow: &Workflow, name: &str) -> String {
        let mut text = String::new();
        let mut options = match self.program.policy {
            Policy::FailImmediately => "failure_policy=IMMEDIATELY".to_owned(),
            Policy::FailAfterExecutableNodesComplete => "failure_policy=AFTERWARDS".to_owned(),
        };
        if let Some(Runs::Task(index)) = workflow.on_failure.as_ref().map(|handler| &handler.runs) {
            push(
                &mut options,
                format_args!(", on_failure={}_t{index}", self.prefix),
            );
        }
        let parameters: Vec<String> = workflow
            .inputs
            .iter()
            .map(|(name, kind)| format!("{name}: {}", python_type(kind)))
            .collect();
        let answer = if workflow.outputs.is_empty() {
            "None".to_owned()
        } else {
            let outputs: Vec<String> = workflow
                .outputs
                .iter()
                .map(|(name, (kind, _))| format!("(\"{name}\", {})", python_type(kind)))
                .collect();
            push(
                &mut text,
                format_args!(
                    "\n{name}_outputs = NamedTuple(\"{name}_outputs\", [{}])\n",
                    outputs.join(", ")
                ),
            );
            format!("{name}_outputs")
        };
        push(
            &mut text,
            format_args!(
                "\n@workflow({options})\ndef {name}({}) -> {answer}:\n",
                parameters.join(", ")
            ),
        );
        for node in &workflow.nodes {
            push(
                &mut text,
                format_args!("    {} = {}\n", node.id, self.call(node)),
            );
        }
        for node in &workflow.nodes {
            for earlier in &node.after {
                push(
                    &mut text,
                    format_args!("    before({earlier}, {})\n", node.id),
                );
            }
        }
        let outputs: Vec<String> = workflow
            .outputs
            .iter()
            .map(|(name, (_, bind))| format!("{name}={}", expression(bind)))
            .collect();
        let answered = if outputs.is_empty() {
            "    return None\n\n".to_owned()
        } else {
            format!("    return {answer}({})\n\n", outputs.join(", "))
        };
        text.push_str(&answered);
        text
    }

    fn call(&self, node: &Node) -> String {
        let arguments: Vec<String> = node
            .inputs
            .iter()
            .map(|(name, bind)| format!("{name}={}", expression(bind)))
            .collect();
        let arguments = arguments.join(", ");
        let mut text = match &node.runs {
            Runs::Task(index) => format!("{}_t{index}({arguments})", self.prefix),
            Runs::Workflow(index) => {
                format!("{}({arguments})", workflow_name(self.prefix, *index))
            }
            Runs::Branch(branch) => self.branch(node, branch),
        };
        if node.retries > 0 {
            push(
                &mut text,
                format_args!(".with_overrides(retries={})", node.retries),
            );
        }
        text
    }

    fn branch(&self, node: &Node, branch: &Branch) -> String {
        let mut text = format!("conditional(\"{}\")", node.id);
        for (index, (condition, arm)) in branch.cases.iter().enumerate() {
            let word = if index == 0 { "if_" } else { "elif_" };
            let condition = condition_text(condition, &node.inputs);
            push(
                &mut text,
                format_args!(".{word}({condition}).then({})", self.call(arm)),
            );
        }
        match &branch.otherwise {
            Otherwise::Run(arm) => {
                push(&mut text, format_args!(".else_().then({})", self.call(arm)));
            }
            Otherwise::Fail(message) => {
                push(&mut text, format_args!(".else_().fail({message:?})"));
            }
        }
        text
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes every text");
}

fn workflows_of(node: &Node, found: &mut Vec<usize>) {
    match &node.runs {
        Runs::Task(_) => {}
        Runs::Workflow(index) => found.push(*index),
        Runs::Branch(branch) => branch.arms().for_each(|arm| workflows_of(arm, found)),
    }
}

fn condition_text(condition: &Condition, inputs: &BTreeMap<String, Bind>) -> String {
    let operand = |operand: &Operand| match operand {
        Operand::Constant(value) => constant(value),
        Operand::Input(name) => inputs.get(name).map(expression).unwrap_or_default(),
    };
    match condition {
        Condition::And(left, right) => format!(
            "({} & {})",
            condition_text(left, inputs),
            condition_text(right, inputs)
        ),
        Condition::Or(left, right) => format!(
            "({} | {})",
            condition_text(left, inputs),
            condition_text(right, inputs)
        ),
        Condition::Compare(comparison, left, right) => {
            let sign = match comparison {
                Comparison::Eq => "==",
                Comparison::Neq => "!=",
                Comparison::Gt => ">",
                Comparison::Gte => ">=",
                Comparison::Lt => "<",
                Comparison::Lte => "<=",
            };
            format!("({} {sign} {})", operand(left), operand(right))
        }
    }
}

fn expression(bind: &Bind) -> String {
    match bind {
        Bind::Constant(value) => constant(value),
        Bind::Promise(promise) => promise_text(promise),
        Bind::List(items) => {
            let items: Vec<String> = items.iter().map(expression).collect();
            format!("[{}]", items.join(", "))
        }
        Bind::Map(items) => dictionary(items.iter().map(|(name, item)| (name, expression(item)))),
    }
}

fn promise_text(promise: &Promise) -> String {
    let whole = if promise.node == START {
        promise.output.clone()
    } else {
        format!("output({}, \"{}\")", promise.node, promise.output)
    };
    let path: String = promise
        .path
        .iter()
        .map(|step| match step {
            Step::Key(key) => format!("[\"{key}\"]"),
            Step::Index(index) => format!("[{index}]"),
        })
        .collect();
    whole + &path
}

fn dictionary<'a>(items: impl Iterator<Item = (&'a String, String)>) -> String {
    let items: Vec<String> = items
        .map(|(name, item)| format!("\"{name}\": {item}"))
        .collect();
    format!("{{{}}}", items.join(", "))
}

fn python_type(kind: &Type) -> String {
    match kind {
        Type::Int => "int".into(),
        Type::Float => "float".into(),
        Type::Text => "str".into(),
        Type::Flag => "bool".into(),
        Type::List(item) => format!("List[{}]", python_type(item)),
        Type::Map(item) => format!("Dict[str, {}]", python_type(item)),
        Type::Record => "Record".into(),
        Type::Optional(inner) => format!("Optional[{}]", python_type(inner)),
        Type::Failure => "Optional[FlyteError]".into(),
        Type::Structure => panic!("a shaped program has no structures"),
    }
}

fn constant(value: &Value) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Text(text) => format!("{text:?}"),
        Value::Flag(true) => "True".into(),
        Value::Flag(false) => "False".into(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(constant).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(items) => dictionary(items.iter().map(|(name, item)| (name, constant(item)))),
        Value::Packed(inner) => match &**inner {
            Value::Map(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, field)| format!("{name}={}", constant(field)))
                    .collect();
                format!("Record({})", fields.join(", "))
            }
            other => panic!("only dataclasses are packed, not {other:?}"),
        },
        Value::Union(inner) => constant(inner),
        Value::None => "None".into(),
        Value::Struct(_) | Value::Failure(_) | Value::Other(_) => {
            panic!("{value:?} is never a constant of a shaped program")
        }
    }
}
