//! The Kubernetes API through `kube::Client`, in process.

use std::collections::BTreeMap;
use std::time::Duration;

use flyte_local::cluster::{Cluster, ClusterOptions, NoStore, SqliteStore};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Secret};
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
    WatchParams,
};
use kube::core::{ApiResource, GroupVersionKind, WatchEvent};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

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
async fn define_workflows(client: &Client) {
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

#[tokio::test]
async fn a_created_object_has_identity_and_defaults() {
    let client = cluster().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let created = pods
        .create(&PostParams::default(), &pod("a"))
        .await
        .unwrap();
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());
    assert_eq!(created.metadata.generation, Some(1));
    let spec = created.spec.as_ref().unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(
        spec.containers[0].image_pull_policy.as_deref(),
        Some("Always")
    );
    let requests = spec.containers[0]
        .resources
        .as_ref()
        .unwrap()
        .requests
        .as_ref()
        .unwrap();
    assert_eq!(requests["cpu"].0, "1");
    let status = created.status.as_ref().unwrap();
    assert_eq!(
        (status.phase.as_deref(), status.qos_class.as_deref()),
        (Some("Pending"), Some("Guaranteed"))
    );
    assert_eq!(pods.get("a").await.unwrap(), created);
}

#[tokio::test]
async fn refusals_have_the_codes_and_words_of_kubernetes() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    let absent: Api<ConfigMap> = Api::namespaced(client.clone(), "absent");
    let mut foreign = config("b", &[]);
    foreign.metadata.namespace = Some("other".to_owned());
    let mut versioned = config("b", &[]);
    versioned.metadata.resource_version = Some("7".to_owned());
    let large = "x".repeat(1_600_000);
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let mut no_containers = pod("p");
    no_containers.spec.as_mut().unwrap().containers.clear();
    let post = PostParams::default();
    for (case, result, expected, words) in [
        (
            "twice",
            code(maps.create(&post, &config("a", &[])).await),
            409,
            "configmaps \"a\" already exists",
        ),
        (
            "missing",
            code(maps.get("b").await),
            404,
            "configmaps \"b\" not found",
        ),
        (
            "missing namespace",
            code(absent.create(&post, &config("a", &[])).await),
            404,
            "namespaces \"absent\" not found",
        ),
        (
            "other namespace",
            code(maps.create(&post, &foreign).await),
            400,
            "does not match the namespace",
        ),
        (
            "version at creation",
            code(maps.create(&post, &versioned).await),
            400,
            "resourceVersion should not be set",
        ),
        (
            "bad name",
            code(maps.create(&post, &config("A_b", &[])).await),
            422,
            "ConfigMap \"A_b\" is invalid: metadata.name",
        ),
        (
            "too large",
            code(maps.create(&post, &config("l", &[("k", &large)])).await),
            413,
            "etcdserver: request is too large",
        ),
    ] {
        assert_eq!(result.0, expected, "{case}: {}", result.1);
        assert!(result.1.contains(words), "{case}: {}", result.1);
    }
    let (status, message) = code(pods.create(&post, &no_containers).await);
    assert_eq!(
        (status, message.as_str()),
        (422, "Pod \"p\" is invalid: spec.containers: Required value")
    );
    assert_eq!(
        raw(&client, "GET", "/apis/no.such/v1/things", "*/*")
            .await
            .0,
        404
    );
    assert_eq!(
        raw(&client, "GET", "/api/v1/pods", "application/xml")
            .await
            .0,
        406
    );
    assert_eq!(
        raw(&client, "PUT", "/api/v1/namespaces/default/pods", "*/*")
            .await
            .0,
        405
    );
    pods.create(&post, &pod("p")).await.unwrap();
    for part in ["exec", "attach", "portforward"] {
        let uri = format!("/api/v1/namespaces/default/pods/p/{part}");
        assert_eq!(raw(&client, "POST", &uri, "*/*").await.0, 501, "{part}");
    }
}

#[tokio::test]
async fn a_write_based_on_an_old_version_conflicts() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let first = maps
        .create(&PostParams::default(), &config("a", &[("k", "1")]))
        .await
        .unwrap();
    let mut next = first.clone();
    next.data
        .as_mut()
        .unwrap()
        .insert("k".to_owned(), "2".to_owned());
    let second = maps
        .replace("a", &PostParams::default(), &next)
        .await
        .unwrap();
    assert_ne!(first.resource_version(), second.resource_version());
    let (status, message) = code(maps.replace("a", &PostParams::default(), &next).await);
    assert_eq!(status, 409);
    assert!(
        message.contains("the object has been modified"),
        "{message}"
    );
    let stale =
        json!({"metadata": {"resourceVersion": first.resource_version()}, "data": {"k": "3"}});
    assert_eq!(
        code(
            maps.patch("a", &PatchParams::default(), &Patch::Merge(stale))
                .await
        )
        .0,
        409
    );
    let fresh =
        json!({"metadata": {"resourceVersion": second.resource_version()}, "data": {"k": "3"}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(fresh))
        .await
        .unwrap();
}

