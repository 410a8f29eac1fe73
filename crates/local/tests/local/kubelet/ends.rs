//! How pods are ended: by deadline, by deletion, by force.

use kube::api::{DeleteParams, LogParams};
use serde_json::json;

use crate::kubelet::{Machine, is_alive, sh};

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
