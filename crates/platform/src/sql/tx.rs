//! What repository functions are given.

use std::sync::Arc;

use sea_query::{PostgresQueryBuilder, QueryStatementBuilder, SelectStatement, SqliteQueryBuilder};
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction,
    pool::PoolConnection,
};

use super::{
    DbError, Dialect, OperationMetrics,
    row::{Kind, Row},
    values,
};

/// A connection that reads. Each statement sees its own snapshot: what must agree belongs in one
/// statement, or in a [`WriteTx`].
pub struct ReadTx {
    pub(super) connection: Connection,
    pub(super) metrics: Option<Arc<OperationMetrics>>,
}

/// A transaction that reads and writes; it derefs to [`ReadTx`], so every reading function takes it too.
pub struct WriteTx(pub(super) ReadTx);

pub(super) enum Connection {
    SqliteReader(PoolConnection<Sqlite>),
    SqliteWriter(Box<SqliteConnection>),
    PostgresReader(PoolConnection<Postgres>),
    Postgres(Transaction<'static, Postgres>),
}

enum Target<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

impl Connection {
    fn target(&mut self) -> Target<'_> {
        match self {
            Self::SqliteReader(connection) => Target::Sqlite(connection),
            Self::SqliteWriter(connection) => Target::Sqlite(connection),
            Self::PostgresReader(connection) => Target::Postgres(connection),
            Self::Postgres(transaction) => Target::Postgres(transaction),
        }
    }
}

impl ReadTx {
    /// Which database answers, for the few statements that must differ.
    pub fn dialect(&self) -> Dialect {
        match &self.connection {
            Connection::SqliteReader(_) | Connection::SqliteWriter(_) => Dialect::Sqlite,
            Connection::PostgresReader(_) | Connection::Postgres(_) => Dialect::Postgres,
        }
    }

    /// All rows of a SELECT.
    pub async fn fetch_all(&mut self, select: &SelectStatement) -> Result<Vec<Row>, DbError> {
        self.rows(select).await
    }

    /// The first row of a SELECT, if there is one.
    pub async fn fetch_optional(
        &mut self,
        select: &SelectStatement,
    ) -> Result<Option<Row>, DbError> {
        Ok(self.rows(select).await?.into_iter().next())
    }

    async fn rows(&mut self, statement: &impl QueryStatementBuilder) -> Result<Vec<Row>, DbError> {
        match self.connection.target() {
            Target::Sqlite(connection) => {
                let (text, values) = statement.build_any(&SqliteQueryBuilder);
                let rows = sqlx::query_with(AssertSqlSafe(text), values::sqlite(values)?)
                    .fetch_all(connection)
                    .await?;
                Ok(rows.into_iter().map(|row| Row(Kind::Sqlite(row))).collect())
            }
            Target::Postgres(connection) => {
                let (text, values) = statement.build_any(&PostgresQueryBuilder);
                let rows = sqlx::query_with(AssertSqlSafe(text), values::postgres(values)?)
                    .fetch_all(connection)
                    .await?;
                Ok(rows
                    .into_iter()
                    .map(|row| Row(Kind::Postgres(row)))
                    .collect())
            }
        }
    }
}

impl WriteTx {
    /// Runs an INSERT, UPDATE or DELETE and says how many rows it touched.
    pub async fn execute(
        &mut self,
        statement: &impl QueryStatementBuilder,
    ) -> Result<u64, DbError> {
        match self.0.connection.target() {
            Target::Sqlite(connection) => {
                let (text, values) = statement.build_any(&SqliteQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(text), values::sqlite(values)?)
                    .execute(connection)
                    .await?;
                Ok(done.rows_affected())
            }
            Target::Postgres(connection) => {
                let (text, values) = statement.build_any(&PostgresQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(text), values::postgres(values)?)
                    .execute(connection)
                    .await?;
                Ok(done.rows_affected())
            }
        }
    }

    /// Runs a statement with RETURNING.
    pub async fn execute_returning(
        &mut self,
        statement: &impl QueryStatementBuilder,
    ) -> Result<Vec<Row>, DbError> {
        self.0.rows(statement).await
    }

    /// Runs SQL text that has no parameters; several statements may follow each other.
    pub async fn execute_script(&mut self, text: &str) -> Result<(), DbError> {
        let script = sqlx::raw_sql(AssertSqlSafe(text.to_owned()));
        match self.0.connection.target() {
            Target::Sqlite(connection) => script.execute(connection).await.map(drop)?,
            Target::Postgres(connection) => script.execute(connection).await.map(drop)?,
        }
        Ok(())
    }

    /// Serializes transactions that name the same `key` until they end.
    ///
    /// For rules that span rows which a lock on one row cannot guard. On SQLite there is one writer and
    /// nothing to do.
    pub async fn lock(&mut self, key: &str) -> Result<(), DbError> {
        match self.0.connection.target() {
            Target::Sqlite(_) => Ok(()),
            Target::Postgres(connection) => {
                sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
                    .bind(key)
                    .execute(connection)
                    .await?;
                Ok(())
            }
        }
    }
}

impl std::ops::Deref for WriteTx {
    type Target = ReadTx;

    fn deref(&self) -> &ReadTx {
        &self.0
    }
}

impl std::ops::DerefMut for WriteTx {
    fn deref_mut(&mut self) -> &mut ReadTx {
        &mut self.0
    }
}
