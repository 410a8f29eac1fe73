//! Objects in one SQLite file.

use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row as _};
use tokio::sync::Mutex;

use crate::cluster::store::{Contents, Row, RowChange, Store, StoreError};

/// Objects in one SQLite file: WAL, `synchronous = FULL`, one connection. A commit is on the disk when it returns.
///
/// A connection that failed is not used again. SQLite rolls a transaction back by itself when the disk is full, and what
/// the driver counts as open then no longer is: every later transaction would fail.
#[derive(Debug)]
pub struct SqliteStore {
    file: PathBuf,
    options: SqliteConnectOptions,
    /// None after a failure, until the next use.
    connection: Mutex<Option<SqliteConnection>>,
}

/// KiB of pages, as SQLite's negative number: everything is read once and then only written, and the system caches the file.
const CACHE: &str = "-256";

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, json BLOB NOT NULL,
    PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revision (id INTEGER PRIMARY KEY CHECK (id = 0), value INTEGER NOT NULL);
";

impl SqliteStore {
    /// Opens the file, making it if it is missing.
    ///
    /// # Errors
    /// The file cannot be opened or is not a database of ours.
    pub async fn open(file: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("cache_size", CACHE)
            .disable_statement_logging();
        let failed = |source| StoreError {
            file: file.to_owned(),
            doing: "open its file",
            source,
        };
        let mut connection = options.connect().await.map_err(failed)?;
        sqlx::raw_sql(SCHEMA)
            .execute(&mut connection)
            .await
            .map_err(failed)?;
        Ok(Self {
            file: file.to_owned(),
            options,
            connection: Mutex::new(Some(connection)),
        })
    }

    /// Runs `work` on the connection, which it keeps only if that succeeds. Also when `work` is dropped half-way, the next
    /// one has a connection of its own.
    async fn with_connection<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let mut kept = self.connection.lock().await;
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        match work(&mut connection).await {
            Ok(done) => {
                *kept = Some(connection);
                Ok(done)
            }
            Err(error) => {
                // Its thread ends before the next connection wants the file.
                if let Err(closing) = connection.close_hard().await {
                    tracing::debug!(error = %closing, "a failed connection cannot be closed");
                }
                Err(error)
            }
        }
    }

    async fn read_all(connection: &mut SqliteConnection) -> Result<Contents, sqlx::Error> {
        let revision: Option<i64> = sqlx::query_scalar("SELECT value FROM revision")
            .fetch_optional(&mut *connection)
            .await?;
        let rows = sqlx::query("SELECT resource, namespace, name, revision, json FROM objects")
            .fetch_all(&mut *connection)
            .await?;
        let mut contents = Contents {
            revision: revision
                .and_then(|value| value.try_into().ok())
                .unwrap_or(0),
            rows: Vec::new(),
        };
        for row in rows {
            let revision: i64 = row.try_get("revision")?;
            let json: Vec<u8> = row.try_get("json")?;
            contents.rows.push(Row {
                resource: row.try_get("resource")?,
                namespace: row.try_get("namespace")?,
                name: row.try_get("name")?,
                revision: revision.try_into().unwrap_or(0),
                json: json.into(),
            });
        }
        Ok(contents)
    }

    async fn write(
        connection: &mut SqliteConnection,
        changes: &[RowChange],
        revision: u64,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for change in changes {
            match change {
                RowChange::Put(row) => {
                    sqlx::query(
                        "INSERT INTO objects (resource, namespace, name, revision, json) VALUES (?, ?, ?, ?, ?) \
                         ON CONFLICT (resource, namespace, name) \
                         DO UPDATE SET revision = excluded.revision, json = excluded.json",
                    )
                    .bind(&row.resource)
                    .bind(&row.namespace)
                    .bind(&row.name)
                    .bind(i64::try_from(row.revision).unwrap_or(i64::MAX))
                    .bind(row.json.as_ref())
                    .execute(&mut *transaction)
                    .await?;
                }
                RowChange::Remove {
                    resource,
                    namespace,
                    name,
                } => {
                    sqlx::query(
                        "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?",
                    )
                    .bind(resource)
                    .bind(namespace)
                    .bind(name)
                    .execute(&mut *transaction)
                    .await?;
                }
            }
        }
        sqlx::query(
            "INSERT INTO revision (id, value) VALUES (0, ?) ON CONFLICT (id) DO UPDATE SET value = excluded.value",
        )
        .bind(i64::try_from(revision).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }
}

impl Store for SqliteStore {
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Box::pin(async {
            let read = self.with_connection(Self::read_all).await;
            read.map_err(|source| StoreError {
                file: self.file.clone(),
                doing: "read its objects",
                source,
            })
        })
    }

    fn commit<'a>(
        &'a self,
        changes: &'a [RowChange],
        revision: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let written = self
                .with_connection(async |connection| {
                    Self::write(connection, changes, revision).await
                })
                .await;
            written.map_err(|source| StoreError {
                file: self.file.clone(),
                doing: "write a change",
                source,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_map(bytes: usize) -> [RowChange; 1] {
        [RowChange::Put(Row {
            resource: "configmaps".to_owned(),
            namespace: "default".to_owned(),
            name: "a".to_owned(),
            revision: 7,
            json: vec![b'x'; bytes].into(),
        })]
    }

    /// SQLite's limit on pages answers as a full disk does (`SQLITE_FULL`), and holds for one connection.
    async fn fill(store: &SqliteStore) {
        let mut connection = store.connection.lock().await;
        let connection = connection.as_mut().unwrap();
        sqlx::raw_sql("PRAGMA max_page_count = 1")
            .execute(connection)
            .await
            .unwrap();
    }

    /// The disk has room again, also for a connection that is still the same.
    async fn make_room(store: &SqliteStore) {
        if let Some(connection) = store.connection.lock().await.as_mut() {
            sqlx::raw_sql("PRAGMA max_page_count = 1000000")
                .execute(connection)
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn a_commit_succeeds_once_a_full_disk_has_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("cluster.db"))
            .await
            .unwrap();
        store.commit(&config_map(10), 7).await.unwrap();
        fill(&store).await;
        let full = store.commit(&config_map(1 << 20), 8).await.unwrap_err();
        assert!(full.source.to_string().contains("full"), "{}", full.source);
        make_room(&store).await;
        store.commit(&config_map(1 << 20), 9).await.unwrap();
        let kept = store.load().await.unwrap();
        assert_eq!((kept.revision, kept.rows.len()), (9, 1));
        assert_eq!(kept.rows[0].json.len(), 1 << 20);
    }
}
