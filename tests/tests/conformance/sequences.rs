//! Sequences of events: some with a point, some at random from a seed.

use flyte_idl::event::{NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Map, Value, json};

use crate::subjects::{entity, message};

pub(crate) const PROJECT: &str = "project";
pub(crate) const DOMAIN: &str = "development";

/// Events of a random sequence.
const STEPS: usize = 80;

/// An event to be sent, or a request without one.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Workflow(Option<Box<WorkflowExecutionEvent>>),
    Node(Option<Box<NodeExecutionEvent>>),
    Task(Option<Box<TaskExecutionEvent>>),
}

/// Makes the events of one execution.
struct Author {
    execution: Value,
    /// Seconds of the next event.
    clock: u64,
}

impl Author {
    fn new(name: &str) -> Self {
        Self {
            execution: json!({"project": PROJECT, "domain": DOMAIN, "name": name}),
            clock: 0,
        }
    }

    fn time(&mut self) -> Value {
        self.clock += 1;
        json!(format!(
            "2026-01-01T00:{:02}:{:02}Z",
            self.clock / 60,
            self.clock % 60
        ))
    }

    fn node_id(&self, node: &str) -> Value {
        json!({"node_id": node, "execution_id": self.execution})
    }

    fn workflow(&mut self, phase: &str, more: Value) -> Step {
        let event = json!({
            "execution_id": self.execution, "phase": phase, "occurred_at": self.time(),
        });
        Step::Workflow(Some(Box::new(message(&merged(event, more)))))
    }

    fn node(&mut self, node: &str, phase: &str, more: Value) -> Step {
        let event = json!({
            "id": self.node_id(node), "phase": phase, "occurred_at": self.time(), "event_version": 2,
        });
        Step::Node(Some(Box::new(message(&merged(event, more)))))
    }

    fn task(&mut self, node: &str, attempt: u32, phase: &str, more: Value) -> Step {
        let event = json!({
            "task_id": entity("TASK", "t"), "parent_node_execution_id": self.node_id(node),
            "retry_attempt": attempt, "phase": phase, "occurred_at": self.time(),
        });
        Step::Task(Some(Box::new(message(&merged(event, more)))))
    }
}

/// `event` with members of `more` in place of its own; null removes one.
fn merged(mut event: Value, more: Value) -> Value {
    let members: &mut Map<String, Value> = event.as_object_mut().unwrap();
    if let Value::Object(more) = more {
        members.extend(more);
    }
    members.retain(|_, value| !value.is_null());
    event
}

