//! Plain pages of the embedded backend: where it starts, the logs that task links open, and its metrics.

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use flyte_platform::{metrics::Scope, server};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::LogParams};
use serde::Deserialize;

/// Template of links to logs, for `plugins.logs.kubernetes-template-uri`.
pub(crate) fn log_template(base: &str) -> String {
    format!("{base}/logs/{{{{ .namespace }}}}/{{{{ .podName }}}}")
}

/// `/`, `/metrics` and `/logs/<namespace>/<pod>[?container=…]`, merged into what admin serves.
pub(crate) fn routes(client: Client, metrics: Scope) -> Router {
    Router::new()
        .route("/", get(|| async { WELCOME }))
        .route("/logs/{namespace}/{pod}", get(logs))
        .with_state(client)
        .merge(server::exposition(metrics))
}

const WELCOME: &str = "Flyte is running here. Point clients at this address:\n\n\
    \tadmin:\n\t  endpoint: localhost:30080\n\t  insecure: true\n\n\
    The API is below /api/v1, for example /api/v1/projects.\n";

#[derive(Deserialize)]
struct Which {
    container: Option<String>,
}

async fn logs(
    State(client): State<Client>,
    Path((namespace, pod)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Response {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let container = match which.container {
        Some(container) => Some(container),
        // Kubernetes asks for a name as soon as there are several; the task's own comes first.
        None => match api.get_opt(&pod).await {
            Ok(Some(found)) => found
                .spec
                .and_then(|spec| spec.containers.into_iter().next())
                .map(|first| first.name),
            Ok(None) => {
                let text = format!("There is no pod {pod:?} in namespace {namespace:?}.\n");
                return (StatusCode::NOT_FOUND, text).into_response();
            }
            Err(error) => return unavailable(&error),
        },
    };
    match api
        .logs(
            &pod,
            &LogParams {
                container,
                ..LogParams::default()
            },
        )
        .await
    {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response(),
        Err(kube::Error::Api(status)) => {
            let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::BAD_GATEWAY);
            (code, format!("{}\n", status.message)).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

fn unavailable(error: &kube::Error) -> Response {
    tracing::warn!(%error, "cannot read a pod's log");
    (StatusCode::BAD_GATEWAY, "The log cannot be read now.\n").into_response()
}
