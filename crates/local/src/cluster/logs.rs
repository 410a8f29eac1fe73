//! The parts of a pod: its log, its binding, its eviction; and those that an embedded node does not have.

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::Response;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::api::{Call, text_answer};
use crate::cluster::api_status::ApiStatus;
use crate::cluster::object::text_at;
use crate::cluster::protobuf;
use crate::cluster::request::{Target, Verb};

/// Bytes of a log as they come.
pub type LogStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Which part of which log is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// `metadata.uid` of the pod; pods of one name follow each other.
    pub uid: String,
    /// The container.
    pub container: String,
    /// The run before the last restart of the container.
    pub previous: bool,
    /// Go on as the log grows, until the container ends.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only what was written in so many seconds before now.
    pub since_seconds: Option<u64>,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The container has not started, or has no earlier run.
    #[error("container {container:?} in pod {pod:?} {why}")]
    NotThere {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// What is the case instead.
        why: &'static str,
    },
    /// The file cannot be read.
    #[error("the log of container {container:?} in pod {pod:?} cannot be read")]
    Unreadable {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
}

/// Gives the logs of pods; a kubelet is one.
pub trait LogSource: Send + Sync {
    /// Opens a log. A followed one ends with its container.
    fn open(&self, request: LogRequest) -> BoxFuture<'_, Result<LogStream, LogError>>;
}

impl Cluster {
    pub(crate) async fn pod_subresource(
        &self,
        part: &str,
        verb: Verb,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, ApiStatus> {
        match (part, verb) {
            ("log", Verb::Get) => self.pod_log(target, call).await,
            ("binding", Verb::Create) => self.bind(target, call).await,
            ("eviction", Verb::Create) => self.evict(target, call).await,
            ("exec" | "attach" | "portforward" | "proxy", _) => {
                Err(ApiStatus::not_implemented(&format!("pods/{part}")))
            }
            ("log" | "binding" | "eviction", _) => Err(ApiStatus::method_not_allowed()),
            _ => Err(ApiStatus::no_such_path()),
        }
    }

    async fn pod_log(&self, target: &Target, call: &Call) -> Result<Response<Body>, ApiStatus> {
        let key = target.key()?;
        let found = self.model().get(&target.resource.id, &key).cloned();
        let pod = found.ok_or_else(|| target.not_found(&key.1))?;
        let value = pod.value()?;
        let names = container_names(&value);
        let container = match call.query.text("container") {
            "" => match names.as_slice() {
                [only] => only.clone(),
                many => {
                    let message = format!(
                        "a container name must be specified for pod {}, choose one of: [{}]",
                        key.1,
                        many.join(" ")
                    );
                    return Err(ApiStatus::bad_request(message));
                }
            },
            given if names.iter().any(|name| name == given) => given.to_owned(),
            given => {
                return Err(ApiStatus::bad_request(format!(
                    "container {given} is not valid for pod {}",
                    key.1
                )));
            }
        };
        let request = LogRequest {
            namespace: key.0,
            pod: key.1,
            uid: pod.meta.uid.clone(),
            container,
            previous: call.query.flag("previous"),
            follow: call.query.flag("follow"),
            tail_lines: call.query.number("tailLines")?,
            since_seconds: call.query.number("sinceSeconds")?,
            limit_bytes: call.query.number("limitBytes")?,
        };
        let source = self
            .log_source()
            .ok_or_else(|| ApiStatus::not_implemented("pods/log without a kubelet"))?;
        match source.open(request).await {
            Ok(stream) => Ok(text_answer(Body::from_stream(stream))),
            Err(error @ LogError::NotThere { .. }) => {
                Err(ApiStatus::bad_request(error.to_string()))
            }
            Err(LogError::Unreadable {
                pod,
                container,
                source,
            }) => {
                tracing::warn!(pod, container, error = %source, "a log cannot be read");
                Err(ApiStatus::internal(format!(
                    "the log of container {container} in pod {pod} cannot be read"
                )))
            }
        }
    }

    /// An eviction deletes the pod: no disruption budget is kept on one machine.
    async fn evict(&self, target: &Target, call: &Call) -> Result<Response<Body>, ApiStatus> {
        let eviction = call.value("the eviction", protobuf::eviction)?;
        let options = eviction.get("deleteOptions").cloned().unwrap_or_default();
        let body = if options.is_null() {
            Bytes::new()
        } else {
            options.to_string().into()
        };
        // The options are JSON now, whatever the eviction was.
        let mut headers = call.headers.clone();
        headers.remove(http::header::CONTENT_TYPE);
        let call = Call {
            method: call.method.clone(),
            headers,
            query: call.query.clone(),
            body,
        };
        self.delete(target, &call).await
    }
}

/// The containers of a pod, init containers last: the order in which an API server lists them to choose from.
fn container_names(pod: &Value) -> Vec<String> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod
            .pointer(&format!("/spec/{list}"))
            .and_then(Value::as_array);
        containers
            .into_iter()
            .flatten()
            .map(|container| text_at(container, "/name").to_owned())
            .collect()
    };
    [names("containers"), names("initContainers")].concat()
}
