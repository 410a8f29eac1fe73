//! Table `artifacts`.

use flyte_idl::datacatalog::Metadata;
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{
    Cond, Condition, Expr, ExprTrait as _, LockType, Order as Direction, Query, SelectStatement,
};

use super::columns::{DATASET_KEY, NewRow, dataset_key, insert, of_artifact, of_dataset};
use crate::{
    domain::{
        filters::ArtifactFilter,
        ids::DatasetKey,
        pages::{Order, Page},
    },
    records::{Artifact, ArtifactKey, DatasetRef, decode_metadata, encode_metadata},
};

const TABLE: &str = "artifacts";

const ROWS: Table<Artifact> = Table { name: TABLE, read };

/// Columns of an artifact beside its dataset's key.
pub(super) const COLUMNS: [&str; 4] = [
    "artifact_id",
    "dataset_uuid",
    "serialized_metadata",
    "created_at",
];

pub(super) fn read(row: &Row) -> Result<Artifact, DbError> {
    Ok(Artifact {
        dataset: DatasetRef {
            key: dataset_key(row)?,
            uuid: row.uuid("dataset_uuid")?,
        },
        id: row.text("artifact_id")?,
        metadata: decode_metadata(&row.bytes("serialized_metadata")?)?,
        created_at: row.time("created_at")?,
    })
}

fn select() -> SelectStatement {
    let mut select = Query::select();
    select.from(TABLE);
    for column in DATASET_KEY.into_iter().chain(COLUMNS) {
        select.column((TABLE, column));
    }
    select
}

/// Inserts an artifact; a taken key is a unique violation.
///
/// # Errors
/// The database's.
pub async fn create(tx: &mut WriteTx, artifact: &Artifact, now: Timestamp) -> Result<(), DbError> {
    let row = NewRow::at(now)
        .of_artifact(&artifact.key())
        .with("dataset_uuid", artifact.dataset.uuid)
        .with("serialized_metadata", encode_metadata(&artifact.metadata));
    tx.execute(&insert(TABLE, vec![row])).await.map(drop)
}

/// The artifact of this id, in `dataset` or in whichever has it.
///
/// # Errors
/// The database's.
pub async fn get(
    tx: &mut ReadTx,
    dataset: Option<&DatasetKey>,
    id: &str,
) -> Result<Option<Artifact>, DbError> {
    let mut select = select();
    select.and_where(Expr::col((TABLE, "artifact_id")).eq(id));
    match dataset {
        Some(key) => {
            select.cond_where(of_dataset(TABLE, key));
        }
        // Ids are UUIDs by custom only: the first by primary key, as in the reference.
        None => {
            for column in DATASET_KEY {
                select.order_by((TABLE, column), Direction::Asc);
            }
            select.limit(1);
        }
    }
    let row = tx.fetch_optional(&select).await?;
    row.map(|row| ROWS.one(&row)).transpose()
}

/// Replaces the metadata of an artifact and locks its row. False if it is not there.
///
/// It is as young as its outputs from then on: `catalog-cache.max-cache-age` of clients goes by the time of creation (spec 06
/// B12), which Go's datacatalog leaves as it was.
///
/// # Errors
/// The database's.
pub async fn update(
    tx: &mut WriteTx,
    key: &ArtifactKey,
    metadata: &Metadata,
    now: Timestamp,
) -> Result<bool, DbError> {
    let update = Query::update()
        .table(TABLE)
        .value("serialized_metadata", encode_metadata(metadata))
        .value("created_at", now)
        .value("updated_at", now)
        .cond_where(of_artifact(TABLE, key))
        .take();
    Ok(tx.execute(&update).await? > 0)
}

/// Keeps an artifact from being removed until the end of the transaction. False if it is not there.
///
/// # Errors
/// The database's.
pub async fn hold(tx: &mut WriteTx, key: &ArtifactKey) -> Result<bool, DbError> {
    let select = Query::select()
        .expr_as(Expr::val(1), "one")
        .from(TABLE)
        .cond_where(of_artifact(TABLE, key))
        .lock(LockType::KeyShare)
        .take();
    Ok(tx.fetch_optional(&select).await?.is_some())
}

/// A page of the artifacts of a dataset that all `filters` fit.
///
/// # Errors
/// The database's; rows that cannot be read are left out.
pub async fn list(
    tx: &mut ReadTx,
    dataset: &DatasetRef,
    filters: &[ArtifactFilter],
    page: &Page,
) -> Result<Listed<Artifact>, DbError> {
    let mut select = select();
    match dataset.uuid {
        Some(uuid) => select.and_where(Expr::col((TABLE, "dataset_uuid")).eq(uuid)),
        None => select.cond_where(of_dataset(TABLE, &dataset.key)),
    };
    for filter in filters {
        select.cond_where(fits(filter));
    }
    let direction = match page.order {
        Order::Descending => Direction::Desc,
        Order::Ascending => Direction::Asc,
    };
    select
        .order_by((TABLE, "created_at"), direction.clone())
        .order_by((TABLE, "artifact_id"), direction)
        .limit(page.limit)
        .offset(page.offset);
    let rows = tx.fetch_all(&select).await?;
    Ok(ROWS.all(&rows, None))
}

/// A filter as a condition: what belongs to an artifact is looked up, not joined, so that it never is there twice.
fn fits(filter: &ArtifactFilter) -> Condition {
    let belonging = |table: &'static str, condition: Condition| {
        let found = Query::select()
            .expr(Expr::val(1))
            .from(table)
            .and_where(Expr::col((table, "artifact_id")).equals((TABLE, "artifact_id")))
            .cond_where(condition)
            .take();
        Cond::all().add(Expr::exists(found))
    };
    match filter {
        ArtifactFilter::Id(id) => {
            Cond::all().add(Expr::col((TABLE, "artifact_id")).eq(id.as_str()))
        }
        ArtifactFilter::Tag(name) => {
            let same_dataset = DATASET_KEY.into_iter().fold(Cond::all(), |all, column| {
                all.add(Expr::col(("tags", column)).equals((TABLE, column)))
            });
            let named = Expr::col(("tags", "tag_name")).eq(name.as_str());
            belonging("tags", same_dataset.add(named))
        }
        ArtifactFilter::Partition { key, value } => belonging(
            "partitions",
            Cond::all()
                .add(Expr::col(("partitions", "key")).eq(key.as_str()))
                .add(Expr::col(("partitions", "value")).eq(value.as_str())),
        ),
    }
}
