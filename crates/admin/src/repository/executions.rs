//! Tables `executions` and `execution_tags`.

use std::collections::BTreeSet;

use flyte_core::identifiers::ExecutionId;
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{
    Condition, Expr, ExprTrait as _, Func, JoinType, LockType, OnConflict, Order, Query,
    SelectStatement, Value,
};

use super::{
    Names,
    columns::{
        EXECUTION_KEY, NewRow, execution_id, of_execution, optional_name, row_number, stored,
    },
    operations, query, resolve,
};
use crate::{
    filters::{EXECUTIONS, ListQuery},
    records::{ErrorKind, Execution, ExecutionRow, LaunchEntity, WorkflowPhase, or_zero},
};

const TABLE: &str = "executions";

/// Tags in one statement: each takes seven parameters, and SQLite has 32,766.
const TAGS_AT_ONCE: usize = 1_000;

const COLUMNS: [&str; 27] = [
    "id",
    "created_at",
    "execution_project",
    "execution_domain",
    "execution_name",
    "launch_plan_id",
    "workflow_id",
    "task_id",
    "phase",
    "closure",
    "spec",
    "started_at",
    "execution_created_at",
    "execution_updated_at",
    "duration",
    "abort_cause",
    "mode",
    "source_execution_id",
    "parent_node_execution_id",
    "cluster",
    "inputs_uri",
    "user_inputs_uri",
    "error_kind",
    "error_code",
    "user",
    "state",
    "launch_entity",
];

const ROWS: Table<Execution> = Table { name: TABLE, read };

fn read(row: &Row) -> Result<Execution, DbError> {
    Ok(Execution {
        row: row_number(row, "id")?,
        id: execution_id(row)?,
        launch_plan_row: row_number(row, "launch_plan_id")?,
        workflow_row: row_number(row, "workflow_id")?,
        task_row: row_number(row, "task_id")?,
        phase: row.text("phase")?.as_str().into(),
        closure: stored(row, "closure")?,
        spec: stored(row, "spec")?,
        started_at: row.time("started_at")?,
        created_at: row.time("execution_created_at")?,
        updated_at: row.time("execution_updated_at")?,
        duration: row.integer("duration")?,
        abort_cause: row.text("abort_cause")?,
        mode: row.number("mode")?.into(),
        source_execution_row: row_number(row, "source_execution_id")?,
        parent_node_row: row_number(row, "parent_node_execution_id")?,
        cluster: row.text("cluster")?,
        inputs_uri: row.text("inputs_uri")?,
        user_inputs_uri: row.text("user_inputs_uri")?,
        error_kind: optional_name(row, "error_kind")?,
        error_code: row.optional_text("error_code")?,
        user: row.text("user")?,
        state: row.number("state")?.into(),
        launch_entity: optional_name(row, "launch_entity")?
            .filter(|entity: &LaunchEntity| !entity.word().is_empty()),
        row_created_at: row.time("created_at")?,
    })
}

