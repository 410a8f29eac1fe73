//! What becomes of requests when PostgreSQL goes away, is slow, or is no longer asked.

use std::time::Duration;

use axum::body::Body;
use flyte_platform::{
    Chain, Tasks,
    sql::{Database, DatabaseConfig, DbError},
};
use http::Request;
use sea_query::{Alias, Expr, Query, SelectStatement};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

use crate::{
    harness::{Store, World, config, database_config},
    proxy::Proxy,
};

pub(crate) fn select(expression: &str) -> SelectStatement {
    Query::select()
        .expr_as(Expr::cust(expression.to_owned()), Alias::new("value"))
        .take()
}

pub(crate) async fn count(database: &Database, expression: &str) -> i64 {
    let mut tx = database.read().await.unwrap();
    let row = tx.fetch_optional(&select(expression)).await.unwrap();
    row.unwrap().integer("value").unwrap()
}

/// Other sessions of this database, by a condition on pg_stat_activity.
pub(crate) fn sessions(condition: &str) -> String {
    format!(
        "(SELECT count(*) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition})"
    )
}

/// How long anything here may take before its test fails.
pub(crate) const WITHIN: Duration = Duration::from_secs(120);

/// Waits until a count of sessions is not 0, asking again as soon as the server has answered.
async fn begins(database: &Database, expression: &str) {
    let begun = async { while count(database, expression).await == 0 {} };
    tokio::time::timeout(WITHIN, begun)
        .await
        .expect("it does not begin");
}

