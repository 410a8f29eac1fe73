//! Watches, and one task per workflow.
//!
//! ```text
//! workflow watch (metadata) ──▶ controller ──▶ actor of a workflow ──▶ effects
//! pod watch ──▶ pod cache ─────────┘ wakes        └─ writes status once per wake-up
//! ```
//!
//! The controller owns all actors; an actor owns one workflow and nothing else touches it. Wake-ups are merged per
//! workflow: however many pods change while an actor works, it looks once more afterwards.

mod actor;
mod children;
mod controller;
mod inbox;
mod pods;

use std::{sync::Arc, time::Duration};

use flyte_crd::FlyteWorkflow;
use flyte_idl::service::{
    admin_service_client::AdminServiceClient, signal_service_client::SignalServiceClient,
};
use flyte_platform::{
    Clock,
    blob::{BlobMetrics, BlobStore},
    client::{AdminClientConfig, CountedChannel},
    kubernetes,
    metrics::{MetricError, Scope},
    server::{CallMetrics, Latency, methods_of},
};
use flyte_plugins::{PluginsError, Registry, config::PluginsConfig};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Pod, PodTemplate},
        events::v1::Event,
    },
};
use kube::{
    Api, Resource,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, reflector::store::Writer, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    config::{CatalogConfig, PropellerConfig},
    effects::{Budget, Catalog, Effects, PodTemplates, QuotaQueue},
    metrics::EngineMetrics,
    node::Settings,
};

use self::controller::{Controller, Shared};

/// How often levels are looked at that nothing changes by itself: how long something has taken.
const LEVELS: Duration = Duration::from_secs(10);

/// What an engine is wired with.
pub struct Dependencies {
    /// The cluster that the engine's resources and pods are in.
    pub kube: kube::Client,
    /// Where inputs, outputs and spilled statuses are.
    pub blobs: BlobStore,
    /// Admin, for events.
    pub admin: Channel,
    /// datacatalog, where outputs of tasks are cached; none when they are not.
    pub catalog: Option<CatalogService>,
    /// What deadlines and waits are measured by; virtual in tests.
    pub clock: Clock,
    /// Where metrics are registered, without the engine's own scope, and the labels that they have.
    pub metrics: Scope,
}

