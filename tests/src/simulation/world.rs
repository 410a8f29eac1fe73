//! What is outside of the engine: resources and pods, put there and read back.

use std::{sync::Arc, time::Duration};

use flyte_crd::{FlyteWorkflow, WorkflowPhase};
use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use flyte_platform::kubernetes;
use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{Namespace, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Resource as _, ResourceExt,
    api::{GetParams, ListParams, PostParams},
    core::{PartialObjectMeta, Request},
    runtime::{WatchStreamExt as _, watcher},
};
use object_store::memory::InMemory;
use tokio::task::JoinSet;

use super::{NAMESPACE, NEIGHBOURS, admin, node};

/// Pods of the workflow's namespace.
pub(super) async fn pods(api: &Api<Pod>) -> Vec<Pod> {
    let listed = api.list(&ListParams::default()).await;
    listed
        .expect("the cluster outside of the faults lists its pods")
        .items
}

/// Those that have not ended.
pub(super) fn unfinished(pods: &[Pod]) -> Vec<String> {
    let running = pods.iter().filter(|pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed"))
    });
    running.map(ResourceExt::name_any).collect()
}

pub(super) async fn describe(
    api: &Api<FlyteWorkflow>,
    name: &str,
    records: &admin::Shared,
) -> String {
    let resource = read(api, name).await.unwrap_or_default();
    format!(
        "status {}\nrecords {:?}",
        resource["status"],
        records.snapshot()
    )
}

pub(super) fn encoded_bytes(workflow: &FlyteWorkflow) -> usize {
    serde_json::to_vec(workflow).map_or(0, |bytes| bytes.len())
}

/// Creates a pod of the workflow, unless it has an owner already.
pub(super) async fn adopt(api: &Api<Pod>, mut pod: Pod, workflow: &str, uid: &str) {
    let owners = pod.metadata.owner_references.get_or_insert_with(|| {
        vec![OwnerReference {
            api_version: "flyte.lyft.com/v1alpha1".into(),
            kind: "flyteworkflow".into(),
            name: workflow.into(),
            controller: Some(true),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        }]
    });
    // Whoever it is must be there, or the pod is garbage.
    for owner in owners {
        owner.uid = uid.into();
    }
    api.create(&PostParams::default(), &pod)
        .await
        .expect("the pod is valid");
}

/// Creates the workflow and answers its uid; kube cannot read answers that are nested deeply.
pub(super) async fn create(client: kube::Client, workflow: &FlyteWorkflow) -> String {
    let body = serde_json::to_vec(workflow).expect("resources can be written");
    let namespace = workflow.metadata.namespace.as_deref();
    let request = Request::new(FlyteWorkflow::url_path(&(), namespace))
        .create(&PostParams::default(), body)
        .expect("the request is well-formed");
    let made = client
        .request_text(request)
        .await
        .expect("the workflow is valid");
    let made = flyte_idl::json::parse(made.as_bytes()).unwrap_or_default();
    made["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The workflow; none when it is gone.
pub(super) async fn read(api: &Api<FlyteWorkflow>, name: &str) -> Option<serde_json::Value> {
    let request = Request::new(FlyteWorkflow::url_path(&(), Some(NAMESPACE)))
        .get(name, &GetParams::default())
        .expect("the request is well-formed");
    let text = api.clone().into_client().request_text(request).await.ok()?;
    flyte_idl::json::parse(text.as_bytes()).ok()
}

pub(super) async fn prepare(client: &kube::Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in [NAMESPACE, NEIGHBOURS] {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("the namespace is new");
    }
    kubernetes::define(client.clone(), &flyte_crd::custom_resource_definition())
        .await
        .expect("the cluster is ours");
}

/// The last phase that the resource shows before it ends or goes. A resource that is deleted goes in the very write
/// that ends it, so its end is ABORTED.
pub(super) async fn end_of(api: &Api<FlyteWorkflow>, name: &str) -> WorkflowPhase {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let metadata: Api<PartialObjectMeta<FlyteWorkflow>> =
        Api::namespaced(api.clone().into_client(), NAMESPACE);
    let mut events = watcher::watcher(metadata, config).default_backoff().boxed();
    loop {
        match events.next().await {
            Some(Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found))) => {
                let terminated = found.labels().contains_key(flyte_crd::TERMINATION_LABEL);
                if terminated && found.finalizers().is_empty() {
                    let resource = read(api, name).await.unwrap_or_default();
                    return resource["status"]["phase"]
                        .as_i64()
                        .map_or(WorkflowPhase::Aborted, WorkflowPhase::from);
                }
            }
            Some(Ok(watcher::Event::Delete(_))) | None => return WorkflowPhase::Aborted,
            Some(Ok(_) | Err(_)) => {}
        }
    }
}

/// How long the cluster alone takes for `depth` rounds of `width` pods, each round begun when the one before has
/// ended: what no engine can beat.
pub async fn floor(width: usize, depth: usize) -> Duration {
    let cluster = Cluster::new(NoStore, ClusterOptions::default())
        .await
        .expect("an empty cluster starts");
    let client = cluster.client();
    prepare(&client).await;
    let mut tasks = JoinSet::new();
    let objects = Arc::new(InMemory::new());
    tasks.spawn(node::run(client.clone(), objects, node::Manner::Silent));
    let api: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let mut events = watcher::watcher(api.clone(), watcher::Config::default())
        .default_backoff()
        .boxed();
    let began = tokio::time::Instant::now();
    for round in 0..depth {
        let creations = (0..width).map(|index| {
            let pod: Pod = serde_json::from_value(serde_json::json!({
                "metadata": { "name": format!("pod-{round}-{index}") },
                "spec": { "containers": [{ "name": "main", "image": "i", "args": ["ok", "x"] }] },
            }))
            .expect("a pod of one container is valid");
            let api = api.clone();
            async move { api.create(&PostParams::default(), &pod).await }
        });
        futures::future::try_join_all(creations)
            .await
            .expect("the names are new");
        let mut ended = std::collections::BTreeSet::new();
        let prefix = format!("pod-{round}-");
        while ended.len() < width {
            let event = events.next().await;
            let Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) = event
            else {
                continue;
            };
            let name = pod.metadata.name.unwrap_or_default();
            let phase = pod.status.and_then(|status| status.phase);
            if name.starts_with(&prefix) && phase.as_deref() == Some("Succeeded") {
                ended.insert(name);
            }
        }
    }
    let elapsed = began.elapsed();
    tasks.shutdown().await;
    elapsed
}
