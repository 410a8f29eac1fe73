//! What becomes of requests when PostgreSQL goes away, is slow, or is no longer asked.

use std::time::Duration;

use flyte_platform::sql::{Database, DatabaseConfig, DbError};
use sea_query::{Alias, Expr, Query, SelectStatement};
use serde_json::json;

use crate::harness::{Store, World, database_config};

fn select(expression: &str) -> SelectStatement {
    Query::select()
        .expr_as(Expr::cust(expression.to_owned()), Alias::new("value"))
        .take()
}

async fn count(database: &Database, expression: &str) -> i64 {
    let mut tx = database.read().await.unwrap();
    let row = tx.fetch_optional(&select(expression)).await.unwrap();
    row.unwrap().integer("value").unwrap()
}

/// Other sessions of this database, by a condition on pg_stat_activity.
fn sessions(condition: &str) -> String {
    format!(
        "(SELECT count(*) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition})"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_a_restart_has_closed_fail_no_request() {
    let world = World::start(Store::Postgres).await;
    let rpc = "flyteidl.service.AdminService/ListProjects";
    let request = json!({});
    let calls = (0..20).map(|_| world.call(rpc, &request));
    for answer in futures::future::join_all(calls).await {
        answer.unwrap();
    }
    assert!(count(&world.database, &sessions("true")).await > 2);
    // As a restart does: every session ends.
    count(
        &world.database,
        "(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid())",
    )
    .await;
    // A restart takes longer than the time for which connections are trusted.
    tokio::time::sleep(Duration::from_millis(200)).await;
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
    let waiting = tokio::time::timeout(Duration::from_millis(300), tx.fetch_optional(&asleep));
    assert!(waiting.await.is_err());
    drop(tx);
    let running = sessions("state = 'active' AND query LIKE '%pg_sleep(50)%'");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while count(&world.database, &running).await > 0 {
        assert!(tokio::time::Instant::now() < deadline, "it still runs");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    for moment in ["-infinity", "infinity"] {
        let list = json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 5, "filters": format!("gt(created_at,{moment})")});
        world
            .call("flyteidl.service.AdminService/ListExecutions", &list)
            .await
            .unwrap();
    }
}
