//! A node that runs nothing: every pod is Pending, Running and Succeeded at once, each in a status write of its own.

use std::collections::HashSet;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs every pod that appears, until `stop`.
pub(crate) async fn run(client: Client, stop: CancellationToken) {
    let mut events = watcher::watcher(Api::<Pod>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .boxed();
    let mut begun = HashSet::new();
    let mut pods = JoinSet::new();
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(_ended) = pods.join_next() => continue,
            event = events.next() => event,
        };
        match event {
            Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => {
                let deleted = pod.metadata.deletion_timestamp.is_some();
                if deleted || begun.insert(pod.uid().unwrap_or_default()) {
                    pods.spawn(one(client.clone(), pod));
                }
            }
            Some(Ok(watcher::Event::Delete(pod))) => {
                begun.remove(&pod.uid().unwrap_or_default());
            }
            Some(Ok(_) | Err(_)) => {}
            None => return,
        }
    }
}

/// The whole life of a pod. Whatever fails, fails because the pod was deleted in the meantime.
async fn one(client: Client, pod: Pod) {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        drop(
            api.delete(&name, &DeleteParams::default().grace_period(0))
                .await,
        );
        return;
    }
    let now = time_text();
    let states = [
        (
            "Pending",
            json!({ "waiting": { "reason": "ContainerCreating" } }),
        ),
        ("Running", json!({ "running": { "startedAt": now } })),
        (
            "Succeeded",
            json!({ "terminated": { "exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now } }),
        ),
    ];
    for (phase, state) in states {
        let status = json!({ "phase": phase, "startTime": now, "containerStatuses": [container(&pod, &state)] });
        let patch = Patch::Merge(json!({ "status": status }));
        if api
            .patch_status(&name, &PatchParams::default(), &patch)
            .await
            .is_err()
        {
            return;
        }
    }
}

fn time_text() -> String {
    flyte_platform::Clock::system()
        .now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

fn container(pod: &Pod, state: &Value) -> Value {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.containers.first())
        .map_or("", |first| first.name.as_str());
    json!({ "name": name, "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state })
}
