//! The kubelet: runs the pods of one node as processes. It knows the cluster through `kube::Client` alone.
//!
//! ```text
//!   watch of pods ──> Scheduler (order of creation, room) ──> PodRun ──spawns──> supervisor ──> containers
//!   watch of the records folder ──────────────────────────────────^  <──record──┘
//! ```
//!
//! Nothing is polled: pods are watched through the API, records through inotify, supervisors through their end. A kubelet
//! that starts again over the same folder adopts what still runs and reads what has ended meanwhile.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use flyte_platform::until;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Resource as _;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use rustix::fs::inotify::WatchFlags;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{LogSource, Now, time_text};
use crate::inotify::Inotify;

mod cgroups;
mod environment;
mod events;
mod launch;
pub(crate) mod log_files;
pub(crate) mod log_times;
mod log_watches;
mod logs;
mod lost;
mod node;
mod pod;
pub(crate) mod processes;
pub(crate) mod quantity;
pub(crate) mod record;
mod records;
mod removal;
mod scheduling;
mod sources;
mod status;
mod temporary;

pub use cgroups::cgroup_root;
pub use scheduling::Amount;

use events::{EventRecorder, EventWriter, PodEvent};
use log_watches::LogWatches;
use logs::Logs;
use pod::{PodRun, PodState};
use record::PodPaths;
use records::Records;
use removal::Removals;
use scheduling::{Decision, NodeState, QueuedPod, Request, Scheduler};

/// How a supervisor is started: the folder of its pod is added as the last argument.
#[derive(Debug, Clone)]
pub struct SupervisorCommand {
    /// The program; its main calls [`crate::supervisor::main`].
    pub program: PathBuf,
    /// Arguments before the folder, such as a hidden subcommand.
    pub arguments: Vec<OsString>,
}

/// Settings of a [`Kubelet`].
#[derive(Clone)]
pub struct KubeletOptions {
    /// Name of the Node object.
    pub node_name: String,
    /// Cores and memory that pods may request together.
    pub capacity: Amount,
    /// Where the folders of pods are. One kubelet at a time.
    pub folder: PathBuf,
    /// How supervisors are started.
    pub supervisor: SupervisorCommand,
    /// Whether pods that are on no node are put on this one; off where a scheduler does that.
    pub schedules: bool,
    /// The `bin` folder of the Python environment; it comes first on PATH.
    pub python_bin: Option<PathBuf>,
    /// PATH of the processes.
    pub path: String,
    /// Further environment of every container, such as endpoint and keys of the blob store. A container's own wins.
    pub environment: Vec<(String, String)>,
    /// A cgroup v2 folder in which memory limits are enforced, where that is possible.
    pub cgroup_root: Option<PathBuf>,
    /// How long pods have to end when the kubelet stops; their own grace period if that is shorter.
    pub shutdown_grace: Duration,
    /// How often the node says that it is alive. A real cluster's node controller wants to hear it every 10 s; the embedded
    /// one has no such controller.
    pub heartbeat: Option<Duration>,
    /// What the kubelet takes the time from.
    pub now: Now,
}

