//! The platform as a whole: files, ports, TLS, restart.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flyte_local::collection::Retention;
use flyte_local::kubelet::{Amount, KubeletOptions, SupervisorCommand};
use flyte_local::platform::{LocalPlatform, PlatformError, PlatformOptions};
use flyte_local::s3::Credentials;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) fn options(folder: &Path) -> PlatformOptions {
    PlatformOptions {
        data_dir: folder.join("data"),
        host: "127.0.0.1".to_owned(),
        kubernetes_port: 0,
        s3_port: 0,
        credentials: Credentials {
            access_key: "minio".to_owned(),
            secret_key: "miniostorage".to_owned(),
        },
        bucket: "my-s3-bucket".to_owned(),
        retention: Retention::default(),
        json_depth: 128,
        node: KubeletOptions {
            node_name: "node".to_owned(),
            capacity: Amount {
                cpu_millis: 2000,
                memory: 1 << 30,
            },
            folder: PathBuf::new(),
            programs: BTreeMap::new(),
            supervisor: SupervisorCommand {
                program: PathBuf::from(env!("CARGO_BIN_EXE_flyte-local-supervisor")),
                arguments: Vec::new(),
            },
            schedules: true,
            python_bin: None,
            path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
            environment: Vec::new(),
            cgroup_root: None,
            shutdown_grace: Duration::from_secs(5),
            heartbeat: None,
            port: None,
            now: Arc::new(jiff::Timestamp::now),
        },
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn other_processes_reach_the_cluster_by_its_kubeconfig() {
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let platform = LocalPlatform::start(options(folder.path()), stop.clone())
        .await
        .unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("data")), 0o700);
    assert_eq!(mode(platform.kubeconfig()), 0o600);
    assert_eq!(mode(&folder.path().join("data/access.json")), 0o600);
    let remote = client(platform.kubeconfig()).await;
    let pods: Api<Pod> = Api::namespaced(remote.clone(), "default");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "containers": [
        {"name": "main", "image": "none", "command": ["/bin/sh", "-c", "echo $FLYTE_AWS_ENDPOINT $FLYTE_AWS_ACCESS_KEY_ID"]}]}});
    pods.create(
        &PostParams::default(),
        &serde_json::from_value(pod).unwrap(),
    )
    .await
    .unwrap();
    let over = kube::runtime::wait::await_condition(pods.clone(), "p", |pod: Option<&Pod>| {
        pod.and_then(|pod| pod.status.as_ref())
            .is_some_and(|status| status.phase.as_deref() == Some("Succeeded"))
    });
    tokio::time::timeout(Duration::from_secs(30), over)
        .await
        .expect("the pod ends")
        .unwrap();
    let log = pods.logs("p", &LogParams::default()).await.unwrap();
    assert_eq!(
        log.trim(),
        format!("http://localhost:{} minio", platform.s3_address().port())
    );

    let mut config = Kubeconfig::read_from(platform.kubeconfig()).unwrap();
    config.auth_infos[0].auth_info.as_mut().unwrap().token = Some("wrong".to_owned().into());
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    let stranger = Client::try_from(config).unwrap();
    let refused = Api::<Namespace>::all(stranger)
        .get("default")
        .await
        .unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 401));

    let config = Kubeconfig::read_from(platform.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(30), platform.run())
        .await
        .expect("a clean stop")
        .unwrap();
    // Another test may have the port by now, but nobody else takes this cluster's token.
    let late = Client::try_from(config).unwrap();
    let answer = Api::<Namespace>::all(late).get("default").await;
    assert!(answer.is_err(), "the cluster still answers");

    let stop = CancellationToken::new();
    let again = LocalPlatform::start(options(folder.path()), stop.clone())
        .await
        .unwrap();
    let kept: Api<Pod> = Api::namespaced(client(again.kubeconfig()).await, "default");
    assert_eq!(
        kept.get("p")
            .await
            .unwrap()
            .status
            .unwrap()
            .phase
            .as_deref(),
        Some("Succeeded")
    );
    stop.cancel();
    again.run().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = PlatformOptions {
        s3_port: port,
        ..options(folder.path())
    };
    let error = LocalPlatform::start(options, CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the S3 endpoint cannot listen on 127.0.0.1:{port}")
    );
    assert!(matches!(error, PlatformError::Listen { .. }));
    assert!(!folder.path().join("data").exists());
}

#[tokio::test]
async fn a_patch_that_takes_long_keeps_nobody_else_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let platform = LocalPlatform::start(options(folder.path()), CancellationToken::new())
        .await
        .unwrap();
    let inside = platform.client();
    crate::cluster::define_workflows(&inside).await;
    let request = |method: &str, uri: &str, form: &str, body: &Value| {
        http::Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", form)
            .body(body.to_string().into_bytes())
            .unwrap()
    };
    let uri = "/apis/flyte.lyft.com/v1alpha1/namespaces/default/flyteworkflows";
    let object = json!({"metadata": {"name": "w"}, "spec": {"list": vec![1; 200_000]}});
    let made = request("POST", uri, "application/json", &object);
    inside.request_text(made).await.unwrap();
    let (one, two) = (
        client(platform.kubeconfig()).await,
        client(platform.kubeconfig()).await,
    );
    for connected in [&one, &two] {
        connected.apiserver_version().await.unwrap();
    }
    // Each removal moves the rest of the list.
    let patch = Value::from(vec![json!({"op": "remove", "path": "/spec/list/0"}); 2_000]);
    let patch = request(
        "PATCH",
        &format!("{uri}/w"),
        "application/json-patch+json",
        &patch,
    );
    let mut patched = std::pin::pin!(one.request_text(patch));
    let mut answers = 0;
    // Server and clients share one thread here.
    loop {
        tokio::select! {
            biased;
            done = &mut patched => break drop(done.unwrap()),
            other = two.apiserver_version() => drop(other.unwrap()),
        }
        answers += 1;
    }
    assert!(answers > 20, "{answers} others were answered meanwhile");
}
