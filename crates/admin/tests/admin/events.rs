//! Events, from the first to the refused ones.

use std::{sync::Arc, time::Duration};

use flyte_admin::config::AdminConfig;
use flyte_idl::admin;
use flyte_platform::blob::BlobStore;
use serde_json::{Value, json};

use crate::{
    harness::{Store, World, code_name, config},
    on_both_databases,
    rendezvous::Rendezvous,
    seed,
};

/// More than any event takes.
const WITHIN: Duration = Duration::from_secs(20);

on_both_databases!(
    an_execution_runs_through_its_events,
    the_same_event_from_two_admins_is_recorded_once,
    inline_outputs_go_to_the_blob_store,
    inline_inputs_and_outputs_are_written_at_the_same_time,
    a_phase_version_starts_again_with_a_new_phase
);

fn execution() -> Value {
    json!({"project": "flytesnacks", "domain": "development", "name": "ev"})
}

fn node(id: &str) -> Value {
    json!({"node_id": id, "execution_id": execution()})
}

fn task_id() -> Value {
    json!({"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": "recwf.square", "version": "rec1"})
}

pub(crate) async fn started(store: Store) -> World {
    started_with(store, config()).await
}

pub(crate) async fn started_with(store: Store, config: AdminConfig) -> World {
    let world = World::start_with(store, config).await;
    launch(&world).await;
    world
}

/// Creates the execution that the events of these tests are about.
pub(crate) async fn launch(world: &World) {
    seed::entities(world).await;
    let request = json!({
        "project": "flytesnacks", "domain": "development", "name": "ev",
        "spec": {"launch_plan": {"resource_type": "LAUNCH_PLAN", "project": "flytesnacks", "domain": "development", "name": "recwf.sub", "version": "rec1"}},
        "inputs": {"literals": {"n": {"scalar": {"primitive": {"integer": "1"}}}}},
    });
    let _: admin::ExecutionCreateResponse = world.get("CreateExecution", &request).await.unwrap();
}

pub(crate) async fn workflow_event(
    world: &World,
    phase: &str,
    second: u32,
    more: Value,
) -> &'static str {
    let mut event = json!({"execution_id": execution(), "phase": phase, "occurred_at": format!("2026-01-01T00:00:{second:02}Z")});
    event
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let answer = world
        .get::<admin::WorkflowExecutionEventResponse>(
            "CreateWorkflowEvent",
            &json!({"event": event}),
        )
        .await;
    answer.map_or_else(|status| code_name(status.code()), |_| "OK")
}

pub(crate) async fn node_event(world: &World, id: &str, phase: &str, more: Value) -> &'static str {
    let mut event = json!({"id": node(id), "phase": phase, "occurred_at": "2026-01-01T00:00:05Z", "event_version": 2});
    event
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let answer = world
        .get::<admin::NodeExecutionEventResponse>("CreateNodeEvent", &json!({"event": event}))
        .await;
    answer.map_or_else(|status| code_name(status.code()), |_| "OK")
}

pub(crate) async fn task_event(
    world: &World,
    phase: &str,
    version: u32,
    more: Value,
) -> &'static str {
    let mut event = json!({"task_id": task_id(), "parent_node_execution_id": node("n0"), "phase": phase, "phase_version": version, "occurred_at": "2026-01-01T00:00:06Z"});
    event
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let answer = world
        .get::<admin::TaskExecutionEventResponse>("CreateTaskEvent", &json!({"event": event}))
        .await;
    answer.map_or_else(|status| code_name(status.code()), |_| "OK")
}

async fn an_execution_runs_through_its_events(store: Store) {
    let world = started(store).await;
    let none = json!({});
    assert_eq!(
        workflow_event(&world, "RUNNING", 1, none.clone()).await,
        "OK"
    );
    assert_eq!(
        workflow_event(&world, "RUNNING", 2, none.clone()).await,
        "ALREADY_EXISTS"
    );
    assert_eq!(
        workflow_event(&world, "QUEUED", 2, none.clone()).await,
        "FAILED_PRECONDITION"
    );
    assert_eq!(
        node_event(
            &world,
            "n0",
            "QUEUED",
            json!({"input_uri": "s3://in", "spec_node_id": "n0"})
        )
        .await,
        "OK"
    );
    assert_eq!(
        node_event(&world, "n0", "QUEUED", none.clone()).await,
        "ALREADY_EXISTS"
    );
    assert_eq!(task_event(&world, "RUNNING", 0, none.clone()).await, "OK");
    assert_eq!(
        node_event(&world, "n0", "RUNNING", none.clone()).await,
        "OK"
    );
    assert_eq!(
        node_event(
            &world,
            "n0-a",
            "QUEUED",
            json!({"parent_node_metadata": {"node_id": "n0"}})
        )
        .await,
        "OK"
    );
    assert_eq!(
        node_event(
            &world,
            "n0-b",
            "QUEUED",
            json!({"parent_node_metadata": {"node_id": "zz"}})
        )
        .await,
        "NOT_FOUND"
    );
    assert_eq!(
        task_event(&world, "SUCCEEDED", 0, json!({"output_uri": "s3://out"})).await,
        "OK"
    );
    assert_eq!(
        task_event(&world, "RUNNING", 1, none.clone()).await,
        "FAILED_PRECONDITION"
    );
    assert_eq!(
        node_event(&world, "n0", "SUCCEEDED", json!({"output_uri": "s3://out"})).await,
        "OK"
    );
    assert_eq!(
        workflow_event(&world, "SUCCEEDED", 31, json!({"output_uri": "s3://out"})).await,
        "OK"
    );
    assert_eq!(
        workflow_event(&world, "FAILED", 32, none).await,
        "FAILED_PRECONDITION"
    );
    let done: admin::Execution = world
        .get("GetExecution", &json!({"id": execution()}))
        .await
        .unwrap();
    let closure = done.closure.unwrap();
    assert_eq!(closure.phase().as_str_name(), "SUCCEEDED");
    assert_eq!(closure.duration.unwrap().seconds, 30);
    let nodes: admin::NodeExecutionList = world
        .get(
            "ListNodeExecutions",
            &json!({"workflow_execution_id": execution(), "limit": 10}),
        )
        .await
        .unwrap();
    assert_eq!(nodes.node_executions.len(), 1);
    assert!(
        nodes.node_executions[0]
            .metadata
            .as_ref()
            .unwrap()
            .is_parent_node,
        "a node with children unfolds in lists"
    );
    let children: admin::NodeExecutionList = world
        .get(
            "ListNodeExecutions",
            &json!({"workflow_execution_id": execution(), "limit": 10, "unique_parent_id": "n0"}),
        )
        .await
        .unwrap();
    assert_eq!(
        children.node_executions[0].id.as_ref().unwrap().node_id,
        "n0-a"
    );
}

