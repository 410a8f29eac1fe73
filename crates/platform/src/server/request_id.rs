//! The outermost layer of every server: request id and panics.

use std::panic::AssertUnwindSafe;

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, StatusCode};
use tracing::Instrument as _;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id under which a call appears in the logs; taken from the caller or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

pub(super) async fn layer(mut request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty() && value.len() <= 128)
        .map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), str::to_owned);
    let grpc = super::is_grpc(request.headers());
    let path = request.uri().path().to_owned();
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
    response
}