#[tokio::test]
async fn metadata_without_entries_is_not_served() {
    let client = cluster().await;
    let maps: Api<DynamicObject> = Api::namespaced_with(
        client.clone(),
        "default",
        &ApiResource::erase::<ConfigMap>(&()),
    );
    let made = object(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "m", "labels": {}, "annotations": {}, "ownerReferences": [], "finalizers": ["a/b"]}}),
    );
    maps.create(&PostParams::default(), &made).await.unwrap();
    let patch = json!({"metadata": {"finalizers": []}});
    maps.patch("m", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    let (_, served) = raw(
        &client,
        "GET",
        "/api/v1/namespaces/default/configmaps/m",
        "",
    )
    .await;
    for member in ["labels", "annotations", "ownerReferences", "finalizers"] {
        assert_eq!(served["metadata"].get(member), None, "{member}");
    }
}

#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_version() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let first = maps
        .create(&PostParams::default(), &config("a", &[("k", "1")]))
        .await
        .unwrap();
    let same = maps
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"k": "1"}})),
        )
        .await
        .unwrap();
    assert_eq!(first.resource_version(), same.resource_version());
}

#[tokio::test]
async fn every_patch_type_changes_its_part() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.create(
        &PostParams::default(),
        &config("a", &[("k", "1"), ("l", "1")]),
    )
    .await
    .unwrap();
    let merged = maps
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"l": null, "m": "1"}})),
        )
        .await
        .unwrap();
    assert_eq!(merged.data.unwrap().keys().collect::<Vec<_>>(), ["k", "m"]);
    let steps: json_patch::Patch = object(json!([
        {"op": "test", "path": "/data/k", "value": "1"}, {"op": "replace", "path": "/data/k", "value": "2"},
    ]));
    let stepped = maps
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::<ConfigMap>::Json(steps.clone()),
        )
        .await
        .unwrap();
    assert_eq!(stepped.data.unwrap()["k"], "2");
    assert_eq!(
        code(
            maps.patch(
                "a",
                &PatchParams::default(),
                &Patch::<ConfigMap>::Json(steps)
            )
            .await
        )
        .0,
        422
    );
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &pod("p"))
        .await
        .unwrap();
    let change = json!({"spec": {"containers": [{"name": "main", "image": "other"}]}});
    let changed = pods
        .patch("p", &PatchParams::default(), &Patch::Strategic(change))
        .await
        .unwrap();
    let container = &changed.spec.unwrap().containers[0];
    assert_eq!(container.image.as_deref(), Some("other"));
    assert!(
        container.resources.is_some(),
        "the rest of the container stays"
    );
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"k": "1"}});
    let created = maps
        .patch("s", &PatchParams::apply("me"), &Patch::Apply(applied))
        .await
        .unwrap();
    assert_eq!(
        created.metadata.managed_fields.unwrap()[0]
            .manager
            .as_deref(),
        Some("me")
    );
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"k": "2"}});
    assert_eq!(
        code(
            maps.patch(
                "s",
                &PatchParams::apply("you"),
                &Patch::Apply(other.clone())
            )
            .await
        )
        .0,
        409
    );
    maps.patch(
        "s",
        &PatchParams::apply("you").force(),
        &Patch::Apply(other),
    )
    .await
    .unwrap();
    assert_eq!(maps.get("s").await.unwrap().data.unwrap()["k"], "2");
}

#[tokio::test]
async fn status_of_a_pod_is_written_through_its_own_path() {
    let client = cluster().await;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    pods.create(&PostParams::default(), &pod("p"))
        .await
        .unwrap();
    let both = json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Running"}});
    let main = pods
        .patch("p", &PatchParams::default(), &Patch::Merge(&both))
        .await
        .unwrap();
    assert_eq!(main.status.unwrap().phase.as_deref(), Some("Pending"));
    assert_eq!(main.metadata.labels.unwrap()["a"], "b");
    let both = json!({"metadata": {"labels": {"a": "c"}}, "status": {"phase": "Running"}});
    let status = pods
        .patch_status("p", &PatchParams::default(), &Patch::Merge(&both))
        .await
        .unwrap();
    assert_eq!(status.status.unwrap().phase.as_deref(), Some("Running"));
    assert_eq!(status.metadata.labels.unwrap()["a"], "b");
    let spec = json!({"spec": {"restartPolicy": "Never"}});
    assert_eq!(
        code(
            pods.patch("p", &PatchParams::default(), &Patch::Merge(spec))
                .await
        )
        .0,
        422
    );
}

