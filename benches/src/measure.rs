//! What is measured: shapes one at a time, creation alone, and many executions at once.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use flyte_platform::sql::DatabaseConfig;
use futures::future::try_join_all;
use serde::Serialize;

use crate::{
    backend::{Backend, Engine},
    floor, observe, process,
    shapes::{self, ONE, Shape},
};

/// One shape.
#[derive(Debug, Serialize)]
pub(crate) struct ShapeResult {
    /// Name of the shape.
    pub(crate) shape: &'static str,
    /// Wall times, each in milliseconds.
    pub(crate) wall: Spread,
    /// Wall times of the floor.
    pub(crate) floor: Spread,
    /// Median over median of the floor.
    pub(crate) ratio: f64,
    /// Writes of the FlyteWorkflow resource per execution, its creation included.
    pub(crate) workflow_writes: f64,
    /// Pod writes of the engine per execution.
    pub(crate) pod_writes: f64,
    /// Pod writes of the node per execution.
    pub(crate) node_writes: f64,
    /// Calls of admin per execution, by method.
    pub(crate) calls: BTreeMap<String, f64>,
    /// CPU per execution of API, engine, cluster and node together, milliseconds.
    pub(crate) cpu_ms: f64,
    /// CPU per round of the floor, milliseconds.
    pub(crate) floor_cpu_ms: f64,
    /// Written to disk per execution, KiB.
    pub(crate) disk_kib: f64,
    /// What Go Flyte took.
    pub(crate) go: &'static str,
}

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    /// Half are shorter.
    pub(crate) p50: f64,
    /// 95 of 100 are shorter.
    pub(crate) p95: f64,
    /// 99 of 100 are shorter.
    pub(crate) p99: f64,
}

impl Spread {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| {
            let index = (times.len() * share).div_ceil(100).saturating_sub(1);
            times.get(index).copied().map_or(0.0, milliseconds)
        };
        Self {
            p50: at(50),
            p95: at(95),
            p99: at(99),
        }
    }
}

/// Many clients at once.
#[derive(Debug, Serialize)]
pub(crate) struct LoadResult {
    /// What was done, and on what.
    pub(crate) title: String,
    /// Clients at once, each with a connection of its own.
    pub(crate) clients: usize,
    /// Executions in all.
    pub(crate) executions: usize,
    /// Executions a second.
    pub(crate) rate: f64,
    /// Times of one.
    pub(crate) times: Spread,
    /// CPU per execution of the whole process, milliseconds.
    pub(crate) cpu_ms: f64,
    /// What Go Flyte did.
    pub(crate) go: &'static str,
}

/// Resident memory in MiB.
#[derive(Debug, Serialize)]
pub(crate) struct MemoryResult {
    /// Ready, before the first request.
    pub(crate) idle: u64,
    /// The most while shapes ran.
    pub(crate) shapes: Option<u64>,
    /// The most under sustained load.
    pub(crate) load: Option<u64>,
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Counts to ratios: no count of a bench comes near 2^52.
#[expect(clippy::cast_precision_loss, reason = "counts of a bench are small")]
fn share(count: u64, of: usize) -> f64 {
    count as f64 / of.max(1) as f64
}

/// What was used up to a moment, or between two.
#[derive(Clone, Debug, Default)]
struct Usage {
    cpu: Duration,
    disk: u64,
    workflows: u64,
    pods: u64,
    node: u64,
    calls: BTreeMap<String, u64>,
}

impl Usage {
    fn of(backend: &Backend) -> Self {
        let writes = backend.writes.counts();
        Self {
            cpu: process::cpu(),
            disk: process::disk_bytes(),
            workflows: writes.workflows,
            pods: writes.pods,
            node: backend.node_writes.counts().pods,
            calls: observe::calls(&backend.metrics),
        }
    }

