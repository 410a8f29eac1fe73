//! The REST gateway: every RPC with a `google.api.http` annotation, transcoded (spec 01 §2 and §3).
//!
//! ```text
//! path + method --routes--> RPC, path variables
//! body or query --fields, codec--> dynamic message --gRPC frame--> the same router that gRPC clients reach
//! answer or status --codec--> JSON or binary
//! ```

mod codec;
mod cors;
mod fields;
mod openapi;
mod paths;
mod routes;

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use bytes::Bytes;
use flyte_idl::{rpc, wire};
use flyte_platform::server::{BodyBudget, HeldBytes, framed, parse_timeout};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tokio::sync::Semaphore;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use codec::Codec;
pub(crate) use cors::Cors;
use routes::{Found, Route, Routes, Variables};

use crate::caller::Caller;

/// JSON is longer than the message it stands for; the message itself is measured afterwards.
const JSON_FACTOR: usize = 8;

/// Bodies over [`LARGE`] bytes that are read from JSON at once: reading takes many times their size for a moment.
const LARGE_AT_ONCE: usize = 4;
const LARGE: usize = 1024 * 1024;

/// The gateway's state.
#[derive(Clone)]
pub(crate) struct Gateway {
    routes: Arc<Routes>,
    /// The description of the routes, made when it is first asked for.
    openapi: Arc<OnceLock<Bytes>>,
    grpc: Router,
    cors: Option<Arc<Cors>>,
    body_bytes: usize,
    bodies: BodyBudget,
    large: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway to `grpc` for messages of at most `message_bytes`.
    pub(crate) fn new(
        grpc: Router,
        cors: Option<Cors>,
        message_bytes: usize,
        bodies: BodyBudget,
    ) -> Self {
        Self {
            routes: Arc::new(Routes::from_descriptors()),
            openapi: Arc::default(),
            grpc,
            cors: cors.map(Arc::new),
            body_bytes: message_bytes.saturating_mul(JSON_FACTOR),
            bodies,
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        }
    }

    /// The router of everything that is not gRPC.
    pub(crate) fn into_router(self) -> Router {
        Router::new()
            .route("/healthcheck", any(|| async {}))
            .route("/api/v1/openapi", any(openapi))
            .fallback(serve)
            .with_state(self)
    }
}

/// The reference names no content type, and its server takes the document for text.
async fn openapi(State(gateway): State<Gateway>) -> Response {
    let document = gateway
        .openapi
        .get_or_init(|| openapi::document(&gateway.routes).into());
    plain(StatusCode::OK, document.clone())
}

async fn serve(State(gateway): State<Gateway>, request: Request) -> Response {
    let cors = gateway.cors.clone();
    let Some(cors) = cors else {
        return transcode(&gateway, request).await;
    };
    if let Some(response) = cors.preflight(request.method(), request.headers()) {
        return response;
    }
    let headers = cors.response_headers(request.headers());
    let mut response = transcode(&gateway, request).await;
    response.headers_mut().extend(headers);
    response
}

async fn transcode(gateway: &Gateway, request: Request) -> Response {
    let path = request.uri().path();
    if !paths::is_well_formed(path) {
        return plain(StatusCode::BAD_REQUEST, "400 Bad Request");
    }
    if let Some(clean) = paths::cleaned(path) {
        return redirect(&clean, request.uri().query());
    }
    let inbound = Codec::inbound(request.headers());
    let outbound = Codec::outbound(request.headers()).unwrap_or(inbound);
    match answer(gateway, request, inbound).await {
        Ok((output, message)) => success(outbound, &output, &message),
        Err(status) => failure(outbound, &status),
    }
}

async fn answer(
    gateway: &Gateway,
    request: Request,
    inbound: Codec,
) -> Result<(MessageDescriptor, Bytes), Status> {
    let (parts, body) = request.into_parts();
    let form = is_form(&parts.headers) && parts.method == Method::POST;
    let segments = paths::segments(parts.uri.path())?;
    let found = gateway.routes.find(&parts.method, &segments, form);
    let (route, variables) = match found {
        Found::Route(route, variables) => (route, variables),
        Found::OtherMethod => return Err(Status::unimplemented("Method Not Allowed")),
        Found::Nothing => return Err(Status::not_found("Not Found")),
    };
    let metadata = metadata(&parts.headers)?;
    let (body, _held) = if route.whole_body || form {
        read_body(&gateway.bodies, body, gateway.body_bytes).await?
    } else {
        (Bytes::new(), HeldBytes::default())
    };
    // Held while the message is in memory as a tree, which is not while the call runs.
    let permit = if body.len() > LARGE {
        gateway.large.acquire().await.ok()
    } else {
        None
    };
    let bytes = if inbound == Codec::Binary && route.whole_body {
        // They may have fields that we do not know, and their nesting has been measured.
        DynamicMessage::encode_to_vec
    } else {
        wire::encode
    };
    let message = encoded(&variables, bytes, || {
        if route.whole_body {
            return inbound.decode(&route.input, &body);
        }
        let mut message = DynamicMessage::new(route.input.clone());
        let of_form = String::from_utf8_lossy(&body);
        let query = if form {
            of_form.as_ref()
        } else {
            parts.uri.query().unwrap_or_default()
        };
        fields::apply_query(&mut message, query, &variables)?;
        Ok(message)
    })?;
    drop(permit);
    drop(body);
    let caller = parts.extensions.get::<Caller>().cloned();
    let answer = call(gateway, route, &message, metadata, caller).await?;
    Ok((route.output.clone(), answer))
}

