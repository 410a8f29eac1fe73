//! Events about pods: why one waits, starts, stops or fails, in the reasons and texts of Kubernetes' scheduler and kubelet.
//!
//! ```text
//!   PodRun, Scheduling ──queue, never waited for──> writer ──several at once──> API
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
use crate::kubelet::record::{ContainerRecord, ContainerState, Ended, Outcome, Record, Role};
use crate::kubelet::status::{Blocked, Hindrance};
use crate::supervisor::CANNOT_RUN;

/// Events that wait to be written: those of some hundred pods that start at once.
const WAITING: usize = 512;
/// Events that are written at once.
const AT_ONCE: usize = 32;
/// Events that are remembered so that their repetition is counted instead of told again.
const REMEMBERED: usize = 512;

/// How long an API server keeps an event after its last write.
const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Normal,
    Warning,
}

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reporter {
    Kubelet,
    /// What it did: `Binding` or `Scheduling`.
    Scheduler(&'static str),
}

/// What happened to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct News {
    reporter: Reporter,
    kind: Kind,
    reason: String,
    message: String,
    /// The container that it happened to, as a path into the pod.
    field: Option<String>,
}

impl News {
    fn of_pod(kind: Kind, reason: &str, message: impl Into<String>) -> Self {
        Self {
            reporter: Reporter::Kubelet,
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            field: None,
        }
    }

    fn of_container(kind: Kind, reason: &str, message: impl Into<String>, path: String) -> Self {
        Self {
            field: Some(path),
            ..Self::of_pod(kind, reason, message)
        }
    }

    /// The pod waits for the machine; the text is that of its condition.
    pub(crate) fn unschedulable(why: &str) -> Self {
        Self {
            reporter: Reporter::Scheduler("Scheduling"),
            ..Self::of_pod(Kind::Warning, "FailedScheduling", why)
        }
    }

    /// The pod was put on a node.
    pub(crate) fn scheduled(pod: &Pod, node: &str) -> Self {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        Self {
            reporter: Reporter::Scheduler("Binding"),
            ..Self::of_pod(Kind::Normal, "Scheduled", message)
        }
    }

    /// The pod cannot be started.
    pub(crate) fn blocked(pod: &Pod, why: &Blocked) -> Self {
        let message = why.message();
        match why.hindrance() {
            Hindrance::Pod => Self::of_pod(Kind::Warning, "Failed", format!("Error: {message}")),
            Hindrance::Container(name) => Self::of_container(
                Kind::Warning,
                "Failed",
                format!("Error: {message}"),
                path(is_init(pod, name), name),
            ),
            Hindrance::Volume(name) => {
                let message = format!("MountVolume.SetUp failed for volume \"{name}\" : {message}");
                Self::of_pod(Kind::Warning, "FailedMount", message)
            }
        }
    }

    /// What the running containers of a pod are told when it is to end.
    pub(crate) fn killing(record: &Record) -> Vec<Self> {
        let running = record
            .containers
            .iter()
            .filter(|container| matches!(container.state, ContainerState::Running { .. }));
        running
            .map(|container| {
                let message = format!("Stopping container {}", container.name);
                Self::of_container(Kind::Normal, "Killing", message, path_of(container))
            })
            .collect()
    }

    /// What has happened between two records of a pod. States between them may have been missed, and are told too.
    pub(crate) fn between(pod: &Pod, before: Option<&Record>, after: &Record) -> Vec<Self> {
        let mut news = Vec::new();
        for container in &after.containers {
            let known = before.and_then(|record| {
                let mut known = record.containers.iter();
                known.find(|known| known.name == container.name)
            });
            news.extend(Self::of_runs(pod, known, container));
        }
        if let Outcome::Failed(Some((reason, message))) = &after.outcome
            && before.is_none_or(|record| !record.is_over())
        {
            // A kubelet takes a deadline for the course of things.
            let kind = if reason == "DeadlineExceeded" {
                Kind::Normal
            } else {
                Kind::Warning
            };
            news.push(Self::of_pod(kind, reason, message.clone()));
        }
        news
    }

