//! Watches: where they resume, what they tell, and that they add up to what lists show.

use std::collections::BTreeMap;
use std::time::Duration;

use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::WatchEvent;
use serde_json::{Value, json};

use crate::cluster::{cluster, code, config, next_event, object};

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
