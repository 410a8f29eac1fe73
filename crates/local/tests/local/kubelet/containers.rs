//! Containers of a pod: environment, volumes, exit codes, order, restarts.

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::api::{Api, DeleteParams, LogParams, PostParams};
use serde_json::json;

use crate::kubelet::{Machine, ended, phase_of, sh, shell};

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
async fn a_program_that_only_images_have_is_what_stands_for_it() {
    let machine = Machine::start().await;
    let container = json!({
        "name": "main", "image": "none", "command": ["/bin/only-in-an-image"], "args": ["and now"],
    });
    let spec = json!({ "restartPolicy": "Never", "containers": [container] });
    machine.create("p", spec).await;
    machine.phase("p", "Succeeded").await;
    let log = machine.log("p", &LogParams::default()).await;
    assert_eq!(log, "here it is and now\n");
}

#[tokio::test]
async fn a_sidecar_that_is_still_loading_hears_that_the_others_have_ended() {
    let machine = Machine::start().await;
    let mut sidecar = shell(
        "sidecar",
        "exec 2> /dev/null; sleep 0.3; trap 'echo heard; exit 0' TERM; while :; do sleep 0.05; done",
    );
    sidecar["restartPolicy"] = json!("Always");
    let mut spec = sh("true");
    spec["initContainers"] = json!([sidecar]);
    machine.create("p", spec).await;
    let pod = machine.phase("p", "Succeeded").await;
    assert_eq!(ended(&pod, "sidecar").exit_code, 0);
    let params = LogParams {
        container: Some("sidecar".to_owned()),
        ..LogParams::default()
    };
    assert_eq!(machine.log("p", &params).await, "heard\n");
}
