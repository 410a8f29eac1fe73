//! Watches, and one task per workflow.
//!
//! ```text
//! workflow watch (metadata) ──▶ controller ──▶ actor of a workflow ──▶ world
//! pod watch ──▶ pod cache ─────────┘ wakes        └─ writes status once per wake-up
//! ```
//!
//! The controller owns all actors; an actor owns one workflow and nothing else touches it. Wake-ups are merged per
//! workflow: however many pods change while an actor works, it looks once more afterwards.

mod actor;
mod garbage;
mod inbox;
mod orphans;
mod pods;
mod resource;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use flyte_crd::FlyteWorkflow;
use flyte_idl::service::admin_service_client::AdminServiceClient;
use flyte_platform::{
    Clock,
    blob::BlobStore,
    client::RetryPolicy,
    metrics::{MetricError, Scope},
};
use flyte_plugins::{PluginsError, Registry, config::PluginsConfig};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Pod, PodTemplate},
};
use kube::{
    Api, Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, reflector::store::Writer, watcher},
};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    config::PropellerConfig,
    node::Settings,
    world::{Jitter, PodTemplates, World},
};

use self::{inbox::Inbox, pods::PodCache};

/// How many effects may be under way at once, over all workflows: enough to keep a cluster and a bucket busy, few
/// enough to keep memory and connections bounded.
const EFFECTS_AT_ONCE: usize = 512;

/// What an engine is wired with.
pub struct Dependencies {
    /// Kubernetes.
    pub kube: kube::Client,
    /// Blobs.
    pub blobs: BlobStore,
    /// Admin, for events.
    pub admin: Channel,
    /// Time.
    pub clock: Clock,
    /// Where metrics are registered, without the engine's own scope.
    pub metrics: Scope,
}

/// An engine cannot be wired.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Section `tasks` contradicts itself.
    #[error("tasks.task-plugins")]
    Plugins(#[from] PluginsError),
    /// A metric is registered twice.
    #[error("metrics")]
    Metrics(#[from] MetricError),
}

/// The engine stopped for a reason of its own.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A watch ended, which it never does by itself.
    #[error("the watch of {0} ended")]
    WatchEnded(&'static str),
    /// The definition of FlyteWorkflow cannot be created.
    #[error("the FlyteWorkflow definition cannot be created")]
    Definition(#[source] Box<kube::Error>),
}

/// Counts of the engine, under Go's names (spec 04 §15).
#[derive(Debug)]
struct EngineMetrics {
    accepted: IntCounter,
    active: IntGauge,
    writes: IntCounter,
    conflicts: IntCounter,
    wakes: IntCounterVec,
}

impl EngineMetrics {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        Ok(Self {
            accepted: scope
                .sub("workflow")
                .counter("accepted", "Workflows taken up.")?,
            active: scope
                .sub("execstats")
                .gauge("active_workflow_executions", "Workflows under way.")?,
            writes: scope.counter("wf_updated", "Writes of status.")?,
            conflicts: scope.counter(
                "wf_update_conflict",
                "Writes refused because somebody else wrote.",
            )?,
            wakes: scope.counters("wf_enqueue", "Wake-ups, by what woke.", &["type"])?,
        })
    }
}

/// The engine: call [`Engine::run`].
pub struct Engine {
    world: World,
    settings: Arc<Settings>,
    pods: Arc<PodCache>,
    metrics: Arc<EngineMetrics>,
    templates: Writer<PodTemplate>,
    ready: watch::Sender<bool>,
}

/// Namespace and name of a workflow resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    namespace: String,
    name: String,
}

/// Puts an engine together; nothing runs yet.
///
/// # Errors
/// When the configuration of plugins contradicts itself.
pub fn wire(
    dependencies: Dependencies,
    propeller: PropellerConfig,
    plugins: PluginsConfig,
    retry: RetryPolicy,
) -> Result<Engine, WireError> {
    let registry = Registry::new(&plugins.tasks)?;
    let base = dependencies.blobs.base();
    let metadata_root = match propeller.metadata_prefix.trim_matches('/') {
        "" => base,
        prefix => format!("{base}/{prefix}"),
    };
    let scope = dependencies
        .metrics
        .sub(&propeller.metrics_prefix)
        .sub("propeller")
        .sub(&propeller.limit_namespace);
    let metrics = Arc::new(EngineMetrics::register(&scope)?);
    let (templates, templates_writer) = PodTemplates::new(&plugins.own_namespace);
    let settings = Arc::new(Settings {
        propeller,
        plugins,
        registry,
        metadata_root,
    });
    let world = World {
        kube: dependencies.kube,
        blobs: dependencies.blobs,
        templates,
        admin: AdminServiceClient::new(dependencies.admin)
            .max_decoding_message_size(64 * 1024 * 1024)
            .max_encoding_message_size(64 * 1024 * 1024),
        retry,
        clock: dependencies.clock,
        permits: Arc::new(Semaphore::new(EFFECTS_AT_ONCE)),
        event_config: settings.propeller.event_config,
        jitter: Jitter::of(""),
    };
    Ok(Engine {
        world,
        settings,
        pods: Arc::default(),
        metrics,
        templates: templates_writer,
        ready: watch::Sender::new(false),
    })
}