/// Sequences with a point, by what they show, each for the execution that it names.
pub(crate) fn by_hand() -> Vec<(&'static str, Vec<Step>)> {
    let none = || Value::Null;
    let error = json!({"error": {"code": "c", "message": "m", "kind": "USER"}});
    let mut sequences = Vec::new();

    let mut of = Author::new("runs");
    sequences.push((
        "runs",
        vec![
            of.workflow("QUEUED", none()),
            of.workflow("RUNNING", none()),
            of.node("n0", "QUEUED", json!({"input_uri": "s3://in"})),
            of.node("n0", "RUNNING", none()),
            of.task("n0", 0, "QUEUED", none()),
            of.task(
                "n0",
                0,
                "RUNNING",
                json!({"phase_version": 1, "logs": [{"uri": "u", "name": "l"}]}),
            ),
            of.task(
                "n0",
                0,
                "RUNNING",
                json!({"phase_version": 2, "logs": [{"uri": "v", "name": "l"}]}),
            ),
            of.task("n0", 0, "SUCCEEDED", json!({"output_uri": "s3://out"})),
            of.node("n0", "SUCCEEDED", json!({"output_uri": "s3://out"})),
            of.workflow("SUCCEEDING", none()),
            of.workflow("SUCCEEDED", json!({"output_uri": "s3://out"})),
        ],
    ));

    let mut of = Author::new("repeats");
    let mut steps = vec![
        of.workflow("RUNNING", none()),
        of.node("n0", "RUNNING", none()),
        of.task("n0", 0, "RUNNING", json!({"phase_version": 3})),
        of.task("n0", 0, "RUNNING", json!({"phase_version": 2})),
        of.task("n0", 0, "FAILED", error.clone()),
        of.node("n0", "FAILED", error.clone()),
        of.workflow("FAILED", error.clone()),
    ];
    let again = steps.clone();
    steps.extend(again);
    sequences.push(("repeats", steps));

    let mut of = Author::new("late");
    sequences.push((
        "late",
        vec![
            of.workflow("ABORTED", error.clone()),
            of.workflow("RUNNING", none()),
            of.workflow("QUEUED", none()),
            of.node("n0", "QUEUED", none()),
            of.node("n0", "SUCCEEDED", none()),
            of.node("n0", "RUNNING", none()),
            of.node("n0", "FAILED", error.clone()),
            of.task("n0", 0, "RETRYABLE_FAILED", error.clone()),
            of.task("n0", 0, "RUNNING", none()),
            of.task("n0", 0, "ABORTED", none()),
            of.task("n0", 0, "SUCCEEDED", none()),
        ],
    ));

    let mut of = Author::new("orphans");
    let nowhere = json!({"project": PROJECT, "domain": DOMAIN, "name": "nowhere"});
    sequences.push((
        "orphans",
        vec![
            of.task("n0", 0, "QUEUED", none()),
            of.node(
                "child",
                "QUEUED",
                json!({"parent_node_metadata": {"node_id": "n0"}}),
            ),
            of.node("n0", "QUEUED", none()),
            of.node(
                "child",
                "QUEUED",
                json!({"parent_node_metadata": {"node_id": "n0"}}),
            ),
            of.node(
                "made",
                "QUEUED",
                json!({"parent_task_metadata": {"id": {
                    "task_id": entity("TASK", "t"), "retry_attempt": 1,
                    "node_execution_id": of.node_id("n0"),
                }}}),
            ),
            of.workflow("RUNNING", json!({"execution_id": nowhere})),
            of.node(
                "n0",
                "RUNNING",
                json!({"id": {"node_id": "n0", "execution_id": nowhere}}),
            ),
            of.task(
                "n0",
                0,
                "RUNNING",
                json!({"parent_node_execution_id": {"node_id": "n0", "execution_id": nowhere}}),
            ),
            of.node(
                "n0",
                "RUNNING",
                json!({"workflow_node_metadata": {"execution_id": nowhere}}),
            ),
        ],
    ));

    let mut of = Author::new("gaps");
    sequences.push((
        "gaps",
        vec![
            Step::Workflow(None),
            Step::Node(None),
            Step::Task(None),
            of.workflow("RUNNING", json!({"execution_id": null})),
            of.workflow("RUNNING", json!({"execution_id": {"project": PROJECT}})),
            of.workflow("RUNNING", json!({"occurred_at": null})),
            of.node("", "RUNNING", none()),
            of.node("n0", "RUNNING", json!({"occurred_at": null})),
            of.node("n0", "RUNNING", json!({"parent_node_metadata": {}})),
            of.task("n0", 0, "RUNNING", json!({"occurred_at": null})),
            of.task("n0", 0, "RUNNING", json!({"task_id": null})),
        ],
    ));

    let mut of = Author::new("clusters");
    let foreign = json!({"producer_id": "other"});
    sequences.push((
        "clusters",
        vec![
            of.workflow("RUNNING", foreign.clone()),
            of.node("n0", "QUEUED", foreign.clone()),
            of.workflow("QUEUED", foreign.clone()),
            of.workflow("RUNNING", json!({"producer_id": "third"})),
            of.workflow("RUNNING", foreign.clone()),
            of.workflow("QUEUED", json!({"producer_id": "third"})),
            of.node("n0", "QUEUED", foreign.clone()),
            of.node("n0", "RUNNING", json!({"producer_id": "third"})),
            of.task("n0", 0, "QUEUED", json!({"producer_id": "third"})),
            of.task("n0", 0, "RUNNING", json!({"producer_id": "propeller"})),
        ],
    ));
    sequences
}

/// A sequence for the execution `name`. Most events are in a sensible order, some are anything at all.
pub(crate) fn random(seed: u64, name: &str) -> Vec<Step> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut author = Author::new(name);
    let mut steps: Vec<Step> = Vec::new();
    while steps.len() < STEPS {
        let repeat = !steps.is_empty() && dice.random_bool(0.1);
        let step = if repeat {
            steps[dice.random_range(0..steps.len())].clone()
        } else {
            match dice.random_range(0..10) {
                0 => random_workflow(&mut dice, &mut author),
                1..=4 => random_node(&mut dice, &mut author),
                _ => random_task(&mut dice, &mut author),
            }
        };
        steps.push(step);
    }
    steps
}

fn one_of<'a>(dice: &mut StdRng, choices: &[&'a str]) -> &'a str {
    choices[dice.random_range(0..choices.len())]
}

