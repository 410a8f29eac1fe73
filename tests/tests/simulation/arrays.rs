//! Array nodes: elements that end for whatever reason, and whatever goes wrong meanwhile.

use flyte_crd::{FlyteWorkflow, WorkflowPhase};
use flyte_idl::core::{LiteralMap, literal, primitive, scalar};
use flyte_plugins::config::PluginsConfig;
use flyte_propeller::config::{ArrayNodeConfig, ParallelismBehavior, PropellerConfig};
use flyte_tests::simulation::{Outside, Plan, Reloads, Run, Simulation, graphs};
use serde_json::{Value, json};

use super::{check, survives_every_single_fault};

/// What the array handed on: a number for each element, none for those that did not succeed.
fn gathered(run: &Run) -> Vec<Option<i64>> {
    let found = run.literals.iter();
    let of_array = |(key, _): &(&String, &LiteralMap)| key.ends_with("/n0/data/0/outputs.pb");
    let (_, map) = found.clone().find(of_array).expect("the array has outputs");
    let Some(literal::Value::Collection(list)) = &map.literals["o0"].value else {
        panic!("{map:?} is no list");
    };
    let number = |value: &Option<literal::Value>| {
        let Some(literal::Value::Scalar(scalar)) = value else {
            return None;
        };
        let Some(scalar::Value::Primitive(primitive)) = &scalar.value else {
            return None;
        };
        match primitive.value {
            Some(primitive::Value::Integer(number)) => Some(number),
            _ => None,
        }
    };
    let literals = list.literals.iter();
    literals.map(|literal| number(&literal.value)).collect()
}

/// What admin was told of the elements: index, attempt and phase.
fn told(run: &Run) -> Vec<String> {
    let elements = run.records.elements().into_iter();
    elements
        .map(|(index, attempt, phase)| format!("{index}/{attempt} {phase}"))
        .collect()
}

fn retried() -> FlyteWorkflow {
    let change =
        json!({ "array": { "Parallelism": 2, "SubNodeSpec": { "retry": { "minAttempts": 3 } } } });
    graphs::array(&["ok", "fail:2", "shutdown:1", "ok"], 4, &change)
}

fn partly() -> FlyteWorkflow {
    graphs::array(
        &["ok", "error", "ok"],
        3,
        &json!({ "array": { "MinSuccesses": 2 } }),
    )
}

fn failing() -> FlyteWorkflow {
    graphs::array(
        &["error", "stay", "error", "stay"],
        4,
        &json!({ "array": { "MinSuccessRatio": 0.75 } }),
    )
}

#[test]
fn arrays_end_as_their_elements_do() {
    use WorkflowPhase::{Failed, Success};
    let ok = |count: usize| graphs::array(&["ok"], count, &json!({}));
    for (case, graph, phase, outputs, elements) in [
        (
            "all succeed",
            ok(3),
            Success,
            vec![Some(10), Some(11), Some(12)],
            vec!["0/0 SUCCEEDED", "1/0 SUCCEEDED", "2/0 SUCCEEDED"],
        ),
        ("there are none", ok(0), Success, vec![], vec![]),
        (
            "some are tried again, by their own fault and by the system's",
            retried(),
            Success,
            vec![Some(10), Some(11), Some(12), Some(13)],
            vec![
                "0/0 SUCCEEDED",
                "1/0 FAILED",
                "1/1 FAILED",
                "1/2 SUCCEEDED",
                "2/0 FAILED",
                "2/1 SUCCEEDED",
                "3/0 SUCCEEDED",
            ],
        ),
        (
            "enough succeed",
            partly(),
            Success,
            vec![Some(10), None, Some(12)],
            vec!["0/0 SUCCEEDED", "1/0 FAILED", "2/0 SUCCEEDED"],
        ),
        (
            "too many fail, and the others are ended",
            failing(),
            Failed,
            vec![],
            vec!["0/0 FAILED", "1/0 ABORTED", "2/0 FAILED", "3/0 ABORTED"],
        ),
    ] {
        for reloads in [Reloads::Never, Reloads::Always] {
            let run = Simulation::new(graph.clone()).reloading(reloads).run();
            check(&run, case);
            assert_eq!(run.phase, phase, "{case}");
            assert_eq!(told(&run), elements, "{case}");
            if phase == Success {
                assert_eq!(gathered(&run), outputs, "{case}");
            }
            let task = &run.records.tasks()["n0/0"];
            let ended = if phase == Success {
                "SUCCEEDED"
            } else {
                "FAILED"
            };
            assert_eq!(task, ended, "{case}");
        }
    }
}

