//! Artifacts as entries of the cache: selected, measured and removed.
//!
//! An entry's age is `artifacts.updated_at`, which Go's datacatalog and this one set at each write. Its size is in our own table
//! `flyte_rs_artifact_sizes`, with the age that it was measured at: Go, which knows nothing of that table, changes the age when it
//! replaces outputs, and the size counts as unknown from then on.

use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{
    Cond, Condition, Expr, ExprTrait as _, JoinType, LikeExpr, LockType, OnConflict,
    Order as Direction, Query, SelectStatement,
};
use uuid::Uuid;

use super::{
    artifact_data,
    artifacts::{self, COLUMNS},
    columns::{DATASET_KEY, NewRow, dataset_key, insert, of_artifact, of_dataset},
};
use crate::{
    domain::entries::{Position, Selection, versions_of},
    records::{Artifact, ArtifactKey},
};

const ARTIFACTS: &str = "artifacts";
const SIZES: &str = "flyte_rs_artifact_sizes";

const ROWS: Table<Entry> = Table {
    name: ARTIFACTS,
    read,
};

/// An artifact with its age and size.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The artifact.
    pub artifact: Artifact,
    /// When it was written last.
    pub written_at: Timestamp,
    /// What its outputs take, in bytes; none if nobody has measured it since.
    pub bytes: Option<u64>,
}

/// An entry as it was when somebody looked; what is done to it is done only while it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which artifact.
    pub key: ArtifactKey,
    /// The UUID of its dataset.
    pub dataset_uuid: Option<Uuid>,
    /// When it was written last.
    pub written_at: Timestamp,
    /// As [`Entry::bytes`].
    pub bytes: Option<u64>,
}

impl Seen {
    /// Where it is in the order of ages.
    pub fn position(&self) -> Position {
        Position {
            written_at: self.written_at,
            artifact: self.key.id.clone(),
        }
    }
}

/// How many entries there are, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries.
    pub entries: u64,
    /// Bytes of those that are measured.
    pub bytes: u64,
    /// Entries that are not measured.
    pub unmeasured: u64,
}

fn read(row: &Row) -> Result<Entry, DbError> {
    Ok(Entry {
        artifact: artifacts::read(row)?,
        written_at: written_at(row)?,
        bytes: bytes(row)?,
    })
}

fn written_at(row: &Row) -> Result<Timestamp, DbError> {
    Ok(row.time("updated_at")?.unwrap_or(Timestamp::UNIX_EPOCH))
}

fn bytes(row: &Row) -> Result<Option<u64>, DbError> {
    let bytes = row.optional_integer("bytes")?;
    Ok(bytes.map(|bytes| u64::try_from(bytes).unwrap_or_default()))
}

fn seen(row: &Row) -> Result<Seen, DbError> {
    Ok(Seen {
        key: ArtifactKey {
            dataset: dataset_key(row)?,
            id: row.text("artifact_id")?,
        },
        dataset_uuid: row.uuid("dataset_uuid")?,
        written_at: written_at(row)?,
        bytes: bytes(row)?,
    })
}

/// The rows of `table` that belong to the artifact of a row of `artifacts`.
fn same_artifact(table: &'static str) -> Condition {
    let columns = DATASET_KEY.into_iter().chain(["artifact_id"]);
    columns.fold(Cond::all(), |all, column| {
        all.add(Expr::col((table, column)).equals((ARTIFACTS, column)))
    })
}

/// Selects from entries with their sizes. A row without an age, which only hands make, is none.
fn select_of(selection: &Selection) -> SelectStatement {
    let measured = same_artifact(SIZES)
        .add(Expr::col((SIZES, "written_at")).equals((ARTIFACTS, "updated_at")));
    let mut select = Query::select();
    select
        .from(ARTIFACTS)
        .join(JoinType::LeftJoin, SIZES, measured)
        .and_where(Expr::col((ARTIFACTS, "updated_at")).is_not_null())
        .cond_where(fits(selection));
    select
}

