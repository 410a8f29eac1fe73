//! Both ends of the way of unknown fields through the server: what is left for handlers, and what is sent for them.

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use flyte_platform::server::{Measured, framed};
use http_body_util::{BodyExt as _, Full};
use tonic::Status;

use super::{Replacement, RequestWithUnknown};

/// Leaves the unknown fields of a request for its handler.
///
/// # Errors
/// INVALID_ARGUMENT for a message that is to be kept and that lists could not show.
pub(crate) fn inspect(
    measured: Measured<'_>,
    extensions: &mut http::Extensions,
) -> Result<(), Status> {
    if let Some(what) = measured.scan.unprintable
        && stores(measured.path)
    {
        return Err(Status::invalid_argument(what.to_string()));
    }
    if measured.scan.has_unknown
        && let Some(request) = RequestWithUnknown::read(measured.descriptor, &measured.bytes)
    {
        extensions.insert(request);
    }
    Ok(())
}

/// Whether a method keeps its message: then everybody who lists what is kept must be able to read it.
fn stores(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    !path.contains(".DataProxyService/")
        && ["Create", "Register", "Update", "Set", "Relaunch", "Recover"]
            .iter()
            .any(|verb| method.starts_with(verb))
}

/// Sends the message that a handler wants sent instead of the generated one.
pub(crate) async fn replace(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let Some(Replacement(message)) = response.extensions_mut().remove::<Replacement>() else {
        return response;
    };
    let (parts, body) = response.into_parts();
    let trailers = match body.collect().await {
        Ok(collected) => collected.trailers().cloned().unwrap_or_default(),
        Err(error) => return Status::internal(error.to_string()).into_http(),
    };
    let body = Full::new(framed(&message)).with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::from_parts(parts, Body::new(body))
}
