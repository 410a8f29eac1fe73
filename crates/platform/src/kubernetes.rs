//! Clients of Kubernetes API servers.

mod rate;

use std::{path::Path, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config,
    api::PostParams,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tower::{Layer as _, ServiceBuilder, timeout::TimeoutLayer};

use crate::{Backoff, Chain, config};
use rate::RateLayer;

/// How long an answer may take to begin, unless it is configured. That of a watch begins at once.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a connection may be silent in the middle of an answer. A watch is not for longer than a minute, after which an API
/// server sends a bookmark; of one that sends none, watches begin anew where they stood. Without it, a connection that a
/// router has forgotten would be waited on for ever.
const SILENCE: Duration = Duration::from_secs(150);

/// The reason of Kubernetes' answers about an object that does not exist.
const NOT_FOUND: &str = "NotFound";
/// How long the creation of a definition is tried.
const DEFINE_WITHIN: Duration = Duration::from_secs(120);
/// Waits between those tries.
const DEFINE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// No client can be made.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The kubeconfig file cannot be used.
    #[error("kubeconfig {path:?} cannot be used")]
    Kubeconfig {
        /// The file, variables expanded.
        path: String,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// Neither a service account nor a kubeconfig was found.
    #[error(
        "no Kubernetes API server is configured: name a kubeconfig in server.kube-config (flyteadmin) or \
         propeller.kube-config, or in the variable KUBECONFIG, or run inside a cluster"
    )]
    NotFound,
    /// The address that overrides the kubeconfig's is none.
    #[error(
        "the address {url:?} of the Kubernetes API (server.master, propeller.master, --master) is no URL"
    )]
    Master {
        /// What was given.
        url: String,
        /// Why not.
        source: http::uri::InvalidUri,
    },
    /// The client cannot be built.
    #[error("the client of the Kubernetes API cannot be built")]
    Client(#[source] Box<kube::Error>),
}

/// How requests to a Kubernetes API server are paced (client-go's `rest.Config`; spec 03 §3.1).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubeClientConfig {
    /// Requests a second, once the burst is used up; more wait. 0 is 5, as in client-go; a negative number is no limit,
    /// which is the default: API servers have fairness of their own.
    pub qps: f64,
    /// Requests at once that need not wait. 0 is 10, as in client-go.
    pub burst: u32,
    /// How long the answer to a request may take to begin, after what it waited for its turn; 0 is a minute.
    pub timeout: config::Duration,
}

impl Default for KubeClientConfig {
    fn default() -> Self {
        Self {
            qps: -1.0,
            burst: 25,
            timeout: config::Duration::seconds(30),
        }
    }
}

impl KubeClientConfig {
    fn rate(&self) -> Option<RateLayer> {
        let qps = if self.qps == 0.0 { 5.0 } else { self.qps };
        let burst = if self.burst == 0 { 10 } else { self.burst };
        (qps > 0.0).then(|| RateLayer::new(qps, burst))
    }

    fn answer(&self) -> Duration {
        if self.timeout.is_zero() {
            ANSWER
        } else {
            self.timeout.to_std()
        }
    }
}

/// Which API server, and how it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// A kubeconfig file (`$VAR` and `${VAR}` are expanded); empty takes the service account of the pod, then
    /// `KUBECONFIG` and `~/.kube/config`.
    pub kube_config: &'a str,
    /// URL of the API server instead of the one that is named there; empty keeps that.
    pub master: &'a str,
    /// How fast.
    pub pace: &'a KubeClientConfig,
}

/// A client of `server`; `variables` has those in its path.
///
/// # Errors
/// The kubeconfig cannot be used, or there is none.
pub async fn client(
    server: Server<'_>,
    variables: impl Fn(&str) -> Option<String>,
) -> Result<Client, KubernetesError> {
    crate::tls::install_crypto_provider();
    let mut config = if server.kube_config.is_empty() {
        Config::infer().await.map_err(|error| {
            // It says twice for each place that there is nothing.
            tracing::debug!(%error, "no cluster");
            KubernetesError::NotFound
        })?
    } else {
        let path = expand(server.kube_config, variables);
        let wrong = |error| KubernetesError::Kubeconfig {
            path: path.clone(),
            source: Box::new(error),
        };
        let parsed = Kubeconfig::read_from(Path::new(&path)).map_err(wrong)?;
        Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
            .await
            .map_err(wrong)?
    };
    if !server.master.is_empty() {
        config.cluster_url = server
            .master
            .parse()
            .map_err(|source| KubernetesError::Master {
                url: server.master.to_owned(),
                source,
            })?;
    }
    config.read_timeout = Some(SILENCE);
    config.write_timeout = Some(ANSWER);
    // The time that a pooled connection was idle does not count.
    config.reset_reader_on_write = true;
    let builder = ClientBuilder::try_from(config)
        .map_err(|error| KubernetesError::Client(Box::new(error)))?;
    Ok(paced(builder.build(), server.pace))
}