    /// Adds what was used since `before`.
    fn add_since(&mut self, before: &Self, backend: &Backend) {
        let now = Self::of(backend);
        self.cpu += now.cpu.saturating_sub(before.cpu);
        self.disk += now.disk.saturating_sub(before.disk);
        self.workflows += now.workflows - before.workflows;
        self.pods += now.pods - before.pods;
        self.node += now.node - before.node;
        for (method, count) in now.calls {
            let new = count - before.calls.get(&method).copied().unwrap_or(0);
            if new > 0 {
                *self.calls.entry(method).or_default() += new;
            }
        }
    }
}

/// Runs `shape` so often, each run followed by its floor on the same backend, so that both see the same machine.
pub(crate) async fn shape(
    backend: &Backend,
    shape: &Shape,
    repetitions: usize,
) -> anyhow::Result<ShapeResult> {
    let channel = backend.connect().await?;
    // The first finds caches empty and pages unmapped.
    let (_, warm) = backend.execute(channel.clone(), shape).await?;
    backend.settle(&warm).await?;
    let template = floor::template(&backend.outside, &warm).await?;
    floor::run(&backend.outside, &template, shape, 0).await?;
    floor::clear(&backend.outside).await?;
    let (mut times, mut floors) = (Vec::new(), Vec::new());
    let (mut used, mut floor_used) = (Usage::default(), Usage::default());
    for number in 1..=repetitions {
        let before = Usage::of(backend);
        let (time, name) = backend.execute(channel.clone(), shape).await?;
        backend.settle(&name).await?;
        used.add_since(&before, backend);
        times.push(time);
        let before = Usage::of(backend);
        floors.push(floor::run(&backend.outside, &template, shape, number).await?);
        floor_used.add_since(&before, backend);
        floor::clear(&backend.outside).await?;
    }
    let (wall, floor) = (Spread::of(times), Spread::of(floors));
    let each = |count: u64| share(count, repetitions);
    Ok(ShapeResult {
        shape: shape.title,
        wall,
        floor,
        ratio: wall.p50 / floor.p50,
        workflow_writes: each(used.workflows),
        pod_writes: each(used.pods),
        node_writes: each(used.node),
        cpu_ms: milliseconds(used.cpu) * each(1),
        floor_cpu_ms: milliseconds(floor_used.cpu) * each(1),
        disk_kib: each(used.disk / 1024),
        calls: used
            .calls
            .into_iter()
            .map(|(method, count)| (method, each(count)))
            .collect(),
        go: shape.go,
    })
}

/// What clients do under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Create executions and go on.
    Create,
    /// Create executions and wait for each to succeed.
    Execute,
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Clients at once.
    pub(crate) clients: usize,
    /// Executions in all.
    pub(crate) executions: usize,
    /// What they do.
    pub(crate) work: Work,
}

/// Puts `backend` under load with one-task workflows.
pub(crate) async fn load(
    backend: &Backend,
    load: Load,
    title: String,
    go: &'static str,
) -> anyhow::Result<LoadResult> {
    let mut channels = Vec::new();
    for _ in 0..load.clients {
        let channel = backend.connect().await?;
        work(backend, channel.clone(), load.work).await?;
        channels.push(channel);
    }
    let next = AtomicUsize::new(0);
    let (cpu, began) = (process::cpu(), Instant::now());
    let clients = channels.into_iter().map(async |channel| {
        let mut times = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < load.executions {
            times.push(work(backend, channel.clone(), load.work).await?);
        }
        Ok::<_, anyhow::Error>(times)
    });
    let times: Vec<Duration> = try_join_all(clients).await?.into_iter().flatten().collect();
    let (elapsed, cpu) = (began.elapsed(), process::cpu().saturating_sub(cpu));
    Ok(LoadResult {
        title,
        clients: load.clients,
        executions: times.len(),
        rate: share(times.len() as u64, 1) / elapsed.as_secs_f64(),
        cpu_ms: milliseconds(cpu) / share(times.len() as u64, 1),
        times: Spread::of(times),
        go,
    })
}

async fn work(
    backend: &Backend,
    channel: tonic::transport::Channel,
    work: Work,
) -> anyhow::Result<Duration> {
    match work {
        Work::Create => backend.create(channel, &ONE).await,
        Work::Execute => Ok(backend.execute(channel, &ONE).await?.0),
    }
}

/// A backend in a folder of its own, with `shapes` registered.
pub(crate) async fn backend(
    folder: &Path,
    database: DatabaseConfig,
    engine: Engine,
    shapes: &[Shape],
) -> anyhow::Result<Backend> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("folder {} cannot be made", folder.display()))?;
    let backend = Backend::start(folder, database, engine).await?;
    if !shapes.is_empty() {
        shapes::register(backend.connect().await?, shapes).await?;
    }
    Ok(backend)
}
