//! One pod on this node: started once, followed through its record, stopped on deletion and shutdown.

use std::fs::{self, File};
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use flyte_platform::Backoff;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::time_text;
use crate::files::{read_json, write_json};
use crate::kubelet::Shared;
use crate::kubelet::events::PodEvent;
use crate::kubelet::launch::{LaunchBuilder, LaunchError, shutdown_grace_seconds};
use crate::kubelet::processes::{POD_VARIABLE, ProcessIdentity, end_pod};
use crate::kubelet::record::{PodPaths, Record, StopRequest};
use crate::kubelet::status::{RuntimeStatus, StartError, status};
use crate::kubelet::unrecorded::{end_without_record, until_ended};
use crate::kubelet::{lost, sources};

/// The last version of a pod that the watch delivered.
#[derive(Debug, Clone)]
pub(crate) struct PodState {
    pub(crate) pod: Arc<Pod>,
    /// The watch has delivered its deletion.
    pub(crate) gone: bool,
}

/// Runs one pod until it is over and the API knows.
pub(crate) struct PodRun {
    shared: Arc<Shared>,
    uid: String,
    paths: PodPaths,
    state: watch::Receiver<PodState>,
    record: watch::Receiver<Option<Arc<Record>>>,
    shutdown: watch::Receiver<bool>,
    /// Seconds of grace in the last stop request to the supervisor, if there was one.
    requested_grace: Option<u64>,
    last_written: Option<Value>,
    started: String,
    /// Waits between tries to start it.
    starts: Failures,
    /// The record up to which events were emitted.
    reported_record: Option<Arc<Record>>,
    /// The start error of the last event, and when it was emitted.
    reported_error: Option<(StartError, Instant)>,
}

/// How often the event of a pod that cannot be started is emitted again; client-go lets through one such event in five minutes.
const REPORT_INTERVAL: Duration = Duration::from_mins(5);

/// What the pod is waiting for besides its record.
enum Phase {
    /// It cannot be started; `again` ends when it is tried once more.
    Blocked {
        why: StartError,
        again: BoxFuture<'static, ()>,
    },
    Supervised(BoxFuture<'static, ()>),
}

impl PodRun {
    pub(crate) fn new(
        shared: Arc<Shared>,
        uid: String,
        state: watch::Receiver<PodState>,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        let paths = PodPaths::new(&shared.options.folder, &uid);
        let record = shared.records.of(&paths, &uid);
        let now = time_text((shared.options.now)());
        let before = state
            .borrow()
            .pod
            .status
            .as_ref()
            .and_then(|status| status.start_time.clone());
        let started = before.map_or(now, |time| time_text(time.0));
        Self {
            shared,
            uid,
            paths,
            state,
            record,
            shutdown,
            requested_grace: None,
            last_written: None,
            started,
            starts: Failures::default(),
            reported_record: None,
            reported_error: None,
        }
    }

    fn pod(&self) -> Arc<Pod> {
        self.state.borrow().pod.clone()
    }

    fn api(&self) -> Api<Pod> {
        let namespace = self.pod().metadata.namespace.clone().unwrap_or_default();
        Api::namespaced(self.shared.client.clone(), &namespace)
    }

    fn name(&self) -> String {
        self.pod().metadata.name.clone().unwrap_or_default()
    }

    /// Runs the pod; returns when it is over, or is another's.
    pub(crate) async fn run(mut self) {
        let Some(mut phase) = self.begin().await else {
            return;
        };
        let mut unrecorded_end: Option<BoxFuture<'static, ()>> = None;
        loop {
            // Marked as seen before anything follows from it: what changes while the status is written is looked at again.
            let state = self.state.borrow_and_update().clone();
            self.pass_on_stop(&state);
            let record = self.record.borrow_and_update().clone();
            let known = match (&record, &phase) {
                (Some(record), _) => RuntimeStatus::Recorded(record),
                (None, Phase::Blocked { why, .. }) => RuntimeStatus::Blocked(why),
                (None, Phase::Supervised(_)) => RuntimeStatus::Creating,
            };
            let is_there = self.write_status(known).await;
            match (&record, &phase) {
                (Some(record), _) => self.report_record(record),
                (None, Phase::Blocked { why, .. }) => self.report_start_error(why),
                (None, Phase::Supervised(_)) => {}
            }
            let deleting = state.pod.metadata.deletion_timestamp.is_some();
            let nothing_runs = record.as_ref().is_some_and(|record| record.is_over())
                || (record.is_none() && matches!(phase, Phase::Blocked { .. }));
            if nothing_runs && (deleting || state.gone || !is_there) {
                self.confirm_deletion().await;
                return;
            }
            if record.as_ref().is_some_and(|record| record.is_over()) {
                return;
            }
            if !is_there {
                self.stop(StopRequest::deleted(0));
            }
            let shutting_down = *self.shutdown.borrow();
            if shutting_down && matches!(phase, Phase::Blocked { .. }) {
                return;
            }
            if let (true, Some(record)) = (shutting_down, &record) {
                unrecorded_end.get_or_insert_with(|| Box::pin(end_without_record(record.clone())));
            }
            let (Phase::Supervised(due) | Phase::Blocked { again: due, .. }) = &mut phase;
            let is_due = tokio::select! {
                biased;
                changed = self.record.changed() => { if changed.is_err() { return } false }
                changed = self.state.changed() => { if changed.is_err() { return } false }
                changed = self.shutdown.changed() => { if changed.is_err() { return } false }
                () = due => true,
                () = until_ended(&mut unrecorded_end) => {
                    tracing::warn!(
                        pod = self.name(), file = %self.paths.record().display(),
                        "the end of a pod is not on record: the disk may be full; its supervisor writes it later"
                    );
                    return;
                }
            };
            if is_due {
                phase = match phase {
                    Phase::Supervised(_) => Phase::Supervised(self.after_supervisor().await),
                    Phase::Blocked { .. } => self.start().await,
                };
            }
        }
    }