fn fits(selection: &Selection) -> Condition {
    let Selection {
        project,
        domain,
        name,
        version,
        tag,
        written_before,
    } = selection;
    let column = |name: &'static str| Expr::col((ARTIFACTS, name));
    let mut all = Cond::all();
    for (column, value) in [
        (column("dataset_project"), project),
        (column("dataset_domain"), domain),
        (column("dataset_name"), name),
    ] {
        if let Some(value) = value {
            all = all.add(column.eq(value.as_str()));
        }
    }
    if let Some(version) = version {
        let pattern = LikeExpr::new(versions_of(version)).escape('\\');
        let either = Cond::any()
            .add(column("dataset_version").eq(version.as_str()))
            .add(column("dataset_version").like(pattern));
        all = all.add(either);
    }
    if let Some(tag) = tag {
        let named = Query::select()
            .expr(Expr::val(1))
            .from("tags")
            .cond_where(same_artifact("tags"))
            .and_where(Expr::col(("tags", "tag_name")).eq(tag.as_str()))
            .take();
        all = all.add(Expr::exists(named));
    }
    if let Some(before) = written_before {
        all = all.add(column("updated_at").lt(*before));
    }
    all
}

/// The most recently written entries that `selection` fits, behind `after`.
///
/// # Errors
/// The database's; rows that cannot be read are left out.
pub async fn list(
    tx: &mut ReadTx,
    selection: &Selection,
    after: Option<&Position>,
    limit: u64,
) -> Result<Listed<Entry>, DbError> {
    let mut select = select_of(selection);
    for column in DATASET_KEY.into_iter().chain(COLUMNS).chain(["updated_at"]) {
        select.column((ARTIFACTS, column));
    }
    select.column((SIZES, "bytes"));
    if let Some(Position {
        written_at,
        artifact,
    }) = after
    {
        let same = Cond::all()
            .add(Expr::col((ARTIFACTS, "updated_at")).eq(*written_at))
            .add(Expr::col((ARTIFACTS, "artifact_id")).lt(artifact.as_str()));
        let behind = Cond::any()
            .add(Expr::col((ARTIFACTS, "updated_at")).lt(*written_at))
            .add(same);
        select.cond_where(behind);
    }
    select
        .order_by((ARTIFACTS, "updated_at"), Direction::Desc)
        .order_by((ARTIFACTS, "artifact_id"), Direction::Desc)
        .limit(limit);
    let rows = tx.fetch_all(&select).await?;
    Ok(ROWS.all(&rows, None))
}

/// The oldest entries that `selection` fits. Their metadata is not looked at, so that one that cannot be read can be removed.
///
/// # Errors
/// The database's.
pub async fn oldest(
    tx: &mut ReadTx,
    selection: &Selection,
    limit: u64,
) -> Result<Vec<Seen>, DbError> {
    look(tx, select_of(selection), None, limit).await
}

/// The oldest entries behind `after` whose size is not known.
///
/// # Errors
/// The database's.
pub async fn unmeasured(
    tx: &mut ReadTx,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<Seen>, DbError> {
    let mut select = select_of(&Selection::default());
    select.and_where(Expr::col((SIZES, "bytes")).is_null());
    look(tx, select, after, limit).await
}

async fn look(
    tx: &mut ReadTx,
    mut select: SelectStatement,
    after: Option<&Position>,
    limit: u64,
) -> Result<Vec<Seen>, DbError> {
    for column in DATASET_KEY
        .into_iter()
        .chain(["artifact_id", "dataset_uuid", "updated_at"])
    {
        select.column((ARTIFACTS, column));
    }
    select.column((SIZES, "bytes"));
    if let Some(Position {
        written_at,
        artifact,
    }) = after
    {
        let same = Cond::all()
            .add(Expr::col((ARTIFACTS, "updated_at")).eq(*written_at))
            .add(Expr::col((ARTIFACTS, "artifact_id")).gt(artifact.as_str()));
        let behind = Cond::any()
            .add(Expr::col((ARTIFACTS, "updated_at")).gt(*written_at))
            .add(same);
        select.cond_where(behind);
    }
    select
        .order_by((ARTIFACTS, "updated_at"), Direction::Asc)
        .order_by((ARTIFACTS, "artifact_id"), Direction::Asc)
        .limit(limit);
    let rows = tx.fetch_all(&select).await?;
    rows.iter().map(seen).collect()
}

/// How many entries `selection` fits, and what they take.
///
/// # Errors
/// The database's.
pub async fn totals(tx: &mut ReadTx, selection: &Selection) -> Result<Totals, DbError> {
    let select = select_of(selection)
        .expr_as(Expr::cust("COUNT(*)"), "entries")
        .expr_as(Expr::cust("COUNT(bytes)"), "measured")
        .expr_as(
            Expr::cust("CAST(COALESCE(SUM(bytes), 0) AS BIGINT)"),
            "bytes",
        )
        .take();
    let Some(row) = tx.fetch_optional(&select).await? else {
        return Ok(Totals::default());
    };
    let number = |column: &str| {
        row.integer(column)
            .map(|number| u64::try_from(number).unwrap_or_default())
    };
    let (entries, measured) = (number("entries")?, number("measured")?);
    Ok(Totals {
        entries,
        bytes: number("bytes")?,
        unmeasured: entries.saturating_sub(measured),
    })
}

/// Notes what the outputs of an artifact that was written at `written_at` take.
///
/// # Errors
/// The database's.
pub async fn put_size(
    tx: &mut WriteTx,
    artifact: &ArtifactKey,
    written_at: Timestamp,
    bytes: u64,
) -> Result<(), DbError> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let columns = ["written_at", "bytes"];
    let row = NewRow::default()
        .of_artifact(artifact)
        .with("written_at", written_at)
        .with("bytes", bytes);
    let mut statement = insert(SIZES, vec![row]);
    statement.on_conflict(
        OnConflict::columns(DATASET_KEY.into_iter().chain(["artifact_id"]))
            .update_columns(columns)
            .to_owned(),
    );
    tx.execute(&statement).await.map(drop)
}