#[tokio::test]
async fn a_workflow_keeps_unknown_fields_and_its_status_is_an_ordinary_part() {
    let client = cluster().await;
    let api = workflows(&client, "default");
    assert_eq!(
        code(api.list(&ListParams::default()).await).0,
        404,
        "the kind is not served before it is defined"
    );
    define_workflows(&client).await;
    let spec = json!({"nodes": {"start-node": {"id": "start-node", "odd": [1, {"x": null}]}}});
    let created = api
        .create(&PostParams::default(), &workflow("w", &spec))
        .await
        .unwrap();
    assert_eq!(created.data["spec"], spec);
    let version = created.resource_version().unwrap();
    let patch = json!({"metadata": {"resourceVersion": version, "labels": {"termination-status": "terminated"}}, "status": {"phase": 1}});
    let patched = api
        .patch("w", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    assert_eq!(patched.data["status"]["phase"], json!(1));
    assert_eq!(patched.metadata.generation, Some(2));
    assert_eq!(
        raw(
            &client,
            "GET",
            "/apis/flyte.lyft.com/v1alpha1/namespaces/default/flyteworkflows/w/status",
            "*/*"
        )
        .await
        .0,
        404
    );
    let strategic = api
        .patch("w", &PatchParams::default(), &Patch::Strategic(json!({})))
        .await;
    assert_eq!(code(strategic).0, 415);
    let mut unversioned = patched.clone();
    unversioned.metadata.resource_version = None;
    assert_eq!(
        code(api.replace("w", &PostParams::default(), &unversioned).await).0,
        422
    );
}

#[tokio::test]
async fn deleting_a_definition_deletes_its_objects() {
    let client = cluster().await;
    define_workflows(&client).await;
    let api = workflows(&client, "default");
    api.create(&PostParams::default(), &workflow("w", &json!({})))
        .await
        .unwrap();
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .delete("flyteworkflows.flyte.lyft.com", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(code(api.get("w").await).0, 404);
    assert!(
        definitions
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn lists_are_selected_and_paged_at_one_version() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    for index in 0..7 {
        let mut map = config(&format!("m{index}"), &[]);
        map.metadata.labels = Some([("even".to_owned(), (index % 2 == 0).to_string())].into());
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let names = |list: kube::core::ObjectList<ConfigMap>| {
        list.items
            .iter()
            .map(ResourceExt::name_any)
            .collect::<Vec<_>>()
    };
    let even = maps
        .list(&ListParams::default().labels("even=true"))
        .await
        .unwrap();
    assert_eq!(names(even), ["m0", "m2", "m4", "m6"]);
    let one = maps
        .list(&ListParams::default().fields("metadata.name=m3"))
        .await
        .unwrap();
    assert_eq!(names(one), ["m3"]);
    assert_eq!(
        code(maps.list(&ListParams::default().fields("data.k=1")).await).0,
        400
    );
    let first = maps.list(&ListParams::default().limit(3)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(4));
    let token = first.metadata.continue_.clone().unwrap();
    let version = first.metadata.resource_version.clone();
    // What changes between the pages is not seen by them.
    maps.delete("m4", &DeleteParams::default()).await.unwrap();
    maps.create(&PostParams::default(), &config("m9", &[]))
        .await
        .unwrap();
    let second = maps
        .list(&ListParams::default().limit(3).continue_token(&token))
        .await
        .unwrap();
    assert_eq!(second.metadata.resource_version, version);
    let token = second.metadata.continue_.clone().unwrap();
    let third = maps
        .list(&ListParams::default().limit(3).continue_token(&token))
        .await
        .unwrap();
    assert_eq!(third.metadata.continue_, None);
    assert_eq!(
        [names(first), names(second), names(third)].concat(),
        ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]
    );
}

#[tokio::test]
async fn a_watch_resumes_where_it_ended() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let first = maps
        .create(&PostParams::default(), &config("a", &[("k", "1")]))
        .await
        .unwrap();
    maps.create(&PostParams::default(), &config("b", &[]))
        .await
        .unwrap();
    maps.patch(
        "a",
        &PatchParams::default(),
        &Patch::Merge(json!({"data": {"k": "2"}})),
    )
    .await
    .unwrap();
    let version = first.resource_version().unwrap();
    let mut stream = Box::pin(maps.watch(&WatchParams::default(), &version).await.unwrap());
    assert_eq!(next_event(&mut stream).await, ("added", "b".to_owned()));
    assert_eq!(next_event(&mut stream).await, ("modified", "a".to_owned()));
    maps.delete("b", &DeleteParams::default()).await.unwrap();
    assert_eq!(next_event(&mut stream).await, ("deleted", "b".to_owned()));
    let mut fresh = Box::pin(maps.watch(&WatchParams::default(), "0").await.unwrap());
    assert_eq!(next_event(&mut fresh).await, ("added", "a".to_owned()));
}

#[tokio::test]
async fn an_object_that_enters_a_selection_is_added_to_its_watch() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let params = WatchParams::default().labels("wanted=yes");
    let mut stream = Box::pin(maps.watch(&params, "0").await.unwrap());
    maps.create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    let label = |value: Value| Patch::Merge(json!({"metadata": {"labels": {"wanted": value}}}));
    for (value, expected) in [(json!("yes"), "added"), (json!(null), "deleted")] {
        maps.patch("a", &PatchParams::default(), &label(value))
            .await
            .unwrap();
        assert_eq!(next_event(&mut stream).await, (expected, "a".to_owned()));
    }
}

#[tokio::test]
async fn a_watch_from_a_forgotten_version_is_told_410() {
    let options = ClusterOptions {
        history_changes: 5,
        ..ClusterOptions::default()
    };
    let client = Cluster::new(NoStore, options).await.unwrap().client();
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let first = maps
        .create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    for index in 0..10 {
        maps.create(&PostParams::default(), &config(&format!("m{index}"), &[]))
            .await
            .unwrap();
    }
    let mut stream = Box::pin(
        maps.watch(&WatchParams::default(), &first.resource_version().unwrap())
            .await
            .unwrap(),
    );
    assert_eq!(next_event(&mut stream).await, ("error", "410".to_owned()));
    assert!(stream.next().await.is_none(), "the watch ends");
    // A version of an earlier cluster, whose memory is gone.
    let mut future = Box::pin(maps.watch(&WatchParams::default(), "99999").await.unwrap());
    assert_eq!(next_event(&mut future).await, ("error", "410".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_is_told_the_version_in_virtual_time() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let mut stream = Box::pin(
        maps.watch(&WatchParams::default().timeout(90), "0")
            .await
            .unwrap(),
    );
    let secrets: Api<Secret> = Api::namespaced(client, "default");
    let other = secrets
        .create(
            &PostParams::default(),
            &object(json!({"metadata": {"name": "s"}})),
        )
        .await
        .unwrap();
    let version = other.resource_version().unwrap();
    let WatchEvent::Bookmark(bookmark) = stream.next().await.unwrap().unwrap() else {
        panic!("a bookmark")
    };
    assert_eq!(bookmark.metadata.resource_version, version);
}

#[tokio::test]
async fn a_streamed_list_ends_with_a_marked_bookmark() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    let uri = "/api/v1/namespaces/default/configmaps?watch=true&sendInitialEvents=true&allowWatchBookmarks=true\
               &resourceVersionMatch=NotOlderThan";
    let request = http::Request::get(uri).body(Vec::new()).unwrap();
    let mut lines = Box::pin(client.request_stream(request).await.unwrap().lines());
    let first: Value = serde_json::from_str(&lines.next().await.unwrap().unwrap()).unwrap();
    let second: Value = serde_json::from_str(&lines.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(
        (&first["type"], &first["object"]["metadata"]["name"]),
        (&json!("ADDED"), &json!("a"))
    );
    assert_eq!(
        second["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        json!("true")
    );
}

#[tokio::test]
async fn metadata_and_tables_are_served_when_asked_for() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.create(&PostParams::default(), &config("a", &[("k", "1")]))
        .await
        .unwrap();
    let meta = maps.get_metadata("a").await.unwrap();
    assert_eq!(meta.types.unwrap().kind, "PartialObjectMetadata");
    let list = maps.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let mut stream = Box::pin(
        maps.watch_metadata(&WatchParams::default(), "0")
            .await
            .unwrap(),
    );
    let Some(Ok(WatchEvent::Added(added))) = stream.next().await else {
        panic!("an event")
    };
    assert_eq!(added.name_any(), "a");
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let (_, table) = raw(
        &client,
        "GET",
        "/api/v1/namespaces/default/configmaps",
        accept,
    )
    .await;
    assert_eq!(table["kind"], json!("Table"));
    assert_eq!(table["rows"][0]["cells"], json!(["a", 1, "0s"]));
}

#[tokio::test]
async fn a_finalizer_holds_an_object_until_it_is_removed() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut map = config("a", &[]);
    map.metadata.finalizers = Some(vec!["flyte.org/finalizer".to_owned()]);
    maps.create(&PostParams::default(), &map).await.unwrap();
    let deleted = maps
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .expect("the object, still there");
    assert!(deleted.metadata.deletion_timestamp.is_some());
    let more = Patch::Merge(
        json!({"metadata": {"finalizers": ["flyte.org/finalizer", "flyte.org/more"]}}),
    );
    assert_eq!(
        code(maps.patch("a", &PatchParams::default(), &more).await).0,
        422
    );
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("a", &PatchParams::default(), &none)
        .await
        .unwrap();
    assert_eq!(code(maps.get("a").await).0, 404);
}

#[tokio::test]
async fn deletion_keeps_its_preconditions() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let created = maps
        .create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    let other = Preconditions {
        uid: Some("other".to_owned()),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(other),
        ..DeleteParams::default()
    };
    assert_eq!(code(maps.delete("a", &params).await).0, 409);
    let own = Preconditions {
        uid: created.uid(),
        resource_version: created.resource_version(),
    };
    let params = DeleteParams {
        preconditions: Some(own),
        ..DeleteParams::default()
    };
    assert!(maps.delete("a", &params).await.unwrap().is_right());
}

#[tokio::test]
async fn a_pod_on_a_node_waits_for_its_kubelet() {
    let client = cluster().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    for name in ["free", "bound"] {
        pods.create(&PostParams::default(), &pod(name))
            .await
            .unwrap();
    }
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "n"}});
    let uri = "/api/v1/namespaces/default/pods/bound/binding";
    let request = || {
        http::Request::post(uri)
            .header("content-type", "application/json")
            .body(binding.to_string().into_bytes())
            .unwrap()
    };
    client.request_text(request()).await.unwrap();
    assert_eq!(
        code(client.request_text(request()).await).0,
        409,
        "a pod is bound once"
    );
    pods.delete("free", &DeleteParams::default()).await.unwrap();
    assert_eq!(
        code(pods.get("free").await).0,
        404,
        "nobody runs it, so it goes at once"
    );
    let pending = pods
        .delete("bound", &DeleteParams::default().grace_period(7))
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(pending.metadata.deletion_grace_period_seconds, Some(7));
    pods.delete("bound", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert_eq!(code(pods.get("bound").await).0, 404);
}

