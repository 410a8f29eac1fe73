//! Rows that hold what no version of Flyte wrote: lists, and the loops that look after rows, go on without them.

use std::time::Duration;

use flyte_idl::admin;
use flyte_platform::sql::DbError;
use sea_query::{Expr, ExprTrait as _, Query};
use serde_json::{Value, json};

use crate::{
    events::{node_event, started, task_event},
    executions::{integer, launch},
    harness::{Store, World, code_name},
    on_both_databases,
};

on_both_databases!(
    a_row_that_cannot_be_read_hides_no_other,
    the_page_after_one_with_an_unreadable_row_begins_where_that_ends,
    a_closure_that_is_not_there_is_an_empty_one,
    the_reconciler_goes_on_past_a_row_that_it_cannot_read
);

const ADMIN: &str = "flyteidl.service.AdminService";
const SIGNALS: &str = "flyteidl.service.SignalService";

/// Writes `value` into a column of the rows where another column is `key`.
async fn write(
    world: &World,
    table: &'static str,
    column: &'static str,
    value: Option<Vec<u8>>,
    key: (&'static str, &str),
) {
    let update = Query::update()
        .table(table)
        .value(column, value)
        .and_where(Expr::col(key.0).eq(key.1))
        .take();
    let changed = world
        .database
        .write::<_, _, _, DbError>(update, |update, tx| {
            Box::pin(async move { tx.execute(update).await })
        })
        .await
        .unwrap();
    assert!(changed > 0, "{table} has no {key:?}");
}

/// Four bytes that are no message.
const GARBAGE: [u8; 4] = [0xff; 4];

fn signal(name: &str) -> Value {
    json!({"execution_id": execution(), "signal_id": name})
}

fn execution() -> Value {
    json!({"project": "flytesnacks", "domain": "development", "name": "ev"})
}

fn entity(kind: &str, name: &str) -> Value {
    json!({"id": {"resource_type": kind, "project": "flytesnacks", "domain": "development", "name": name, "version": "rec1"}})
}

/// An execution with nodes, an attempt and signals.
async fn world(store: Store) -> World {
    let world = started(store).await;
    for node in ["n0", "n1"] {
        let event = node_event(&world, node, "RUNNING", json!({"spec_node_id": node})).await;
        assert_eq!(event, "OK");
    }
    assert_eq!(task_event(&world, "RUNNING", 0, json!({})).await, "OK");
    for name in ["a", "b", "c"] {
        let request = json!({"id": signal(name), "type": {"simple": "INTEGER"}});
        world
            .call(&format!("{SIGNALS}/GetOrCreateSignal"), &request)
            .await
            .unwrap();
    }
    world
}

/// The elements of a list.
async fn listed(world: &World, rpc: &str, request: &Value) -> (Vec<Value>, String) {
    let answer = world.call(rpc, request).await;
    let answer = answer.unwrap_or_else(|status| panic!("{rpc}: {status}"));
    let mut answer = serde_json::to_value(answer).unwrap();
    let token = answer["token"].as_str().unwrap_or_default().to_owned();
    let members = answer.as_object_mut().unwrap();
    members.remove("token");
    let list = members.values().find_map(Value::as_array).cloned();
    (list.unwrap_or_default(), token)
}

async fn a_row_that_cannot_be_read_hides_no_other(store: Store) {
    let world = world(store).await;
    let in_domain =
        json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 100});
    let node = json!({"node_id": "n0", "execution_id": execution()});
    let attempt =
        json!({"task_id": entity("TASK", "recwf.square")["id"], "node_execution_id": node});
    // Children come before what they belong to.
    for (table, column, key, list, get) in [
        (
            "signals",
            "type",
            ("signal_id", "b"),
            (
                format!("{SIGNALS}/ListSignals"),
                json!({"workflow_execution_id": execution(), "limit": 100}),
            ),
            None,
        ),
        (
            "task_executions",
            "closure",
            ("node_id", "n0"),
            (
                format!("{ADMIN}/ListTaskExecutions"),
                json!({"node_execution_id": node, "limit": 100}),
            ),
            Some(("GetTaskExecution", json!({"id": attempt}))),
        ),
        (
            "node_executions",
            "closure",
            ("node_id", "n0"),
            (
                format!("{ADMIN}/ListNodeExecutions"),
                json!({"workflow_execution_id": execution(), "limit": 100}),
            ),
            Some(("GetNodeExecution", json!({"id": node}))),
        ),
        (
            "executions",
            "spec",
            ("execution_name", "ev"),
            (format!("{ADMIN}/ListExecutions"), in_domain.clone()),
            Some(("GetExecution", json!({"id": execution()}))),
        ),
        (
            "launch_plans",
            "closure",
            ("name", "recwf.sub"),
            (format!("{ADMIN}/ListLaunchPlans"), in_domain.clone()),
            Some(("GetLaunchPlan", entity("LAUNCH_PLAN", "recwf.sub"))),
        ),
        (
            "workflows",
            "typed_interface",
            ("name", "recwf.sub"),
            (format!("{ADMIN}/ListWorkflows"), in_domain.clone()),
            Some(("GetWorkflow", entity("WORKFLOW", "recwf.sub"))),
        ),
        (
            "tasks",
            "closure",
            ("name", "recwf.square"),
            (format!("{ADMIN}/ListTasks"), in_domain.clone()),
            Some(("GetTask", entity("TASK", "recwf.square"))),
        ),
        (
            "projects",
            "labels",
            ("identifier", "flytesnacks"),
            (format!("{ADMIN}/ListProjects"), json!({})),
            Some(("GetProject", json!({"id": "flytesnacks"}))),
        ),
    ] {
        let (before, _) = listed(&world, &list.0, &list.1).await;
        write(&world, table, column, Some(GARBAGE.to_vec()), key).await;
        let (after, _) = listed(&world, &list.0, &list.1).await;
        assert!(after.len() < before.len(), "{table}");
        for element in &after {
            assert!(before.contains(element), "{table}: {element}");
        }
        if let Some((get, request)) = get {
            let status = world
                .call(&format!("{ADMIN}/{get}"), &request)
                .await
                .unwrap_err();
            let text = status.message();
            assert_eq!(code_name(status.code()), "INTERNAL", "{text}");
            for part in [
                format!("of table {table} cannot be read: column \"{column}\""),
                format!("{}={}", key.0, key.1),
            ] {
                assert!(text.contains(&part), "{part} in {text}");
            }
        }
    }
    let text = world.metrics.render();
    let counted = text
        .lines()
        .find_map(|line| line.strip_prefix("flyte:admin:admin:errors:unreadable_rows "));
    assert!(counted.is_some_and(|count| count != "0"), "{text}");
}

