//! One workflow: read it, run its machine, write its status.

mod cleanups;
mod counting;
mod write;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flyte_core::identifiers::ExecutionId;
use flyte_crd::{FINALIZER, FlyteWorkflow, NodeStatus};
use flyte_idl::{core::ExecutionError, json};
use flyte_platform::{Backoff, Chain, until};
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Deserialize as _;
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::{
    cleanups::Cleanups,
    counting::Counting,
    write::{Write, Writer},
};
use super::{
    children::{Children, ChildrenOf},
    inbox::Inbox,
    pods::PodCache,
};
use crate::{
    effects::{
        EffectError, KUBERNETES_TIMEOUT, WorkflowEffects,
        resource::{self, Found},
    },
    key::Key,
    machine::{EffectResult, EndMark, JobId, Machine, Origin, Spill, Watches},
    metrics::{self, EngineMetrics},
    node::{ChildState, Settings, system, task::observed_pod::ObservedPod},
};

/// A busy workflow is written at least this often, so that little is repeated after a crash.
const LONGEST_UNWRITTEN: Duration = Duration::from_secs(1);
/// Waits before a workflow is begun again that panicked, and between tries of reading it.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// How often everything under way is looked at again, in case that a wake-up got lost: a pod whose labels somebody
/// removed is shown by no watch.
const REPAIR: Duration = Duration::from_secs(120);

/// The owner of one workflow.
pub(super) struct Actor {
    pub(super) key: Key,
    /// Of the resource: another one of its name has an actor of its own.
    pub(super) uid: String,
    pub(super) effects: WorkflowEffects,
    pub(super) settings: Arc<Settings>,
    pub(super) pods: Arc<PodCache>,
    pub(super) children: Arc<Children>,
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
    /// It cannot be read for now.
    Later(String),
    /// It cannot be run, for this reason.
    Unreadable(Option<ExecutionId>, ExecutionError),
}

