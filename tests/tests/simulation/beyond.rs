//! What the compiler accepts beyond the reference (spec 08 A18) is run, with either outcome.

use std::collections::BTreeMap;

use flyte_tests::{
    simulation::Simulation,
    truth::{
        compute::{Behaviour, End},
        evaluate,
        program::{
            Bind, Branch, Comparison, Condition, Node, Operand, Otherwise, Policy, Program,
            Promise, Runs, START, Step, Task, Workflow,
        },
        templates,
        values::{Type, Value},
        verdict,
    },
};

type Binds<'a> = &'a [(&'a str, Bind)];

fn map<T: Clone>(entries: &[(&str, T)]) -> BTreeMap<String, T> {
    let entries = entries.iter();
    entries
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

/// A task that adds up what it is given; `salt` tells it from others.
fn task(salt: i64, input: (&str, Type), output: (&str, Type)) -> Task {
    Task {
        inputs: map(&[input]),
        behaviour: Behaviour {
            end: End::Well,
            seconds: 0,
            salt,
            outputs: map(&[output]),
        },
        retries: 0,
    }
}

fn node(id: &str, runs: Runs, inputs: Binds<'_>) -> Node {
    Node {
        id: id.to_owned(),
        runs,
        inputs: map(inputs),
        after: Vec::new(),
        retries: 0,
        timeout: None,
    }
}

fn promise(node: &str, output: &str, path: &[&str]) -> Bind {
    Bind::Promise(Promise {
        node: node.to_owned(),
        output: output.to_owned(),
        index: None,
        path: path
            .iter()
            .map(|key| Step::Key((*key).to_owned()))
            .collect(),
    })
}

/// A branch on its input `x`; the arms run tasks 0 and 1 on the workflow's input `n`.
fn branch(id: &str, x: Bind, compared: Value) -> Node {
    let arm =
        |id: &str, task: usize| node(id, Runs::Task(task), &[("i", promise(START, "n", &[]))]);
    let operands = (Operand::Input("x".to_owned()), Operand::Constant(compared));
    let condition = Condition::Compare(Comparison::Eq, operands.0, operands.1);
    let branch = Branch {
        cases: vec![(condition, arm("then", 0))],
        otherwise: Otherwise::Run(Box::new(arm("else", 1))),
    };
    node(id, Runs::Branch(branch), &[("x", x)])
}

/// A workflow whose output `o` is that of one of its nodes.
fn workflow(inputs: &[(&str, Type)], nodes: Vec<Node>, from: &str) -> Workflow {
    Workflow {
        inputs: map(inputs),
        outputs: map(&[("o", (Type::Int, promise(from, "o", &[])))]),
        nodes,
        on_failure: None,
    }
}

fn program(workflows: Vec<Workflow>, more: Vec<Task>, inputs: &[(&str, Value)]) -> Program {
    let mut tasks = vec![
        task(1, ("i", Type::Int), ("o", Type::Int)),
        task(2, ("i", Type::Int), ("o", Type::Int)),
    ];
    tasks.extend(more);
    let mut inputs = map(inputs);
    inputs.insert("n".to_owned(), Value::Int(3));
    Program {
        workflows,
        tasks,
        inputs,
        policy: Policy::FailImmediately,
        max_parallelism: None,
    }
}

/// Row 6: a comparison with nothing.
fn is_none(holds: bool) -> Program {
    let value = if holds { Value::None } else { Value::Int(1) };
    let inputs = [("n", Type::Int), ("x", Type::Optional(Box::new(Type::Int)))];
    let nodes = vec![branch("b", promise(START, "x", &[]), Value::None)];
    let given = [("x", Value::Union(Box::new(value)))];
    program(vec![workflow(&inputs, nodes, "b")], vec![], &given)
}

/// Row 7: a condition on something inside of a value.
fn attribute(holds: bool) -> Program {
    let inputs = [("n", Type::Int), ("x", Type::Map(Box::new(Type::Int)))];
    let nodes = vec![branch("b", promise(START, "x", &["key"]), Value::Int(5))];
    let given = [(
        "x",
        Value::Map(map(&[("key", Value::Int(if holds { 5 } else { 6 }))])),
    )];
    program(vec![workflow(&inputs, nodes, "b")], vec![], &given)
}

/// What task 0 makes of an input.
fn made(input: i64) -> Value {
    let task = task(1, ("i", Type::Int), ("o", Type::Int));
    let outputs = task.behaviour.outputs(&map(&[("i", Value::Int(input))]));
    outputs["o"].clone()
}

/// Row 8: a branch that stands before the node that it reads.
fn before_what_it_reads(holds: bool) -> Program {
    let inputs = [("n", Type::Int)];
    let first = node("first", Runs::Task(0), &[("i", promise(START, "n", &[]))]);
    let Value::Int(made) = made(3) else {
        panic!("the task makes an integer");
    };
    let compared = Value::Int(if holds { made } else { made + 1 });
    let nodes = vec![branch("b", promise("first", "o", &[]), compared), first];
    program(vec![workflow(&inputs, nodes, "b")], vec![], &[])
}

/// Row 9: a sub-workflow with a branch that two workflows run.
fn run_by_two(holds: bool) -> Program {
    let inputs = [("n", Type::Int)];
    let inner =
        |id: &str, index: usize, from: Bind| node(id, Runs::Workflow(index), &[("n", from)]);
    let compared = Value::Int(if holds { 3 } else { 4 });
    let workflows = vec![
        workflow(
            &inputs,
            vec![
                inner("a", 1, promise(START, "n", &[])),
                inner("c", 2, promise(START, "n", &[])),
            ],
            "c",
        ),
        workflow(
            &inputs,
            vec![branch("b", promise(START, "n", &[]), compared)],
            "b",
        ),
        workflow(&inputs, vec![inner("d", 1, promise(START, "n", &[]))], "d"),
    ];
    program(workflows, vec![], &[])
}

/// Row 12: variables whose names are not those of Python.
fn names(holds: bool) -> Program {
    let inputs = [("n", Type::Int), ("mit-ä", Type::Int)];
    let first = node(
        "first",
        Runs::Task(2),
        &[("größe-1", promise(START, "mit-ä", &[]))],
    );
    let more = task(3, ("größe-1", Type::Int), ("o-ü", Type::Int));
    let made = more.behaviour.outputs(&map(&[("größe-1", Value::Int(4))]));
    let Value::Int(made) = made["o-ü"] else {
        panic!("the task makes an integer");
    };
    let compared = Value::Int(if holds { made } else { made + 1 });
    let nodes = vec![first, branch("b", promise("first", "o-ü", &[]), compared)];
    let given = [("mit-ä", Value::Int(4))];
    program(vec![workflow(&inputs, nodes, "b")], vec![more], &given)
}

#[test]
fn what_is_accepted_beyond_the_reference_runs_with_either_outcome() {
    type Row = (&'static str, fn(bool) -> Program);
    let rows: [Row; 5] = [
        ("6: a comparison with nothing", is_none),
        ("7: a condition on an attribute", attribute),
        ("8: a branch before what it reads", before_what_it_reads),
        ("9: a branch in a sub-workflow of two", run_by_two),
        ("12: names with hyphens and umlauts", names),
    ];
    for (row, program) in rows {
        let mut ends = Vec::new();
        for holds in [true, false] {
            let program = program(holds);
            let what = format!("{row}, {holds}");
            let resource = templates::resource(&program);
            let resource = resource.unwrap_or_else(|why| panic!("{what}: {why}"));
            let expected = evaluate::evaluate(&program);
            let run = Simulation::new(resource).run();
            assert_eq!(
                verdict::compare(&expected, &run),
                [""; 0],
                "{what}: {program}"
            );
            ends.push(expected.end.unwrap());
        }
        assert_ne!(ends[0], ends[1], "{row}: the arms make the same");
    }
}