/// The columns that a change may write; the key and the rows it was made from never change.
fn mutable(execution: &Execution) -> [(&'static str, Value); 16] {
    [
        ("phase", execution.phase.name().into()),
        ("closure", execution.closure.bytes().to_vec().into()),
        ("spec", execution.spec.bytes().to_vec().into()),
        ("started_at", execution.started_at.into()),
        ("execution_created_at", execution.created_at.into()),
        ("execution_updated_at", execution.updated_at.into()),
        ("duration", execution.duration.into()),
        ("abort_cause", execution.abort_cause.as_str().into()),
        ("cluster", execution.cluster.as_str().into()),
        ("inputs_uri", execution.inputs_uri.as_str().into()),
        ("user_inputs_uri", execution.user_inputs_uri.as_str().into()),
        (
            "error_kind",
            execution.error_kind.as_ref().map(ErrorKind::name).into(),
        ),
        ("error_code", execution.error_code.clone().into()),
        ("user", execution.user.as_str().into()),
        ("state", execution.state.number().into()),
        ("mode", execution.mode.number().into()),
    ]
}

/// Inserts an execution and returns its row number; a taken id is a unique violation.
pub async fn insert(
    tx: &mut WriteTx,
    execution: &Execution,
    now: Timestamp,
) -> Result<Option<ExecutionRow>, DbError> {
    let mut row = NewRow::at(now);
    row.execution(&execution.id)
        .set("launch_plan_id", or_zero(execution.launch_plan_row))
        .set("workflow_id", or_zero(execution.workflow_row))
        .set("task_id", or_zero(execution.task_row))
        .set(
            "source_execution_id",
            or_zero(execution.source_execution_row),
        )
        .set(
            "parent_node_execution_id",
            or_zero(execution.parent_node_row),
        )
        .set(
            "launch_entity",
            execution
                .launch_entity
                .as_ref()
                .map_or("", LaunchEntity::word),
        );
    for (column, value) in mutable(execution) {
        row.set(column, value);
    }
    let mut insert = row.insert_into(TABLE);
    insert.returning_col("id");
    let rows = tx
        .of(operations::EXECUTIONS.create())
        .execute_returning(&insert)
        .await?;
    rows.first().map_or(Ok(None), |row| row_number(row, "id"))
}

/// The refusal of an id that is taken, without a try.
pub fn name_taken() -> DbError {
    DbError::UniqueViolation {
        constraint: "executions_pkey".to_owned(),
    }
}

/// Writes all columns that may change.
pub async fn update(
    tx: &mut WriteTx,
    execution: &Execution,
    now: Timestamp,
) -> Result<(), DbError> {
    let mut update = Query::update();
    update
        .table(TABLE)
        .values(mutable(execution).map(|(column, value)| (column, Expr::val(value))))
        .value("updated_at", now)
        .cond_where(of_execution(TABLE, &execution.id));
    tx.of(operations::EXECUTIONS.update())
        .execute(&update)
        .await
        .map(drop)
}

/// Removes an execution that was reserved but never began, with its tags.
pub async fn remove(tx: &mut WriteTx, id: &ExecutionId) -> Result<(), DbError> {
    for table in [TABLE, "execution_tags"] {
        let delete = Query::delete()
            .from_table(table)
            .cond_where(of_execution(table, id))
            .take();
        tx.of(operations::EXECUTIONS.delete())
            .execute(&delete)
            .await?;
    }
    Ok(())
}

/// Writes the tags of an execution.
pub async fn insert_tags(
    tx: &mut WriteTx,
    id: &ExecutionId,
    tags: &BTreeSet<(String, String)>,
    now: Timestamp,
) -> Result<(), DbError> {
    let tags: Vec<_> = tags.iter().collect();
    for tags in tags.chunks(TAGS_AT_ONCE) {
        let key = EXECUTION_KEY.into_iter().chain(["key", "value"]);
        let mut insert = Query::insert();
        insert
            .into_table("execution_tags")
            .columns(["created_at", "updated_at"].into_iter().chain(key.clone()))
            .on_conflict(OnConflict::columns(key).do_nothing().to_owned());
        for (key, value) in tags {
            insert.values_panic([
                Expr::val(now),
                Expr::val(now),
                Expr::val(id.project.as_str()),
                Expr::val(id.domain.as_str()),
                Expr::val(id.name.as_str()),
                Expr::val(key.as_str()),
                Expr::val(value.as_str()),
            ]);
        }
        tx.of(operations::EXECUTIONS.create())
            .execute(&insert)
            .await?;
    }
    Ok(())
}

fn keyed(id: &ExecutionId) -> SelectStatement {
    query::select(TABLE, &COLUMNS)
        .cond_where(of_execution(TABLE, id))
        .to_owned()
}

async fn one(tx: &mut ReadTx, select: &SelectStatement) -> Result<Option<Execution>, DbError> {
    tx.of(operations::EXECUTIONS.get())
        .read_optional(select, ROWS)
        .await
}

/// The execution with this id.
pub async fn get(tx: &mut ReadTx, id: &ExecutionId) -> Result<Option<Execution>, DbError> {
    one(tx, &keyed(id)).await
}

/// The execution with this id, locked until the transaction ends.
pub async fn lock(tx: &mut WriteTx, id: &ExecutionId) -> Result<Option<Execution>, DbError> {
    one(tx, keyed(id).lock(LockType::Update)).await
}

/// One of `ids` that there is.
pub async fn find_any(
    tx: &mut ReadTx,
    ids: &[ExecutionId],
) -> Result<Option<ExecutionId>, DbError> {
    if ids.is_empty() {
        return Ok(None);
    }
    let wanted = ids.iter().map(|id| {
        (
            id.project.as_str().to_owned(),
            id.domain.as_str().to_owned(),
            id.name.clone(),
        )
    });
    // Joined rather than compared with a disjunction: each of them is looked up by the key, and SQLite nests terms.
    let select = Query::select()
        .columns(EXECUTION_KEY.map(|column| (TABLE, column)))
        .from_values(wanted, "wanted")
        .join(
            JoinType::InnerJoin,
            TABLE,
            EXECUTION_KEY
                .iter()
                .zip(["column1", "column2", "column3"])
                .fold(Condition::all(), |all, (column, wanted)| {
                    all.add(Expr::col((TABLE, *column)).equals(("wanted", wanted)))
                }),
        )
        .limit(1)
        .take();
    let row = tx
        .of(operations::EXECUTIONS.get())
        .fetch_optional(&select)
        .await?;
    row.as_ref().map(execution_id).transpose()
}

/// The cluster of the execution with this id: all that node and task events need to know of it.
pub async fn cluster(tx: &mut ReadTx, id: &ExecutionId) -> Result<Option<String>, DbError> {
    let select = query::select(TABLE, &["cluster"])
        .cond_where(of_execution(TABLE, id))
        .to_owned();
    let row = tx
        .of(operations::EXECUTIONS.get())
        .fetch_optional(&select)
        .await?;
    row.map(|row| row.text("cluster")).transpose()
}

/// The phase of the execution with this id.
pub async fn phase(tx: &mut ReadTx, id: &ExecutionId) -> Result<Option<WorkflowPhase>, DbError> {
    let select = query::select(TABLE, &["phase"])
        .cond_where(of_execution(TABLE, id))
        .to_owned();
    let row = tx
        .of(operations::EXECUTIONS.get())
        .fetch_optional(&select)
        .await?;
    row.map(|row| row.text("phase").map(|name| name.as_str().into()))
        .transpose()
}

/// Executions of a project and domain, of one name if `name` is not empty.
pub async fn list(
    tx: &mut ReadTx,
    names: Names<'_>,
    list: &ListQuery,
) -> Result<Listed<Execution>, DbError> {
    let mut select = query::select(TABLE, &COLUMNS);
    let scope = resolve::Scope {
        table: TABLE,
        columns: names.columns(EXECUTION_KEY),
    };
    resolve::apply(tx, &mut select, &EXECUTIONS, &scope, list).await?;
    tx.of(operations::EXECUTIONS.list())
        .read_all(&select, ROWS)
        .await
}

/// How many executions of a launch plan's name, of any version, have not ended.
///
/// Reserved ones count too; the reference overlooks them (spec 01 §24 no. 13).
pub async fn count_active(tx: &mut ReadTx, names: Names<'_>) -> Result<i64, DbError> {
    let mut select = Query::select();
    select
        .expr_as(Func::count(Expr::col((TABLE, "id"))), "count")
        .from(TABLE)
        .join(
            JoinType::InnerJoin,
            "launch_plans",
            Expr::col((TABLE, "launch_plan_id")).equals(("launch_plans", "id")),
        )
        .cond_where(names.condition("launch_plans"))
        .and_where(
            Expr::col((TABLE, "phase")).is_in(
                [
                    WorkflowPhase::Undefined,
                    WorkflowPhase::Queued,
                    WorkflowPhase::Running,
                ]
                .map(|phase| phase.name().to_owned()),
            ),
        );
    let row = tx
        .of(operations::EXECUTIONS.count())
        .fetch_optional(&select)
        .await?;
    row.map_or(Ok(0), |row| row.integer("count"))
}

/// Phases in which admin itself has something left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The row is there, the resource perhaps not.
    Reserved,
    /// The resource is to go.
    Aborting,
}

