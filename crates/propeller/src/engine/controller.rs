//! Which event wakes which workflow, and what becomes of pods that belong to none.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use flyte_crd::FlyteWorkflow;
use flyte_platform::metrics::Labels;
use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::{Api, ResourceExt as _, core::PartialObjectMeta, runtime::watcher};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    actor::Actor,
    children::Children,
    inbox::Inbox,
    pods::{self, PodCache},
};
use crate::{
    cleanup::{garbage, orphans},
    effects::Effects,
    key::Key,
    metrics::EngineMetrics,
    node::{Settings, task::observed_pod::is_finished},
};

/// What all workflows of an engine share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) effects: Effects,
    pub(super) settings: Arc<Settings>,
    pub(super) pods: Arc<PodCache>,
    pub(super) children: Arc<Children>,
    pub(super) metrics: Arc<EngineMetrics>,
}

/// A workflow resource as the watch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SeenWorkflow {
    uid: String,
    /// It is being deleted.
    deleting: bool,
}

/// A workflow that has an actor.
struct ActorHandle {
    uid: String,
    inbox: Arc<Inbox>,
    /// Another resource of the same name, whose actor begins when this one has ended what it began: both name their
    /// pods alike.
    next: Option<SeenWorkflow>,
}

impl ActorHandle {
    /// The resource of this UID is no more.
    fn gone(&mut self, uid: &str) {
        if self.uid == uid {
            self.inbox.gone();
        } else {
            self.next.take_if(|next| next.uid == uid);
        }
    }
}

/// Owns the actors and knows which wake-up is whose.
pub(super) struct Controller {
    shared: Shared,
    pub(super) actors: JoinSet<()>,
    /// Short errands: orphaned pods, old resources.
    pub(super) background: JoinSet<()>,
    actors_of: HashMap<Key, ActorHandle>,
    keys: HashMap<tokio::task::Id, Key>,
    /// Workflows seen before the pods were; none once they are.
    unsynced: Option<Vec<(Key, SeenWorkflow)>>,
    /// UIDs in the list of workflows that is coming in.
    relisted_workflows: HashMap<Key, String>,
    relisted: Vec<Pod>,
    relisted_events: HashSet<String>,
    pub(super) stop: CancellationToken,
}

impl Controller {
    pub(super) fn new(shared: Shared, stop: CancellationToken) -> Self {
        Self {
            shared,
            actors: JoinSet::new(),
            background: JoinSet::new(),
            actors_of: HashMap::new(),
            keys: HashMap::new(),
            unsynced: Some(Vec::new()),
            relisted_workflows: HashMap::new(),
            relisted: Vec::new(),
            relisted_events: HashSet::new(),
            stop,
        }
    }

    /// True when the initial list is complete.
    pub(super) fn workflow_event(
        &mut self,
        event: watcher::Event<PartialObjectMeta<FlyteWorkflow>>,
    ) -> bool {
        match event {
            watcher::Event::Apply(found) => self.workflow_seen(&found),
            watcher::Event::Delete(found) => {
                let (key, seen) = seen(&found);
                if let Some(handle) = self.actors_of.get_mut(&key) {
                    handle.gone(&seen.uid);
                }
            }
            watcher::Event::Init => self.relisted_workflows.clear(),
            watcher::Event::InitApply(found) => {
                let (key, seen) = seen(&found);
                self.relisted_workflows.insert(key, seen.uid);
                self.workflow_seen(&found);
            }
            watcher::Event::InitDone => {
                self.end_unlisted();
                return true;
            }
        }
        false
    }

    fn workflow_seen(&mut self, found: &PartialObjectMeta<FlyteWorkflow>) {
        let (key, seen) = seen(found);
        match &mut self.unsynced {
            Some(waiting) => waiting.push((key, seen)),
            None => self.wake_workflow(key, seen),
        }
    }

    /// Workflows that were there before a watch began anew and are not in its list: they went meanwhile, and nothing
    /// else tells it.
    fn end_unlisted(&mut self) {
        let listed = std::mem::take(&mut self.relisted_workflows);
        for (key, handle) in &mut self.actors_of {
            let now = listed.get(key);
            handle.next.take_if(|next| now != Some(&next.uid));
            if now != Some(&handle.uid) {
                handle.inbox.gone();
            }
        }
    }