#[tokio::test]
async fn dependents_go_with_their_last_owner() {
    let client = cluster().await;
    define_workflows(&client).await;
    let api = workflows(&client, "default");
    let owner = api
        .create(&PostParams::default(), &workflow("w", &json!({})))
        .await
        .unwrap();
    let other = api
        .create(&PostParams::default(), &workflow("x", &json!({})))
        .await
        .unwrap();
    // Flyte writes the kind in lower case (recorded/resources/pods.jsonl).
    let reference = |owner: &DynamicObject| {
        json!({"apiVersion": "flyte.lyft.com/v1alpha1", "kind": "flyteworkflow", "name": owner.name_any(),
               "uid": owner.uid(), "controller": true, "blockOwnerDeletion": true})
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    for (name, owners) in [
        ("one", vec![reference(&owner)]),
        ("two", vec![reference(&owner), reference(&other)]),
    ] {
        let map = object(json!({"metadata": {"name": name, "ownerReferences": owners}}));
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    api.delete("w", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(maps.get("one").await).0, 404);
    assert_eq!(
        maps.get("two").await.unwrap().owner_references().len(),
        1,
        "the other owner keeps it"
    );
    let late =
        object(json!({"metadata": {"name": "late", "ownerReferences": [reference(&owner)]}}));
    maps.create(&PostParams::default(), &late).await.unwrap();
    assert_eq!(
        code(maps.get("late").await).0,
        404,
        "its owner is gone already"
    );
}

#[tokio::test]
async fn propagation_decides_what_becomes_of_dependents() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    for (name, params, expected) in [
        (
            "orphaned",
            DeleteParams::default().orphan_dependents_policy(),
            200,
        ),
        ("collected", DeleteParams::foreground(), 404),
    ] {
        let owner = maps
            .create(&PostParams::default(), &config(name, &[]))
            .await
            .unwrap();
        let child = format!("{name}-child");
        let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner.uid(), "blockOwnerDeletion": true});
        let map = object(json!({"metadata": {"name": child, "ownerReferences": [reference]}}));
        maps.create(&PostParams::default(), &map).await.unwrap();
        maps.delete(name, &params).await.unwrap();
        assert_eq!(code(maps.get(name).await).0, 404, "{name}");
        let found = maps
            .get(&child)
            .await
            .map_or_else(|error| code::<()>(Err(error)).0, |_| 200);
        assert_eq!(found, expected, "{name}");
    }
}

