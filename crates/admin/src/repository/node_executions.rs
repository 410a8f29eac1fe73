//! Table `node_executions`.

use std::collections::BTreeSet;

use flyte_core::identifiers::{ExecutionId, NodeExecutionId};
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use prost::Message;
use sea_query::{Condition, Expr, ExprTrait as _, LockType, Query, SelectStatement, Value};

use super::{
    columns::{
        NewRow, corrupt, node_execution_id, of_execution, of_node, optional_name, or_null,
        row_number, stored,
    },
    operations, query,
};
use crate::{
    filters::{ListQuery, NODE_EXECUTIONS},
    records::{
        CacheStatus, ErrorKind, NodeExecution, NodeExecutionRow, RowNumber, TaskExecutionRow,
    },
};

const TABLE: &str = "node_executions";

const COLUMNS: [&str; 20] = [
    "id",
    "execution_project",
    "execution_domain",
    "execution_name",
    "node_id",
    "phase",
    "input_uri",
    "closure",
    "started_at",
    "node_execution_created_at",
    "node_execution_updated_at",
    "duration",
    "node_execution_metadata",
    "parent_id",
    "parent_task_execution_id",
    "error_kind",
    "error_code",
    "cache_status",
    "dynamic_workflow_remote_closure_reference",
    "internal_data",
];

/// Column `internal_data` (spec 01 §19).
#[derive(Clone, PartialEq, Message)]
struct InternalData {
    #[prost(int32, tag = "1")]
    event_version: i32,
}

const ROWS: Table<NodeExecution> = Table { name: TABLE, read };

fn read(row: &Row) -> Result<NodeExecution, DbError> {
    Ok(NodeExecution {
        row: row_number(row, "id")?,
        id: node_execution_id(row)?,
        phase: row.text("phase")?.as_str().into(),
        input_uri: row.text("input_uri")?,
        closure: stored(row, "closure")?,
        started_at: row.time("started_at")?,
        created_at: row.time("node_execution_created_at")?,
        updated_at: row.time("node_execution_updated_at")?,
        duration: row.integer("duration")?,
        metadata: stored(row, "node_execution_metadata")?,
        parent_row: row_number(row, "parent_id")?,
        parent_task_row: row_number(row, "parent_task_execution_id")?,
        error_kind: optional_name(row, "error_kind")?,
        error_code: row.optional_text("error_code")?,
        cache_status: optional_name(row, "cache_status")?,
        dynamic_closure_uri: row.text("dynamic_workflow_remote_closure_reference")?,
        event_version: InternalData::decode(row.bytes("internal_data")?.as_slice())
            .map_err(|error| corrupt("internal_data", error))?
            .event_version,
    })
}

