//! One workflow: read it, run its machine, write its status.

mod counting;
mod write;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flyte_core::identifiers::ExecutionId;
use flyte_crd::{FINALIZER, FlyteWorkflow, NodeStatus, TERMINATION_LABEL};
use flyte_idl::{core::ExecutionError, json};
use flyte_platform::Chain;
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Deserialize as _;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::counting::Counting;
use super::{
    Key,
    inbox::Inbox,
    pods::PodCache,
    resource::{self, Found},
};
use crate::{
    machine::{JobFor, Machine, Origin, Outcome, Spill, system_error},
    metrics::{self, EngineMetrics},
    node::Settings,
    world::{Remembered, World},
};

/// A busy workflow is written at least this often, so that little is repeated after a crash.
const LONGEST_UNWRITTEN: Duration = Duration::from_secs(1);
/// Wait before a workflow that panicked is begun again; doubled with each panic, up to the longest wait.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between two tries of a write.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The owner of one workflow.
pub(super) struct Actor {
    pub(super) key: Key,
    pub(super) world: World,
    pub(super) settings: Arc<Settings>,
    pub(super) pods: Arc<PodCache>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) metrics: Arc<EngineMetrics>,
    pub(super) stop: CancellationToken,
}

/// Why an actor stops running its machine.
enum End {
    /// The workflow is over, or gone, or the engine stops.
    Done,
    /// Somebody else wrote the status, or an effect panicked: read it and go on from there.
    StartOver,
}

/// What a resource is made into.
enum Loaded {
    Machine(Box<Machine>),
    /// It is over and needs nothing.
    Finished,
    /// Its node statuses were somewhere else by now.
    Moved,
    /// It cannot be run, for this reason.
    Unreadable(Option<ExecutionId>, ExecutionError),
}

/// The resource as it was last seen.
struct Seen {
    version: String,
    finalizers: Vec<String>,
    /// What its pods are found by.
    execution_label: Option<String>,
    /// The status has outgrown the API server; only its end will be written.
    unwritable: bool,
}