    pub(super) fn start_waiting(&mut self) {
        for (key, seen) in self.unsynced.take().unwrap_or_default() {
            self.wake_workflow(key, seen);
        }
    }

    fn wake_workflow(&mut self, key: Key, seen: SeenWorkflow) {
        self.shared.metrics.wakes.with_label_values(&["wf"]).inc();
        if let Some(handle) = self.actors_of.get_mut(&key) {
            if handle.uid != seen.uid {
                handle.inbox.gone();
                handle.next = Some(seen);
            } else if seen.deleting {
                handle.inbox.deleting();
            }
            return;
        }
        let inbox = Inbox::new(self.shared.metrics.queue.clone());
        if seen.deleting {
            inbox.deleting();
        }
        self.start_actor(key, seen.uid, Arc::new(inbox));
    }

    /// Starts the actor of a workflow.
    fn start_actor(&mut self, key: Key, uid: String, inbox: Arc<Inbox>) {
        let actor = Actor {
            effects: self.shared.effects.of_workflow(&key.namespace),
            key: key.clone(),
            uid: uid.clone(),
            settings: self.shared.settings.clone(),
            pods: self.shared.pods.clone(),
            children: self.shared.children.clone(),
            inbox: inbox.clone(),
            metrics: self.shared.metrics.clone(),
            stop: self.stop.clone(),
        };
        self.shared.metrics.levels.workflows.inc();
        let task = self.actors.spawn(actor.run());
        self.keys.insert(task.id(), key.clone());
        let handle = ActorHandle {
            uid,
            inbox,
            next: None,
        };
        self.actors_of.insert(key, handle);
    }

