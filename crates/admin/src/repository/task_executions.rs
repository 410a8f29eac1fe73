//! Table `task_executions`.

use flyte_core::identifiers::{NodeExecutionId, ResourceType, TaskExecutionId};
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{Condition, Expr, ExprTrait as _, LockType, Query, SelectStatement, Value};

use super::{
    columns::{
        NewRow, corrupt, entity_id, is_entity, node_execution_id, of_node, row_number, stored,
    },
    operations, query,
};
use crate::{
    filters::{ListQuery, TASK_EXECUTIONS},
    records::{TaskExecution, TaskExecutionRow},
};

const TABLE: &str = "task_executions";

const COLUMNS: [&str; 18] = [
    "id",
    "project",
    "domain",
    "name",
    "version",
    "execution_project",
    "execution_domain",
    "execution_name",
    "node_id",
    "retry_attempt",
    "phase",
    "phase_version",
    "input_uri",
    "closure",
    "started_at",
    "task_execution_created_at",
    "task_execution_updated_at",
    "duration",
];

const ROWS: Table<TaskExecution> = Table { name: TABLE, read };

fn read(row: &Row) -> Result<TaskExecution, DbError> {
    let number = |column: &str| -> Result<u32, DbError> {
        u32::try_from(row.integer(column)?).map_err(|error| corrupt(column, error))
    };
    Ok(TaskExecution {
        row: row_number(row, "id")?,
        id: TaskExecutionId {
            task: entity_id(row, ResourceType::Task)?,
            node: node_execution_id(row)?,
            retry_attempt: number("retry_attempt")?,
        },
        phase: row.text("phase")?.as_str().into(),
        phase_version: number("phase_version")?,
        input_uri: row.text("input_uri")?,
        closure: stored(row, "closure")?,
        started_at: row.time("started_at")?,
        created_at: row.time("task_execution_created_at")?,
        updated_at: row.time("task_execution_updated_at")?,
        duration: row.integer("duration")?,
    })
}

fn mutable(task: &TaskExecution) -> [(&'static str, Value); 8] {
    [
        ("phase", task.phase.name().into()),
        ("phase_version", i64::from(task.phase_version).into()),
        ("input_uri", task.input_uri.as_str().into()),
        ("closure", task.closure.bytes().to_vec().into()),
        ("started_at", task.started_at.into()),
        ("task_execution_created_at", task.created_at.into()),
        ("task_execution_updated_at", task.updated_at.into()),
        ("duration", task.duration.into()),
    ]
}

/// Inserts a task execution; a taken id is a unique violation.
pub async fn insert(tx: &mut WriteTx, task: &TaskExecution, now: Timestamp) -> Result<(), DbError> {
    let mut row = NewRow::at(now);
    row.entity(&task.id.task)
        .execution(&task.id.node.execution)
        .set("node_id", task.id.node.node.as_str())
        .set("retry_attempt", i64::from(task.id.retry_attempt));
    for (column, value) in mutable(task) {
        row.set(column, value);
    }
    tx.of(operations::TASK_EXECUTIONS.create())
        .execute(&row.insert_into(TABLE))
        .await
        .map(drop)
}

fn is_attempt(id: &TaskExecutionId) -> Condition {
    Condition::all()
        .add(is_entity(TABLE, &id.task))
        .add(of_node(TABLE, &id.node))
        .add(Expr::col((TABLE, "retry_attempt")).eq(i64::from(id.retry_attempt)))
}

/// Writes all columns that may change.
pub async fn update(tx: &mut WriteTx, task: &TaskExecution, now: Timestamp) -> Result<(), DbError> {
    let mut update = Query::update();
    update
        .table(TABLE)
        .values(mutable(task).map(|(column, value)| (column, Expr::val(value))))
        .value("updated_at", now)
        .cond_where(is_attempt(&task.id));
    tx.of(operations::TASK_EXECUTIONS.update())
        .execute(&update)
        .await
        .map(drop)
}

async fn one(tx: &mut ReadTx, select: &SelectStatement) -> Result<Option<TaskExecution>, DbError> {
    tx.of(operations::TASK_EXECUTIONS.get())
        .read_optional(select, ROWS)
        .await
}

fn keyed(id: &TaskExecutionId) -> SelectStatement {
    query::select(TABLE, &COLUMNS)
        .cond_where(is_attempt(id))
        .to_owned()
}

/// The attempt with this id.
pub async fn get(tx: &mut ReadTx, id: &TaskExecutionId) -> Result<Option<TaskExecution>, DbError> {
    one(tx, &keyed(id)).await
}

/// The attempt with this id, locked until the transaction ends.
pub async fn lock(
    tx: &mut WriteTx,
    id: &TaskExecutionId,
) -> Result<Option<TaskExecution>, DbError> {
    one(tx, keyed(id).lock(LockType::Update)).await
}

/// The row number of an attempt.
pub async fn row(
    tx: &mut ReadTx,
    id: &TaskExecutionId,
) -> Result<Option<TaskExecutionRow>, DbError> {
    let select = query::select(TABLE, &["id"])
        .cond_where(is_attempt(id))
        .to_owned();
    let row = tx
        .of(operations::TASK_EXECUTIONS.get())
        .fetch_optional(&select)
        .await?;
    row.map_or(Ok(None), |row| row_number(&row, "id"))
}

/// Attempts of a node.
pub async fn list(
    tx: &mut ReadTx,
    node: &NodeExecutionId,
    list: &ListQuery,
) -> Result<Listed<TaskExecution>, DbError> {
    let mut select = query::select(TABLE, &COLUMNS);
    select.cond_where(of_node(TABLE, node));
    query::apply(&mut select, &TASK_EXECUTIONS, list, tx.dialect());
    tx.of(operations::TASK_EXECUTIONS.list())
        .read_all(&select, ROWS)
        .await
}

/// The attempt of a node with this number, whichever task it belongs to.
pub async fn by_attempt(
    tx: &mut ReadTx,
    node: &NodeExecutionId,
    retry_attempt: u32,
) -> Result<Option<TaskExecution>, DbError> {
    let select = query::select(TABLE, &COLUMNS)
        .cond_where(of_node(TABLE, node))
        .and_where(Expr::col((TABLE, "retry_attempt")).eq(i64::from(retry_attempt)))
        .limit(1)
        .to_owned();
    one(tx, &select).await
}
