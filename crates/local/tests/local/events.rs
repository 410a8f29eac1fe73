//! Events: one set of objects with two faces, kept for a while, and what scheduler and kubelet tell in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use flyte_local::cluster::{
    Cluster, ClusterOptions, Contents, NoStore, RowChange, SqliteStore, Store, StoreError,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Secret};
use k8s_openapi::api::events::v1::Event as ModernEvent;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::WatchEvent;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{cluster, object};
use crate::kubelet::{Machine, PATIENCE, sh, shell};

fn core_event(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"}, "message": "Started container main", "reason": "Started",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default", "uid": "u", "apiVersion": "v1",
                           "resourceVersion": "7", "fieldPath": "spec.containers{main}"},
        "source": {"component": "kubelet", "host": "node"}, "type": "Normal", "count": 2,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:05Z",
    })
}

/// A cluster whose clock the test sets, in seconds.
async fn cluster_with_clock() -> (Client, Arc<AtomicI64>) {
    let second = Arc::new(AtomicI64::new(1_700_000_000));
    let clock = second.clone();
    let options = ClusterOptions {
        now: Arc::new(move || jiff::Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap()),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::new(NoStore, options).await.unwrap();
    (cluster.client(), second)
}

async fn names(api: &Api<Event>) -> Vec<String> {
    let listed = api.list(&ListParams::default()).await.unwrap();
    listed.items.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn an_event_reads_under_the_names_of_either_version() {
    let client = cluster().await;
    let core: Api<Event> = Api::namespaced(client.clone(), "default");
    let modern: Api<ModernEvent> = Api::namespaced(client.clone(), "default");
    core.create(&PostParams::default(), &object(core_event("e")))
        .await
        .unwrap();
    let seen = serde_json::to_value(modern.get("e").await.unwrap()).unwrap();
    for (pointer, expected) in [
        ("/note", json!("Started container main")),
        ("/regarding/fieldPath", json!("spec.containers{main}")),
        ("/deprecatedSource/component", json!("kubelet")),
        ("/deprecatedFirstTimestamp", json!("2026-01-01T00:00:00Z")),
        ("/deprecatedLastTimestamp", json!("2026-01-01T00:00:05Z")),
        ("/deprecatedCount", json!(2)),
        ("/type", json!("Normal")),
        ("/reason", json!("Started")),
    ] {
        assert_eq!(
            seen.pointer(pointer),
            Some(&expected),
            "{pointer} of {seen}"
        );
    }
    let made = json!({
        "metadata": {"name": "m"}, "eventTime": "2026-01-01T00:00:00.000000Z", "note": "Successfully assigned default/p to node",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "Scheduled", "type": "Normal",
        "reportingController": "default-scheduler", "reportingInstance": "i", "action": "Binding",
    });
    modern
        .create(&PostParams::default(), &object(made))
        .await
        .unwrap();
    // What a recorder of the newer kind writes when the same happens again.
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}});
    modern
        .patch("m", &PatchParams::default(), &Patch::Merge(series))
        .await
        .unwrap();
    let seen = serde_json::to_value(core.get("m").await.unwrap()).unwrap();
    for (pointer, expected) in [
        ("/message", json!("Successfully assigned default/p to node")),
        ("/involvedObject/name", json!("p")),
        ("/reportingComponent", json!("default-scheduler")),
        ("/reportingInstance", json!("i")),
        ("/action", json!("Binding")),
        ("/eventTime", json!("2026-01-01T00:00:00.000000Z")),
        ("/series/count", json!(2)),
    ] {
        assert_eq!(
            seen.pointer(pointer),
            Some(&expected),
            "{pointer} of {seen}"
        );
    }
}

