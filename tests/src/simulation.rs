//! Engine, cluster and admin in one test, without a socket or a disk, under paused time.
//!
//! ```text
//! engine ──▶ faults ──▶ cluster (flyte-local, in memory) ◀── node that ends pods as their arguments say
//!        ──▶ faults ──▶ admin (in memory, on flyteadmin's own event state machines)
//!        ──▶ faults ──▶ blobs (in memory)
//! ```
//!
//! Every request that changes something is an effect and gets a number. A [`Plan`] says at which numbers something
//! goes wrong. Whatever goes wrong, [`Run::visible`] must be the same.

mod admin;
mod blobs;
mod faults;
pub mod graphs;
mod node;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use flyte_core::identifiers::ExecutionId;
use flyte_crd::{FlyteWorkflow, WorkflowPhase, WorkflowSpec};
use flyte_idl::core::LiteralMap;
use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use flyte_platform::{
    Clock,
    blob::BlobStore,
    client::RetryPolicy,
    kubernetes,
    metrics::{LabelKeys, Scope},
    server,
};
use flyte_plugins::config::PluginsConfig;
use flyte_propeller::{
    Dependencies,
    config::{EventConfig, PropellerConfig},
};
use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{Namespace, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams},
    core::{PartialObjectMeta, Request},
    runtime::{WatchStreamExt as _, watcher},
};
use object_store::memory::InMemory;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use admin::{Records, in_memory};
pub use faults::{Answer, Delays, Fault, Plan, Refusal, Reloads, Rule};
pub use node::NOTES;

/// Where the simulated workflow lives.
pub const NAMESPACE: &str = "project-development";
/// Where the workflows beside it live.
pub const NEIGHBOURS: &str = "noisy-development";
/// Virtual time after which a run has lost its way.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Time by the clock on the wall after which a run hangs; it takes milliseconds.
const LONGEST_IN_REALITY: Duration = Duration::from_secs(300);
/// Stack of a run: types and literals are walked by recursion, and services give it the same room
/// (`flyte_platform::cli::runtime`).
const STACK_BYTES: usize = 16 * 1024 * 1024;
/// Virtual time that is left to the engine after the end, to delete what need not stay.
const SETTLING: Duration = Duration::from_secs(120);

/// One workflow to be run, with what goes wrong on the way.
pub struct Simulation {
    workflow: FlyteWorkflow,
    plan: Plan,
    delete_after: Option<u64>,
    lose_pods_after: Option<u64>,
    strip_pods_after: Option<u64>,
    object_bytes: Option<usize>,
    max_resource_bytes: usize,
    event_config: EventConfig,
    limits: faults::Limits,
    plugins: PluginsConfig,
    loses_statuses: bool,
    beginning: Option<Beginning>,
    settling: Duration,
    neighbours: Vec<FlyteWorkflow>,
}

/// What there is besides the resource of a workflow that an engine takes over.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// Pods without owner.
    pub pods: Vec<Pod>,
    /// Blobs by key.
    pub objects: BTreeMap<String, Vec<u8>>,
}

/// What a run left behind.
#[derive(Clone, Debug)]
pub struct Run {
    /// The phase of the resource at its end.
    pub phase: WorkflowPhase,
    /// The resource's status at its end; null when it is gone.
    pub status: serde_json::Value,
    /// What admin knows.
    pub records: Records,
    /// How often each pod was created.
    pub pods: BTreeMap<String, u32>,
    /// Pods that had not ended when the engine had nothing left to do.
    pub left: Vec<String>,
    /// How many effects there were.
    pub effects: u64,
    /// How often the engine looked at the workflow, all its lives together.
    pub rounds: u64,
    /// How many steps of nodes and of the workflow it took.
    pub steps: u64,
    /// The effects in order: requests of the cluster and of admin, and blobs.
    pub trace: Vec<String>,
    /// What the engine read of the cluster and watched: paths with queries.
    pub reads: BTreeSet<String>,
    /// What the engine counted in its last life, in Prometheus' text format.
    pub metrics: String,
    /// How often the engine was started again.
    pub restarts: u32,
    /// Maps of literals in the blob store, by key: inputs and outputs of nodes.
    pub literals: BTreeMap<String, LiteralMap>,
    /// Writes of the workflow resource.
    pub status_writes: u64,
    /// Calls of admin.
    pub calls: u64,
    /// From the creation of the resource to its end; virtual time unless measured.
    pub elapsed: Duration,
}