trait OrphanPolicy {
    fn orphan_dependents_policy(self) -> Self;
}

impl OrphanPolicy for DeleteParams {
    fn orphan_dependents_policy(mut self) -> Self {
        self.propagation_policy = Some(kube::api::PropagationPolicy::Orphan);
        self
    }
}

#[tokio::test]
async fn a_namespace_takes_its_objects_with_it() {
    let client = cluster().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = object(json!({"metadata": {"name": "project-domain"}}));
    let created = namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    assert_eq!(created.status.unwrap().phase.as_deref(), Some("Active"));
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "project-domain");
    let mut held = config("held", &[]);
    held.metadata.finalizers = Some(vec!["a/b".to_owned()]);
    maps.create(&PostParams::default(), &held).await.unwrap();
    maps.create(&PostParams::default(), &config("free", &[]))
        .await
        .unwrap();
    let going = namespaces
        .delete("project-domain", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(going.status.unwrap().phase.as_deref(), Some("Terminating"));
    assert_eq!(code(maps.get("free").await).0, 404);
    assert_eq!(
        code(
            maps.create(&PostParams::default(), &config("new", &[]))
                .await
        )
        .0,
        403
    );
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &none)
        .await
        .unwrap();
    assert_eq!(code(namespaces.get("project-domain").await).0, 404);
}

