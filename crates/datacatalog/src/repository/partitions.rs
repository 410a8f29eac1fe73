//! Table `partitions`: the partitions of artifacts.

use flyte_platform::sql::{DbError, ReadTx, WriteTx};
use jiff::Timestamp;
use sea_query::{Expr, ExprTrait as _, OnConflict, Order as Direction, Query};
use uuid::Uuid;

use super::columns::{NewRow, ROWS_AT_ONCE, insert};
use crate::records::Partition;

const TABLE: &str = "partitions";

/// Inserts the partitions of an artifact; those that are there stay.
///
/// # Errors
/// The database's.
pub async fn create(
    tx: &mut WriteTx,
    dataset: Uuid,
    artifact: &str,
    partitions: &[Partition],
    now: Timestamp,
) -> Result<(), DbError> {
    for partitions in partitions.chunks(ROWS_AT_ONCE) {
        let rows = partitions.iter().map(|partition| {
            NewRow::at(now)
                .with("dataset_uuid", dataset)
                .with("key", partition.key.as_str())
                .with("value", partition.value.as_str())
                .with("artifact_id", artifact)
        });
        let mut statement = insert(TABLE, rows.collect());
        statement.on_conflict(OnConflict::new().do_nothing().to_owned());
        tx.execute(&statement).await?;
    }
    Ok(())
}

/// The partitions of these artifacts in the order of their creation, each with its artifact's id.
///
/// # Errors
/// The database's.
pub async fn of(
    tx: &mut ReadTx,
    artifacts: &[String],
) -> Result<Vec<(String, Partition)>, DbError> {
    if artifacts.is_empty() {
        return Ok(Vec::new());
    }
    let select = Query::select()
        .columns([(TABLE, "artifact_id"), (TABLE, "key"), (TABLE, "value")])
        .from(TABLE)
        .and_where(Expr::col((TABLE, "artifact_id")).is_in(artifacts.iter().map(String::as_str)))
        .order_by((TABLE, "created_at"), Direction::Asc)
        .order_by((TABLE, "key"), Direction::Asc)
        .take();
    let rows = tx.fetch_all(&select).await?;
    let partitions = rows.iter().map(|row| {
        let partition = Partition {
            key: row.text("key")?,
            value: row.text("value")?,
        };
        Ok((row.text("artifact_id")?, partition))
    });
    partitions.collect()
}
