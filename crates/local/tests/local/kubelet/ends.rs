//! How pods are ended: by deadline, by deletion, by force.

use futures::StreamExt;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, LogParams, WatchParams};
use kube::core::WatchEvent;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::kubelet::{Machine, PATIENCE, ended, is_alive, phase_of, sh, shell};

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

/// Every version of a pod, from now on until it is deleted or `Failed`.
async fn versions(pods: Api<Pod>, ready: tokio::sync::oneshot::Sender<()>) -> Vec<Pod> {
    let mut events = pods
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap()
        .boxed();
    let mut ready = Some(ready);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        let (pod, gone) = match event.unwrap() {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
            WatchEvent::Deleted(pod) => (pod, true),
            other => panic!("{other:?}"),
        };
        if let Some(ready) = ready.take() {
            ready.send(()).unwrap();
        }
        let over = phase_of(&pod) == "Failed";
        seen.push(pod);
        if gone || over {
            break;
        }
    }
    seen
}

/// How a pod is made to end in a test.
#[derive(Debug, Clone, Copy)]
enum End {
    Shutdown,
    Deadline,
    Deletion,
}

#[tokio::test]
async fn the_ends_of_the_containers_and_of_the_pod_are_one_status() {
    // One ends at once, the other when the grace period is over: what ended first does not show before.
    let quick = "exec sleep 600";
    let slow = "trap '' TERM; while true; do sleep 0.05; done";
    for (case, how, reason) in [
        ("the node shuts down", End::Shutdown, Some("Shutdown")),
        ("its deadline", End::Deadline, Some("DeadlineExceeded")),
        ("it is deleted", End::Deletion, None),
    ] {
        let mut machine = Machine::start().await;
        let mut spec = json!({
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [shell("main", quick), shell("slow", slow)],
        });
        if matches!(how, End::Deadline) {
            spec["activeDeadlineSeconds"] = json!(2);
        }
        machine.create("p", spec).await;
        machine.phase("p", "Running").await;
        let (sender, watching) = tokio::sync::oneshot::channel();
        let mut watch = JoinSet::new();
        watch.spawn(versions(machine.pods(), sender));
        watching.await.unwrap();
        match how {
            End::Shutdown => machine.stop_kubelet().await,
            End::Deadline => {}
            End::Deletion => {
                let gently = DeleteParams::default();
                machine.pods().delete("p", &gently).await.unwrap();
            }
        }
        let seen = tokio::time::timeout(PATIENCE, watch.join_next()).await;
        let seen = seen.unwrap().unwrap().unwrap();
        let last = seen.last().unwrap();
        assert_eq!(phase_of(last), "Failed", "{case}");
        let found = last.status.as_ref().unwrap().reason.as_deref();
        assert_eq!(found, reason, "{case}");
        assert_eq!(ended(last, "main").exit_code, 143, "{case}");
        assert_eq!(ended(last, "slow").exit_code, 137, "{case}");
        for pod in &seen {
            let statuses = pod.status.as_ref().unwrap().container_statuses.iter();
            let any_ended = statuses.flatten().any(|status| {
                let state = status.state.as_ref().unwrap();
                state.terminated.is_some()
            });
            assert_eq!(any_ended, phase_of(pod) == "Failed", "{case}: {pod:?}");
        }
    }
}

/// A client that keeps back the answer to a write of the status of pod `p` that says it runs, until it is told to let go.
fn slow_to_hear_that_p_runs(client: Client, let_go: watch::Receiver<bool>) -> Client {
    let answer = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (client, mut let_go) = (client.clone(), let_go.clone());
        async move {
            let is_status = request.uri().path().ends_with("/pods/p/status");
            let answer = client.send(request).await?;
            if !is_status {
                return Ok::<_, kube::Error>(answer);
            }
            let (parts, body) = answer.into_parts();
            let body = body.collect().await?.to_bytes();
            if String::from_utf8_lossy(&body).contains(r#""phase":"Running""#) {
                let_go.wait_for(|go| *go).await.unwrap();
            }
            Ok(http::Response::from_parts(
                parts,
                kube::client::Body::from(body),
            ))
        }
    });
    Client::new(answer, "default")
}

#[tokio::test]
async fn a_deletion_while_the_status_is_written_is_not_missed() {
    let (go, let_go) = watch::channel(false);
    let machine = Machine::start_through(|client| slow_to_hear_that_p_runs(client, let_go)).await;
    machine.create("p", sh("exec sleep 600")).await;
    machine.phase("p", "Running").await;
    machine
        .pods()
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    // The kubelet hears in order: by the time that a later pod has run, it knows of the deletion.
    machine.create("q", sh("true")).await;
    machine.phase("q", "Succeeded").await;
    go.send_replace(true);
    machine.gone("p").await;
}
