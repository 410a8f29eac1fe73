//! The transition tables of spec 01 §13, cell by cell.

use flyte_core::identifiers::{ExecutionId, NodeExecutionId, NodeId, TaskExecutionId};
use flyte_idl::{
    core::{self, node_execution, task_execution, workflow_execution},
    event::{NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent},
    stored::Stored,
};
use jiff::Timestamp;

use super::{check_cluster, node, task, workflow};
use crate::{
    error::Error,
    records::{Execution, NodeExecution, RowNumber, TaskExecution},
    time,
};

fn at(second: i64) -> prost_types::Timestamp {
    time::to_wire(Timestamp::from_second(second).unwrap())
}

fn execution_id() -> ExecutionId {
    ExecutionId::new("p", "d", "e").unwrap()
}

fn execution(phase: &str) -> Execution {
    Execution {
        row: RowNumber::new(1),
        phase: phase.into(),
        ..Execution::new(execution_id())
    }
}

fn workflow_event(phase: workflow_execution::Phase, second: i64) -> WorkflowExecutionEvent {
    WorkflowExecutionEvent {
        execution_id: Some(execution_id().to_proto()),
        phase: phase as i32,
        occurred_at: Some(at(second)),
        ..Default::default()
    }
}

/// The first word of what became of an event.
fn verdict(outcome: &Result<(), Error>) -> &'static str {
    match outcome {
        Ok(()) => "accepted",
        Err(Error::PhaseRecorded(_)) => "recorded",
        Err(Error::Terminal { .. }) => "ended",
        Err(Error::ForeignCluster { .. }) => "foreign",
        Err(Error::Precondition(_)) => "refused",
        Err(Error::Invalid(_)) => "invalid",
        Err(_) => "other",
    }
}

#[test]
fn workflows_move_as_the_table_says() {
    use workflow_execution::Phase::{
        Aborted, Aborting, Failed, Queued, Running, Succeeded, Succeeding, Undefined,
    };
    for (stored, event, expected) in [
        ("UNDEFINED", Succeeded, "accepted"),
        ("UNDEFINED", Undefined, "recorded"),
        ("QUEUED", Queued, "accepted"),
        ("SUCCEEDING", Queued, "accepted"),
        ("RUNNING", Running, "recorded"),
        ("RUNNING", Queued, "refused"),
        ("RUNNING", Failed, "accepted"),
        ("SUCCEEDED", Succeeded, "recorded"),
        ("SUCCEEDED", Running, "ended"),
        ("SUCCEEDED", Queued, "ended"),
        ("FAILED", Succeeded, "ended"),
        ("ABORTING", Running, "refused"),
        ("ABORTING", Queued, "refused"),
        ("ABORTING", Aborting, "recorded"),
        ("ABORTING", Aborted, "accepted"),
        ("ABORTING", Failed, "accepted"),
        ("ABORTED", Failed, "ended"),
        ("RUNNING", Succeeding, "accepted"),
    ] {
        let outcome = workflow::apply(&mut execution(stored), &workflow_event(event, 1));
        assert_eq!(verdict(&outcome), expected, "{stored} then {event:?}");
    }
}

#[test]
fn a_workflow_measures_its_run_from_running_to_the_end() {
    let mut record = execution("UNDEFINED");
    workflow::apply(
        &mut record,
        &workflow_event(workflow_execution::Phase::Running, 10),
    )
    .unwrap();
    workflow::apply(
        &mut record,
        &workflow_event(workflow_execution::Phase::Succeeded, 25),
    )
    .unwrap();
    assert_eq!(record.duration, 15_000_000_000);
    let closure = record.closure.get();
    assert_eq!(closure.started_at, Some(at(10)));
    assert_eq!(closure.updated_at, Some(at(25)));
    assert_eq!(
        closure.duration,
        Some(time::duration_to_wire(15_000_000_000))
    );
}

#[test]
fn a_queued_event_of_a_named_cluster_moves_the_execution_there() {
    let mut record = execution("UNDEFINED");
    let mut event = workflow_event(workflow_execution::Phase::Queued, 1);
    event.producer_id = "other".to_owned();
    workflow::apply(&mut record, &event).unwrap();
    assert_eq!(record.cluster, "other");
    let mut event = workflow_event(workflow_execution::Phase::Running, 1);
    event.producer_id = "third".to_owned();
    assert_eq!(verdict(&workflow::apply(&mut record, &event)), "foreign");
    assert_eq!(verdict(&check_cluster("c", "propeller")), "accepted");
    assert_eq!(verdict(&check_cluster("c", "c")), "accepted");
}

#[test]
fn an_event_without_a_time_is_refused_after_the_transition_is_checked() {
    let mut event = workflow_event(workflow_execution::Phase::Running, 1);
    event.occurred_at = None;
    assert_eq!(
        verdict(&workflow::check(&execution("SUCCEEDED"), &event)),
        "ended"
    );
    assert_eq!(
        verdict(&workflow::check(&execution("QUEUED"), &event)),
        "invalid"
    );
}

#[test]
fn unknown_fields_of_a_closure_survive_an_event() {
    let mut record = execution("UNDEFINED");
    // Field 900 of a newer version.
    let mut bytes = record.closure.bytes().to_vec();
    prost::encoding::string::encode(900, &"newer".to_owned(), &mut bytes);
    record.closure = Stored::decode(bytes).unwrap();
    workflow::apply(
        &mut record,
        &workflow_event(workflow_execution::Phase::Running, 10),
    )
    .unwrap();
    let kept = record
        .closure
        .bytes()
        .windows(5)
        .any(|bytes| bytes == b"newer");
    assert!(kept);
}

