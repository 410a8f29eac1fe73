//! Array nodes: how they begin, what they wait for, and how they end.

use flyte_crd::{
    GoStruct,
    status::{ArrayNodeStatus, ArrayPhase, CompactArray},
};
use flyte_idl::core::{Literal, LiteralCollection, literal};
use serde_json::{Value, json};

use super::{super::*, scene::*};

fn array(change: Value) -> Scene {
    let mut array = json!({
        "SubNodeSpec": { "id": "inner", "kind": "task", "task": "t" },
        "Parallelism": null, "MinSuccesses": null, "MinSuccessRatio": null, "BoundInputs": null,
    });
    flyte_platform::json::merge(&mut array, &change);
    Scene::of("array", json!({ "array": array }))
}

/// Lists of these lengths, and a value that is no list.
fn lists(lengths: &[(&str, usize)]) -> Arc<LiteralMap> {
    let mut literals: std::collections::BTreeMap<String, Literal> = lengths
        .iter()
        .map(|(name, length)| {
            let list = LiteralCollection {
                literals: vec![Literal::default(); *length],
            };
            let literal = Literal {
                value: Some(literal::Value::Collection(list)),
                ..Literal::default()
            };
            ((*name).to_owned(), literal)
        })
        .collect();
    literals.insert("value".into(), Literal::default());
    Arc::new(LiteralMap { literals })
}

fn with_inputs(scene: Scene, lengths: &[(&str, usize)]) -> Scene {
    scene.change(|scene| scene.inputs = Some(lists(lengths)))
}

/// An array of four whose elements have begun; of those that are over so many have succeeded and failed.
fn begun(scene: Scene, (succeeded, failed): (u32, u32)) -> Scene {
    let mut progress = Progress::default();
    (progress.succeeded, progress.failed) = (succeeded, failed);
    progress.running = 4 - succeeded - failed;
    let scene = scene.at(NodePhase::Running).inside(Inside::UnderWay);
    scene.change(|scene| {
        scene.elements = Some(progress);
        scene.status.array_node_status = Some(ArrayNodeStatus {
            phase: ArrayPhase::Executing,
            subphase: CompactArray::new(4, 12),
            ..ArrayNodeStatus::default()
        });
    })
}

fn in_phase(scene: Scene, phase: ArrayPhase) -> Scene {
    scene.change(|scene| {
        if let Some(array) = &mut scene.status.array_node_status {
            array.phase = phase;
        }
    })
}

/// With something that the first element would tell.
fn with_news(scene: Scene, told_seconds_ago: Option<i64>) -> Scene {
    let element = Element {
        index: 0,
        bound: Arc::default(),
    };
    let event = Event::Task(Box::default());
    scene.change(|scene| {
        if let Some(progress) = &mut scene.elements {
            progress.take_in(&element, "run-n0-0", 0, vec![event]);
            progress.tell_at = told_seconds_ago.and_then(|seconds| {
                now()
                    .checked_add(jiff::SignedDuration::from_secs(1 - seconds))
                    .ok()
            });
        }
    })
}

#[test]
fn an_array_begins_when_it_is_known_how_long_it_is() {
    let begins = "task QUEUED, RUNNING, Running, start elements";
    let invalid = "FAILED, Failed InvalidArrayLength";
    let bound = |names: Value| array(json!({ "BoundInputs": names }));
    check(vec![
        (
            "another process resolved its inputs",
            array(json!({})),
            None,
            "read the inputs",
        ),
        (
            "one list",
            with_inputs(array(json!({})), &[("x", 3)]),
            None,
            begins,
        ),
        (
            "an empty list",
            with_inputs(array(json!({})), &[("x", 0)]),
            None,
            begins,
        ),
        (
            "two lists",
            with_inputs(array(json!({})), &[("x", 3), ("y", 3)]),
            None,
            begins,
        ),
        (
            "of different lengths",
            with_inputs(array(json!({})), &[("x", 3), ("y", 2)]),
            None,
            invalid,
        ),
        (
            "one of which is given whole",
            with_inputs(bound(json!(["y"])), &[("x", 3), ("y", 2)]),
            None,
            begins,
        ),
        ("no list", with_inputs(array(json!({})), &[]), None, invalid),
        (
            "nothing but what is given whole",
            with_inputs(bound(json!(["value"])), &[]),
            None,
            begins,
        ),
        (
            "the next attempt",
            with_inputs(array(json!({})), &[("x", 3)])
                .at(NodePhase::Running)
                .change(|scene| scene.status.attempts = 1),
            None,
            "task QUEUED, Running attempt 1, start elements",
        ),
        (
            "of something that is no task",
            with_inputs(
                array(json!({ "SubNodeSpec": { "kind": "workflow" } })),
                &[("x", 3)],
            ),
            None,
            "FAILED, Failed UnsupportedNodeKind",
        ),
    ]);
}

