//! What every statement about names has.

use flyte_core::identifiers::ResourceType;
use flyte_platform::sql::{DbError, Row, Table};
use sea_query::{Cond, Expr, ExprTrait as _, JoinType, SelectStatement};

use crate::{
    records::NamedEntity,
    repository::{
        Names,
        operations::{self, Repository},
        query,
    },
};

pub(super) const METADATA: &str = "named_entity_metadata";

/// Columns that tell names apart.
pub(super) const KEY: [&str; 3] = ["project", "domain", "name"];

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

    /// As operations are counted.
    pub(super) fn repository(self) -> Repository {
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

pub(super) const ROWS: Table<NamedEntity> = Table {
    name: METADATA,
    read,
};

fn read(row: &Row) -> Result<NamedEntity, DbError> {
    Ok(NamedEntity {
        project: row.text("project")?,
        domain: row.text("domain")?,
        name: row.text("name")?,
        description: row.text("description")?,
        state: row.number("state")?.into(),
    })
}

/// Name, project and domain of a table called `entities`, with their metadata.
pub(super) fn describe(select: &mut SelectStatement, resource: NamedResource) {
    select
        .columns(KEY.map(|column| ("entities", column)))
        .columns(["description", "state"].map(|column| (METADATA, column)));
    join_metadata(select, resource);
}

pub(super) fn join_metadata(select: &mut SelectStatement, resource: NamedResource) {
    let on = KEY.into_iter().fold(
        Cond::all().add(Expr::col((METADATA, "resource_type")).eq(resource.number())),
        |on, column| on.add(Expr::col((METADATA, column)).equals(("entities", column))),
    );
    select.join(JoinType::LeftJoin, METADATA, on);
}

/// Project, domain and name of every version.
pub(super) fn versions(resource: NamedResource, names: Names<'_>) -> SelectStatement {
    let table = resource.table();
    let mut versions = query::select(table, &KEY);
    for (column, value) in names.columns(KEY) {
        versions.and_where(Expr::col((table, column)).eq(value));
    }
    versions
}
