use k8s_openapi::api::core::v1::Container;
use serde_json::{Value, json};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn pod(primary: Option<&str>, status: Value) -> Pod {
    let annotations = primary.map_or_else(|| json!({}), |name| json!({ PRIMARY_ANNOTATION: name }));
    serde_json::from_value(json!({
        "metadata": { "name": "p", "annotations": annotations },
        "spec": { "containers": [{ "name": "main" }] },
        "status": status,
    }))
    .unwrap()
}

fn ended(name: &str, exit_code: i32, reason: &str) -> Value {
    json!({ "name": name, "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": { "terminated": { "exitCode": exit_code, "reason": reason } } })
}

fn waiting(reason: &str, since: i64) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{ "type": "Ready", "status": "False", "reason": "ContainersNotReady",
            "message": "containers with unready status: [main]", "lastTransitionTime": at(since).to_string() }],
        "containerStatuses": [{ "name": "main", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": { "waiting": { "reason": reason, "message": "Back-off pulling image \"image\"" } } }],
    })
}

/// Phase, kind and code.
fn verdict(pod: &Pod) -> (TaskPhase, Option<ErrorKind>, String) {
    let info = phase(pod, &K8sConfig::default(), TaskInfo::default(), at(1000));
    let error = info.error;
    (
        info.phase,
        error.as_ref().map(flyte_idl::core::ExecutionError::kind),
        error.map_or(info.reason, |error| error.code),
    )
}

#[test]
fn a_running_pod_is_judged_by_its_primary_container() {
    let status = |containers: Value| json!({ "phase": "Running", "containerStatuses": containers });
    let main = Some("main");
    for (case, pod, expected) in [
        (
            "no status yet",
            pod(main, status(json!([]))),
            (TaskPhase::Running, None, ""),
        ),
        (
            "done",
            pod(main, status(json!([ended("main", 0, "Completed")]))),
            (TaskPhase::Success, None, ""),
        ),
        (
            "failed",
            pod(main, status(json!([ended("main", 1, "Error")]))),
            (TaskPhase::RetryableFailure, Some(ErrorKind::User), "Error"),
        ),
        (
            "killed",
            pod(main, status(json!([ended("main", 137, "Error")]))),
            (
                TaskPhase::RetryableFailure,
                Some(ErrorKind::System),
                "Error",
            ),
        ),
        (
            "stopped, and why is not told yet",
            pod(main, status(json!([ended("main", 143, "Error")]))),
            (TaskPhase::Running, None, ""),
        ),
        (
            "stopped beside a sidecar that goes on",
            {
                let mut pod = pod(main, status(json!([ended("main", 143, "Error")])));
                let sidecar = Container {
                    name: "sidecar".into(),
                    ..Container::default()
                };
                pod.spec.as_mut().unwrap().containers.push(sidecar);
                pod
            },
            (TaskPhase::RetryableFailure, Some(ErrorKind::User), "Error"),
        ),
        (
            "out of memory",
            pod(main, status(json!([ended("main", 137, "OOMKilled")]))),
            (
                TaskPhase::RetryableFailure,
                Some(ErrorKind::User),
                "OOMKilled",
            ),
        ),
        (
            "no such container",
            pod(
                Some("other"),
                status(json!([ended("main", 0, "Completed")])),
            ),
            (
                TaskPhase::PermanentFailure,
                Some(ErrorKind::User),
                "PrimaryContainerNotFound",
            ),
        ),
        (
            "all done, no primary",
            pod(None, status(json!([ended("main", 0, "")]))),
            (TaskPhase::Success, None, ""),
        ),
        (
            "one failed, no primary",
            pod(None, status(json!([ended("main", 1, "")]))),
            (TaskPhase::Running, None, ""),
        ),
    ] {
        let (phase, kind, text) = verdict(&pod);
        assert_eq!((phase, kind, text.as_str()), expected, "{case}");
    }
}

#[test]
fn a_failed_pod_is_classified_as_the_table_says() {
    let status = |reason: &str, containers: Value| json!({ "phase": "Failed", "reason": reason, "containerStatuses": containers });
    let (user, system) = (Some(ErrorKind::User), Some(ErrorKind::System));
    for (case, pod, kind, code) in [
        (
            "nothing said",
            pod(None, status("", json!([]))),
            system,
            "Interrupted",
        ),
        (
            "a reason",
            pod(None, status("hello", json!([]))),
            user,
            "hello",
        ),
        (
            "evicted",
            pod(None, status("Evicted", json!([]))),
            user,
            "Evicted",
        ),
        (
            "shutdown",
            pod(None, status("Shutdown", json!([]))),
            system,
            "Interrupted",
        ),
        (
            "out of memory",
            pod(None, status("", json!([ended("main", 137, "OOMKilled")]))),
            user,
            "OOMKilled",
        ),
        (
            "137 elsewhere",
            pod(
                None,
                status(
                    "",
                    json!([ended("main", 137, "Error"), ended("other", 0, "")]),
                ),
            ),
            user,
            "Interrupted",
        ),
        (
            "evicted, and its container with it",
            pod(
                Some("main"),
                status("Evicted", json!([ended("main", 247, "Error")])),
            ),
            system,
            "Interrupted",
        ),
        (
            "exit 1 of one of two, no primary",
            pod(
                None,
                status(
                    "",
                    json!([ended("main", 1, "Error"), ended("other", 0, "")]),
                ),
            ),
            system,
            "Interrupted",
        ),
    ] {
        assert_eq!(
            verdict(&pod),
            (TaskPhase::RetryableFailure, kind, code.to_owned()),
            "{case}"
        );
    }
}