#[test]
fn the_failure_of_an_array_names_elements_and_their_errors() {
    let graph = graphs::array(&["error", "ok", "error", "error:10"], 4, &json!({}));
    let run = Simulation::new(graph).run();
    check(&run, "without faults");
    let messages = run.records.error_messages();
    // How many have failed when it is decided depends on which the watch shows first.
    assert!(messages["n0"].starts_with('['), "{messages:?}");
    assert!(
        messages["n0"].ends_with(": a value is wrong\n") || messages["n0"].contains("its end\n"),
        "{messages:?}"
    );
    let lists = graphs::array(
        &["ok"],
        2,
        &json!({ "inputBindings": [
        { "var": "x", "binding": { "promise": { "nodeId": "start-node", "var": "xs" } } },
        { "var": "y", "binding": { "collection": { "bindings": [] } } },
    ] }),
    );
    let run = Simulation::new(lists).run();
    check(&run, "lists of different lengths");
    assert_eq!(run.records.errors()["n0"], "InvalidArrayLength");
    let other = graphs::array(
        &["ok"],
        2,
        &json!({ "array": { "SubNodeSpec": { "kind": "workflow" } } }),
    );
    let run = Simulation::new(other).run();
    check(&run, "of another kind");
    assert_eq!(run.records.errors()["n0"], "UnsupportedNodeKind");
    assert!(run.records.error_messages()["n0"].contains("n0"));
}

#[test]
fn arrays_survive_every_single_fault() {
    survives_every_single_fault(
        || graphs::array(&["ok"], 3, &json!({ "array": { "Parallelism": 2 } })),
        WorkflowPhase::Success,
    );
}

#[test]
fn arrays_with_retries_survive_every_single_fault() {
    survives_every_single_fault(retried, WorkflowPhase::Success);
}

#[test]
fn arrays_that_succeed_in_part_survive_every_single_fault() {
    survives_every_single_fault(partly, WorkflowPhase::Success);
}

#[test]
fn termination_reaches_elements_at_any_moment() {
    for effect in 1..=12 {
        // Without faults, and with some.
        for seed in 0..3 {
            let plan = match seed {
                0 => Plan::default(),
                _ => Plan::random(10 * effect + seed, 2, 20),
            };
            let what = format!("terminated after effect {effect}, {plan:?}");
            let run = Simulation::new(graphs::array(&["stay", "ok", "stay"], 3, &json!({})))
                .with_outside(effect, Outside::Terminate)
                .with(plan)
                .run();
            check(&run, &what);
            assert_eq!(run.phase, WorkflowPhase::Aborted, "{what}");
        }
    }
}

#[test]
fn too_many_failures_end_the_others_whatever_happens() {
    for seed in 0..60 {
        let run = Simulation::new(failing())
            .with(Plan::random(seed, 2, 60))
            .run();
        let what = format!("seed {seed}");
        check(&run, &what);
        assert_eq!(run.phase, WorkflowPhase::Failed, "{what}");
        assert_eq!(run.records.nodes()["n0"], "FAILED", "{what}");
    }
}

