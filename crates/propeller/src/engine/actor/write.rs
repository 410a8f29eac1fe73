//! Writing: status in one patch, and what must come before and after it.
//!
//! A write that fails is tried again later, and the workflow goes on meanwhile: it can be aborted and can time out.
//! Nothing that the written status would need again is deleted before the write that makes it unneeded.

use std::time::{Duration, Instant as StdInstant};

use flyte_core::identifiers::ExecutionId;
use flyte_crd::{
    COMPLETED_TIME_LABEL, FINALIZER, FlyteWorkflow, TERMINATED, TERMINATION_LABEL, WorkflowPhase,
};
use flyte_idl::core::{ExecutionError, workflow_execution::Phase as EventPhase};
use flyte_platform::{Backoff, Chain, kubernetes};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch as KubePatch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Actor, Drive, End, KnownResource, cleanups::PodCleanup};
use crate::{
    cleanup::{
        leftovers::{self, LeftoverQuery, PodQuery},
        orphans,
    },
    effects::{KUBERNETES_TIMEOUT, StatusesError, TransientError},
    events::{self, WorkflowOutput},
    machine::{AUTO_ABORT, Author, Effect, EffectResult, Machine, Patch},
    metrics,
    node::system,
};

/// Waits between tries of a write.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// How often something is tried for a workflow of which nothing but its end is known.
const TRIES_AT_LAST: u32 = 10;

/// What became of a write.
pub(super) enum Write {
    /// There was nothing to write.
    Nothing,
    /// It is durable.
    GoOn,
    /// It is durable, and the last one; or the resource is gone.
    Done,
    /// It is tried again when [`Writer::not_before`] comes.
    Later,
    /// Somebody else wrote the status.
    StartOver,
}

/// What became of one request.
enum Written {
    Yes,
    /// Only metadata had moved, by a label or the deletion that we are about to hear of.
    Again,
    Gone,
    Foreign,
    TooLarge,
    /// The API server finds the patch wrong, and will always do so.
    Refused(String),
    Later(String),
}

/// The resource that is written, and how that goes.
pub(super) struct Writer {
    known: KnownResource,
    /// It does not exist any more; what would be written is not.
    is_gone: bool,
    tries: u32,
    refusals: u32,
    not_before: Option<Instant>,
}

impl Writer {
    pub(super) fn new(known: KnownResource) -> Self {
        Self {
            known,
            is_gone: false,
            tries: 0,
            refusals: 0,
            not_before: None,
        }
    }

    pub(super) fn gone(&mut self) {
        self.is_gone = true;
        self.not_before = None;
    }

    /// When the next try of a write that failed is due.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before.filter(|time| *time > Instant::now())
    }

    pub(super) fn is_held_back(&self) -> bool {
        self.not_before().is_some()
    }

    fn succeeded(&mut self) {
        self.tries = 0;
        self.refusals = 0;
        self.not_before = None;
    }

    /// A write failed; the next try waits `at_least` so long.
    fn failed(&mut self, error: &str, at_least: Duration) -> Write {
        self.tries += 1;
        let wait = BACKOFF.wait(self.tries, 0).max(at_least);
        tracing::warn!(error, ?wait, "cannot write status, trying again");
        self.not_before = Some(Instant::now() + wait);
        Write::Later
    }
}

