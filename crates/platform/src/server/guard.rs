//! The outermost layer of every server: request id, panics, metrics.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use prometheus::{HistogramVec, IntCounter, IntCounterVec};
use tonic::Code;
use tracing::Instrument as _;

use crate::metrics::{MetricError, Scope, Summary};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id under which a call appears in the logs; taken from the caller or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

/// Counts of calls, under the names that gRPC dashboards use.
#[derive(Debug)]
pub struct CallMetrics {
    started: IntCounterVec,
    handled: IntCounterVec,
    seconds: HistogramVec,
    /// By `service/method`.
    endpoints: HashMap<&'static str, Endpoint>,
}

/// What Go's services count of one method (spec 07 §12.1).
#[derive(Debug)]
struct Endpoint {
    codes: HashMap<&'static str, IntCounter>,
    errors: IntCounter,
    success: IntCounter,
    milliseconds: Summary,
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
            milliseconds: scope
                .summary("duration_ms", "Milliseconds from start to end of a call.")?,
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
        self.milliseconds.observe(took.as_secs_f64() * 1_000.0);
    }
}

impl CallMetrics {
    /// Registers the counters, without any prefix.
    ///
    /// # Errors
    /// When they were registered before.
    pub fn register(scope: &Scope) -> Result<Self, MetricError> {
        let scope = scope.bare();
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        Ok(Self {
            started: scope.counters("grpc_server_started_total", "Calls that began.", &labels)?,
            handled: scope.counters(
                "grpc_server_handled_total",
                "Calls that ended, by code.",
                &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
            )?,
            seconds: scope.seconds(
                "grpc_server_handling_seconds",
                "Seconds from start to end of a call.",
                &labels,
            )?,
            endpoints: HashMap::new(),
        })
    }

    /// Counts methods one by one too, each in a scope of its own within `scope`: `service/method` and the scope's name.
    ///
    /// # Errors
    /// When a name is given twice.
    pub fn with_endpoints(
        mut self,
        scope: &Scope,
        names: &[(&'static str, &str)],
    ) -> Result<Self, MetricError> {
        for (method, name) in names {
            self.endpoints
                .insert(method, Endpoint::register(&scope.sub(name))?);
        }
        Ok(self)
    }
}

/// Counts one call when dropped; a call that nobody finished counts as cancelled.
struct Counted {
    metrics: Arc<CallMetrics>,
    /// `service/method`.
    path: String,
    service: String,
    method: String,
    code: Code,
    start: Instant,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (service, method) = (self.service.as_str(), self.method.as_str());
        let code = code_name(self.code);
        let took = self.start.elapsed();
        if let Some(endpoint) = self.metrics.endpoints.get(self.path.as_str()) {
            endpoint.count(self.code, took);
        }
        self.metrics
            .handled
            .with_label_values(&["unary", service, method, code])
            .inc();
        self.metrics
            .seconds
            .with_label_values(&["unary", service, method])
            .observe(took.as_secs_f64());
    }
}

pub(super) async fn guard(
    State(metrics): State<Arc<CallMetrics>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty() && value.len() <= 128)
        .map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), str::to_owned);
    let grpc = super::is_grpc(&request);
    let path = request.uri().path().to_owned();
    let counted = grpc.then(|| {
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let service = parts.next().unwrap_or_default().to_owned();
        let method = parts.next().unwrap_or_default().to_owned();
        metrics
            .started
            .with_label_values(&["unary", &service, &method])
            .inc();
        Counted {
            metrics: metrics.clone(),
            path: path.trim_start_matches('/').to_owned(),
            service,
            method,
            code: Code::Cancelled,
            start: Instant::now(),
        }
    });
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = tracing::debug_span!("call", path, "x-request-id" = id);
    let handled = AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .instrument(span.clone())
        .await;
    let mut response = handled.unwrap_or_else(|panic| {
        let _entered = span.enter();
        let text = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        tracing::error!(panic = text, "a handler panicked");
        if grpc {
            tonic::Status::internal("internal error").into_http()
        } else {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
        }
    });
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    match counted {
        None => response,
        Some(mut counted) => {
            if let Some(code) = status_of(response.headers()) {
                counted.code = code;
                return response;
            }
            response.map(|body| Body::new(CountedBody { body, counted }))
        }
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
