//! Logs: following, tails, and how long they are kept.

use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, LogParams};

use crate::kubelet::{Machine, PATIENCE, sh};

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
