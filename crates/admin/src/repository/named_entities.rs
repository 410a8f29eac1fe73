//! Names over the resource tables, and table `named_entity_metadata` (spec 01 §11.1).

mod parts;
mod walk;

use flyte_idl::admin;
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{OnConflict, Order, Query};

use super::{Names, columns::NewRow, operations, query};
use crate::{
    filters::{ListQuery, NAMED_ENTITIES},
    records::NamedEntity,
};
use parts::{KEY, METADATA, ROWS, describe, versions};
use walk::Walk;

pub use parts::NamedResource;

/// The name with its metadata, if any version of it exists.
pub async fn get(
    tx: &mut ReadTx,
    resource: NamedResource,
    id: &admin::NamedEntityIdentifier,
) -> Result<Option<NamedEntity>, DbError> {
    let names = Names {
        project: &id.project,
        domain: &id.domain,
        name: &id.name,
    };
    let any = versions(resource, names).limit(1).take();
    let mut select = Query::select();
    describe(&mut select, resource);
    select.from_subquery(any, "entities");
    tx.of(operations::NAMED_ENTITIES.get())
        .read_expected(&select, ROWS)
        .await
}

/// Writes the metadata of a name; an empty description keeps what is stored, the state is always written.
pub async fn set_metadata(
    tx: &mut WriteTx,
    resource: NamedResource,
    entity: &NamedEntity,
    now: Timestamp,
) -> Result<(), DbError> {
    let mut row = NewRow::at(now);
    row.set("resource_type", resource.number())
        .set("project", entity.project.as_str())
        .set("domain", entity.domain.as_str())
        .set("name", entity.name.as_str())
        .set("description", entity.description.as_str())
        .set("state", entity.state.number());
    let mut conflict = OnConflict::columns(["resource_type", "project", "domain", "name"]);
    conflict
        .value("state", entity.state.number())
        .value("updated_at", now);
    if !entity.description.is_empty() {
        conflict.value("description", entity.description.as_str());
    }
    let mut insert = row.insert_into(METADATA);
    insert.on_conflict(conflict);
    tx.of(operations::NAMED_ENTITIES.update())
        .execute(&insert)
        .await
        .map(drop)
}

/// Names of a project and domain with their metadata. Filters come before the page: the reference loses results (spec 01
/// §24 no. 2).
pub async fn list(
    tx: &mut ReadTx,
    resource: NamedResource,
    names: Names<'_>,
    list: &ListQuery,
) -> Result<Listed<NamedEntity>, DbError> {
    let operation = operations::NAMED_ENTITIES.list();
    let walk = Walk {
        resource,
        names,
        list,
    };
    if let Some(page) = walk.page(tx, operation).await? {
        return Ok(page);
    }
    let distinct = versions(resource, names).distinct().take();
    let mut select = Query::select();
    describe(&mut select, resource);
    select.from_subquery(distinct, "entities");
    query::restrict(&mut select, &NAMED_ENTITIES, &list.predicates, tx.dialect());
    if let Some(sort) = list.sort {
        query::order_by(&mut select, "entities", sort);
    }
    select.order_by(("entities", "name"), Order::Asc);
    query::page(&mut select, list);
    tx.of(operation).read_all(&select, ROWS).await
}

/// Names alone, archived and generated ones included.
pub async fn names(
    tx: &mut ReadTx,
    resource: NamedResource,
    names: Names<'_>,
    list: &ListQuery,
) -> Result<Listed<admin::NamedEntityIdentifier>, DbError> {
    let operation = resource.repository().list_identifiers();
    // ListLaunchPlanIds may leave one of them out.
    if !names.project.is_empty() && !names.domain.is_empty() {
        let walk = Walk {
            resource,
            names,
            list,
        };
        if let Some(page) = walk.page(tx, operation).await? {
            return Ok(page.map(identifier));
        }
    }
    let mut select = versions(resource, names);
    select.distinct();
    if let Some(sort) = list.sort {
        query::order_by(&mut select, resource.table(), sort);
    }
    for column in KEY {
        if list.sort.is_none_or(|sort| sort.column.name != column) {
            select.order_by((resource.table(), column), Order::Asc);
        }
    }
    query::page(&mut select, list);
    let table = Table {
        name: resource.table(),
        read: name_alone,
    };
    tx.of(operation).read_all(&select, table).await
}

fn name_alone(row: &Row) -> Result<admin::NamedEntityIdentifier, DbError> {
    Ok(admin::NamedEntityIdentifier {
        project: row.text("project")?,
        domain: row.text("domain")?,
        name: row.text("name")?,
        ..Default::default()
    })
}

fn identifier(entity: NamedEntity) -> admin::NamedEntityIdentifier {
    admin::NamedEntityIdentifier {
        project: entity.project,
        domain: entity.domain,
        name: entity.name,
        ..Default::default()
    }
}