/// What users can see of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    /// The phase of the workflow, and its error's code.
    pub workflow: (String, String),
    /// The phase of each node.
    pub nodes: BTreeMap<String, String>,
    /// The phase of each attempt.
    pub tasks: BTreeMap<String, String>,
    /// Names of pods.
    pub pods: Vec<String>,
}

impl Run {
    /// What users can see.
    pub fn visible(&self) -> Visible {
        Visible {
            workflow: self.records.workflow(),
            nodes: self.records.nodes(),
            tasks: self.records.tasks(),
            pods: self.pods.keys().cloned().collect(),
        }
    }

    /// Pods that were created more than once: an attempt ran twice.
    pub fn doubles(&self) -> Vec<String> {
        self.pods
            .iter()
            .filter(|(_, count)| **count > 1)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

impl Simulation {
    /// A run of this workflow in which nothing goes wrong.
    pub fn new(workflow: FlyteWorkflow) -> Self {
        Self {
            workflow,
            plan: Plan::default(),
            delete_after: None,
            lose_pods_after: None,
            strip_pods_after: None,
            object_bytes: None,
            max_resource_bytes: PropellerConfig::default().max_resource_bytes,
            event_config: EventConfig::default(),
            limits: faults::Limits {
                event_bytes: usize::MAX,
                pods: None,
                refusals: Vec::new(),
                panics: None,
                reloads: Reloads::Never,
                delays: Delays::None,
                rules: Vec::new(),
            },
            plugins: PluginsConfig::default(),
            loses_statuses: false,
            beginning: None,
            settling: SETTLING,
            neighbours: Vec::new(),
        }
    }

    /// Beside these, in their own namespace [`NEIGHBOURS`]; admin takes all that is said of them, and nobody waits for
    /// their end.
    #[must_use]
    pub fn beside(mut self, neighbours: Vec<FlyteWorkflow>) -> Self {
        self.neighbours = neighbours;
        self
    }

    /// The API server treats requests like this.
    #[must_use]
    pub fn ruled(mut self, rules: Vec<Rule>) -> Self {
        self.limits.rules = rules;
        self
    }

    /// The engine is given this long after the end, instead of two minutes, to delete what need not stay.
    #[must_use]
    pub fn settling(mut self, time: Duration) -> Self {
        self.settling = time;
        self
    }

    /// The workflow was begun by another engine, which left this behind besides its status.
    #[must_use]
    pub fn resuming(mut self, beginning: Beginning) -> Self {
        self.beginning = Some(beginning);
        self
    }

    /// With these faults.
    #[must_use]
    pub fn with(mut self, plan: Plan) -> Self {
        self.plan = plan;
        self
    }

    /// Deletes the resource once this many effects have happened, as a user who terminates the execution does.
    #[must_use]
    pub fn deleted_after(mut self, effects: u64) -> Self {
        self.delete_after = Some(effects);
        self
    }

    /// Somebody deletes all pods at once when this many effects have happened.
    #[must_use]
    pub fn losing_pods_after(mut self, effects: u64) -> Self {
        self.lose_pods_after = Some(effects);
        self
    }

    /// Somebody removes all labels and owners of all pods when this many effects have happened.
    #[must_use]
    pub fn stripping_pods_after(mut self, effects: u64) -> Self {
        self.strip_pods_after = Some(effects);
        self
    }

    /// The API server takes no object that is larger than the workflow at its beginning by more than this.
    #[must_use]
    pub fn with_room_for(mut self, bytes: usize) -> Self {
        self.object_bytes = Some(encoded_bytes(&self.workflow) + bytes);
        self
    }

    /// The engine keeps node statuses in a blob when the resource is larger than the workflow at its beginning by more
    /// than this.
    #[must_use]
    pub fn spilling_beyond(mut self, bytes: usize) -> Self {
        self.max_resource_bytes = encoded_bytes(&self.workflow) + bytes;
        self
    }

    /// Events carry data as this says, and admin takes none that are larger than `most_bytes`.
    #[must_use]
    pub fn with_events(mut self, config: EventConfig, most_bytes: usize) -> Self {
        self.event_config = config;
        self.limits.event_bytes = most_bytes;
        self
    }

    /// Node statuses that were kept in a blob are gone when the engine is started again.
    #[must_use]
    pub fn losing_statuses(mut self) -> Self {
        self.loses_statuses = true;
        self
    }

    /// A quota allows so many pods at once.
    #[must_use]
    pub fn with_quota(mut self, pods: usize) -> Self {
        self.limits.pods = Some(pods);
        self
    }

    /// The API server answers the first pods like this.
    #[must_use]
    pub fn refusing_pods(mut self, refusals: Vec<Refusal>) -> Self {
        self.limits.refusals = refusals;
        self
    }

    /// What asks for an effect whose name contains this panics, however often it is tried.
    #[must_use]
    pub fn panicking_at(mut self, part: &'static str) -> Self {
        self.limits.panics = Some(part);
        self
    }

    /// The engine is started again after these writes of the status.
    #[must_use]
    pub fn reloading(mut self, reloads: Reloads) -> Self {
        self.limits.reloads = reloads;
        self
    }

    /// Requests take this long.
    #[must_use]
    pub fn delayed(mut self, delays: Delays) -> Self {
        self.limits.delays = delays;
        self
    }

    /// Plugins are configured like this.
    #[must_use]
    pub fn with_plugins(mut self, config: PluginsConfig) -> Self {
        self.plugins = config;
        self
    }

    /// The engine never keeps node statuses in a blob.
    #[must_use]
    pub fn never_spilling(mut self) -> Self {
        self.max_resource_bytes = 0;
        self
    }

    /// Runs to the end, on a thread and a runtime of its own whose time is paused.
    ///
    /// # Panics
    /// When the workflow does not end, also in a loop that neither waits nor has an effect.
    pub fn run(self) -> Run {
        let plan = format!("{:?}", self.plan);
        self.attempt()
            .unwrap_or_else(|why| panic!("with {plan}: {why}"))
    }

    /// As [`Self::run`], but answers why a workflow does not end.
    ///
    /// # Errors
    /// When it does not end: what is left of it.
    pub fn attempt(self) -> Result<Run, String> {
        let (ended, end) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // Nobody listens any more when it took too long.
                ended.send(self.run_here()).ok();
            })
            .expect("a thread more is allowed");
        match end.recv_timeout(LONGEST_IN_REALITY) {
            Ok(run) => run,
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "not ended after {LONGEST_IN_REALITY:?} of real time"
            )),
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("the thread sends before it ends"),
            },
        }
    }

    fn run_here(self) -> Result<Run, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a single-threaded runtime needs nothing that can be missing");
        let settling = self.settling;
        runtime.block_on(self.drive(settling))
    }

    /// Runs to the end in real time on this runtime, for benches.
    pub async fn measure(self) -> Run {
        Box::pin(self.drive(Duration::ZERO))
            .await
            .unwrap_or_else(|why| panic!("{why}"))
    }

    async fn drive(self, settling: Duration) -> Result<Run, String> {
        let clock =
            Clock::simulated(jiff::Timestamp::from_second(1_767_225_600).unwrap_or_default());
        let counter = std::sync::atomic::AtomicU64::new(1);
        let options = ClusterOptions {
            now: Arc::new(move || clock.now()),
            random: Arc::new(move || {
                u128::from(counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) << 64
            }),
            object_bytes: self
                .object_bytes
                .unwrap_or(ClusterOptions::default().object_bytes),
            // As `flyte start` sets it: a thousand levels of types and literals take several thousand in JSON.
            json_depth: 5_100,
            ..ClusterOptions::default()
        };
        let cluster = Cluster::new(NoStore, options)
            .await
            .expect("an empty cluster starts");
        let outside = cluster.client();
        prepare(&outside).await;
        let id = &self.workflow.execution_id;
        let id = ExecutionId::new(&id.project, &id.domain, &id.name).expect("the id is complete");
        let (admin, records) = match self.beginning {
            None => admin::start(id),
            Some(_) => admin::resume(id),
        };
        let objects = Arc::new(InMemory::new());
        let most_effects = if self.neighbours.is_empty() {
            most_effects(&self.workflow, &self.plan, &self.limits)
        } else {
            // What they try is not this workflow's.
            u64::MAX / 4
        };
        let faults = faults::Faults::new(self.plan, self.limits);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let router = server::combine(admin, axum::Router::new()).layer(
            axum::middleware::from_fn_with_state(faults.clone(), faults::over_http),
        );
        let (channel, serving) = server::in_process(router, stop.clone());
        tasks.spawn(serving);
        let manner = if self.plugins.k8s.send_object_events {
            node::Manner::Talkative
        } else {
            node::Manner::Silent
        };
        tasks.spawn(node::run(outside.clone(), objects.clone(), manner));
        if let Some(after) = self.delete_after {
            let (faults, outside) = (faults.clone(), outside.clone());
            let name = self.workflow.metadata.name.clone().unwrap_or_default();
            tasks.spawn(async move {
                faults.reached(after).await;
                let api: Api<FlyteWorkflow> = Api::namespaced(outside, NAMESPACE);
                // It may have ended before: then there is nothing to terminate.
                drop(api.delete(&name, &DeleteParams::background()).await);
            });
        }
        let pods: Api<Pod> = Api::namespaced(outside.clone(), NAMESPACE);
        if let Some(after) = self.lose_pods_after {
            let (faults, pods) = (faults.clone(), pods.clone());
            tasks.spawn(async move {
                faults.reached(after).await;
                let at_once = DeleteParams::default().grace_period(0);
                let all = ListParams::default();
                pods.delete_collection(&at_once, &all)
                    .await
                    .expect("the cluster outside of the faults deletes pods");
            });
        }
        if let Some(after) = self.strip_pods_after {
            let (faults, pods) = (faults.clone(), pods.clone());
            tasks.spawn(async move {
                faults.reached(after).await;
                let bare =
                    serde_json::json!({ "metadata": { "labels": null, "ownerReferences": null } });
                for pod in pods
                    .list(&ListParams::default())
                    .await
                    .expect("pods are listed")
                {
                    pods.patch(
                        &pod.name_any(),
                        &PatchParams::default(),
                        &Patch::Merge(&bare),
                    )
                    .await
                    .expect("the cluster outside of the faults changes pods");
                }
            });
        }
        let api: Api<FlyteWorkflow> = Api::namespaced(outside, NAMESPACE);
        let began = tokio::time::Instant::now();
        let name = self.workflow.metadata.name.clone().unwrap_or_default();
        for neighbour in &self.neighbours {
            create(api.clone().into_client(), neighbour).await;
        }
        if !self.neighbours.is_empty() {
            records.admits_neighbours();
        }
        let beginning = self.beginning.unwrap_or_default();
        blobs::put(&objects, beginning.objects).await;
        let uid = create(api.clone().into_client(), &self.workflow).await;
        for pod in beginning.pods {
            adopt(&pods, pod, &name, &uid).await;
        }
        let end = async {
            let phase = end_of(&api, &name).await;
            let elapsed = began.elapsed();
            tokio::time::sleep(settling).await;
            (phase, elapsed)
        };
        tokio::pin!(end);
        let mut restarts = 0;
        let (mut rounds, mut steps) = (0, 0);
        let (phase, elapsed, counted) = loop {
            let metrics = Scope::new("").labelled_by(LabelKeys::of_the_single_binary());
            let kube = kube::Client::new(
                faults::over_cluster(cluster.service(), faults.clone()),
                NAMESPACE,
            );
            let store = blobs::FaultyStore::new(objects.clone(), faults.clone());
            let engine = flyte_propeller::wire(
                Dependencies {
                    kube,
                    blobs: BlobStore::over("mem", "bucket", Arc::new(store), None),
                    admin: channel.clone(),
                    clock,
                    metrics: metrics.clone(),
                },
                PropellerConfig {
                    rawoutput_prefix: "mem://bucket/raw".into(),
                    max_resource_bytes: self.max_resource_bytes,
                    event_config: self.event_config,
                    ..PropellerConfig::default()
                },
                self.plugins.clone(),
                RetryPolicy {
                    retries: None,
                    base: Duration::from_millis(100),
                    max: Duration::from_secs(8),
                    per_try: Duration::from_secs(15),
                },
            )
            .expect("the default configuration is consistent");
            // In each of its lives the engine may need as much as in one that nothing ends.
            let most_of_life = faults.effects() + most_effects;
            let end = tokio::select! {
                biased;
                end = &mut end => Some(end),
                () = faults.crashed() => {
                    restarts += 1;
                    if self.loses_statuses {
                        blobs::lose(&objects, "node-status").await;
                    }
                    None
                }
                outcome = engine.run(stop.child_token()) => panic!("the engine stopped: {outcome:?}"),
                () = faults.reached(most_of_life) => return Err(format!(
                    "a live-lock: {most_effects} effects and no end, the last {:?}: {}",
                    faults.last(),
                    describe(&api, &name, &records).await
                )),
                () = tokio::time::sleep(LONGEST) => return Err(format!(
                    "not ended after {LONGEST:?}: {}",
                    describe(&api, &name, &records).await
                )),
            };
            let of_life = (count(&metrics, "wf_rounds"), count(&metrics, "wf_steps"));
            rounds += of_life.0;
            steps += of_life.1;
            if of_life.0 > most_effects || of_life.1 > 2 * most_effects {
                return Err(format!(
                    "a live-lock: {} rounds, {} steps, {most_effects} effects at most: {}",
                    of_life.0,
                    of_life.1,
                    describe(&api, &name, &records).await
                ));
            }
            if u64::from(restarts) > most_effects {
                return Err(format!(
                    "not ended after {restarts} restarts: {}",
                    describe(&api, &name, &records).await
                ));
            }
            if let Some((phase, elapsed)) = end {
                break (phase, elapsed, metrics.render());
            }
        };
        let left = unfinished(&pods).await;
        let status = read(&api, &name).await.unwrap_or_default()["status"].take();
        let (status_writes, calls) = faults.counts();
        tasks.shutdown().await;
        Ok(Run {
            phase,
            status,
            records: records.snapshot(),
            pods: faults.pods(),
            left,
            effects: faults.effects(),
            rounds,
            steps,
            trace: faults.trace(),
            reads: faults.reads(),
            metrics: counted,
            literals: blobs::literals(&objects).await,
            restarts,
            status_writes,
            calls,
            elapsed,
        })
    }
}

