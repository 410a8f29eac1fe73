//! The platform before an API server that is not its own: here an embedded one of another process would do.

use std::path::PathBuf;
use std::time::Duration;

use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use flyte_local::platform::{ApiServer, LocalPlatform, PlatformError};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::kubelet::PATIENCE;
use crate::platform::options;

async fn api_server() -> ApiServer {
    let cluster = Cluster::new(NoStore, ClusterOptions::default())
        .await
        .unwrap();
    ApiServer {
        client: cluster.client(),
        kubeconfig: PathBuf::from("/given/kubeconfig"),
    }
}

async fn join(
    server: &ApiServer,
    folder: &std::path::Path,
    stop: &CancellationToken,
) -> Result<LocalPlatform, PlatformError> {
    let mut options = options(folder);
    options.node.heartbeat = Some(Duration::from_millis(20));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    LocalPlatform::join(server.clone(), listener, options, stop.clone()).await
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn pods_of_another_api_server_run_here_and_it_is_told_their_logs() {
    let (server, folder) = (api_server().await, tempfile::tempdir().unwrap());
    let stop = CancellationToken::new();
    let platform = join(&server, folder.path(), &stop).await.unwrap();
    assert_eq!(platform.kubernetes_address(), None);
    assert_eq!(platform.kubeconfig(), server.kubeconfig);
    assert!(!folder.path().join("data/cluster.db").exists());

    let pods: Api<Pod> = Api::namespaced(server.client.clone(), "default");
    let container = json!({"name": "main", "image": "none", "command": ["/bin/sh", "-c", "echo first; echo second"]});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "containers": [container]}});
    pods.create(&PostParams::default(), &object(pod))
        .await
        .unwrap();
    let over = kube::runtime::wait::await_condition(pods, "p", |pod: Option<&Pod>| {
        let status = pod.and_then(|pod| pod.status.as_ref());
        status.is_some_and(|status| status.phase.as_deref() == Some("Succeeded"))
    });
    tokio::time::timeout(PATIENCE, over)
        .await
        .expect("the pod ends")
        .unwrap();

    let nodes: Api<Node> = Api::all(server.client.clone());
    let endpoints = nodes.get("node").await.unwrap().status.unwrap();
    let port = endpoints
        .daemon_endpoints
        .and_then(|endpoints| endpoints.kubelet_endpoint)
        .expect("the node says where its logs are")
        .port;
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    for (path, code, text) in [
        ("default/p/main", 200, "first\nsecond\n"),
        ("default/p/main?tailLines=1", 200, "second\n"),
        ("default/p/main?limitBytes=3", 200, "fir"),
        ("default/q/main", 400, "pod q does not exist"),
        (
            "default/p/main?previous=true",
            400,
            "container \"main\" in pod \"p\"",
        ),
    ] {
        let url = format!("https://127.0.0.1:{port}/containerLogs/{path}");
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), code, "{path}");
        let told = answer.text().await.unwrap();
        assert!(told.starts_with(text), "{path}: {told}");
    }
    stop.cancel();
    tokio::time::timeout(PATIENCE, platform.run())
        .await
        .expect("a clean stop")
        .unwrap();
}

#[tokio::test]
async fn an_api_server_with_nodes_of_its_own_is_refused() {
    let (server, folder) = (api_server().await, tempfile::tempdir().unwrap());
    let nodes: Api<Node> = Api::all(server.client.clone());
    // Its own from an earlier start is none of them.
    for name in ["node", "worker-1", "worker-2", "worker-3", "worker-4"] {
        let node = object(json!({"metadata": {"name": name}}));
        nodes.create(&PostParams::default(), &node).await.unwrap();
    }
    let stop = CancellationToken::new();
    let refused = join(&server, folder.path(), &stop).await.unwrap_err();
    let PlatformError::OtherNodes { names } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(*names, ["worker-1", "worker-2", "worker-3"]);
    assert!(refused.to_string().contains("worker-1, worker-2, worker-3"));
    assert!(!folder.path().join("data").exists(), "nothing is written");
}