/// How datacatalog is reached, and what is taken from it.
pub struct CatalogService {
    /// A channel to it.
    pub channel: Channel,
    /// Section `catalog-cache`.
    pub config: CatalogConfig,
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

/// The engine: call [`Engine::run`].
pub struct Engine {
    shared: Shared,
    templates: Writer<PodTemplate>,
    ready: watch::Sender<bool>,
}

/// Puts an engine together; nothing runs yet.
///
/// # Errors
/// When the configuration of plugins contradicts itself.
pub fn wire(
    dependencies: Dependencies,
    propeller: PropellerConfig,
    plugins: PluginsConfig,
    admin: &AdminClientConfig,
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
    let latency = if propeller.enable_grpc_latency_metrics {
        Latency::Counted
    } else {
        Latency::NotCounted
    };
    let methods = methods_of(&[
        "flyteidl.service.AdminService",
        "flyteidl.service.SignalService",
        "datacatalog.DataCatalog",
    ]);
    let calls = Arc::new(CallMetrics::of_client(&scope, methods, latency)?);
    let channel = CountedChannel::new(dependencies.admin, calls.clone());
    let catalog = dependencies.catalog.map(|service| {
        let channel = CountedChannel::new(service.channel, calls.clone());
        Catalog::new(channel, &service.config, propeller.workflow_reeval_duration)
    });
    let (templates, templates_writer) = PodTemplates::new(&plugins.own_namespace);
    let settings = Arc::new(Settings {
        propeller,
        plugins,
        registry,
        metadata_root,
        caches: catalog.is_some(),
    });
    let effects = Effects {
        kube: kubernetes::with_timeout(dependencies.kube),
        blobs: dependencies
            .blobs
            .counted(Arc::new(BlobMetrics::register(&scope.sub("metastore"))?)),
        metrics: metrics.clone(),
        templates,
        admin: AdminServiceClient::new(channel.clone())
            .max_decoding_message_size(64 * 1024 * 1024)
            .max_encoding_message_size(64 * 1024 * 1024),
        signals: SignalServiceClient::new(channel)
            .max_decoding_message_size(64 * 1024 * 1024)
            .max_encoding_message_size(64 * 1024 * 1024),
        catalog,
        clock: dependencies.clock,
        budget: Budget::new(admin.per_retry_timeout.to_std()),
        event_config: settings.propeller.event_config,
        quota_queue: QuotaQueue::new(settings.plugins.tasks.backoff, dependencies.clock),
    };
    let shared = Shared {
        effects,
        settings,
        pods: Arc::default(),
        children: Arc::default(),
        metrics,
    };
    Ok(Engine {
        shared,
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
        if self.shared.settings.propeller.create_flyteworkflow_crd {
            let definition = flyte_crd::custom_resource_definition();
            tokio::select! {
                defined = kubernetes::define(self.shared.effects.kube.clone(), &definition) => {
                    defined.map_err(|error| EngineError::Definition(Box::new(error)))?;
                }
                () = stop.cancelled() => return Ok(()),
            }
        }
        let mut controller = Controller::new(self.shared.clone(), stop.child_token());
        let namespace = self.shared.settings.propeller.limit_namespace.clone();
        let everywhere = matches!(namespace.as_str(), "all" | "all-namespaces" | "");
        let limit = (!everywhere).then_some(namespace.as_str());
        let workflows: Api<PartialObjectMeta<FlyteWorkflow>> =
            api(&self.shared.effects.kube, limit);
        let pods: Api<Pod> = api(&self.shared.effects.kube, limit);
        let templates: Api<PodTemplate> = api(&self.shared.effects.kube, limit);
        let selector = self.shared.settings.propeller.selector();
        let mut workflow_events = watcher::watcher(
            workflows.clone(),
            watcher::Config::default().labels(&selector),
        )
        .default_backoff()
        .boxed();
        let mut pod_events = watcher::watcher(
            pods,
            watcher::Config::default().labels(&self.shared.settings.propeller.pod_selector()),
        )
        .default_backoff()
        .boxed();
        // Not part of readiness: few tasks name one, and those wait.
        let mut template_events = watcher::watcher(templates, watcher::Config::default())
            .default_backoff()
            .reflect(self.templates)
            .boxed();
        let mut object_events = if self.shared.settings.plugins.k8s.send_object_events {
            let events: Api<Event> = api(&self.shared.effects.kube, limit);
            let of_pods = watcher::Config::default().fields("regarding.kind=Pod");
            watcher::watcher(events, of_pods).default_backoff().boxed()
        } else {
            futures::stream::pending().boxed()
        };
        let mut collect = tokio::time::interval(
            self.shared
                .settings
                .propeller
                .gc_interval
                .to_std()
                .max(Duration::from_secs(1)),
        );
        let mut call_in_time =
            std::pin::pin!(self.shared.effects.quota_queue.clone().call_in_time());
        let (children, asker) = (self.shared.children.clone(), self.shared.effects.clone());
        let mut ask_for_children = std::pin::pin!(children.ask(&asker));
        let mut levels = tokio::time::interval(LEVELS);
        let mut synced = (false, false);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = &mut call_in_time => {}
                () = &mut ask_for_children => {}
                Some(ended) = controller.actors.join_next_with_id(), if !controller.actors.is_empty() => {
                    controller.actor_ended(ended);
                }
                Some(_done) = controller.background.join_next(), if !controller.background.is_empty() => {}
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
                // After the pods, so that the first list of events finds them.
                event = object_events.try_next(), if synced.0 => match event {
                    Ok(Some(event)) => controller.object_event(event),
                    Ok(None) => return Err(EngineError::WatchEnded("events of pods")),
                    Err(error) => tracing::warn!(%error, "the watch of pods' events was interrupted"),
                },
                _ = levels.tick() => self.shared.metrics.queue.look_at_rounds(),
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
