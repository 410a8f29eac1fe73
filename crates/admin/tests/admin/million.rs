//! The lists that the console and flytectl ask for, over a million executions.
//!
//! By hand: `cargo test --release -p flyte-admin --test admin -- --ignored --nocapture million`. It prints the milliseconds of
//! each list, the best of five, with the indexes of ours and without them. The bound is for a quiet machine.

use std::time::{Duration, Instant};

use flyte_admin::repository::indexes::INDEXES;
use flyte_idl::admin;
use serde_json::{Value, json};

use crate::{
    harness::{Store, World},
    on_both_databases, seed,
};

on_both_databases!(
    #[ignore = "minutes of inserting rows; run by hand"]
    lists_of_a_million_executions_take_milliseconds
);

const ROWS: u32 = 1_000_000;

/// One in 10,000 executions runs; one in 1,000 is of the rare workflow; tasks are one in 100.
async fn fill(world: &World, store: Store) {
    let numbers = match store {
        Store::Sqlite => format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ROWS})"
        ),
        Store::Postgres => {
            format!("WITH numbers(n) AS (SELECT generate_series(1, {ROWS}))")
        }
    };
    let (moment, bytes) = match store {
        Store::Sqlite => ("1700000000000000 + n * 1000000", "x''"),
        Store::Postgres => ("to_timestamp(1700000000 + n)", "''::bytea"),
    };
    let rows = format!(
        "{numbers} INSERT INTO executions (created_at, updated_at, execution_project, execution_domain, execution_name,
            launch_plan_id, workflow_id, task_id, phase, closure, spec, execution_created_at, execution_updated_at,
            duration, abort_cause, mode, source_execution_id, parent_node_execution_id, cluster, inputs_uri, user_inputs_uri,
            \"user\", state, launch_entity)
         SELECT {moment}, {moment}, 'flytesnacks', CASE WHEN n % 2 = 0 THEN 'development' ELSE 'production' END, 'e' || n,
            CASE WHEN n % 100 = 0 THEN 0 ELSE 1 END,
            CASE WHEN n % 1000 = 2 THEN (SELECT max(id) FROM workflows) ELSE (SELECT min(id) FROM workflows) END,
            CASE WHEN n % 100 = 0 THEN (SELECT min(id) FROM tasks) ELSE 0 END,
            CASE WHEN n % 10000 = 0 THEN 'RUNNING' WHEN n % 10 = 0 THEN 'FAILED' ELSE 'SUCCEEDED' END,
            {bytes}, {bytes}, {moment}, {moment}, 1000000000, '', 0, 0, 0, '', '', '', '', 0, 'launch_plan' FROM numbers"
    );
    world
        .database
        .write(rows, |rows, tx| {
            Box::pin(async move {
                if tx.dialect() == flyte_platform::sql::Dialect::Postgres {
                    tx.execute_script("SET LOCAL statement_timeout = 0").await?;
                }
                tx.execute_script(rows).await?;
                tx.execute_script("ANALYZE").await
            })
        })
        .await
        .unwrap();
}

async fn measure(world: &World, request: &Value) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let _: admin::ExecutionList = world.get("ListExecutions", request).await.unwrap();
        best = best.min(start.elapsed());
    }
    best
}

async fn lists_of_a_million_executions_take_milliseconds(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    fill(&world, store).await;
    let names = async |order: &str| {
        let request = json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 1, "sort_by": {"key": "id", "direction": order}});
        let list: admin::WorkflowList = world.get("ListWorkflows", &request).await.unwrap();
        list.workflows[0].id.as_ref().unwrap().name.clone()
    };
    let (common, rare) = (names("ASCENDING").await, names("DESCENDING").await);
    let newest = json!({"key": "created_at", "direction": "DESCENDING"});
    let list = |sort: &Value, filters: &str| json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 100, "filters": filters, "sort_by": sort});
    let lists = [
        ("newest first", list(&newest, "")),
        (
            "oldest first",
            list(&json!({"key": "created_at", "direction": "ASCENDING"}), ""),
        ),
        ("that run", list(&newest, "eq(phase,RUNNING)")),
        (
            "that failed",
            list(&newest, "value_in(phase,FAILED;ABORTED)"),
        ),
        (
            "of a common workflow",
            list(&newest, &format!("eq(workflow.name,{common})")),
        ),
        (
            "of a rare workflow",
            list(&newest, &format!("eq(workflow.name,{rare})")),
        ),
        ("of a task", list(&newest, "eq(task.name,recwf.square)")),
        ("of no workflow", list(&newest, "eq(workflow.name,nobody)")),
    ];
    let mut slow = Vec::new();
    let mut with = Vec::new();
    for (name, request) in &lists {
        with.push(measure(&world, request).await);
        if with.last().unwrap().as_millis() > 100 {
            slow.push(*name);
        }
    }
    let names: Vec<&str> = INDEXES.iter().map(|index| index.name).collect();
    let drop = format!("DROP INDEX {}", names.join("; DROP INDEX "));
    world
        .database
        .write(drop, |drop, tx| {
            Box::pin(async move { tx.execute_script(drop).await })
        })
        .await
        .unwrap();
    for ((name, request), with) in lists.iter().zip(&with) {
        let without = measure(&world, request).await;
        println!("{store:?} {name}: {with:.1?}, without our indexes {without:.1?}");
    }
    assert!(slow.is_empty(), "{slow:?}");
}
