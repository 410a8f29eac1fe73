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
mod catalog;
mod children;
mod faults;
pub mod graphs;
mod made;
mod node;
mod outside;
mod signals;
mod trial;
mod watches;
mod world;

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
use flyte_idl::core::{LiteralMap, literal, task_template};
use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use flyte_platform::{
    Clock,
    blob::BlobStore,
    client::AdminClientConfig,
    metrics::{LabelKeys, Scope},
    server,
};
use flyte_plugins::config::PluginsConfig;
use flyte_propeller::{
    CatalogService, Dependencies,
    config::{CatalogConfig, PropellerConfig},
};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use object_store::memory::InMemory;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use admin::{Records, in_memory};
pub use catalog::Cached;
pub use faults::{Answer, Delays, Fault, Plan, Refusal, Reloads, Rule};
pub use node::NOTES;
pub use outside::Outside;
pub use world::floor;
use world::{adopt, create, describe, encoded_bytes, end_of, prepare, read, unfinished};

/// Where the simulated workflow lives.
pub const NAMESPACE: &str = "project-development";
/// The execution that another one recovers ([`graphs::failed_before`]).
pub const OTHER: &str = "other";
/// Where raw data goes.
const RAW_OUTPUT: &str = "mem://bucket/raw";
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
    /// What others do when so many effects have happened.
    outside: Vec<(u64, Outside)>,
    object_bytes: Option<usize>,
    limits: faults::Limits,
    propeller: PropellerConfig,
    plugins: PluginsConfig,
    catalog: CatalogConfig,
    labels: LabelKeys,
    loses_statuses: bool,
    beginning: Option<Beginning>,
    /// What is left of an execution that this one recovers.
    other: Option<(Records, BTreeMap<String, Vec<u8>>)>,
    settling: Duration,
    neighbours: Vec<FlyteWorkflow>,
    /// So many of the neighbours' requests are refused before the workflow is created.
    after_refusals: usize,
}

/// What there is besides the resource of a workflow that an engine takes over.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// Pods; those without an owner become the workflow's.
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
    /// What the cache has.
    pub cached: Cached,
    /// How often each pod was created.
    pub pods: BTreeMap<String, u32>,
    /// Pods that are there when the engine has nothing left to do.
    pub kept: Vec<Pod>,
    /// Those of them that have not ended.
    pub left: Vec<String>,
    /// How many effects there were.
    pub effects: u64,
    /// How often the engine looked at the workflow, all its lives together.
    pub rounds: u64,
    /// How many steps of nodes and of the workflow it took.
    pub steps: u64,
    /// Requests that rules refused.
    pub refused: usize,
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
    /// All objects in the blob store, by key.
    pub objects: BTreeMap<String, Vec<u8>>,
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
            outside: Vec::new(),
            object_bytes: None,
            limits: faults::Limits {
                event_bytes: usize::MAX,
                away: None,
                pods: None,
                refusals: Vec::new(),
                panics: None,
                reloads: Reloads::Never,
                delays: Delays::None,
                rules: Vec::new(),
            },
            propeller: PropellerConfig {
                rawoutput_prefix: RAW_OUTPUT.into(),
                ..PropellerConfig::default()
            },
            plugins: PluginsConfig::default(),
            catalog: CatalogConfig::default(),
            labels: LabelKeys::of_the_single_binary(),
            loses_statuses: false,
            beginning: None,
            other: None,
            settling: SETTLING,
            neighbours: Vec::new(),
            after_refusals: 0,
        }
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
        let catalog = catalog::Catalog::default();
        let (admin, records) = match self.beginning {
            None => admin::start(id, &catalog),
            Some(_) => admin::resume(id, &catalog),
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
        for (after, what) in self.outside {
            let (faults, outside, workflow) =
                (faults.clone(), outside.clone(), self.workflow.clone());
            tasks.spawn(async move {
                faults.reached(after).await;
                what.happen(outside, &workflow, &faults).await;
            });
        }
        let pods: Api<Pod> = Api::namespaced(outside.clone(), NAMESPACE);
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
        if let Some((other, files)) = self.other {
            records.recovers(&other);
            blobs::put(&objects, files).await;
        }
        if self.after_refusals == 0 {
            let uid = create(api.clone().into_client(), &self.workflow).await;
            for pod in beginning.pods {
                adopt(&pods, pod, &name, &uid).await;
            }
        }
        let end = async {
            let mut began = began;
            if self.after_refusals > 0 {
                faults.refused(self.after_refusals).await;
                began = tokio::time::Instant::now();
                create(api.clone().into_client(), &self.workflow).await;
            }
            let phase = end_of(&api, &name).await;
            let elapsed = began.elapsed();
            tokio::time::sleep(settling).await;
            (phase, elapsed)
        };
        tokio::pin!(end);
        let mut restarts = 0;
        let (mut rounds, mut steps) = (0, 0);
        let (phase, elapsed, counted) = loop {
            let metrics = Scope::new("").labelled_by(self.labels.clone());
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
                    catalog: Some(CatalogService {
                        channel: channel.clone(),
                        config: self.catalog.clone(),
                    }),
                    clock,
                    metrics: metrics.clone(),
                },
                self.propeller.clone(),
                self.plugins.clone(),
                &AdminClientConfig::default(),
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
                () = tokio::time::sleep(LONGEST + settling) => return Err(format!(
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
        let kept = world::pods(&pods).await;
        let left = unfinished(&kept);
        let status = read(&api, &name).await.unwrap_or_default()["status"].take();
        let (status_writes, calls) = faults.counts();
        tasks.shutdown().await;
        Ok(Run {
            phase,
            status,
            cached: catalog.snapshot(),
            records: records.snapshot(),
            pods: faults.pods(),
            kept,
            left,
            effects: faults.effects(),
            refused: faults.refusals(),
            rounds,
            steps,
            trace: faults.trace(),
            reads: faults.reads(),
            metrics: counted,
            literals: blobs::literals(&objects).await,
            objects: blobs::all(&objects).await,
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

/// Elements of the longest list among the inputs of a workflow, which its arrays are over.
fn longest_list(workflow: &FlyteWorkflow) -> u64 {
    let inputs = workflow
        .inputs
        .iter()
        .flat_map(|inputs| inputs.0.literals.values());
    let lengths = inputs.map(|value| match &value.value {
        Some(literal::Value::Collection(list)) => list.literals.len() as u64,
        _ => 0,
    });
    lengths.max().unwrap_or(0)
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
            let behaviour = node.task.as_ref().and_then(|key| behaviour(workflow, key));
            let made = behaviour.map_or(0, made::attempts);
            let elements = node.array.as_deref().map_or(0, |array| {
                let attempts = array
                    .sub_node_spec
                    .retry
                    .map_or(1, |retry| retry.min_attempts);
                longest_list(workflow) * u64::from(attempts)
            });
            let attempts = node.retry.map_or(1, |retry| u64::from(retry.min_attempts));
            inside + attempts * (1 + elements + made)
        })
        .sum()
}

/// What the pods of a task do.
fn behaviour<'a>(workflow: &'a FlyteWorkflow, key: &str) -> Option<&'a str> {
    let template = workflow.tasks.as_ref()?.get(key)?;
    match template.target.as_ref()? {
        task_template::Target::Container(container) => container.args.first().map(String::as_str),
        _ => None,
    }
}
