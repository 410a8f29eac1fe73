//! Collection of old files of executions: what goes, what stays, how much at once.

use std::sync::Arc;

use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use flyte_local::collection::{Collector, Retention, Running};
use flyte_local::s3::{BlobFolder, ListRequest};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::cluster::{define_workflows, object};
use crate::s3::{BUCKET, bucket, put};

/// The files of an execution of one task: which the engine alone reads, and which the API shows.
const INTERMEDIATE: [&str; 5] = [
    "start-node/data/0/outputs.pb",
    "end-node/data/inputs.pb",
    "n0/data/task.pb",
    "n0/data/0/futures.pb",
    "node-status/1-0a.json",
];
const SHOWN: [&str; 4] = [
    "n0/data/inputs.pb",
    "n0/data/0/outputs.pb",
    "n0/data/0/deck.html",
    "end-node/data/0/outputs.pb",
];

fn execute(blobs: &BlobFolder, name: &str) {
    for file in INTERMEDIATE.iter().chain(&SHOWN) {
        put(
            blobs,
            &format!("metadata/propeller/p-d-{name}/{file}"),
            b"1234",
        );
    }
    put(blobs, &format!("metadata/p/d/{name}/inputs"), b"1234");
    put(blobs, &format!("data/ab/{name}-n0-0/part-0"), b"1234");
}

fn keys(blobs: &BlobFolder) -> Vec<String> {
    let all = ListRequest {
        limit: 1_000,
        ..ListRequest::default()
    };
    let page = blobs.list(BUCKET, &all).unwrap();
    page.objects.into_iter().map(|info| info.key).collect()
}

fn after(hours: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(hours)
}

#[test]
fn only_what_nobody_sees_of_executions_that_ended_goes_by_default() {
    let (_folder, blobs) = bucket();
    let blobs = Arc::new(blobs);
    for name in ["ended", "running"] {
        execute(&blobs, name);
    }
    put(&blobs, "p/d/hash/script_mode.tar.gz", b"code");
    let before = keys(&blobs);
    let running = Running {
        folders: ["p-d-running".to_owned()].into(),
        oldest: Some(Timestamp::now()),
    };
    let mut collector = Collector::new(blobs.clone(), BUCKET, Retention::default());
    let early = collector.pass(&running, after(23)).unwrap();
    assert_eq!((early.removed, early.complete), (0, true));
    assert_eq!(keys(&blobs), before);
    let pass = collector.pass(&running, after(25)).unwrap();
    assert_eq!((pass.removed, pass.bytes, pass.complete), (5, 20, true));
    let expected: Vec<String> = before
        .into_iter()
        .filter(|key| {
            let gone = INTERMEDIATE.map(|file| format!("metadata/propeller/p-d-ended/{file}"));
            !gone.contains(key)
        })
        .collect();
    assert_eq!(keys(&blobs), expected);
    let again = Collector::new(blobs.clone(), BUCKET, Retention::default())
        .pass(&running, after(25))
        .unwrap();
    assert_eq!(
        (again.removed, again.complete),
        (0, true),
        "after a restart"
    );
}

#[test]
fn data_goes_when_asked_and_never_that_of_executions_that_may_be_running() {
    let (_folder, blobs) = bucket();
    let blobs = Arc::new(blobs);
    let start = Timestamp::now();
    for name in ["ended", "running"] {
        execute(&blobs, name);
    }
    let retention = Retention {
        shown: Some(SignedDuration::from_hours(48)),
        ..Retention::default()
    };
    let mut collector = Collector::new(blobs.clone(), BUCKET, retention);
    let running = Running {
        folders: ["p-d-running".to_owned()].into(),
        oldest: Some(start),
    };
    let pass = collector.pass(&running, after(49)).unwrap();
    assert_eq!(pass.removed, INTERMEDIATE.len() + SHOWN.len());
    let left = keys(&blobs);
    assert!(
        left.contains(&"metadata/p/d/ended/inputs".to_owned()),
        "{left:?}"
    );
    assert!(
        left.contains(&"data/ab/ended-n0-0/part-0".to_owned()),
        "it may be of the execution that runs: {left:?}"
    );
    let nothing_runs = Running::default();
    let pass = collector.pass(&nothing_runs, after(49)).unwrap();
    assert_eq!(pass.removed, INTERMEDIATE.len() + SHOWN.len() + 2);
    assert_eq!(
        keys(&blobs),
        ["metadata/p/d/ended/inputs", "metadata/p/d/running/inputs"],
        "relaunches need these"
    );
}

#[test]
fn passes_are_bounded_and_reach_everything() {
    let (_folder, blobs) = bucket();
    let blobs = Arc::new(blobs);
    for number in 0..9 {
        execute(&blobs, &format!("e{number}"));
    }
    let retention = Retention {
        shown: Some(SignedDuration::from_hours(24)),
        ..Retention::default()
    };
    let mut collector = Collector::new(blobs.clone(), BUCKET, retention).with_objects_per_pass(10);
    let (mut passes, mut removed) = (0, 0);
    loop {
        let pass = collector.pass(&Running::default(), after(25)).unwrap();
        passes += 1;
        removed += pass.removed;
        // A pass finishes the folder that it is in.
        assert!(
            pass.examined <= 10 + INTERMEDIATE.len() + SHOWN.len(),
            "{pass:?}"
        );
        if pass.complete {
            break;
        }
        assert!(passes < 20, "it makes no progress");
    }
    assert!(passes > 4, "{passes}");
    assert_eq!(removed, 9 * (INTERMEDIATE.len() + SHOWN.len() + 1));
    assert_eq!(keys(&blobs).len(), 9);
}

#[tokio::test]
async fn executions_run_until_their_resource_says_that_they_ended() {
    let cluster = Cluster::new(NoStore, ClusterOptions::default())
        .await
        .unwrap();
    let client = cluster.client();
    assert_eq!(Running::of(&cluster).unwrap(), Running::default());
    define_workflows(&client).await;
    let kind = GroupVersionKind::gvk("flyte.lyft.com", "v1alpha1", "FlyteWorkflow");
    let resource = ApiResource::from_gvk_with_plural(&kind, "flyteworkflows");
    let api: Api<DynamicObject> = Api::namespaced_with(client, "default", &resource);
    let workflow = |name: &str, labels: Value, id: Value| -> DynamicObject {
        object(json!({
            "apiVersion": "flyte.lyft.com/v1alpha1", "kind": "FlyteWorkflow",
            "metadata": {"name": name, "labels": labels}, "executionId": id,
        }))
    };
    let id = |name: &str| json!({"project": "p", "domain": "d", "name": name});
    for created in [
        workflow("runs", json!({}), id("runs")),
        workflow(
            "ended",
            json!({"termination-status": "terminated"}),
            id("ended"),
        ),
        workflow("by-hand", json!({}), json!(null)),
    ] {
        api.create(&PostParams::default(), &created).await.unwrap();
    }
    let running = Running::of(&cluster).unwrap();
    assert_eq!(
        running.folders,
        ["p-d-runs".to_owned(), "by-hand".to_owned()].into()
    );
    assert!(
        running
            .oldest
            .is_some_and(|oldest| oldest <= Timestamp::now())
    );
}