/// The resource as it was last seen.
struct KnownResource {
    version: String,
    finalizers: Vec<String>,
    /// What its pods are found by.
    execution_label: Option<String>,
    /// The status has outgrown the API server, or is refused by it; only the workflow's end will be written.
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
        let mut tries = 0;
        loop {
            if self.inbox.panics() > panics {
                panics = self.inbox.panics();
                tokio::time::sleep(BACKOFF.wait(panics, 0)).await;
            }
            let Some(found) = self.read().await else {
                self.metrics.round.not_found.inc();
                return;
            };
            let known = KnownResource::of(&found.value);
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
                Loaded::Later(error) => {
                    tries += 1;
                    let wait = BACKOFF.wait(tries, 0);
                    tracing::warn!(error, ?wait, "cannot read node statuses, trying again");
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Loaded::Machine(machine) => Drive::new(self, *machine, known).run().await,
                Loaded::Unreadable(execution, error) => {
                    let labels = execution.as_ref().map(metrics::labels_of);
                    let labels = labels.unwrap_or_default();
                    self.metrics.round.system_error.inc(&labels);
                    Box::pin(self.fail_unreadable(execution, error, known)).await
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

    /// The whole resource; none when it is gone, also when another one has its name now.
    async fn read(&self) -> Option<Found> {
        let mut tries = 0;
        let key = &self.key;
        loop {
            let read = resource::read(&self.effects.kube, &key.namespace, &key.name);
            let error = match tokio::time::timeout(KUBERNETES_TIMEOUT, read).await {
                Ok(Ok(found)) => return found.filter(|found| found.uid() == self.uid),
                Ok(Err(error)) => Chain(&error).to_string(),
                Err(_) => format!("no answer within {KUBERNETES_TIMEOUT:?}"),
            };
            tries += 1;
            let wait = BACKOFF.wait(tries, 0);
            tracing::warn!(error, ?wait, "cannot read the workflow, trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// The machine of a resource. `missing` is the blob of node statuses that was not there the last time.
    async fn load(&self, found: Found, missing: &mut Option<Spill>) -> Loaded {
        let execution = execution_of(&found.value);
        let cannot_be_run = |message: &dyn std::fmt::Display| {
            let Key { namespace, name } = &self.key;
            let message =
                format!("workflow resource [{namespace}/{name}] cannot be run: {message}");
            system("BadSpecificationError", message)
        };
        let mut resource: FlyteWorkflow = match serde_json::from_value(found.value) {
            Ok(resource) => resource,
            Err(error) => return Loaded::Unreadable(execution, cannot_be_run(&error)),
        };
        let is_over =
            resource.status.phase.is_terminal() && EndMark::of(&resource) == EndMark::Told;
        if is_over && !resource.finalizers().iter().any(|name| name == FINALIZER) {
            return Loaded::Finished;
        }
        let spill = Spill::of(&resource);
        if let Some(spill) = spill.as_ref().filter(|_| !is_over) {
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
                Err(NotUsable::Later(message)) => return Loaded::Later(message),
                Err(NotUsable::Never(message)) => {
                    return Loaded::Unreadable(execution, cannot_be_run(&message));
                }
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
    ) -> Result<Option<BTreeMap<String, NodeStatus>>, NotUsable> {
        use crate::effects::StatusesError;
        let unusable = |error: &dyn std::fmt::Display| {
            let uri = &spill.uri;
            NotUsable::Never(format!(
                "the node statuses at [{uri}] are not usable: {error}"
            ))
        };
        let read = self.effects.read_statuses(&spill.uri).await;
        let bytes = match read {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(StatusesError::Transient(error)) => return Err(NotUsable::Later(error.message)),
            Err(StatusesError::Permanent(error)) => return Err(unusable(&Chain(&error))),
        };
        let value = json::parse(&bytes).map_err(|error| unusable(&error))?;
        BTreeMap::deserialize(value)
            .map(Some)
            .map_err(|error| unusable(&error))
    }
}

/// Why node statuses cannot be read.
enum NotUsable {
    Later(String),
    Never(String),
}

/// Running one machine until its workflow is over.
struct Drive<'a> {
    actor: &'a Actor,
    machine: Machine,
    writer: Writer,
    jobs: JoinSet<(JobId, Result<EffectResult, EffectError>)>,
    /// Pods that are being deleted or released; the actor does not end before they are.
    cleanups: Cleanups,
    children: ChildrenOf,
    counting: Counting,
    effects: WorkflowEffects,
    unwritten_since: Option<Instant>,
    repair_at: Instant,
}

impl<'a> Drive<'a> {
    fn new(actor: &'a Actor, mut machine: Machine, known: KnownResource) -> Self {
        let effects = actor.effects.on_behalf_of(machine.context());
        let execution = machine.context().execution.clone();
        let known_children = machine.take_child_watches();
        let children = ChildrenOf::new(
            actor.children.clone(),
            execution,
            actor.inbox.clone(),
            known_children,
        );
        Self {
            jobs: JoinSet::new(),
            cleanups: Cleanups::new(effects.clone(), actor.key.clone()),
            children,
            counting: Counting::new(actor.metrics.clone(), &machine),
            effects,
            writer: Writer::new(known),
            unwritten_since: None,
            repair_at: Instant::now() + REPAIR,
            actor,
            machine,
        }
    }

    async fn run(mut self) -> End {
        let end = self.until_over().await;
        if self.machine.is_over() {
            let execution = &self.machine.context().execution;
            self.actor.children.ended(execution);
        }
        while self.cleanups.next().await {}
        end
    }

    async fn until_over(&mut self) -> End {
        loop {
            let now = self.take_wake_ups();
            self.begin_jobs(now);
            if let Some(end) = self.write_if_due(now).await {
                return end;
            }
            let timer = self.machine.next_timer();
            let rests = self.machine.is_quiescent() && !self.machine.must_write();
            self.counting.pass_ends(rests);
            let next_write = self.next_write();
            tokio::select! {
                biased;
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => match done {
                    Ok((id, result)) => {
                        self.machine.complete(id, result, self.actor.effects.clock.now());
                    }
                    // A panic in an effect would leave its node waiting for ever: start over from what is written.
                    Err(error) => {
                        tracing::error!(%error, "an effect panicked");
                        self.actor.inbox.panicked();
                        let labels = metrics::labels(self.machine.context());
                        self.actor.metrics.round.panic.inc(&labels);
                        return End::StartOver;
                    }
                },
                _ended = self.cleanups.next(), if !self.cleanups.are_over() => {}
                () = self.actor.inbox.wait() => {}
                () = self.actor.effects.permits.wait() => {}
                () = until_time(timer, &self.actor.effects) => {}
                () = until(next_write) => {}
                () = tokio::time::sleep_until(self.repair_at) => {
                    self.repair_at = Instant::now() + REPAIR;
                    self.machine.repair();
                }
            }
        }
    }

    /// When there is something to write: of a write that failed when it is tried again, and not before.
    fn next_write(&self) -> Option<Instant> {
        let due = self.unwritten_since.map(|since| since + LONGEST_UNWRITTEN);
        self.writer.not_before().or(due)
    }

    /// What has happened since the last pass.
    fn take_wake_ups(&mut self) -> Timestamp {
        self.counting.pass_begins();
        let wake = self.actor.inbox.take();
        if wake.gone {
            // Somebody removed the finalizer: what the workflow began must end nevertheless.
            self.writer.gone();
        }
        if wake.gone || wake.deleting {
            self.machine.abort("Workflow aborted.");
        }
        for pod in wake.pods {
            self.machine.wake_pod(&pod);
        }
        for child in wake.children {
            self.machine.wake_child(&child);
        }
        for pod in self.actor.effects.permits.take() {
            self.machine.wake_waiting(&pod);
        }
        let now = self.actor.effects.clock.now();
        self.machine.wake_timers(now);
        now
    }

    fn begin_jobs(&mut self, now: Timestamp) {
        let steps = self.machine.steps();
        let shown = Shown {
            namespace: &self.actor.key.namespace,
            pods: &self.actor.pods,
            children: &self.children,
        };
        let next = self.machine.next_jobs(now, shown);
        self.children.change(self.machine.take_child_watches());
        let machine = &self.machine;
        self.actor
            .effects
            .permits
            .keep(|pod| machine.may_create(pod));
        self.counting.decided(self.machine.steps() - steps);
        self.counting.happened(&mut self.machine, now);
        for job in next {
            let node = match job.id {
                JobId::Node(index) => Some(self.machine.owned(index)),
                JobId::Workflow => None,
            };
            let effects = self.effects.clone();
            self.jobs.spawn(
                async move { (job.id, effects.run(job.effect, node).await) }.in_current_span(),
            );
        }
    }

    /// Writes when there is something to write and nothing better to do. Some ends the actor.
    async fn write_if_due(&mut self, now: Timestamp) -> Option<End> {
        let machine = &self.machine;
        if machine.is_over() && machine.is_quiescent() {
            // The end, or one that an earlier process could not write down.
            if self.writer.is_held_back() {
                return None;
            }
            return match self.write(now).await {
                Write::Done | Write::Nothing | Write::GoOn => Some(End::Done),
                Write::Later => None,
                Write::StartOver => Some(End::StartOver),
            };
        }
        if !machine.must_write() {
            return None;
        }
        let since = *self.unwritten_since.get_or_insert_with(Instant::now);
        // A write that takes all node statuses along is not made for each of them.
        let at_once = machine.is_quiescent() && !machine.is_spilled();
        if self.writer.is_held_back() || !(at_once || since.elapsed() >= LONGEST_UNWRITTEN) {
            return None;
        }
        self.unwritten_since = None;
        match self.write(now).await {
            Write::Done => Some(End::Done),
            Write::StartOver => Some(End::StartOver),
            Write::Later => {
                self.unwritten_since = Some(since);
                None
            }
            Write::GoOn | Write::Nothing => None,
        }
    }
}

/// What the watches have shown of one workflow.
struct Shown<'a> {
    namespace: &'a str,
    pods: &'a PodCache,
    children: &'a ChildrenOf,
}

impl Watches for Shown<'_> {
    fn pod(&self, name: &str) -> Option<ObservedPod> {
        self.pods.get(self.namespace, name)
    }

    fn child(&self, name: &str) -> Option<ChildState> {
        self.children.state(name)
    }
}

async fn until_time(time: Option<Timestamp>, effects: &WorkflowEffects) {
    match time {
        None => std::future::pending().await,
        Some(time) => {
            let wait = time.duration_since(effects.clock.now());
            tokio::time::sleep(Duration::try_from(wait).unwrap_or(Duration::ZERO)).await;
        }
    }
}

impl KnownResource {
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
    system("RuntimeExecutionError", message)
}