/// An execution that may need repair.
pub struct Candidate {
    /// Its row, by which the next page begins behind it.
    pub row: Option<ExecutionRow>,
    /// The execution, or why its row cannot be read.
    pub execution: Result<Execution, DbError>,
}

const CANDIDATES: Table<Candidate> = Table {
    name: TABLE,
    read: |row| {
        Ok(Candidate {
            row: row_number(row, "id")?,
            execution: ROWS.one(row),
        })
    },
};

/// Executions in `phase` that nothing has touched since `before`, behind row `after`, at most `limit` in the order of
/// rows: candidates for repair.
pub async fn unfinished(
    tx: &mut ReadTx,
    phase: Unfinished,
    before: Timestamp,
    after: Option<ExecutionRow>,
    limit: u64,
) -> Result<Vec<Candidate>, DbError> {
    let phase = match phase {
        Unfinished::Reserved => WorkflowPhase::Undefined,
        Unfinished::Aborting => WorkflowPhase::Aborting,
    };
    let select = query::select(TABLE, &COLUMNS)
        .cond_where(
            Condition::all()
                .add(Expr::col((TABLE, "phase")).eq(phase.name()))
                .add(Expr::col((TABLE, "id")).gt(or_zero(after)))
                .add(Expr::col((TABLE, "updated_at")).lt(before)),
        )
        .order_by((TABLE, "id"), Order::Asc)
        .limit(limit)
        .to_owned();
    let found = tx
        .of(operations::EXECUTIONS.list())
        .read_all(&select, CANDIDATES)
        .await?;
    Ok(found.into_vec())
}
