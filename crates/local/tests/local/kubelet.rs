//! The kubelet with `/bin/sh` pods, over an in-process cluster and real processes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use flyte_local::kubelet::{Amount, Kubelet, KubeletOptions, SupervisorCommand};
use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::api::{Api, DeleteParams, LogParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster and the folder of its node; kubelets come and go.
pub(crate) struct Machine {
    folder: TempDir,
    cluster: Cluster,
    pub(crate) client: Client,
    kubelets: JoinSet<()>,
    stop: CancellationToken,
}

impl Machine {
    pub(crate) async fn start() -> Self {
        let cluster = Cluster::new(NoStore, ClusterOptions::default())
            .await
            .unwrap();
        let client = cluster.client();
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Self {
            folder,
            cluster,
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
            now: Arc::new(jiff::Timestamp::now),
        };
        let kubelet = Kubelet::new(self.client.clone(), options).await.unwrap();
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

#[tokio::test]
async fn exit_codes_become_phases_and_terminated_states() {
    let machine = Machine::start().await;
    machine.create("good", sh("echo fine")).await;
    machine
        .create("bad", sh("echo first; echo why >&2; exit 3"))
        .await;
    machine.create("killed", sh("kill -9 $$")).await;
    let good = machine.phase("good", "Succeeded").await;
    let state = ended(&good, "main");
    assert_eq!(
        (state.exit_code, state.reason.as_deref()),
        (0, Some("Completed"))
    );
    assert!(state.started_at.is_some() && state.finished_at.is_some());
    assert_eq!(
        good.status.as_ref().unwrap().host_ip.as_deref(),
        Some("127.0.0.1")
    );
    assert_eq!(
        good.spec.as_ref().unwrap().node_name.as_deref(),
        Some("node")
    );
    let bad = ended(&machine.phase("bad", "Failed").await, "main");
    assert_eq!((bad.exit_code, bad.reason.as_deref()), (3, Some("Error")));
    assert_eq!(
        bad.message.as_deref(),
        Some("first\nwhy\n"),
        "the end of the log is the message"
    );
    let killed = ended(&machine.phase("killed", "Failed").await, "main");
    assert_eq!((killed.exit_code, killed.signal), (137, Some(9)));
    let node: Node = Api::all(machine.client.clone()).get("node").await.unwrap();
    assert_eq!(node.status.unwrap().capacity.unwrap()["cpu"].0, "2");
}

#[tokio::test]
async fn a_container_has_its_own_folder_environment_and_group() {
    let machine = Machine::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(machine.client.clone(), "default");
    let map = serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"k": "mapped"}}))
        .unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(machine.client.clone(), "default");
    let secret =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"k": "secret"}}))
            .unwrap();
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    let script = "echo $NODE_GIVES $OWN $MAP $SECRET $NAME; pwd; echo $HOME; \
                  test `cut -d' ' -f5 /proc/$$/stat` = $$ && echo leader; env | wc -l";
    let mut spec = sh(script);
    spec["containers"][0]["env"] = json!([
        {"name": "OWN", "value": "own"},
        {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]);
    machine.create("p", spec).await;
    machine.phase("p", "Succeeded").await;
    let log = machine.log("p", &LogParams::default()).await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "this own mapped secret p");
    assert!(lines[1].ends_with("/work/main"), "{log}");
    assert!(lines[2].ends_with("/home"), "{log}");
    assert_eq!(lines[3], "leader", "a process group of its own");
    assert!(
        lines[4].trim().parse::<u32>().unwrap() < 15,
        "nothing is inherited: {log}"
    );
}

