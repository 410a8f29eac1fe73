//! How long operations on a database take and what they come to grief on, under the names of Go's repositories
//! (spec 07 §3.2).

use std::{collections::HashMap, time::Duration};

use prometheus::IntCounter;

use super::{DbError, error::NotNow};
use crate::metrics::{MetricError, Scope, StopWatch, Unit};

/// A kind of operation on one table: `executions` and `get`, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// The table, as Go's metrics name it.
    pub repository: &'static str,
    /// What is done.
    pub name: &'static str,
}

/// What is counted of the operations of one service.
#[derive(Debug)]
pub struct OperationMetrics {
    durations: HashMap<Operation, StopWatch>,
    not_found: IntCounter,
    gorm_error: IntCounter,
    already_exists: IntCounter,
    undefined_table: IntCounter,
    postgres_error: IntCounter,
    unreadable: IntCounter,
}

impl OperationMetrics {
    /// Registers `database:<repository>:<name>_ms` for all of `operations`, and the kinds of `errors:`.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(
        scope: &Scope,
        operations: impl IntoIterator<Item = Operation>,
    ) -> Result<Self, MetricError> {
        let (database, errors) = (scope.sub("database"), scope.sub("errors"));
        let durations = operations.into_iter().map(|operation| {
            let watch = database.sub(operation.repository).stop_watch(
                operation.name,
                "Milliseconds that a statement took.",
                Unit::Milliseconds,
            )?;
            Ok((operation, watch))
        });
        Ok(Self {
            durations: durations.collect::<Result<_, _>>()?,
            not_found: errors.counter("not_found", "Rows asked for that are not there.")?,
            gorm_error: errors.counter("gorm_error", "Statements that no database answered.")?,
            already_exists: errors.counter("already_exists", "Keys that were taken.")?,
            undefined_table: errors
                .counter("undefined_table", "Tables and columns that do not exist.")?,
            postgres_error: errors.counter("postgres_error", "Other refusals of the database.")?,
            unreadable: errors.counter(
                "unreadable_rows",
                "Rows that lists left out, because they do not hold what they should.",
            )?,
        })
    }

    /// Counts a statement that `took` so long and came to `error`.
    pub(super) fn count(&self, operation: Operation, took: Duration, error: Option<&DbError>) {
        if let Some(watch) = self.durations.get(&operation) {
            watch.observe(took);
        }
        if let Some(error) = error {
            self.kind(error).inc();
        }
    }

    /// Counts a row that was expected and is not there.
    pub(super) fn count_missing(&self) {
        self.not_found.inc();
    }

    /// Counts a row that cannot be read.
    pub(super) fn count_unreadable(&self) {
        self.unreadable.inc();
    }

    /// As Go sorts them, by what PostgreSQL answered, if anything.
    fn kind(&self, error: &DbError) -> &IntCounter {
        match error {
            DbError::UniqueViolation { .. } => &self.already_exists,
            DbError::UndefinedObject { .. } => &self.undefined_table,
            DbError::InvalidValue { .. }
            | DbError::Serialization(_)
            | DbError::Other(sqlx::Error::Database(_)) => &self.postgres_error,
            DbError::Unavailable(source) if source.is::<NotNow>() => &self.postgres_error,
            DbError::Unavailable(_)
            | DbError::Column { .. }
            | DbError::Row { .. }
            | DbError::Config(_)
            | DbError::Panicked
            | DbError::Other(_) => &self.gorm_error,
        }
    }
}
