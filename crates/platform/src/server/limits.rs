//! What a request must obey before its message is decoded: size, nesting, deadline, and that somebody
//! serves it (spec 01 §1.2, design "Servers").
//!
//! The message is taken from the wire here, uncompressed here, and handed on plain, so that nothing decodes
//! bytes that have not been counted and scanned.

use std::{collections::BTreeSet, io::Read as _, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::{BufMut as _, Bytes, BytesMut};
use flyte_idl::{
    descriptors,
    nesting::{self, Scan},
};
use http::Extensions;
use prost_reflect::MessageDescriptor;
use tonic::{Code, Status};

use super::{
    body_budget::{BodyBudget, HeldBytes},
    status,
};

/// Flag byte and length of a gRPC message.
const PREFIX: usize = 5;

/// What requests are measured by.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest message in bytes.
    pub message_bytes: usize,
    /// Full names of the services that are served with generated messages.
    pub services: Arc<BTreeSet<String>>,
    /// What the bodies of all requests take.
    pub bodies: BodyBudget,
    /// What a service asks besides.
    pub inspect: Inspect,
}

/// A message that is within the limits, before it is decoded.
#[derive(Clone, Debug)]
pub struct Measured<'a> {
    /// The path of its call, `/<service>/<method>`.
    pub path: &'a str,
    /// What it is.
    pub descriptor: MessageDescriptor,
    /// Its bytes.
    pub bytes: Bytes,
    /// What is known from the scan that measured its nesting.
    pub scan: Scan,
}

/// Looks at a message before it is decoded: refuses it, or leaves something for its handler in the extensions of the
/// request.
pub type Inspect = fn(Measured<'_>, &mut Extensions) -> Result<(), Status>;

impl Limits {
    /// `router`, behind these limits.
    pub fn around(self, router: Router) -> Router {
        router.layer(axum::middleware::from_fn_with_state(self, enforce))
    }
}

/// An [`Inspect`] for services that take every message which is within the limits.
///
/// # Errors
/// None.
pub fn accept_all(_: Measured<'_>, _: &mut Extensions) -> Result<(), Status> {
    Ok(())
}

/// Refuses gRPC calls that are larger than the limits, and ends the others at their deadlines.
async fn enforce(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    // Health and reflection have their own codecs and stream.
    if path.starts_with("/grpc.") {
        return next.run(request).await;
    }
    match checked(&limits, &path, request).await {
        // It may name the path, which the client chose.
        Err(refused) => {
            status::of_message(refused.code(), refused.message().to_owned()).into_http()
        }
        Ok((request, _held)) => match deadline(&request) {
            None => next.run(request).await,
            Some(deadline) => {
                let start = tokio::time::Instant::now();
                match tokio::time::timeout(deadline, next.run(request)).await {
                    // Timers count milliseconds, deadlines nanoseconds.
                    Ok(response) if start.elapsed() <= deadline => response,
                    _ => Status::deadline_exceeded("context deadline exceeded").into_http(),
                }
            }
        },
    }
}

async fn checked(
    limits: &Limits,
    path: &str,
    request: Request,
) -> Result<(Request, HeldBytes), Status> {
    let descriptor = input(limits, path)?;
    let (mut parts, body) = request.into_parts();
    let (frame, held) = read(&limits.bodies, body, limits.message_bytes).await?;
    let bytes = uncompressed(&frame, limits.message_bytes)?;
    let scan = nesting::scan(&descriptor, &bytes).map_err(|error| match error {
        nesting::NestingError::TooDeep
        | nesting::NestingError::TooMuch { .. }
        | nesting::NestingError::TooManyParts { .. } => Status::invalid_argument(error.to_string()),
        nesting::NestingError::Malformed => {
            Status::internal(format!("grpc: error unmarshalling request: {error}"))
        }
    })?;
    let measured = Measured {
        path,
        descriptor,
        bytes: bytes.clone(),
        scan,
    };
    (limits.inspect)(measured, &mut parts.extensions)?;
    parts.headers.remove("grpc-encoding");
    let request = Request::from_parts(parts, Body::from(framed(&bytes)));
    Ok((request, held))
}

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Bytes {
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
pub fn parse_timeout(text: &str) -> Option<Duration> {
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