#[test]
fn a_pending_pod_waits_until_its_grace_period_is_over() {
    let code = |reason: &str| format!("ContainersNotReady|{reason}");
    let (user, system) = (Some(ErrorKind::User), Some(ErrorKind::System));
    for (case, status, expected) in [
        (
            "pulling fails",
            waiting("ImagePullBackOff", 900),
            (TaskPhase::Initializing, None, None),
        ),
        (
            "pulling failed",
            waiting("ImagePullBackOff", 0),
            (
                TaskPhase::RetryableFailure,
                user,
                Some(code("ImagePullBackOff")),
            ),
        ),
        (
            "no such image name",
            waiting("InvalidImageName", 1000),
            (
                TaskPhase::PermanentFailure,
                user,
                Some(code("InvalidImageName")),
            ),
        ),
        (
            "creation fails",
            waiting("CreateContainerError", 900),
            (TaskPhase::Initializing, None, None),
        ),
        (
            "creation failed",
            waiting("CreateContainerError", 0),
            (
                TaskPhase::PermanentFailure,
                user,
                Some(code("CreateContainerError")),
            ),
        ),
        (
            "bad configuration",
            waiting("CreateContainerConfigError", 1000),
            (
                TaskPhase::PermanentFailure,
                user,
                Some(code("CreateContainerConfigError")),
            ),
        ),
        (
            "crash loop",
            waiting("CrashLoopBackOff", 1000),
            (
                TaskPhase::RetryableFailure,
                system,
                Some(code("CrashLoopBackOff")),
            ),
        ),
    ] {
        let (phase, kind, text) = verdict(&pod(Some("main"), status));
        assert_eq!((phase, kind), (expected.0, expected.1), "{case}");
        if let Some(code) = expected.2 {
            assert_eq!(text, code, "{case}");
        }
    }
    let info = phase(
        &pod(Some("main"), waiting("ImagePullBackOff", 0)),
        &K8sConfig::default(),
        TaskInfo::default(),
        at(1000),
    );
    assert!(info.clean_up);
    assert_eq!(
        info.error.unwrap().message,
        "Grace period [3m0s] exceeded|containers with unready status: [main]|Back-off pulling image \"image\""
    );
}

#[test]
fn an_unschedulable_pod_says_why() {
    let status = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "requested cpu 64, available 2" }] });
    assert_eq!(
        verdict(&pod(Some("main"), status)),
        (
            TaskPhase::Queued,
            None,
            "Unschedulable:requested cpu 64, available 2".to_owned()
        )
    );
    assert_eq!(
        verdict(&pod(None, json!({ "phase": "Pending" }))).2,
        "Demistify Pending"
    );
}

#[test]
fn a_pod_that_pends_too_long_is_given_up() {
    let config = K8sConfig {
        pod_pending_timeout: Duration::seconds(60),
        ..K8sConfig::default()
    };
    let info = phase(
        &pod(None, waiting("ContainerCreating", 0)),
        &config,
        TaskInfo::default(),
        at(1000),
    );
    assert_eq!(info.error.unwrap().code, "PodPendingTimeout");
    assert!(info.clean_up);
}

#[test]
fn a_failed_pod_is_judged_as_a_look_before_its_end_would_have() {
    let ends = [
        ("exit 7", ended("main", 7, "Error")),
        ("killed", ended("main", 137, "Error")),
        ("killed otherwise", ended("main", 247, "")),
        ("out of memory", ended("main", 137, "OOMKilled")),
        (
            "well, but another one was not",
            ended("main", 0, "Completed"),
        ),
    ];
    for (case, end) in ends {
        let containers = json!([end, ended("other", 1, "Error")]);
        let judged = |phase: &str| {
            let status = json!({ "phase": phase, "containerStatuses": containers });
            verdict(&pod(Some("main"), status))
        };
        assert_eq!(judged("Failed"), judged("Running"), "{case}");
    }
    let only = json!({ "phase": "Failed", "containerStatuses": [ended("main", 7, "Error")] });
    let expected = (
        TaskPhase::RetryableFailure,
        Some(ErrorKind::User),
        "Error".to_owned(),
    );
    assert_eq!(verdict(&pod(None, only)), expected, "the only container");
}
