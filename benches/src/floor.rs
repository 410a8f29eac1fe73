//! What no engine can beat: the same pods, created layer by layer and driven by the same node on the same cluster.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};

use crate::shapes::{NAMESPACE, Shape};

/// Pods that are created at once, about as many as an engine does.
const AT_ONCE: usize = 25;

/// A pod that the engine made for `execution`, to make equal ones from: without its owner, finalizers and status.
pub(crate) async fn template(client: &Client, execution: &str) -> anyhow::Result<Pod> {
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let of_execution = ListParams::default().labels(&format!("execution-id={execution}"));
    let mut pod = api
        .list(&of_execution)
        .await?
        .items
        .into_iter()
        .next()
        .with_context(|| {
            format!("execution {execution} has left no pod to make equal ones from")
        })?;
    pod.metadata.owner_references = None;
    pod.metadata.finalizers = None;
    pod.metadata.resource_version = None;
    pod.metadata.uid = None;
    pod.metadata.managed_fields = None;
    pod.metadata.creation_timestamp = None;
    // The engine of the same backend must not take them for its own.
    pod.metadata.labels = None;
    pod.status = None;
    Ok(pod)
}

/// Creates and awaits the pods of `shape`, each layer begun when the one before has ended. `number` tells runs apart.
pub(crate) async fn run(
    client: &Client,
    template: &Pod,
    shape: &Shape,
    number: usize,
) -> anyhow::Result<Duration> {
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let config = watcher::Config::default().labels("bench=floor");
    let mut events = watcher::watcher(api.clone(), config)
        .default_backoff()
        .boxed();
    // The list of a watch comes first, so that only changes are measured.
    while !matches!(events.try_next().await?, Some(watcher::Event::InitDone)) {}
    let began = Instant::now();
    for layer in 0..shape.depth {
        let prefix = format!("floor-{}-{number}-{layer}-", shape.name);
        stream::iter(0..shape.width)
            .map(|index| {
                let mut pod = template.clone();
                pod.metadata.name = Some(format!("{prefix}{index}"));
                pod.metadata.labels = Some([("bench".to_owned(), "floor".to_owned())].into());
                let api = api.clone();
                async move { api.create(&PostParams::default(), &pod).await }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let mut ended = BTreeSet::new();
        while ended.len() < shape.width {
            let event = events
                .try_next()
                .await?
                .context("the watch of pods ended")?;
            let watcher::Event::Apply(pod) = event else {
                continue;
            };
            let name = pod.metadata.name.unwrap_or_default();
            let phase = pod.status.and_then(|status| status.phase);
            if name.starts_with(&prefix) && phase.as_deref() == Some("Succeeded") {
                ended.insert(name);
            }
        }
    }
    Ok(began.elapsed())
}

/// Removes the pods of the runs so far: memory is measured of what Flyte leaves, not of these.
pub(crate) async fn clear(client: &Client) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let ours = ListParams::default().labels("bench=floor");
    api.delete_collection(&DeleteParams::default(), &ours)
        .await?;
    Ok(())
}