#[tokio::test]
async fn each_version_selects_by_its_own_names() {
    let client = cluster().await;
    let core: Api<Event> = Api::namespaced(client.clone(), "default");
    let modern: Api<ModernEvent> = Api::namespaced(client, "default");
    core.create(&PostParams::default(), &object(core_event("e")))
        .await
        .unwrap();
    let mut other = core_event("other");
    other["involvedObject"] = json!({"kind": "Job", "name": "j", "namespace": "default"});
    other["reason"] = json!("Done");
    other["type"] = json!("Warning");
    other["source"] = json!({});
    other["reportingComponent"] = json!("elsewhere");
    core.create(&PostParams::default(), &object(other))
        .await
        .unwrap();
    let of_both = [
        "metadata.name=e",
        "metadata.namespace=default,metadata.name=e",
        "reason=Started",
        "type=Normal",
        "type!=Warning",
    ];
    let of_core = [
        "involvedObject.kind=Pod",
        "involvedObject.name=p",
        "involvedObject.uid=u",
        "involvedObject.apiVersion=v1",
        "involvedObject.resourceVersion=7",
        "involvedObject.fieldPath=spec.containers{main}",
        "involvedObject.namespace=default,reason=Started",
        "reportingComponent!=elsewhere",
        "source=kubelet",
        "source!=elsewhere",
    ];
    let of_modern = [
        "regarding.kind=Pod",
        "regarding.name=p",
        "regarding.uid=u",
        "regarding.apiVersion=v1",
        "regarding.resourceVersion=7",
        "regarding.fieldPath=spec.containers{main}",
        "regarding.namespace=default,reason=Started",
        "reportingController!=elsewhere",
    ];
    for selector in of_both.iter().chain(&of_core) {
        let listed = core.list(&ListParams::default().fields(selector)).await;
        let found: Vec<String> = listed.unwrap().iter().map(ResourceExt::name_any).collect();
        assert_eq!(found, ["e"], "{selector}");
    }
    for selector in of_both.iter().chain(&of_modern) {
        let listed = modern.list(&ListParams::default().fields(selector)).await;
        let found: Vec<String> = listed.unwrap().iter().map(ResourceExt::name_any).collect();
        assert_eq!(found, ["e"], "{selector}");
    }
    let refused = |result: kube::Result<Vec<()>>, selector: &str| match result {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 400, "{selector}"),
        other => panic!("{selector} is taken: {other:?}"),
    };
    for selector in ["regarding.kind=Pod", "reportingController=a", "message=a"] {
        let listed = core.list(&ListParams::default().fields(selector)).await;
        refused(listed.map(|_| Vec::new()), selector);
    }
    for selector in [
        "involvedObject.kind=Pod",
        "source=a",
        "reportingComponent=a",
        "note=a",
    ] {
        let listed = modern.list(&ListParams::default().fields(selector)).await;
        refused(listed.map(|_| Vec::new()), selector);
    }
}

#[tokio::test]
async fn a_watch_of_the_newer_version_tells_what_concerns_one_object() {
    let client = cluster().await;
    let core: Api<Event> = Api::namespaced(client.clone(), "default");
    let modern: Api<ModernEvent> = Api::namespaced(client, "default");
    let params = WatchParams::default().fields("regarding.kind=Pod,regarding.name=p");
    let mut seen = Box::pin(modern.watch(&params, "0").await.unwrap());
    let mut other = core_event("other");
    other["involvedObject"]["name"] = json!("q");
    for event in [other, core_event("e")] {
        core.create(&PostParams::default(), &object(event))
            .await
            .unwrap();
    }
    let first = tokio::time::timeout(PATIENCE, seen.next()).await.unwrap();
    let Some(Ok(WatchEvent::Added(event))) = first else {
        panic!("an event is added: {first:?}")
    };
    assert_eq!(event.name_any(), "e");
    assert_eq!(event.note.as_deref(), Some("Started container main"));
    assert_eq!(event.deprecated_count, Some(2));
}