impl Actor {
    pub(super) async fn run(self) {
        let span =
            tracing::info_span!("workflow", ns = self.key.namespace, exec_id = self.key.name);
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.until_over().instrument(span) => {}
        }
    }

    async fn until_over(&self) {
        let mut missing = None;
        let mut panics = 0;
        loop {
            if self.inbox.panics() > panics {
                panics = self.inbox.panics();
                let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(panics - 1));
                tokio::time::sleep(wait.min(MAX_WAIT)).await;
            }
            let Some(found) = self.read().await else {
                self.metrics.round.not_found.inc();
                return;
            };
            let seen = Seen::of(&found.value);
            let most = self.settings.propeller.max_workflow_retries;
            let loaded = if panics > most {
                Loaded::Unreadable(execution_of(&found.value), panicked(panics, most))
            } else {
                self.load(found, &mut missing).await
            };
            let end = match loaded {
                Loaded::Finished => return,
                Loaded::Moved => {
                    self.metrics.round.skipped.inc();
                    continue;
                }
                Loaded::Machine(machine) => self.drive(*machine, seen).await,
                Loaded::Unreadable(execution, error) => {
                    let labels = execution.as_ref().map(metrics::labels_of);
                    let labels = labels.unwrap_or_default();
                    self.metrics.round.system_error.inc(&labels);
                    Box::pin(self.fail_unreadable(execution, error, seen)).await
                }
            };
            match end {
                End::Done => return,
                End::StartOver => {
                    self.metrics.round.error.inc();
                    tracing::debug!("reading the workflow again");
                }
            }
        }
    }

    /// The whole resource; none when it is gone.
    async fn read(&self) -> Option<Found> {
        let mut wait = Duration::from_millis(100);
        loop {
            let key = &self.key;
            match resource::read(&self.world.kube, &key.namespace, &key.name).await {
                Ok(found) => return found,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), ?wait, "cannot read the workflow, trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(MAX_WAIT);
                }
            }
        }
    }

    /// The machine of a resource. `missing` is the blob of node statuses that was not there the last time.
    async fn load(&self, found: Found, missing: &mut Option<Spill>) -> Loaded {
        let execution = execution_of(&found.value);
        let cannot_be_run = |message: &dyn std::fmt::Display| {
            let Key { namespace, name } = &self.key;
            let message =
                format!("workflow resource [{namespace}/{name}] cannot be run: {message}");
            system_error("BadSpecificationError", message)
        };
        let mut resource: FlyteWorkflow = match serde_json::from_value(found.value) {
            Ok(resource) => resource,
            Err(error) => return Loaded::Unreadable(execution, cannot_be_run(&error)),
        };
        if resource.status.phase.is_terminal()
            && resource.labels().contains_key(TERMINATION_LABEL)
            && !resource.finalizers().iter().any(|name| name == FINALIZER)
        {
            return Loaded::Finished;
        }
        let spill = Spill::of(&resource);
        if let Some(spill) = spill
            .as_ref()
            .filter(|_| !resource.status.phase.is_terminal())
        {
            match self.node_statuses(spill).await {
                Ok(Some(statuses)) => resource.status.node_status = statuses,
                // It goes when the next one is named: look at the resource once more.
                Ok(None) if missing.as_ref() != Some(spill) => {
                    *missing = Some(spill.clone());
                    return Loaded::Moved;
                }
                Ok(None) => {
                    let message = format!("the node statuses at [{}] are gone", spill.uri);
                    return Loaded::Unreadable(execution, cannot_be_run(&message));
                }
                Err(message) => return Loaded::Unreadable(execution, cannot_be_run(&message)),
            }
        }
        let origin = Origin {
            bytes: found.bytes,
            spill,
        };
        match Machine::load(&resource, origin, self.settings.clone()) {
            Ok(machine) => Loaded::Machine(Box::new(machine)),
            Err(error) => Loaded::Unreadable(execution, cannot_be_run(&Chain(&error))),
        }
    }

    /// Node statuses from their blob; none when there is none.
    async fn node_statuses(
        &self,
        spill: &Spill,
    ) -> Result<Option<BTreeMap<String, NodeStatus>>, String> {
        let unusable = |error: &dyn std::fmt::Display| {
            format!(
                "the node statuses at [{}] are not usable: {error}",
                spill.uri
            )
        };
        let Some(bytes) = self
            .world
            .read_statuses(&spill.uri)
            .await
            .map_err(|error| unusable(&Chain(&error)))?
        else {
            return Ok(None);
        };
        let value = json::parse(&bytes).map_err(|error| unusable(&error))?;
        BTreeMap::deserialize(value)
            .map(Some)
            .map_err(|error| unusable(&error))
    }

    /// Runs the machine until the workflow is over.
    async fn drive(&self, mut machine: Machine, mut seen: Seen) -> End {
        let mut jobs: JoinSet<(JobFor, Outcome)> = JoinSet::new();
        let mut counting = Counting::new(self.metrics.clone(), &machine);
        let world = self.world.on_behalf_of(machine.constants());
        let remembered = Remembered::default();
        let mut unwritten_since: Option<tokio::time::Instant> = None;
        loop {
            counting.look_begins();
            let wake = self.inbox.take();
            if wake.gone {
                return End::Done;
            }
            if wake.deleting {
                machine.abort("Workflow aborted.");
            }
            for pod in wake.pods {
                machine.wake_pod(&pod);
            }
            for pod in self.world.calls.take() {
                machine.wake_waiting(&pod);
            }
            let now = self.world.clock.now();
            machine.wake_timers(now);
            let namespace = self.key.namespace.as_str();
            let steps = machine.steps();
            let next = machine.next_jobs(now, |name| self.pods.get(namespace, name));
            self.world.calls.keep(|pod| machine.may_launch(pod));
            counting.decided(machine.steps() - steps);
            counting.happened(&mut machine, now);
            for job in next {
                let node = match job.whom {
                    JobFor::Node(index) => machine.owned(index),
                    JobFor::Workflow => None,
                };
                let (world, remembered) = (world.clone(), remembered.clone());
                jobs.spawn(
                    async move { (job.whom, world.perform(job.task, node, remembered).await) }
                        .in_current_span(),
                );
            }
            if machine.must_write() {
                let since = *unwritten_since.get_or_insert_with(tokio::time::Instant::now);
                // A write that takes all node statuses along is not made for each of them.
                let at_once =
                    machine.is_quiescent() && (machine.is_over() || !machine.is_spilled());
                if at_once || since.elapsed() >= LONGEST_UNWRITTEN {
                    unwritten_since = None;
                    if let Some(end) = self.write(&mut machine, &mut seen, now).await {
                        return end;
                    }
                    continue;
                }
            }
            if machine.is_over() && machine.is_quiescent() {
                // Ended by an earlier process that could not write it down, or never begun.
                return self
                    .write(&mut machine, &mut seen, now)
                    .await
                    .unwrap_or(End::Done);
            }
            let timer = machine.next_timer();
            counting.look_ends(machine.is_quiescent() && !machine.must_write());
            tokio::select! {
                biased;
                Some(done) = jobs.join_next(), if !jobs.is_empty() => match done {
                    Ok((whom, outcome)) => {
                        machine.complete(whom, outcome, self.world.clock.now());
                    }
                    // A panic in an effect would leave its node waiting for ever: start over from what is written.
                    Err(error) => {
                        tracing::error!(%error, "an effect panicked");
                        self.inbox.panicked();
                        self.metrics.round.panic.inc(&metrics::labels(machine.constants()));
                        return End::StartOver;
                    }
                },
                () = self.inbox.wait() => {}
                () = self.world.calls.wait() => {}
                () = self.until(timer) => {}
                () = until_due(unwritten_since) => {}
            }
        }
    }

    async fn until(&self, time: Option<Timestamp>) {
        match time {
            None => std::future::pending().await,
            Some(time) => {
                let wait = time.duration_since(self.world.clock.now());
                tokio::time::sleep(Duration::try_from(wait).unwrap_or(Duration::ZERO)).await;
            }
        }
    }
}

impl Seen {
    fn of(object: &Value) -> Self {
        let metadata = object.get("metadata");
        let member = |name: &str| metadata.and_then(|metadata| metadata.get(name));
        let finalizers = member("finalizers").and_then(Value::as_array);
        Self {
            version: member("resourceVersion")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            finalizers: finalizers
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            execution_label: member("labels")
                .and_then(|labels| labels.get("execution-id")?.as_str())
                .map(str::to_owned),
            unwritable: false,
        }
    }
}

fn execution_of(object: &Value) -> Option<ExecutionId> {
    let id = object.get("executionId")?;
    let part = |name: &str| id.get(name).and_then(Value::as_str);
    ExecutionId::new(part("project")?, part("domain")?, part("name")?).ok()
}

/// Why a workflow is given up that panicked so often, in the reference's words for it (spec 04 §3.3).
fn panicked(times: u32, most: u32) -> ExecutionError {
    let message = format!(
        "max number of system retry attempts [{times}/{most}] exhausted. Last known status message: a panic, which \
         is a mistake in flytepropeller; its log tells where"
    );
    system_error("RuntimeExecutionError", message)
}

async fn until_due(unwritten_since: Option<tokio::time::Instant>) {
    match unwritten_since {
        None => std::future::pending().await,
        Some(since) => tokio::time::sleep_until(since + LONGEST_UNWRITTEN).await,
    }
}