/// Notes what an entry was measured to take, if it is still as it was seen.
///
/// # Errors
/// The database's.
pub async fn measure(tx: &mut WriteTx, seen: &Seen, bytes: u64) -> Result<(), DbError> {
    let select = Query::select()
        .expr_as(Expr::val(1), "one")
        .from(ARTIFACTS)
        .cond_where(of_artifact(ARTIFACTS, &seen.key))
        .and_where(Expr::col((ARTIFACTS, "updated_at")).eq(seen.written_at))
        .lock(LockType::KeyShare)
        .take();
    if tx.fetch_optional(&select).await?.is_some() {
        put_size(tx, &seen.key, seen.written_at, bytes).await?;
    }
    Ok(())
}

/// Removes an entry with all that belongs to it, if it is still as it was seen, and says where its outputs are; none if it is
/// not. Whoever removes or changes the row of an artifact locks it, so of two at once the second sees what the first has done.
///
/// # Errors
/// The database's.
pub async fn remove(tx: &mut WriteTx, seen: &Seen) -> Result<Option<Vec<String>>, DbError> {
    let Seen {
        key,
        dataset_uuid,
        written_at,
        ..
    } = seen;
    let delete = Query::delete()
        .from_table(ARTIFACTS)
        .cond_where(of_artifact(ARTIFACTS, key))
        .and_where(Expr::col((ARTIFACTS, "updated_at")).eq(*written_at))
        .take();
    if tx.execute(&delete).await? == 0 {
        return Ok(None);
    }
    let data = artifact_data::of(tx, &key.dataset, std::slice::from_ref(&key.id)).await?;
    let id = |table: &'static str| Expr::col((table, "artifact_id")).eq(key.id.as_str());
    // The tags of an artifact have an index by the UUID of its dataset; the key alone would read those of the whole dataset.
    let tags = match dataset_uuid {
        Some(uuid) => Cond::all().add(Expr::col(("tags", "dataset_uuid")).eq(*uuid)),
        None => of_dataset("tags", &key.dataset),
    };
    let mut conditions = vec![
        ("artifact_data", of_artifact("artifact_data", key)),
        (SIZES, of_artifact(SIZES, key)),
        ("tags", tags.add(id("tags"))),
    ];
    if let Some(uuid) = dataset_uuid {
        let of_dataset = Expr::col(("partitions", "dataset_uuid")).eq(*uuid);
        let condition = Cond::all().add(id("partitions")).add(of_dataset);
        conditions.push(("partitions", condition));
    }
    for (table, condition) in conditions {
        let delete = Query::delete()
            .from_table(table)
            .cond_where(condition)
            .take();
        tx.execute(&delete).await?;
    }
    Ok(Some(
        data.into_iter().map(|(_, data)| data.location).collect(),
    ))
}

/// Where the outputs of artifacts of these ids are, whatever dataset they are in.
///
/// # Errors
/// The database's.
pub async fn locations(tx: &mut ReadTx, artifacts: &[String]) -> Result<Vec<String>, DbError> {
    const DATA: &str = "artifact_data";
    if artifacts.is_empty() {
        return Ok(Vec::new());
    }
    let select = Query::select()
        .column((DATA, "location"))
        .from(ARTIFACTS)
        .join(JoinType::InnerJoin, DATA, same_artifact(DATA))
        .and_where(
            Expr::col((ARTIFACTS, "artifact_id")).is_in(artifacts.iter().map(String::as_str)),
        )
        .take();
    let rows = tx.fetch_all(&select).await?;
    rows.iter().map(|row| row.text("location")).collect()
}
