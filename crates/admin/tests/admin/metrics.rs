//! What is counted of calls, seen from outside.

use axum::body::Body;
use http::Request;

use crate::harness::{Store, World};

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