#[tokio::test]
async fn volumes_are_files_where_folders_can_be_mounted() {
    let machine = Machine::start().await;
    let secrets: Api<Secret> = Api::namespaced(machine.client.clone(), "default");
    let secret =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"key": "hidden"}}))
            .unwrap();
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    let at = machine.file("mounted");
    let mut spec = sh(&format!(
        "cat {0}/secret/key; echo shared > {0}/empty/file",
        at.display()
    ));
    spec["volumes"] =
        json!([{"name": "v", "secret": {"secretName": "s"}}, {"name": "e", "emptyDir": {}}]);
    let mounts = json!([{"name": "v", "mountPath": at.join("secret")}, {"name": "e", "mountPath": at.join("empty")}]);
    spec["containers"][0]["volumeMounts"] = mounts.clone();
    spec["initContainers"] = json!([shell(
        "init",
        &format!("echo from-init > {}/empty/early", at.display())
    )]);
    spec["initContainers"][0]["volumeMounts"] = mounts;
    spec["containers"][0]["command"][2] =
        json!(format!("cat {0}/secret/key {0}/empty/early", at.display()));
    machine.create("p", spec).await;
    let can_mount = std::process::Command::new("unshare")
        .args(["--mount", "true"])
        .status()
        .is_ok_and(|s| s.success());
    if can_mount {
        machine.phase("p", "Succeeded").await;
        let params = LogParams {
            container: Some("main".to_owned()),
            ..LogParams::default()
        };
        assert_eq!(machine.log("p", &params).await, "hiddenfrom-init\n");
        assert!(
            !at.join("secret/key").exists(),
            "the mount is the container's alone"
        );
    } else {
        let blocked = machine
            .until("p", "blocked", |pod| {
                pod.is_some_and(|pod| waits(pod, "CreateContainerConfigError"))
            })
            .await;
        assert!(format!("{blocked:?}").contains("mount namespaces"));
    }
}

fn waits(pod: &Pod, reason: &str) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().any(|status| {
        let waiting = status
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(reason))
    })
}

#[tokio::test]
async fn what_cannot_be_started_says_what_and_how_to_mend_it() {
    let machine = Machine::start().await;
    let mut spec = sh("");
    spec["containers"][0]["command"] = json!(["pyflyte-execute-missing"]);
    machine.create("absent", spec).await;
    let blocked = machine
        .until("absent", "blocked", |pod| {
            pod.is_some_and(|pod| waits(pod, "CreateContainerConfigError"))
        })
        .await
        .unwrap();
    let told = format!("{blocked:?}");
    assert!(
        told.contains("pyflyte-execute-missing") && told.contains("--python"),
        "{told}"
    );
    machine
        .pods()
        .delete("absent", &DeleteParams::default())
        .await
        .unwrap();
    machine.gone("absent").await;
    let mut spec = sh("");
    spec["containers"][0]["command"] = json!(["/no/such/program"]);
    machine.create("nowhere", spec).await;
    let state = ended(&machine.phase("nowhere", "Failed").await, "main");
    assert_eq!(
        (state.exit_code, state.reason.as_deref()),
        (127, Some("ContainerCannotRun"))
    );
    assert!(state.message.unwrap().contains("/no/such/program"));
    let mut spec = sh("true");
    spec["containers"][0]["env"] =
        json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]);
    machine.create("secretless", spec).await;
    let blocked = machine
        .until("secretless", "blocked", |pod| {
            pod.is_some_and(|pod| waits(pod, "CreateContainerConfigError"))
        })
        .await
        .unwrap();
    assert!(
        format!("{blocked:?}").contains("secret \\\"none\\\" not found"),
        "{blocked:?}"
    );
}

#[tokio::test]
async fn init_containers_run_in_turn_before_the_rest() {
    let machine = Machine::start().await;
    let trace = machine.file("trace");
    let say = |what: &str| format!("echo {what} >> {}", trace.display());
    let mut spec = sh(&say("main"));
    spec["initContainers"] = json!([shell("one", &say("one")), shell("two", &say("two"))]);
    machine.create("p", spec).await;
    let pod = machine.phase("p", "Succeeded").await;
    assert_eq!(std::fs::read_to_string(&trace).unwrap(), "one\ntwo\nmain\n");
    assert_eq!(ended(&pod, "one").exit_code, 0);
    let mut spec = sh(&say("never"));
    spec["initContainers"] = json!([shell("one", "exit 4")]);
    machine.create("q", spec).await;
    let pod = machine.phase("q", "Failed").await;
    assert_eq!(ended(&pod, "one").exit_code, 4);
    assert!(!std::fs::read_to_string(&trace).unwrap().contains("never"));
}

