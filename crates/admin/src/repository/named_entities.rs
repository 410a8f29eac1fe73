//! Names over the resource tables, and table `named_entity_metadata` (spec 01 §11.1).

use flyte_core::identifiers::ResourceType;
use flyte_idl::admin;
use flyte_platform::sql::{DbError, ReadTx, Row, WriteTx};
use jiff::Timestamp;
use sea_query::{
    Alias, Cond, Expr, ExprTrait as _, JoinType, OnConflict, Order, Query, SelectStatement,
};

use super::{
    columns::NewRow,
    operations::{self, Repository},
    query,
};
use crate::{
    filters::{ListQuery, NAMED_ENTITIES},
    records::NamedEntity,
};

const METADATA: &str = "named_entity_metadata";

/// The resource tables that have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedResource {
    /// Tasks.
    Task,
    /// Workflows.
    Workflow,
    /// Launch plans.
    LaunchPlan,
}

impl NamedResource {
    /// The table of the versions.
    pub fn table(self) -> &'static str {
        match self {
            Self::Task => "tasks",
            Self::Workflow => "workflows",
            Self::LaunchPlan => "launch_plans",
        }
    }

    fn repository(self) -> Repository {
        match self {
            Self::Task => operations::TASKS,
            Self::Workflow => operations::WORKFLOWS,
            Self::LaunchPlan => operations::LAUNCH_PLANS,
        }
    }

    /// The resource type's number, as the metadata has it.
    pub fn number(self) -> i32 {
        match self {
            Self::Task => ResourceType::Task as i32,
            Self::Workflow => ResourceType::Workflow as i32,
            Self::LaunchPlan => ResourceType::LaunchPlan as i32,
        }
    }
}

fn read(row: &Row) -> Result<NamedEntity, DbError> {
    Ok(NamedEntity {
        project: row.text("project")?,
        domain: row.text("domain")?,
        name: row.text("name")?,
        description: row.text("description")?,
        state: row.number("state")?.into(),
    })
}

/// Distinct names of a project and domain as a table called `entities`, with their metadata.
fn entities(resource: NamedResource, project: &str, domain: &str) -> SelectStatement {
    let names = Query::select()
        .distinct()
        .columns(["project", "domain", "name"])
        .from(resource.table())
        .and_where(Expr::col("project").eq(project))
        .and_where(Expr::col("domain").eq(domain))
        .take();
    let on = ["project", "domain", "name"].into_iter().fold(
        Cond::all().add(Expr::col((METADATA, "resource_type")).eq(resource.number())),
        |on, column| on.add(Expr::col((METADATA, column)).equals(("entities", column))),
    );
    Query::select()
        .column(("entities", "project"))
        .column(("entities", "domain"))
        .column(("entities", "name"))
        .column((METADATA, "description"))
        .column((METADATA, "state"))
        .from_subquery(names, Alias::new("entities"))
        .join(JoinType::LeftJoin, METADATA, on)
        .take()
}

/// The name with its metadata, if any version of it exists.
pub async fn get(
    tx: &mut ReadTx,
    resource: NamedResource,
    id: &admin::NamedEntityIdentifier,
) -> Result<Option<NamedEntity>, DbError> {
    let select = entities(resource, &id.project, &id.domain)
        .and_where(Expr::col(("entities", "name")).eq(id.name.as_str()))
        .to_owned();
    tx.of(operations::NAMED_ENTITIES.get())
        .fetch_expected(&select)
        .await?
        .as_ref()
        .map(read)
        .transpose()
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

/// Names with their metadata. Filters come before the page: the reference loses results (spec 01 §24 no. 2).
pub async fn list(
    tx: &mut ReadTx,
    resource: NamedResource,
    (project, domain): (&str, &str),
    list: &ListQuery,
) -> Result<Vec<NamedEntity>, DbError> {
    let mut select = entities(resource, project, domain);
    query::restrict(&mut select, &NAMED_ENTITIES, &list.predicates, tx.dialect());
    if let Some(sort) = list.sort {
        query::order_by(&mut select, "entities", sort);
    }
    select.order_by(("entities", "name"), Order::Asc);
    query::page(&mut select, list);
    tx.of(operations::NAMED_ENTITIES.list())
        .fetch_all(&select)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Names alone, archived and generated ones included.
pub async fn names(
    tx: &mut ReadTx,
    resource: NamedResource,
    (project, domain): (&str, &str),
    list: &ListQuery,
) -> Result<Vec<admin::NamedEntityIdentifier>, DbError> {
    let mut select = Query::select();
    select
        .distinct()
        .columns(["project", "domain", "name"])
        .from(resource.table());
    for (column, value) in [("project", project), ("domain", domain)] {
        // ListLaunchPlanIds may leave one of them out.
        if !value.is_empty() {
            select.and_where(Expr::col(column).eq(value));
        }
    }
    if let Some(sort) = list.sort {
        query::order_by(&mut select, resource.table(), sort);
    }
    for column in ["project", "domain", "name"] {
        if list.sort.is_none_or(|sort| sort.column.name != column) {
            select.order_by(column, Order::Asc);
        }
    }
    query::page(&mut select, list);
    let operation = resource.repository().list_identifiers();
    let rows = tx.of(operation).fetch_all(&select).await?;
    rows.iter()
        .map(|row| {
            Ok(admin::NamedEntityIdentifier {
                project: row.text("project")?,
                domain: row.text("domain")?,
                name: row.text("name")?,
                ..Default::default()
            })
        })
        .collect()
}
