//! Counts of gRPC calls, under Go's names.
//!
//! Of a server, the layer lies around the gRPC routes, not around the port: a REST gateway calls the same routes, and its calls are
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

/// Who counts: the names differ, and who sends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

/// Whether the duration of calls is counted in a histogram too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// `grpc_server_handling_seconds` or `grpc_client_handling_seconds` is there.
    Counted,
    /// It is not: Go's default.
    NotCounted,
}

/// Counts of calls, under the names that gRPC dashboards use.
///
/// Only methods that are known are counted, so that what callers invent does not become labels.
#[derive(Debug)]
pub struct CallMetrics {
    /// By `service/method`.
    methods: HashMap<String, Method>,
    started: IntCounterVec,
    requests: IntCounterVec,
    answers: IntCounterVec,
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
        let common = COMMON.into_iter().map(|(service, name, kind)| {
            let method = Method::new(service, name, kind);
            (format!("{service}/{name}"), method)
        });
        let methods = unary(methods).chain(common).collect();
        Self::of(Side::Server, scope, methods, latency)
    }

    /// Registers the counters of a client of `methods`, each `service/method` of one message in either direction; see
    /// [`crate::client::CountedChannel`].
    ///
    /// # Errors
    /// When they were registered before.
    pub fn of_client(
        scope: &Scope,
        methods: impl IntoIterator<Item = String>,
        latency: Latency,
    ) -> Result<Self, MetricError> {
        Self::of(Side::Client, scope, unary(methods).collect(), latency)
    }

    fn of(
        side: Side,
        scope: &Scope,
        methods: HashMap<String, Method>,
        latency: Latency,
    ) -> Result<Self, MetricError> {
        let scope = scope.bare();
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let (side, request, answer) = match side {
            Side::Server => ("server", "received", "sent"),
            Side::Client => ("client", "sent", "received"),
        };
        let counters = |name: &str, help, labels: &[&str]| {
            scope.counters(&format!("grpc_{side}_{name}_total"), help, labels)
        };
        Ok(Self {
            methods,
            started: counters("started", "Calls that began.", &labels)?,
            requests: counters(
                &format!("msg_{request}"),
                "Messages of calls with one.",
                &labels,
            )?,
            answers: counters(
                &format!("msg_{answer}"),
                "Answers of calls with one, if they succeeded.",
                &labels,
            )?,
            handled: counters(
                "handled",
                "Calls that ended, by code.",
                &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
            )?,
            seconds: match latency {
                Latency::NotCounted => None,
                Latency::Counted => Some(scope.seconds(
                    &format!("grpc_{side}_handling_seconds"),
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

/// `service/method` of all methods of these services.
pub fn methods_of(services: &[&str]) -> Vec<String> {
    let pool = flyte_idl::descriptors::pool();
    let known = services
        .iter()
        .filter_map(|name| pool.get_service_by_name(name));
    known
        .flat_map(|service| {
            let methods = service.methods();
            let paths = methods.map(|method| format!("{}/{}", service.full_name(), method.name()));
            paths.collect::<Vec<_>>()
        })
        .collect()
}

fn unary(methods: impl IntoIterator<Item = String>) -> impl Iterator<Item = (String, Method)> {
    methods.into_iter().filter_map(|path| {
        let (service, name) = path.split_once('/')?;
        let method = Method::new(service, name, UNARY);
        Some((path, method))
    })
}

/// Counts one call when dropped; a call that nobody finished counts as cancelled.
pub(crate) struct Counted {
    metrics: Arc<CallMetrics>,
    /// `service/method`.
    path: String,
    code: Code,
    start: Instant,
}

impl Counted {
    /// Nothing for a method that is not known.
    pub(crate) fn begin(metrics: Arc<CallMetrics>, path: &str) -> Option<Self> {
        let path = path.trim_start_matches('/').to_owned();
        let method = metrics.methods.get(&path)?;
        let labels = [method.kind, &method.service, &method.name];
        metrics.started.with_label_values(&labels).inc();
        if method.kind == UNARY {
            metrics.requests.with_label_values(&labels).inc();
        }
        Some(Self {
            metrics,
            path,
            code: Code::Cancelled,
            start: Instant::now(),
        })
    }

    /// The call ends with this code.
    pub(crate) fn ends(mut self, code: Code) {
        self.code = code;
    }

    /// The answer, whose end is that of the call: its status comes first if there is no message, else last.
    pub(crate) fn follow<B>(self, response: http::Response<B>) -> http::Response<CountedBody<B>> {
        let counted = match status_of(response.headers()) {
            Some(code) => {
                self.ends(code);
                None
            }
            None => Some(self),
        };
        response.map(|body| CountedBody { body, counted })
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
            metrics.answers.with_label_values(&labels).inc();
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
    match counted {
        Some(counted) => counted.follow(response).map(Body::new),
        None => response,
    }
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
pub struct CountedBody<B> {
    body: B,
    /// None when the call has ended, or is not counted.
    counted: Option<Counted>,
}

impl<B> CountedBody<B> {
    pub(crate) fn uncounted(body: B) -> Self {
        Self {
            body,
            counted: None,
        }
    }
}

impl<B: http_body::Body + Unpin> http_body::Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(code) = frame.trailers_ref().and_then(status_of)
            && let Some(counted) = &mut self.counted
        {
            counted.code = code;
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