/// The request's message as bytes, with what the path sets.
fn encoded(
    variables: &Variables,
    bytes: fn(&DynamicMessage) -> Vec<u8>,
    read: impl FnOnce() -> Result<DynamicMessage, Status>,
) -> Result<Vec<u8>, Status> {
    fields::apply_path(read()?, variables).map(|message| bytes(&message))
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"))
}

async fn read_body(
    bodies: &BodyBudget,
    body: Body,
    limit: usize,
) -> Result<(Bytes, HeldBytes), Status> {
    let enough = |bytes: &[u8]| {
        if bytes.len() > limit {
            return Err(Status::resource_exhausted(format!(
                "the body is larger than {limit} bytes"
            )));
        }
        Ok(())
    };
    bodies.collect(body, enough).await
}

/// Metadata that the request's headers become (spec 01 §3, header mapping).
fn metadata(headers: &HeaderMap) -> Result<HeaderMap, Status> {
    const PERMANENT: [&str; 21] = [
        "accept",
        "accept-charset",
        "accept-language",
        "accept-ranges",
        "authorization",
        "cache-control",
        "cookie",
        "date",
        "expect",
        "from",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-schedule-tag-match",
        "if-unmodified-since",
        "max-forwards",
        "origin",
        "pragma",
        "referer",
        "user-agent",
        "via",
    ];
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let text = name.as_str();
        match text {
            "authorization" | "x-request-id" => {
                metadata.append(name.clone(), value.clone());
            }
            "host" => {
                metadata.append(HeaderName::from_static("x-forwarded-host"), value.clone());
            }
            "grpc-timeout" => {
                let timeout = value.to_str().unwrap_or_default();
                if parse_timeout(timeout).is_none() {
                    return Err(Status::invalid_argument(format!(
                        "invalid grpc-timeout: {timeout}"
                    )));
                }
                metadata.append(name.clone(), value.clone());
            }
            _ => {}
        }
        let mapped = match text.strip_prefix("grpc-metadata-") {
            Some(rest) => {
                if rest.ends_with("-bin") {
                    require_base64(text, value)?;
                }
                Some(rest.to_owned())
            }
            None if PERMANENT.contains(&text) => Some(format!("grpcgateway-{text}")),
            None => None,
        };
        // Names that gRPC itself uses are not for clients to set.
        if let Some(mapped) = mapped
            && !matches!(mapped.as_str(), "content-type" | "te" | "grpc-timeout")
            && let Ok(mapped) = HeaderName::try_from(mapped)
        {
            metadata.append(mapped, value.clone());
        }
    }
    Ok(metadata)
}

fn require_base64(name: &str, value: &HeaderValue) -> Result<(), Status> {
    use base64::Engine as _;
    let text = value.to_str().unwrap_or_default().trim_end_matches('=');
    let engine = base64::prelude::BASE64_STANDARD_NO_PAD;
    let Err(error) = engine.decode(text) else {
        return Ok(());
    };
    let place = match error {
        base64::DecodeError::InvalidByte(place, _) => place,
        _ => text.len(),
    };
    let shown: Vec<String> = name
        .split('-')
        .map(|part| {
            let mut letters = part.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
                .unwrap_or_default()
        })
        .collect();
    Err(Status::invalid_argument(format!(
        "invalid binary header {}: illegal base64 data at input byte {place}",
        shown.join("-")
    )))
}

/// Runs the RPC through the router that gRPC clients reach, layers included.
async fn call(
    gateway: &Gateway,
    route: &Route,
    message: &[u8],
    metadata: HeaderMap,
    caller: Option<Caller>,
) -> Result<Bytes, Status> {
    let mut request = Request::new(Body::from(framed(message)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = route
        .rpc
        .parse()
        .map_err(|_invalid| Status::internal("the RPC has no path"))?;
    *request.headers_mut() = metadata;
    request.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    request
        .headers_mut()
        .insert(header::TE, HeaderValue::from_static("trailers"));
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let response = match gateway.grpc.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let collected = response
        .into_body()
        .collect()
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    if let Some(status) = collected.trailers().and_then(Status::from_header_map)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let frame = collected.to_bytes();
    if frame.len() < 5 {
        return Err(Status::internal("the answer has no message"));
    }
    Ok(frame.slice(5..))
}

fn success(codec: Codec, output: &MessageDescriptor, message: &Bytes) -> Response {
    let body = match codec {
        Codec::Binary => Ok(message.to_vec()),
        Codec::ProtoNames | Codec::JsonNames => {
            DynamicMessage::decode(output.clone(), message.as_ref())
                .map_err(|error| Status::internal(error.to_string()))
                .and_then(|message| codec.encode(&message))
        }
    };
    match body {
        Ok(body) => {
            let mut response = reply(StatusCode::OK, codec, body);
            response.headers_mut().insert(
                HeaderName::from_static("grpc-metadata-content-type"),
                HeaderValue::from_static("application/grpc"),
            );
            response
        }
        Err(status) => failure(codec, &status),
    }
}

/// The body is a `google.rpc.Status` (spec 01 §4.1).
fn failure(codec: Codec, status: &Status) -> Response {
    let mut message = rpc::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    };
    if let Ok(detailed) = rpc::Status::decode(status.details()) {
        message.details = detailed.details;
    }
    let body = codec
        .encode(&flyte_idl::descriptors::dynamic(&message))
        .unwrap_or_default();
    let mut response = reply(http_status(status.code()), codec, body);
    if status.code() == Code::Unauthenticated
        && let Ok(value) = HeaderValue::from_str(status.message())
    {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

fn reply(status: StatusCode, codec: Codec, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(codec.content_type()),
    );
    response
}

fn plain(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn redirect(path: &str, query: Option<&str>) -> Response {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(value) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
