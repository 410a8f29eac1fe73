//! Events about pods: why one waits, starts, stops or fails, in the reasons and texts of Kubernetes' scheduler and kubelet.
//!
//! ```text
//!   PodRun, Scheduler ──queue, never waited for──> writer ──several at once──> API
//! ```
//!
//! They are best effort, as everywhere: when the queue is full they are dropped, and a write that fails is not tried again.

use std::collections::{HashMap, VecDeque};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::cluster::{Now, time_text};
use crate::kubelet::record::{ContainerRecord, ContainerState, Outcome, Record, Role, Terminated};
use crate::kubelet::status::{Cause, StartError};
use crate::supervisor::CANNOT_RUN;

/// Events that wait to be written: those of some hundred pods that start at once.
const QUEUE_CAPACITY: usize = 512;
/// Events that are written at once.
const CONCURRENT_WRITES: usize = 32;
/// Events that are remembered so that a repetition is counted in them.
const CORRELATED_EVENTS: usize = 512;

/// How long an API server keeps an event after its last write.
const EVENT_TTL: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// `Event.type` (Kubernetes API reference, Event v1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum EventType {
    Normal,
    Warning,
}

/// The component that an event is reported by: `Event.reportingComponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reporter {
    Kubelet,
    /// `Event.action` of the scheduler: `Binding` or `Scheduling`.
    Scheduler(&'static str),
}

/// An event about a pod, before it is given a name and a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PodEvent {
    reporter: Reporter,
    kind: EventType,
    reason: String,
    message: String,
    /// The container that it happened to, as a path into the pod.
    field: Option<String>,
}

impl PodEvent {
    fn of_pod(kind: EventType, reason: &str, message: impl Into<String>) -> Self {
        Self {
            reporter: Reporter::Kubelet,
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            field: None,
        }
    }

    fn of_container(
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
        path: String,
    ) -> Self {
        Self {
            field: Some(path),
            ..Self::of_pod(kind, reason, message)
        }
    }

    /// The pod waits for the machine; the text is that of its condition.
    pub(crate) fn unschedulable(why: &str) -> Self {
        Self {
            reporter: Reporter::Scheduler("Scheduling"),
            ..Self::of_pod(EventType::Warning, "FailedScheduling", why)
        }
    }

    /// The pod was put on a node.
    pub(crate) fn scheduled(pod: &Pod, node: &str) -> Self {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        Self {
            reporter: Reporter::Scheduler("Binding"),
            ..Self::of_pod(EventType::Normal, "Scheduled", message)
        }
    }

    /// The pod cannot be started.
    pub(crate) fn blocked(pod: &Pod, why: &StartError) -> Self {
        let message = why.message();
        match why.cause() {
            Cause::Pod => Self::of_pod(EventType::Warning, "Failed", format!("Error: {message}")),
            Cause::Container(name) => Self::of_container(
                EventType::Warning,
                "Failed",
                format!("Error: {message}"),
                path(is_init(pod, name), name),
            ),
            Cause::Volume(name) => {
                let message = format!("MountVolume.SetUp failed for volume \"{name}\" : {message}");
                Self::of_pod(EventType::Warning, "FailedMount", message)
            }
        }
    }

    /// One `Killing` event for each container that runs when its pod is stopped.
    pub(crate) fn killing(record: &Record) -> Vec<Self> {
        let running = record
            .containers
            .iter()
            .filter(|container| matches!(container.state, ContainerState::Running { .. }));
        running
            .map(|container| {
                let message = format!("Stopping container {}", container.name);
                Self::of_container(EventType::Normal, "Killing", message, path_of(container))
            })
            .collect()
    }

    /// What has happened between two records of a pod. States between them may have been missed; their events are made too.
    pub(crate) fn between(pod: &Pod, before: Option<&Record>, after: &Record) -> Vec<Self> {
        let mut events = Vec::new();
        for container in &after.containers {
            let known = before.and_then(|record| {
                let mut known = record.containers.iter();
                known.find(|known| known.name == container.name)
            });
            events.extend(Self::of_runs(pod, known, container));
        }
        if let Outcome::Failed(Some((reason, message))) = &after.outcome
            && before.is_none_or(|record| !record.is_over())
        {
            // A kubelet takes a deadline for the course of things.
            let kind = if reason == "DeadlineExceeded" {
                EventType::Normal
            } else {
                EventType::Warning
            };
            events.push(Self::of_pod(kind, reason, message.clone()));
        }
        events
    }

