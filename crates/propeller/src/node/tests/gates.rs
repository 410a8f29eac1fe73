//! Gate nodes: what they wait for, and what comes of it.

use flyte_idl::core::{Literal, Primitive, Scalar, literal, primitive, scalar};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{super::*, scene::*};

fn gate(condition: Value) -> Scene {
    Scene::of("gate", json!({ "gate": condition }))
}

fn sleeping() -> Scene {
    gate(json!({ "kind": "sleep", "sleep": { "duration": "30s" } }))
}

fn approval() -> Scene {
    gate(json!({ "kind": "approve", "approve": { "signalId": "ok" } }))
}

fn value() -> Scene {
    gate(json!({ "kind": "signal",
        "signal": { "signalId": "v", "type": { "simple": "INTEGER" }, "outputVariableName": "o0" } }))
}

/// A gate that was looked at so many seconds ago.
fn begun(scene: Scene, seconds: i64) -> Scene {
    scene.at(NodePhase::Running).change(|scene| {
        scene.status.gate_node_status = Some(flyte_crd::status::GateNodeStatus {
            phase: flyte_crd::status::GatePhase::Executing,
        });
        scene.status.last_attempt_started_at = ago(seconds);
    })
}

fn literal(value: primitive::Value) -> Box<Literal> {
    Box::new(Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(scalar::Value::Primitive(Primitive { value: Some(value) })),
        }))),
        ..Literal::default()
    })
}

fn set(value: primitive::Value) -> NodeResult {
    NodeResult::Signal(Some(literal(value)))
}

#[test]
fn gates_wait_for_time_and_for_people() {
    let unset = || Some(NodeResult::Signal(None));
    check(vec![
        ("it begins", sleeping(), None, "RUNNING, Running"),
        (
            "it sleeps on, no shorter than asked though times are seconds",
            begun(sleeping(), 10),
            None,
            "wait 21 s",
        ),
        (
            "and wakes",
            begun(sleeping(), 31),
            None,
            "SUCCEEDED, Succeeded",
        ),
        (
            "no time at all is over at once",
            begun(
                gate(json!({ "kind": "sleep", "sleep": { "duration": "-1s" } })),
                0,
            ),
            None,
            "SUCCEEDED, Succeeded",
        ),
        (
            "a gate without a condition",
            gate(json!({ "kind": "sleep" })),
            None,
            "FAILED, Failed BadSpecificationError",
        ),
        ("an approval begins", approval(), None, "RUNNING, Running"),
        (
            "it is asked for",
            begun(approval(), 0),
            None,
            "ask for the signal",
        ),
        (
            "again after a second at first",
            begun(approval(), 5),
            unset(),
            "wait 1 s",
        ),
        (
            "later more seldom",
            begun(approval(), 60),
            unset(),
            "wait 6 s",
        ),
        (
            "but not too seldom",
            begun(approval(), 6_000),
            unset(),
            "wait 10 s",
        ),
        (
            "what is approved are the inputs",
            begun(approval(), 5),
            Some(set(primitive::Value::Boolean(true))),
            "copy the outputs",
        ),
        (
            "and then it has succeeded",
            begun(approval(), 5),
            Some(NodeResult::Copied(true)),
            "SUCCEEDED, Succeeded",
        ),
        (
            "a person says no",
            begun(approval(), 5),
            Some(set(primitive::Value::Boolean(false))),
            "FAILED, Failed ReceivedRejectSignal",
        ),
        (
            "or nothing that makes sense",
            begun(approval(), 5),
            Some(set(primitive::Value::Integer(1))),
            "FAILED, Failed RuntimeExecutionError",
        ),
        (
            "a value is asked for",
            begun(value(), 0),
            None,
            "ask for the signal",
        ),
        (
            "and becomes an output",
            begun(value(), 5),
            Some(set(primitive::Value::Integer(7))),
            "write the outputs",
        ),
        (
            "a deadline comes before the next look",
            begun(value(), 6_000).change(|scene| {
                scene.spec.execution_deadline = Some("1h40m4s".into());
            }),
            unset(),
            "wait 4 s",
        ),
        (
            "and is kept",
            begun(value(), 6_000).change(|scene| {
                scene.spec.execution_deadline = Some("1h40m".into());
            }),
            unset(),
            "Failing RetriesExhausted|TimeoutExpired, abort inside",
        ),
    ]);
}

#[test]
fn a_value_is_handed_on_under_the_name_of_the_output() {
    begun(value(), 0).with_view(|view| {
        let now: Timestamp = now();
        let Step::Do(NodeEffect::WriteOutputs { outputs, to }) =
            step(view, Some(set(primitive::Value::Integer(7))), now)
        else {
            panic!("not written")
        };
        assert_eq!(to, view.files.outputs());
        let expected = *literal(primitive::Value::Integer(7));
        assert_eq!(outputs.literals["o0"], expected);
        assert_eq!(outputs.literals.len(), 1);
    });
}
