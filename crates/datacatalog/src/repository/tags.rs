//! Table `tags`: names of artifacts within a dataset.

use flyte_platform::sql::{DbError, ReadTx, WriteTx};
use jiff::Timestamp;
use sea_query::{Expr, ExprTrait as _, Order as Direction, Query};

use super::columns::{NewRow, insert, of_dataset};
use crate::{domain::ids::DatasetKey, records::DatasetRef};

const TABLE: &str = "tags";

/// Inserts a tag; a taken name is a unique violation, whatever it names.
///
/// # Errors
/// The database's.
pub async fn create(
    tx: &mut WriteTx,
    dataset: &DatasetRef,
    name: &str,
    artifact: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let row = NewRow::at(now)
        .of_dataset(&dataset.key)
        .with("tag_name", name)
        .with("artifact_id", artifact)
        .with("dataset_uuid", dataset.uuid);
    tx.execute(&insert(TABLE, vec![row])).await.map(drop)
}

/// Lets a tag name artifact `to` that names `from`; false if it does not, or not any more.
///
/// # Errors
/// The database's.
pub async fn move_to(
    tx: &mut WriteTx,
    dataset: &DatasetKey,
    name: &str,
    (from, to): (&str, &str),
    now: Timestamp,
) -> Result<bool, DbError> {
    let update = Query::update()
        .table(TABLE)
        .value("artifact_id", to)
        .value("updated_at", now)
        .cond_where(of_dataset(TABLE, dataset))
        .and_where(Expr::col((TABLE, "tag_name")).eq(name))
        .and_where(Expr::col((TABLE, "artifact_id")).eq(from))
        .take();
    Ok(tx.execute(&update).await? > 0)
}

/// How many tags name an artifact.
///
/// # Errors
/// The database's.
pub async fn count(tx: &mut ReadTx, dataset: &DatasetRef, artifact: &str) -> Result<i64, DbError> {
    let mut select = Query::select()
        .expr_as(Expr::col((TABLE, "tag_name")).count(), "tags")
        .from(TABLE)
        .and_where(Expr::col((TABLE, "artifact_id")).eq(artifact))
        .take();
    match dataset.uuid {
        Some(uuid) => select.and_where(Expr::col((TABLE, "dataset_uuid")).eq(uuid)),
        None => select.cond_where(of_dataset(TABLE, &dataset.key)),
    };
    let row = tx.fetch_optional(&select).await?;
    row.map_or(Ok(0), |row| row.integer("tags"))
}

/// The id of the artifact that a tag names.
///
/// # Errors
/// The database's.
pub async fn artifact_of(
    tx: &mut ReadTx,
    dataset: &DatasetKey,
    name: &str,
) -> Result<Option<String>, DbError> {
    let select = Query::select()
        .column((TABLE, "artifact_id"))
        .from(TABLE)
        .cond_where(of_dataset(TABLE, dataset))
        .and_where(Expr::col((TABLE, "tag_name")).eq(name))
        .take();
    let row = tx.fetch_optional(&select).await?;
    row.map(|row| row.text("artifact_id")).transpose()
}

/// The tags of these artifacts of a dataset in the order of their creation, each with its artifact's id.
///
/// # Errors
/// The database's.
pub async fn of(
    tx: &mut ReadTx,
    dataset: &DatasetRef,
    artifacts: &[String],
) -> Result<Vec<(String, String)>, DbError> {
    if artifacts.is_empty() {
        return Ok(Vec::new());
    }
    let mut select = Query::select()
        .columns([(TABLE, "artifact_id"), (TABLE, "tag_name")])
        .from(TABLE)
        .and_where(Expr::col((TABLE, "artifact_id")).is_in(artifacts.iter().map(String::as_str)))
        .order_by((TABLE, "created_at"), Direction::Asc)
        .order_by((TABLE, "tag_name"), Direction::Asc)
        .take();
    match dataset.uuid {
        Some(uuid) => select.and_where(Expr::col((TABLE, "dataset_uuid")).eq(uuid)),
        None => select.cond_where(of_dataset(TABLE, &dataset.key)),
    };
    let rows = tx.fetch_all(&select).await?;
    let tags = rows
        .iter()
        .map(|row| Ok((row.text("artifact_id")?, row.text("tag_name")?)));
    tags.collect()
}