fn node_id() -> NodeExecutionId {
    NodeExecutionId {
        execution: execution_id(),
        node: NodeId::new("n0").unwrap(),
    }
}

fn node_event(phase: node_execution::Phase, second: i64) -> NodeExecutionEvent {
    NodeExecutionEvent {
        id: Some(node_id().to_proto()),
        phase: phase as i32,
        occurred_at: Some(at(second)),
        ..Default::default()
    }
}

fn stored_node(phase: node_execution::Phase) -> NodeExecution {
    node::create(node_id(), &node_event(phase, 1), &node::Resolved::default()).unwrap()
}

#[test]
fn nodes_move_unless_they_have_ended() {
    use node_execution::Phase::{
        DynamicRunning, Failed, Failing, Queued, Recovered, Running, Skipped, Succeeded,
    };
    for (stored, event, expected) in [
        (Queued, Queued, "recorded"),
        (Queued, Running, "accepted"),
        (Running, Queued, "accepted"),
        (Running, DynamicRunning, "accepted"),
        (Failing, Failed, "accepted"),
        (Succeeded, Succeeded, "recorded"),
        (Succeeded, Running, "ended"),
        (Skipped, Running, "ended"),
        (Recovered, Failed, "ended"),
    ] {
        let mut record = stored_node(stored);
        let outcome = node::apply(
            &mut record,
            &node_event(event, 2),
            &node::Resolved::default(),
        );
        assert_eq!(verdict(&outcome), expected, "{stored:?} then {event:?}");
    }
}

#[test]
fn what_a_node_is_only_ever_becomes_more() {
    let mut record = stored_node(node_execution::Phase::Queued);
    let mut event = node_event(node_execution::Phase::Running, 2);
    (event.is_parent, event.is_dynamic) = (true, true);
    let context = node::Resolved {
        dynamic_closure_uri: "s3://closure".to_owned(),
        ..Default::default()
    };
    node::apply(&mut record, &event, &context).unwrap();
    let event = node_event(node_execution::Phase::Succeeded, 7);
    node::apply(&mut record, &event, &node::Resolved::default()).unwrap();
    assert!(record.metadata.get().is_parent_node && record.metadata.get().is_dynamic);
    assert_eq!(record.dynamic_closure_uri, "s3://closure");
    assert_eq!(record.duration, 5_000_000_000);
}

#[test]
fn a_reported_time_is_when_a_node_changed() {
    let mut event = node_event(node_execution::Phase::Queued, 5);
    event.reported_at = Some(at(9));
    let record = node::create(node_id(), &event, &node::Resolved::default()).unwrap();
    assert_eq!(record.created_at, Timestamp::from_second(5).ok());
    assert_eq!(record.updated_at, Timestamp::from_second(9).ok());
    event.reported_at = Some(at(0));
    let record = node::create(node_id(), &event, &node::Resolved::default()).unwrap();
    assert_eq!(record.updated_at, Timestamp::from_second(5).ok());
}

fn task_id() -> TaskExecutionId {
    let task = core::Identifier {
        resource_type: core::ResourceType::Task as i32,
        project: "p".to_owned(),
        domain: "d".to_owned(),
        name: "t".to_owned(),
        version: "v".to_owned(),
        org: String::new(),
    };
    let id = core::TaskExecutionIdentifier {
        task_id: Some(task),
        node_execution_id: Some(node_id().to_proto()),
        retry_attempt: 0,
    };
    TaskExecutionId::from_proto(Some(&id)).unwrap()
}

fn task_event(phase: task_execution::Phase, version: u32) -> TaskExecutionEvent {
    TaskExecutionEvent {
        phase: phase as i32,
        phase_version: version,
        occurred_at: Some(at(1)),
        ..Default::default()
    }
}

fn stored_task(phase: task_execution::Phase, version: u32) -> TaskExecution {
    task::create(task_id(), &task_event(phase, version)).unwrap()
}

#[test]
fn attempts_move_by_phase_and_version() {
    use task_execution::Phase::{Aborted, Failed, Queued, RetryableFailed, Running, Succeeded};
    for (stored, event, expected) in [
        ((Queued, 0), (Queued, 0), "recorded"),
        ((Queued, 1), (Queued, 2), "accepted"),
        ((Queued, 2), (Queued, 1), "recorded"),
        ((Queued, 3), (Running, 0), "accepted"),
        ((Running, 0), (Queued, 0), "accepted"),
        ((RetryableFailed, 0), (Running, 0), "accepted"),
        ((Succeeded, 0), (Succeeded, 0), "recorded"),
        ((Succeeded, 0), (Running, 1), "ended"),
        ((Failed, 0), (Failed, 1), "ended"),
        ((Aborted, 0), (Succeeded, 0), "ended"),
    ] {
        let mut record = stored_task(stored.0, stored.1);
        let outcome = task::apply(&mut record, &task_event(event.0, event.1));
        assert_eq!(verdict(&outcome), expected, "{stored:?} then {event:?}");
    }
}

#[test]
fn custom_information_is_patched() {
    let info = |text: &str| {
        let object = serde_json::from_str(text).unwrap();
        Some(flyte_idl::json::json_to_struct(&object))
    };
    let mut event = task_event(task_execution::Phase::Queued, 0);
    event.custom_info = info(r#"{"a": 1, "b": {"c": 2, "d": [1, 2]}}"#);
    let mut record = task::create(task_id(), &event).unwrap();
    let mut event = task_event(task_execution::Phase::Running, 0);
    event.custom_info = info(r#"{"a": null, "b": {"d": [3]}}"#);
    task::apply(&mut record, &event).unwrap();
    assert_eq!(
        record.closure.get().custom_info,
        info(r#"{"b": {"c": 2, "d": [3]}}"#)
    );
}
