//! What a request must obey before its message is decoded: size, nesting, deadline, and that somebody
//! serves it (spec 01 §1.2, design "Servers").
//!
//! The message is taken from the wire here, uncompressed here, and handed on plain, so that nothing decodes
//! bytes that have not been counted and scanned.

use std::{collections::BTreeSet, io::Read as _, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::{BufMut as _, Bytes, BytesMut};
use flyte_idl::{descriptors, nesting};
use http_body_util::{BodyExt as _, Full};
use prost_reflect::MessageDescriptor;
use tonic::{Code, Status};

use crate::{
    body_budget::{BodyBudget, HeldBytes},
    status,
    unknown_fields::{Replacement, RequestWithUnknown},
};

/// Flag byte and length of a gRPC message.
const PREFIX: usize = 5;

/// What requests are measured by.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The largest message in bytes.
    pub(crate) message_bytes: usize,
    /// Full names of the services that are served with generated messages.
    pub(crate) services: Arc<BTreeSet<String>>,
    /// What the bodies of all requests take.
    pub(crate) bodies: BodyBudget,
}

/// Refuses gRPC calls that are larger than the limits, and ends the others at their deadlines.
pub(crate) async fn enforce(
    State(limits): State<Limits>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    // Health and reflection have their own codecs and stream.
    if path.starts_with("/grpc.") {
        return next.run(request).await;
    }
    let response = match checked(&limits, &path, request).await {
        // It may name the path, which the client chose.
        Err(refused) => {
            return status::of_message(refused.code(), refused.message().to_owned()).into_http();
        }
        Ok((request, _held)) => match deadline(&request) {
            None => next.run(request).await,
            Some(deadline) => {
                let start = tokio::time::Instant::now();
                match tokio::time::timeout(deadline, next.run(request)).await {
                    // Timers count milliseconds, deadlines nanoseconds.
                    Ok(response) if start.elapsed() <= deadline => response,
                    _ => return Status::deadline_exceeded("context deadline exceeded").into_http(),
                }
            }
        },
    };
    replaced(response).await
}

/// The response, with the message that a handler wants sent instead of the generated one.
async fn replaced(mut response: Response) -> Response {
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

async fn checked(
    limits: &Limits,
    path: &str,
    request: Request,
) -> Result<(Request, HeldBytes), Status> {
    let input = input(limits, path)?;
    let (mut parts, body) = request.into_parts();
    let (frame, held) = read(&limits.bodies, body, limits.message_bytes).await?;
    let message = uncompressed(&frame, limits.message_bytes)?;
    let scan = nesting::scan(&input, &message).map_err(|error| match error {
        nesting::NestingError::TooDeep
        | nesting::NestingError::TooMuch { .. }
        | nesting::NestingError::TooManyParts { .. } => Status::invalid_argument(error.to_string()),
        nesting::NestingError::Malformed => {
            Status::internal(format!("grpc: error unmarshalling request: {error}"))
        }
    })?;
    if let Some(what) = scan.unprintable
        && stores(path)
    {
        return Err(Status::invalid_argument(what.to_string()));
    }
    if scan.has_unknown
        && let Some(request) = RequestWithUnknown::read(input, &message)
    {
        parts.extensions.insert(request);
    }
    parts.headers.remove("grpc-encoding");
    let request = Request::from_parts(parts, Body::from(framed(&message)));
    Ok((request, held))
}

/// Whether a method keeps its message: then everybody who lists what is kept must be able to read it.
fn stores(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    !path.contains(".DataProxyService/")
        && ["Create", "Register", "Update", "Set", "Relaunch", "Recover"]
            .iter()
            .any(|verb| method.starts_with(verb))
}

/// A message with its prefix.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The request message of a method that is served.
fn input(limits: &Limits, path: &str) -> Result<MessageDescriptor, Status> {
    let (service, method) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path, ""));
    let known = limits
        .services
        .contains(service)
        .then(|| descriptors::pool().get_service_by_name(service))
        .flatten()
        .ok_or_else(|| Status::unimplemented(format!("unknown service {service}")))?;
    known
        .methods()
        .find(|known| known.name() == method)
        .map(|known| known.input())
        .ok_or_else(|| {
            Status::unimplemented(format!("unknown method {method} for service {service}"))
        })
}

fn too_large(size: usize, limit: usize) -> Status {
    Status::new(
        Code::ResourceExhausted,
        format!("grpc: received message larger than max ({size} vs. {limit})"),
    )
}

/// Collects the one message of a unary call; one that announces too much is not read.
async fn read(bodies: &BodyBudget, body: Body, limit: usize) -> Result<(Bytes, HeldBytes), Status> {
    let enough = |frame: &[u8]| {
        if let Some(size) = announced(frame)
            && size > limit
        {
            return Err(too_large(size, limit));
        }
        if frame.len() > limit + PREFIX {
            return Err(too_large(frame.len() - PREFIX, limit));
        }
        Ok(())
    };
    bodies.collect(body, enough).await
}

fn announced(frame: &[u8]) -> Option<usize> {
    let length = frame.get(1..PREFIX)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn uncompressed(frame: &Bytes, limit: usize) -> Result<Bytes, Status> {
    let malformed = || Status::internal("grpc: the request is not one message");
    let size = announced(frame).ok_or_else(malformed)?;
    if frame.len() != PREFIX + size {
        return Err(malformed());
    }
    let message = frame.slice(PREFIX..);
    match frame.first() {
        Some(0) => Ok(message),
        Some(1) => {
            let mut plain = Vec::new();
            let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
            flate2::read::GzDecoder::new(message.as_ref())
                .take(most)
                .read_to_end(&mut plain)
                .map_err(|error| {
                    Status::internal(format!("grpc: failed to decompress: {error}"))
                })?;
            if plain.len() > limit {
                return Err(too_large(plain.len(), limit));
            }
            Ok(plain.into())
        }
        _ => Err(malformed()),
    }
}

/// `grpc-timeout`: at most eight digits and a unit.
fn deadline(request: &Request) -> Option<Duration> {
    let text = request.headers().get("grpc-timeout")?.to_str().ok()?;
    parse_timeout(text)
}

/// A gRPC timeout; none if it is malformed.
pub(crate) fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_at_most_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("10S", Some(Duration::from_secs(10))),
            ("1500m", Some(Duration::from_millis(1500))),
            ("zz", None),
            ("10", None),
            ("123456789S", None),
            ("", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }
}
