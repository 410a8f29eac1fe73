//! Table `tasks`.

use flyte_core::identifiers::{EntityId, ResourceType};
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;

use super::{
    Names,
    columns::{ENTITIES_AT_ONCE, NewRow, entity_id, is_entity, is_one_of, row_number, stored},
    operations, query,
};
use crate::{
    filters::{ListQuery, TASKS},
    records::Task,
};

const TABLE: &str = "tasks";

const COLUMNS: [&str; 10] = [
    "id",
    "created_at",
    "project",
    "domain",
    "name",
    "version",
    "closure",
    "digest",
    "type",
    "short_description",
];

const ROWS: Table<Task> = Table { name: TABLE, read };

fn read(row: &Row) -> Result<Task, DbError> {
    Ok(Task {
        row: row_number(row, "id")?,
        id: entity_id(row, ResourceType::Task)?,
        closure: stored(row, "closure")?,
        digest: row.bytes("digest")?,
        task_type: row.text("type")?,
        short_description: row.text("short_description")?,
        created_at: row.time("created_at")?,
    })
}

/// Inserts a task; a taken id is a unique violation.
pub async fn insert(tx: &mut WriteTx, task: &Task, now: Timestamp) -> Result<(), DbError> {
    let mut row = NewRow::at(now);
    row.entity(&task.id)
        .set("closure", task.closure.bytes().to_vec())
        .set("digest", task.digest.clone())
        .set("type", task.task_type.as_str())
        .set("short_description", task.short_description.as_str());
    tx.of(operations::TASKS.create())
        .execute(&row.insert_into(TABLE))
        .await
        .map(drop)
}

/// The task with this id.
pub async fn get(tx: &mut ReadTx, id: &EntityId) -> Result<Option<Task>, DbError> {
    let select = query::select(TABLE, &COLUMNS)
        .cond_where(is_entity(TABLE, id))
        .to_owned();
    tx.of(operations::TASKS.get())
        .read_optional(&select, ROWS)
        .await
}

/// The digest of the task with this id: the cheap answer to a repeated registration.
pub async fn digest(tx: &mut ReadTx, id: &EntityId) -> Result<Option<Vec<u8>>, DbError> {
    let select = query::select(TABLE, &["digest"])
        .cond_where(is_entity(TABLE, id))
        .to_owned();
    let row = tx
        .of(operations::TASKS.get())
        .fetch_optional(&select)
        .await?;
    row.map(|row| row.bytes("digest")).transpose()
}

/// The tasks among `ids` that exist, in no particular order.
pub async fn get_many(tx: &mut ReadTx, ids: &[EntityId]) -> Result<Vec<Task>, DbError> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(ENTITIES_AT_ONCE) {
        let select = query::select(TABLE, &COLUMNS)
            .cond_where(is_one_of(TABLE, ids))
            .to_owned();
        let rows = tx.of(operations::TASKS.list()).fetch_all(&select).await?;
        for row in &rows {
            found.push(ROWS.one(row)?);
        }
    }
    Ok(found)
}

/// Tasks of a project and domain, of one name if `name` is not empty.
pub async fn list(
    tx: &mut ReadTx,
    names: Names<'_>,
    list: &ListQuery,
) -> Result<Listed<Task>, DbError> {
    let mut select = query::select(TABLE, &COLUMNS);
    select.cond_where(names.condition(TABLE));
    query::apply(&mut select, &TASKS, list, tx.dialect());
    tx.of(operations::TASKS.list())
        .read_all(&select, ROWS)
        .await
}
