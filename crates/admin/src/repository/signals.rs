//! Table `signals` (spec 01 §17).

use flyte_core::identifiers::ExecutionId;
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{Condition, Expr, ExprTrait as _, OnConflict, Query};

use super::{
    columns::{EXECUTION_KEY, NewRow, execution_id, of_execution, optional_stored, stored},
    operations, query,
};
use crate::{
    filters::{ListQuery, SIGNALS},
    records::Signal,
};

const TABLE: &str = "signals";

const COLUMNS: [&str; 6] = [
    "execution_project",
    "execution_domain",
    "execution_name",
    "signal_id",
    "type",
    "value",
];

const ROWS: Table<Signal> = Table { name: TABLE, read };

fn read(row: &Row) -> Result<Signal, DbError> {
    Ok(Signal {
        execution: execution_id(row)?,
        signal: row.text("signal_id")?,
        literal_type: stored(row, "type")?,
        value: optional_stored(row, "value")?,
    })
}

fn is_signal(execution: &ExecutionId, signal: &str) -> Condition {
    of_execution(TABLE, execution).add(Expr::col((TABLE, "signal_id")).eq(signal))
}

/// Inserts a signal unless it is there.
pub async fn ensure(tx: &mut WriteTx, signal: &Signal, now: Timestamp) -> Result<(), DbError> {
    let mut row = NewRow::at(now);
    row.execution(&signal.execution)
        .set("signal_id", signal.signal.as_str())
        .set("type", signal.literal_type.bytes().to_vec())
        .set(
            "value",
            signal.value.as_ref().map(|value| value.bytes().to_vec()),
        );
    let mut insert = row.insert_into(TABLE);
    let key = EXECUTION_KEY.into_iter().chain(["signal_id"]);
    insert.on_conflict(OnConflict::columns(key).do_nothing().to_owned());
    tx.of(operations::SIGNALS.create())
        .execute(&insert)
        .await
        .map(drop)
}

/// The signal called `signal` of an execution.
pub async fn get(
    tx: &mut ReadTx,
    execution: &ExecutionId,
    signal: &str,
) -> Result<Option<Signal>, DbError> {
    let select = query::select(TABLE, &COLUMNS)
        .cond_where(is_signal(execution, signal))
        .to_owned();
    tx.of(operations::SIGNALS.get())
        .read_optional(&select, ROWS)
        .await
}

/// Writes the value of a signal that exists.
pub async fn set_value(tx: &mut WriteTx, signal: &Signal, now: Timestamp) -> Result<(), DbError> {
    let value = signal.value.as_ref().map(|value| value.bytes().to_vec());
    let update = Query::update()
        .table(TABLE)
        .value("value", value)
        .value("updated_at", now)
        .cond_where(is_signal(&signal.execution, &signal.signal))
        .take();
    tx.of(operations::SIGNALS.update())
        .execute(&update)
        .await
        .map(drop)
}

/// Signals of an execution.
pub async fn list(
    tx: &mut ReadTx,
    execution: &ExecutionId,
    list: &ListQuery,
) -> Result<Listed<Signal>, DbError> {
    let mut select = query::select(TABLE, &COLUMNS);
    select.cond_where(of_execution(TABLE, execution));
    query::apply(&mut select, &SIGNALS, list, tx.dialect());
    tx.of(operations::SIGNALS.list())
        .read_all(&select, ROWS)
        .await
}