#[tokio::test]
async fn generated_names_differ() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let map: ConfigMap = object(json!({"metadata": {"generateName": "job-"}}));
    let first = maps.create(&PostParams::default(), &map).await.unwrap();
    let second = maps.create(&PostParams::default(), &map).await.unwrap();
    assert_ne!(first.name_any(), second.name_any());
    assert!(first.name_any().starts_with("job-") && first.name_any().len() == 9);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    maps.create(&dry, &config("a", &[])).await.unwrap();
    assert_eq!(code(maps.get("a").await).0, 404);
    maps.create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    let patch = Patch::Merge(json!({"data": {"k": "1"}}));
    let patched = maps
        .patch(
            "a",
            &PatchParams {
                dry_run: true,
                ..PatchParams::default()
            },
            &patch,
        )
        .await
        .unwrap();
    assert_eq!(patched.data.unwrap().len(), 1);
    assert!(
        maps.get("a")
            .await
            .unwrap()
            .data
            .is_none_or(|data| data.is_empty())
    );
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    for name in ["a", "b"] {
        let mut map = config(name, &[]);
        map.metadata.labels = Some([("name".to_owned(), name.to_owned())].into());
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let _ = maps
        .delete_collection(
            &DeleteParams::default(),
            &ListParams::default().labels("name=a"),
        )
        .await
        .unwrap();
    let left = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(
        left.items
            .iter()
            .map(ResourceExt::name_any)
            .collect::<Vec<_>>(),
        ["b"]
    );
}

#[tokio::test]
async fn events_are_one_set_with_two_faces() {
    let client = cluster().await;
    let modern: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(client.clone(), "default");
    let event = json!({"metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "note": "hello",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "Started", "type": "Normal",
        "reportingController": "kubelet", "reportingInstance": "n", "action": "Start"});
    modern
        .create(&PostParams::default(), &object(event))
        .await
        .unwrap();
    let core: Api<Event> = Api::namespaced(client, "default");
    let listed = core
        .list(&ListParams::default().fields("involvedObject.name=p,reason=Started"))
        .await
        .unwrap();
    assert_eq!(listed.items[0].message.as_deref(), Some("hello"));
    assert_eq!(
        modern.get("e").await.unwrap().note.as_deref(),
        Some("hello")
    );
}

#[tokio::test]
async fn secrets_written_as_text_are_kept_encoded() {
    let client = cluster().await;
    let secrets: Api<Secret> = Api::namespaced(client, "default");
    let secret = secrets
        .create(
            &PostParams::default(),
            &object(json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}})),
        )
        .await
        .unwrap();
    assert_eq!(secret.data.unwrap()["k"].0, b"v");
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
}