    /// Adopts the pod's supervisor or starts one, unless the pod is lost or another node's.
    async fn begin(&mut self) -> Option<Phase> {
        let record = self.record.borrow().clone();
        if let Some(record) = record {
            // An earlier life of this kubelet emitted the events up to here.
            self.reported_record = Some(record.clone());
            return Some(Phase::Supervised(Self::follow(record.supervisor.clone())));
        }
        let pod = self.pod();
        if !self.bind(&pod).await {
            return None;
        }
        let ran = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref())
            .is_some_and(|statuses| {
                let running = |state: &k8s_openapi::api::core::v1::ContainerState| {
                    state.running.is_some() || state.terminated.is_some()
                };
                statuses
                    .iter()
                    .any(|status| status.state.as_ref().is_some_and(running))
            });
        if ran {
            // It was started, but what became of it is lost with its folder. It must not run twice.
            let written = self.write_lost(None, "the record of the pod is gone").await;
            return Some(Phase::Supervised(if written {
                Box::pin(std::future::pending())
            } else {
                Box::pin(tokio::time::sleep(self.starts.next()))
            }));
        }
        if pod.metadata.deletion_timestamp.is_some() && !self.paths.launch().exists() {
            return Some(Phase::Blocked {
                why: StartError::config("the pod is being deleted"),
                again: Box::pin(std::future::pending()),
            });
        }
        Some(self.start().await)
    }

    /// Starts the pod's supervisor. What is in the way may go: a secret is made, a disk has room again.
    async fn start(&mut self) -> Phase {
        match self.launch(&self.pod()).await {
            Ok(child) => Phase::Supervised(self.reap(child)),
            Err(why) => {
                tracing::debug!(pod = self.name(), ?why, "a pod cannot be started yet");
                Phase::Blocked {
                    why,
                    again: Box::pin(tokio::time::sleep(self.starts.next())),
                }
            }
        }
    }