impl Drive<'_> {
    /// Writes what changed, then deletes what is no longer needed.
    pub(super) async fn write(&mut self, now: Timestamp) -> Write {
        loop {
            let finalizers = &self.writer.known.finalizers;
            let Some(mut patch) = self.machine.patch(finalizers, now) else {
                return Write::Nothing;
            };
            if self.writer.known.unwritable {
                if !patch.terminal {
                    self.machine.postpone_write();
                    return Write::Nothing;
                }
                // What is known of nodes cannot be written; that the workflow has ended, and why, may be.
                patch.blob = None;
                if let Some(status) = patch.body.get_mut("status").and_then(Value::as_object_mut) {
                    status.remove("nodeStatus");
                }
            }
            match self.put(&patch).await {
                Written::Yes => {}
                Written::Gone => {
                    // The watch may tell it later, or may have been away: what the workflow began ends now.
                    self.writer.gone();
                    self.machine.abort("Workflow aborted.");
                }
                Written::Again => {
                    self.count_stale();
                    continue;
                }
                Written::Foreign => {
                    self.count_stale();
                    return Write::StartOver;
                }
                Written::TooLarge if self.machine.must_spill() => continue,
                Written::TooLarge => return self.cannot_write(&patch, too_large()),
                Written::Refused(message) => {
                    self.writer.refusals += 1;
                    let most = self.actor.settings.propeller.max_workflow_retries;
                    if self.writer.refusals <= most {
                        return self.writer.failed(&message, self.effects.retry_after());
                    }
                    return self.cannot_write(&patch, refused(&message));
                }
                Written::Later(error) => return self.writer.failed(&error, Duration::ZERO),
            }
            self.writer.succeeded();
            self.written(&patch).await;
            return if patch.terminal {
                Write::Done
            } else {
                Write::GoOn
            };
        }
    }

    /// The status cannot be written, however often it is tried: the workflow fails, and that may be.
    fn cannot_write(&mut self, patch: &Patch, error: ExecutionError) -> Write {
        if self.writer.known.unwritable || patch.terminal && self.writer.refusals > 0 {
            tracing::error!(
                error.message,
                "the API server takes not even the workflow's end"
            );
            return Write::Done;
        }
        let labels = metrics::labels(self.machine.context());
        self.actor.metrics.round.system_error.inc(&labels);
        self.writer.known.unwritable = true;
        self.writer.succeeded();
        self.machine.postpone_write();
        self.machine.give_up(error);
        Write::Nothing
    }

    /// A patch is durable, or its resource gone: what is not needed any more goes.
    async fn written(&mut self, patch: &Patch) {
        if let Some(obsolete) = self.machine.written(patch) {
            self.effects.delete_statuses(&obsolete.uri).await;
        }
        let actor = self.actor;
        let namespace = actor.key.namespace.clone();
        let mut ended = self.machine.take_ended_pods();
        if patch.terminal && !self.machine.is_first() {
            // Whoever had the workflow before may have written that they ended, and no more.
            ended.extend(actor.pods.of(&namespace, &actor.key.name));
        }
        let deletes = actor.settings.plugins.k8s.delete_resource_on_finalize;
        let deletions = self.machine.take_deletions().into_iter();
        for name in deletions {
            let is_deleted = true;
            self.cleanups.begin(PodCleanup { name, is_deleted });
        }
        for name in &ended {
            let Some(known) = actor.pods.get(&namespace, name) else {
                continue;
            };
            // What its sidecars still do, nobody waits for.
            let is_deleted = deletes || has_running_container(&known.pod);
            if is_deleted || orphans::is_held(&known.pod) {
                let name = name.clone();
                self.cleanups.begin(PodCleanup { name, is_deleted });
            }
        }
        // Nobody looks at them again; of an array they may be thousands.
        actor
            .pods
            .retire(&namespace, ended.iter().map(String::as_str));
        if patch.terminal {
            actor.pods.retire(&namespace, self.machine.pods());
        }
    }

    fn count_stale(&self) {
        let labels = metrics::labels(self.machine.context());
        self.actor.metrics.store.stale.inc(&labels);
    }

    /// Node statuses that do not fit into the resource, and then the patch that names them.
    async fn put(&mut self, patch: &Patch) -> Written {
        if self.writer.is_gone {
            return Written::Yes;
        }
        if let Some((spill, bytes)) = &patch.blob {
            match self.effects.write_statuses(&spill.uri, bytes.clone()).await {
                Ok(()) => {}
                Err(StatusesError::Transient(error)) => return Written::Later(error.message),
                Err(StatusesError::Permanent(error)) => {
                    tracing::error!(error = %Chain(&error), uri = spill.uri, "node statuses cannot be kept in a blob");
                    return Written::TooLarge;
                }
            }
        }
        let machine: &Machine = &self.machine;
        let author = |status: &Value| machine.author(status, patch);
        self.actor
            .patch(patch, &mut self.writer.known, author)
            .await
    }
}