fn mutable(node: &NodeExecution) -> [(&'static str, Value); 15] {
    let internal = InternalData {
        event_version: node.event_version,
    };
    [
        ("phase", node.phase.name().into()),
        ("input_uri", node.input_uri.as_str().into()),
        ("closure", node.closure.bytes().to_vec().into()),
        ("started_at", node.started_at.into()),
        ("node_execution_created_at", node.created_at.into()),
        ("node_execution_updated_at", node.updated_at.into()),
        ("duration", node.duration.into()),
        (
            "node_execution_metadata",
            node.metadata.bytes().to_vec().into(),
        ),
        ("parent_id", or_null(node.parent_row).into()),
        (
            "parent_task_execution_id",
            or_null(node.parent_task_row).into(),
        ),
        (
            "error_kind",
            node.error_kind.as_ref().map(ErrorKind::name).into(),
        ),
        ("error_code", node.error_code.clone().into()),
        (
            "cache_status",
            node.cache_status.as_ref().map(CacheStatus::name).into(),
        ),
        (
            "dynamic_workflow_remote_closure_reference",
            node.dynamic_closure_uri.as_str().into(),
        ),
        ("internal_data", internal.encode_to_vec().into()),
    ]
}

/// Inserts a node execution; a taken id is a unique violation.
pub async fn insert(tx: &mut WriteTx, node: &NodeExecution, now: Timestamp) -> Result<(), DbError> {
    let mut row = NewRow::at(now);
    row.execution(&node.id.execution)
        .set("node_id", node.id.node.as_str());
    for (column, value) in mutable(node) {
        row.set(column, value);
    }
    tx.of(operations::NODE_EXECUTIONS.create())
        .execute(&row.insert_into(TABLE))
        .await
        .map(drop)
}

/// Writes all columns that may change.
pub async fn update(tx: &mut WriteTx, node: &NodeExecution, now: Timestamp) -> Result<(), DbError> {
    let mut update = Query::update();
    update
        .table(TABLE)
        .values(mutable(node).map(|(column, value)| (column, Expr::val(value))))
        .value("updated_at", now)
        .cond_where(of_node(TABLE, &node.id));
    tx.of(operations::NODE_EXECUTIONS.update())
        .execute(&update)
        .await
        .map(drop)
}

fn keyed(id: &NodeExecutionId) -> SelectStatement {
    query::select(TABLE, &COLUMNS)
        .cond_where(of_node(TABLE, id))
        .to_owned()
}

async fn one(tx: &mut ReadTx, select: &SelectStatement) -> Result<Option<NodeExecution>, DbError> {
    tx.of(operations::NODE_EXECUTIONS.get())
        .read_optional(select, ROWS)
        .await
}

/// The node execution with this id.
pub async fn get(tx: &mut ReadTx, id: &NodeExecutionId) -> Result<Option<NodeExecution>, DbError> {
    one(tx, &keyed(id)).await
}

/// The node execution with this id, locked until the transaction ends.
pub async fn lock(
    tx: &mut WriteTx,
    id: &NodeExecutionId,
) -> Result<Option<NodeExecution>, DbError> {
    one(tx, keyed(id).lock(LockType::Update)).await
}

/// The row number of a node execution.
pub async fn row(
    tx: &mut ReadTx,
    id: &NodeExecutionId,
) -> Result<Option<NodeExecutionRow>, DbError> {
    let select = query::select(TABLE, &["id"])
        .cond_where(of_node(TABLE, id))
        .to_owned();
    let row = tx
        .of(operations::NODE_EXECUTIONS.exists())
        .fetch_optional(&select)
        .await?;
    row.map_or(Ok(None), |row| row_number(&row, "id"))
}

/// Which nodes of an execution a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Those without a parent.
    Top,
    /// The children of the node in this row.
    ChildrenOf(NodeExecutionRow),
    /// Those that the task execution in this row made.
    MadeBy(TaskExecutionRow),
}

/// Node executions of one level of an execution.
pub async fn list(
    tx: &mut ReadTx,
    execution: &ExecutionId,
    level: Level,
    list: &ListQuery,
) -> Result<Listed<NodeExecution>, DbError> {
    let mut select = query::select(TABLE, &COLUMNS);
    let parent = Expr::col((TABLE, "parent_id"));
    let parent_task = Expr::col((TABLE, "parent_task_execution_id"));
    match level {
        Level::Top => select
            .cond_where(of_execution(TABLE, execution))
            .and_where(parent.is_null())
            .and_where(parent_task.is_null()),
        Level::ChildrenOf(row) => select
            .cond_where(of_execution(TABLE, execution))
            .and_where(parent.eq(row.number())),
        Level::MadeBy(row) => select.and_where(parent_task.eq(row.number())),
    };
    query::apply(&mut select, &NODE_EXECUTIONS, list, tx.dialect());
    tx.of(operations::NODE_EXECUTIONS.list())
        .read_all(&select, ROWS)
        .await
}

/// Those of `rows` that are the parent of some node: one query for a whole page.
pub async fn with_children(
    tx: &mut ReadTx,
    rows: &[NodeExecutionRow],
) -> Result<BTreeSet<NodeExecutionRow>, DbError> {
    distinct(tx, "parent_id", rows).await
}

/// Those task executions among `rows` that made some node.
pub async fn made_by_tasks(
    tx: &mut ReadTx,
    rows: &[TaskExecutionRow],
) -> Result<BTreeSet<TaskExecutionRow>, DbError> {
    distinct(tx, "parent_task_execution_id", rows).await
}

async fn distinct<R: RowNumber + Ord>(
    tx: &mut ReadTx,
    column: &'static str,
    rows: &[R],
) -> Result<BTreeSet<R>, DbError> {
    let mut found = BTreeSet::new();
    // PostgreSQL takes 65535 parameters, SQLite 32766.
    for rows in rows.chunks(10_000) {
        let numbers = rows.iter().map(|row| row.number());
        let select = Query::select()
            .distinct()
            .column(column)
            .from(TABLE)
            .cond_where(Condition::all().add(Expr::col(column).is_in(numbers)))
            .take();
        for row in tx
            .of(operations::NODE_EXECUTIONS.list())
            .fetch_all(&select)
            .await?
        {
            found.extend(row_number::<R>(&row, column)?);
        }
    }
    Ok(found)
}