async fn the_same_event_from_two_admins_is_recorded_once(store: Store) {
    let world = started(store).await;
    let events = (0..6).map(|_| node_event(&world, "n0", "QUEUED", json!({})));
    let mut codes = futures::future::join_all(events).await;
    codes.sort_unstable();
    assert_eq!(codes.last(), Some(&"OK"));
    assert_eq!(
        codes
            .iter()
            .filter(|code| **code == "ALREADY_EXISTS")
            .count(),
        5,
        "{codes:?}"
    );
    let events = (0..6).map(|_| workflow_event(&world, "RUNNING", 1, json!({})));
    let codes = futures::future::join_all(events).await;
    assert_eq!(
        codes.iter().filter(|code| **code == "OK").count(),
        1,
        "{codes:?}"
    );
}

async fn inline_outputs_go_to_the_blob_store(store: Store) {
    let world = started(store).await;
    let outputs =
        json!({"output_data": {"literals": {"o0": {"scalar": {"primitive": {"integer": "7"}}}}}});
    let inputs =
        json!({"input_data": {"literals": {"n": {"scalar": {"primitive": {"integer": "1"}}}}}});
    assert_eq!(node_event(&world, "n0", "QUEUED", inputs).await, "OK");
    assert_eq!(
        node_event(&world, "n0", "SUCCEEDED", outputs.clone()).await,
        "OK"
    );
    let data: admin::NodeExecutionGetDataResponse = world
        .get("GetNodeExecutionData", &json!({"id": node("n0")}))
        .await
        .unwrap();
    assert_eq!(data.full_inputs.unwrap().literals.len(), 1);
    assert_eq!(data.full_outputs.unwrap().literals.len(), 1);
    assert_eq!(
        data.flyte_urls.unwrap().outputs,
        "flyte://v1/flytesnacks/development/ev/n0/o"
    );
    assert_eq!(workflow_event(&world, "SUCCEEDED", 3, outputs).await, "OK");
    assert!(
        world
            .blobs
            .exists("mem://container/metadata/flytesnacks/development/ev/offloaded_outputs")
            .await
            .unwrap()
    );
}

async fn inline_inputs_and_outputs_are_written_at_the_same_time(store: Store) {
    let world = started(store).await;
    let data = json!({"literals": {"n": {"scalar": {"primitive": {"integer": "1"}}}}});
    let both = json!({"input_data": data, "output_data": data});
    let blobs = Arc::new(Rendezvous::of(2));
    let world = world.over(BlobStore::over("mem", "container", blobs, None));
    let node = node_event(&world, "n0", "SUCCEEDED", both.clone());
    let node = tokio::time::timeout(WITHIN, node).await;
    assert_eq!(node.expect("one waits for the other"), "OK");
    let task = tokio::time::timeout(WITHIN, task_event(&world, "SUCCEEDED", 0, both)).await;
    assert_eq!(task.expect("one waits for the other"), "OK");
}

async fn a_phase_version_starts_again_with_a_new_phase(store: Store) {
    let world = started(store).await;
    assert_eq!(node_event(&world, "n0", "QUEUED", json!({})).await, "OK");
    assert_eq!(
        task_event(&world, "QUEUED", 3, json!({"reason": "waiting"})).await,
        "OK"
    );
    assert_eq!(
        task_event(&world, "QUEUED", 3, json!({})).await,
        "ALREADY_EXISTS"
    );
    assert_eq!(
        task_event(
            &world,
            "RUNNING",
            0,
            json!({"logs": [{"name": "a", "uri": "u"}]})
        )
        .await,
        "OK"
    );
    // The reference keeps version 3 and refuses this one.
    assert_eq!(
        task_event(&world, "RUNNING", 1, json!({"reason": "still"})).await,
        "OK"
    );
    let task: admin::TaskExecution = world
        .get(
            "GetTaskExecution",
            &json!({"id": {"task_id": task_id(), "node_execution_id": node("n0")}}),
        )
        .await
        .unwrap();
    let closure = task.closure.unwrap();
    assert_eq!(closure.logs.len(), 1);
    assert_eq!(closure.reasons.len(), 2);
}
