//! Table `description_entities`.

use flyte_idl::{admin, core};
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{Expr, ExprTrait as _, OnConflict, SelectStatement};

use super::{
    columns::{NewRow, optional_stored},
    operations, query,
};
use crate::{
    filters::{DESCRIPTION_ENTITIES, ListQuery},
    records::Description,
};

const TABLE: &str = "description_entities";

const COLUMNS: [&str; 8] = [
    "resource_type",
    "project",
    "domain",
    "name",
    "version",
    "short_description",
    "long_description",
    "link",
];

const ROWS: Table<Description> = Table { name: TABLE, read };

fn read(row: &Row) -> Result<Description, DbError> {
    Ok(Description {
        id: core::Identifier {
            resource_type: row.number("resource_type")?,
            project: row.text("project")?,
            domain: row.text("domain")?,
            name: row.text("name")?,
            version: row.text("version")?,
            org: String::new(),
        },
        short: row.text("short_description")?,
        long: optional_stored(row, "long_description")?,
        link: row.text("link")?,
    })
}

/// Inserts a description unless its id has one: a repeated registration must not fail on it.
pub async fn insert(
    tx: &mut WriteTx,
    description: &Description,
    now: Timestamp,
) -> Result<(), DbError> {
    let mut row = NewRow::at(now);
    row.set("resource_type", description.id.resource_type)
        .set("project", description.id.project.as_str())
        .set("domain", description.id.domain.as_str())
        .set("name", description.id.name.as_str())
        .set("version", description.id.version.as_str())
        .set("short_description", description.short.as_str())
        .set(
            "long_description",
            description.long.as_ref().map(|long| long.bytes().to_vec()),
        )
        .set("link", description.link.as_str());
    let mut insert = row.insert_into(TABLE);
    insert.on_conflict(
        OnConflict::columns(["resource_type", "project", "domain", "name", "version"])
            .do_nothing()
            .to_owned(),
    );
    tx.of(operations::DESCRIPTIONS.create())
        .execute(&insert)
        .await
        .map(drop)
}

fn named(resource_type: i32, id: &admin::NamedEntityIdentifier) -> SelectStatement {
    query::select(TABLE, &COLUMNS)
        .and_where(Expr::col((TABLE, "resource_type")).eq(resource_type))
        .and_where(Expr::col((TABLE, "project")).eq(id.project.as_str()))
        .and_where(Expr::col((TABLE, "domain")).eq(id.domain.as_str()))
        .and_where(Expr::col((TABLE, "name")).eq(id.name.as_str()))
        .to_owned()
}

/// The description with this id.
pub async fn get(tx: &mut ReadTx, id: &core::Identifier) -> Result<Option<Description>, DbError> {
    let name = admin::NamedEntityIdentifier {
        project: id.project.clone(),
        domain: id.domain.clone(),
        name: id.name.clone(),
        ..Default::default()
    };
    let select = named(id.resource_type, &name)
        .and_where(Expr::col((TABLE, "version")).eq(id.version.as_str()))
        .to_owned();
    tx.of(operations::DESCRIPTIONS.get())
        .read_expected(&select, ROWS)
        .await
}

/// The descriptions of all versions of a name.
///
/// Filters name columns of the resource's table; those that both tables have are looked up here.
pub async fn list(
    tx: &mut ReadTx,
    resource_type: i32,
    id: &admin::NamedEntityIdentifier,
    list: &ListQuery,
) -> Result<Listed<Description>, DbError> {
    let mut select = named(resource_type, id);
    let mut list = list.clone();
    for predicate in &mut list.predicates {
        let name = predicate.column.name;
        let Some(column) = DESCRIPTION_ENTITIES.column(name) else {
            return Err(DbError::InvalidValue {
                message: format!("column description_entities.{name} does not exist"),
            });
        };
        predicate.entity = &DESCRIPTION_ENTITIES;
        predicate.column = column;
    }
    query::apply(&mut select, &DESCRIPTION_ENTITIES, &list, tx.dialect());
    tx.of(operations::DESCRIPTIONS.list())
        .read_all(&select, ROWS)
        .await
}
