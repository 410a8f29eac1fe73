//! The front of the API: a tower service that reads a request, dispatches it and writes the answer.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::arriving::Late;
use crate::cluster::Cluster;
use crate::cluster::api_status::ApiStatus;
use crate::cluster::options;
use crate::cluster::patch::APPLY_MEDIA_TYPE;
use crate::cluster::protobuf::{self, ProtobufError};
use crate::cluster::request::{Form, Path, Query, Target, Verb, negotiate, parse_path};

/// kube-apiserver's limit on request bodies.
const BODY_BYTES: usize = 3 << 20;
/// Bodies larger than this take milliseconds of work.
const LARGE: usize = 128 << 10;

/// The Kubernetes API as a tower service. Refusals are answers, so it never fails.
#[derive(Debug, Clone)]
pub struct ApiService {
    cluster: Cluster,
    /// Whether what is large is worked on by threads that nothing else waits for.
    aside: bool,
}

impl ApiService {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            aside: false,
        }
    }

    /// For clients that nobody knows: their large requests and their patches do not keep the runtime's threads from others.
    pub(crate) fn aside(self) -> Self {
        Self {
            aside: true,
            ..self
        }
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { cluster, aside } = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let answer = match read_body(body).await {
                Ok(body) => {
                    // A small patch may be of a large object.
                    let large = body.len() > LARGE || parts.method == Method::PATCH;
                    let aside = aside && large;
                    let call = Call {
                        query: Query::parse(parts.uri.query()),
                        method: parts.method,
                        headers: parts.headers,
                        body,
                    };
                    let answer = async move { answer(&cluster, parts.uri.path(), call).await };
                    if aside {
                        on_a_thread(answer).await
                    } else {
                        answer.await
                    }
                }
                Err(refusal) => Err(refusal),
            };
            Ok(answer.unwrap_or_else(|refusal| error_response(&refusal)))
        })
    }
}

/// Answers on a thread of its own, from which the runtime takes nothing but what is waited for.
async fn on_a_thread<T: Send + 'static>(
    answer: impl Future<Output = Result<T, ApiStatus>> + Send + 'static,
) -> Result<T, ApiStatus> {
    let runtime = tokio::runtime::Handle::current();
    let answered = tokio::task::spawn_blocking(move || runtime.block_on(answer)).await;
    answered.unwrap_or_else(|error| Err(ApiStatus::internal(error.to_string())))
}

/// A request without its path.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Query,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn form(&self) -> Result<Form, ApiStatus> {
        negotiate(&self.headers)
    }

    /// Media type of the body without its parameters.
    pub(crate) fn content_type(&self) -> &str {
        let given = self
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        given.split(';').next().unwrap_or_default().trim()
    }

    /// The body as JSON, whatever form it has; `from_protobuf` reads one of them. An empty one is `null`.
    pub(crate) fn value(
        &self,
        what: &str,
        from_protobuf: fn(&[u8]) -> Result<Value, ProtobufError>,
    ) -> Result<Value, ApiStatus> {
        let unreadable = |error: &dyn std::fmt::Display| {
            ApiStatus::bad_request(format!("{what} cannot be read: {error}"))
        };
        if self.body.is_empty() {
            Ok(Value::Null)
        } else if self.content_type() == protobuf::MEDIA_TYPE {
            from_protobuf(&self.body).map_err(|error| unreadable(&error))
        } else {
            serde_json::from_slice(&self.body).map_err(|error| unreadable(&error))
        }
    }

    /// Who writes, for `managedFields`: the given manager, else the user agent's first word.
    pub(crate) fn manager(&self) -> String {
        match self.query.text("fieldManager") {
            "" => {
                let agent = self
                    .headers
                    .get(header::USER_AGENT)
                    .and_then(|value| value.to_str().ok());
                let word = agent
                    .unwrap_or("unknown")
                    .split('/')
                    .next()
                    .unwrap_or("unknown");
                word.to_owned()
            }
            given => given.to_owned(),
        }
    }
}

async fn read_body<B>(body: B) -> Result<Bytes, ApiStatus>
where
    B: http_body::Body,
    B::Error: Into<axum::BoxError>,
{
    match Limited::new(body, BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiStatus::body_too_large(BODY_BYTES)),
        Err(error) if let Some(late) = Late::find(&*error) => {
            Err(ApiStatus::new(408, "Timeout", late.to_string()))
        }
        Err(error) => Err(ApiStatus::bad_request(format!(
            "the body of the request cannot be read: {error}"
        ))),
    }
}

async fn answer(cluster: &Cluster, path: &str, call: Call) -> Result<Response<Body>, ApiStatus> {
    let registry = cluster.model().registry.clone();
    let target = match parse_path(path, &registry)? {
        Path::Resource(target) => target,
        Path::Other(segments) => return cluster.other(&segments, &call),
    };
    let verb = Verb::of(&call.method, &target)?;
    let is_apply = call.content_type() == APPLY_MEDIA_TYPE;
    options::check(&call.query, verb, is_apply)?;
    match target.subresource.as_deref() {
        None => cluster.object(verb, target, call).await,
        Some("status") if target.resource.status => match verb {
            Verb::Get | Verb::Update | Verb::Patch => cluster.object(verb, target, call).await,
            _ => Err(ApiStatus::method_not_allowed()),
        },
        Some("finalize") if target.resource.plural == "namespaces" && verb == Verb::Update => {
            cluster.object(verb, target, call).await
        }
        Some(part) if target.resource.is_pod() => {
            cluster.pod_subresource(part, verb, &target, &call).await
        }
        Some(_) => Err(match &target.name {
            // Kubernetes serves custom resources by other code, which has other words for it.
            Some(name) if target.resource.custom => target.not_found(name),
            _ => ApiStatus::no_such_path(),
        }),
    }
}

impl Cluster {
    async fn object(
        &self,
        verb: Verb,
        target: Target,
        call: Call,
    ) -> Result<Response<Body>, ApiStatus> {
        match verb {
            Verb::Get => self.get(&target, &call).await,
            Verb::List if call.query.flag("watch") => self.watch(&target, &call),
            Verb::List => self.list(&target, &call).await,
            Verb::Create => self.create(&target, &call).await,
            Verb::Update => self.update(&target, &call).await,
            Verb::Patch => self.patch(&target, &call).await,
            Verb::Delete => self.delete(&target, &call).await,
            Verb::DeleteCollection => self.delete_collection(&target, &call).await,
        }
    }
}

/// A JSON answer.
pub(crate) fn json_answer(code: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// A plain text answer.
pub(crate) fn text_answer(text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// The answer to a request that was refused.
pub(crate) fn error_response(refusal: &ApiStatus) -> Response<Body> {
    let code = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_answer(code, refusal.to_bytes())
}
