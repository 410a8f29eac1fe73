//! The state of a cluster: kept over restarts, by concurrent writers, apart from other clusters, in simulated time.

use bytes::Bytes;
use flyte_local::cluster::{
    Cluster, ClusterOptions, Contents, NoStore, Row, RowChange, SqliteStore, Store, StoreError,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::WatchEvent;
use kube::{Client, ResourceExt};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cluster::{cluster, code, config, define_workflows, object, workflow, workflows};

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

/// What an earlier version of this program kept, which took anything.
async fn keep(store: &SqliteStore, name: &str, data: &str) -> Result<(), StoreError> {
    let metadata = format!(r#"{{"name": "{name}", "namespace": "default", "uid": ""}}"#);
    let json = format!(
        r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {metadata}, "data": {data}}}"#
    );
    let row = Row {
        resource: "configmaps".to_owned(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        revision: 7,
        json: Bytes::from(json),
    };
    store.commit(&[RowChange::Put(row)], 7).await
}

#[tokio::test]
async fn a_stored_object_that_cannot_be_read_keeps_no_cluster_from_starting() {
    let nested = |levels: usize| format!("{}{{}}{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    for (case, data) in [
        ("nested deeper than any stack", nested(500_000)),
        ("nested deeper than the bound", nested(200)),
        ("of another type", "[]".to_owned()),
        ("no JSON", "{".to_owned()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("cluster.db"))
            .await
            .unwrap();
        keep(&store, "unreadable", &data).await.unwrap();
        keep(&store, "sound", r#"{"k": "v"}"#).await.unwrap();
        let options = ClusterOptions::default();
        let client = Cluster::new(store, options).await.expect(case).client();
        let maps: Api<ConfigMap> = Api::namespaced(client, "default");
        let listed = maps.list(&ListParams::default()).await.unwrap();
        let names: Vec<String> = listed.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["sound"], "{case}");
    }
}

#[tokio::test]
async fn an_object_at_the_bound_of_nesting_outlives_a_restart_with_its_owners() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.db");
    let options = ClusterOptions {
        json_depth: 300,
        ..ClusterOptions::default()
    };
    let start = async || {
        let store = SqliteStore::open(&file).await.unwrap();
        Cluster::new(store, options.clone()).await.unwrap().client()
    };
    let request = |method: &str, query: &str, body: String| {
        let uri = "/apis/flyte.lyft.com/v1alpha1/namespaces/default/flyteworkflows";
        http::Request::builder()
            .method(method)
            .uri(format!("{uri}{query}"))
            .header("content-type", "application/apply-patch+yaml")
            .body(body.into_bytes())
            .unwrap()
    };
    let client = start().await;
    define_workflows(&client).await;
    // The object, and `spec`.
    let levels = options.json_depth - 2;
    let nested = format!("{}{{}}{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let body = format!(
        r#"{{"apiVersion": "flyte.lyft.com/v1alpha1", "kind": "FlyteWorkflow",
            "metadata": {{"name": "w", "labels": {{"l": "v"}}}}, "spec": {nested}}}"#
    );
    let applied = request("PATCH", "/w?fieldManager=me", body);
    client.request_text(applied).await.unwrap();
    drop(client);
    let client = start().await;
    let listed = request("GET", "?labelSelector=l%3Dv", String::new());
    let listed = client.request_text(listed).await.unwrap();
    assert!(listed.contains(&nested), "{listed}");
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

/// A store whose disk is full for a while.
#[derive(Default)]
struct FullAtTimes(Arc<AtomicBool>);

impl Store for FullAtTimes {
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Box::pin(async { Ok(Contents::default()) })
    }

    fn commit<'a>(&'a self, _: &'a [RowChange], _: u64) -> BoxFuture<'a, Result<(), StoreError>> {
        let full = self.0.load(Ordering::SeqCst);
        Box::pin(async move {
            if full {
                Err(StoreError {
                    file: PathBuf::from("/data/cluster.db"),
                    doing: "write a change",
                    source: sqlx::Error::Io(std::io::ErrorKind::StorageFull.into()),
                })
            } else {
                Ok(())
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_disk_is_full_reads_go_on_and_writes_say_so() {
    let full = Arc::new(AtomicBool::new(false));
    let store = FullAtTimes(full.clone());
    let options = ClusterOptions::default();
    let client = Cluster::new(store, options).await.unwrap().client();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let post = PostParams::default();
    for name in ["kept", "removed"] {
        maps.create(&post, &config(name, &[("k", "old")]))
            .await
            .unwrap();
    }
    let check = async |path: &str| {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        client.request_text(request).await
    };
    full.store(true, Ordering::SeqCst);
    let patch = Patch::Merge(json!({"data": {"k": "new"}}));
    let (params, gone) = (PatchParams::default(), DeleteParams::default());
    let caught = config("caught", &[]);
    // The first are under way when it is found out, the others come later.
    let began = tokio::time::Instant::now();
    let (created, patched, deleted) = tokio::join!(
        maps.create(&post, &caught),
        maps.patch("kept", &params, &patch),
        maps.delete("removed", &gone)
    );
    let later = config("later", &[]);
    let outcomes = [
        ("create", 504, created.map(drop)),
        ("patch", 504, patched.map(drop)),
        ("delete", 504, deleted.map(drop)),
        (
            "a create later",
            503,
            maps.create(&post, &later).await.map(drop),
        ),
        (
            "a patch later",
            503,
            maps.patch("kept", &params, &patch).await.map(drop),
        ),
        (
            "a delete later",
            503,
            maps.delete("removed", &gone).await.map(drop),
        ),
    ];
    for (case, expected, outcome) in outcomes {
        let kube::Error::Api(refusal) = outcome.expect_err(case) else {
            panic!("{case} is not refused")
        };
        assert_eq!(refusal.code, expected, "{case}: {}", refusal.message);
        for words in ["/data/cluster.db", "disk is full"] {
            assert!(
                refusal.message.contains(words),
                "{case}: {}",
                refusal.message
            );
        }
    }
    // Reads show what is durable.
    let listed = maps.list(&ListParams::default()).await.unwrap();
    let names: Vec<String> = listed.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["kept", "removed"]);
    for name in ["kept", "removed"] {
        let read = maps.get(name).await.unwrap();
        assert_eq!(read.data.unwrap()["k"], "old", "{name}");
    }
    assert_eq!(code(maps.get("caught").await).0, 404);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(check("/livez").await.is_ok());
    for path in ["/healthz", "/readyz"] {
        let refused = check(path).await.unwrap_err().to_string();
        assert!(refused.contains("500"), "{path}: {refused}");
    }
    // What was under way is made when there is room.
    full.store(false, Ordering::SeqCst);
    let made =
        kube::runtime::wait::await_condition(maps.clone(), "caught", |map: Option<&ConfigMap>| {
            map.is_some()
        });
    tokio::time::timeout(Duration::from_secs(30), made)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(maps.get("kept").await.unwrap().data.unwrap()["k"], "new");
    assert_eq!(code(maps.get("removed").await).0, 404);
    maps.create(&post, &later).await.unwrap();
    assert_eq!(check("/readyz").await.unwrap(), "ok");
}
