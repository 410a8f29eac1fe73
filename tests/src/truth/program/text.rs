//! Programs as people read them.

use std::{collections::BTreeMap, fmt};

use super::{
    Bind, Branch, Condition, Node, Operand, Otherwise, Program, Promise, Runs, Step, Task, Workflow,
};

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:?}, most at once {:?}",
            self.policy, self.max_parallelism
        )?;
        writeln!(formatter, "inputs {:?}", self.inputs)?;
        for (index, workflow) in self.workflows.iter().enumerate() {
            writeln!(formatter, "workflow {index} {:?}:", workflow.inputs)?;
            write_workflow(formatter, workflow, &self.tasks)?;
        }
        Ok(())
    }
}

fn write_workflow(
    formatter: &mut fmt::Formatter<'_>,
    workflow: &Workflow,
    tasks: &[Task],
) -> fmt::Result {
    for node in &workflow.nodes {
        write_node(formatter, node, tasks, 1)?;
    }
    for (name, (_, bind)) in &workflow.outputs {
        writeln!(formatter, "    return {name} = {}", bind_text(bind))?;
    }
    if let Some(handler) = &workflow.on_failure {
        write!(formatter, "    on failure:")?;
        write_node(formatter, handler, tasks, 1)?;
    }
    Ok(())
}

fn write_node(
    formatter: &mut fmt::Formatter<'_>,
    node: &Node,
    tasks: &[Task],
    depth: usize,
) -> fmt::Result {
    let margin = "    ".repeat(depth);
    let inputs = binds_text(&node.inputs);
    write!(formatter, "{margin}{}", node.id)?;
    if let Some(seconds) = node.timeout {
        write!(formatter, " (at most {seconds} s)")?;
    }
    if !node.after.is_empty() {
        write!(formatter, " (after {})", node.after.join(", "))?;
    }
    match &node.runs {
        Runs::Task(index) => {
            write!(formatter, " = task {index}({inputs})")?;
            let retries = match node.retries {
                0 => tasks.get(*index).map_or(0, |task| task.retries),
                own => own,
            };
            if let Some(task) = tasks.get(*index) {
                let behaviour = task.behaviour.to_text();
                write!(formatter, " {behaviour}, {retries} retries")?;
            }
            writeln!(formatter)
        }
        Runs::Workflow(index) => writeln!(formatter, " = workflow {index}({inputs})"),
        Runs::Branch(branch) => {
            writeln!(formatter, " = branch({inputs})")?;
            write_branch(formatter, branch, tasks, depth)
        }
    }
}

fn write_branch(
    formatter: &mut fmt::Formatter<'_>,
    branch: &Branch,
    tasks: &[Task],
    depth: usize,
) -> fmt::Result {
    let margin = "    ".repeat(depth);
    for (condition, node) in &branch.cases {
        writeln!(formatter, "{margin}  if {}:", condition_text(condition))?;
        write_node(formatter, node, tasks, depth + 1)?;
    }
    match &branch.otherwise {
        Otherwise::Fail(message) => writeln!(formatter, "{margin}  else fail {message:?}"),
        Otherwise::Run(node) => {
            writeln!(formatter, "{margin}  else:")?;
            write_node(formatter, node, tasks, depth + 1)
        }
    }
}

fn condition_text(condition: &Condition) -> String {
    let operand = |operand: &Operand| match operand {
        Operand::Input(name) => name.clone(),
        Operand::Constant(value) => format!("{value:?}"),
    };
    match condition {
        Condition::And(left, right) => {
            format!("({} and {})", condition_text(left), condition_text(right))
        }
        Condition::Or(left, right) => {
            format!("({} or {})", condition_text(left), condition_text(right))
        }
        Condition::Compare(comparison, left, right) => {
            format!("{} {comparison:?} {}", operand(left), operand(right))
        }
    }
}

fn binds_text(binds: &BTreeMap<String, Bind>) -> String {
    let binds: Vec<String> = binds
        .iter()
        .map(|(name, bind)| format!("{name} = {}", bind_text(bind)))
        .collect();
    binds.join(", ")
}

fn bind_text(bind: &Bind) -> String {
    match bind {
        Bind::Constant(value) => format!("{value:?}"),
        Bind::Promise(promise) => promise_text(promise),
        Bind::List(items) => {
            let items: Vec<String> = items.iter().map(bind_text).collect();
            format!("[{}]", items.join(", "))
        }
        Bind::Map(items) => format!("{{{}}}", binds_text(items)),
    }
}

fn promise_text(promise: &Promise) -> String {
    let Promise { node, output, .. } = promise;
    let index = promise
        .index
        .map(|index| format!("[{index}]."))
        .unwrap_or_default();
    let path: String = promise
        .path
        .iter()
        .map(|step| match step {
            Step::Key(key) => format!(".{key}"),
            Step::Index(index) => format!("[{index}]"),
        })
        .collect();
    format!("{index}{node}.{output}{path}")
}
