//! Table `projects`.

use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{Expr, ExprTrait as _, OnConflict, Order, Query};

use super::{
    columns::{NewRow, optional_stored},
    operations, query,
};
use crate::{
    filters::{ListQuery, PROJECTS},
    records::Project,
};

const COLUMNS: [&str; 5] = ["identifier", "name", "description", "labels", "state"];

const ROWS: Table<Project> = Table {
    name: "projects",
    read,
};

fn read(row: &Row) -> Result<Project, DbError> {
    Ok(Project {
        identifier: row.text("identifier")?,
        name: row.text("name")?,
        description: row.text("description")?,
        labels: optional_stored(row, "labels")?,
        state: row.number("state")?.into(),
    })
}

fn new_row(project: &Project, now: Timestamp) -> NewRow {
    let mut row = NewRow::at(now);
    row.set("identifier", project.identifier.as_str())
        .set("name", project.name.as_str())
        .set("description", project.description.as_str())
        .set(
            "labels",
            project
                .labels
                .as_ref()
                .map(|labels| labels.bytes().to_vec()),
        )
        .set("state", project.state.number());
    row
}

/// Inserts a project; a taken identifier is a unique violation.
pub async fn insert(tx: &mut WriteTx, project: &Project, now: Timestamp) -> Result<(), DbError> {
    let insert = new_row(project, now).insert_into("projects");
    tx.of(operations::PROJECTS.create())
        .execute(&insert)
        .await
        .map(drop)
}

/// Inserts a project unless its identifier is taken.
pub async fn seed(tx: &mut WriteTx, project: &Project, now: Timestamp) -> Result<(), DbError> {
    let mut insert = new_row(project, now).insert_into("projects");
    insert.on_conflict(OnConflict::column("identifier").do_nothing().to_owned());
    tx.of(operations::PROJECTS.create())
        .execute(&insert)
        .await
        .map(drop)
}

/// The project called `identifier`.
pub async fn get(tx: &mut ReadTx, identifier: &str) -> Result<Option<Project>, DbError> {
    let select = query::select("projects", &COLUMNS)
        .and_where(Expr::col("identifier").eq(identifier))
        .to_owned();
    tx.of(operations::PROJECTS.get())
        .read_optional(&select, ROWS)
        .await
}

/// Writes name, description, labels and state of a project that exists.
///
/// Empty name and description and absent labels keep what is stored; the state is always written
/// (spec 01 §6.3).
pub async fn update(tx: &mut WriteTx, project: &Project, now: Timestamp) -> Result<u64, DbError> {
    let mut update = Query::update();
    update
        .table("projects")
        .value("state", project.state.number())
        .value("updated_at", now)
        .and_where(Expr::col("identifier").eq(project.identifier.as_str()));
    if !project.name.is_empty() {
        update.value("name", project.name.as_str());
    }
    if !project.description.is_empty() {
        update.value("description", project.description.as_str());
    }
    if let Some(labels) = &project.labels {
        update.value("labels", labels.bytes().to_vec());
    }
    tx.of(operations::PROJECTS.update()).execute(&update).await
}

/// Projects in the requested order, by identifier if none was requested.
pub async fn list(tx: &mut ReadTx, list: &ListQuery) -> Result<Listed<Project>, DbError> {
    let mut select = query::select("projects", &COLUMNS);
    query::restrict(&mut select, &PROJECTS, &list.predicates, tx.dialect());
    if let Some(sort) = list.sort {
        query::order_by(&mut select, "projects", sort);
    }
    select.order_by(("projects", "identifier"), Order::Asc);
    query::page(&mut select, list);
    tx.of(operations::PROJECTS.list())
        .read_all(&select, ROWS)
        .await
}
