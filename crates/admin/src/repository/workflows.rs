//! Table `workflows`.

use flyte_core::identifiers::{EntityId, ResourceType};
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{Condition, Expr, ExprTrait as _, Query};

use super::{
    Names,
    columns::{NewRow, entity_id, is_entity, optional_stored, row_number},
    operations, query,
};
use crate::{
    filters::{ListQuery, WORKFLOWS},
    records::{RowNumber as _, Workflow, WorkflowRow},
};

const TABLE: &str = "workflows";

const COLUMNS: [&str; 10] = [
    "id",
    "created_at",
    "project",
    "domain",
    "name",
    "version",
    "typed_interface",
    "remote_closure_identifier",
    "digest",
    "short_description",
];

const ROWS: Table<Workflow> = Table { name: TABLE, read };

fn read(row: &Row) -> Result<Workflow, DbError> {
    Ok(Workflow {
        row: row_number(row, "id")?,
        id: entity_id(row, ResourceType::Workflow)?,
        interface: optional_stored(row, "typed_interface")?,
        closure_uri: row.text("remote_closure_identifier")?,
        digest: row.bytes("digest")?,
        short_description: row.text("short_description")?,
        created_at: row.time("created_at")?,
    })
}

/// Inserts a workflow; a taken id is a unique violation.
pub async fn insert(tx: &mut WriteTx, workflow: &Workflow, now: Timestamp) -> Result<(), DbError> {
    let mut row = NewRow::at(now);
    row.entity(&workflow.id)
        .set(
            "typed_interface",
            workflow
                .interface
                .as_ref()
                .map(|interface| interface.bytes().to_vec()),
        )
        .set("remote_closure_identifier", workflow.closure_uri.as_str())
        .set("digest", workflow.digest.clone())
        .set("short_description", workflow.short_description.as_str());
    tx.of(operations::WORKFLOWS.create())
        .execute(&row.insert_into(TABLE))
        .await
        .map(drop)
}

/// The workflow with this id.
pub async fn get(tx: &mut ReadTx, id: &EntityId) -> Result<Option<Workflow>, DbError> {
    one(tx, is_entity(TABLE, id)).await
}

/// The workflow in this row.
pub async fn get_by_row(tx: &mut ReadTx, row: WorkflowRow) -> Result<Option<Workflow>, DbError> {
    let by_id = Expr::col((TABLE, "id")).eq(row.number());
    one(tx, Condition::all().add(by_id)).await
}

async fn one(tx: &mut ReadTx, condition: Condition) -> Result<Option<Workflow>, DbError> {
    let select = query::select(TABLE, &COLUMNS)
        .cond_where(condition)
        .to_owned();
    tx.of(operations::WORKFLOWS.get())
        .read_optional(&select, ROWS)
        .await
}

/// Writes where the closure of the workflow in `row` is.
pub async fn set_closure_uri(tx: &mut WriteTx, row: WorkflowRow, uri: &str) -> Result<(), DbError> {
    let update = Query::update()
        .table(TABLE)
        .value("remote_closure_identifier", uri)
        .and_where(Expr::col("id").eq(row.number()))
        .take();
    tx.of(operations::WORKFLOWS.update())
        .execute(&update)
        .await
        .map(drop)
}

/// Workflows of a project and domain, of one name if `name` is not empty.
pub async fn list(
    tx: &mut ReadTx,
    names: Names<'_>,
    list: &ListQuery,
) -> Result<Listed<Workflow>, DbError> {
    let mut select = query::select(TABLE, &COLUMNS);
    select.cond_where(names.condition(TABLE));
    query::apply(&mut select, &WORKFLOWS, list, tx.dialect());
    tx.of(operations::WORKFLOWS.list())
        .read_all(&select, ROWS)
        .await
}