impl std::fmt::Debug for KubeletOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("KubeletOptions")
            .field("node_name", &self.node_name)
            .field("capacity", &self.capacity)
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

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
        let changes = Inotify::new(&records, WatchFlags::MOVED_TO).map_err(failed)?;
        let mount_with = mount_with(&options.folder).await;
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
        let scheduler = Scheduler::new(self.shared.options.capacity);
        let (shutdown, _) = watch::channel(false);
        let mut writers = JoinSet::new();
        writers.spawn(self.event_writer.run());
        let mut node = Running {
            shared: self.shared,
            scheduler,
            pods: HashMap::new(),
            runs: JoinSet::new(),
            uids: HashMap::new(),
            active: HashSet::new(),
            notices: JoinSet::new(),
            _writers: writers,
            shutdown,
            listing: None,
            watch_error: self.watch_error,
            removals: Removals::default(),
            node_seen: false,
        };
        // A pod that cannot be read must not end the list that the others are in.
        let api: Api<DeserializeGuard<Pod>> = Api::all(node.shared.client.clone());
        let mut events = Box::pin(watcher::watcher(api, watcher::Config::default()));
        let own = watcher::Config::default()
            .fields(&format!("metadata.name={}", node.shared.options.node_name));
        let nodes: Api<DeserializeGuard<Node>> = Api::all(node.shared.client.clone());
        let mut node_events = Box::pin(watcher::watcher(nodes, own));
        let mut next_heartbeat = node
            .shared
            .options
            .heartbeat
            .map(|interval| Instant::now() + interval);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                event = events.next() => match event {
                    Some(Ok(event)) => node.handle_pod_event(event, &self.ready),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the watch of pods was interrupted");
                        node.watch_error.send_replace(Some(format!("the pods cannot be listed: {error}")));
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    None => return Err(KubeletError::WatchEnded),
                },
                event = node_events.next() => match event {
                    Some(Ok(event)) => node.handle_node_event(event),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the watch of the node was interrupted");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    None => return Err(KubeletError::WatchEnded),
                },
                seen = self.changes.changes() => {
                    let folder = node.shared.options.folder.clone();
                    let seen = seen.map_err(|source| KubeletError::Folder { folder, source })?;
                    node.records_changed(&seen.names, seen.overflow);
                }
                Some(ended) = node.runs.join_next_with_id() => {
                    let id = ended.map_or_else(|error| { tracing::error!(%error, "a pod's task failed"); error.id() }, |(id, ())| id);
                    node.run_ended(id);
                }
                Some(_) = node.notices.join_next() => {}
                () = node.removals.go_on() => {}
                () = until(next_heartbeat) => {
                    next_heartbeat = node.shared.options.heartbeat.map(|interval| Instant::now() + interval);
                    node.renew_lease();
                }
            }
            node.schedule();
        }
        node.shut_down(&self.changes).await
    }
}

struct Running {
    shared: Arc<Shared>,
    scheduler: Scheduler,
    /// Every pod of the cluster that concerns this node and is not over, by uid.
    pods: HashMap<String, watch::Sender<PodState>>,
    runs: JoinSet<()>,
    /// Which pod a task of `runs` is for, and all of these.
    uids: HashMap<Id, String>,
    active: HashSet<String>,
    notices: JoinSet<()>,
    _writers: JoinSet<()>,
    shutdown: watch::Sender<bool>,
    /// While the watch lists: the uids it has named.
    listing: Option<HashSet<String>>,
    watch_error: watch::Sender<Option<String>>,
    /// Pods that are gone, while their folders are not.
    removals: Removals,
    /// Whether the labels of the node are known.
    node_seen: bool,
}

impl Running {
    fn handle_pod_event(
        &mut self,
        event: Event<DeserializeGuard<Pod>>,
        ready: &watch::Sender<bool>,
    ) {
        match event {
            Event::Init => self.listing = Some(HashSet::new()),
            Event::InitApply(pod) => {
                if let (Some(listing), Some(uid)) = (&mut self.listing, &pod.meta().uid) {
                    listing.insert(uid.clone());
                }
                self.apply_if_readable(pod);
            }
            Event::InitDone => {
                if let Some(listed) = self.listing.take() {
                    self.forget_unlisted(&listed);
                }
                ready.send_replace(true);
            }
            Event::Apply(pod) => self.apply_if_readable(pod),
            Event::Delete(pod) => {
                if let Some(uid) = &pod.meta().uid {
                    self.gone(uid);
                }
            }
        }
    }

    /// The node was labelled or cordoned.
    fn handle_node_event(&mut self, event: Event<DeserializeGuard<Node>>) {
        let (Event::Apply(found) | Event::InitApply(found)) = event else {
            return;
        };
        if let Ok(found) = found.0 {
            self.scheduler.set_node(NodeState {
                labels: found.metadata.labels.unwrap_or_default(),
                unschedulable: found.spec.and_then(|spec| spec.unschedulable) == Some(true),
            });
            self.node_seen = true;
        }
    }

