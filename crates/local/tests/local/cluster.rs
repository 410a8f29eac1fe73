//! The Kubernetes API through `kube::Client`, in process: what its tests share. Each module has the tests of one thing that
//! clients do.

use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind, WatchEvent};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

mod costs;
mod definitions;
mod deletion;
mod kinds;
mod lists;
mod objects;
mod schemas;
mod state;
mod watches;

pub(crate) async fn cluster() -> Client {
    Cluster::new(NoStore, ClusterOptions::default())
        .await
        .unwrap()
        .client()
}

pub(crate) fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn config(name: &str, data: &[(&str, &str)]) -> ConfigMap {
    let data: BTreeMap<&str, &str> = data.iter().copied().collect();
    object(json!({"metadata": {"name": name}, "data": data}))
}

fn pod(name: &str) -> Pod {
    object(json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "img", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]},
    }))
}

fn code<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.message),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn workflows(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("flyte.lyft.com", "v1alpha1", "FlyteWorkflow");
    Api::namespaced_with(
        client.clone(),
        namespace,
        &ApiResource::from_gvk_with_plural(&kind, "flyteworkflows"),
    )
}

fn workflow(name: &str, spec: &Value) -> DynamicObject {
    object(
        json!({"apiVersion": "flyte.lyft.com/v1alpha1", "kind": "FlyteWorkflow", "metadata": {"name": name}, "spec": spec}),
    )
}

/// The definition that charts install (spec 03 §4.11).
pub(crate) async fn define_workflows(client: &Client) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let definition: CustomResourceDefinition = object(json!({
        "metadata": {"name": "flyteworkflows.flyte.lyft.com"},
        "spec": {
            "group": "flyte.lyft.com", "scope": "Namespaced",
            "names": {"kind": "FlyteWorkflow", "plural": "flyteworkflows", "singular": "flyteworkflow", "shortNames": ["fly"]},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    }));
    let created = Api::all(client.clone())
        .create(&PostParams::default(), &definition)
        .await
        .unwrap();
    let conditions = created.status.unwrap().conditions.unwrap();
    assert!(
        conditions
            .iter()
            .any(|condition| condition.type_ == "Established" && condition.status == "True")
    );
}

async fn raw(client: &Client, method: &str, uri: &str, accept: &str) -> (u16, Value) {
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("accept", accept)
        .body(Vec::new())
        .unwrap();
    match client.request_text(request).await {
        Ok(text) => (
            200,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        ),
        Err(kube::Error::Api(status)) => (status.code, Value::String(status.message)),
        Err(error) => panic!("{error}"),
    }
}

async fn next_event(
    stream: &mut (impl futures::Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin),
) -> (&'static str, String) {
    let event = tokio::time::timeout(Duration::from_secs(10), stream.next())
        .await
        .expect("an event")
        .unwrap()
        .unwrap();
    match event {
        WatchEvent::Added(object) => ("added", object.name_any()),
        WatchEvent::Modified(object) => ("modified", object.name_any()),
        WatchEvent::Deleted(object) => ("deleted", object.name_any()),
        WatchEvent::Bookmark(bookmark) => ("bookmark", bookmark.metadata.resource_version),
        WatchEvent::Error(error) => ("error", error.code.to_string()),
    }
}
