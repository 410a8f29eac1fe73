//! Tables `datasets` and `partition_keys`.

use flyte_idl::datacatalog::Metadata;
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{
    Cond, Condition, Expr, ExprTrait as _, OnConflict, Order as Direction, Query, SelectStatement,
};
use uuid::Uuid;

use super::columns::{NewRow, ROWS_AT_ONCE, insert};
use crate::{
    domain::{
        filters::{DatasetField, DatasetFilter},
        ids::DatasetKey,
        pages::{Order, Page},
    },
    records::{Dataset, DatasetRef, decode_metadata, encode_metadata},
};

const TABLE: &str = "datasets";
const KEYS: &str = "partition_keys";

const COLUMNS: [&str; 6] = [
    "project",
    "name",
    "domain",
    "version",
    "uuid",
    "serialized_metadata",
];

const ROWS: Table<Dataset> = Table { name: TABLE, read };

/// A dataset to insert.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDataset {
    /// Its key.
    pub key: DatasetKey,
    /// What others refer to it by.
    pub uuid: Uuid,
    /// What its creator says of it.
    pub metadata: Metadata,
    /// Its partition keys, each once.
    pub partition_keys: Vec<String>,
}

/// What an insertion came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is there now.
    Made,
    /// It, or its UUID, was there before.
    AlreadyThere,
}

fn read(row: &Row) -> Result<Dataset, DbError> {
    let key = DatasetKey::of_row(
        row.text("project")?,
        row.text("domain")?,
        row.text("name")?,
        row.text("version")?,
    );
    Ok(Dataset {
        id: DatasetRef {
            key,
            uuid: row.uuid("uuid")?,
        },
        metadata: decode_metadata(&row.bytes("serialized_metadata")?)?,
    })
}

fn select() -> SelectStatement {
    let mut select = Query::select();
    select.from(TABLE);
    for column in COLUMNS {
        select.column((TABLE, column));
    }
    select
}

fn is_dataset(key: &DatasetKey) -> Condition {
    Cond::all()
        .add(Expr::col((TABLE, "project")).eq(key.project()))
        .add(Expr::col((TABLE, "name")).eq(key.name()))
        .add(Expr::col((TABLE, "domain")).eq(key.domain()))
        .add(Expr::col((TABLE, "version")).eq(key.version()))
}

/// Inserts a dataset with its partition keys, unless it is there: clients ask for it before each artifact.
///
/// # Errors
/// The database's.
pub async fn create(
    tx: &mut WriteTx,
    dataset: &NewDataset,
    now: Timestamp,
) -> Result<Insertion, DbError> {
    let row = NewRow::at(now)
        .with("project", dataset.key.project())
        .with("name", dataset.key.name())
        .with("domain", dataset.key.domain())
        .with("version", dataset.key.version())
        .with("uuid", dataset.uuid)
        .with("serialized_metadata", encode_metadata(&dataset.metadata));
    let mut statement = insert(TABLE, vec![row]);
    statement.on_conflict(OnConflict::new().do_nothing().to_owned());
    if tx.execute(&statement).await? == 0 {
        return Ok(Insertion::AlreadyThere);
    }
    for keys in dataset.partition_keys.chunks(ROWS_AT_ONCE) {
        let rows = keys.iter().map(|key| {
            NewRow::at(now)
                .with("dataset_uuid", dataset.uuid)
                .with("name", key.as_str())
        });
        tx.execute(&insert(KEYS, rows.collect())).await?;
    }
    Ok(Insertion::Made)
}

/// The dataset of this key, with this UUID if there is one.
///
/// # Errors
/// The database's.
pub async fn get(
    tx: &mut ReadTx,
    key: &DatasetKey,
    uuid: Option<Uuid>,
) -> Result<Option<Dataset>, DbError> {
    let mut select = select();
    select.cond_where(is_dataset(key));
    if let Some(uuid) = uuid {
        select.and_where(Expr::col((TABLE, "uuid")).eq(uuid));
    }
    let row = tx.fetch_optional(&select).await?;
    row.map(|row| ROWS.one(&row)).transpose()
}

/// The partition keys of datasets, by name, each with its dataset's UUID.
///
/// # Errors
/// The database's.
pub async fn partition_keys(
    tx: &mut ReadTx,
    datasets: &[Uuid],
) -> Result<Vec<(Uuid, String)>, DbError> {
    if datasets.is_empty() {
        return Ok(Vec::new());
    }
    let select = Query::select()
        .columns([(KEYS, "dataset_uuid"), (KEYS, "name")])
        .from(KEYS)
        .and_where(Expr::col((KEYS, "dataset_uuid")).is_in(datasets.iter().copied()))
        .order_by((KEYS, "name"), Direction::Asc)
        .take();
    let rows = tx.fetch_all(&select).await?;
    let keys = rows.iter().map(|row| {
        let uuid = row.uuid("dataset_uuid")?.unwrap_or_default();
        Ok((uuid, row.text("name")?))
    });
    keys.collect()
}

/// A page of the datasets that all `filters` fit.
///
/// # Errors
/// The database's; rows that cannot be read are left out.
pub async fn list(
    tx: &mut ReadTx,
    filters: &[DatasetFilter],
    page: &Page,
) -> Result<Listed<Dataset>, DbError> {
    let mut select = select();
    for filter in filters {
        let column = match filter.field {
            DatasetField::Project => "project",
            DatasetField::Domain => "domain",
            DatasetField::Name => "name",
            DatasetField::Version => "version",
        };
        select.and_where(Expr::col((TABLE, column)).eq(filter.value.as_str()));
    }
    let direction = match page.order {
        Order::Descending => Direction::Desc,
        Order::Ascending => Direction::Asc,
    };
    select.order_by((TABLE, "created_at"), direction.clone());
    for column in ["project", "name", "domain", "version"] {
        select.order_by((TABLE, column), direction.clone());
    }
    select.limit(page.limit).offset(page.offset);
    let rows = tx.fetch_all(&select).await?;
    Ok(ROWS.all(&rows, None))
}
