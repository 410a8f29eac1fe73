//! Where objects are kept across restarts. The model in memory answers every read; a store only has to load
//! everything once and make changes durable.

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
#[error("the cluster's object store cannot {doing}")]
pub struct StoreError {
    /// What was being done.
    pub doing: &'static str,
    /// The database's own error.
    #[source]
    pub source: sqlx::Error,
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
