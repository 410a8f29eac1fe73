//! Plain pages of the embedded backend: where it starts, the logs that task links open, and its metrics.

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::Authority},
    response::{IntoResponse as _, Response},
    routing::get,
};
use flyte_platform::{metrics::Scope, server};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Resource as _, api::LogParams, core::Request};
use serde::Deserialize;

/// Template of links to logs, for `plugins.logs.kubernetes-template-uri`.
pub(crate) fn log_template(base: &str) -> String {
    format!("{base}/logs/{{{{ .namespace }}}}/{{{{ .podName }}}}")
}

/// `/`, `/metrics` and `/logs/<namespace>/<pod>[?container=…]`, merged into what admin serves.
pub(crate) fn routes(client: Client, metrics: Scope) -> Router {
    Router::new()
        .route("/", get(welcome))
        .route("/logs/{namespace}/{pod}", get(logs))
        .with_state(client)
        .merge(server::exposition(metrics))
}

/// Tells where to point clients: where this request came to, whichever port that is.
async fn welcome(uri: Uri, headers: HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    // HTTP/2 has it in the URI.
    let authority = uri.authority().map(Authority::as_str);
    let address = authority.or(host).unwrap_or("<this address>");
    format!(
        "Flyte is running here. Point clients at this address:\n\n\
         \tadmin:\n\t  endpoint: {address}\n\t  insecure: true\n\n\
         The API is below /api/v1, for example /api/v1/projects.\n"
    )
}

#[derive(Deserialize)]
struct Which {
    container: Option<String>,
}

/// A name that Kubernetes gives to objects (`Object Names and IDs`, RFC 1123 subdomain). What is none must not become a
/// part of a path: `..` and `/` would lead to other objects.
struct Name(String);

impl Name {
    const LONGEST: usize = 253;

