//! Objects in one SQLite file.

use std::path::Path;

use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row as _};
use tokio::sync::Mutex;

use crate::cluster::store::{Contents, Row, RowChange, Store, StoreError};

/// Objects in one SQLite file: WAL, `synchronous = FULL`, one connection. A commit is on the disk when it returns.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Mutex<SqliteConnection>,
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
            doing: "open its file",
            source,
        };
        let mut connection = SqliteConnection::connect_with(&options)
            .await
            .map_err(failed)?;
        sqlx::raw_sql(SCHEMA)
            .execute(&mut connection)
            .await
            .map_err(failed)?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    async fn read_all(&self) -> Result<Contents, sqlx::Error> {
        let mut connection = self.connection.lock().await;
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

    async fn write(&self, changes: &[RowChange], revision: u64) -> Result<(), sqlx::Error> {
        let mut connection = self.connection.lock().await;
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
            self.read_all().await.map_err(|source| StoreError {
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
            self.write(changes, revision)
                .await
                .map_err(|source| StoreError {
                    doing: "write a change",
                    source,
                })
        })
    }
}
