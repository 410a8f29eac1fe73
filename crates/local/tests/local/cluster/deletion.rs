//! Deletion: finalizers, preconditions, grace periods, dependents, namespaces, collections.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::ResourceExt;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use serde_json::json;

use crate::cluster::{cluster, code, config, define_workflows, object, pod, workflow, workflows};

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
    let request = |uri: &str| {
        http::Request::post(uri)
            .header("content-type", "application/json")
            .body(binding.to_string().into_bytes())
            .unwrap()
    };
    let dry = format!("{uri}?dryRun=All");
    client.request_text(request(&dry)).await.unwrap();
    let unbound = pods.get("bound").await.unwrap().spec.unwrap();
    assert_eq!(unbound.node_name, None, "a dry run binds nothing");
    client.request_text(request(uri)).await.unwrap();
    assert_eq!(
        code(client.request_text(request(uri)).await).0,
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
    let reference = |owner: &DynamicObject, controller: bool| {
        json!({"apiVersion": "flyte.lyft.com/v1alpha1", "kind": "flyteworkflow", "name": owner.name_any(),
               "uid": owner.uid(), "controller": controller, "blockOwnerDeletion": true})
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    for (name, owners) in [
        ("one", vec![reference(&owner, true)]),
        (
            "two",
            vec![reference(&owner, true), reference(&other, false)],
        ),
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
        object(json!({"metadata": {"name": "late", "ownerReferences": [reference(&owner, true)]}}));
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