    fn of_runs(pod: &Pod, before: Option<&ContainerRecord>, after: &ContainerRecord) -> Vec<Self> {
        let (name, path) = (&after.name, path_of(after));
        let mut events = Vec::new();
        let last = last_end(after);
        let refused = last.filter(|end| end.reason == CANNOT_RUN);
        if begun(after) > before.map_or(0, begun) {
            events.push(match refused {
                Some(end) => Self::of_container(
                    EventType::Warning,
                    "Failed",
                    format!("Error: {}", end.message),
                    path.clone(),
                ),
                None => Self::of_container(
                    EventType::Normal,
                    "Started",
                    format!("Started container {name}"),
                    path.clone(),
                ),
            });
        }
        let failures = before.map_or(0, |before| before.health.failures);
        let new = after.health.failures.saturating_sub(failures);
        let known = &after.health.last_failures;
        for (reason, message) in known.iter().skip(known.len().saturating_sub(new as usize)) {
            let kind = if reason == "Killing" {
                EventType::Normal
            } else {
                EventType::Warning
            };
            events.push(Self::of_container(
                kind,
                reason,
                message.clone(),
                path.clone(),
            ));
        }
        if ended(after) > before.map_or(0, ended)
            && last.is_some_and(|end| end.reason == "OOMKilled")
        {
            let message =
                format!("Container {name} was killed: it took more memory than its limit");
            events.push(Self::of_container(
                EventType::Warning,
                "OOMKilled",
                message,
                path.clone(),
            ));
        }
        let waits = matches!(after.state, ContainerState::Waiting { .. });
        if waits && after.restarts > before.map_or(0, |before| before.restarts) {
            let meta = &pod.metadata;
            let message = format!(
                "Back-off restarting failed container {name} in pod {}_{}({})",
                meta.name.as_deref().unwrap_or_default(),
                meta.namespace.as_deref().unwrap_or_default(),
                meta.uid.as_deref().unwrap_or_default(),
            );
            events.push(Self::of_container(
                EventType::Warning,
                "BackOff",
                message,
                path,
            ));
        }
        events
    }
}

/// How many runs of a container have begun.
fn begun(container: &ContainerRecord) -> u32 {
    let waits = matches!(container.state, ContainerState::Waiting { .. });
    container.restarts + u32::from(!waits)
}

/// How many runs of a container have ended.
fn ended(container: &ContainerRecord) -> u32 {
    let is_over = matches!(container.state, ContainerState::Terminated(_));
    container.restarts + u32::from(is_over)
}

/// The end of the run that began last, if it has ended.
fn last_end(container: &ContainerRecord) -> Option<&Terminated> {
    match &container.state {
        ContainerState::Waiting { .. } => container.last.as_ref(),
        ContainerState::Running { .. } => None,
        ContainerState::Terminated(end) => Some(end),
    }
}

fn is_init(pod: &Pod, container: &str) -> bool {
    let inits = pod.spec.iter().flat_map(|spec| &spec.init_containers);
    inits.flatten().any(|init| init.name == container)
}

fn path_of(container: &ContainerRecord) -> String {
    path(container.role != Role::Main, &container.name)
}

fn path(init: bool, container: &str) -> String {
    let list = if init { "initContainers" } else { "containers" };
    format!("spec.{list}{{{container}}}")
}

/// An event with its pod and time, waiting to be written.
struct QueuedEvent {
    pod: Value,
    namespace: String,
    name: String,
    at: jiff::Timestamp,
    pod_event: PodEvent,
}

/// Queues events. Never waits: when the queue is full, an event is dropped.
#[derive(Clone)]
pub(crate) struct EventRecorder {
    queue: mpsc::Sender<QueuedEvent>,
    now: Now,
}

/// Writes what [`EventRecorder`] takes.
pub(crate) struct EventWriter {
    queue: mpsc::Receiver<QueuedEvent>,
    client: kube::Client,
    node: String,
    correlator: EventCorrelator,
}

/// Makes both ends of the queue; `node` is the name of the node.
pub(crate) fn events(client: kube::Client, node: &str, now: Now) -> (EventRecorder, EventWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    let writer = EventWriter {
        queue: receiver,
        client,
        node: node.to_owned(),
        correlator: EventCorrelator::default(),
    };
    (EventRecorder { queue: sender, now }, writer)
}

impl EventRecorder {
    /// Queues an event about `pod`.
    pub(crate) fn emit(&self, pod: &Pod, pod_event: PodEvent) {
        let meta = &pod.metadata;
        let queued = QueuedEvent {
            pod: json!({
                "apiVersion": "v1", "kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid,
                "resourceVersion": meta.resource_version, "fieldPath": pod_event.field,
            }),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            at: (self.now)(),
            pod_event,
        };
        if let Err(mpsc::error::TrySendError::Full(queued)) = self.queue.try_send(queued) {
            let (pod, reason) = (queued.name, queued.pod_event.reason);
            tracing::debug!(pod, reason, "an event is dropped: too many wait");
        }
    }
}