#[tokio::test]
async fn sidecars_run_beside_the_main_container_and_end_after_it() {
    let machine = Machine::start().await;
    let trace = machine.file("trace");
    let wait = format!(
        "while ! [ -e {} ]; do sleep 0.02; done; echo main",
        trace.display()
    );
    let mut spec = sh(&wait);
    let side = format!(
        "echo up > {}; trap 'exit 0' TERM; while true; do sleep 0.02; done",
        trace.display()
    );
    spec["initContainers"] = json!([shell("side", &side)]);
    spec["initContainers"][0]["restartPolicy"] = json!("Always");
    spec["containers"]
        .as_array_mut()
        .unwrap()
        .push(shell("second", "exit 0"));
    machine.create("p", spec).await;
    let pod = machine.phase("p", "Succeeded").await;
    assert_eq!(ended(&pod, "main").exit_code, 0);
    assert_eq!(ended(&pod, "side").exit_code, 0);
}

#[tokio::test]
async fn a_pod_past_its_deadline_fails_with_its_processes() {
    let machine = Machine::start().await;
    let mut spec = sh("echo $$; sleep 600 & wait");
    spec["activeDeadlineSeconds"] = json!(1);
    machine.create("p", spec).await;
    let pod = machine.phase("p", "Failed").await;
    assert_eq!(
        pod.status.unwrap().reason.as_deref(),
        Some("DeadlineExceeded")
    );
    assert!(!is_alive(&machine.log("p", &LogParams::default()).await));
}

#[tokio::test]
async fn deleting_a_pod_ends_its_whole_process_group() {
    let machine = Machine::start().await;
    // Both ignore SIGTERM, so that the grace period has to pass.
    let script =
        "trap '' TERM; sh -c 'echo $$; while true; do sleep 0.05; done' & echo $$; wait; wait";
    machine.create("p", sh(script)).await;
    machine.phase("p", "Running").await;
    let pids: [String; 2] = machine.lines("p").await;
    assert!(pids.iter().all(|pid| is_alive(pid)));
    machine
        .pods()
        .delete("p", &DeleteParams::default().grace_period(1))
        .await
        .unwrap();
    machine.gone("p").await;
    assert!(!pids.iter().any(|pid| is_alive(pid)), "both are gone");
}