#[test]
fn an_array_ends_with_its_elements() {
    let gathered = || Some(NodeResult::Copied(true));
    let failing = || in_phase(begun(array(json!({})), (1, 1)), ArrayPhase::Failing);
    let why = |scene: &mut Scene| {
        if let Some(array) = &mut scene.status.array_node_status {
            array.execution_error = Some(GoStruct(ExecutionError::default()));
        }
    };
    check(vec![
        (
            "nothing is new",
            begun(array(json!({})), (1, 0)),
            None,
            "wait",
        ),
        (
            "something is",
            with_news(begun(array(json!({})), (1, 0)), None),
            None,
            "task RUNNING, Running, 1 told",
        ),
        (
            "so shortly after the last time",
            with_news(begun(array(json!({})), (1, 0)), Some(0)),
            None,
            "wait 1 s",
        ),
        (
            "long enough after it",
            with_news(begun(array(json!({})), (1, 0)), Some(1)),
            None,
            "task RUNNING, Running, 1 told",
        ),
        (
            "all have succeeded",
            begun(array(json!({})), (4, 0)),
            None,
            "Running",
        ),
        (
            "their outputs are lists then",
            in_phase(begun(array(json!({})), (4, 0)), ArrayPhase::Succeeding),
            None,
            "gather the outputs of the elements",
        ),
        (
            "which are written",
            in_phase(begun(array(json!({})), (4, 0)), ArrayPhase::Succeeding),
            gathered(),
            "task SUCCEEDED, SUCCEEDED, Succeeded",
        ),
        (
            "one has failed",
            begun(array(json!({})), (1, 1)),
            None,
            "Running, abort inside",
        ),
        (
            "and may",
            begun(array(json!({ "MinSuccesses": 3 })), (1, 1)),
            None,
            "wait",
        ),
        ("the others are being aborted", failing(), None, "wait"),
        (
            "they are",
            failing().inside(Inside::Stopped),
            None,
            "task FAILED, FAILED, Failed ArrayNodeFailing",
        ),
        (
            "it is known why",
            failing().inside(Inside::Stopped).change(why),
            None,
            "task FAILED, FAILED, Failed ",
        ),
        (
            "nobody has looked at the elements yet",
            begun(array(json!({})), (4, 0)).change(|scene| scene.elements = None),
            None,
            "wait",
        ),
        (
            "the node takes too long",
            begun(array(json!({})), (1, 0)).change(|scene| {
                scene.spec.active_deadline = Some("5s".into());
                scene.status.queued_at = ago(10);
            }),
            None,
            "TimingOut, abort inside",
        ),
        (
            "its elements have ended",
            begun(array(json!({})), (1, 0))
                .at(NodePhase::TimingOut)
                .inside(Inside::Stopped),
            None,
            "task ABORTED, TIMED_OUT, TimedOut",
        ),
        (
            "a phase of a newer engine",
            in_phase(begun(array(json!({})), (1, 0)), ArrayPhase::Unknown(9)),
            None,
            "task FAILED, FAILED, Failed IllegalStateError",
        ),
    ]);
}

#[test]
fn an_element_needs_no_inputs_of_its_own() {
    let element = Scene::task().at(NodePhase::NotYetStarted).change(|scene| {
        scene.element = Some(Element {
            index: 2,
            bound: Arc::default(),
        });
    });
    check(vec![(
        "it is queued at once",
        element,
        None,
        "QUEUED, Queued",
    )]);
}
