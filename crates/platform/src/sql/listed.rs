//! Rows as values, where one that cannot be read keeps no other from being read: rows are also written by others, and by hand.

use std::sync::Arc;

use sea_query::SelectStatement;

use super::{Counted, DbError, OperationMetrics, ReadTx, Row};
use crate::Chain;

/// Columns that say which row it is, in tables of any kind.
const IDENTIFYING: [&str; 13] = [
    "id",
    "resource_type",
    "project",
    "domain",
    "name",
    "version",
    "execution_project",
    "execution_domain",
    "execution_name",
    "node_id",
    "retry_attempt",
    "signal_id",
    "identifier",
];

/// How much of each is shown, in characters.
const SHOWN: usize = 100;

/// What a table's rows are read as.
#[derive(Clone, Copy)]
pub struct Table<T> {
    /// Its name.
    pub name: &'static str,
    /// Reads a row.
    pub read: fn(&Row) -> Result<T, DbError>,
}

impl<T> Table<T> {
    /// Reads one row.
    ///
    /// # Errors
    /// [`DbError::Row`], which names the row, for one that does not hold what it should.
    pub fn one(&self, row: &Row) -> Result<T, DbError> {
        (self.read)(row).map_err(|source| DbError::Row {
            table: self.name,
            row: identify(row),
            source: Box::new(source),
        })
    }

    /// Reads a page of rows. Those that cannot be read are left out, which is logged and counted.
    pub fn all<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a Row>,
        metrics: Option<&OperationMetrics>,
    ) -> Listed<T> {
        let read = rows.into_iter().map(|row| {
            self.one(row)
                .inspect_err(|error| {
                    tracing::warn!(error = %Chain(error), "a row is left out");
                    if let Some(metrics) = metrics {
                        metrics.count_unreadable();
                    }
                })
                .ok()
        });
        Listed(read.collect())
    }
}

/// Names a row by what can be read of it.
fn identify(row: &Row) -> String {
    let columns = IDENTIFYING.iter().filter_map(|column| {
        let text = match (row.optional_text(column), row.optional_integer(column)) {
            (Ok(text), _) => text?,
            (Err(_), Ok(number)) => number?.to_string(),
            (Err(_), Err(_)) => return None,
        };
        let text: String = text.chars().take(SHOWN).collect();
        Some(format!("{column}={text}"))
    });
    columns.collect::<Vec<_>>().join(" ")
}

/// A page of rows in their order. Of one that cannot be read the place is left, so that the next page begins where this one
/// ends.
#[derive(Clone, Debug)]
pub struct Listed<T>(Vec<Option<T>>);

impl<T> Listed<T> {
    /// How many rows it has, those that cannot be read included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that can be read.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    /// The rows by place, those that cannot be read as `None`.
    pub fn places(&self) -> impl Iterator<Item = Option<&T>> {
        self.0.iter().map(Option::as_ref)
    }

    /// Each as what `make` makes of it.
    pub fn map<U>(self, mut make: impl FnMut(T) -> U) -> Listed<U> {
        let made = self.0.into_iter().map(|row| row.map(&mut make));
        Listed(made.collect())
    }

    /// Leaves the first `count` rows.
    pub fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }

    /// Those that can be read.
    pub fn into_vec(self) -> Vec<T> {
        self.0.into_iter().flatten().collect()
    }
}

impl Counted<'_, ReadTx> {
    /// All rows of a SELECT of columns of `table`, counted.
    ///
    /// # Errors
    /// The database's; rows that cannot be read are left out.
    pub async fn read_all<T>(
        self,
        select: &SelectStatement,
        table: Table<T>,
    ) -> Result<Listed<T>, DbError> {
        let metrics: Option<Arc<OperationMetrics>> = self.metrics();
        let rows = self.fetch_all(select).await?;
        Ok(table.all(&rows, metrics.as_deref()))
    }

    /// The first row of a SELECT of columns of `table`, if there is one, counted.
    ///
    /// # Errors
    /// The database's, and [`DbError::Row`].
    pub async fn read_optional<T>(
        self,
        select: &SelectStatement,
        table: Table<T>,
    ) -> Result<Option<T>, DbError> {
        let row = self.fetch_optional(select).await?;
        row.map(|row| table.one(&row)).transpose()
    }

    /// As [`Counted::read_optional`]; a row that is not there is counted as an error.
    ///
    /// # Errors
    /// As there.
    pub async fn read_expected<T>(
        self,
        select: &SelectStatement,
        table: Table<T>,
    ) -> Result<Option<T>, DbError> {
        let row = self.fetch_expected(select).await?;
        row.map(|row| table.one(&row)).transpose()
    }
}