#[tokio::test]
async fn an_event_goes_an_hour_after_its_last_write() {
    let (client, second) = cluster_with_clock().await;
    let events: Api<Event> = Api::namespaced(client, "default");
    for name in ["a", "b"] {
        events
            .create(&PostParams::default(), &object(core_event(name)))
            .await
            .unwrap();
    }
    let mut seen = Box::pin(events.watch(&WatchParams::default(), "0").await.unwrap());
    second.fetch_add(3000, Ordering::Relaxed);
    let again = Patch::Merge(json!({"count": 3}));
    events
        .patch("b", &PatchParams::default(), &again)
        .await
        .unwrap();
    second.fetch_add(700, Ordering::Relaxed);
    assert_eq!(names(&events).await, ["b"], "a is older than an hour");
    let mut told = Vec::new();
    while told.len() < 4 {
        let event = tokio::time::timeout(PATIENCE, seen.next()).await.unwrap();
        match event {
            Some(Ok(WatchEvent::Added(event))) => told.push(format!("+{}", event.name_any())),
            Some(Ok(WatchEvent::Modified(event))) => told.push(format!("~{}", event.name_any())),
            Some(Ok(WatchEvent::Deleted(event))) => told.push(format!("-{}", event.name_any())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, ["+a", "+b", "~b", "-a"]);
    second.fetch_add(3000, Ordering::Relaxed);
    assert_eq!(names(&events).await, [""; 0]);
}

#[tokio::test]
async fn a_namespace_keeps_so_many_events_and_the_oldest_go_first() {
    const KEPT: usize = 1000;
    let client = cluster().await;
    let here: Api<Event> = Api::namespaced(client.clone(), "default");
    let there: Api<Event> = Api::namespaced(client, "kube-system");
    let mut elsewhere = core_event("elsewhere");
    elsewhere["metadata"]["namespace"] = json!("kube-system");
    elsewhere["involvedObject"]["namespace"] = json!("kube-system");
    there
        .create(&PostParams::default(), &object(elsewhere))
        .await
        .unwrap();
    for number in 0..KEPT + 5 {
        let event = core_event(&format!("e{number:05}"));
        here.create(&PostParams::default(), &object(event))
            .await
            .unwrap();
    }
    let kept = names(&here).await;
    assert_eq!((kept.len(), kept[0].as_str()), (KEPT, "e00005"));
    assert_eq!(names(&there).await, ["elsewhere"]);
}

#[tokio::test]
async fn a_restart_forgets_events_and_gives_no_revision_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.db");
    let start = async || {
        let store = SqliteStore::open(&file).await.unwrap();
        let cluster = Cluster::new(store, ClusterOptions::default()).await;
        cluster.unwrap().client()
    };
    let client = start().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map: ConfigMap = object(json!({"metadata": {"name": "m"}}));
    maps.create(&PostParams::default(), &map).await.unwrap();
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    for name in ["a", "b", "c"] {
        events
            .create(&PostParams::default(), &object(core_event(name)))
            .await
            .unwrap();
    }
    let listed = maps.list(&ListParams::default()).await.unwrap();
    let seen: u64 = listed.metadata.resource_version.unwrap().parse().unwrap();
    drop((maps, events, client));
    let client = start().await;
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    assert_eq!(names(&events).await, [""; 0]);
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    assert_eq!(maps.get("m").await.unwrap().name_any(), "m");
    let map: ConfigMap = object(json!({"metadata": {"name": "n"}}));
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let given: u64 = made.resource_version().unwrap().parse().unwrap();
    assert!(given > seen, "{given} comes after {seen}");
}

/// A store that only counts, and says how far revisions are written.
#[derive(Default)]
struct Counted {
    commits: Arc<AtomicI64>,
    revision: Arc<AtomicU64>,
}

impl Store for Counted {
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Box::pin(async { Ok(Contents::default()) })
    }

    fn commit<'a>(
        &'a self,
        _: &'a [RowChange],
        revision: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.revision.store(revision, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn events_do_not_write_to_the_store_but_now_and_then_their_revision() {
    const UNWRITTEN: u64 = 10_000;
    let store = Counted::default();
    let (commits, written) = (store.commits.clone(), store.revision.clone());
    let cluster = Cluster::new(store, ClusterOptions::default()).await;
    let events: Api<Event> = Api::namespaced(cluster.unwrap().client(), "default");
    let (before, first) = (
        commits.load(Ordering::Relaxed),
        written.load(Ordering::Relaxed),
    );
    events
        .create(&PostParams::default(), &object(core_event("e")))
        .await
        .unwrap();
    let mut given = 0;
    for count in 0..UNWRITTEN {
        let change = Patch::Merge(json!({ "count": count }));
        let event = events.patch("e", &PatchParams::default(), &change).await;
        given = event.unwrap().resource_version().unwrap().parse().unwrap();
        assert!(
            given < written.load(Ordering::Relaxed) + UNWRITTEN,
            "a start would give it again"
        );
    }
    assert!(given > first + UNWRITTEN, "{given} {first}");
    assert_eq!(commits.load(Ordering::Relaxed), before + 1);
}

#[tokio::test]
async fn kubectl_is_shown_events_as_rows() {
    let client = cluster().await;
    let core: Api<Event> = Api::namespaced(client.clone(), "default");
    core.create(&PostParams::default(), &object(core_event("e")))
        .await
        .unwrap();
    let request = http::Request::builder()
        .uri("/api/v1/namespaces/default/events")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let table: Value = client.request(request).await.unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    let names = table["columnDefinitions"].as_array().unwrap();
    let cell = |name: &str| {
        let index = names
            .iter()
            .position(|column| column["name"] == json!(name));
        cells[index.unwrap()].as_str().unwrap()
    };
    for (name, expected) in [
        ("Type", "Normal"),
        ("Reason", "Started"),
        ("Object", "pod/p"),
        ("Subobject", "spec.containers{main}"),
        ("Source", "kubelet, node"),
        ("Message", "Started container main"),
        ("Count", "2"),
        ("Name", "e"),
    ] {
        assert_eq!(cell(name), expected, "{name}");
    }
}

/// Waits for the events about a pod that `tells` chooses, as `Type Reason path: message`.
pub(crate) async fn told(
    machine: &Machine,
    pod: &str,
    tells: impl Fn(&[String]) -> bool,
) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(machine.client.clone(), "default");
    let config = watcher::Config::default().fields(&format!("involvedObject.name={pod}"));
    let mut seen = Box::pin(watcher::watcher(events, config));
    let mut told = Vec::new();
    let enough = async {
        while !tells(&told) {
            let (watcher::Event::Apply(event) | watcher::Event::InitApply(event)) =
                seen.next().await.unwrap().unwrap()
            else {
                continue;
            };
            assert_eq!(event.involved_object.kind.as_deref(), Some("Pod"));
            told.push(format!(
                "{} {} {}: {}",
                event.type_.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.involved_object.field_path.unwrap_or_default(),
                event.message.unwrap_or_default()
            ));
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, enough).await;
    assert!(in_time.is_ok(), "about {pod} only this is told: {told:?}");
    told
}

#[tokio::test]
async fn the_life_of_a_pod_is_told() {
    let machine = Machine::start().await;
    let mut spec = sh("true");
    spec["initContainers"] = json!([shell("prepare", "true")]);
    machine.create("p", spec).await;
    let mut told = told(&machine, "p", |told| told.len() == 3).await;
    told.sort();
    assert_eq!(
        told,
        [
            "Normal Scheduled : Successfully assigned default/p to node",
            "Normal Started spec.containers{main}: Started container main",
            "Normal Started spec.initContainers{prepare}: Started container prepare",
        ]
    );
}

#[tokio::test]
async fn a_pod_that_waits_or_fails_says_why() {
    let machine = Machine::start().await;
    let with = |change: fn(&mut Value)| {
        let mut spec = sh("true");
        change(&mut spec);
        spec
    };
    let cases = [
        (
            "large",
            with(|spec| {
                spec["containers"][0]["resources"] = json!({"requests": {"cpu": "64"}});
            }),
            "Warning FailedScheduling : 0/1 nodes are available: the pod is larger than the machine: requested cpu 64 and \
             memory 0, available cpu 2 and memory 1Gi.",
        ),
        (
            "secretless",
            with(|spec| {
                let from = json!({"secretKeyRef": {"name": "none", "key": "k"}});
                spec["containers"][0]["env"] = json!([{"name": "X", "valueFrom": from}]);
            }),
            "Warning Failed spec.containers{main}: Error: secret \"none\" not found",
        ),
        (
            "unmounted",
            with(|spec| {
                spec["volumes"] = json!([{"name": "v", "configMap": {"name": "none"}}]);
            }),
            "Warning FailedMount : MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found",
        ),
        (
            "late",
            with(|spec| {
                spec["activeDeadlineSeconds"] = json!(1);
                spec["containers"][0]["command"] = json!(["/bin/sleep", "600"]);
            }),
            "Normal DeadlineExceeded : Pod was active on the node longer than the specified deadline",
        ),
    ];
    for (name, spec, expected) in cases {
        machine.create(name, spec).await;
        told(&machine, name, |told| {
            told.iter().any(|line| line == expected)
        })
        .await;
    }
    machine
        .create(
            "absent",
            with(|spec| {
                spec["containers"][0]["command"] = json!(["/no/such/program"]);
            }),
        )
        .await;
    told(&machine, "absent", |told| {
        told.iter().any(|line| {
            line.starts_with("Warning Failed spec.containers{main}: Error: ")
                && line.contains("/no/such/program")
        })
    })
    .await;
}

#[tokio::test]
async fn restarts_and_deletions_are_told() {
    let machine = Machine::start().await;
    let mut spec = sh("exit 1");
    spec["restartPolicy"] = json!("Always");
    let pod = machine.create("crashes", spec).await;
    let expected = format!(
        "Warning BackOff spec.containers{{main}}: Back-off restarting failed container main in pod crashes_default({})",
        pod.uid().unwrap()
    );
    told(&machine, "crashes", |told| told.contains(&expected)).await;
    machine.create("sleeps", sh("exec sleep 600")).await;
    machine.phase("sleeps", "Running").await;
    machine
        .pods()
        .delete("sleeps", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    machine.gone("sleeps").await;
    machine.create("naps", sh("exec sleep 600")).await;
    machine.phase("naps", "Running").await;
    machine
        .pods()
        .delete("naps", &DeleteParams::default())
        .await
        .unwrap();
    told(&machine, "naps", |told| {
        told.iter()
            .any(|line| line == "Normal Killing spec.containers{main}: Stopping container main")
    })
    .await;
}

#[tokio::test]
async fn what_was_in_the_way_is_told_once_and_then_the_pod_starts() {
    let machine = Machine::start().await;
    let mut spec = sh("true");
    let from = json!({"secretKeyRef": {"name": "later", "key": "k"}});
    spec["containers"][0]["env"] = json!([{"name": "X", "valueFrom": from}]);
    machine.create("p", spec).await;
    told(&machine, "p", |told| {
        told.iter().any(|line| line.contains("\"later\" not found"))
    })
    .await;
    let secrets: Api<Secret> = Api::namespaced(machine.client.clone(), "default");
    let secret = json!({"metadata": {"name": "later"}, "stringData": {"k": "v"}});
    secrets
        .create(&PostParams::default(), &object(secret))
        .await
        .unwrap();
    let told = told(&machine, "p", |told| {
        told.iter().any(|line| line.contains("Started container"))
    })
    .await;
    let warnings = told.iter().filter(|line| line.starts_with("Warning"));
    assert_eq!(warnings.count(), 1, "{told:?}");
}