    pub(super) fn actor_ended(
        &mut self,
        ended: Result<(tokio::task::Id, ()), tokio::task::JoinError>,
    ) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.shared.metrics.levels.workflows.dec();
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        let Some(handle) = self.actors_of.remove(&key) else {
            return;
        };
        if let Err(error) = ended
            && error.is_panic()
        {
            self.shared.metrics.round.workers_restarted.inc();
            self.shared.metrics.round.panic.inc(&Labels::default());
            tracing::error!(
                ns = key.namespace,
                exec_id = key.name,
                "a workflow's task panicked; starting it again"
            );
            self.shared.metrics.wakes.with_label_values(&["wf"]).inc();
            let inbox = Arc::new(handle.inbox.after_panic());
            self.start_actor(key.clone(), handle.uid, inbox);
            if let (Some(again), Some(next)) = (self.actors_of.get_mut(&key), handle.next) {
                again.inbox.gone();
                again.next = Some(next);
            }
        } else if let Some(next) = handle.next {
            self.wake_workflow(key, next);
        }
    }

    /// True when the initial list is complete.
    pub(super) fn pod_event(&mut self, event: watcher::Event<Pod>) -> bool {
        match event {
            watcher::Event::Apply(pod) => self.pod_changed(pod),
            watcher::Event::Delete(pod) => {
                if let Some(known) = self.shared.pods.remove(&pod) {
                    self.left(&known, None);
                }
                self.wake_owner(&pod);
            }
            watcher::Event::Init => self.relisted.clear(),
            watcher::Event::InitApply(pod) => self.relisted.push(pods::trimmed(pod)),
            watcher::Event::InitDone => {
                let pods = std::mem::take(&mut self.relisted);
                for gone in self.shared.pods.keep_only(&pods) {
                    self.left(&gone, None);
                    self.wake_owner(&gone);
                }
                pods.into_iter().for_each(|pod| self.pod_changed(pod));
                return true;
            }
        }
        false
    }

    fn pod_changed(&mut self, pod: Pod) {
        // First the cache, then its owner: an owner that looks before the cache knows the change sees it never.
        let (pod, before) = self.shared.pods.put(pod);
        let known = self.wake_owner(&pod);
        match before {
            Some(before) => {
                self.left(&before, Some(&pod));
                let is_new = before.metadata.resource_version != pod.metadata.resource_version;
                self.shared.metrics.plugin.pod_seen(known && is_new);
            }
            None => self.shared.metrics.plugin.pods(namespace_of(&pod), 1),
        }
        if !known && self.unsynced.is_none() {
            self.adopt_or_release(&pod);
        }
    }

    /// A pod that has ended or is gone leaves room in its namespace.
    fn left(&self, before: &Pod, now: Option<&Pod>) {
        if now.is_none() {
            self.shared.metrics.plugin.pods(namespace_of(before), -1);
        }
        if !is_finished(before) && now.is_none_or(is_finished) {
            self.shared.effects.quota_queue.freed(namespace_of(before));
        }
    }

    /// Wakes the workflow that owns a pod; false when it is not under way.
    fn wake_owner(&self, pod: &Pod) -> bool {
        let Some(key) = owner(pod) else { return false };
        let Some(handle) = self.actors_of.get(&key) else {
            return false;
        };
        self.shared.metrics.wakes.with_label_values(&["task"]).inc();
        handle.inbox.pod(pod.name_any());
        true
    }

    /// Something that the cluster says about a pod.
    pub(super) fn object_event(&mut self, event: watcher::Event<Event>) {
        match event {
            watcher::Event::Apply(event) => self.object_told(event),
            watcher::Event::Delete(event) => self.shared.pods.remove_event(&event),
            watcher::Event::Init => self.relisted_events.clear(),
            watcher::Event::InitApply(event) => {
                self.relisted_events.extend(event.metadata.name.clone());
                self.object_told(event);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.relisted_events);
                self.shared.pods.keep_only_events(&listed);
            }
        }
    }

    fn object_told(&self, event: Event) {
        if let Some(pod) = self.shared.pods.put_event(event) {
            self.wake_owner(&pod);
        }
    }

    /// Looks at a pod whose workflow is not under way.
    fn adopt_or_release(&mut self, pod: &Pod) {
        let deletes = self.shared.settings.plugins.k8s.delete_resource_on_finalize;
        if let Some(key) = owner(pod).filter(|_| orphans::concerns(pod, deletes)) {
            let pods = BTreeMap::from([(key, vec![orphans::Orphan::of(pod, deletes)])]);
            self.background
                .spawn(orphans::end(self.shared.effects.clone(), pods));
        }
    }

    /// Looks at all pods whose workflow is not under way, once at the start: the process that ended their workflows
    /// may not have come to ending them, and nothing else may ever change them.
    pub(super) fn end_orphans(&mut self) {
        let deletes = self.shared.settings.plugins.k8s.delete_resource_on_finalize;
        let mut pods: BTreeMap<Key, Vec<orphans::Orphan>> = BTreeMap::new();
        for pod in self.shared.pods.all() {
            if let Some(key) = owner(&pod).filter(|_| orphans::concerns(&pod, deletes))
                && !self.actors_of.contains_key(&key)
            {
                pods.entry(key)
                    .or_default()
                    .push(orphans::Orphan::of(&pod, deletes));
            }
        }
        self.background
            .spawn(orphans::end(self.shared.effects.clone(), pods));
    }

    pub(super) fn collect_garbage(&mut self, workflows: &Api<PartialObjectMeta<FlyteWorkflow>>) {
        let ttl = self.shared.settings.propeller.max_ttl_hours.min(23);
        if ttl > 0 {
            self.background.spawn(garbage::collect(
                self.shared.effects.kube.clone(),
                workflows.clone(),
                ttl,
                self.shared.effects.clock.now(),
                self.shared.metrics.clone(),
            ));
        }
    }
}

fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn seen(found: &PartialObjectMeta<FlyteWorkflow>) -> (Key, SeenWorkflow) {
    let key = Key {
        namespace: found.namespace().unwrap_or_default(),
        name: found.name_any(),
    };
    let seen = SeenWorkflow {
        uid: found.uid().unwrap_or_default(),
        deleting: found.metadata.deletion_timestamp.is_some(),
    };
    (key, seen)
}

/// The workflow resource that controls a pod. Go writes the kind in lower case. A pod without an owner, which somebody
/// must have removed, has its label; pods of child executions may bear that of the parent, but they have an owner.
fn owner(pod: &Pod) -> Option<Key> {
    let controller = pod
        .owner_references()
        .iter()
        .find(|reference| reference.controller == Some(true));
    let name = match controller {
        Some(reference) if reference.kind.eq_ignore_ascii_case("flyteworkflow") => {
            reference.name.clone()
        }
        Some(_) => return None,
        None => pod.labels().get("execution-id")?.clone(),
    };
    Some(Key {
        namespace: pod.namespace()?,
        name,
    })
}
