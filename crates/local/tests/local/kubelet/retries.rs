//! What fails for a while, such as a full disk or a missing secret, is tried again.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::kubelet::{Machine, PATIENCE, sh};

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
async fn a_shutdown_that_cannot_be_written_down_is_a_shutdown() {
    let mut machine = Machine::start().await;
    let uid = machine
        .create("p", sh("exec sleep 600"))
        .await
        .uid()
        .unwrap();
    machine.phase("p", "Running").await;
    // A folder stands where the kubelet writes its order: it fails as it would on a full disk.
    let pod = machine.file("node/pods").join(&uid);
    std::fs::create_dir(pod.join(".stop.json")).unwrap();
    machine.stop_kubelet().await;
    let status = machine.phase("p", "Failed").await.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("Shutdown"));
}

#[tokio::test]
async fn a_kubelet_whose_supervisors_have_no_room_for_records_ends_and_reads_them_later() {
    let mut machine = Machine::start().await;
    let uid = machine
        .create("p", sh("exec sleep 600"))
        .await
        .uid()
        .unwrap();
    machine.phase("p", "Running").await;
    let in_the_way = machine.file("node/records").join(format!(".{uid}.json"));
    std::fs::create_dir(&in_the_way).unwrap();
    std::fs::create_dir(machine.file("node/pods").join(&uid).join(".stop.json")).unwrap();
    let began = std::time::Instant::now();
    machine.stop_kubelet().await;
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(9), "{took:?}");
    std::fs::remove_dir(&in_the_way).unwrap();
    machine.start_kubelet().await;
    let status = machine.phase("p", "Failed").await.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("Shutdown"));
}