#[test]
fn an_array_that_takes_too_long_ends_its_elements() {
    let late = |attempts: u32| {
        let change = json!({ "executionDeadline": "5s", "retry": { "minAttempts": attempts } });
        graphs::array(&["stay", "ok"], 2, &change)
    };
    for (attempts, pods) in [(1, 2), (2, 4)] {
        let run = Simulation::new(late(attempts)).run();
        let what = format!("{attempts} attempts");
        check(&run, &what);
        assert_eq!(run.phase, WorkflowPhase::Failed, "{what}");
        assert_eq!(run.pods.len(), pods, "{what}: {:?}", run.pods);
        assert_eq!(
            run.records.errors()["n0"],
            "RetriesExhausted|TimeoutExpired",
            "{what}"
        );
    }
}

#[test]
fn an_element_that_takes_too_long_is_tried_again_by_itself() {
    let change = json!({ "array": { "SubNodeSpec": { "executionDeadline": "5s", "retry": { "minAttempts": 2 } } } });
    let run = Simulation::new(graphs::array(&["ok", "stay"], 2, &change)).run();
    check(&run, "one of two");
    assert_eq!(run.phase, WorkflowPhase::Failed);
    let names: Vec<_> = run
        .pods
        .keys()
        .filter(|name| name.contains("-n0-0-"))
        .collect();
    assert_eq!(names, ["run-n0-0-n0-0", "run-n0-0-n1-0", "run-n0-0-n1-1"]);
    let message = &run.records.error_messages()["n0"];
    let expected =
        "[1]: [2/2] currentAttempt done. Last Error: USER::task execution timeout [5s] expired\n";
    assert_eq!(message, expected);
}

/// How many elements run at once, at most, by what the node and the configuration say.
#[test]
fn so_many_elements_run_at_once_as_is_said() {
    use ParallelismBehavior::{Hybrid, Unlimited, Workflow};
    // Six elements of two minutes each.
    for (parallelism, behavior, turns) in [
        (Value::Null, Unlimited, 1),
        (json!(0), Unlimited, 1),
        (json!(2), Unlimited, 3),
        (Value::Null, Workflow, 2),
        (json!(0), Workflow, 2),
        (json!(2), Workflow, 3),
        (Value::Null, Hybrid, 2),
        (json!(0), Hybrid, 1),
    ] {
        let mut graph = graphs::array(
            &["slow"],
            6,
            &json!({ "array": { "Parallelism": parallelism } }),
        );
        graph.execution_config.max_parallelism = 3;
        let config = ArrayNodeConfig {
            default_parallelism_behavior: behavior,
        };
        let propeller = PropellerConfig {
            array_node_config: config,
            ..PropellerConfig::default()
        };
        let run = Simulation::new(graph)
            .configured(propeller, PluginsConfig::default())
            .run();
        let what = format!("{parallelism} with {behavior:?}");
        check(&run, &what);
        let seconds = run.elapsed.as_secs();
        assert_eq!(seconds / 120, turns, "{what}: {seconds} s");
    }
}

/// Bound inputs go to each element whole, and an element of a list to each pod.
#[test]
fn elements_get_their_part_of_the_inputs() {
    let change = json!({
        "array": { "BoundInputs": ["y"] },
        "inputBindings": [
            { "var": "x", "binding": { "promise": { "nodeId": "start-node", "var": "xs" } } },
            { "var": "y", "binding": { "promise": { "nodeId": "start-node", "var": "xs" } } },
        ],
    });
    let run = Simulation::new(graphs::array(&["ok"], 2, &change)).run();
    check(&run, "bound");
    assert_eq!(gathered(&run), [Some(10), Some(11)]);
    let pod = run
        .kept
        .iter()
        .find(|pod| pod.metadata.name.as_deref() == Some("run-n0-0-n1-0"));
    let container = &pod.unwrap().spec.as_ref().unwrap().containers[0];
    let arguments = container.args.as_ref().unwrap();
    let folder = "mem://bucket/metadata/propeller/project-development-run/n0/data";
    assert_eq!(
        arguments[1..],
        [
            format!("{folder}/0/1/0"),
            format!("{folder}/inputs.pb"),
            "11".to_owned()
        ]
    );
}
