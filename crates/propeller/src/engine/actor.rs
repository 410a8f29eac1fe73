//! One workflow: read it, run its machine, write its status.

use std::{sync::Arc, time::Duration};

use flyte_core::identifiers::ExecutionId;
use flyte_crd::{
    COMPLETED_TIME_LABEL, FINALIZER, FlyteWorkflow, TERMINATED, TERMINATION_LABEL, WorkflowPhase,
};
use flyte_idl::core::{
    ExecutionError, execution_error::ErrorKind, workflow_execution::Phase as EventPhase,
};
use flyte_platform::Chain;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch as KubePatch, PatchParams},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{EngineMetrics, Key, inbox::Inbox, pods::PodCache};
use crate::{
    events::{self, WorkflowOutput},
    machine::{JobFor, JobTask, Machine, Outcome, Patch},
    node::Settings,
    world::{Remembered, World},
};

/// A busy workflow is written at least this often, so that little is repeated after a crash.
const LONGEST_UNWRITTEN: Duration = Duration::from_secs(1);
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
    /// Somebody else wrote the status: read it and go on from there.
    StartOver,
}

/// The resource as it was last seen.
struct Seen {
    version: String,
    finalizers: Vec<String>,
    status: Value,
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
        loop {
            let Some(object) = self.read().await else {
                return;
            };
            let seen = Seen::of(&object);
            let parsed: Result<FlyteWorkflow, _> =
                serde_json::to_value(&object).and_then(serde_json::from_value);
            let machine = match parsed {
                Ok(resource) => {
                    if resource.status.phase.is_terminal()
                        && resource.labels().contains_key(TERMINATION_LABEL)
                        && !seen.finalizers.iter().any(|name| name == FINALIZER)
                    {
                        return;
                    }
                    Machine::load(&resource, self.settings.clone()).map_err(|error| {
                        (
                            ExecutionId::from_proto(Some(&resource.execution_id.0)).ok(),
                            Chain(&error).to_string(),
                        )
                    })
                }
                Err(error) => Err((execution_of(&object), error.to_string())),
            };
            let end = match machine {
                Ok(machine) => self.drive(machine, seen).await,
                Err((execution, message)) => {
                    Box::pin(self.fail_unreadable(execution, message, seen)).await
                }
            };
            match end {
                End::Done => return,
                End::StartOver => {
                    tracing::debug!("somebody else wrote the status; reading it again");
                }
            }
        }
    }

    fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.world.kube.clone(),
            &self.key.namespace,
            &ApiResource::erase::<FlyteWorkflow>(&()),
        )
    }

    /// The whole resource; none when it is gone.
    async fn read(&self) -> Option<DynamicObject> {
        let api = self.api();
        let mut wait = Duration::from_millis(100);
        loop {
            match api.get_opt(&self.key.name).await {
                Ok(found) => return found,
                Err(error) => {
                    tracing::warn!(%error, ?wait, "cannot read the workflow, trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(MAX_WAIT);
                }
            }
        }
    }

    /// Runs the machine until the workflow is over.
    async fn drive(&self, mut machine: Machine, mut seen: Seen) -> End {
        let mut jobs: JoinSet<(JobFor, Outcome)> = JoinSet::new();
        let remembered = Remembered::default();
        let mut unwritten_since: Option<tokio::time::Instant> = None;
        loop {
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
            let now = self.world.clock.now();
            machine.wake_timers(now);
            let namespace = self.key.namespace.as_str();
            for job in machine.next_jobs(now, |name| self.pods.get(namespace, name)) {
                let node = match job.whom {
                    JobFor::Node(index) => machine.owned(index),
                    JobFor::Workflow => None,
                };
                let (world, remembered) = (self.world.clone(), remembered.clone());
                jobs.spawn(
                    async move { (job.whom, world.perform(job.task, node, remembered).await) }
                        .in_current_span(),
                );
            }
            if machine.must_write() {
                let since = *unwritten_since.get_or_insert_with(tokio::time::Instant::now);
                if machine.is_quiescent() || since.elapsed() >= LONGEST_UNWRITTEN {
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
            tokio::select! {
                biased;
                Some(done) = jobs.join_next(), if !jobs.is_empty() => match done {
                    Ok((whom, outcome)) => machine.complete(whom, outcome, self.world.clock.now()),
                    // A panic in an effect would leave its node waiting for ever: start over from what is written.
                    Err(error) => {
                        tracing::error!(%error, "an effect panicked");
                        return End::StartOver;
                    }
                },
                () = self.inbox.wait() => {}
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

    /// Writes what changed, then deletes what is no longer needed. Some end when the workflow is over.
    async fn write(&self, machine: &mut Machine, seen: &mut Seen, now: Timestamp) -> Option<End> {
        let mut patch = machine.take_patch(&seen.finalizers, now)?;
        if seen.unwritable {
            if !patch.terminal {
                return None;
            }
            // What is known of nodes does not fit; that the workflow has ended, and why, does.
            if let Some(status) = patch.body.get_mut("status").and_then(Value::as_object_mut) {
                status.remove("nodeStatus");
            }
        }
        match self.patch(&patch, seen).await {
            Written::Yes => {}
            Written::Gone => return Some(End::Done),
            Written::Foreign => return Some(End::StartOver),
            Written::TooLarge => {
                seen.unwritable = true;
                machine.give_up(ExecutionError {
                    code: "WorkflowTooLarge".into(),
                    message: "the status of the workflow is larger than the API server takes; run fewer nodes in one \
                              workflow, or move some into a launch plan"
                        .into(),
                    kind: ErrorKind::System.into(),
                    ..ExecutionError::default()
                });
                return None;
            }
        }
        self.metrics.writes.inc();
        for pod in machine.take_deletions() {
            self.world.delete_pod(&self.key.namespace, &pod).await;
        }
        patch.terminal.then_some(End::Done)
    }

    /// One merge patch with the resource version as precondition.
    async fn patch(&self, patch: &Patch, seen: &mut Seen) -> Written {
        let api = self.api();
        let mut wait = Duration::from_millis(100);
        loop {
            let mut body = patch.body.clone();
            if let Some(members) = body.as_object_mut() {
                let metadata = members.entry("metadata").or_insert_with(|| json!({}));
                if let Some(metadata) = metadata.as_object_mut() {
                    metadata.insert("resourceVersion".into(), seen.version.clone().into());
                }
            }
            match api
                .patch(
                    &self.key.name,
                    &PatchParams::default(),
                    &KubePatch::Merge(&body),
                )
                .await
            {
                Ok(object) => {
                    *seen = Seen {
                        unwritable: seen.unwritable,
                        ..Seen::of(&object)
                    };
                    return Written::Yes;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => return Written::Gone,
                Err(kube::Error::Api(status)) if is_too_large(&status) => return Written::TooLarge,
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    self.metrics.conflicts.inc();
                    let Some(object) = self.read().await else {
                        return Written::Gone;
                    };
                    let fresh = Seen::of(&object);
                    if fresh.status != seen.status {
                        return Written::Foreign;
                    }
                    // Only metadata moved, by a label or the deletion that we are about to hear of.
                    *seen = Seen {
                        unwritable: seen.unwritable,
                        ..fresh
                    };
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), ?wait, "cannot write status, trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(MAX_WAIT);
                }
            }
        }
    }

    /// A resource that cannot be run fails, and only it.
    async fn fail_unreadable(
        &self,
        execution: Option<ExecutionId>,
        message: String,
        mut seen: Seen,
    ) -> End {
        tracing::warn!(message, "a workflow resource cannot be run");
        let now = self.world.clock.now();
        let error = ExecutionError {
            code: "BadSpecificationError".into(),
            message: format!(
                "workflow resource [{}/{}] cannot be run: {message}",
                self.key.namespace, self.key.name
            ),
            kind: ErrorKind::System.into(),
            ..ExecutionError::default()
        };
        if let Some(execution) = execution {
            let producer = &self.settings.propeller.cluster_id;
            let event = events::workflow(
                &execution,
                producer,
                EventPhase::Failed,
                now,
                Some(WorkflowOutput::Error(error.clone())),
            );
            let sent = self
                .world
                .perform(JobTask::Send(vec![event]), None, Remembered::default())
                .await;
            tracing::debug!(?sent, "told admin");
        }
        let finalizers: Vec<_> = seen
            .finalizers
            .iter()
            .filter(|name| *name != FINALIZER)
            .collect();
        let body = json!({
            "metadata": {
                "labels": {
                    TERMINATION_LABEL: TERMINATED,
                    COMPLETED_TIME_LABEL: now.strftime("%Y-%m-%d.%H").to_string(),
                },
                "finalizers": finalizers,
            },
            "status": {
                "phase": WorkflowPhase::Failed.number(),
                "message": error.message,
                "error": { "code": error.code, "message": error.message, "kind": "SYSTEM" },
            },
        });
        match self
            .patch(
                &Patch {
                    body,
                    terminal: true,
                },
                &mut seen,
            )
            .await
        {
            Written::Yes | Written::Gone | Written::TooLarge => End::Done,
            Written::Foreign => End::StartOver,
        }
    }
}

enum Written {
    Yes,
    Gone,
    Foreign,
    TooLarge,
}

/// The API server, or the etcd behind it, takes no object of this size (spec 04 §3.2).
fn is_too_large(status: &kube::core::Status) -> bool {
    status.code == 413 || status.message.contains("etcdserver: request is too large")
}

impl Seen {
    fn of(object: &DynamicObject) -> Self {
        Self {
            version: object.resource_version().unwrap_or_default(),
            finalizers: object.finalizers().to_vec(),
            status: object.data.get("status").cloned().unwrap_or(Value::Null),
            unwritable: false,
        }
    }
}

fn execution_of(object: &DynamicObject) -> Option<ExecutionId> {
    let id = object.data.get("executionId")?;
    let part = |name: &str| id.get(name).and_then(Value::as_str);
    ExecutionId::new(part("project")?, part("domain")?, part("name")?).ok()
}

async fn until_due(unwritten_since: Option<tokio::time::Instant>) {
    match unwritten_since {
        None => std::future::pending().await,
        Some(since) => tokio::time::sleep_until(since + LONGEST_UNWRITTEN).await,
    }
}
