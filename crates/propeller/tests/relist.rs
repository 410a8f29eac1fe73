//! What a list of pods takes of memory: when the engine starts, and whenever a watch has to begin anew. The allocator counts
//! for the whole process, so this is a binary of its own with one test.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use flyte_platform::{
    Clock,
    blob::BlobStore,
    client::AdminClientConfig,
    metrics::{LabelKeys, Scope},
};
use flyte_plugins::config::PluginsConfig;
use flyte_propeller::{Dependencies, config::PropellerConfig};
use http_body_util::{Either, Full, StreamBody};
use kube::client::Body;
use object_store::memory::InMemory;
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Pods of a cluster that runs many tasks.
const PODS: usize = 1_635;
/// What one pod of those is in JSON: volumes, variables and managed fields are most of it.
const BYTES_OF_A_POD: usize = 16_000;
/// What may be kept of a pod. Kubernetes' type for it is most of that, whether its fields are set or not.
const KEPT_OF_A_POD: usize = 6_500;
/// How many pods a page of a list has, as the API server is asked for them.
const PAGE: usize = 500;

fn pod(number: usize) -> Value {
    let variables: Vec<Value> = (0..60)
        .map(|index| json!({ "name": format!("VARIABLE_{index}"), "value": "v".repeat(100) }))
        .collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("run{number}-n0-0"), "namespace": "project-development", "uid": format!("uid-{number}"),
            "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "execution-id": format!("run{number}"), "project": "project", "domain": "development" },
            "ownerReferences": [{
                "apiVersion": "flyte.lyft.com/v1alpha1", "kind": "flyteworkflow", "name": format!("run{number}"),
                "uid": format!("owner-{number}"), "controller": true, "blockOwnerDeletion": true,
            }],
            "managedFields": [],
        },
        "spec": { "nodeName": "node", "containers": [{
            "name": "main", "image": "image", "args": ["pyflyte-execute", "--inputs", "s3://bucket/inputs.pb"], "env": variables,
            "volumeMounts": [{ "name": "token", "mountPath": "/var/run/secrets" }],
        }], "volumes": [{ "name": "token", "emptyDir": {} }] },
        "status": { "phase": "Succeeded", "containerStatuses": [{
            "name": "main", "ready": false, "restartCount": 0, "image": "image", "imageID": "",
            "state": { "terminated": { "exitCode": 0, "reason": "Completed" } },
        }] },
    });
    let rest = BYTES_OF_A_POD - pod.to_string().len();
    pod["metadata"]["managedFields"] =
        json!([{ "manager": "kubelet", "fieldsV1": { "f:metadata": { "x".repeat(rest): {} } } }]);
    pod
}

fn list(items: Vec<Value>, next: &str) -> Bytes {
    let list = json!({
        "apiVersion": "v1", "kind": "List", "items": items,
        "metadata": { "resourceVersion": "7", "continue": next },
    });
    Bytes::from(list.to_string())
}

/// The pages of a list of all pods.
fn pages() -> Vec<Bytes> {
    (0..PODS)
        .step_by(PAGE)
        .zip(1..)
        .map(|(from, next)| {
            let to = PODS.min(from + PAGE);
            let next = if to < PODS {
                format!("{next}")
            } else {
                String::new()
            };
            list((from..to).map(pod).collect(), &next)
        })
        .collect()
}

/// What an API server answers that has these pods and nothing else; its watches wait for ever.
fn answer(pages: &[Bytes], path: &str, query: &str) -> Option<Bytes> {
    let parameter = |name: &str| {
        let mut parts = query.split('&').filter_map(|part| part.split_once('='));
        parts.find_map(|(known, value)| (known == name).then_some(value))
    };
    if parameter("watch").is_some() {
        return None;
    }
    if !path.ends_with("/pods") {
        return Some(list(Vec::new(), ""));
    }
    assert_eq!(parameter("limit"), Some("500"), "all at once");
    let page: usize = parameter("continue").map_or(0, |page| page.parse().unwrap());
    Some(pages[page].clone())
}

#[tokio::test]
async fn a_list_of_many_pods_takes_a_page_and_what_is_kept_of_each() {
    let pages = Arc::new(pages());
    let page = pages[0].len();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let uri = request.uri();
        let body = match answer(&pages, uri.path(), uri.query().unwrap_or_default()) {
            Some(answer) => Either::Left(Full::new(answer)),
            None => Either::Right(StreamBody::new(futures::stream::pending::<
                Result<http_body::Frame<Bytes>, Infallible>,
            >())),
        };
        std::future::ready(Ok::<_, Infallible>(http::Response::new(body)))
    });
    let engine = flyte_propeller::wire(
        Dependencies {
            catalog: None,
            kube: kube::Client::new(service, "default"),
            blobs: BlobStore::over("mem", "bucket", Arc::new(InMemory::new()), None),
            admin: tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy(),
            clock: Clock::system(),
            metrics: Scope::new("").labelled_by(LabelKeys::of_the_single_binary()),
        },
        PropellerConfig {
            create_flyteworkflow_crd: false,
            ..PropellerConfig::default()
        },
        PluginsConfig::default(),
        &AdminClientConfig::default(),
    )
    .unwrap();
    let stop = CancellationToken::new();
    let mut ready = engine.readiness();
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let running = engine.run(stop.child_token());
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => panic!("the engine ended: {ended:?}"),
        synced = ready.wait_for(|ready| *ready) => { synced.unwrap(); }
    }
    let peak = ALLOCATOR.peak_usage() - before;
    let kept = (ALLOCATOR.current_usage() - before) / PODS;
    println!("{PODS} pods: peak {peak} bytes, kept {kept} bytes a pod, a page is {page} bytes");
    assert!(kept <= KEPT_OF_A_POD, "{kept} bytes are kept of a pod");
    // A page as it comes in, which grows by doubling, as text, and decoded. All pods whole would be three pages more.
    let most = PODS * KEPT_OF_A_POD + 4 * page;
    assert!(peak <= most, "{peak} bytes at once");
    stop.cancel();
    running.await.unwrap();
}