async fn the_page_after_one_with_an_unreadable_row_begins_where_that_ends(store: Store) {
    let world = world(store).await;
    write(
        &world,
        "signals",
        "value",
        Some(GARBAGE.to_vec()),
        ("signal_id", "b"),
    )
    .await;
    let rpc = format!("{SIGNALS}/ListSignals");
    let mut request = json!({"workflow_execution_id": execution(), "limit": 2});
    let (page, token) = listed(&world, &rpc, &request).await;
    assert_eq!((page.len(), token.as_str()), (1, "2"));
    request["token"] = json!(token);
    let (page, token) = listed(&world, &rpc, &request).await;
    assert_eq!((page.len(), token.as_str()), (1, ""));
    assert!(page[0].to_string().contains("\"c\""), "{page:?}");
}

async fn a_closure_that_is_not_there_is_an_empty_one(store: Store) {
    let world = world(store).await;
    let key = ("execution_name", "ev");
    write(&world, "executions", "closure", None, key).await;
    let request = json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 100});
    let (list, _) = listed(&world, &format!("{ADMIN}/ListExecutions"), &request).await;
    assert_eq!(list.len(), 1);
    let found: admin::Execution = world
        .get("GetExecution", &json!({"id": execution()}))
        .await
        .unwrap();
    assert!(found.spec.is_some());
}

async fn the_reconciler_goes_on_past_a_row_that_it_cannot_read(store: Store) {
    const NAMESPACE: &str = "flytesnacks-development";
    let world = started(store).await;
    for name in ["bad", "lost"] {
        let request = launch(name, &json!({"n": integer(3)}));
        let _: admin::ExecutionCreateResponse =
            world.get("CreateExecution", &request).await.unwrap();
        world.cluster.forget(NAMESPACE, name).await;
    }
    write(
        &world,
        "executions",
        "spec",
        Some(GARBAGE.to_vec()),
        ("execution_name", "bad"),
    )
    .await;
    // Those are ev, bad and lost.
    assert_eq!(world.admin.reconcile(Duration::ZERO).await.unwrap(), 3);
    assert!(world.cluster.workflow(NAMESPACE, "lost").await.is_some());
    assert!(world.cluster.workflow(NAMESPACE, "bad").await.is_none());
}
