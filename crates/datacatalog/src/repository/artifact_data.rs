//! Table `artifact_data`: where the outputs of artifacts are.

use flyte_platform::sql::{DbError, ReadTx, WriteTx};
use jiff::Timestamp;
use sea_query::{Expr, ExprTrait as _, OnConflict, Order as Direction, Query};

use super::columns::{DATASET_KEY, NewRow, ROWS_AT_ONCE, insert, of_artifact, of_dataset};
use crate::{
    domain::ids::DatasetKey,
    records::{ArtifactData, ArtifactKey},
};

const TABLE: &str = "artifact_data";

/// Writes where outputs are: inserts those that are new and moves the others.
///
/// # Errors
/// The database's.
pub async fn put(
    tx: &mut WriteTx,
    artifact: &ArtifactKey,
    data: &[ArtifactData],
    now: Timestamp,
) -> Result<(), DbError> {
    for data in data.chunks(ROWS_AT_ONCE) {
        let rows = data.iter().map(|output| {
            NewRow::at(now)
                .of_artifact(artifact)
                .with("name", output.name.as_str())
                .with("location", output.location.as_str())
        });
        let mut statement = insert(TABLE, rows.collect());
        let key = DATASET_KEY.into_iter().chain(["artifact_id", "name"]);
        statement.on_conflict(
            OnConflict::columns(key)
                .update_columns(["location", "updated_at"])
                .to_owned(),
        );
        tx.execute(&statement).await?;
    }
    Ok(())
}

/// Forgets the outputs of an artifact that have none of these names.
///
/// # Errors
/// The database's.
pub async fn keep_only(
    tx: &mut WriteTx,
    artifact: &ArtifactKey,
    names: &[&str],
) -> Result<(), DbError> {
    let delete = Query::delete()
        .from_table(TABLE)
        .cond_where(of_artifact(TABLE, artifact))
        .and_where(Expr::col((TABLE, "name")).is_not_in(names.iter().copied()))
        .take();
    tx.execute(&delete).await.map(drop)
}

/// Where the outputs of these artifacts of a dataset are, by name, each with its artifact's id.
///
/// # Errors
/// The database's.
pub async fn of(
    tx: &mut ReadTx,
    dataset: &DatasetKey,
    artifacts: &[String],
) -> Result<Vec<(String, ArtifactData)>, DbError> {
    if artifacts.is_empty() {
        return Ok(Vec::new());
    }
    let select = Query::select()
        .columns([(TABLE, "artifact_id"), (TABLE, "name"), (TABLE, "location")])
        .from(TABLE)
        .cond_where(of_dataset(TABLE, dataset))
        .and_where(Expr::col((TABLE, "artifact_id")).is_in(artifacts.iter().map(String::as_str)))
        .order_by((TABLE, "name"), Direction::Asc)
        .take();
    let rows = tx.fetch_all(&select).await?;
    let data = rows.iter().map(|row| {
        let data = ArtifactData {
            name: row.text("name")?,
            location: row.text("location")?,
        };
        Ok((row.text("artifact_id")?, data))
    });
    data.collect()
}
