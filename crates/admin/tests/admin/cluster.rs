//! The cluster of a test: the in-process Kubernetes API that `flyte start` has too, which a test can make refuse workflows.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use axum::body::Body;
use flyte_crd::FlyteWorkflow;
use flyte_local::cluster::{ApiService, ClusterOptions, NoStore};
use flyte_platform::sync::Mutex;
use http::{Method, Request, Response, StatusCode};
use k8s_openapi::{
    api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource as _,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// What the API server answers to creations of workflows.
type Refusal = Arc<Mutex<Option<(u16, String)>>>;

#[derive(Clone)]
pub(crate) struct TestCluster {
    api: ApiService,
    refusal: Refusal,
    /// So many answers to creations of workflows get lost after the workflow was made.
    losses: Arc<AtomicU32>,
}

impl TestCluster {
    /// An empty cluster that knows FlyteWorkflow.
    pub(crate) async fn start() -> Self {
        let options = ClusterOptions {
            // As `flyte start` sets it.
            json_depth: 4_096,
            ..ClusterOptions::default()
        };
        let cluster = flyte_local::cluster::Cluster::new(NoStore, options)
            .await
            .unwrap();
        let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
        let definition = flyte_crd::custom_resource_definition();
        definitions
            .create(&PostParams::default(), &definition)
            .await
            .unwrap();
        Self {
            api: cluster.service(),
            refusal: Refusal::default(),
            losses: Arc::default(),
        }
    }

    /// A client of the API, as admin gets it.
    pub(crate) fn client(&self) -> Client {
        let (api, refusal, losses) = (self.api.clone(), self.refusal.clone(), self.losses.clone());
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let refused = refused(&refusal, &request);
            let (api, losses) = (api.clone(), losses.clone());
            async move {
                if let Some(refused) = refused {
                    return Ok(refused);
                }
                let is_lost = creates_workflow(&request)
                    && losses
                        .fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1))
                        .is_ok();
                let Ok(answer) = api.oneshot(request).await;
                if is_lost {
                    Err("the connection broke")
                } else {
                    Ok(answer)
                }
            }
        });
        Client::new(service, "default")
    }

    /// Makes creations of workflows fail until it is called with `None`.
    pub(crate) fn refuse(&self, refusal: Option<(u16, &str)>) {
        *self.refusal.lock() = refusal.map(|(code, text)| (code, text.to_owned()));
    }

    /// Loses the answers to the next creations of workflows, which take place.
    pub(crate) fn lose_answers(&self, count: u32) {
        self.losses.store(count, Relaxed);
    }

    /// Waits for a namespace.
    pub(crate) async fn made(&self, namespace: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client());
        let exists = |found: Option<&Namespace>| found.is_some();
        await_condition(namespaces, namespace, exists)
            .await
            .unwrap();
    }

    /// The namespaces that are not Kubernetes' own.
    pub(crate) async fn namespaces(&self) -> Vec<String> {
        let namespaces: Api<Namespace> = Api::all(self.client());
        let list = namespaces.list(&ListParams::default()).await.unwrap();
        list.into_iter()
            .filter_map(|namespace| namespace.metadata.name)
            .filter(|name| name != "default" && !name.starts_with("kube-"))
            .collect()
    }

    /// Waits for a workflow.
    pub(crate) async fn submitted(&self, namespace: &str, name: &str) {
        let exists = |found: Option<&FlyteWorkflow>| found.is_some();
        await_condition(self.workflows(namespace), name, exists)
            .await
            .unwrap();
    }

    /// A workflow, without what the API server adds to it.
    pub(crate) async fn workflow(&self, namespace: &str, name: &str) -> Option<Value> {
        let path = FlyteWorkflow::url_path(&(), Some(namespace));
        let request = kube::core::Request::new(path)
            .get(name, &GetParams::default())
            .unwrap();
        let mut found: Value = match self.client().request(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return None,
            found => found.unwrap(),
        };
        let metadata = found["metadata"].as_object_mut().unwrap();
        for added in [
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "managedFields",
        ] {
            metadata.remove(added);
        }
        Some(found)
    }

    /// Removes a workflow behind admin's back, whatever finalizers it has.
    pub(crate) async fn forget(&self, namespace: &str, name: &str) {
        let workflows = self.workflows(namespace);
        let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let params = PatchParams::default();
        workflows
            .patch_metadata(name, &params, &patch)
            .await
            .unwrap();
        let params = DeleteParams::default();
        workflows.delete(name, &params).await.unwrap();
        assert!(self.workflow(namespace, name).await.is_none());
    }

    fn workflows(&self, namespace: &str) -> Api<FlyteWorkflow> {
        Api::namespaced(self.client(), namespace)
    }
}

fn creates_workflow(request: &Request<kube::client::Body>) -> bool {
    let path = request.uri().path();
    request.method() == Method::POST && path.starts_with("/apis/flyte.lyft.com/")
}

/// The answer to the creation of a workflow that is to be refused.
fn refused(refusal: &Refusal, request: &Request<kube::client::Body>) -> Option<Response<Body>> {
    let (code, message) = refusal
        .lock()
        .clone()
        .filter(|_| creates_workflow(request))?;
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "Invalid", "code": code,
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    Some(response)
}
