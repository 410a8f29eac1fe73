//! What every handler works with.

use std::sync::Arc;

use flyte_idl::stored::Stored;
use flyte_platform::{
    Clock,
    blob::BlobStore,
    server::{BodyBudget, DEFAULT_MESSAGE_BYTES},
    sql::Database,
};
use tokio::sync::Notify;

use crate::{
    caller::{Action, Caller, Policy, Resource},
    closure_cache::ClosureCache,
    config::{AdminConfig, LiveConfig, ServerConfig},
    detached::DetachedTasks,
    domain::objects,
    error::{Error, Result},
    metrics::{AdminMetrics, Managers},
    targets::ExecutionTargets,
};

/// The dependencies of flyteadmin, wired once.
pub(crate) struct AdminContext {
    /// Section `server`, as it was at the start.
    pub(crate) server: ServerConfig,
    pub(crate) live: LiveConfig,
    /// Everything that is counted; [`AdminContext::metrics`] is what handlers count.
    pub(crate) all_metrics: AdminMetrics,
    pub(crate) database: Database,
    /// The same, counted as the service of signals.
    pub(crate) signal_database: Database,
    pub(crate) blobs: BlobStore,
    pub(crate) targets: ExecutionTargets,
    pub(crate) clock: Clock,
    pub(crate) policy: Policy,
    pub(crate) version: flyte_idl::admin::Version,
    /// Requests that run to their end without their clients.
    pub(crate) detached: DetachedTasks,
    pub(crate) closures: ClosureCache,
    pub(crate) bodies: BodyBudget,
    /// Wakes the cluster-resource loop: a project is new.
    pub(crate) projects_changed: Notify,
}

impl AdminContext {
    /// The configuration as it is now.
    pub(crate) fn config(&self) -> Arc<AdminConfig> {
        self.live.now()
    }

    /// The largest message, in bytes, that requests may have and that lists fill.
    pub(crate) fn message_bytes(&self) -> usize {
        match self.server.grpc.max_message_size_bytes {
            0 => DEFAULT_MESSAGE_BYTES,
            bytes => bytes,
        }
    }

    /// What Go's managers count.
    pub(crate) fn metrics(&self) -> &Managers {
        &self.all_metrics.managers
    }

    /// Asks the policy.
    ///
    /// # Errors
    /// What the policy refuses.
    pub(crate) fn allow(
        &self,
        caller: &Caller,
        action: Action,
        resource: Resource<'_>,
    ) -> Result<()> {
        self.policy.allow(caller, action, &resource)
    }

    /// Reads and decodes a message from the blob store.
    pub(crate) async fn read_blob<M>(&self, uri: &str, what: &str) -> Result<M>
    where
        M: prost::Message + prost::Name + Default,
    {
        self.read_stored(uri, what).await.map(Stored::into_inner)
    }

    /// As [`AdminContext::read_blob`], with the fields that this version does not know.
    pub(crate) async fn read_stored<M>(&self, uri: &str, what: &str) -> Result<Stored<M>>
    where
        M: prost::Message + prost::Name + Default,
    {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Blob {
            context: format!("Unable to read {what} from location {uri}"),
            source,
        };
        let bytes = self
            .blobs
            .get(uri)
            .await
            .map_err(|error| failed(error.into()))?;
        self.blobs
            .decoded(|| Stored::decode(bytes.into()))
            .map_err(|error| failed(error.into()))
    }

    /// Writes an encoded message to the blob store.
    pub(crate) async fn write_bytes(&self, uri: &str, bytes: Vec<u8>, what: &str) -> Result<()> {
        objects::require_key(uri)?;
        self.blobs
            .put(uri, bytes.into())
            .await
            .map_err(|error| Error::Blob {
                context: format!("Failed to write {what} to location {uri}"),
                source: error.into(),
            })
    }
}