/// The same client at the pace that is configured.
pub fn paced(client: Client, pace: &KubeClientConfig) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = ServiceBuilder::new()
        .option_layer(pace.rate())
        .layer(TimeoutLayer::new(pace.answer()))
        .service(tower::service_fn(move |request| {
            let client = client.clone();
            async move { client.send(request).await }
        }));
    Client::new(service, namespace)
}

/// The same client, for which an answer that does not begin within a minute is an error. kube's own waits for ever.
pub fn with_timeout(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let send = tower::service_fn(move |request| {
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(TimeoutLayer::new(ANSWER).layer(send), namespace)
}

/// Has the API server know a custom resource. A definition that is there already stays as it is: an operator may have
/// changed it. An API server that does not answer, or says that it cannot now, is asked again for two minutes.
///
/// # Errors
/// It refuses, or does not answer for that long.
pub async fn define(
    client: Client,
    definition: &CustomResourceDefinition,
) -> Result<(), kube::Error> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    let deadline = Instant::now() + DEFINE_WITHIN;
    for tries in 1.. {
        let error = match definitions.create(&PostParams::default(), definition).await {
            Ok(_) => break,
            Err(kube::Error::Api(status)) if status.is_already_exists() => break,
            Err(error) => error,
        };
        let wait = DEFINE_BACKOFF.wait(tries, rand::random());
        if !may_pass(&error) || Instant::now() + wait > deadline {
            return Err(error);
        }
        tracing::warn!(error = %Chain(&error), ?wait, "a definition cannot be created, trying again");
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

/// What a request for one object was answered with; none when the API server itself says that there is no such object. A
/// 404 without that reason comes from something else: a proxy between, or an API server that does not have the kind
/// (any more). It says nothing about the object and stays an error.
///
/// # Errors
/// All others.
pub fn found<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 404 && status.reason == NOT_FOUND => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the API server has not said what becomes of a request: it could not be reached, had no time or no room, or its
/// answer was lost. What was asked for may have happened.
pub fn is_away(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            matches!(status.code, 408 | 429 | 502..=504 | 507)
                || matches!(
                    status.reason.as_str(),
                    "Timeout" | "ServerTimeout" | "TooManyRequests"
                )
        }
        // It was not even sent.
        kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => false,
        _ => true,
    }
}

/// Whether another try may end otherwise.
fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::Service(_) | kube::Error::HyperError(_) => true,
        _ => false,
    }
}

