//! Indexes of our own, which no migration of Go's ledger knows.
//!
//! They only make lists faster, so they are made beside the work: on PostgreSQL `CONCURRENTLY`, which blocks no writer, takes
//! as long as the table is large, and must not be in a transaction. Of several processes one makes them. One that was
//! interrupted leaves an index that is not valid, and the next begins it again.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use super::{
    Database, DbError,
    database::{Pools, without_timeout},
};

/// An index that is made after the start, beside the service's work, since its table may be large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name, beginning with `flyte_rs_`.
    pub name: &'static str,
    /// Table and columns, in words that both databases know: `executions (phase, id)`.
    pub on: &'static str,
}

impl Database {
    /// Makes the indexes that are missing, and says how many those were. Another process that is at it already is left to
    /// it.
    ///
    /// # Errors
    /// The database's; what was made stays.
    pub async fn ensure_indexes(&self, indexes: &'static [Index]) -> Result<usize, DbError> {
        if let Pools::Postgres { primary, .. } = self.pools() {
            return on_postgres(&primary.pool, indexes).await;
        }
        self.write(indexes, |indexes, tx| {
            Box::pin(async move {
                for Index { name, on } in *indexes {
                    tx.execute_script(&format!("CREATE INDEX IF NOT EXISTS {name} ON {on}"))
                        .await?;
                }
                // Statistics of all tables: without them the planner takes the first index that fits.
                tx.execute_script("PRAGMA analysis_limit = 1000; PRAGMA optimize = 0x10002")
                    .await?;
                Ok(indexes.len())
            })
        })
        .await
    }

    /// Lets SQLite look again at what its tables hold; PostgreSQL does so itself.
    ///
    /// # Errors
    /// The database's.
    pub async fn optimize(&self) -> Result<(), DbError> {
        if let Pools::Postgres { .. } = self.pools() {
            return Ok(());
        }
        self.write((), |(), tx| {
            Box::pin(async move { tx.execute_script("PRAGMA optimize").await })
        })
        .await
    }
}

async fn on_postgres(pool: &PgPool, indexes: &[Index]) -> Result<usize, DbError> {
    // Closed at the end, which also gives the lock back.
    let mut connection = pool.acquire().await?.detach();
    let made = make(&mut connection, indexes).await;
    connection.close().await?;
    made
}

async fn make(connection: &mut PgConnection, indexes: &[Index]) -> Result<usize, DbError> {
    without_timeout(connection).await?;
    // Waiting for the lock would be a transaction, and the making of indexes waits for those.
    let (locked,): (bool,) =
        sqlx::query_as("SELECT pg_try_advisory_lock(hashtextextended('flyte indexes', 0))")
            .fetch_one(&mut *connection)
            .await?;
    if !locked {
        return Ok(0);
    }
    let mut count = 0;
    for Index { name, on } in indexes {
        let valid: Option<(bool,)> =
            sqlx::query_as("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)")
                .bind(name)
                .fetch_optional(&mut *connection)
                .await?;
        let statements = match valid {
            Some((true,)) => continue,
            Some((false,)) => vec![format!("DROP INDEX CONCURRENTLY {name}")],
            None => Vec::new(),
        };
        let create = format!("CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {on}");
        for statement in statements.into_iter().chain([create]) {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut *connection)
                .await?;
        }
        count += 1;
    }
    Ok(count)
}
