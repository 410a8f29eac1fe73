//! Lists, with selectors, pages and other representations, and discovery.

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchParams};
use kube::core::WatchEvent;
use serde_json::json;

use crate::cluster::{cluster, code, config, define_workflows, object, raw};

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
