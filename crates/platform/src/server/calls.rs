//! Counts of gRPC calls, under Go's names.
//!
//! The layer lies around the gRPC routes, not around the port: a REST gateway calls the same routes, and its calls are
//! counted as Go's are, which really makes them (spec 07 §3).

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};
use tonic::{Code, service::Routes};

use crate::metrics::{MetricError, Scope, StopWatch, Unit};

/// The services that every server has, with the type of their calls.
const COMMON: [(&str, &str, &str); 4] = [
    ("grpc.health.v1.Health", "Check", UNARY),
    ("grpc.health.v1.Health", "Watch", "server_stream"),
    (
        "grpc.reflection.v1.ServerReflection",
        "ServerReflectionInfo",
        "bidi_stream",
    ),
    (
        "grpc.reflection.v1alpha.ServerReflection",
        "ServerReflectionInfo",
        "bidi_stream",
    ),
];

const UNARY: &str = "unary";

/// Whether the duration of calls is counted in a histogram too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// `grpc_server_handling_seconds` is there.
    Counted,
    /// It is not: Go's default.
    NotCounted,
}

/// Counts of calls, under the names that gRPC dashboards use.
///
/// Only methods that are served are counted, so that what callers invent does not become labels.
#[derive(Debug)]
pub struct CallMetrics {
    /// By `service/method`.
    methods: HashMap<String, Method>,
    started: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    handled: IntCounterVec,
    seconds: Option<HistogramVec>,
}

#[derive(Debug)]
struct Method {
    service: String,
    name: String,
    kind: &'static str,
    endpoint: Option<Arc<Endpoint>>,
    panics: Option<IntCounter>,
}

impl Method {
    fn new(service: &str, name: &str, kind: &'static str) -> Self {
        Self {
            service: service.to_owned(),
            name: name.to_owned(),
            kind,
            endpoint: None,
            panics: None,
        }
    }
}

/// What Go's services count of one method (spec 07 §12.1).
#[derive(Debug)]
struct Endpoint {
    codes: HashMap<&'static str, IntCounter>,
    errors: IntCounter,
    success: IntCounter,
    duration: StopWatch,
}

impl Endpoint {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        let of_codes = scope.sub("codes");
        let codes = ALL_CODES.into_iter().map(|code| {
            let name = code_name(code);
            Ok((
                name,
                of_codes.counter(name, "Calls that ended with this code.")?,
            ))
        });
        Ok(Self {
            codes: codes.collect::<Result<_, _>>()?,
            errors: scope.counter("errors", "Calls that failed.")?,
            success: scope.counter("success", "Calls that succeeded.")?,
            duration: scope.stop_watch(
                "duration",
                "Milliseconds from start to end of a call.",
                Unit::Milliseconds,
            )?,
        })
    }

    fn count(&self, code: Code, took: Duration) {
        if let Some(counter) = self.codes.get(code_name(code)) {
            counter.inc();
        }
        let outcome = if code == Code::Ok {
            &self.success
        } else {
            &self.errors
        };
        outcome.inc();
        self.duration.observe(took);
    }
}

impl CallMetrics {
    /// Registers the counters, without any prefix, for health, reflection and `methods`, each `service/method` of one
    /// message in either direction.
    ///
    /// # Errors
    /// When they were registered before.
    pub fn register(
        scope: &Scope,
        methods: impl IntoIterator<Item = String>,
        latency: Latency,
    ) -> Result<Self, MetricError> {
        let scope = scope.bare();
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let ours = methods.into_iter().filter_map(|path| {
            let (service, name) = path.split_once('/')?;
            let method = Method::new(service, name, UNARY);
            Some((path, method))
        });
        let common = COMMON.into_iter().map(|(service, name, kind)| {
            let method = Method::new(service, name, kind);
            (format!("{service}/{name}"), method)
        });
        Ok(Self {
            methods: ours.chain(common).collect(),
            started: scope.counters("grpc_server_started_total", "Calls that began.", &labels)?,
            received: scope.counters(
                "grpc_server_msg_received_total",
                "Messages of calls with one.",
                &labels,
            )?,
            sent: scope.counters(
                "grpc_server_msg_sent_total",
                "Answers of calls with one, if they succeeded.",
                &labels,
            )?,
            handled: scope.counters(
                "grpc_server_handled_total",
                "Calls that ended, by code.",
                &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
            )?,
            seconds: match latency {
                Latency::NotCounted => None,
                Latency::Counted => Some(scope.seconds(
                    "grpc_server_handling_seconds",
                    "Seconds from start to end of a call.",
                    &labels,
                )?),
            },
        })
    }