    fn of_runs(pod: &Pod, before: Option<&ContainerRecord>, after: &ContainerRecord) -> Vec<Self> {
        let (name, path) = (&after.name, path_of(after));
        let mut news = Vec::new();
        let last = last_end(after);
        let refused = last.filter(|end| end.reason == CANNOT_RUN);
        if begun(after) > before.map_or(0, begun) {
            news.push(match refused {
                Some(end) => Self::of_container(
                    Kind::Warning,
                    "Failed",
                    format!("Error: {}", end.message),
                    path.clone(),
                ),
                None => Self::of_container(
                    Kind::Normal,
                    "Started",
                    format!("Started container {name}"),
                    path.clone(),
                ),
            });
        }
        if ended(after) > before.map_or(0, ended)
            && last.is_some_and(|end| end.reason == "OOMKilled")
        {
            let message =
                format!("Container {name} was killed: it took more memory than its limit");
            news.push(Self::of_container(
                Kind::Warning,
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
            news.push(Self::of_container(Kind::Warning, "BackOff", message, path));
        }
        news
    }
}

/// How many runs of a container have begun.
fn begun(container: &ContainerRecord) -> u32 {
    let waits = matches!(container.state, ContainerState::Waiting { .. });
    container.restarts + u32::from(!waits)
}

/// How many runs of a container have ended.
fn ended(container: &ContainerRecord) -> u32 {
    let is_over = matches!(container.state, ContainerState::Ended(_));
    container.restarts + u32::from(is_over)
}

/// The end of the run that began last, if it has ended.
fn last_end(container: &ContainerRecord) -> Option<&Ended> {
    match &container.state {
        ContainerState::Waiting { .. } => container.last.as_ref(),
        ContainerState::Running { .. } => None,
        ContainerState::Ended(end) => Some(end),
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

/// News on its way to the API.
struct Letter {
    pod: Value,
    namespace: String,
    name: String,
    at: jiff::Timestamp,
    news: News,
}

/// Takes news without ever making anybody wait.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Letter>,
    now: Now,
}

/// Writes what [`Events`] takes.
pub(crate) struct EventWriter {
    queue: mpsc::Receiver<Letter>,
    client: kube::Client,
    node: String,
    written: Written,
}

/// Makes both ends of the queue; `node` is the name of the node.
pub(crate) fn events(client: kube::Client, node: &str, now: Now) -> (Events, EventWriter) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let writer = EventWriter {
        queue: receiver,
        client,
        node: node.to_owned(),
        written: Written::default(),
    };
    (Events { queue: sender, now }, writer)
}

impl Events {
    /// Tells something about a pod.
    pub(crate) fn tell(&self, pod: &Pod, news: News) {
        let meta = &pod.metadata;
        let letter = Letter {
            pod: json!({
                "apiVersion": "v1", "kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid,
                "resourceVersion": meta.resource_version, "fieldPath": news.field,
            }),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            at: (self.now)(),
            news,
        };
        if let Err(mpsc::error::TrySendError::Full(letter)) = self.queue.try_send(letter) {
            let (pod, reason) = (letter.name, letter.news.reason);
            tracing::debug!(pod, reason, "an event is dropped: too many wait");
        }
    }
}

/// The last events by what they tell, those told first first.
#[derive(Default)]
struct Written {
    events: HashMap<Content, Told>,
    order: VecDeque<Content>,
}

/// Uid of the pod, and what happened to it.
type Content = (String, News);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    name: String,
    count: u32,
    last: jiff::Timestamp,
}

impl Written {
    /// The event that told the same before, this time counted. If there is none, `name` is the one from now on.
    fn tell(&mut self, content: Content, name: &str, at: jiff::Timestamp) -> Option<Told> {
        let new = Told {
            name: name.to_owned(),
            count: 1,
            last: at,
        };
        if let Some(told) = self.events.get_mut(&content) {
            if at.duration_since(told.last) >= KEPT {
                *told = new;
                return None;
            }
            told.count += 1;
            told.last = at;
            return Some(told.clone());
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.events.remove(&oldest);
        }
        self.order.push_back(content.clone());
        self.events.insert(content, new);
        None
    }
}

impl EventWriter {
    /// Writes until nobody tells anything any more.
    pub(crate) async fn run(mut self) {
        let mut letters = Vec::new();
        while self.queue.recv_many(&mut letters, AT_ONCE).await > 0 {
            let orders: Vec<Order> = letters
                .drain(..)
                .filter_map(|letter| self.order(&letter))
                .collect();
            let client = &self.client;
            stream::iter(orders)
                .map(|order| order.carry_out(client))
                .buffer_unordered(AT_ONCE)
                .for_each(|written| async {
                    if let Err(error) = written {
                        tracing::debug!(%error, "an event cannot be written");
                    }
                })
                .await;
        }
    }

    fn order(&mut self, letter: &Letter) -> Option<Order> {
        let event = match serde_json::from_value::<Event>(self.event(letter)) {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(%error, "an event cannot be made");
                return None;
            }
        };
        let uid = letter.pod.get("uid").and_then(Value::as_str);
        let content = (uid.unwrap_or_default().to_owned(), letter.news.clone());
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let again = self.written.tell(content, name, letter.at).map(|told| {
            let last = time_text(letter.at);
            (
                told.name,
                json!({ "count": told.count, "lastTimestamp": last }),
            )
        });
        Some(Order { event, again })
    }

    fn event(&self, letter: &Letter) -> Value {
        let news = &letter.news;
        let mut event = json!({
            // As client-go names them: the time tells events about the same object apart.
            "metadata": { "name": format!("{}.{:x}", letter.name, letter.at.as_nanosecond()), "namespace": letter.namespace },
            "involvedObject": letter.pod,
            "type": match news.kind { Kind::Normal => "Normal", Kind::Warning => "Warning" },
            "reason": news.reason,
            "message": news.message,
        });
        let time = time_text(letter.at);
        let more = match news.reporter {
            Reporter::Kubelet => json!({
                "source": { "component": "kubelet", "host": self.node }, "firstTimestamp": time, "lastTimestamp": time,
                "count": 1, "reportingComponent": "kubelet", "reportingInstance": self.node,
            }),
            // The scheduler writes the newer kind of events, which have no count of their own.
            Reporter::Scheduler(action) => json!({
                "eventTime": letter.at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(), "action": action,
                "reportingComponent": "default-scheduler", "reportingInstance": format!("default-scheduler-{}", self.node),
            }),
        };
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        event
    }
}

/// One write.
struct Order {
    event: Event,
    /// The event that told the same before, and what is to change in it.
    again: Option<(String, Value)>,
}

impl Order {
    async fn carry_out(self, client: &kube::Client) -> Result<(), kube::Error> {
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