/// Waits until a count of sessions is 0, asking again as soon as the server has answered.
pub(crate) async fn ends(database: &Database, expression: &str) {
    let ended = async { while count(database, expression).await > 0 {} };
    tokio::time::timeout(WITHIN, ended)
        .await
        .expect("it does not end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_a_restart_has_closed_fail_no_request() {
    let mut database = flyte_postgres::database();
    // A restart takes longer than a connection is trusted.
    database.postgres.trust_idle_for = flyte_platform::config::Duration::ZERO;
    let world = World::start_on(&database, config()).await;
    // One session of its own, which is none of those that end.
    let observer = DatabaseConfig {
        max_open_connections: 1,
        ..database
    };
    let observer = Database::open(&observer).await.unwrap();
    let rpc = "flyteidl.service.AdminService/ListProjects";
    let request = json!({});
    world.call(rpc, &request).await.unwrap();
    // As many requests at once leave as many sessions.
    let at_once = (0..5).map(|_| world.database.read());
    drop(futures::future::try_join_all(at_once).await.unwrap());
    assert!(count(&observer, &sessions("true")).await > 2);
    // As a restart does: every session ends.
    count(
        &observer,
        "(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid())",
    )
    .await;
    ends(&observer, &sessions("true")).await;
    for _ in 0..30 {
        world.call(rpc, &request).await.unwrap();
    }
    let project = json!({"project": {"id": "after", "name": "after"}});
    world
        .call("flyteidl.service.AdminService/RegisterProject", &project)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_nobody_waits_for_is_cancelled() {
    let world = World::start(Store::Postgres).await;
    let mut tx = world.database.read().await.unwrap();
    let asleep = select("(SELECT 1 FROM pg_sleep(50))");
    let running = sessions("state = 'active' AND query LIKE '%pg_sleep(50)%'");
    tokio::select! {
        _slept = tx.fetch_optional(&asleep) => panic!("it is not asleep"),
        () = begins(&world.database, &running) => {}
    }
    drop(tx);
    ends(&world.database, &running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_serves_when_somebody_else_makes_the_namespaces() {
    let world = World::start(Store::Sqlite).await;
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    let service = "flyteadmin".to_owned();
    let watch = world.health().watch(HealthCheckRequest { service }).await;
    let mut changes = watch.unwrap().into_inner();
    world.admin.spawn_without_namespaces(&mut tasks);
    become_status(&mut changes, ServingStatus::Serving).await;
    let id = json!({"id": "later", "name": "later"});
    world
        .call(
            "flyteidl.service.AdminService/RegisterProject",
            &json!({"project": id}),
        )
        .await
        .unwrap();
    let made = world.cluster.namespaces().await;
    assert!(!made.contains(&"later-development".to_owned()), "{made:?}");
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_database() {
    let (proxy, database) = Proxy::before(flyte_postgres::database()).await;
    let world = World::start_on(&database, config()).await;
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    let mut changes = Vec::new();
    for service in ["", "flyteadmin"] {
        let service = service.to_owned();
        let watch = world.health().watch(HealthCheckRequest { service }).await;
        changes.push(watch.unwrap().into_inner());
    }
    world.admin.spawn(&mut tasks);
    for (away, expected) in [
        (false, ServingStatus::Serving),
        (true, ServingStatus::NotServing),
        (false, ServingStatus::Serving),
    ] {
        if away {
            proxy.cut();
        } else {
            proxy.restore();
        }
        for changes in &mut changes {
            become_status(changes, expected).await;
        }
        let answer = world
            .call("flyteidl.service.AdminService/ListProjects", &json!({}))
            .await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        let expected = if away { Code::Unavailable } else { Code::Ok };
        assert_eq!(code, expected);
        // The process lives all the while: who restarts it does not bring the database back.
        let request = Request::get("/healthcheck").body(Body::empty()).unwrap();
        assert_eq!(world.http(request).await.status(), 200);
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_does_not_wait_for_a_database_that_says_nothing() {
    let (proxy, database) = Proxy::before(flyte_postgres::database()).await;
    let world = World::start_on(&database, config()).await;
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    let service = "flyteadmin".to_owned();
    let watch = world.health().watch(HealthCheckRequest { service }).await;
    let mut changes = watch.unwrap().into_inner();
    world.admin.spawn(&mut tasks);
    become_status(&mut changes, ServingStatus::Serving).await;
    proxy.freeze();
    become_status(&mut changes, ServingStatus::NotServing).await;
    proxy.thaw();
    become_status(&mut changes, ServingStatus::Serving).await;
    stop.cancel();
}

/// Who reads the one line that a failed start leaves must know which server is meant, and is told its trouble once.
#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    // Nobody listens on a port that was just given back.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut away = flyte_postgres::database();
    away.postgres.host = "127.0.0.1".to_owned();
    away.postgres.port = port;
    away.postgres.dbname = "flyte".to_owned();
    let error = Database::open(&away).await.err().unwrap();
    assert_eq!(
        Chain(&error).to_string(),
        format!(
            "the database is unavailable: PostgreSQL at 127.0.0.1:{port}, database \"flyte\": Connection refused (os error 111)"
        )
    );

    let mut stranger = flyte_postgres::database();
    stranger.postgres.options = "sslmode=disable hunter2".to_owned();
    let error = Database::open(&stranger).await.err().unwrap();
    assert_eq!(
        Chain(&error).to_string(),
        "invalid database configuration: database.postgres.options: the text number 2 of those between blanks is not key=value"
    );
}

/// Waits until a watch of health says `expected`.
pub(crate) async fn become_status(
    changes: &mut Streaming<HealthCheckResponse>,
    expected: ServingStatus,
) {
    let becomes = async { while changes.message().await.unwrap().unwrap().status() != expected {} };
    tokio::time::timeout(WITHIN, becomes)
        .await
        .unwrap_or_else(|_| panic!("health does not become {expected:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_has_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut config: DatabaseConfig = database_config(Store::Postgres, folder.path());
    config.postgres.statement_timeout = flyte_platform::config::Duration::milliseconds(200);
    let database = Database::open(&config).await.unwrap();
    let mut tx = database.read().await.unwrap();
    let refused = tx
        .fetch_optional(&select("(SELECT 1 FROM pg_sleep(50))"))
        .await;
    assert!(matches!(refused, Err(DbError::Unavailable(_))));
    // The session is as good as before.
    assert!(tx.fetch_optional(&select("1")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_beyond_the_limits_of_the_database_is_the_clients_mistake() {
    let world = World::start(Store::Postgres).await;
    // PostgreSQL's index takes keys of 2,704 bytes, and compresses them first.
    let name: String = (0..4_000_u32)
        .map(|number| char::from_u32(0x4e00 + number.wrapping_mul(2_654_435_761) % 20_000).unwrap())
        .collect();
    let request = json!({
        "id": {"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": name, "version": "v"},
        "spec": {"template": {"type": "python-task", "metadata": {"runtime": {"version": "1"}}, "interface": {},
            "container": {"image": "i", "args": ["x"]}}},
    });
    let status = world
        .call("flyteidl.service.AdminService/CreateTask", &request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    for moment in ["-infinity", "infinity"] {
        let list = json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 5, "filters": format!("gt(created_at,{moment})")});
        world
            .call("flyteidl.service.AdminService/ListExecutions", &list)
            .await
            .unwrap();
    }
}
