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
async fn lines_have_the_time_when_they_were_written() {
    let machine = Machine::start().await;
    let go = machine.file("go");
    // Lines that are written within 10 ms have one time, so it says more until the test has seen a later one.
    let script = format!(
        "echo one; while ! [ -e {} ]; do echo more; sleep 0.02; done; echo two; printf three",
        go.display()
    );
    let before = jiff::Timestamp::now();
    machine.create("p", sh(&script)).await;
    machine.phase("p", "Running").await;
    let stamped = LogParams {
        follow: true,
        timestamps: true,
        ..LogParams::default()
    };
    let follow = machine.pods().log_stream("p", &stamped).await.unwrap();
    let mut follow = follow.lines();
    let mut lines = Vec::new();
    while let Some(line) = tokio::time::timeout(PATIENCE, follow.next()).await.unwrap() {
        let line = line.unwrap();
        let (time, text) = line.split_once(' ').unwrap();
        assert_eq!(time.len(), "2026-01-01T00:00:00.000000000Z".len(), "{line}");
        let time = time.parse::<jiff::Timestamp>().unwrap();
        lines.push((time, text.to_owned()));
        if lines[0].0 < time {
            std::fs::write(&go, "").unwrap();
        }
    }
    let ended = jiff::Timestamp::now();
    machine.phase("p", "Succeeded").await;
    let (texts, times): (Vec<&str>, Vec<_>) =
        lines.iter().map(|(time, text)| (&**text, *time)).unzip();
    let Some((["one"], rest)) = texts.split_at_checked(1) else {
        panic!("{lines:?}")
    };
    assert!(rest.ends_with(&["two", "three"]), "{lines:?}");
    let (first, last) = (times[0], times[times.len() - 1]);
    assert!(
        before <= first && times.is_sorted() && last <= ended,
        "{lines:?}"
    );
    let since = |time: jiff::Timestamp| {
        let lines = lines.iter().filter(|(written, _)| *written >= time);
        let texts: Vec<&str> = lines.map(|(_, text)| &**text).collect();
        texts.join("\n")
    };
    // By hand, because `kube` rounds times to seconds.
    let log = async |query: String| {
        let uri = format!("/api/v1/namespaces/default/pods/p/log?{query}");
        let request = http::Request::get(uri).body(Vec::new()).unwrap();
        machine.client.request_text(request).await
    };
    let tick = jiff::SignedDuration::from_nanos(1);
    for (query, expected) in [
        (format!("sinceTime={first}"), since(first)),
        (format!("sinceTime={}", first + tick), since(first + tick)),
        (format!("sinceTime={last}"), since(last)),
        (format!("sinceTime={}", ended + tick), String::new()),
        (
            "sinceSeconds=3600&limitBytes=6".to_owned(),
            "one\nmo".to_owned(),
        ),
        (
            format!("sinceTime={first}&tailLines=2"),
            "two\nthree".to_owned(),
        ),
        (
            format!("sinceTime={}&tailLines=10000", first + tick),
            since(first + tick),
        ),
    ] {
        assert_eq!(log(query.clone()).await.unwrap(), expected, "{query}");
    }
    let text = log("timestamps=true&tailLines=2".to_owned()).await.unwrap();
    let found: Vec<&str> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(found, ["two", "three"]);
    let refused = log(format!("sinceSeconds=1&sinceTime={first}"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("at most one of `sinceTime` or `sinceSeconds`"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_container_that_leaves_a_process_ends_and_its_log_is_whole() {
    let machine = Machine::start().await;
    // The process keeps the container's output open, in a session of its own.
    let script = "setsid sleep 300 & seq 1 20000; echo last >&2";
    machine.create("p", sh(script)).await;
    machine.phase("p", "Succeeded").await;
    let text = machine.log("p", &LogParams::default()).await;
    let mut lines = text.lines();
    for number in 1..=20_000 {
        assert_eq!(lines.next(), Some(number.to_string().as_str()));
    }
    assert_eq!((lines.next(), lines.next()), (Some("last"), None));
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