impl Engine {
    /// True once both watches are synced.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Runs workflows until `stop`.
    ///
    /// # Errors
    /// When a watch ends for good.
    pub async fn run(self, stop: CancellationToken) -> Result<(), EngineError> {
        if self.settings.propeller.create_flyteworkflow_crd {
            self.create_definition().await?;
        }
        let mut controller = Controller {
            world: self.world.clone(),
            settings: self.settings.clone(),
            pods: self.pods.clone(),
            metrics: self.metrics.clone(),
            actors: JoinSet::new(),
            chores: JoinSet::new(),
            inboxes: HashMap::new(),
            keys: HashMap::new(),
            unsynced: Some(Vec::new()),
            relisted: Vec::new(),
            stop: stop.child_token(),
        };
        let namespace = self.settings.propeller.limit_namespace.clone();
        let everywhere = matches!(namespace.as_str(), "all" | "all-namespaces" | "");
        let limit = (!everywhere).then_some(namespace.as_str());
        let workflows: Api<PartialObjectMeta<FlyteWorkflow>> = api(&self.world.kube, limit);
        let pods: Api<Pod> = api(&self.world.kube, limit);
        let templates: Api<PodTemplate> = api(&self.world.kube, limit);
        let selector = self.settings.propeller.selector();
        let mut workflow_events = watcher::watcher(
            workflows.clone(),
            watcher::Config::default().labels(&selector),
        )
        .default_backoff()
        .boxed();
        let mut pod_events = watcher::watcher(
            pods,
            watcher::Config::default().labels(&self.settings.propeller.pod_selector()),
        )
        .default_backoff()
        .boxed();
        // Not part of readiness: few tasks name one, and those wait.
        let mut template_events = watcher::watcher(templates, watcher::Config::default())
            .default_backoff()
            .reflect(self.templates)
            .boxed();
        let mut collect = tokio::time::interval(
            self.settings
                .propeller
                .gc_interval
                .to_std()
                .max(Duration::from_secs(1)),
        );
        let mut synced = (false, false);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = controller.actors.join_next_with_id(), if !controller.actors.is_empty() => {
                    controller.actor_ended(ended);
                }
                Some(_done) = controller.chores.join_next(), if !controller.chores.is_empty() => {}
                event = pod_events.try_next() => match event {
                    Ok(Some(event)) => synced.0 |= controller.pod_event(event),
                    Ok(None) => return Err(EngineError::WatchEnded("pods")),
                    Err(error) => tracing::warn!(%error, "the watch of pods was interrupted"),
                },
                event = workflow_events.try_next() => match event {
                    Ok(Some(event)) => synced.1 |= controller.workflow_event(event),
                    Ok(None) => return Err(EngineError::WatchEnded("workflows")),
                    Err(error) => tracing::warn!(%error, "the watch of workflows was interrupted"),
                },
                event = template_events.try_next() => match event {
                    Ok(Some(_)) => {}
                    Ok(None) => return Err(EngineError::WatchEnded("PodTemplates")),
                    Err(error) => tracing::warn!(%error, "the watch of PodTemplates was interrupted"),
                },
                _ = collect.tick() => controller.collect_garbage(&workflows),
            }
            if synced.0 {
                controller.start_waiting();
            }
            if synced == (true, true) && !*self.ready.borrow() {
                controller.end_orphans();
                self.ready.send_replace(true);
            }
        }
        // Actors stop between two effects; what they had not written is derived again by whoever comes next.
        controller.stop.cancel();
        while controller.actors.join_next().await.is_some() {}
        Ok(())
    }

    async fn create_definition(&self) -> Result<(), EngineError> {
        let api: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
            Api::all(self.world.kube.clone());
        match api
            .create(
                &kube::api::PostParams::default(),
                &flyte_crd::custom_resource_definition(),
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(EngineError::Definition(Box::new(error))),
        }
    }
}

