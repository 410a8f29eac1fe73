//! Where an API server that is not ours asks for logs: `/containerLogs/<namespace>/<pod>/<container>` of the kubelet's port, with
//! the parameters that the API server was asked with (kubernetes `pkg/kubelet/server`). Nothing else of a kubelet's port is there.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::IntoResponse;
use axum::routing::get;
use http::{Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;

use crate::cluster::{ApiStatus, ContainerLog, LogSource, Now, Query};

#[derive(Clone)]
struct Endpoint {
    client: kube::Client,
    source: Arc<dyn LogSource>,
    now: Now,
}

/// The routes of the port.
pub(crate) fn routes(client: kube::Client, source: Arc<dyn LogSource>, now: Now) -> Router {
    Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(log))
        .with_state(Endpoint {
            client,
            source,
            now,
        })
}

async fn log(
    State(endpoint): State<Endpoint>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let query = Query::parse(query.as_deref());
    // An API server makes a `metav1.Status` of the text and the code.
    endpoint
        .open(namespace, pod, container, &query)
        .await
        .unwrap_or_else(|refusal| {
            let code =
                StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (code, refusal.message).into_response()
        })
}

impl Endpoint {
    async fn open(
        &self,
        namespace: String,
        pod: String,
        container: String,
        query: &Query,
    ) -> Result<Response<Body>, ApiStatus> {
        // Files of pods are kept by uid: pods of one name follow each other.
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let found = pods.get_metadata_opt(&pod).await.map_err(|error| {
            tracing::warn!(%error, namespace, pod, "a pod whose log is wanted cannot be read");
            ApiStatus::internal(format!("pod {pod} cannot be read"))
        })?;
        let uid = found
            .and_then(|found| found.metadata.uid)
            .ok_or_else(|| ApiStatus::bad_request(format!("pod {pod} does not exist")))?;
        let log = ContainerLog {
            namespace,
            pod,
            uid,
            container,
        };
        log.answer(&*self.source, query, (self.now)()).await
    }
}