    /// Puts the pod on this node, if it is on none. Says whether it is ours.
    async fn bind(&self, pod: &Pod) -> bool {
        let node = &self.shared.options.node_name;
        let assigned = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or_default();
        if !assigned.is_empty() {
            return assigned == node;
        }
        let mut binding = Binding {
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.clone()),
                ..ObjectReference::default()
            },
            ..Binding::default()
        };
        binding.metadata.name = Some(self.name());
        binding.metadata.uid = Some(self.uid.clone());
        let mut failures = Failures::default();
        loop {
            match self
                .api()
                .create_subresource::<_, Value>(
                    "binding",
                    &self.name(),
                    &PostParams::default(),
                    &binding,
                )
                .await
            {
                Ok(_) => {
                    let pod_event = PodEvent::scheduled(pod, node);
                    self.shared.events.emit(pod, pod_event);
                    return true;
                }
                Err(kube::Error::Api(refusal)) if matches!(refusal.code, 400..=499) => {
                    // Gone, being deleted, or somebody else's by now.
                    tracing::debug!(
                        pod = self.name(),
                        message = refusal.message,
                        "the pod cannot be bound"
                    );
                    return false;
                }
                Err(error) => failures.wait("bind the pod", &self.name(), &error).await,
            }
        }
    }

    async fn launch(&self, pod: &Pod) -> Result<tokio::process::Child, StartError> {
        // Left by an earlier life that died before it started the supervisor; it is as good as new.
        let have: Option<crate::kubelet::record::Launch> =
            read_json(&self.paths.launch()).unwrap_or(None);
        if have.is_none() {
            let sources = sources::read(&self.shared.client, pod)
                .await
                .map_err(|error| StartError::node(error.to_string()))?;
            let builder = LaunchBuilder {
                options: &self.shared.options,
                pod,
                paths: &self.paths,
                sources: &sources,
                mount_with: &self.shared.mount_with,
            };
            let started = self
                .started
                .parse()
                .unwrap_or_else(|_| (self.shared.options.now)());
            let launch = builder.build(started).map_err(|error| {
                let blocked = match error {
                    LaunchError::Folder { .. } => StartError::node(error.to_string()),
                    _ => StartError::config(error.to_string()),
                };
                blocked.caused_by(error.cause())
            })?;
            write_json(&self.paths.launch(), &launch).map_err(|error| {
                StartError::node(format!("the launch cannot be written: {error}"))
            })?;
        }
        self.spawn_supervisor().map_err(|error| {
            let program = self.shared.options.supervisor.program.display();
            StartError::node(format!(
                "the supervisor {program} cannot be started: {error}"
            ))
        })
    }

    fn spawn_supervisor(&self) -> io::Result<tokio::process::Child> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.paths.pod().join("supervisor.log"))?;
        let second = output.try_clone()?;
        let supervisor = &self.shared.options.supervisor;
        tokio::process::Command::new(&supervisor.program)
            .args(&supervisor.arguments)
            .arg(self.paths.pod())
            .env(POD_VARIABLE, &self.uid)
            .current_dir(self.paths.pod())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(second)
            .spawn()
    }

    fn reap(&self, mut child: tokio::process::Child) -> BoxFuture<'static, ()> {
        let pod = self.name();
        Box::pin(async move {
            match child.wait().await {
                Ok(status) if status.success() => {}
                Ok(status) => tracing::warn!(pod, %status, "the supervisor of a pod failed"),
                Err(error) => {
                    tracing::warn!(pod, %error, "the supervisor of a pod cannot be waited for");
                }
            }
        })
    }

    fn follow(supervisor: ProcessIdentity) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = supervisor.ended().await {
                tracing::warn!(%error, pid = supervisor.pid, "the end of a supervisor cannot be noticed");
                std::future::pending::<()>().await;
            }
        })
    }

    /// A supervisor ended. Its record says how the pod did, or another supervisor was quicker, or the pod is lost.
    async fn after_supervisor(&mut self) -> BoxFuture<'static, ()> {
        self.shared.records.refresh(&self.paths, &self.uid);
        let record = self.record.borrow().clone();
        match &record {
            Some(record) if record.is_over() => {}
            Some(record) if record.supervisor.is_alive() => {
                return Self::follow(record.supervisor.clone());
            }
            known => {
                let why = match known {
                    Some(_) => "the supervisor of the pod was killed".to_owned(),
                    None => format!(
                        "the supervisor of the pod ended before it started anything; its log is {}",
                        self.paths.pod().join("supervisor.log").display()
                    ),
                };
                if !self.write_lost(known.as_deref(), &why).await {
                    // Without its record nobody would ever hear of the end.
                    return Box::pin(tokio::time::sleep(self.starts.next()));
                }
            }
        }
        Box::pin(std::future::pending())
    }

    /// Gives a pod that lost its supervisor the record of its end, after ending what is left of it. Says whether it could
    /// be written.
    async fn write_lost(&self, record: Option<&Record>, why: &str) -> bool {
        let (uid, supervisor) = (
            self.uid.clone(),
            record.map(|record| record.supervisor.clone()),
        );
        let ended = tokio::task::spawn_blocking(move || end_pod(&uid, supervisor.as_ref())).await;
        if let Err(error) = ended {
            tracing::error!(%error, pod = self.name(), "what is left of a lost pod cannot be ended");
        }
        let now = time_text((self.shared.options.now)());
        let lost = lost::end(&self.pod(), record, why, &now);
        if let Err(error) = write_json(&self.paths.record(), &lost) {
            tracing::error!(%error, pod = self.name(), "the record of a lost pod cannot be written");
            return false;
        }
        self.shared.records.refresh(&self.paths, &self.uid);
        true
    }

    /// Passes on that the pod is deleted, or that the node shuts down.
    fn pass_on_stop(&mut self, state: &PodState) {
        if state.gone {
            self.stop(StopRequest::deleted(0));
        } else if state.pod.metadata.deletion_timestamp.is_some() {
            let grace = state.pod.metadata.deletion_grace_period_seconds;
            let grace = grace.and_then(|seconds| u64::try_from(seconds).ok());
            self.stop(StopRequest::deleted(grace.unwrap_or(0)));
        } else if *self.shutdown.borrow() {
            let grace = shutdown_grace_seconds(&state.pod, &self.shared.options);
            self.stop(StopRequest::node_shutdown(grace));
        }
    }

    fn stop(&mut self, order: StopRequest) {
        let Some(record) = self.record.borrow().clone() else {
            return;
        };
        if record.is_over()
            || self
                .requested_grace
                .is_some_and(|grace| grace <= order.grace_seconds)
        {
            return;
        }
        if self.requested_grace.is_none() {
            let pod = self.pod();
            for pod_event in PodEvent::killing(&record) {
                self.shared.events.emit(&pod, pod_event);
            }
        }
        self.requested_grace = Some(order.grace_seconds);
        if let Err(error) = write_json(&self.paths.stop(), &order) {
            // The supervisor takes the signal alone for a shutdown of the node.
            tracing::error!(
                %error, pod = self.name(), file = %self.paths.stop().display(),
                "the order to stop a pod cannot be written"
            );
        }
        record.supervisor.signal(Signal::TERM);
    }

    /// Emits the events of what happened since the record before.
    fn report_record(&mut self, record: &Arc<Record>) {
        let before = self.reported_record.replace(record.clone());
        if before.as_ref().is_some_and(|before| before == record) {
            return;
        }
        let pod = self.pod();
        for pod_event in PodEvent::between(&pod, before.as_deref(), record) {
            self.shared.events.emit(&pod, pod_event);
        }
    }

    /// Emits an event when the start error changes, and every [`REPORT_INTERVAL`] while it stays.
    fn report_start_error(&mut self, why: &StartError) {
        let pod = self.pod();
        let known = self
            .reported_error
            .as_ref()
            .is_some_and(|(reported, at)| reported == why && at.elapsed() < REPORT_INTERVAL);
        if known || pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        self.reported_error = Some((why.clone(), Instant::now()));
        self.shared.events.emit(&pod, PodEvent::blocked(&pod, why));
    }

    /// Writes the status if it changed; says whether the pod is still there.
    async fn write_status(&mut self, known: RuntimeStatus<'_>) -> bool {
        let state = self.state.borrow().clone();
        if state.gone {
            return false;
        }
        let now = time_text((self.shared.options.now)());
        let mut pod = (*state.pod).clone();
        // Times of conditions go on from what we wrote last, which the watch may not have brought back yet.
        if let Some(last) = &self.last_written {
            pod.status = serde_json::from_value(last.clone()).unwrap_or_default();
        }
        let next = status(&pod, known, &self.started, &now);
        if self.last_written.as_ref() == Some(&next) {
            return true;
        }
        let patch = Patch::Merge(json!({ "metadata": { "uid": self.uid }, "status": next }));
        let mut failures = Failures::default();
        loop {
            match self
                .api()
                .patch_status(&self.name(), &PatchParams::default(), &patch)
                .await
            {
                Ok(_) => {
                    self.last_written = Some(next);
                    return true;
                }
                // Gone, or another pod has its name.
                Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => {
                    return false;
                }
                Err(kube::Error::Api(refusal)) if self.leaves_to_next_start(&refusal) => {
                    return true;
                }
                Err(error) => {
                    failures
                        .wait("write the status of the pod", &self.name(), &error)
                        .await;
                }
            }
        }
    }

    /// Whether the kubelet ends while the API cannot keep what it would write: the record of the pod stays, and the next
    /// start writes by it.
    fn leaves_to_next_start(&self, refusal: &kube::core::Status) -> bool {
        let leaves = *self.shutdown.borrow() && matches!(refusal.code, 503 | 504);
        if leaves {
            tracing::warn!(
                pod = self.name(),
                error = refusal.message,
                "what became of a pod is written at the next start"
            );
        }
        leaves
    }

    /// Deletes the pod with grace period 0: nothing of it runs any more.
    async fn confirm_deletion(&self) {
        let uid = Some(self.uid.clone());
        let preconditions = Some(Preconditions {
            uid,
            resource_version: None,
        });
        let params = DeleteParams {
            preconditions,
            ..DeleteParams::default().grace_period(0)
        };
        let mut failures = Failures::default();
        loop {
            match self.api().delete(&self.name(), &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => return,
                Err(kube::Error::Api(refusal)) if self.leaves_to_next_start(&refusal) => return,
                Err(error) => {
                    failures
                        .wait("let go of the pod", &self.name(), &error)
                        .await;
                }
            }
        }
    }
}

/// The uids that have a folder here.
pub(crate) fn known_uids(root: &std::path::Path) -> io::Result<Vec<String>> {
    let mut uids = Vec::new();
    for entry in fs::read_dir(PodPaths::pods(root))? {
        uids.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(uids)
}

/// Waits between tries of a call that must succeed in the end.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// How often such a call has failed.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    /// How long to wait now.
    fn next(&mut self) -> Duration {
        self.0 = self.0.saturating_add(1);
        BACKOFF.wait(self.0, rand::random())
    }

    async fn wait(&mut self, doing: &str, pod: &str, error: &kube::Error) {
        tracing::warn!(pod, %error, "the kubelet cannot {doing} and tries again");
        tokio::time::sleep(self.next()).await;
    }
}