/// Objects of one namespace, or of all.
fn api<K>(client: &kube::Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

struct Controller {
    world: World,
    settings: Arc<Settings>,
    pods: Arc<PodCache>,
    metrics: Arc<EngineMetrics>,
    actors: JoinSet<()>,
    /// Short errands: orphaned pods, old resources.
    chores: JoinSet<()>,
    inboxes: HashMap<Key, Arc<Inbox>>,
    keys: HashMap<tokio::task::Id, Key>,
    /// Workflows seen before the pods were; none once they are.
    unsynced: Option<Vec<(Key, bool)>>,
    relisted: Vec<Pod>,
    stop: CancellationToken,
}

impl Controller {
    /// True when the initial list is complete.
    fn workflow_event(&mut self, event: watcher::Event<PartialObjectMeta<FlyteWorkflow>>) -> bool {
        match event {
            watcher::Event::Apply(found) | watcher::Event::InitApply(found) => {
                let key = Key {
                    namespace: found.namespace().unwrap_or_default(),
                    name: found.name_any(),
                };
                let deleting = found.metadata.deletion_timestamp.is_some();
                match &mut self.unsynced {
                    Some(waiting) => waiting.push((key, deleting)),
                    None => self.wake_workflow(key, deleting),
                }
            }
            watcher::Event::Delete(found) => {
                let key = Key {
                    namespace: found.namespace().unwrap_or_default(),
                    name: found.name_any(),
                };
                if let Some(inbox) = self.inboxes.get(&key) {
                    inbox.gone();
                }
            }
            watcher::Event::InitDone => return true,
            watcher::Event::Init => {}
        }
        false
    }

    fn start_waiting(&mut self) {
        for (key, deleting) in self.unsynced.take().unwrap_or_default() {
            self.wake_workflow(key, deleting);
        }
    }

    fn wake_workflow(&mut self, key: Key, deleting: bool) {
        self.metrics.wakes.with_label_values(&["wf"]).inc();
        if let Some(inbox) = self.inboxes.get(&key) {
            if deleting {
                inbox.deleting();
            }
            return;
        }
        let inbox = Arc::new(Inbox::default());
        if deleting {
            inbox.deleting();
        }
        let actor = actor::Actor {
            world: self
                .world
                .for_workflow(&format!("{}/{}", key.namespace, key.name)),
            key: key.clone(),
            settings: self.settings.clone(),
            pods: self.pods.clone(),
            inbox: inbox.clone(),
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
        };
        self.metrics.accepted.inc();
        self.metrics.active.inc();
        let handle = self.actors.spawn(actor.run());
        self.keys.insert(handle.id(), key.clone());
        self.inboxes.insert(key, inbox);
    }

    fn actor_ended(&mut self, ended: Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.metrics.active.dec();
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        let inbox = self.inboxes.remove(&key);
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(
                ns = key.namespace,
                exec_id = key.name,
                "a workflow's task panicked; starting it again"
            );
            self.wake_workflow(key, inbox.is_some_and(|inbox| inbox.is_deleting()));
        }
    }

    /// True when the initial list is complete.
    fn pod_event(&mut self, event: watcher::Event<Pod>) -> bool {
        match event {
            watcher::Event::Apply(pod) => self.pod_changed(pod),
            watcher::Event::Delete(pod) => {
                self.pods.remove(&pod);
                self.wake_owner(&pod);
            }
            watcher::Event::Init => self.relisted.clear(),
            watcher::Event::InitApply(pod) => self.relisted.push(pod),
            watcher::Event::InitDone => {
                let pods = std::mem::take(&mut self.relisted);
                for gone in self.pods.keep_only(&pods) {
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
        let pod = self.pods.put(pod);
        let known = self.wake_owner(&pod);
        if !known && self.unsynced.is_none() {
            self.adopt_or_release(&pod);
        }
    }

    /// Wakes the workflow that owns a pod; false when it is not under way.
    fn wake_owner(&self, pod: &Pod) -> bool {
        let Some(key) = owner(pod) else { return false };
        let Some(inbox) = self.inboxes.get(&key) else {
            return false;
        };
        self.metrics.wakes.with_label_values(&["task"]).inc();
        inbox.pod(pod.name_any());
        true
    }

    /// Looks at a pod whose workflow is not under way.
    fn adopt_or_release(&mut self, pod: &Pod) {
        if let Some(key) = owner(pod).filter(|_| orphans::concerns(pod)) {
            let pods = BTreeMap::from([(key, vec![orphans::Orphan::of(pod)])]);
            self.chores.spawn(orphans::end(self.world.clone(), pods));
        }
    }

    /// Looks at all pods whose workflow is not under way, once at the start: the process that ended their workflows
    /// may not have come to ending them, and nothing else may ever change them.
    fn end_orphans(&mut self) {
        let mut pods: BTreeMap<Key, Vec<orphans::Orphan>> = BTreeMap::new();
        for pod in self.pods.all() {
            if let Some(key) = owner(&pod).filter(|_| orphans::concerns(&pod))
                && !self.inboxes.contains_key(&key)
            {
                pods.entry(key).or_default().push(orphans::Orphan::of(&pod));
            }
        }
        self.chores.spawn(orphans::end(self.world.clone(), pods));
    }

    fn collect_garbage(&mut self, workflows: &Api<PartialObjectMeta<FlyteWorkflow>>) {
        let ttl = self.settings.propeller.max_ttl_hours.min(23);
        if ttl > 0 {
            self.chores.spawn(garbage::collect(
                self.world.kube.clone(),
                workflows.clone(),
                ttl,
                self.world.clock.now(),
            ));
        }
    }
}

/// The workflow resource that controls a pod. Go writes the kind in lower case.
fn owner(pod: &Pod) -> Option<Key> {
    let reference = pod.owner_references().iter().find(|reference| {
        reference.controller == Some(true) && reference.kind.eq_ignore_ascii_case("flyteworkflow")
    })?;
    Some(Key {
        namespace: pod.namespace()?,
        name: reference.name.clone(),
    })
}
