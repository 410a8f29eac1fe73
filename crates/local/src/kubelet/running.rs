//! The loop of a kubelet: what the watches bring is noted, and what follows from it is begun. What follows is decided elsewhere:
//! in [`intent`] for one pod, in [`Scheduler`] for those that want to run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use flyte_platform::until;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Resource as _;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::time_text;
use crate::inotify::Inotify;
use crate::kubelet::events::{EventWriter, PodEvent};
use crate::kubelet::intent::{AfterRun, Intent, Place, after_run, intent};
use crate::kubelet::pod::{self, PodRun, PodState};
use crate::kubelet::record::PodPaths;
use crate::kubelet::removal::Removals;
use crate::kubelet::scheduling::{Decision, NodeState, QueuedPod, Request, Scheduler};
use crate::kubelet::{KubeletError, Shared, node, status};

/// A kubelet that runs.
pub(super) struct Running {
    shared: Arc<Shared>,
    scheduler: Scheduler,
    /// Every pod of the cluster that concerns this node and is not over, by uid.
    pods: HashMap<String, watch::Sender<PodState>>,
    runs: JoinSet<()>,
    /// Which pod a task of `runs` is for, and all of these.
    uids: HashMap<Id, String>,
    active: HashSet<String>,
    notices: JoinSet<()>,
    /// Write the events.
    writers: JoinSet<()>,
    shutdown: watch::Sender<bool>,
    /// While the watch lists: the uids it has named.
    listing: Option<HashSet<String>>,
    /// All pods are seen.
    ready: watch::Sender<bool>,
    /// The last error of the watch of pods.
    watch_error: watch::Sender<Option<String>>,
    /// Pods that are gone, while their folders are not.
    removals: Removals,
    /// Whether the labels of the node are known.
    node_seen: bool,
}

impl Running {
    pub(super) fn new(
        shared: Arc<Shared>,
        ready: watch::Sender<bool>,
        watch_error: watch::Sender<Option<String>>,
    ) -> Self {
        let (shutdown, _) = watch::channel(false);
        Self {
            scheduler: Scheduler::new(shared.options.capacity),
            shared,
            pods: HashMap::new(),
            runs: JoinSet::new(),
            uids: HashMap::new(),
            active: HashSet::new(),
            notices: JoinSet::new(),
            writers: JoinSet::new(),
            shutdown,
            listing: None,
            ready,
            watch_error,
            removals: Removals::default(),
            node_seen: false,
        }
    }

    /// Writes the events that pods emit, as long as this runs.
    pub(super) fn write_events(&mut self, writer: EventWriter) {
        self.writers.spawn(writer.run());
    }

    /// Runs until `stop`, and ends all pods. `changes` are those of the folder of records.
    pub(super) async fn run(
        mut self,
        changes: Inotify,
        stop: CancellationToken,
    ) -> Result<(), KubeletError> {
        // A pod that cannot be read must not end the list that the others are in.
        let api: Api<DeserializeGuard<Pod>> = Api::all(self.shared.client.clone());
        let mut events = Box::pin(watcher::watcher(api, watcher::Config::default()));
        let own = watcher::Config::default()
            .fields(&format!("metadata.name={}", self.shared.options.node_name));
        let nodes: Api<DeserializeGuard<Node>> = Api::all(self.shared.client.clone());
        let mut node_events = Box::pin(watcher::watcher(nodes, own));
        let mut next_heartbeat = self
            .shared
            .options
            .heartbeat
            .map(|interval| Instant::now() + interval);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                event = events.next() => match event {
                    Some(Ok(event)) => self.handle_pod_event(event),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the watch of pods was interrupted");
                        self.watch_error.send_replace(Some(format!("the pods cannot be listed: {error}")));
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    None => return Err(KubeletError::WatchEnded),
                },
                event = node_events.next() => match event {
                    Some(Ok(event)) => self.handle_node_event(event),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the watch of the node was interrupted");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    None => return Err(KubeletError::WatchEnded),
                },
                seen = changes.changes() => {
                    let folder = self.shared.options.folder.clone();
                    let seen = seen.map_err(|source| KubeletError::Folder { folder, source })?;
                    self.records_changed(&seen.names, seen.overflow);
                }
                Some(ended) = self.runs.join_next_with_id() => {
                    let id = ended.map_or_else(|error| { tracing::error!(%error, "a pod's task failed"); error.id() }, |(id, ())| id);
                    self.run_ended(id);
                }
                Some(_) = self.notices.join_next() => {}
                () = self.removals.go_on() => {}
                () = until(next_heartbeat) => {
                    next_heartbeat = self.shared.options.heartbeat.map(|interval| Instant::now() + interval);
                    self.renew_lease();
                }
            }
            self.schedule();
        }
        self.shut_down(&changes).await
    }

    fn handle_pod_event(&mut self, event: Event<DeserializeGuard<Pod>>) {
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
                self.ready.send_replace(true);
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
        let place = Place {
            node: &self.shared.options.node_name,
            schedules: self.shared.options.schedules,
            runs: self.is_running(&uid),
        };
        let intent = intent(&pod, &place);
        match intent {
            Intent::Leave => return,
            Intent::Forget => return self.forget_terminal(&uid),
            Intent::Run | Intent::Queue | Intent::Watch => {}
        }
        let request = Request::of(&pod);
        let queued_pod = QueuedPod::of(&pod, &uid);
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
        match intent {
            Intent::Run => {
                self.scheduler.hold(&uid, &request);
                self.start(&uid);
            }
            Intent::Queue => self.scheduler.enqueue(queued_pod, request),
            Intent::Leave | Intent::Forget | Intent::Watch => {}
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
        let shutting_down = *self.shutdown.borrow();
        let state = self.pods.get(&uid).map(|known| known.borrow().clone());
        let there = state.filter(|state| !state.gone);
        match there.map(|state| after_run(&state.pod, shutting_down)) {
            None => self.drop_pod(&uid),
            Some(AfterRun::RunAgain) => self.start(&uid),
            Some(AfterRun::Forget) => self.forget_terminal(&uid),
            Some(AfterRun::Keep) => {}
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
