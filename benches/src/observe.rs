//! What a run does, seen where it passes: requests to the Kubernetes API, calls of admin, ends of executions.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use flyte_idl::{admin::WorkflowExecutionEventRequest, core::workflow_execution::Phase};
use flyte_local::cluster::ApiService;
use flyte_platform::metrics::Scope;
use flyte_platform::sync::Mutex;
use http::Method;
use prost::Message as _;
use tokio::sync::oneshot;
use tower::ServiceExt as _;

/// Writes of one client of the cluster, by what they write. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    workflows: AtomicU64,
    pods: AtomicU64,
}

/// How many writes there were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WriteCounts {
    /// Of FlyteWorkflow resources.
    pub(crate) workflows: u64,
    /// Of pods and their status.
    pub(crate) pods: u64,
}

impl Writes {
    /// A client of the cluster whose writes are counted here.
    pub(crate) fn client(&self, service: ApiService) -> kube::Client {
        let counted = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            counted.count(request.method(), request.uri().path());
            service.clone().oneshot(request)
        });
        kube::Client::new(service, "default")
    }

    fn count(&self, method: &Method, path: &str) {
        if *method == Method::GET {
            return;
        }
        let counter = if path.contains("/flyteworkflows") {
            &self.0.workflows
        } else if path.contains("/pods") {
            &self.0.pods
        } else {
            return;
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All so far.
    pub(crate) fn counts(&self) -> WriteCounts {
        WriteCounts {
            workflows: self.0.workflows.load(Ordering::Relaxed),
            pods: self.0.pods.load(Ordering::Relaxed),
        }
    }
}

/// Calls of admin so far, by method, from its own metrics.
pub(crate) fn calls(metrics: &Scope) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    for line in metrics.render().lines() {
        let Some((labels, value)) = line
            .strip_prefix("grpc_server_started_total{")
            .and_then(|rest| rest.split_once("} "))
        else {
            continue;
        };
        let method = labels
            .split(',')
            .find_map(|label| label.strip_prefix("grpc_method=\""))
            .map(|text| text.trim_end_matches('"'));
        if let (Some(method), Ok(count)) = (method, value.trim().parse::<u64>()) {
            *calls.entry(method.to_owned()).or_default() += count;
        }
    }
    calls
}

/// How an execution ended, and when admin had recorded it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// The last phase.
    pub(crate) phase: Phase,
    /// When admin's answer to the event was ready.
    pub(crate) at: Instant,
}

/// Waits for ends of executions where their events pass, so that nothing is polled.
#[derive(Clone, Default)]
pub(crate) struct Endings(Arc<Mutex<HashMap<String, oneshot::Sender<Ending>>>>);

/// The call by which an engine tells the phase of an execution.
const EVENT: &str = "/flyteidl.service.AdminService/CreateWorkflowEvent";

impl Endings {
    /// Resolves when the execution `name`, not yet created, has ended.
    pub(crate) fn of(&self, name: &str) -> oneshot::Receiver<Ending> {
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(name.to_owned(), sender);
        receiver
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Ending>>> {
        self.0.lock()
    }

    fn tell(&self, name: &str, ending: Ending) {
        if let Some(sender) = self.waiting().remove(name) {
            let heard = sender.send(ending).is_ok();
            tracing::debug!(name, heard, "an execution ended");
        }
    }
}

/// A layer before admin that hears of ends.
pub(crate) async fn hear(State(endings): State<Endings>, request: Request, next: Next) -> Response {
    if request.uri().path() != EVENT {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return tonic::Status::cancelled("the event was cut short")
            .into_http::<Body>()
            .into_response();
    };
    // A gRPC message follows five bytes: whether it is compressed, which the engine does not do, and its length.
    let event = bytes
        .get(5..)
        .and_then(|message| WorkflowExecutionEventRequest::decode(message).ok())
        .and_then(|request| request.event);
    let response = next
        .run(Request::from_parts(parts, Body::from(bytes)))
        .await;
    // A refusal carries its status in the headers.
    let taken = !response.headers().contains_key("grpc-status");
    if let Some(event) = event.filter(|_| taken) {
        let ended = matches!(
            event.phase(),
            Phase::Succeeded | Phase::Failed | Phase::Aborted | Phase::TimedOut
        );
        if let Some(id) = event.execution_id.as_ref().filter(|_| ended) {
            endings.tell(
                &id.name,
                Ending {
                    phase: event.phase(),
                    at: Instant::now(),
                },
            );
        }
    }
    response
}