/// The value of a counter of the engine.
fn count(metrics: &Scope, name: &str) -> u64 {
    metrics
        .render()
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains(name))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Effects that a workflow can need: linear in its attempts, and some again for each fault. What needs more has lost
/// its way.
fn most_effects(workflow: &FlyteWorkflow, plan: &Plan, limits: &faults::Limits) -> u64 {
    /// Folders, events, pods and writes of status of one attempt, with room.
    const OF_AN_ATTEMPT: u64 = 16;
    /// Tries and events of one that waits for room.
    const OF_A_WAIT: u64 = 16;
    /// Those of the workflow itself.
    const OF_A_WORKFLOW: u64 = 32;
    let attempts: u64 = workflow
        .spec
        .iter()
        .map(|graph| attempts(graph, workflow))
        .sum();
    let waits = limits.pods.is_some() || !limits.refusals.is_empty();
    let of_an_attempt = OF_AN_ATTEMPT + if waits { OF_A_WAIT } else { 0 };
    let one_run = OF_A_WORKFLOW + attempts * of_an_attempt;
    one_run * (1 + plan.0.len() as u64)
}

/// Attempts of all nodes of a graph, those of its sub-workflows as often as they are run.
fn attempts(graph: &WorkflowSpec, workflow: &FlyteWorkflow) -> u64 {
    let nodes = graph.nodes.values().chain(graph.on_failure.as_deref());
    nodes
        .map(|node| {
            let reference = node.workflow.as_ref();
            let inside = reference
                .and_then(|reference| reference.sub_workflow_ref.as_ref())
                .and_then(|key| workflow.sub_workflows.get(key))
                .map_or(0, |inside| attempts(inside, workflow));
            inside + node.retry.map_or(1, |retry| u64::from(retry.min_attempts))
        })
        .sum()
}