#[tokio::test]
async fn discovery_names_what_is_served() {
    let client = cluster().await;
    define_workflows(&client).await;
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(
        (version.major.as_str(), version.minor.as_str()),
        ("1", "34")
    );
    let groups = client.list_api_groups().await.unwrap();
    assert!(
        groups
            .groups
            .iter()
            .any(|group| group.name == "flyte.lyft.com")
    );
    let resources = client
        .list_api_group_resources("flyte.lyft.com/v1alpha1")
        .await
        .unwrap();
    assert_eq!(
        resources.resources[0].short_names.as_deref(),
        Some(&["fly".to_owned()][..])
    );
    assert_eq!(
        resources.resources.len(),
        1,
        "there is no status subresource"
    );
    let core = client.list_core_api_resources("v1").await.unwrap();
    assert!(
        core.resources
            .iter()
            .any(|resource| resource.name == "pods/log")
    );
    let discovery = kube::discovery::Discovery::new(client.clone())
        .run()
        .await
        .unwrap();
    assert!(discovery.has_group("apps"));
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let (_, aggregated) = raw(&client, "GET", "/apis", accept).await;
    assert_eq!(aggregated["kind"], json!("APIGroupDiscoveryList"));
    let (_, index) = raw(&client, "GET", "/openapi/v3", "*/*").await;
    assert!(index["paths"]["apis/flyte.lyft.com/v1alpha1"].is_object());
    let (_, document) = raw(&client, "GET", "/openapi/v3/api/v1", "application/json").await;
    assert!(document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"].is_object());
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(raw(&client, "GET", path, "*/*").await.1, json!("ok"));
    }
}

#[tokio::test]
async fn a_reflector_follows_the_cluster() {
    use kube::runtime::{WatchStreamExt, watcher};
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut events = Box::pin(watcher(maps.clone(), watcher::Config::default()).applied_objects());
    maps.create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(10), events.try_next()).await;
    assert_eq!(seen.unwrap().unwrap().unwrap().name_any(), "a");
}

#[tokio::test]
async fn objects_survive_a_restart_and_versions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.db");
    let (version, uid) = {
        let store = SqliteStore::open(&file).await.unwrap();
        let client = Cluster::new(store, ClusterOptions::default())
            .await
            .unwrap()
            .client();
        define_workflows(&client).await;
        let api = workflows(&client, "default");
        api.create(&PostParams::default(), &workflow("gone", &json!({})))
            .await
            .unwrap();
        let kept = api
            .create(&PostParams::default(), &workflow("kept", &json!({"a": 1})))
            .await
            .unwrap();
        api.delete("gone", &DeleteParams::default()).await.unwrap();
        (kept.resource_version().unwrap(), kept.uid())
    };
    let store = SqliteStore::open(&file).await.unwrap();
    let client = Cluster::new(store, ClusterOptions::default())
        .await
        .unwrap()
        .client();
    let api = workflows(&client, "default");
    let kept = api.get("kept").await.unwrap();
    assert_eq!(
        (kept.resource_version().unwrap(), kept.uid()),
        (version.clone(), uid)
    );
    assert_eq!(kept.data["spec"], json!({"a": 1}));
    assert_eq!(code(api.get("gone").await).0, 404);
    let next = api
        .create(&PostParams::default(), &workflow("next", &json!({})))
        .await
        .unwrap();
    let number = |version: &str| version.parse::<u64>().unwrap();
    assert!(
        number(&next.resource_version().unwrap()) > number(&version) + 1,
        "the deletion had a version too"
    );
    let old = api.watch(&WatchParams::default(), &version).await.unwrap();
    let first = Box::pin(old).next().await.unwrap().unwrap();
    let WatchEvent::Error(error) = first else {
        panic!("history does not survive: {first:?}")
    };
    assert_eq!(error.code, 410);
}

#[tokio::test]
async fn concurrent_writers_lose_no_update() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("cluster.db"))
        .await
        .unwrap();
    let client = Cluster::new(store, ClusterOptions::default())
        .await
        .unwrap()
        .client();
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    maps.create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    let writes = (0..50).map(|index| {
        let maps = maps.clone();
        async move {
            let patch = Patch::Merge(json!({"data": {format!("k{index}"): "1"}}));
            maps.patch("a", &PatchParams::default(), &patch)
                .await
                .unwrap();
        }
    });
    futures::future::join_all(writes).await;
    assert_eq!(maps.get("a").await.unwrap().data.unwrap().len(), 50);
}

#[tokio::test]
async fn two_clusters_in_one_process_share_nothing() {
    let (one, two) = (cluster().await, cluster().await);
    let maps = |client: &Client| Api::<ConfigMap>::namespaced(client.clone(), "default");
    maps(&one)
        .create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    assert_eq!(code(maps(&two).get("a").await).0, 404);
}

