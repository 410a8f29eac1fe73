//! What repository functions are given.

use std::sync::Arc;

use sea_query::{PostgresQueryBuilder, QueryStatementBuilder, SelectStatement, SqliteQueryBuilder};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Postgres, Sqlite, SqliteConnection,
    pool::PoolConnection,
};

use super::{
    DbError, Dialect, OperationMetrics,
    codes::{self, Stale},
    row::{Kind, Row},
    sessions::Sessions,
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
    sessions: Sessions,
    /// A statement is under way.
    busy: bool,
    /// A transaction is open.
    open: bool,
    /// What is prepared on it is not what the server has.
    stale: bool,
}

impl PostgresConnection {
    pub(super) fn new(connection: PoolConnection<Postgres>, sessions: Sessions) -> Self {
        Self {
            connection: Some(connection),
            sessions,
            busy: false,
            open: false,
            stale: false,
        }
    }

    /// Runs `BEGIN`, `COMMIT` or `ROLLBACK`; a transaction is open afterwards if `open` says so.
    pub(super) async fn control(
        &mut self,
        text: &'static str,
        open: bool,
    ) -> Result<(), sqlx::Error> {
        self.open = true;
        let done = sqlx::raw_sql(text).execute(self.begin()?).await;
        self.end(done)?;
        self.open = open;
        Ok(())
    }

    /// The session, for a statement whose outcome [`PostgresConnection::end`] is to be told.
    fn begin(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = self.connection.as_deref_mut();
        self.busy = true;
        connection.ok_or(sqlx::Error::PoolClosed)
    }

    /// A statement has ended, and may have shown that the session is not what it was.
    fn end<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.busy = false;
        match outcome.as_ref().err().and_then(codes::stale) {
            Some(Stale::Statements) => self.stale = true,
            Some(Stale::Settings) => self.sessions.renew(),
            None => {}
        }
        outcome
    }

    /// Forgets what is prepared, if a statement has failed for that. True if it may be run again: nothing of its transaction is left.
    pub(super) async fn forget(&mut self) -> bool {
        if !self.stale || self.open {
            return false;
        }
        let Ok(connection) = self.begin() else {
            return false;
        };
        let forgotten = connection.clear_cached_statements().await;
        self.stale = forgotten.is_err();
        self.end(forgotten).is_ok()
    }
}

impl Drop for PostgresConnection {
    fn drop(&mut self) {
        if (self.busy || self.open || self.stale)
            && let Some(connection) = self.connection.take()
        {
            drop(connection.detach());
        }
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
        match &mut self.connection {
            Connection::SqliteReader(connection) => sqlite_rows(connection, statement).await,
            Connection::SqliteWriter(connection) => sqlite_rows(connection, statement).await,
            Connection::Postgres(connection) => {
                let mut again = true;
                loop {
                    let (text, values) = statement.build_any(&PostgresQueryBuilder);
                    let rows = sqlx::query_with(AssertSqlSafe(text), values::postgres(values)?)
                        .fetch_all(connection.begin()?)
                        .await;
                    match connection.end(rows) {
                        Ok(rows) => {
                            let rows = rows.into_iter().map(|row| Row(Kind::Postgres(row)));
                            return Ok(rows.collect());
                        }
                        Err(_) if again && connection.forget().await => again = false,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }
}

async fn sqlite_rows(
    connection: &mut SqliteConnection,
    statement: &impl QueryStatementBuilder,
) -> Result<Vec<Row>, DbError> {
    let (text, values) = statement.build_any(&SqliteQueryBuilder);
    let rows = sqlx::query_with(AssertSqlSafe(text), values::sqlite(values)?)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| Row(Kind::Sqlite(row))).collect())
}

impl WriteTx {
    /// Runs an INSERT, UPDATE or DELETE and says how many rows it touched.
    pub async fn execute(
        &mut self,
        statement: &impl QueryStatementBuilder,
    ) -> Result<u64, DbError> {
        match &mut self.0.connection {
            Connection::SqliteReader(connection) => sqlite_execute(connection, statement).await,
            Connection::SqliteWriter(connection) => sqlite_execute(connection, statement).await,
            Connection::Postgres(connection) => {
                let (text, values) = statement.build_any(&PostgresQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(text), values::postgres(values)?)
                    .execute(connection.begin()?)
                    .await;
                Ok(connection.end(done)?.rows_affected())
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
        match &mut self.0.connection {
            Connection::SqliteReader(connection) => {
                script.execute(&mut **connection).await.map(drop)?;
            }
            Connection::SqliteWriter(connection) => {
                script.execute(&mut **connection).await.map(drop)?;
            }
            Connection::Postgres(connection) => {
                let done = script.execute(connection.begin()?).await;
                connection.end(done)?;
            }
        }
        Ok(())
    }

    /// Serializes transactions that name the same `key` until they end.
    ///
    /// For rules that span rows which a lock on one row cannot guard. On SQLite there is one writer and
    /// nothing to do.
    pub async fn lock(&mut self, key: &str) -> Result<(), DbError> {
        match &mut self.0.connection {
            Connection::SqliteReader(_) | Connection::SqliteWriter(_) => Ok(()),
            Connection::Postgres(connection) => {
                let locked = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
                    .bind(key)
                    .execute(connection.begin()?)
                    .await;
                connection.end(locked)?;
                Ok(())
            }
        }
    }
}

async fn sqlite_execute(
    connection: &mut SqliteConnection,
    statement: &impl QueryStatementBuilder,
) -> Result<u64, DbError> {
    let (text, values) = statement.build_any(&SqliteQueryBuilder);
    let done = sqlx::query_with(AssertSqlSafe(text), values::sqlite(values)?)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
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