/// Pods that have not ended.
async fn unfinished(pods: &Api<Pod>) -> Vec<String> {
    let listed = pods.list(&ListParams::default()).await;
    listed
        .expect("the cluster outside of the faults lists its pods")
        .into_iter()
        .filter(|pod| {
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed"))
        })
        .map(|pod| pod.name_any())
        .collect()
}

async fn describe(api: &Api<FlyteWorkflow>, name: &str, records: &admin::Shared) -> String {
    let resource = read(api, name).await.unwrap_or_default();
    format!(
        "status {}\nrecords {:?}",
        resource["status"],
        records.snapshot()
    )
}

fn encoded_bytes(workflow: &FlyteWorkflow) -> usize {
    serde_json::to_vec(workflow).map_or(0, |bytes| bytes.len())
}

/// Creates a pod of the workflow.
async fn adopt(api: &Api<Pod>, mut pod: Pod, workflow: &str, uid: &str) {
    pod.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "flyte.lyft.com/v1alpha1".into(),
        kind: "flyteworkflow".into(),
        name: workflow.into(),
        uid: uid.into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    api.create(&PostParams::default(), &pod)
        .await
        .expect("the pod is valid");
}

/// Creates the workflow and answers its uid; kube cannot read answers that are nested deeply.
async fn create(client: kube::Client, workflow: &FlyteWorkflow) -> String {
    let body = serde_json::to_vec(workflow).expect("resources can be written");
    let namespace = workflow.metadata.namespace.as_deref();
    let request = Request::new(FlyteWorkflow::url_path(&(), namespace))
        .create(&PostParams::default(), body)
        .expect("the request is well-formed");
    let made = client
        .request_text(request)
        .await
        .expect("the workflow is valid");
    let made = flyte_idl::json::parse(made.as_bytes()).unwrap_or_default();
    made["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The workflow; none when it is gone.
async fn read(api: &Api<FlyteWorkflow>, name: &str) -> Option<serde_json::Value> {
    let request = Request::new(FlyteWorkflow::url_path(&(), Some(NAMESPACE)))
        .get(name, &GetParams::default())
        .expect("the request is well-formed");
    let text = api.clone().into_client().request_text(request).await.ok()?;
    flyte_idl::json::parse(text.as_bytes()).ok()
}

async fn prepare(client: &kube::Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in [NAMESPACE, NEIGHBOURS] {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("the namespace is new");
    }
    kubernetes::define(client.clone(), &flyte_crd::custom_resource_definition())
        .await
        .expect("the cluster is ours");
}

/// The last phase that the resource shows before it ends or goes. A resource that is deleted goes in the very write
/// that ends it, so its end is ABORTED.
async fn end_of(api: &Api<FlyteWorkflow>, name: &str) -> WorkflowPhase {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let metadata: Api<PartialObjectMeta<FlyteWorkflow>> =
        Api::namespaced(api.clone().into_client(), NAMESPACE);
    let mut events = watcher::watcher(metadata, config).default_backoff().boxed();
    loop {
        match events.next().await {
            Some(Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found))) => {
                let terminated = found.labels().contains_key(flyte_crd::TERMINATION_LABEL);
                if terminated && found.finalizers().is_empty() {
                    let resource = read(api, name).await.unwrap_or_default();
                    return resource["status"]["phase"]
                        .as_i64()
                        .map_or(WorkflowPhase::Aborted, WorkflowPhase::from);
                }
            }
            Some(Ok(watcher::Event::Delete(_))) | None => return WorkflowPhase::Aborted,
            Some(Ok(_) | Err(_)) => {}
        }
    }
}

