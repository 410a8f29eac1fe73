//! Statements that are counted as operations.

use std::{sync::Arc, time::Instant};

use sea_query::{QueryStatementBuilder, SelectStatement};

use super::{DbError, Operation, OperationMetrics, ReadTx, Row, WriteTx};

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
    pub(super) fn metrics(&self) -> Option<Arc<OperationMetrics>> {
        self.metrics.clone()
    }

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
            metrics.count_missing();
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
