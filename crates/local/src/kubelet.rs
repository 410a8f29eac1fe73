//! The kubelet: runs the pods of one node as processes. It knows the cluster through `kube::Client` alone.
//!
//! ```text
//!   watch of pods ──> Intent ──> Scheduler (order of creation, room) ──> PodRun ──spawns──> supervisor ──> containers
//!   watch of the records folder ─────────────────────────────────────────────^  <──record──┘
//! ```
//!
//! Nothing is polled: pods are watched through the API, records through inotify, supervisors through their end. A kubelet
//! that starts again over the same folder adopts what still runs and reads what has ended meanwhile.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::inotify::WatchFlags;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::LogSource;
use crate::inotify::Inotify;

mod cgroups;
mod environment;
mod events;
mod intent;
mod launch;
mod log_endpoint;
pub(crate) mod log_files;
pub(crate) mod log_times;
mod log_watches;
mod logs;
mod lost;
mod namespaces;
mod node;
mod options;
mod pod;
pub(crate) mod processes;
pub(crate) mod quantity;
pub(crate) mod record;
mod records;
mod removal;
mod running;
mod scheduling;
mod sources;
mod status;
mod temporary;
mod unrecorded;

pub use cgroups::cgroup_root;
pub use options::{KubeletOptions, SupervisorCommand, python_bin};
pub use scheduling::Amount;

use events::{EventRecorder, EventWriter};
use log_watches::LogWatches;
use logs::Logs;
use record::PodPaths;
use records::Records;
use running::Running;

/// A kubelet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// Its folder cannot be made or watched.
    #[error("the kubelet cannot use its folder {}", folder.display())]
    Folder {
        /// The folder that could not be made or read.
        folder: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The Node object cannot be written.
    #[error("the kubelet cannot register its node")]
    Register(#[source] kube::Error),
    /// The watch of pods ended.
    #[error("the kubelet's watch of pods ended")]
    WatchEnded,
}

/// What all pods of a kubelet share.
pub(crate) struct Shared {
    pub(crate) client: kube::Client,
    pub(crate) options: KubeletOptions,
    pub(crate) records: Records,
    pub(crate) mount_with: Vec<String>,
    pub(crate) events: EventRecorder,
}

/// Runs pods as processes.
pub struct Kubelet {
    shared: Arc<Shared>,
    changes: Inotify,
    event_writer: EventWriter,
    ready: watch::Sender<bool>,
    watch_error: watch::Sender<Option<String>>,
}

impl std::fmt::Debug for Kubelet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Kubelet")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Kubelet {
    /// Makes the folder, private to this user, and watches it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The folder cannot be made or watched.
    pub async fn new(client: kube::Client, options: KubeletOptions) -> Result<Self, KubeletError> {
        let failed = |source| KubeletError::Folder {
            folder: options.folder.clone(),
            source,
        };
        let records = PodPaths::records(&options.folder);
        for folder in [&options.folder, &records, &PodPaths::pods(&options.folder)] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(failed)?;
        }
        let swept = tokio::task::spawn_blocking(temporary::remove_left_behind);
        swept
            .await
            .map_err(|error| failed(io::Error::other(error)))?;
        let changes = Inotify::new(&records, WatchFlags::MOVED_TO).map_err(failed)?;
        let mount_with = namespaces::program(&options.folder).await;
        let (events, event_writer) =
            events::events(client.clone(), &options.node_name, options.now.clone());
        let shared = Arc::new(Shared {
            client,
            options,
            records: Records::default(),
            mount_with,
            events,
        });
        Ok(Self {
            shared,
            changes,
            event_writer,
            ready: watch::Sender::new(false),
            watch_error: watch::Sender::new(None),
        })
    }

    /// Where the API reads the logs of this kubelet's pods.
    #[must_use]
    pub fn log_source(&self) -> Arc<dyn LogSource> {
        Arc::new(Logs {
            root: self.shared.options.folder.clone(),
            records: self.shared.records.clone(),
            watches: LogWatches::default(),
            now: self.shared.options.now.clone(),
        })
    }

    /// What the kubelet's own port serves to an API server that is not ours, see [`KubeletOptions::port`].
    pub(crate) fn endpoint(&self) -> axum::Router {
        let (client, now) = (self.shared.client.clone(), self.shared.options.now.clone());
        log_endpoint::routes(client, self.log_source(), now)
    }

    /// Becomes true when the node is registered and all pods are seen.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// The error of the watch of pods that failed last, for whoever waits for [`Self::ready`]; none before one did.
    #[must_use]
    pub fn watch_error(&self) -> watch::Receiver<Option<String>> {
        self.watch_error.subscribe()
    }

    /// Runs until `stop`; then ends all pods (reason Shutdown) and writes their status before it returns.
    ///
    /// # Errors
    /// The node cannot be registered, or the watches end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), KubeletError> {
        node::register(&self.shared)
            .await
            .map_err(KubeletError::Register)?;
        let mut running = Running::new(self.shared, self.ready, self.watch_error);
        running.write_events(self.event_writer);
        running.run(self.changes, stop).await
    }
}