/// Members that any event may have, most of them rarely.
fn odds(dice: &mut StdRng) -> Map<String, Value> {
    let mut more = Map::new();
    if dice.random_bool(0.05) {
        more.insert("occurred_at".to_owned(), Value::Null);
    }
    if dice.random_bool(0.2) {
        let producer = one_of(dice, &["propeller", "propeller", "propeller", "other"]);
        more.insert("producer_id".to_owned(), json!(producer));
    }
    match dice.random_range(0..6) {
        0 => more.insert("output_uri".to_owned(), json!("s3://outputs")),
        1 => more.insert(
            "error".to_owned(),
            json!({"code": one_of(dice, &["a", "b"]), "message": "m", "kind": "SYSTEM"}),
        ),
        _ => None,
    };
    more
}

fn random_workflow(dice: &mut StdRng, author: &mut Author) -> Step {
    let phases = [
        "UNDEFINED",
        "QUEUED",
        "RUNNING",
        "RUNNING",
        "SUCCEEDING",
        "FAILING",
        "ABORTING",
    ];
    let ends = ["SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT"];
    let phase = if dice.random_bool(0.05) {
        one_of(dice, &ends)
    } else {
        one_of(dice, &phases)
    };
    let more = odds(dice);
    author.workflow(phase, more.into())
}

fn random_node(dice: &mut StdRng, author: &mut Author) -> Step {
    let node = one_of(dice, &["n0", "n1", "n2", "n0-child"]);
    let phase = one_of(
        dice,
        &[
            "UNDEFINED",
            "QUEUED",
            "QUEUED",
            "RUNNING",
            "RUNNING",
            "DYNAMIC_RUNNING",
            "FAILING",
            "SUCCEEDED",
            "FAILED",
            "ABORTED",
            "SKIPPED",
            "TIMED_OUT",
            "RECOVERED",
        ],
    );
    let mut more = odds(dice);
    for (member, chance) in [("is_parent", 0.2), ("is_dynamic", 0.1), ("is_array", 0.1)] {
        if dice.random_bool(chance) {
            more.insert(member.to_owned(), json!(true));
        }
    }
    if node == "n0-child" || dice.random_bool(0.05) {
        more.insert("parent_node_metadata".to_owned(), json!({"node_id": "n0"}));
    }
    if dice.random_bool(0.3) {
        more.insert("reported_at".to_owned(), author.time());
    }
    if dice.random_bool(0.2) {
        more.insert("deck_uri".to_owned(), json!("s3://deck"));
    }
    if dice.random_bool(0.2) {
        more.insert(
            "input_uri".to_owned(),
            json!(one_of(dice, &["s3://a", "s3://b"])),
        );
    }
    if dice.random_bool(0.3) {
        let catalog_key = dice
            .random_bool(0.5)
            .then(|| json!({"dataset_id": entity("DATASET", "d")}));
        more.insert(
            "task_node_metadata".to_owned(),
            json!({
                "cache_status": one_of(dice, &["CACHE_HIT", "CACHE_MISS", "CACHE_POPULATED"]),
                "catalog_key": catalog_key, "checkpoint_uri": one_of(dice, &["", "s3://checkpoint"]),
            }),
        );
    }
    author.node(node, phase, more.into())
}

fn random_task(dice: &mut StdRng, author: &mut Author) -> Step {
    let node = one_of(dice, &["n0", "n1", "n2"]);
    let phase = one_of(
        dice,
        &[
            "UNDEFINED",
            "QUEUED",
            "INITIALIZING",
            "WAITING_FOR_RESOURCES",
            "RUNNING",
            "RUNNING",
            "RUNNING",
            "RETRYABLE_FAILED",
            "SUCCEEDED",
            "FAILED",
            "ABORTED",
        ],
    );
    let mut more = odds(dice);
    more.insert("phase_version".to_owned(), json!(dice.random_range(0..4)));
    if dice.random_bool(0.3) {
        let name = one_of(dice, &["l1", "l2"]);
        more.insert(
            "logs".to_owned(),
            json!([{"uri": one_of(dice, &["u", "v"]), "name": name}]),
        );
    }
    if dice.random_bool(0.3) {
        more.insert(
            "reason".to_owned(),
            json!(one_of(dice, &["because", "therefore"])),
        );
    }
    if dice.random_bool(0.2) {
        more.insert(
            "custom_info".to_owned(),
            json!({"k": dice.random_range(0..3)}),
        );
    }
    if dice.random_bool(0.3) {
        let phase = one_of(dice, &["QUEUED", "RUNNING", "SUCCEEDED"]);
        let resource = json!({
            "index": dice.random_range(0..3), "retry_attempt": dice.random_range(0..2),
            "external_id": one_of(dice, &["x", "y"]), "phase": phase,
        });
        let name = one_of(dice, &["", "pod"]);
        more.insert(
            "metadata".to_owned(),
            json!({"external_resources": [resource], "generated_name": name}),
        );
    }
    author.task(node, dice.random_range(0..2), phase, more.into())
}
