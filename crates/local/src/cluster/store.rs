//! Where objects are kept across restarts. The model in memory answers every read; a store only has to load
//! everything once and make changes durable.

use std::path::PathBuf;

use bytes::Bytes;
use futures::future::BoxFuture;

mod sqlite;

pub use sqlite::SqliteStore;

/// An object as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Storage name of the resource, `plural` or `plural.group`.
    pub resource: String,
    /// Namespace, empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// `metadata.resourceVersion`.
    pub revision: u64,
    /// The object's JSON.
    pub json: Bytes,
}

/// One change of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// The object is now this.
    Put(Row),
    /// The object is gone.
    Remove {
        /// Storage name of the resource.
        resource: String,
        /// Namespace, empty for cluster-scoped kinds.
        namespace: String,
        /// Name of the object.
        name: String,
    },
}

/// Everything that a store kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The highest revision that was ever committed.
    pub revision: u64,
    /// The objects, in no order.
    pub rows: Vec<Row>,
}

/// A store failed; the text says how, the source why.
#[derive(Debug, thiserror::Error)]
#[error("the cluster's object store {} cannot {doing}", file.display())]
pub struct StoreError {
    /// Where the objects are.
    pub file: PathBuf,
    /// What was being done.
    pub doing: &'static str,
    /// The database's own error.
    #[source]
    pub source: sqlx::Error,
}

impl StoreError {
    /// Whether it failed because there is no room for more on the disk. SQLite does not always say so: a log that cannot grow is an
    /// error of input and output.
    #[must_use]
    pub fn is_full(&self) -> bool {
        /// `SQLITE_FULL`.
        const FULL: &str = "13";
        /// With less, in bytes, no transaction has room for its pages.
        const NO_ROOM: u64 = 64 << 10;
        let said = match &self.source {
            sqlx::Error::Database(error) => error.code().as_deref() == Some(FULL),
            sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        };
        said || rustix::fs::statvfs(&self.file)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < NO_ROOM)
    }
}

/// Keeps the objects of a cluster.
pub trait Store: Send + Sync + 'static {
    /// Whether nothing outlives the process, so that a change need not wait for anything.
    fn is_volatile(&self) -> bool {
        false
    }

    /// Reads everything, once, before the cluster answers.
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>>;

    /// Makes the changes durable, all or none; returns when they are. `revision` is the highest among them. Calls
    /// come one at a time, and a failed one is repeated.
    fn commit<'a>(
        &'a self,
        changes: &'a [RowChange],
        revision: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// No store: the objects live as long as the process. For tests, benches and simulation.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStore;

impl Store for NoStore {
    fn is_volatile(&self) -> bool {
        true
    }

    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Box::pin(async { Ok(Contents::default()) })
    }

    fn commit<'a>(&'a self, _: &'a [RowChange], _: u64) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}
