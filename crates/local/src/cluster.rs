//! The embedded Kubernetes API: a value that answers Kubernetes requests, in process or over a socket.
//!
//! ```text
//!   kube::Client ──tower──┐                         ┌─ history ──> watches
//!                         ├─> Api ── decisions ──> Model ── batch ──> Store (SQLite, or none)
//!   kubectl ────TLS───────┘                         └─ durable revision <──┘
//! ```
//!
//! Nothing is visible before it is durable: a change is made in the model, written by a group commit, and only then
//! acknowledged and shown to reads and watches. A cluster has no globals; several live in one process.

use std::sync::{Arc, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use flyte_platform::sync::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

mod admission;
mod api;
mod api_status;
mod apply;
mod binding;
mod causes;
mod delete;
mod discovery;
mod durability;
mod events;
mod field_path;
mod json;
mod logs;
mod model;
mod object;
mod openapi;
mod options;
mod patch;
mod protobuf;
mod read;
mod request;
mod resource;
mod schema;
mod selector;
mod store;
mod table;
mod watching;
mod write;
mod yaml;

pub use api::ApiService;
pub(crate) use api::error_response;
pub use api_status::ApiStatus;
pub(crate) use logs::ContainerLog;
pub use logs::{LogError, LogRequest, LogSource, LogStream};
pub(crate) use request::Query;
pub use store::{Contents, NoStore, Row, RowChange, SqliteStore, Store, StoreError};

use durability::Durability;
use model::{HistoryLimits, Model, UNWRITTEN_REVISIONS};

/// The clock. A simulation gives its own.
pub type Now = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Gives random numbers, for uids and generated names. A simulation gives its own.
pub type Random = Arc<dyn Fn() -> u128 + Send + Sync>;

/// Settings of a [`Cluster`].
#[derive(Clone)]
pub struct ClusterOptions {
    /// The clock of creation times and the like.
    pub now: Now,
    /// The source of uids and generated names.
    pub random: Random,
    /// How deep JSON may nest. Reading it recurses: 128 levels fit every stack; for more, threads need up to three
    /// KiB of stack a level.
    pub json_depth: usize,
    /// The largest object, in bytes of JSON. Larger ones are refused in etcd's words.
    pub object_bytes: usize,
    /// How many changes per resource a watch may resume over; a watch from before them gets 410 Expired.
    pub history_changes: usize,
    /// How many bytes of changes per resource the history keeps; what a change leaves alone is not counted.
    pub history_bytes: usize,
    /// How often a quiet watch gets a bookmark with the current revision.
    pub bookmark_interval: Duration,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            now: Arc::new(jiff::Timestamp::now),
            random: Arc::new(rand::random),
            json_depth: 128,
            // etcd's default limit on a request.
            object_bytes: 1_572_864,
            history_changes: 2048,
            history_bytes: 4 << 20,
            bookmark_interval: Duration::from_mins(1),
        }
    }
}

impl std::fmt::Debug for ClusterOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ClusterOptions")
            .field("object_bytes", &self.object_bytes)
            .finish_non_exhaustive()
    }
}

/// An embedded Kubernetes cluster's API. Clones are the same cluster.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cluster").finish_non_exhaustive()
    }
}

struct Inner {
    model: Mutex<Model>,
    options: ClusterOptions,
    durability: Arc<Durability>,
    writes: Option<mpsc::Sender<Batch>>,
    log_source: RwLock<Option<Arc<dyn LogSource>>>,
    _writer: JoinSet<()>,
}

struct Batch {
    changes: Vec<RowChange>,
    revision: u64,
}

/// Writers that wait for a group commit at once; more wait before they decide.
const WAITING_WRITES: usize = 1024;

