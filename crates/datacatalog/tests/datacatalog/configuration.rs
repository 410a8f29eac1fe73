//! What each key of the configuration changes, as clients and operators see it.

use std::time::Duration;

use flyte_datacatalog::config::CatalogConfig;
use flyte_idl::datacatalog::{GetDatasetRequest, GetOrExtendReservationRequest, ReservationId};
use flyte_platform::{
    Clock, Tasks,
    config::{Config, Sources},
};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::ServiceExt as _;

use crate::harness::{Settings, Store, World, get, refusal, task};

/// How long anything here may take before its test fails.
const WITHIN: Duration = Duration::from_secs(60);

/// What a file with this text configures.
fn configured(text: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("datacatalog.yaml");
    std::fs::write(&file, text).unwrap();
    let mut loaded = Config::load(Sources {
        pattern: file.display().to_string(),
        ..Sources::default()
    })
    .unwrap();
    let config = CatalogConfig::read(&mut loaded);
    assert_eq!(loaded.finish().unwrap(), []);
    Settings {
        application: config.application,
        datacatalog: config.datacatalog,
    }
}

#[tokio::test]
async fn the_prefix_is_where_new_objects_go() {
    let settings = configured("datacatalog: {storage-prefix: metadata/here}");
    let world = World::start_with(Store::Sqlite, &settings).await;
    let id = task("prefix");
    world.dataset(&id, &[]).await;
    world.artifact(&id, "a", &[("o0", 1)]).await.unwrap();
    assert_eq!(
        world.keys().await,
        [
            "metadata/here/flytesnacks/development/flyte_task-prefix/1.0-jUwlIzHW-PmK8qF6C/a/o0/data.pb"
        ]
    );
}

#[tokio::test]
async fn reservations_last_as_long_as_is_configured() {
    let settings = configured(
        "datacatalog: {max-reservation-heartbeat: 30s, heartbeat-grace-period-multiplier: 4}",
    );
    let world = World::start_with(Store::Sqlite, &settings).await;
    let start = Timestamp::from_second(1_700_000_000).unwrap();
    let request = GetOrExtendReservationRequest {
        reservation_id: Some(ReservationId {
            dataset_id: Some(task("reserved")),
            tag_name: "t".to_owned(),
        }),
        owner_id: "a".to_owned(),
        heartbeat_interval: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
    };
    let mut client = world.at(&settings, Clock::simulated(start));
    let held = client.get_or_extend_reservation(request).await.unwrap();
    let held = held.into_inner().reservation.unwrap();
    assert_eq!(held.heartbeat_interval.unwrap().seconds, 30);
    let lasts = held.expires_at.unwrap().seconds - start.as_second();
    assert!((120..123).contains(&lasts), "{lasts}");
}

#[tokio::test]
async fn messages_may_be_as_large_as_is_configured() {
    let settings = configured("application: {grpcMaxRecvMsgSizeMBs: 1}");
    let world = World::start_with(Store::Sqlite, &settings).await;
    let mut id = task("large");
    id.version = "x".repeat(1024 * 1024);
    let request = GetDatasetRequest { dataset: Some(id) };
    let size = prost::Message::encoded_len(&request);
    let refused = refusal(world.client.clone().get_dataset(request).await);
    let text = format!("grpc: received message larger than max ({size} vs. 1048576)");
    assert_eq!(refused, Some((Code::ResourceExhausted, text)));
}

#[tokio::test]
async fn reflection_answers_unless_it_is_turned_off() {
    for (text, served) in [
        ("{}", true),
        ("application: {grpcServerReflection: false}", false),
    ] {
        let world = World::start_with(Store::Sqlite, &configured(text)).await;
        let request =
            http::Request::post("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
                .header("content-type", "application/grpc")
                .body(axum::body::Body::empty())
                .unwrap();
        let router = world.catalog.grpc().prepare().into_axum_router();
        let response = router.oneshot(request).await.unwrap();
        let status = tonic::Status::from_header_map(response.headers());
        let unimplemented = status.is_some_and(|status| status.code() == Code::Unimplemented);
        assert_eq!(unimplemented, !served, "{text}");
    }
}

#[tokio::test]
async fn metrics_have_the_scope_that_is_configured() {
    // As the chart of flyte-core sets it.
    let settings = configured("datacatalog: {metrics-scope: 'flyte:'}");
    let world = World::start_with(Store::Sqlite, &settings).await;
    let text = world.metrics.render();
    assert!(
        text.contains("flyte:datacatalog:dataset:create_success_count_unlabeled 0"),
        "{text}"
    );
}

#[tokio::test]
async fn healthcheck_is_empty_and_health_serves_while_the_database_answers() {
    let world = World::start(Store::Sqlite).await;
    let response = world
        .catalog
        .http()
        .oneshot(get("/healthcheck"))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.is_empty());
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    world.catalog.spawn(&mut tasks);
    let mut ready = world.catalog.readiness();
    let became = tokio::time::timeout(WITHIN, ready.wait_for(|ready| *ready)).await;
    assert!(*became.unwrap().unwrap());
    let mut health = HealthClient::new(world.catalog.grpc().prepare().into_axum_router());
    let status = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(status.into_inner().status(), ServingStatus::Serving);
    // Only the process as a whole has a name.
    let other = HealthCheckRequest {
        service: "datacatalog".to_owned(),
    };
    assert_eq!(
        refusal(health.check(other).await).unwrap().0,
        Code::NotFound
    );
    world.database.close().await;
    let became = tokio::time::timeout(WITHIN, ready.wait_for(|ready| !*ready)).await;
    assert!(!*became.unwrap().unwrap());
    stop.cancel();
    tasks.run_until_stopped(WITHIN).await.unwrap();
}
