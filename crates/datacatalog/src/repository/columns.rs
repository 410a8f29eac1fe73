//! Helpers that the tables share.

use flyte_platform::sql::{DbError, Row};
use jiff::Timestamp;
use sea_query::{Cond, Condition, Expr, ExprTrait as _, InsertStatement, Query, Value};

use crate::{domain::ids::DatasetKey, records::ArtifactKey};

/// Columns of a dataset's key in the tables that refer to one, in the order of their primary keys.
pub(crate) const DATASET_KEY: [&str; 4] = [
    "dataset_project",
    "dataset_name",
    "dataset_domain",
    "dataset_version",
];

/// Rows in one INSERT: far from the parameters that either database takes.
pub(crate) const ROWS_AT_ONCE: usize = 500;

/// A row to insert: columns and values.
#[derive(Default)]
pub(crate) struct NewRow(Vec<(&'static str, Value)>);

impl NewRow {
    /// A row whose `created_at` and `updated_at` are `now`.
    pub(crate) fn at(now: Timestamp) -> Self {
        Self(Vec::new())
            .with("created_at", now)
            .with("updated_at", now)
    }

    pub(crate) fn with(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((column, value.into()));
        self
    }

    /// The four columns of the dataset that the row refers to.
    pub(crate) fn of_dataset(self, key: &DatasetKey) -> Self {
        self.with("dataset_project", key.project())
            .with("dataset_name", key.name())
            .with("dataset_domain", key.domain())
            .with("dataset_version", key.version())
    }

    /// The five columns of the artifact that the row refers to.
    pub(crate) fn of_artifact(self, key: &ArtifactKey) -> Self {
        self.of_dataset(&key.dataset)
            .with("artifact_id", key.id.as_str())
    }
}

/// One statement for rows with the same columns, of which there is at least one.
pub(crate) fn insert(table: &'static str, rows: Vec<NewRow>) -> InsertStatement {
    let mut insert = Query::insert();
    insert.into_table(table);
    if let Some(NewRow(first)) = rows.first() {
        let columns: Vec<&'static str> = first.iter().map(|(column, _)| *column).collect();
        insert.columns(columns);
    }
    for NewRow(row) in rows {
        insert.values_panic(row.into_iter().map(|(_, value)| Expr::val(value)));
    }
    insert
}

/// The rows that refer to this dataset.
pub(crate) fn of_dataset(table: &'static str, key: &DatasetKey) -> Condition {
    Cond::all()
        .add(Expr::col((table, "dataset_project")).eq(key.project()))
        .add(Expr::col((table, "dataset_name")).eq(key.name()))
        .add(Expr::col((table, "dataset_domain")).eq(key.domain()))
        .add(Expr::col((table, "dataset_version")).eq(key.version()))
}

/// The rows that refer to this artifact.
pub(crate) fn of_artifact(table: &'static str, key: &ArtifactKey) -> Condition {
    of_dataset(table, &key.dataset).add(Expr::col((table, "artifact_id")).eq(key.id.as_str()))
}

/// The key of the dataset that a row refers to.
pub(crate) fn dataset_key(row: &Row) -> Result<DatasetKey, DbError> {
    Ok(DatasetKey::of_row(
        row.text("dataset_project")?,
        row.text("dataset_domain")?,
        row.text("dataset_name")?,
        row.text("dataset_version")?,
    ))
}