/// A cluster could not be started from what its store holds.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The store cannot be read.
    #[error("the cluster's objects cannot be loaded")]
    Store(#[from] StoreError),
    /// A stored object, or one that every cluster has, is not valid.
    #[error("the cluster's objects are not valid")]
    Object(#[from] ApiStatus),
}

impl Cluster {
    /// Loads the objects and makes what every cluster has, the namespaces default, kube-system, kube-public and
    /// kube-node-lease. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The store cannot be read, or holds something that is not an object.
    pub async fn new(store: impl Store, options: ClusterOptions) -> Result<Self, ClusterError> {
        let store: Arc<dyn Store> = Arc::new(store);
        let contents = store.load().await?;
        let written = contents.revision;
        let limits = HistoryLimits {
            changes: options.history_changes,
            bytes: options.history_bytes,
            minimum: 32,
        };
        let model = Model::new(contents, limits, options.json_depth, !store.is_volatile())?;
        let durability = Arc::new(Durability::new(model.revision));
        let mut writer = JoinSet::new();
        let writes = (!store.is_volatile()).then(|| {
            let (sender, receiver) = mpsc::channel(WAITING_WRITES);
            writer.spawn(write_batches(store, written, receiver, durability.clone()));
            sender
        });
        let cluster = Self {
            inner: Arc::new(Inner {
                model: Mutex::new(model),
                options,
                durability,
                writes,
                log_source: RwLock::new(None),
                _writer: writer,
            }),
        };
        for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            cluster.ensure_namespace(namespace).await?;
        }
        Ok(cluster)
    }

    /// A client that talks to this cluster in process, without a socket. Must be called within a tokio runtime.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.service(), "default")
    }

    /// The API as a tower service, for a server or a client.
    #[must_use]
    pub fn service(&self) -> ApiService {
        ApiService::new(self.clone())
    }

    /// Where the logs of pods are read from; without one, they are not found.
    pub fn set_log_source(&self, source: Arc<dyn LogSource>) {
        *self
            .inner
            .log_source
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    pub(crate) fn log_source(&self) -> Option<Arc<dyn LogSource>> {
        self.inner
            .log_source
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The objects of the resource with this storage name, as they are now.
    pub(crate) fn objects(&self, resource: &str) -> Vec<Arc<object::Stored>> {
        let model = self.model();
        let table = model.table(resource);
        table.map_or_else(Vec::new, |table| table.objects.values().cloned().collect())
    }

    pub(crate) fn options(&self) -> &ClusterOptions {
        &self.inner.options
    }

    pub(crate) fn now(&self) -> String {
        time_text((self.inner.options.now)())
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.inner.model.lock()
    }
}

fn stopped() -> ApiStatus {
    ApiStatus::internal("the cluster has stopped")
}

/// The one writer of a store: takes all that waits, commits it at once, and says how far it got. A failing store is tried
/// again, because acknowledging what is not durable is worse than waiting, and a full disk may be emptied. `written` is
/// the last revision that the store has.
async fn write_batches(
    store: Arc<dyn Store>,
    mut written: u64,
    mut batches: mpsc::Receiver<Batch>,
    durability: Arc<Durability>,
) {
    const FIRST_WAIT: Duration = Duration::from_millis(50);
    const LONGEST_WAIT: Duration = Duration::from_secs(5);
    let mut waiting = Vec::new();
    while batches.recv_many(&mut waiting, WAITING_WRITES).await > 0 {
        let revision = waiting.last().map_or(0, |batch: &Batch| batch.revision);
        let changes: Vec<RowChange> = waiting.drain(..).flat_map(|batch| batch.changes).collect();
        if changes.is_empty() && revision < written + UNWRITTEN_REVISIONS {
            durability.reached(revision);
            continue;
        }
        let mut wait = FIRST_WAIT;
        while let Err(error) = store.commit(&changes, revision).await {
            durability.failed(&error);
            tracing::error!(error = %error, cause = %error.source, "the cluster cannot store a change and tries again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        written = revision;
        durability.reached(revision);
    }
}

/// A time as `metav1.Time` writes it: RFC 3339, UTC, whole seconds.
pub(crate) fn time_text(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
