//! The kubelet with `/bin/sh` pods, over an in-process cluster and real processes: what its tests share. Each module has the
//! tests of one part of a pod's life.

use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use flyte_local::kubelet::{Amount, Kubelet, KubeletOptions, SupervisorCommand};
use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, LogParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod containers;
mod ends;
mod gates;
mod logs;
mod node;
mod probes;
mod restarts;
mod retries;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster and the folder of its node; kubelets come and go.
pub(crate) struct Machine {
    folder: TempDir,
    cluster: Cluster,
    pub(crate) client: Client,
    /// The kubelet's own, for its next start.
    pub(crate) kubelet_client: Client,
    kubelets: JoinSet<()>,
    stop: CancellationToken,
}

impl Machine {
    pub(crate) async fn start() -> Self {
        Self::start_through(|client| client).await
    }

    /// A machine whose kubelet reaches the API through something.
    pub(crate) async fn start_through(through: impl FnOnce(Client) -> Client) -> Self {
        let cluster = Cluster::new(NoStore, ClusterOptions::default())
            .await
            .unwrap();
        let client = cluster.client();
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Self {
            folder,
            cluster,
            kubelet_client: through(client.clone()),
            client,
            kubelets: JoinSet::new(),
            stop: CancellationToken::new(),
        };
        machine.start_kubelet().await;
        machine
    }

    pub(crate) async fn start_kubelet(&mut self) {
        let options = KubeletOptions {
            node_name: "node".to_owned(),
            capacity: Amount {
                cpu_millis: 2000,
                memory: 1 << 30,
            },
            folder: self.folder.path().join("node"),
            programs: BTreeMap::from([(
                "/bin/only-in-an-image".to_owned(),
                vec!["echo".to_owned(), "here it is".to_owned()],
            )]),
            supervisor: SupervisorCommand {
                program: PathBuf::from(env!("CARGO_BIN_EXE_flyte-local-supervisor")),
                arguments: Vec::new(),
            },
            schedules: true,
            python_bin: None,
            path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
            environment: vec![("NODE_GIVES".to_owned(), "this".to_owned())],
            cgroup_root: None,
            shutdown_grace: Duration::from_secs(5),
            heartbeat: Some(Duration::from_millis(20)),
            port: None,
            now: Arc::new(jiff::Timestamp::now),
        };
        let kubelet = Kubelet::new(self.kubelet_client.clone(), options)
            .await
            .unwrap();
        self.cluster.set_log_source(kubelet.log_source());
        let mut ready = kubelet.ready();
        self.stop = CancellationToken::new();
        let stop = self.stop.clone();
        self.kubelets
            .spawn(async move { kubelet.run(stop).await.unwrap() });
        tokio::time::timeout(PATIENCE, ready.wait_for(|ready| *ready))
            .await
            .unwrap()
            .unwrap();
    }

    /// As `kill -9`: nothing is told, nothing is awaited.
    pub(crate) async fn kill_kubelet(&mut self) {
        self.kubelets.shutdown().await;
    }

    pub(crate) async fn stop_kubelet(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.kubelets.join_next().await {
            ended.unwrap();
        }
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) -> Pod {
        let pod =
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        self.pods()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap()
    }

    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(Option<&Pod>) -> bool,
    ) -> Option<Pod> {
        let condition = await_condition(self.pods(), name, |pod: Option<&Pod>| holds(pod));
        let Ok(pod) = tokio::time::timeout(PATIENCE, condition).await else {
            let pod = self.pods().get_opt(name).await.unwrap();
            panic!("pod {name} never became {what}: {pod:?}");
        };
        pod.unwrap()
    }

    pub(crate) async fn phase(&self, name: &str, phase: &str) -> Pod {
        self.until(name, phase, |pod| {
            pod.is_some_and(|pod| phase_of(pod) == phase)
        })
        .await
        .unwrap()
    }

    pub(crate) async fn gone(&self, name: &str) {
        self.until(name, "gone", |pod| pod.is_none()).await;
    }

    /// The first lines of a log, awaited.
    pub(crate) async fn lines<const COUNT: usize>(&self, name: &str) -> [String; COUNT] {
        let params = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let lines = self.pods().log_stream(name, &params).await.unwrap().lines();
        let first = lines.take(COUNT).map(Result::unwrap).collect::<Vec<_>>();
        let first = tokio::time::timeout(PATIENCE, first)
            .await
            .expect("the container writes its log");
        first.try_into().unwrap()
    }

    pub(crate) async fn log(&self, name: &str, params: &LogParams) -> String {
        self.pods().logs(name, params).await.unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Temporary files are outside the folder that goes with this.
        let pods = std::fs::read_dir(self.folder.path().join("node/pods"));
        for pod in pods.into_iter().flatten().flatten() {
            if let Ok(temporary) = std::fs::read_link(pod.path().join("tmp")) {
                std::fs::remove_dir_all(temporary).ok();
            }
        }
        // Supervisors outlive kubelets by design; tests must not leave any.
        let records = self.folder.path().join("node/records");
        for entry in std::fs::read_dir(records).into_iter().flatten().flatten() {
            let record: Value =
                serde_json::from_slice(&std::fs::read(entry.path()).unwrap_or_default())
                    .unwrap_or_default();
            if record["outcome"] == json!("Running") {
                let containers = record["containers"].as_array().cloned().unwrap_or_default();
                let pids = containers
                    .iter()
                    .map(|container| &container["state"]["Running"]["process"]["pid"]);
                for pid in pids
                    .chain([&record["supervisor"]["pid"]])
                    .filter_map(Value::as_i64)
                {
                    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                    // What has ended meanwhile cannot be ended again.
                    rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).ok();
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
                }
            }
        }
    }
}

fn phase_of(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

pub(crate) fn sh(script: &str) -> Value {
    json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 2, "containers": [shell("main", script)]})
}

pub(crate) fn shell(name: &str, script: &str) -> Value {
    // Kubernetes takes `$$` in a command for an escaped dollar sign.
    let script = script.replace("$$", "$$$$");
    json!({"name": name, "image": "none", "command": ["/bin/sh", "-c", script],
           "terminationMessagePolicy": "FallbackToLogsOnError"})
}

pub(crate) fn ended(
    pod: &Pod,
    container: &str,
) -> k8s_openapi::api::core::v1::ContainerStateTerminated {
    let status = pod.status.as_ref().unwrap();
    let all = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    let found = all
        .into_iter()
        .find(|status| status.name == container)
        .unwrap();
    found
        .state
        .as_ref()
        .unwrap()
        .terminated
        .clone()
        .unwrap_or_else(|| panic!("{container} has not ended: {found:?}"))
}

pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
