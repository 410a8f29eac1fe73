//! Writing: status in one patch, and what must come before and after it.

use std::time::{Duration, Instant};

use flyte_core::identifiers::ExecutionId;
use flyte_crd::{
    COMPLETED_TIME_LABEL, FINALIZER, FlyteWorkflow, TERMINATED, TERMINATION_LABEL, WorkflowPhase,
};
use flyte_idl::core::{ExecutionError, workflow_execution::Phase as EventPhase};
use flyte_platform::Chain;
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::{
    Api,
    api::{Patch as KubePatch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};

use super::{Actor, End, MAX_WAIT, Seen};
use crate::{
    engine::orphans,
    events::{self, WorkflowOutput},
    machine::{AUTO_ABORT, Author, JobTask, Machine, Outcome, Patch, system_error},
    metrics,
    sweep::{self, PodSearch, Search},
    world::Remembered,
};

/// How many pods are released side by side.
const RELEASED_AT_ONCE: usize = 16;

/// What became of a write.
enum Written {
    Yes,
    /// Only metadata had moved, by a label or the deletion that we are about to hear of.
    Again,
    Gone,
    Foreign,
    TooLarge,
}

impl Actor {
    /// Writes what changed, then deletes what is no longer needed. Some end when the workflow is over.
    pub(super) async fn write(
        &self,
        machine: &mut Machine,
        seen: &mut Seen,
        now: Timestamp,
    ) -> Option<End> {
        loop {
            let mut patch = machine.patch(&seen.finalizers, now)?;
            if seen.unwritable {
                if !patch.terminal {
                    machine.postpone_write();
                    return None;
                }
                // What is known of nodes does not fit; that the workflow has ended, and why, does.
                patch.blob = None;
                if let Some(status) = patch.body.get_mut("status").and_then(Value::as_object_mut) {
                    status.remove("nodeStatus");
                }
            }
            match self.put(&patch, machine, seen).await {
                Written::Yes => {}
                Written::Again => {
                    self.count_stale(machine);
                    continue;
                }
                Written::Gone => return Some(End::Done),
                Written::Foreign => {
                    self.count_stale(machine);
                    return Some(End::StartOver);
                }
                Written::TooLarge if machine.must_spill() => continue,
                Written::TooLarge if seen.unwritable => {
                    tracing::error!("the API server takes not even the workflow's end");
                    return Some(End::Done);
                }
                Written::TooLarge => {
                    let labels = metrics::labels(machine.constants());
                    self.metrics.round.system_error.inc(&labels);
                    seen.unwritable = true;
                    machine.postpone_write();
                    machine.give_up(too_large());
                    return None;
                }
            }
            if let Some(obsolete) = machine.written(&patch) {
                self.world.delete_statuses(&obsolete.uri).await;
            }
            for pod in machine.take_deletions() {
                self.world.delete_pod(&self.key.namespace, &pod).await;
            }
            let mut ended = machine.take_ended_pods();
            if patch.terminal && !machine.is_first() {
                // Whoever had the workflow before may have written that they ended, and no more.
                ended.extend(self.pods.of(&self.key.namespace, &self.key.name));
            }
            self.release(ended).await;
            if patch.terminal {
                self.pods.retire(&self.key.namespace, machine.pods());
            }
            return patch.terminal.then_some(End::Done);
        }
    }

    /// Pods whose attempts have ended need not stay (spec 05 §4.4).
    async fn release(&self, pods: Vec<String>) {
        let namespace = &self.key.namespace;
        let known = pods.iter().filter_map(|name| {
            let pod = self.pods.get(namespace, name)?.pod;
            Some((name, orphans::is_held(&pod)))
        });
        let deletes = self.settings.plugins.k8s.delete_resource_on_finalize;
        futures::stream::iter(known)
            .for_each_concurrent(RELEASED_AT_ONCE, |(name, held)| async move {
                if deletes {
                    self.world.delete_pod(namespace, name).await;
                } else if held {
                    self.world.release_pod(namespace, name).await;
                }
            })
            .await;
    }

    fn count_stale(&self, machine: &Machine) {
        let labels = metrics::labels(machine.constants());
        self.metrics.store.stale.inc(&labels);
    }

    /// Node statuses that do not fit into the resource, and then the patch that names them.
    async fn put(&self, patch: &Patch, machine: &Machine, seen: &mut Seen) -> Written {
        if let Some((spill, bytes)) = &patch.blob
            && let Err(error) = self.world.write_statuses(&spill.uri, bytes.clone()).await
        {
            tracing::error!(error = %Chain(&error), uri = spill.uri, "node statuses cannot be kept in a blob");
            return Written::TooLarge;
        }
        self.patch(patch, seen, |status| machine.author(status, patch))
            .await
    }

    /// One merge patch with the resource version as precondition. Its answer is metadata only, so that a write costs
    /// what it changes.
    async fn patch(
        &self,
        patch: &Patch,
        seen: &mut Seen,
        author: impl Fn(&Value) -> Author,
    ) -> Written {
        let api: Api<FlyteWorkflow> = Api::namespaced(self.world.kube.clone(), &self.key.namespace);
        let mut body = patch.body.clone();
        if let Some(members) = body.as_object_mut() {
            let metadata = members.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("resourceVersion".into(), seen.version.clone().into());
            }
        }
        let body = KubePatch::Merge(&body);
        let mut wait = Duration::from_millis(100);
        let store = &self.metrics.store;
        loop {
            let began = Instant::now();
            store.updated.inc();
            let patched = api
                .patch_metadata(&self.key.name, &PatchParams::default(), &body)
                .await;
            match patched {
                Ok(found) => {
                    store.latency.observe(began.elapsed());
                    store.success.inc();
                    seen.have(found);
                    return Written::Yes;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => return Written::Gone,
                Err(kube::Error::Api(status)) if is_too_large(&status) => {
                    store.too_large.inc();
                    return Written::TooLarge;
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    store.conflict.inc();
                    store.failed.inc();
                    let Some(found) = self.read().await else {
                        return Written::Gone;
                    };
                    let unwritable = seen.unwritable;
                    *seen = Seen {
                        unwritable,
                        ..Seen::of(&found.value)
                    };
                    let status = found.value.get("status").unwrap_or(&Value::Null);
                    return match author(status) {
                        Author::UsBefore => Written::Again,
                        Author::UsAfter => Written::Yes,
                        Author::Other => Written::Foreign,
                    };
                }
                Err(error) => {
                    store.failed.inc();
                    tracing::warn!(error = %Chain(&error), ?wait, "cannot write status, trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(MAX_WAIT);
                }
            }
        }
    }

    /// A resource that cannot be run fails, and only it.
    pub(super) async fn fail_unreadable(
        &self,
        execution: Option<ExecutionId>,
        error: ExecutionError,
        mut seen: Seen,
    ) -> End {
        tracing::warn!(error.message, "a workflow is given up");
        let now = self.world.clock.now();
        let mut pods = Vec::new();
        if let Some(execution) = execution {
            pods = self.fail_execution(execution, error.clone(), &seen).await;
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
        let patch = Patch::last(body);
        match self.patch(&patch, &mut seen, |_| Author::Other).await {
            Written::Yes | Written::Gone | Written::TooLarge => {}
            Written::Again | Written::Foreign => return End::StartOver,
        }
        for pod in pods {
            self.world.delete_pod(&self.key.namespace, &pod).await;
        }
        End::Done
    }

    /// Tells admin that an execution has failed of whose nodes nothing is known here. Answers with its pods.
    async fn fail_execution(
        &self,
        execution: ExecutionId,
        error: ExecutionError,
        seen: &Seen,
    ) -> Vec<String> {
        let search = Search {
            execution: execution.clone(),
            parents: Vec::new(),
            pods: seen.execution_label.clone().map(|label| PodSearch {
                namespace: self.key.namespace.clone(),
                execution_label: label,
                owner: self.key.name.clone(),
            }),
        };
        let producer = &self.settings.propeller.cluster_id;
        let perform = |task| self.world.perform(task, None, Remembered::default());
        let Outcome::Swept(remains) = perform(JobTask::Sweep(search)).await else {
            return Vec::new();
        };
        let now = self.world.clock.now();
        let mut events = sweep::events(remains.nodes, producer, AUTO_ABORT, now);
        events.push(events::workflow(
            &execution,
            producer,
            EventPhase::Failed,
            now,
            Some(WorkflowOutput::Error(error)),
        ));
        // One by one: what admin refuses of a node must not keep the execution from ending.
        for event in events {
            let sent = perform(JobTask::Send(vec![event])).await;
            tracing::debug!(?sent, "told admin");
        }
        remains.pods
    }
}

impl Seen {
    fn have(&mut self, found: PartialObjectMeta<FlyteWorkflow>) {
        self.version = found.metadata.resource_version.unwrap_or_default();
        self.finalizers = found.metadata.finalizers.unwrap_or_default();
    }
}

fn too_large() -> ExecutionError {
    let message = "the status of the workflow is larger than the API server takes; run fewer nodes in one workflow, \
                   or move some into a launch plan";
    system_error("WorkflowTooLarge", message.to_owned())
}

/// The API server, or the etcd behind it, takes no object of this size (spec 04 §3.2).
fn is_too_large(status: &kube::core::Status) -> bool {
    status.code == 413 || status.message.contains("etcdserver: request is too large")
}
