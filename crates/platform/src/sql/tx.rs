//! What repository functions are given.

use std::sync::Arc;

use sea_query::{PostgresQueryBuilder, QueryStatementBuilder, SelectStatement, SqliteQueryBuilder};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Sqlite, SqliteConnection, pool::PoolConnection};

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
    Postgres(PostgresConnection),
}

/// A connection of a pool that does not go back there in the middle of something.
///
/// Whoever waits for a statement may go away: its client has left, or its deadline has passed. The next user of the
/// connection would have to wait for the statement to end, and find a transaction open. So the connection is closed
/// instead, and PostgreSQL, which looks after its client while it works (`client_connection_check_interval`), cancels the
/// statement and rolls back.
pub(super) struct PostgresConnection {
    connection: Option<PoolConnection<Postgres>>,
    /// A statement is under way.
    busy: bool,
    /// A transaction is open.
    open: bool,
}

impl PostgresConnection {
    pub(super) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self {
            connection: Some(connection),
            busy: false,
            open: false,
        }
    }

    /// Runs `BEGIN`, `COMMIT` or `ROLLBACK`; a transaction is open afterwards if `open` says so.
    pub(super) async fn control(
        &mut self,
        text: &'static str,
        open: bool,
    ) -> Result<(), sqlx::Error> {
        self.open = true;
        let Some(connection) = self.connection.as_deref_mut() else {
            return Err(sqlx::Error::PoolClosed);
        };
        sqlx::raw_sql(text).execute(connection).await?;
        self.open = open;
        Ok(())
    }
}

impl Drop for PostgresConnection {
    fn drop(&mut self) {
        if (self.busy || self.open)
            && let Some(connection) = self.connection.take()
        {
            drop(connection.detach());
        }
    }
}

enum Target<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(Statement<'a>),
}

/// A connection while a statement is under way: until [`Statement::done`].
struct Statement<'a> {
    connection: &'a mut PgConnection,
    busy: &'a mut bool,
}

impl Statement<'_> {
    fn done(self) {
        *self.busy = false;
    }
}

impl Connection {
    fn target(&mut self) -> Result<Target<'_>, DbError> {
        Ok(match self {
            Self::SqliteReader(connection) => Target::Sqlite(connection),
            Self::SqliteWriter(connection) => Target::Sqlite(connection),
            Self::Postgres(PostgresConnection {
                connection, busy, ..
            }) => {
                let connection = connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)?;
                *busy = true;
                Target::Postgres(Statement { connection, busy })
            }
        })
    }
}

impl ReadTx {
    /// Which database answers, for the few statements that must differ.
    pub fn dialect(&self) -> Dialect {
        match &self.connection {
            Connection::SqliteReader(_) | Connection::SqliteWriter(_) => Dialect::Sqlite,
            Connection::Postgres(_) => Dialect::Postgres,
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
        match self.connection.target()? {
            Target::Sqlite(connection) => {
                let (text, values) = statement.build_any(&SqliteQueryBuilder);
                let rows = sqlx::query_with(AssertSqlSafe(text), values::sqlite(values)?)
                    .fetch_all(connection)
                    .await?;
                Ok(rows.into_iter().map(|row| Row(Kind::Sqlite(row))).collect())
            }
            Target::Postgres(target) => {
                let (text, values) = statement.build_any(&PostgresQueryBuilder);
                let rows = sqlx::query_with(AssertSqlSafe(text), values::postgres(values)?)
                    .fetch_all(&mut *target.connection)
                    .await;
                target.done();
                Ok(rows?
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
        match self.0.connection.target()? {
            Target::Sqlite(connection) => {
                let (text, values) = statement.build_any(&SqliteQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(text), values::sqlite(values)?)
                    .execute(connection)
                    .await?;
                Ok(done.rows_affected())
            }
            Target::Postgres(target) => {
                let (text, values) = statement.build_any(&PostgresQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(text), values::postgres(values)?)
                    .execute(&mut *target.connection)
                    .await;
                target.done();
                Ok(done?.rows_affected())
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
        match self.0.connection.target()? {
            Target::Sqlite(connection) => script.execute(connection).await.map(drop)?,
            Target::Postgres(target) => {
                let done = script.execute(&mut *target.connection).await;
                target.done();
                done.map(drop)?;
            }
        }
        Ok(())
    }

    /// Serializes transactions that name the same `key` until they end.
    ///
    /// For rules that span rows which a lock on one row cannot guard. On SQLite there is one writer and
    /// nothing to do.
    pub async fn lock(&mut self, key: &str) -> Result<(), DbError> {
        match self.0.connection.target()? {
            Target::Sqlite(_) => Ok(()),
            Target::Postgres(target) => {
                let locked = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
                    .bind(key)
                    .execute(&mut *target.connection)
                    .await;
                target.done();
                locked.map(drop)?;
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