    fn parse(text: String) -> Option<Self> {
        let is_label = |label: &str| {
            let inner =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !label.is_empty()
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        (text.len() <= Self::LONGEST && text.split('.').all(is_label)).then_some(Self(text))
    }
}

async fn logs(
    State(client): State<Client>,
    Path((namespace, pod)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Response {
    let there_is_none = || {
        let text = format!("There is no pod {pod:?} in namespace {namespace:?}.\n");
        (StatusCode::NOT_FOUND, text).into_response()
    };
    let (Some(namespace_name), Some(pod_name)) =
        (Name::parse(namespace.clone()), Name::parse(pod.clone()))
    else {
        return there_is_none();
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace_name.0);
    let container = match which.container {
        Some(container) => Some(container),
        // Kubernetes asks for a name as soon as there are several; the task's own comes first.
        None => match api.get_opt(&pod_name.0).await {
            Ok(Some(found)) => found
                .spec
                .and_then(|spec| spec.containers.into_iter().next())
                .map(|first| first.name),
            Ok(None) => return there_is_none(),
            Err(error) => return unavailable(&error),
        },
    };
    let asked = LogParams {
        container,
        ..LogParams::default()
    };
    match open(&client, &namespace_name, &pod_name, &asked).await {
        Ok(log) => page(log),
        Err(kube::Error::Api(status)) => {
            let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::BAD_GATEWAY);
            (code, format!("{}\n", status.message)).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// The log as it comes: it may be larger than memory, and need not be text.
async fn open(
    client: &Client,
    namespace: &Name,
    pod: &Name,
    asked: &LogParams,
) -> kube::Result<Body> {
    let request = Request::new(Pod::url_path(&(), Some(&namespace.0)))
        .logs(&pod.0, asked)
        .map_err(kube::Error::BuildRequest)?;
    let answer = client.send(request.map(kube::client::Body::from)).await?;
    if answer.status().is_success() {
        return Ok(Body::new(answer.into_body()));
    }
    let (status, body) = answer.into_parts();
    let body = axum::body::to_bytes(Body::new(body), LONGEST_REFUSAL)
        .await
        .unwrap_or_default();
    let refusal = serde_json::from_slice(&body).unwrap_or_else(|_| {
        kube::core::Status::failure("The log cannot be read.", "Unknown")
            .with_code(status.status.as_u16())
    });
    Err(kube::Error::Api(Box::new(refusal)))
}

/// A `metav1.Status` is far shorter.
const LONGEST_REFUSAL: usize = 64 << 10;

/// A page of plain text, whatever a task wrote: a browser must not take it for HTML.
fn page(log: Body) -> Response {
    let mut page = Response::new(log);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox",
        ),
    ] {
        page.headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    page
}

fn unavailable(error: &kube::Error) -> Response {
    tracing::warn!(%error, "cannot read a pod's log");
    (StatusCode::BAD_GATEWAY, "The log cannot be read now.\n").into_response()
}

#[cfg(test)]
mod tests {
    use flyte_local::cluster::{
        Cluster, ClusterOptions, LogError, LogRequest, LogSource, LogStream, NoStore,
    };
    use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
    use kube::api::PostParams;
    use serde_json::json;
    use std::sync::Arc;
    use tower::ServiceExt as _;

    use super::*;

    /// A log that is no text, and longer than anybody wants in memory: it never ends.
    struct Endless;

    impl LogSource for Endless {
        fn open(&self, _: LogRequest) -> BoxFuture<'_, Result<LogStream, LogError>> {
            let chunk = || Ok(axum::body::Bytes::from_static(b"\xff\xfe<script>\n"));
            async move { Ok(stream::repeat_with(chunk).boxed()) }.boxed()
        }
    }

    async fn pages() -> Router {
        let cluster = Cluster::new(NoStore, ClusterOptions::default())
            .await
            .unwrap();
        cluster.set_log_source(Arc::new(Endless));
        let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "main", "image": "i"}]}});
        Api::<Pod>::namespaced(cluster.client(), "default")
            .create(
                &PostParams::default(),
                &serde_json::from_value(pod).unwrap(),
            )
            .await
            .unwrap();
        let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "hidden"}});
        Api::<k8s_openapi::api::core::v1::Secret>::namespaced(cluster.client(), "default")
            .create(
                &PostParams::default(),
                &serde_json::from_value(secret).unwrap(),
            )
            .await
            .unwrap();
        routes(cluster.client(), Scope::new("pages"))
    }

    async fn get_page(path: &str) -> Response {
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        pages().await.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn the_first_page_names_the_address_that_it_was_reached_at() {
        for (uri, host) in [
            ("/", Some("localhost:31999")),
            ("http://localhost:31999/", None),
        ] {
            let mut request = axum::http::Request::get(uri);
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            let request = request.body(Body::empty()).unwrap();
            let answer = pages().await.oneshot(request).await.unwrap();
            assert_eq!(
                answer.headers()[header::CONTENT_TYPE],
                "text/plain; charset=utf-8"
            );
            let body = axum::body::to_bytes(answer.into_body(), 4096)
                .await
                .unwrap();
            let text = String::from_utf8_lossy(&body);
            assert!(text.contains("endpoint: localhost:31999\n"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_log_page_leads_to_no_other_object() {
        for path in [
            "/logs/default/..%2Fsecrets%2Fs",
            "/logs/default/a%2F..%2F..%2Fsecrets%2Fs",
            "/logs/default%2Fsecrets/s",
            "/logs/default%2Fsecrets%2Fs%3F/a",
            "/logs/default/a%2Flog%3Fx=y",
            "/logs/default/a%3Ffollow=true",
            "/logs/default/a%23",
            "/logs/default/%2E%2E",
            "/logs/Default/a",
            "/logs/default/",
        ] {
            let answer = get_page(path).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            let body = axum::body::to_bytes(answer.into_body(), 4096)
                .await
                .unwrap();
            let text = String::from_utf8_lossy(&body);
            assert!(
                !text.contains("hidden") && !text.contains("aGlkZGVu"),
                "{path}: {text}"
            );
        }
        let other = get_page("/logs/default/a?container=no%2Fsuch").await;
        assert_eq!(other.status(), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn a_log_comes_as_it_is_written_and_is_never_a_page_of_its_own() {
        let answer = get_page("/logs/default/a").await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            answer.headers()[header::CONTENT_TYPE],
            "text/plain; charset=utf-8"
        );
        assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let mut chunks = answer.into_body().into_data_stream();
        assert_eq!(&chunks.next().await.unwrap().unwrap()[..2], b"\xff\xfe");
        assert!(chunks.next().await.unwrap().is_ok());
    }
}