/// How long the cluster alone takes for `depth` rounds of `width` pods, each round begun when the one before has
/// ended: what no engine can beat.
pub async fn floor(width: usize, depth: usize) -> Duration {
    let cluster = Cluster::new(NoStore, ClusterOptions::default())
        .await
        .expect("an empty cluster starts");
    let client = cluster.client();
    prepare(&client).await;
    let mut tasks = JoinSet::new();
    let objects = Arc::new(InMemory::new());
    tasks.spawn(node::run(client.clone(), objects, node::Manner::Silent));
    let api: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let mut events = watcher::watcher(api.clone(), watcher::Config::default())
        .default_backoff()
        .boxed();
    let began = tokio::time::Instant::now();
    for round in 0..depth {
        let creations = (0..width).map(|index| {
            let pod: Pod = serde_json::from_value(serde_json::json!({
                "metadata": { "name": format!("pod-{round}-{index}") },
                "spec": { "containers": [{ "name": "main", "image": "i", "args": ["ok", "x"] }] },
            }))
            .expect("a pod of one container is valid");
            let api = api.clone();
            async move { api.create(&PostParams::default(), &pod).await }
        });
        futures::future::try_join_all(creations)
            .await
            .expect("the names are new");
        let mut ended = std::collections::BTreeSet::new();
        let prefix = format!("pod-{round}-");
        while ended.len() < width {
            let event = events.next().await;
            let Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) = event
            else {
                continue;
            };
            let name = pod.metadata.name.unwrap_or_default();
            let phase = pod.status.and_then(|status| status.phase);
            if name.starts_with(&prefix) && phase.as_deref() == Some("Succeeded") {
                ended.insert(name);
            }
        }
    }
    let elapsed = began.elapsed();
    tasks.shutdown().await;
    elapsed
}
