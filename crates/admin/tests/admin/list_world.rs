//! The tables of the control plane that answered `lists.jsonl`, as far as its answers show them.
//!
//! `data/list-world.jsonl` has a line with the defaults of each table and then a line for each row: every row that
//! an answer names, with values that put it where the recorded filters and orders put it. Where only an order
//! was recorded (of bytes of specs, for example) the value is made up to give that order. Times are seconds since
//! ten minutes ago, because filters speak of yesterday; bytes are in hex, durations in nanoseconds.

use std::collections::{BTreeMap, BTreeSet};

use flyte_admin::filters::{
    Column, DESCRIPTION_ENTITIES, EXECUTION_TAGS, EXECUTIONS, Entity, Kind, LAUNCH_PLANS,
    NAMED_ENTITY_METADATA, NODE_EXECUTIONS, PROJECTS, SIGNALS, TASK_EXECUTIONS, TASKS, WORKFLOWS,
};
use jiff::{Timestamp, ToSpan as _};
use sea_query::{Expr, Query};
use serde_json::{Map, Value};

use crate::harness::{World, recorded, text};

const ENTITIES: [&Entity; 11] = [
    &DESCRIPTION_ENTITIES,
    &EXECUTION_TAGS,
    &EXECUTIONS,
    &LAUNCH_PLANS,
    &NAMED_ENTITY_METADATA,
    &NODE_EXECUTIONS,
    &PROJECTS,
    &SIGNALS,
    &TASK_EXECUTIONS,
    &TASKS,
    &WORKFLOWS,
];

/// Rows by table, with their defaults filled in.
pub(crate) struct Tables(BTreeMap<String, Vec<Map<String, Value>>>);

impl Tables {
    /// Puts the rows into the database of `world`, in place of its project.
    pub(crate) async fn seed(world: &World) -> Self {
        let mut defaults = Map::new();
        let mut tables: BTreeMap<String, Vec<Map<String, Value>>> = BTreeMap::new();
        for line in recorded("list-world.jsonl") {
            if let Some(of_table) = line["defaults"].as_object() {
                defaults = of_table.clone();
                continue;
            }
            let mut row = defaults.clone();
            row.extend(line["row"].as_object().unwrap().clone());
            tables
                .entry(text(&line, "table").to_owned())
                .or_default()
                .push(row);
        }
        let rows = tables.clone();
        let begin = Timestamp::now() - 10.minutes();
        world
            .database
            .write::<_, _, (), flyte_platform::sql::DbError>((begin, rows), |(begin, rows), tx| {
                Box::pin(async move {
                    tx.execute(Query::delete().from_table("projects")).await?;
                    for (table, rows) in rows {
                        let entity = ENTITIES
                            .iter()
                            .find(|entity| entity.table == table)
                            .unwrap();
                        for row in rows {
                            let (columns, values): (Vec<_>, Vec<_>) = row
                                .iter()
                                .map(|(name, value)| {
                                    let column = entity
                                        .column(name)
                                        .unwrap_or_else(|| panic!("{table} has no column {name}"));
                                    (column.name, expression(column, value, *begin))
                                })
                                .unzip();
                            let insert = Query::insert()
                                .into_table(entity.table)
                                .columns(columns)
                                .values_panic(values)
                                .to_owned();
                            tx.execute(&insert).await?;
                        }
                    }
                    Ok(())
                })
            })
            .await
            .unwrap();
        Self(tables)
    }

    /// What `column` holds in the row that a recorded answer of `rpc` calls `label`.
    pub(crate) fn cell(&self, rpc: &str, label: &str, column: &str) -> &Value {
        let rows = &self.0[table_of(rpc)];
        let row = rows.iter().find(|row| label_of(rpc, row) == label);
        row.unwrap_or_else(|| panic!("no row {label} for {rpc}"))
            .get(column)
            .unwrap_or_else(|| panic!("{rpc} knows nothing of column {column}"))
    }

    /// The distinct names of `table` in order.
    pub(crate) fn names(&self, table: &str) -> Vec<String> {
        let names: BTreeSet<String> = self.0[table]
            .iter()
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect();
        names.into_iter().collect()
    }
}

fn expression(column: &Column, value: &Value, begin: Timestamp) -> Expr {
    match column.kind {
        Kind::Text => Expr::val(value.as_str().map(str::to_owned)),
        Kind::Integer => Expr::val(value.as_i64().map(|number| i32::try_from(number).unwrap())),
        Kind::BigInteger | Kind::Duration => Expr::val(value.as_i64()),
        Kind::Time => Expr::val(value.as_i64().map(|seconds| begin + seconds.seconds())),
        Kind::Bytes => Expr::val(value.as_str().map(|text| hex::decode(text).unwrap())),
    }
}

fn table_of(rpc: &str) -> &'static str {
    match rpc {
        "ListExecutions" => "executions",
        "ListTasks" => "tasks",
        "ListWorkflows" => "workflows",
        "ListLaunchPlans" | "ListActiveLaunchPlans" => "launch_plans",
        "ListProjects" => "projects",
        "ListNodeExecutions" => "node_executions",
        "ListTaskExecutions" => "task_executions",
        "ListSignals" => "signals",
        "ListDescriptionEntities" => "description_entities",
        other => panic!("{other} lists names"),
    }
}

fn label_of(rpc: &str, row: &Map<String, Value>) -> String {
    let part = |column: &str| row[column].as_str().unwrap();
    match rpc {
        "ListExecutions" => part("execution_name").to_owned(),
        "ListProjects" => part("identifier").to_owned(),
        "ListNodeExecutions" => part("node_id").to_owned(),
        "ListSignals" => part("signal_id").to_owned(),
        "ListTaskExecutions" => format!(
            "{}/{}/{}",
            part("node_id"),
            part("name"),
            row["retry_attempt"]
        ),
        _ => format!("{}@{}", part("name"), part("version")),
    }
}