    /// Counts methods one by one too, each in a scope of its own within `scope`: `service/method` and the scope's name.
    /// Methods of one name are counted together; a name without a method is there and stays 0. Panics of all of them
    /// are counted as `handler_panic`.
    ///
    /// # Errors
    /// When a name is registered already.
    pub fn with_endpoints(
        mut self,
        scope: &Scope,
        names: &[(&str, &str)],
    ) -> Result<Self, MetricError> {
        let panics = scope.counter("handler_panic", "Calls whose handler panicked.")?;
        let mut endpoints: HashMap<&str, Arc<Endpoint>> = HashMap::new();
        for (path, name) in names {
            let endpoint = match endpoints.get(name) {
                Some(endpoint) => endpoint.clone(),
                None => Arc::new(Endpoint::register(&scope.sub(name))?),
            };
            endpoints.insert(name, endpoint.clone());
            if let Some(method) = self.methods.get_mut(*path) {
                method.endpoint = Some(endpoint);
                method.panics = Some(panics.clone());
            }
        }
        Ok(self)
    }

    /// `routes`, counted.
    pub fn around(self: Arc<Self>, routes: Routes) -> Routes {
        let router = routes
            .prepare()
            .into_axum_router()
            .layer(axum::middleware::from_fn_with_state(self, count));
        Routes::from(router)
    }
}

/// Counts one call when dropped; a call that nobody finished counts as cancelled.
struct Counted {
    metrics: Arc<CallMetrics>,
    /// `service/method`.
    path: String,
    code: Code,
    start: Instant,
}

impl Counted {
    /// Nothing for a method that is not served.
    fn begin(metrics: Arc<CallMetrics>, path: &str) -> Option<Self> {
        let path = path.trim_start_matches('/').to_owned();
        let method = metrics.methods.get(&path)?;
        let labels = [method.kind, &method.service, &method.name];
        metrics.started.with_label_values(&labels).inc();
        if method.kind == UNARY {
            metrics.received.with_label_values(&labels).inc();
        }
        Some(Self {
            metrics,
            path,
            code: Code::Cancelled,
            start: Instant::now(),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        let Some(method) = metrics.methods.get(&self.path) else {
            return;
        };
        let panicked = std::thread::panicking();
        let code = if panicked { Code::Internal } else { self.code };
        if let Some(panics) = method.panics.as_ref().filter(|_| panicked) {
            panics.inc();
        }
        let took = self.start.elapsed();
        if let Some(endpoint) = &method.endpoint {
            endpoint.count(code, took);
        }
        let labels = [method.kind, &method.service, &method.name];
        if code == Code::Ok && method.kind == UNARY {
            metrics.sent.with_label_values(&labels).inc();
        }
        let [kind, service, name] = labels;
        metrics
            .handled
            .with_label_values(&[kind, service, name, code_name(code)])
            .inc();
        if let Some(seconds) = &metrics.seconds {
            let seconds: Histogram = seconds.with_label_values(&labels);
            seconds.observe(took.as_secs_f64());
        }
    }
}

async fn count(State(metrics): State<Arc<CallMetrics>>, request: Request, next: Next) -> Response {
    let counted = Counted::begin(metrics, request.uri().path());
    let response = next.run(request).await;
    let Some(mut counted) = counted else {
        return response;
    };
    if let Some(code) = status_of(response.headers()) {
        counted.code = code;
        return response;
    }
    response.map(|body| Body::new(CountedBody { body, counted }))
}

fn status_of(headers: &HeaderMap) -> Option<Code> {
    headers
        .get("grpc-status")
        .map(|value| Code::from_bytes(value.as_bytes()))
}

const ALL_CODES: [Code; 17] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// A body that reads the status of the call off its trailers.
struct CountedBody {
    body: Body,
    counted: Counted,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(code) = frame.trailers_ref().and_then(status_of)
        {
            self.counted.code = code;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