fn expand(text: &str, variables: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, tail) = match after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
        {
            Some(pair) => pair,
            None => {
                let end = after
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .unwrap_or(after.len());
                after.split_at(end)
            }
        };
        expanded.push_str(&variables(name).unwrap_or_default());
        rest = tail;
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// Tries to define something at an API server that answers like this, a connection that breaks being none.
    async fn defined(answers: &'static [Option<u16>]) -> (Result<(), kube::Error>, usize) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let count = counted.fetch_add(1, Ordering::Relaxed);
            let answer = answers.get(count).or(answers.last()).copied().flatten();
            async move {
                let Some(code) = answer else {
                    return Err("the connection broke");
                };
                let reason = match code {
                    409 => "AlreadyExists",
                    _ => "Whatever",
                };
                let body = serde_json::json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "", "reason": reason,
                    "code": code,
                });
                let body = Body::from(body.to_string().into_bytes());
                Ok(Response::builder().status(code).body(body).unwrap())
            }
        });
        let client = Client::new(service, "default");
        let ended = define(client, &CustomResourceDefinition::default()).await;
        (ended, asked.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_definition_is_asked_for_until_there_is_an_answer() {
        let (ended, asked) = defined(&[None, Some(500), Some(429), Some(409)]).await;
        assert!(ended.is_ok() && asked == 4, "{ended:?} after {asked}");
        let (ended, asked) = defined(&[Some(403)]).await;
        assert!(ended.is_err() && asked == 1, "{ended:?} after {asked}");
        let began = Instant::now();
        let (ended, asked) = defined(&[None]).await;
        assert!(ended.is_err() && asked > 10, "{ended:?} after {asked}");
        assert!(began.elapsed() <= DEFINE_WITHIN);
    }

    /// Answers of a router, of an API server without the kind, and of one without the object.
    #[tokio::test]
    async fn only_the_api_server_says_that_there_is_no_such_object() {
        let none = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"a\" not found",
            "reason":"NotFound","details":{"name":"a","kind":"pods"},"code":404}"#;
        let bare = r#"{"kind":"Status","status":"Failure","message":"no route","code":404}"#;
        for (body, expected) in [
            (none, Some(None)),
            (bare, None),
            ("404 page not found\n", None),
            ("<html><title>404 Not Found</title></html>", None),
            ("", None),
        ] {
            let service = tower::service_fn(move |_: Request<Body>| async move {
                let body = Body::from(body.as_bytes().to_vec());
                let answer = Response::builder().status(404).body(body).unwrap();
                Ok::<_, std::convert::Infallible>(answer)
            });
            let definitions: Api<CustomResourceDefinition> =
                Api::all(Client::new(service, "default"));
            let answered = found(definitions.get("a").await);
            assert_eq!(answered.ok(), expected, "{body:?}");
        }
    }

    #[test]
    fn who_has_not_said_anything_is_away() {
        let said = |code: u16, reason: &str| {
            let status = kube::core::Status::failure("m", reason).with_code(code);
            kube::Error::Api(status.boxed())
        };
        let unsent = http::Request::get("http://a b").body(()).unwrap_err();
        for (case, error, expected) in [
            ("refused", said(403, "Forbidden"), false),
            ("a webhook fails", said(500, "InternalError"), false),
            ("an answer that took too long", said(500, "Timeout"), true),
            ("too many", said(429, "TooManyRequests"), true),
            ("a proxy without a server", said(503, ""), true),
            ("no room", said(507, ""), true),
            (
                "a connection that broke",
                kube::Error::Service("broken".into()),
                true,
            ),
            (
                "a request that cannot be sent",
                kube::Error::HttpError(unsent),
                false,
            ),
        ] {
            assert_eq!(is_away(&error), expected, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_keep_the_pace_that_is_configured() {
        for (case, qps, burst, expected) in [
            ("no burst but one", 10.0, 1, 1_900),
            ("half of them are a burst", 10.0, 10, 1_000),
            ("client-go's default", 0.0, 0, 2_000),
            ("no limit", -1.0, 1, 0),
        ] {
            let answers = tower::service_fn(async |_: Request<Body>| {
                Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
            });
            let pace = KubeClientConfig {
                qps,
                burst,
                ..KubeClientConfig::default()
            };
            let client = paced(Client::new(answers, "default"), &pace);
            let began = Instant::now();
            let calls = (0..20).map(|_| client.send(Request::new(Body::empty())));
            futures::future::try_join_all(calls).await.unwrap();
            let took = began.elapsed().as_millis();
            assert!(took.abs_diff(expected) < 10, "{case}: {took} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_begin_is_given_up_when_it_is_configured() {
        for (configured, expected) in [(0, 60), (7, 7)] {
            let silent = tower::service_fn(|_: Request<Body>| {
                std::future::pending::<Result<Response<Body>, std::convert::Infallible>>()
            });
            let pace = KubeClientConfig {
                timeout: config::Duration::seconds(configured),
                ..KubeClientConfig::default()
            };
            let client = paced(Client::new(silent, "default"), &pace);
            let began = Instant::now();
            client.send(Request::new(Body::empty())).await.unwrap_err();
            assert_eq!(began.elapsed().as_secs(), expected);
        }
    }

    #[test]
    fn variables_in_paths_are_expanded() {
        let variables = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        for (text, expected) in [
            ("$HOME/.flyte/kubeconfig", "/root/.flyte/kubeconfig"),
            ("${HOME}x", "/rootx"),
            ("/etc/$NOTHING/k", "/etc//k"),
        ] {
            assert_eq!(expand(text, variables), expected);
        }
    }
}