#[tokio::test]
async fn a_pod_deleted_by_force_leaves_no_process() {
    let mut machine = Machine::start().await;
    machine.create("p", sh("echo $$; exec sleep 600")).await;
    machine.phase("p", "Running").await;
    let [pid] = machine.lines("p").await;
    let id: i32 = pid.trim().parse().unwrap();
    let handle = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(id).unwrap(),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    machine
        .pods()
        .delete("p", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let end = tokio::task::spawn_blocking(move || {
        let mut polled = [rustix::event::PollFd::new(
            &handle,
            rustix::event::PollFlags::IN,
        )];
        let limit = rustix::event::Timespec {
            tv_sec: 30,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut polled, Some(&limit)).unwrap()
    });
    assert_eq!(end.await.unwrap(), 1, "the process ends");
    machine.stop_kubelet().await;
}

#[tokio::test]
async fn a_failing_container_is_restarted_when_its_policy_says_so() {
    let machine = Machine::start().await;
    let mut spec = sh("echo run; exit 1");
    spec["restartPolicy"] = json!("OnFailure");
    machine.create("p", spec).await;
    let pod = machine
        .until("p", "restarting", |pod| {
            pod.is_some_and(|pod| waits(pod, "CrashLoopBackOff"))
        })
        .await
        .unwrap();
    let status = &pod
        .status
        .as_ref()
        .unwrap()
        .container_statuses
        .as_ref()
        .unwrap()[0];
    assert_eq!(status.restart_count, 1);
    assert_eq!(
        status
            .last_state
            .as_ref()
            .unwrap()
            .terminated
            .as_ref()
            .unwrap()
            .exit_code,
        1
    );
    assert_eq!(phase_of(&pod), "Running");
    assert_eq!(machine.log("p", &LogParams::default()).await, "run\n");
    machine
        .pods()
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    machine.gone("p").await;
}

#[tokio::test]
async fn pods_wait_for_room_and_are_told_how_much_there_is() {
    let machine = Machine::start().await;
    let go = machine.file("go");
    let sized = |cpu: &str, script: &str| {
        let mut spec = sh(script);
        spec["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
        spec
    };
    machine.create("huge", sized("64", "true")).await;
    let huge = machine
        .until("huge", "unschedulable", |pod| {
            pod.is_some_and(|pod| format!("{pod:?}").contains("Unschedulable"))
        })
        .await
        .unwrap();
    let condition = huge
        .status
        .unwrap()
        .conditions
        .unwrap()
        .into_iter()
        .find(|condition| condition.type_ == "PodScheduled")
        .unwrap();
    let message = condition.message.unwrap();
    assert!(
        message.contains("requested cpu 64") && message.contains("available cpu 2"),
        "{message}"
    );
    machine
        .create(
            "first",
            sized(
                "1500m",
                &format!("while ! [ -e {} ]; do sleep 0.02; done", go.display()),
            ),
        )
        .await;
    machine.phase("first", "Running").await;
    machine.create("second", sized("1", "true")).await;
    machine
        .until("second", "told to wait", |pod| {
            pod.is_some_and(|pod| format!("{pod:?}").contains("waiting for other pods"))
        })
        .await;
    std::fs::write(&go, "").unwrap();
    machine.phase("second", "Succeeded").await;
    let first = ended(&machine.phase("first", "Succeeded").await, "main")
        .finished_at
        .unwrap();
    let second = ended(&machine.phase("second", "Succeeded").await, "main")
        .started_at
        .unwrap();
    assert!(second >= first);
}

#[tokio::test]
async fn logs_are_followed_to_their_end_and_cut_to_their_tail() {
    let machine = Machine::start().await;
    let go = machine.file("go");
    machine
        .create(
            "p",
            sh(&format!(
                "echo one; echo two; while ! [ -e {} ]; do sleep 0.02; done; echo three",
                go.display()
            )),
        )
        .await;
    machine.phase("p", "Running").await;
    let params = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut lines = machine
        .pods()
        .log_stream("p", &params)
        .await
        .unwrap()
        .lines();
    let mut next = async || {
        tokio::time::timeout(PATIENCE, lines.next())
            .await
            .unwrap()
            .map(Result::unwrap)
    };
    assert_eq!(
        (next().await.as_deref(), next().await.as_deref()),
        (Some("one"), Some("two"))
    );
    std::fs::write(&go, "").unwrap();
    assert_eq!(next().await.as_deref(), Some("three"));
    assert_eq!(next().await, None, "the log ends with its container");
    machine.phase("p", "Succeeded").await;
    let tail = LogParams {
        tail_lines: Some(2),
        ..LogParams::default()
    };
    assert_eq!(machine.log("p", &tail).await, "two\nthree\n");
    let previous = machine
        .pods()
        .logs(
            "p",
            &LogParams {
                previous: true,
                ..LogParams::default()
            },
        )
        .await;
    assert!(
        previous
            .unwrap_err()
            .to_string()
            .contains("no previous run")
    );
}

#[tokio::test]
async fn a_kubelet_that_starts_again_adopts_what_runs_and_runs_nothing_twice() {
    let mut machine = Machine::start().await;
    let (attempts, go) = (machine.file("attempts"), machine.file("go"));
    let script = format!(
        "echo $$ >> {}; while ! [ -e {} ]; do sleep 0.02; done; exit 5",
        attempts.display(),
        go.display()
    );
    machine.create("running", sh(&script)).await;
    machine.create("ending", sh(&script)).await;
    for name in ["running", "ending"] {
        machine.phase(name, "Running").await;
    }
    machine.kill_kubelet().await;
    // One ends while nobody looks.
    let pods = machine
        .pods()
        .list(&kube::api::ListParams::default())
        .await
        .unwrap();
    let uid = pods
        .items
        .iter()
        .find(|pod| pod.name_any() == "ending")
        .unwrap()
        .uid()
        .unwrap();
    let record = machine.file(&format!("node/records/{uid}.json"));
    let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let pid = record["containers"][0]["state"]["Running"]["process"]["pid"]
        .as_i64()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    machine.start_kubelet().await;
    assert_eq!(
        ended(&machine.phase("ending", "Failed").await, "main").exit_code,
        137
    );
    std::fs::write(&go, "").unwrap();
    assert_eq!(
        ended(&machine.phase("running", "Failed").await, "main").exit_code,
        5
    );
    machine.kill_kubelet().await;
    machine.start_kubelet().await;
    machine.create("last", sh("true")).await;
    machine.phase("last", "Succeeded").await;
    assert_eq!(
        std::fs::read_to_string(&attempts).unwrap().lines().count(),
        2,
        "every attempt ran once"
    );
}

#[tokio::test]
async fn a_pod_whose_supervisor_is_killed_is_a_system_failure() {
    let machine = Machine::start().await;
    machine.create("p", sh("echo $$; exec sleep 600")).await;
    machine.phase("p", "Running").await;
    let [pid] = machine.lines("p").await;
    let records = std::fs::read_dir(machine.file("node/records")).unwrap();
    let record = records
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|kind| kind == "json"))
        .unwrap();
    let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let supervisor = i32::try_from(record["supervisor"]["pid"].as_i64().unwrap()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(supervisor).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let pod = machine.phase("p", "Failed").await;
    assert_eq!(
        pod.status.as_ref().unwrap().reason.as_deref(),
        Some("NodeShutdown")
    );
    assert_eq!(ended(&pod, "main").exit_code, 137);
    assert!(!is_alive(&pid), "what it left behind is ended");
}

#[tokio::test]
async fn a_kubelet_that_stops_ends_its_pods_as_shutdown() {
    let mut machine = Machine::start().await;
    machine.create("p", sh("echo $$; exec sleep 600")).await;
    machine.phase("p", "Running").await;
    let [pid] = machine.lines("p").await;
    machine.stop_kubelet().await;
    let pod = machine.pods().get("p").await.unwrap();
    assert_eq!(
        (
            phase_of(&pod),
            pod.status.as_ref().unwrap().reason.as_deref()
        ),
        ("Failed", Some("Shutdown"))
    );
    assert_eq!(ended(&pod, "main").exit_code, 143);
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn a_node_says_that_it_is_alive() {
    let machine = Machine::start().await;
    let leases: Api<Lease> = Api::namespaced(machine.client.clone(), "kube-node-lease");
    let renewed = |lease: Option<&Lease>| {
        lease
            .and_then(|lease| lease.spec.clone())
            .and_then(|spec| spec.renew_time)
    };
    let first = renewed(Some(&leases.get("node").await.unwrap())).unwrap();
    let again = await_condition(leases, "node", move |lease: Option<&Lease>| {
        renewed(lease).is_some_and(|time| time > first)
    });
    tokio::time::timeout(PATIENCE, again)
        .await
        .expect("a heartbeat")
        .unwrap();
}

#[tokio::test]
async fn many_pods_all_end() {
    let machine = Machine::start().await;
    for index in 0..30 {
        machine.create(&format!("p{index}"), sh("true")).await;
    }
    for index in 0..30 {
        machine.phase(&format!("p{index}"), "Succeeded").await;
    }
}

/// `kill -9` of a backend in the middle of everything, over and over (flyte's promise: an attempt runs once).
#[tokio::test]
async fn pods_created_while_kubelets_are_killed_run_once() {
    let mut machine = Machine::start().await;
    let attempts = machine.file("attempts");
    const ROUNDS: usize = 10;
    const EACH: usize = 4;
    for round in 0..ROUNDS {
        for index in 0..EACH {
            let name = format!("p{round}-{index}");
            let script = format!("echo {name} >> {}; sleep 0.0{index}", attempts.display());
            machine.create(&name, sh(&script)).await;
        }
        // Each round the kubelet gets a little further before it dies.
        for _ in 0..round * 7 {
            tokio::task::yield_now().await;
        }
        if round % 2 == 1 {
            machine
                .until(&format!("p{round}-0"), "started", |pod| {
                    pod.is_some_and(|pod| {
                        pod.spec
                            .as_ref()
                            .is_some_and(|spec| spec.node_name.is_some())
                    })
                })
                .await;
        }
        machine.kill_kubelet().await;
        machine.start_kubelet().await;
    }
    for round in 0..ROUNDS {
        for index in 0..EACH {
            machine
                .phase(&format!("p{round}-{index}"), "Succeeded")
                .await;
        }
    }
    let text = std::fs::read_to_string(&attempts).unwrap();
    let mut names: Vec<&str> = text.lines().collect();
    assert_eq!(names.len(), ROUNDS * EACH, "{text}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ROUNDS * EACH, "{text}");
}

fn waiting_reason(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

#[tokio::test]
async fn an_end_that_cannot_be_recorded_is_recorded_later() {
    let machine = Machine::start().await;
    let go = machine.file("go");
    let script = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
    let uid = machine.create("late", sh(&script)).await.uid().unwrap();
    machine.phase("late", "Running").await;
    // A folder stands where the supervisor writes its next record: it fails as it would on a full disk.
    let in_the_way = machine.file("node/records").join(format!(".{uid}.json"));
    std::fs::create_dir(&in_the_way).unwrap();
    std::fs::write(&go, "").unwrap();
    let log = machine.file("node/pods").join(&uid).join("supervisor.log");
    let failed = async {
        while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("cannot be written")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
    std::fs::remove_dir(&in_the_way).unwrap();
    machine.phase("late", "Succeeded").await;
}

#[tokio::test]
async fn a_pod_whose_folder_cannot_be_made_starts_when_it_can() {
    let machine = Machine::start().await;
    let (pods, aside) = (machine.file("node/pods"), machine.file("aside"));
    std::fs::rename(&pods, &aside).unwrap();
    std::fs::write(&pods, "in the way").unwrap();
    machine.create("patient", sh("true")).await;
    machine
        .until("patient", "blocked", |pod| {
            pod.and_then(waiting_reason).as_deref() == Some("CreateContainerError")
        })
        .await;
    std::fs::remove_file(&pods).unwrap();
    std::fs::rename(&aside, &pods).unwrap();
    machine.phase("patient", "Succeeded").await;
}

#[tokio::test]
async fn a_pod_waits_for_a_secret_that_comes_later() {
    let machine = Machine::start().await;
    let mut spec = sh("test \"$WORD\" = open");
    spec["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "late"}}]);
    machine.create("waits", spec).await;
    machine
        .until("waits", "blocked", |pod| {
            pod.and_then(waiting_reason).as_deref() == Some("CreateContainerConfigError")
        })
        .await;
    let secret: Secret = serde_json::from_value(
        json!({"metadata": {"name": "late"}, "stringData": {"WORD": "open"}}),
    )
    .unwrap();
    Api::<Secret>::namespaced(machine.client.clone(), "default")
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    machine.phase("waits", "Succeeded").await;
}

#[tokio::test]
async fn a_supervisor_whose_folder_is_removed_ends() {
    let mut machine = Machine::start().await;
    let go = machine.file("go");
    let script = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
    let uid = machine.create("left", sh(&script)).await.uid().unwrap();
    machine.phase("left", "Running").await;
    machine.kill_kubelet().await;
    std::fs::remove_dir_all(machine.file("node")).unwrap();
    std::fs::write(&go, "").unwrap();
    let supervised = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|process| {
                std::fs::read(process.path().join("cmdline"))
                    .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&uid))
            })
    };
    let ended = async {
        while supervised() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_is_over_keeps_its_log_until_it_is_deleted() {
    let mut machine = Machine::start().await;
    let folder = |pod: &Pod| {
        let pods = machine.folder.path().join("node/pods");
        pods.join(pod.uid().unwrap())
    };
    let first = folder(&machine.create("first", sh("echo one")).await);
    let second = folder(&machine.create("second", sh("echo two; exit 1")).await);
    machine.phase("first", "Succeeded").await;
    machine.phase("second", "Failed").await;
    let all = LogParams::default();
    assert_eq!(machine.log("first", &all).await, "one\n");
    assert_eq!(machine.log("first", &all).await, "one\n");
    let delete = async |machine: &Machine, name: &str| {
        machine
            .pods()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        // The kubelet sees what happens in its order: when the later pod has run, the deletion is done.
        let later = format!("after-{name}");
        machine.create(&later, sh("true")).await;
        machine.phase(&later, "Succeeded").await;
    };
    assert!(first.exists());
    delete(&machine, "first").await;
    assert!(!first.exists());
    machine.stop_kubelet().await;
    machine.start_kubelet().await;
    assert_eq!(machine.log("second", &all).await, "two\n");
    assert!(second.exists());
    delete(&machine, "second").await;
    assert!(!second.exists());
}
