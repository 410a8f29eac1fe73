//! What is counted, seen from outside, and whether it has the names of Go's single binary.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::{
    events::{node_event, started, task_event, workflow_event},
    harness::{Store, World},
};

/// Names that Go has and this does not, as beginnings, and why.
const LEFT_OUT: [(&str, &str); 9] = [
    (
        "flyte:admin:admin:execution_manager:publish_error",
        NOTIFICATIONS,
    ),
    (
        "flyte:admin:admin:execution_manager:transformer_error",
        NOTIFICATIONS,
    ),
    (
        "flyte:admin:admin:execution_manager:unexpected_data_error",
        NOTIFICATIONS,
    ),
    (
        "flyte:admin:admin:execution_manager:publish_event_error",
        EVENTS,
    ),
    (
        "flyte:admin:admin:node_execution_manager:publish_event_error",
        EVENTS,
    ),
    (
        "flyte:admin:admin:task_execution_manager:publish_event_error",
        EVENTS,
    ),
    (
        "flyte:admin:admin:launch_plan_manager:failed_schedule_updates",
        "schedules come with flytescheduler",
    ),
    ("flyte:admin:storage:marshal_ms", ENCODED),
    ("flyte:admin:storage:marshal_failure", ENCODED),
];

const NOTIFICATIONS: &str = "notifications are not sent yet";
const EVENTS: &str = "events are not published yet";
const ENCODED: &str = "messages are encoded before the store sees them, and that cannot fail";

/// Names that this has and the recording does not, and why.
const ADDED: [(&str, &str); 2] = [
    ("flyte:admin:admin:errors:unreadable_rows", UNREADABLE),
    ("flyte:admin:signal:errors:unreadable_rows", UNREADABLE),
];

const UNREADABLE: &str = "lists go on without rows that the reference fails at";

/// The value of a series, 0 if it is not there.
fn value(text: &str, series: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
        .unwrap_or_default()
}

async fn get(world: &World, path: &str) -> u16 {
    let request = Request::get(path).body(Body::empty()).unwrap();
    world.http(request).await.status().as_u16()
}

#[tokio::test]
async fn a_call_by_rest_counts_once_and_as_the_rpc_that_it_is() {
    let world = World::start(Store::Sqlite).await;
    let path = "/api/v1/executions/flytesnacks/development/nobody";
    assert_eq!(get(&world, path).await, 404);
    let text = world.metrics.render();
    let labels = r#"grpc_method="GetExecution",grpc_service="flyteidl.service.AdminService",grpc_type="unary""#;
    for (series, count) in [
        ("flyte:admin:admin:get_execution:codes:NotFound", 1.0),
        ("flyte:admin:admin:get_execution:errors", 1.0),
        ("flyte:admin:admin:get_execution:success", 0.0),
        ("flyte:admin:admin:get_execution:duration_ms_count", 1.0),
        ("flyte:admin:admin:database:executions:get_ms_count", 1.0),
        ("flyte:admin:signal:database:executions:get_ms_count", 0.0),
        (&format!("grpc_server_started_total{{{labels}}}"), 1.0),
        (&format!("grpc_server_msg_received_total{{{labels}}}"), 1.0),
        (&format!("grpc_server_msg_sent_total{{{labels}}}"), 0.0),
        (
            &format!("grpc_server_handled_total{{grpc_code=\"NotFound\",{labels}}}"),
            1.0,
        ),
    ] {
        assert!(
            (value(&text, series) - count).abs() < f64::EPSILON,
            "{series} in {text}"
        );
    }
    assert_eq!(get(&world, "/api/v1/projects").await, 200);
    let text = world.metrics.render();
    for series in [
        "flyte:admin:admin:list_projects:codes:OK",
        "flyte:admin:admin:list_projects:success",
    ] {
        assert!(
            (value(&text, series) - 1.0).abs() < f64::EPSILON,
            "{series}"
        );
    }
}

