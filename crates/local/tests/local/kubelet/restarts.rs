//! Kubelets and supervisors that stop, are killed and start again.

use kube::ResourceExt;
use serde_json::Value;

use crate::kubelet::{Machine, ended, is_alive, phase_of, sh};

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
