//! Helpers that the tables share.

use flyte_core::identifiers::{
    EntityId, ExecutionId, IdError, NodeExecutionId, NodeId, ResourceType,
};
use flyte_idl::stored::Stored;
use flyte_platform::sql::{DbError, Row};
use jiff::Timestamp;
use prost::{Message, Name};
use sea_query::{Cond, Condition, Expr, ExprTrait as _, InsertStatement, Query, Value};

use crate::records::RowNumber;

/// Columns of an entity's key.
pub(crate) const ENTITY_KEY: [&str; 4] = ["project", "domain", "name", "version"];

/// Columns of an execution's key.
pub(crate) const EXECUTION_KEY: [&str; 3] =
    ["execution_project", "execution_domain", "execution_name"];

/// The columns of a row to insert, by name.
pub(crate) struct NewRow {
    columns: Vec<&'static str>,
    values: Vec<Expr>,
}

impl NewRow {
    /// A row whose `created_at` and `updated_at` are `now`.
    pub(crate) fn at(now: Timestamp) -> Self {
        let mut row = Self {
            columns: Vec::new(),
            values: Vec::new(),
        };
        row.set("created_at", now).set("updated_at", now);
        row
    }

    pub(crate) fn set(&mut self, column: &'static str, value: impl Into<Value>) -> &mut Self {
        self.columns.push(column);
        self.values.push(Expr::val(value));
        self
    }

    /// The three columns of an execution's key.
    pub(crate) fn execution(&mut self, id: &ExecutionId) -> &mut Self {
        self.set("execution_project", id.project.as_str())
            .set("execution_domain", id.domain.as_str())
            .set("execution_name", id.name.as_str())
    }

    /// The four columns of an entity's key.
    pub(crate) fn entity(&mut self, id: &EntityId) -> &mut Self {
        self.set("project", id.project.as_str())
            .set("domain", id.domain.as_str())
            .set("name", id.name.as_str())
            .set("version", id.version.as_str())
    }

    pub(crate) fn insert_into(self, table: &'static str) -> InsertStatement {
        let mut insert = Query::insert();
        insert
            .into_table(table)
            .columns(self.columns)
            .values_panic(self.values);
        insert
    }
}

/// The row with this entity's key.
pub(crate) fn is_entity(table: &'static str, id: &EntityId) -> Condition {
    Cond::all()
        .add(Expr::col((table, "project")).eq(id.project.as_str()))
        .add(Expr::col((table, "domain")).eq(id.domain.as_str()))
        .add(Expr::col((table, "name")).eq(id.name.as_str()))
        .add(Expr::col((table, "version")).eq(id.version.as_str()))
}

/// Entities in one statement. Each is a term of a disjunction, and SQLite nests terms: 1,000 are too deep for it. Four
/// parameters each are far from what either database takes.
pub(crate) const ENTITIES_AT_ONCE: usize = 200;

/// The rows with the keys of these entities, [`ENTITIES_AT_ONCE`] at most.
pub(crate) fn is_one_of(table: &'static str, ids: &[EntityId]) -> Condition {
    ids.iter()
        .fold(Cond::any(), |any, id| any.add(is_entity(table, id)))
}

/// The rows of this execution.
pub(crate) fn of_execution(table: &'static str, id: &ExecutionId) -> Condition {
    Cond::all()
        .add(Expr::col((table, "execution_project")).eq(id.project.as_str()))
        .add(Expr::col((table, "execution_domain")).eq(id.domain.as_str()))
        .add(Expr::col((table, "execution_name")).eq(id.name.as_str()))
}

/// The rows of this node execution.
pub(crate) fn of_node(table: &'static str, id: &NodeExecutionId) -> Condition {
    of_execution(table, &id.execution).add(Expr::col((table, "node_id")).eq(id.node.as_str()))
}

/// A message from a column, with its unknown fields; NULL is none, zero bytes are the empty message.
pub(crate) fn optional_stored<M: Message + Name + Default>(
    row: &Row,
    column: &str,
) -> Result<Option<Stored<M>>, DbError> {
    // Nesting is checked before decoding, which recurses: another writer may not have checked it.
    row.optional_bytes(column)?
        .map(Stored::decode)
        .transpose()
        .map_err(|error| corrupt(column, error))
}

/// The entity id in a row.
pub(crate) fn entity_id(row: &Row, resource_type: ResourceType) -> Result<EntityId, DbError> {
    let id = flyte_idl::core::Identifier {
        resource_type: resource_type as i32,
        project: row.text("project")?,
        domain: row.text("domain")?,
        name: row.text("name")?,
        version: row.text("version")?,
        org: String::new(),
    };
    EntityId::any(Some(&id)).map_err(|error| corrupt("project", error))
}

/// The execution id in a row.
pub(crate) fn execution_id(row: &Row) -> Result<ExecutionId, DbError> {
    ExecutionId::new(
        &row.text("execution_project")?,
        &row.text("execution_domain")?,
        &row.text("execution_name")?,
    )
    .map_err(|error: IdError| corrupt("execution_name", error))
}

/// The node execution id in a row.
pub(crate) fn node_execution_id(row: &Row) -> Result<NodeExecutionId, DbError> {
    Ok(NodeExecutionId {
        execution: execution_id(row)?,
        node: NodeId::new(row.text("node_id")?).map_err(|error| corrupt("node_id", error))?,
    })
}

/// The row that a column refers to; none for NULL and 0.
pub(crate) fn row_number<R: RowNumber>(row: &Row, column: &str) -> Result<Option<R>, DbError> {
    row.integer(column).map(R::new)
}

/// What a column that may be NULL holds for a reference.
pub(crate) fn or_null<R: RowNumber>(row: Option<R>) -> Option<i64> {
    row.map(R::number)
}

/// The value of a column whose texts may be newer than this version; none for NULL.
pub(crate) fn optional_name<T>(row: &Row, column: &str) -> Result<Option<T>, DbError>
where
    T: for<'a> From<&'a str>,
{
    let text = row.optional_text(column)?;
    Ok(text.as_deref().map(T::from))
}

pub(crate) fn corrupt(
    column: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> DbError {
    DbError::Column {
        column: column.to_owned(),
        source: source.into(),
    }
}

/// A message that is written back: its unknown fields are kept.
pub(crate) fn stored<M: Message + Name + Default>(
    row: &Row,
    column: &str,
) -> Result<Stored<M>, DbError> {
    Stored::decode(row.bytes(column)?).map_err(|error| corrupt(column, error))
}
