//! The Node object and its lease.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::cluster::time_text;
use crate::kubelet::{Shared, quantity};

/// Writes the Node object.
pub(super) async fn register(shared: &Shared) -> Result<(), kube::Error> {
    let options = &shared.options;
    let api: Api<Node> = Api::all(shared.client.clone());
    let name = &options.node_name;
    let labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture(),
        "node.kubernetes.io/instance-type": "flyte-local",
    });
    let node: Node =
        serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } }))
            .map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(refusal)) if refusal.code == 409 => {}
        Err(error) => return Err(error),
    }
    let capacity = json!({
        "cpu": quantity::cores_text(options.capacity.cpu_millis), "memory": options.capacity.memory.to_string(),
        "pods": "1000",
    });
    let now = time_text((options.now)());
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "", "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        })
    };
    let endpoints = options
        .port
        .map(|port| json!({ "kubeletEndpoint": { "Port": port } }));
    let status = json!({
        "daemonEndpoints": endpoints,
        "capacity": capacity, "allocatable": capacity,
        "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }, { "type": "Hostname", "address": name }],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "nodeInfo": {
            "kubeletVersion": concat!("v", env!("CARGO_PKG_VERSION")), "architecture": architecture(),
            "operatingSystem": "linux", "containerRuntimeVersion": "process://1", "osImage": "", "kernelVersion": "",
            "kubeProxyVersion": "", "bootID": "", "machineID": "", "systemUUID": "",
        },
    });
    api.patch_status(
        name,
        &PatchParams::default(),
        &Patch::Merge(json!({ "status": status })),
    )
    .await?;
    renew_lease(shared).await
}

/// The processor, in Kubernetes' words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Says that the node is alive, as the node controller of a real cluster wants to hear.
pub(super) async fn renew_lease(shared: &Shared) -> Result<(), kube::Error> {
    const SECONDS: u32 = 40;
    let name = &shared.options.node_name;
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), "kube-node-lease");
    let now = (shared.options.now)()
        .strftime("%Y-%m-%dT%H:%M:%S.%6fZ")
        .to_string();
    let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": SECONDS, "renewTime": now });
    match api
        .patch(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({ "spec": spec })),
        )
        .await
    {
        Err(kube::Error::Api(refusal)) if refusal.code == 404 => {
            let lease =
                serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec }))
                    .map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        other => other.map(drop),
    }
}
