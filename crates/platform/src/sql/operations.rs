//! How long operations on a database take and what they come to grief on, under the names of Go's repositories
//! (spec 07 §3.2).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::IntCounter;
use sea_query::{QueryStatementBuilder, SelectStatement};

use super::{DbError, ReadTx, Row, WriteTx};
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
        })
    }

    fn count(&self, operation: Operation, took: Duration, error: Option<&DbError>) {
        if let Some(watch) = self.durations.get(&operation) {
            watch.observe(took);
        }
        if let Some(error) = error {
            self.kind(error).inc();
        }
    }

    /// As Go sorts them, by what PostgreSQL answered, if anything.
    fn kind(&self, error: &DbError) -> &IntCounter {
        match error {
            DbError::UniqueViolation { .. } => &self.already_exists,
            DbError::UndefinedObject { .. } => &self.undefined_table,
            DbError::InvalidValue { .. }
            | DbError::Serialization(_)
            | DbError::Other(sqlx::Error::Database(_)) => &self.postgres_error,
            DbError::Unavailable(_)
            | DbError::Column { .. }
            | DbError::Config(_)
            | DbError::Panicked
            | DbError::Other(_) => &self.gorm_error,
        }
    }
}

/// A transaction whose next statement is counted as one operation.
pub struct Counted<'a, T> {
    tx: &'a mut T,
    operation: Operation,
    metrics: Option<Arc<OperationMetrics>>,
}

impl ReadTx {
    /// Counts the next statement as `operation`, if the database was opened to count.
    pub fn of(&mut self, operation: Operation) -> Counted<'_, Self> {
        Counted {
            metrics: self.metrics.clone(),
            tx: self,
            operation,
        }
    }
}

impl WriteTx {
    /// As [`ReadTx::of`].
    pub fn of(&mut self, operation: Operation) -> Counted<'_, Self> {
        Counted {
            metrics: self.metrics.clone(),
            tx: self,
            operation,
        }
    }
}

impl<T> Counted<'_, T> {
    fn done<R>(&self, start: Instant, outcome: &Result<R, DbError>) {
        if let Some(metrics) = &self.metrics {
            metrics.count(self.operation, start.elapsed(), outcome.as_ref().err());
        }
    }
}

impl Counted<'_, ReadTx> {
    /// [`ReadTx::fetch_all`], counted.
    pub async fn fetch_all(self, select: &SelectStatement) -> Result<Vec<Row>, DbError> {
        let start = Instant::now();
        let outcome = self.tx.fetch_all(select).await;
        self.done(start, &outcome);
        outcome
    }

    /// [`ReadTx::fetch_optional`], counted.
    pub async fn fetch_optional(self, select: &SelectStatement) -> Result<Option<Row>, DbError> {
        let start = Instant::now();
        let outcome = self.tx.fetch_optional(select).await;
        self.done(start, &outcome);
        outcome
    }

    /// [`ReadTx::fetch_optional`], counted; a row that is not there is counted as an error.
    pub async fn fetch_expected(self, select: &SelectStatement) -> Result<Option<Row>, DbError> {
        let metrics = self.metrics.clone();
        let outcome = self.fetch_optional(select).await;
        if let (Some(metrics), Ok(None)) = (metrics, &outcome) {
            metrics.not_found.inc();
        }
        outcome
    }
}

impl Counted<'_, WriteTx> {
    /// [`ReadTx::fetch_all`], counted.
    pub async fn fetch_all(self, select: &SelectStatement) -> Result<Vec<Row>, DbError> {
        let start = Instant::now();
        let outcome = self.tx.fetch_all(select).await;
        self.done(start, &outcome);
        outcome
    }

    /// [`WriteTx::execute`], counted.
    pub async fn execute(self, statement: &impl QueryStatementBuilder) -> Result<u64, DbError> {
        let start = Instant::now();
        let outcome = self.tx.execute(statement).await;
        self.done(start, &outcome);
        outcome
    }

    /// [`WriteTx::execute_returning`], counted.
    pub async fn execute_returning(
        self,
        statement: &impl QueryStatementBuilder,
    ) -> Result<Vec<Row>, DbError> {
        let start = Instant::now();
        let outcome = self.tx.execute_returning(statement).await;
        self.done(start, &outcome);
        outcome
    }
}
