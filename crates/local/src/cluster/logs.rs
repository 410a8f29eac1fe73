//! The parts of a pod: its log, its binding, its eviction; and those that an embedded node does not have.

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::api::{Call, json_answer, text_answer};
use crate::cluster::api_status::{ApiStatus, StatusCause};
use crate::cluster::causes::Causes;
use crate::cluster::object::text_at;
use crate::cluster::protobuf;
use crate::cluster::request::{Query, Target, Verb};

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
    /// The name of the container whose log is read.
    pub container: String,
    /// The run before the last restart of the container.
    pub previous: bool,
    /// Go on as the log grows, until the container ends.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only lines that were written at this time or later.
    pub since: Option<jiff::Timestamp>,
    /// Before each line the time when it was written, RFC 3339 in nanoseconds, and a space.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The container has not started, or has no earlier run.
    #[error("container {container:?} in pod {pod:?} {why}")]
    NotThere {
        /// The name of the pod.
        pod: String,
        /// The name of the container.
        container: String,
        /// What is the case instead.
        why: &'static str,
    },
    /// Times are asked for, and were not noted when the log was written.
    #[error(
        "the log of container {container:?} in pod {pod:?} has no times: it was written by an earlier version of this \
         program; ask without --timestamps and --since"
    )]
    NoTimes {
        /// The name of the pod.
        pod: String,
        /// The name of the container.
        container: String,
    },
    /// The file cannot be read.
    #[error("the log of container {container:?} in pod {pod:?} cannot be read")]
    Unreadable {
        /// The name of the pod.
        pod: String,
        /// The name of the container.
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
            ("ephemeralcontainers" | "resize", _) => Err(ApiStatus::no_such_part(part)),
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
        let source = self
            .log_source()
            .ok_or_else(|| ApiStatus::not_implemented("pods/log without a kubelet"))?;
        let log = ContainerLog {
            namespace: key.0,
            pod: key.1,
            uid: pod.meta.uid.clone(),
            container,
        };
        log.answer(&*source, &call.query, (self.options().now)())
            .await
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
        self.delete(target, &call).await?;
        let done = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        Ok(json_answer(StatusCode::CREATED, done.to_string()))
    }
}

/// The log of one container.
#[derive(Debug)]
pub(crate) struct ContainerLog {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) container: String,
}

impl ContainerLog {
    /// The part of the log that the parameters of a query name (`PodLogOptions`), as a text that may go on.
    pub(crate) async fn answer(
        self,
        source: &dyn LogSource,
        query: &Query,
        now: jiff::Timestamp,
    ) -> Result<Response<Body>, ApiStatus> {
        let options = LogOptions::read(query, &self.pod, now)?;
        let request = LogRequest {
            namespace: self.namespace,
            pod: self.pod,
            uid: self.uid,
            container: self.container,
            previous: query.flag("previous"),
            follow: query.flag("follow"),
            tail_lines: options.tail_lines,
            since: options.since,
            timestamps: query.flag("timestamps"),
            limit_bytes: options.limit_bytes,
        };
        match source.open(request).await {
            Ok(stream) => Ok(text_answer(Body::from_stream(stream))),
            Err(error @ (LogError::NotThere { .. } | LogError::NoTimes { .. })) => {
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
}

/// The members of `PodLogOptions` that have rules.
#[derive(Debug, PartialEq, Eq)]
struct LogOptions {
    tail_lines: Option<u64>,
    since: Option<jiff::Timestamp>,
    limit_bytes: Option<u64>,
}

impl LogOptions {
    /// Reads them from a query, by the rules and in the words of Kubernetes (`ValidatePodLogOptions`).
    fn read(query: &Query, pod: &str, now: jiff::Timestamp) -> Result<Self, ApiStatus> {
        let mut causes = Causes::default();
        let mut number = |name: &str, least: i64, rule: &str| -> Result<Option<u64>, ApiStatus> {
            let given = query.number::<i64>(name)?;
            if let Some(given) = given.filter(|given| *given < least) {
                causes.push(StatusCause::number(name, given, rule));
            }
            Ok(given.and_then(|given| u64::try_from(given).ok()))
        };
        let tail_lines = number("tailLines", 0, "must be greater than or equal to 0")?;
        let limit_bytes = number("limitBytes", 1, "must be greater than 0")?;
        let since_seconds = number("sinceSeconds", 1, "must be greater than 0")?;
        let since_time = match query.text("sinceTime") {
            "" => None,
            text => Some(text.parse::<jiff::Timestamp>().map_err(|error| {
                ApiStatus::bad_request(format!(
                    "invalid value {text:?} for query parameter sinceTime: {error}"
                ))
            })?),
        };
        if since_seconds.is_some() && since_time.is_some() {
            let rule = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            causes.push(StatusCause::forbidden("", rule));
        }
        if !query.text("stream").is_empty() && query.text("stream") != "All" {
            let rule = "output and errors of a process are one log here: only All is supported";
            causes.push(StatusCause::value("stream", query.text("stream"), rule));
        }
        if !causes.is_empty() {
            return Err(ApiStatus::invalid("", "PodLogOptions", pod, &causes));
        }
        let before = |seconds: u64| {
            let ago = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            now.checked_sub(ago).unwrap_or(jiff::Timestamp::MIN)
        };
        Ok(Self {
            tail_lines,
            since: since_time.or(since_seconds.map(before)),
            limit_bytes,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_logs_have_the_rules_of_kubernetes() {
        let now: jiff::Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let read = |query: &str| LogOptions::read(&Query::parse(Some(query)), "p", now);
        let since = |query: &str| read(query).unwrap().since.unwrap().to_string();
        assert_eq!(since("sinceSeconds=60"), "2026-01-01T00:00:00Z");
        assert_eq!(
            since("sinceTime=2026-01-01T01:00:00%2B01:00"),
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(
            since("sinceSeconds=9223372036854775807"),
            jiff::Timestamp::MIN.to_string()
        );
        let plain = read("tailLines=0&limitBytes=7").unwrap();
        assert_eq!(
            (plain.tail_lines, plain.limit_bytes, plain.since),
            (Some(0), Some(7), None)
        );
        for (query, code, part) in [
            (
                "tailLines=-1",
                422,
                "tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "limitBytes=0",
                422,
                "limitBytes: Invalid value: 0: must be greater than 0",
            ),
            ("sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0"),
            (
                "sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z",
                422,
                "at most one of",
            ),
            ("stream=Stderr", 422, "only All is supported"),
            ("sinceTime=yesterday", 400, "sinceTime"),
            (
                "tailLines=many",
                400,
                "strconv.ParseInt: parsing \"many\": invalid syntax",
            ),
        ] {
            let status = read(query).unwrap_err();
            assert_eq!(status.code, code, "{query}");
            assert!(status.message.contains(part), "{query}: {}", status.message);
        }
    }
}