#[tokio::test]
async fn a_call_by_grpc_counts_once() {
    let world = World::start(Store::Sqlite).await;
    let id = serde_json::json!({"id": {"project": "flytesnacks", "domain": "development", "name": "nobody"}});
    let refused = world
        .call("flyteidl.service.AdminService/GetExecution", &id)
        .await;
    assert!(refused.is_err());
    let text = world.metrics.render();
    let counted = value(&text, "flyte:admin:admin:get_execution:codes:NotFound");
    assert!((counted - 1.0).abs() < f64::EPSILON, "{text}");
}

/// The value of a series that must be there.
#[track_caller]
fn require(text: &str, series: &str, expected: f64) {
    assert!(
        text.lines()
            .any(|line| line.starts_with(&format!("{series} "))),
        "{series} in {text}"
    );
    let counted = value(text, series);
    assert!(
        (counted - expected).abs() < f64::EPSILON,
        "{series} is {counted}"
    );
}

#[tokio::test]
async fn namespaces_are_counted_as_they_come() {
    let world = World::start(Store::Sqlite).await;
    world.admin.sync_cluster_resources().await.unwrap();
    let text = world.metrics.render();
    for (name, count) in [
        ("k8s_resource_syncs", 2.0),
        ("k8s_resources_created", 4.0),
        ("applied_template_exists", 4.0),
        ("resources_added", 8.0),
        ("sync_errors", 0.0),
    ] {
        require(&text, &format!("flyte:clusterresource:{name}"), count);
    }
}

/// One execution with a node, a task and a signal, from its creation to its end.
async fn run() -> World {
    let world = started(Store::Sqlite).await;
    let none = json!({});
    let outputs =
        json!({"output_data": {"literals": {"o0": {"scalar": {"primitive": {"integer": "1"}}}}}});
    for done in [
        workflow_event(&world, "RUNNING", 1, none.clone()).await,
        node_event(&world, "n0", "QUEUED", none.clone()).await,
        node_event(&world, "n0", "RUNNING", none.clone()).await,
        task_event(&world, "QUEUED", 0, none.clone()).await,
        task_event(&world, "RUNNING", 0, none.clone()).await,
        task_event(&world, "SUCCEEDED", 0, outputs.clone()).await,
        node_event(&world, "n0", "SUCCEEDED", outputs.clone()).await,
    ] {
        assert_eq!(done, "OK");
    }
    let signal = json!({"execution_id": {"project": "flytesnacks", "domain": "development", "name": "ev"}, "signal_id": "s"});
    let service = "flyteidl.service.SignalService";
    for (method, request) in [
        (
            "GetOrCreateSignal",
            json!({"id": signal, "type": {"simple": "INTEGER"}}),
        ),
        (
            "SetSignal",
            json!({"id": signal, "value": {"scalar": {"primitive": {"integer": "1"}}}}),
        ),
    ] {
        let answer = world.call(&format!("{service}/{method}"), &request).await;
        assert!(answer.is_ok(), "{method}: {answer:?}");
    }
    world
}