impl Actor {
    /// One merge patch with the resource version as precondition, tried once. Its answer is metadata only, so that a
    /// write costs what it changes.
    async fn patch(
        &self,
        patch: &Patch,
        known: &mut KnownResource,
        author: impl Fn(&Value) -> Author,
    ) -> Written {
        let api: Api<FlyteWorkflow> =
            Api::namespaced(self.effects.kube.clone(), &self.key.namespace);
        let mut body = patch.body.clone();
        if let Some(members) = body.as_object_mut() {
            let metadata = members.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("resourceVersion".into(), known.version.clone().into());
            }
        }
        let body = KubePatch::Merge(&body);
        let store = &self.metrics.store;
        let began = StdInstant::now();
        store.updated.inc();
        let parameters = PatchParams::default();
        let patched = tokio::time::timeout(
            KUBERNETES_TIMEOUT,
            api.patch_metadata(&self.key.name, &parameters, &body),
        )
        .await;
        let Ok(patched) = patched else {
            store.failed.inc();
            return Written::Later(format!("no answer within {KUBERNETES_TIMEOUT:?}"));
        };
        match kubernetes::found(patched) {
            Ok(Some(found)) => {
                store.latency.observe(began.elapsed());
                store.success.inc();
                known.have(found);
                Written::Yes
            }
            Ok(None) => Written::Gone,
            Err(kube::Error::Api(status)) if is_too_large(&status) => {
                store.too_large.inc();
                Written::TooLarge
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                store.conflict.inc();
                store.failed.inc();
                let Some(found) = self.read().await else {
                    return Written::Gone;
                };
                let unwritable = known.unwritable;
                *known = KnownResource {
                    unwritable,
                    ..KnownResource::of(&found.value)
                };
                let status = found.value.get("status").unwrap_or(&Value::Null);
                match author(status) {
                    Author::UsBefore => Written::Again,
                    Author::UsAfter => Written::Yes,
                    Author::Other => Written::Foreign,
                }
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
                store.failed.inc();
                Written::Refused(status.message.clone())
            }
            Err(error) => {
                store.failed.inc();
                Written::Later(TransientError::from(error).message)
            }
        }
    }

    /// A resource that cannot be run fails, and only it.
    pub(super) async fn fail_unreadable(
        &self,
        execution: Option<ExecutionId>,
        error: ExecutionError,
        mut known: KnownResource,
    ) -> End {
        tracing::warn!(error.message, "a workflow is given up");
        let error = events::cut(error);
        let now = self.effects.clock.now();
        let mut pods = Vec::new();
        if let Some(execution) = execution {
            pods = self.fail_execution(execution, error.clone(), &known).await;
        }
        let finalizers: Vec<_> = known
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
        let patch = Patch::last(body);
        let mut tries = 0;
        loop {
            let written = self.patch(&patch, &mut known, |_| Author::Other).await;
            match written {
                Written::Yes | Written::Gone | Written::TooLarge => break,
                Written::Again | Written::Foreign => return End::StartOver,
                Written::Refused(error) | Written::Later(error) => {
                    tries += 1;
                    if tries > TRIES_AT_LAST {
                        tracing::error!(error, "the API server takes not even the workflow's end");
                        break;
                    }
                    let wait = BACKOFF.wait(tries, 0);
                    tracing::warn!(error, ?wait, "cannot write status, trying again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
        for pod in pods {
            self.effects.delete_pod(&self.key, &pod).await;
        }
        End::Done
    }

    /// Tells admin that an execution has failed of whose nodes nothing is known here. Answers with its pods.
    async fn fail_execution(
        &self,
        execution: ExecutionId,
        error: ExecutionError,
        known: &KnownResource,
    ) -> Vec<String> {
        let query = LeftoverQuery {
            execution: execution.clone(),
            parents: Vec::new(),
            pods: known.execution_label.clone().map(|label| PodQuery {
                namespace: self.key.namespace.clone(),
                execution_label: label,
                owner: self.key.name.clone(),
            }),
        };
        let producer = &self.settings.propeller.cluster_id;
        let found = self.at_last(&Effect::FindLeftovers(query)).await;
        let Some(EffectResult::Leftovers(found)) = found else {
            return Vec::new();
        };
        let now = self.effects.clock.now();
        let mut events = leftovers::events(found.nodes, producer, AUTO_ABORT, now);
        events.push(events::workflow(
            &execution,
            producer,
            EventPhase::Failed,
            now,
            Some(WorkflowOutput::Error(error)),
        ));
        // One by one: what admin refuses of a node must not keep the execution from ending.
        for event in events {
            let sent = self.at_last(&Effect::Send(vec![event])).await;
            tracing::debug!(?sent, "sent to admin");
        }
        found.pods
    }

    /// An effect for a workflow without a machine; none when it does not succeed.
    async fn at_last(&self, effect: &Effect) -> Option<EffectResult> {
        for tries in 1..=TRIES_AT_LAST {
            match self.effects.run(effect.clone(), None).await {
                Ok(result) => return Some(result),
                Err(error) => {
                    tracing::warn!(?error, "cannot end a workflow yet, trying again");
                    tokio::time::sleep(BACKOFF.wait(tries, 0)).await;
                }
            }
        }
        None
    }
}

impl KnownResource {
    fn have(&mut self, found: PartialObjectMeta<FlyteWorkflow>) {
        self.version = found.metadata.resource_version.unwrap_or_default();
        self.finalizers = found.metadata.finalizers.unwrap_or_default();
    }
}

fn has_running_container(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    containers.into_iter().flatten().any(|container| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    })
}

fn too_large() -> ExecutionError {
    let message = "the status of the workflow is larger than the API server takes; run fewer nodes in one workflow, \
                   or move some into a launch plan";
    system("WorkflowTooLarge", message)
}

fn refused(message: &str) -> ExecutionError {
    let message = format!("the API server refuses the status of the workflow: {message}");
    system("RuntimeExecutionError", message)
}

/// The API server, or the etcd behind it, takes no object of this size (spec 04 §3.2).
fn is_too_large(status: &kube::core::Status) -> bool {
    status.code == 413 || status.message.contains("etcdserver: request is too large")
}