    fn apply_if_readable(&mut self, pod: DeserializeGuard<Pod>) {
        match pod.0 {
            Ok(pod) => self.apply(pod),
            Err(invalid) => {
                let name = invalid.metadata.name.as_deref().unwrap_or_default();
                let namespace = invalid.metadata.namespace.as_deref().unwrap_or_default();
                tracing::warn!(namespace, name, error = %invalid, "a pod cannot be read and is left alone");
            }
        }
    }

    fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default();
        let options = &self.shared.options;
        let ours = node == options.node_name;
        let may_be_ours = ours || (node.is_empty() && options.schedules);
        if !may_be_ours {
            return;
        }
        let over = is_terminal(&pod);
        let deleting = pod.metadata.deletion_timestamp.is_some();
        let held_by_us = deleting && pod.metadata.deletion_grace_period_seconds.unwrap_or(0) > 0;
        if over && !held_by_us && !self.is_running(&uid) {
            self.forget_terminal(&uid);
            return;
        }
        let request = Request::of(&pod);
        let queued_pod = QueuedPod {
            created: pod
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(jiff::Timestamp::MIN, |time| time.0),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: uid.clone(),
        };
        let state = PodState {
            pod: Arc::new(pod),
            gone: false,
        };
        match self.pods.get(&uid) {
            Some(known) => {
                known.send_replace(state);
            }
            None => {
                self.pods.insert(uid.clone(), watch::Sender::new(state));
            }
        }
        if ours && (!over || held_by_us) && !self.is_running(&uid) {
            self.scheduler.hold(&uid, &request);
            self.start(&uid);
        } else if !ours && !over && !deleting {
            self.scheduler.enqueue(queued_pod, request);
        }
    }

    fn is_running(&self, uid: &str) -> bool {
        self.active.contains(uid)
    }

    fn start(&mut self, uid: &str) {
        let Some(state) = self.pods.get(uid) else {
            return;
        };
        let run = PodRun::new(
            self.shared.clone(),
            uid.to_owned(),
            state.subscribe(),
            self.shutdown.subscribe(),
        );
        let handle = self.runs.spawn(run.run());
        self.uids.insert(handle.id(), uid.to_owned());
        self.active.insert(uid.to_owned());
    }

    fn schedule(&mut self) {
        // Before all are seen, the order of creation is not known; before the node is, not what it offers.
        if self.listing.is_some() || !self.node_seen {
            return;
        }
        for decision in self.scheduler.decide() {
            match decision {
                Decision::Schedule(queued_pod) => self.start(&queued_pod.uid),
                Decision::Unschedulable(queued_pod, why) => {
                    self.report_unschedulable(queued_pod, &why);
                }
            }
        }
    }

    fn renew_lease(&mut self) {
        let shared = self.shared.clone();
        self.notices.spawn(async move {
            if let Err(error) = node::renew_lease(&shared).await {
                tracing::warn!(%error, "the node cannot say that it is alive");
            }
        });
    }

    fn report_unschedulable(&mut self, queued_pod: QueuedPod, why: &str) {
        if let Some(known) = self.pods.get(&queued_pod.uid) {
            let pod = known.borrow().pod.clone();
            self.shared.events.emit(&pod, PodEvent::unschedulable(why));
        }
        let now = time_text((self.shared.options.now)());
        let patch = json!({ "metadata": { "uid": queued_pod.uid }, "status": status::unscheduled(why, &now) });
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &queued_pod.namespace);
        self.notices.spawn(async move {
            match api
                .patch_status(&queued_pod.name, &PatchParams::default(), &Patch::Merge(patch))
                .await
            {
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(pod = queued_pod.name, %error, "the status of a waiting pod cannot be written");
                }
            }
        });
    }

    fn gone(&mut self, uid: &str) {
        if let Some(known) = self.pods.get(uid) {
            known.send_modify(|state| state.gone = true);
        }
        if !self.is_running(uid) {
            self.drop_pod(uid);
        }
    }

    fn drop_pod(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.scheduler.release(uid);
        self.shared.records.forget(uid);
        let paths = PodPaths::new(&self.shared.options.folder, uid);
        self.removals.push(paths);
    }

    fn run_ended(&mut self, id: Id) {
        let Some(uid) = self.uids.remove(&id) else {
            return;
        };
        self.active.remove(&uid);
        self.scheduler.release(&uid);
        let gone = self.pods.get(&uid).is_none_or(|known| known.borrow().gone);
        if gone {
            self.drop_pod(&uid);
            return;
        }
        // What came while the run was ending: a deletion that still waits for us.
        let held = self.pods.get(&uid).is_some_and(|known| {
            let meta = &known.borrow().pod.metadata;
            meta.deletion_timestamp.is_some() && meta.deletion_grace_period_seconds.unwrap_or(0) > 0
        });
        if held && !*self.shutdown.borrow() {
            self.start(&uid);
        } else if self
            .pods
            .get(&uid)
            .is_some_and(|known| is_terminal(&known.borrow().pod))
        {
            self.forget_terminal(&uid);
        }
    }

    /// Keeps nothing in memory of a pod that is over: thousands of them may wait for their deletion. Its files stay until then.
    fn forget_terminal(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.scheduler.release(uid);
        self.shared.records.release(uid);
    }

    /// After a list: pods that it did not name are gone, and so is what earlier lives left of others.
    fn forget_unlisted(&mut self, listed: &HashSet<String>) {
        let missing: Vec<String> = self
            .pods
            .keys()
            .filter(|uid| !listed.contains(*uid))
            .cloned()
            .collect();
        for uid in missing {
            self.gone(&uid);
        }
        match pod::known_uids(&self.shared.options.folder) {
            Ok(uids) => {
                for uid in uids {
                    if !listed.contains(&uid) && !self.is_running(&uid) {
                        let paths = PodPaths::new(&self.shared.options.folder, &uid);
                        self.removals.push(paths);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the folders of earlier pods cannot be read"),
        }
    }

    fn records_changed(&self, names: &[String], overflow: bool) {
        let root = &self.shared.options.folder;
        if overflow {
            self.shared.records.refresh_all(root);
        }
        for uid in names.iter().filter_map(|name| name.strip_suffix(".json")) {
            self.shared.records.refresh(&PodPaths::new(root, uid), uid);
        }
    }

    /// Ends all pods and waits until the API knows, with some time beyond the grace period.
    async fn shut_down(mut self, changes: &Inotify) -> Result<(), KubeletError> {
        const BEYOND_GRACE: Duration = Duration::from_secs(5);
        self.shutdown.send_replace(true);
        let limit = Instant::now() + self.shared.options.shutdown_grace + BEYOND_GRACE;
        while !self.runs.is_empty() {
            tokio::select! {
                biased;
                Some(ended) = self.runs.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    self.run_ended(id);
                }
                seen = changes.changes() => {
                    let folder = self.shared.options.folder.clone();
                    let seen = seen.map_err(|source| KubeletError::Folder { folder, source })?;
                    self.records_changed(&seen.names, seen.overflow);
                }
                () = tokio::time::sleep_until(limit) => {
                    tracing::warn!(pods = self.runs.len(), "pods have not ended in time; the next start adopts them");
                    break;
                }
            }
        }
        Ok(())
    }
}

fn is_terminal(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The program and arguments that give a process mounts of its own: `unshare` of util-linux, as root or with a user
/// namespace that keeps the user. Empty where neither works.
async fn mount_with(folder: &Path) -> Vec<String> {
    const WAYS: [&[&str]; 2] = [
        &["unshare", "--mount", "--"],
        &[
            "unshare",
            "--user",
            "--map-current-user",
            "--keep-caps",
            "--mount",
            "--",
        ],
    ];
    for way in WAYS {
        let mut words = way
            .iter()
            .map(OsStr::new)
            .chain([OsStr::new("mount"), OsStr::new("--bind")]);
        let Some(program) = words.next() else {
            continue;
        };
        let mut command = tokio::process::Command::new(program);
        command
            .args(words)
            .args([folder, folder])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if command.status().await.is_ok_and(|status| status.success()) {
            return way.iter().map(|word| (*word).to_owned()).collect();
        }
    }
    Vec::new()
}

/// The `bin` folder of a Python interpreter, where its scripts are.
#[must_use]
pub fn python_bin(python: &Path) -> Option<PathBuf> {
    python
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(Path::to_owned)
}