/// The last events that were written, oldest first, so that a repetition is counted in the event that is there (client-go
/// `tools/record`, EventCorrelator).
#[derive(Default)]
struct EventCorrelator {
    events: HashMap<EventKey, RecordedEvent>,
    oldest_first: VecDeque<EventKey>,
}

/// What makes two events the same: uid of the pod, and the event without its time.
type EventKey = (String, PodEvent);

#[derive(Debug, Clone, PartialEq, Eq)]
struct RecordedEvent {
    name: String,
    count: u32,
    last: jiff::Timestamp,
}

impl EventCorrelator {
    /// Counts a repetition: the earlier event of the same key, with its new count, unless its time is up. Without one, `name`
    /// is remembered for the key.
    fn count(&mut self, key: EventKey, name: &str, at: jiff::Timestamp) -> Option<RecordedEvent> {
        let new = RecordedEvent {
            name: name.to_owned(),
            count: 1,
            last: at,
        };
        if let Some(recorded) = self.events.get_mut(&key) {
            if at.duration_since(recorded.last) >= EVENT_TTL {
                *recorded = new;
                return None;
            }
            recorded.count += 1;
            recorded.last = at;
            return Some(recorded.clone());
        }
        if self.oldest_first.len() >= CORRELATED_EVENTS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.events.remove(&oldest);
        }
        self.oldest_first.push_back(key.clone());
        self.events.insert(key, new);
        None
    }
}

impl EventWriter {
    /// Writes until every [`EventRecorder`] is dropped.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::new();
        while self.queue.recv_many(&mut batch, CONCURRENT_WRITES).await > 0 {
            let writes: Vec<EventWrite> = batch
                .drain(..)
                .filter_map(|queued| self.write(&queued))
                .collect();
            let client = &self.client;
            stream::iter(writes)
                .map(|write| write.send(client))
                .buffer_unordered(CONCURRENT_WRITES)
                .for_each(|written| async {
                    if let Err(error) = written {
                        tracing::debug!(%error, "an event cannot be written");
                    }
                })
                .await;
        }
    }

    fn write(&mut self, queued: &QueuedEvent) -> Option<EventWrite> {
        let event = match serde_json::from_value::<Event>(self.event(queued)) {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(%error, "an event cannot be made");
                return None;
            }
        };
        let uid = queued.pod.get("uid").and_then(Value::as_str);
        let key = (uid.unwrap_or_default().to_owned(), queued.pod_event.clone());
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let again = self.correlator.count(key, name, queued.at).map(|recorded| {
            let last = time_text(queued.at);
            (
                recorded.name,
                json!({ "count": recorded.count, "lastTimestamp": last }),
            )
        });
        Some(EventWrite { event, again })
    }

    fn event(&self, queued: &QueuedEvent) -> Value {
        let pod_event = &queued.pod_event;
        let mut event = json!({
            // As client-go names them: the time makes names of events about the same object differ.
            "metadata": { "name": format!("{}.{:x}", queued.name, queued.at.as_nanosecond()), "namespace": queued.namespace },
            "involvedObject": queued.pod,
            "type": match pod_event.kind { EventType::Normal => "Normal", EventType::Warning => "Warning" },
            "reason": pod_event.reason,
            "message": pod_event.message,
        });
        let time = time_text(queued.at);
        let more = match pod_event.reporter {
            Reporter::Kubelet => json!({
                "source": { "component": "kubelet", "host": self.node }, "firstTimestamp": time, "lastTimestamp": time,
                "count": 1, "reportingComponent": "kubelet", "reportingInstance": self.node,
            }),
            // The scheduler writes the newer kind of events, which have no count of their own.
            Reporter::Scheduler(action) => json!({
                "eventTime": queued.at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(), "action": action,
                "reportingComponent": "default-scheduler", "reportingInstance": format!("default-scheduler-{}", self.node),
            }),
        };
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        event
    }
}

/// How one Event is written: as a new object, or as a patch that counts it in an earlier one.
struct EventWrite {
    event: Event,
    /// The name of the earlier event of the same key, and the merge patch that counts this one in it.
    again: Option<(String, Value)>,
}

impl EventWrite {
    async fn send(self, client: &kube::Client) -> Result<(), kube::Error> {
        let namespace = self.event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        if let Some((name, change)) = self.again {
            match api
                .patch(&name, &PatchParams::default(), &Patch::Merge(change))
                .await
            {
                // Its time was up.
                Err(kube::Error::Api(refusal)) if refusal.code == 404 => {}
                other => return other.map(drop),
            }
        }
        api.create(&PostParams::default(), &self.event)
            .await
            .map(drop)
    }
}