#[tokio::test]
async fn an_execution_is_counted_on_its_way() {
    let world = run().await;
    let of = |name: &str| format!("flyte:admin:admin:{name}");
    let text = world.metrics.render();
    for (name, count) in [
        ("execution_manager:active_executions", 1.0),
        ("execution_manager:executions_created", 1.0),
        ("execution_manager:execution_events_created", 1.0),
        ("execution_manager:acceptance_delay_count", 1.0),
        ("execution_manager:spec_size_bytes_count", 1.0),
        ("execution_manager:propeller_failures", 0.0),
        ("builder:flytepropeller:build_successes", 1.0),
        ("node_execution_manager:active_node_executions", 0.0),
        ("node_execution_manager:node_executions_created", 1.0),
        ("node_execution_manager:node_execution_events_created", 3.0),
        ("node_execution_manager:output_size_bytes_count", 1.0),
        ("task_execution_manager:active_executions", 0.0),
        ("task_execution_manager:task_executions_created", 1.0),
        ("task_execution_manager:closure_size_bytes_count", 1.0),
        ("database:executions:create_ms_count", 1.0),
        ("handler_panic", 0.0),
    ] {
        require(&text, &of(name), count);
    }
    let ended = workflow_event(&world, "SUCCEEDED", 3, json!({})).await;
    assert_eq!(ended, "OK");
    let refused = node_event(&world, "n1", "RUNNING", json!({"producer_id": "nobody"})).await;
    assert_eq!(refused, "FAILED_PRECONDITION");
    let text = world.metrics.render();
    let scope = "execution_manager:flytesnacks:development:workflow_execution_duration_ns_count";
    for (name, count) in [
        ("execution_manager:active_executions", 0.0),
        ("execution_manager:execution_events_created", 2.0),
        (scope, 1.0),
        ("node_execution_manager:missing_workflow_execution", 0.0),
    ] {
        require(&text, &of(name), count);
    }
    let labels = "app_name=\"\",domain=\"development\",failure_type=\"\",node=\"n0\",project=\"flytesnacks\",\
                  runtime_type=\"\",runtime_version=\"\",task=\"recwf.square-0\",tasktype=\"\",wf=\"\"";
    require(
        &text,
        &of(&format!(
            "task_execution_manager:task_executions_terminated{{{labels}}}"
        )),
        1.0,
    );
}

/// Name, type and names of labels of everything below `flyte:admin:`.
fn families(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            name.clone_into(&mut current);
            if name.starts_with("flyte:admin:") {
                families.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
            }
        } else if let Some((_, labels)) = line.split_once('{')
            && let Some((_, names)) = families.get_mut(&current)
        {
            let labels = labels.split('}').next().unwrap();
            names.extend(
                labels
                    .split(',')
                    .map(|label| label.split('=').next().unwrap().to_owned()),
            );
        }
    }
    families
}

#[tokio::test]
async fn names_types_and_labels_are_those_of_go() {
    let world = run().await;
    workflow_event(&world, "SUCCEEDED", 3, json!({})).await;
    // Blobs that are gone.
    for blob in world.blobs.list(&world.blobs.base(), 1_000).await.unwrap() {
        world.blobs.delete(&blob).await.unwrap();
    }
    drop(
        world
            .call(
                "flyteidl.service.AdminService/GetWorkflow",
                &json!({"id": {"resource_type": "WORKFLOW", "project": "flytesnacks", "domain": "development", "name": "recwf.sub", "version": "rec1"}}),
            )
            .await,
    );
    let ours = families(&world.metrics.render());
    let recorded: BTreeMap<String, (String, BTreeSet<String>)> =
        include_str!("../data/metrics.tsv")
            .lines()
            .map(|line| {
                let columns: Vec<&str> = line.split('\t').collect();
                let labels = columns[2].split(',').filter(|label| !label.is_empty());
                (
                    columns[0].to_owned(),
                    (columns[1].to_owned(), labels.map(str::to_owned).collect()),
                )
            })
            .collect();
    let listed =
        |list: &[(&str, &str)], name: &str| list.iter().any(|(begin, _)| name.starts_with(begin));
    let missing: Vec<&String> = recorded
        .keys()
        .filter(|name| !ours.contains_key(*name) && !listed(&LEFT_OUT, name))
        .collect();
    assert!(missing.is_empty(), "Go has {missing:#?}");
    let more: Vec<&String> = ours
        .keys()
        .filter(|name| !recorded.contains_key(*name) && !listed(&ADDED, name))
        .collect();
    assert!(more.is_empty(), "Go does not have {more:#?}");
    for (name, value) in &ours {
        if let Some(go) = recorded.get(name) {
            assert_eq!(value, go, "{name}");
        }
    }
    for (begin, reason) in LEFT_OUT {
        assert!(
            recorded.keys().any(|name| name.starts_with(begin)),
            "{begin}: {reason}"
        );
        assert!(
            !ours.keys().any(|name| name.starts_with(begin)),
            "{begin} is there now"
        );
    }
    for (begin, reason) in ADDED {
        assert!(
            ours.keys().any(|name| name.starts_with(begin)),
            "{begin}: {reason}"
        );
    }
}