#[tokio::test]
async fn nesting_is_refused_beyond_its_limit_and_kept_below_it() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    for (limit, levels, accepted) in [(128, 100, true), (128, 1000, false), (400, 300, true)] {
        let options = ClusterOptions {
            json_depth: limit,
            ..ClusterOptions::default()
        };
        let client = Cluster::new(NoStore, options).await.unwrap().client();
        define_workflows(&client).await;
        let body = format!(
            r#"{{"metadata": {{"name": "w"}}, "spec": {}}}"#,
            nested(levels)
        );
        let uri = "/apis/flyte.lyft.com/v1alpha1/namespaces/default/flyteworkflows";
        let request = http::Request::post(uri)
            .header("content-type", "application/json")
            .body(body.into_bytes())
            .unwrap();
        match client.request_text(request).await {
            Ok(text) => assert!(
                accepted && text.contains(&nested(levels)),
                "{levels} of {limit}"
            ),
            Err(error) => {
                let (status, message) = code::<()>(Err(error));
                assert!(
                    !accepted && status == 400 && message.contains("nested"),
                    "{levels} of {limit}: {message}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_simulation_gives_its_own_time_and_numbers() {
    let options = ClusterOptions {
        now: std::sync::Arc::new(|| jiff::Timestamp::UNIX_EPOCH),
        random: std::sync::Arc::new(|| 7),
        ..ClusterOptions::default()
    };
    let client = Cluster::new(NoStore, options).await.unwrap().client();
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let map: ConfigMap = object(json!({"metadata": {"generateName": "m-"}}));
    let created = maps.create(&PostParams::default(), &map).await.unwrap();
    assert_eq!(
        created.uid().as_deref(),
        Some("00000000-0000-4000-8000-000000000007")
    );
    assert_eq!(created.name_any(), "m-kbbbb");
    assert_eq!(
        created.creation_timestamp().unwrap().0,
        jiff::Timestamp::UNIX_EPOCH
    );
}

/// What a client does in the property below.
#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Label(u8, bool),
    Delete(u8),
    Finalizer(u8, bool),
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let step = prop_oneof![
        (0..4_u8).prop_map(Step::Create),
        (0..4_u8, any::<bool>()).prop_map(|(name, wanted)| Step::Label(name, wanted)),
        (0..4_u8).prop_map(Step::Delete),
        (0..4_u8, any::<bool>()).prop_map(|(name, held)| Step::Finalizer(name, held)),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, ..Default::default() })]
    /// A client that lists once and then follows the watch knows, at every version, what a list would tell it.
    #[test]
    fn a_list_and_its_watch_add_up_to_the_state(steps in steps(), begin in 0_usize..20) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let client = cluster().await;
            let maps: Api<ConfigMap> = Api::namespaced(client, "default");
            let selected = ListParams::default().labels("wanted=true");
            let mut known: BTreeMap<String, String> = BTreeMap::new();
            let mut version = None;
            for (index, step) in steps.iter().enumerate() {
                if index == begin {
                    let list = maps.list(&selected).await.unwrap();
                    known = list.items.iter().map(|map| (map.name_any(), map.resource_version().unwrap())).collect();
                    version = list.metadata.resource_version;
                }
                let patch = |metadata: Value| Patch::Merge(json!({ "metadata": metadata }));
                let done = match step {
                    Step::Create(name) => maps.create(&PostParams::default(), &config(&format!("m{name}"), &[])).await.map(drop),
                    Step::Label(name, wanted) => {
                        let labels = patch(json!({ "labels": { "wanted": wanted.to_string() } }));
                        maps.patch(&format!("m{name}"), &PatchParams::default(), &labels).await.map(drop)
                    }
                    Step::Delete(name) => maps.delete(&format!("m{name}"), &DeleteParams::default()).await.map(drop),
                    Step::Finalizer(name, held) => {
                        let finalizers = if *held { json!(["a/b"]) } else { json!(null) };
                        let finalizers = patch(json!({ "finalizers": finalizers }));
                        maps.patch(&format!("m{name}"), &PatchParams::default(), &finalizers).await.map(drop)
                    }
                };
                if let Err(error) = done {
                    let status = code::<()>(Err(error)).0;
                    assert!([404, 409, 422].contains(&status), "{step:?}: {status}");
                }
            }
            let watch = WatchParams::default().labels("wanted=true").timeout(1);
            let mut events = Box::pin(maps.watch(&watch, &version.unwrap_or_else(|| "0".to_owned())).await.unwrap());
            while let Some(event) = events.next().await {
                match event.unwrap() {
                    WatchEvent::Added(map) => {
                        let before = known.insert(map.name_any(), map.resource_version().unwrap());
                        assert_eq!(before, None, "{} is new", map.name_any());
                    }
                    WatchEvent::Modified(map) => {
                        known.insert(map.name_any(), map.resource_version().unwrap()).expect("it was known");
                    }
                    WatchEvent::Deleted(map) => {
                        known.remove(&map.name_any()).expect("it was known");
                    }
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(error) => panic!("{error:?}"),
                }
            }
            let list = maps.list(&selected).await.unwrap();
            let now: BTreeMap<String, String> =
                list.items.iter().map(|map| (map.name_any(), map.resource_version().unwrap())).collect();
            assert_eq!(known, now);
        });
    }
}
