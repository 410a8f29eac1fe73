//! Keys that say what a pod's status means (spec 05 §9).

use flyte_plugins::{PhaseInfo, TaskInfo, status};
use flyte_propeller::cli::EngineConfig;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::configured;

pub(super) const KEYS: &[&str] = &[
    "plugins.k8s.create-container-error-grace-period",
    "plugins.k8s.create-container-config-error-grace-period",
    "plugins.k8s.image-pull-backoff-grace-period",
    "plugins.k8s.pod-pending-timeout",
];

const SINCE: i64 = 1_767_225_600;

/// What it means that a container has waited for this reason for so many seconds.
fn waiting(reason: &str, seconds: i64, config: &EngineConfig) -> PhaseInfo {
    let since = Timestamp::from_second(SINCE).unwrap();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c" }] },
        "status": {
            "phase": "Pending",
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m",
                "lastTransitionTime": since.to_string(),
            }],
            "containerStatuses": [{
                "name": "c", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
                "state": { "waiting": { "reason": reason, "message": "w" } },
            }],
        },
    }))
    .unwrap();
    let now = since + SignedDuration::from_secs(seconds);
    status::phase(&pod, &config.plugins.k8s, TaskInfo::default(), now)
}

#[test]
fn each_grace_ends_when_its_key_says() {
    for (key, reason) in [
        (
            "plugins.k8s.create-container-error-grace-period",
            "CreateContainerError",
        ),
        (
            "plugins.k8s.create-container-config-error-grace-period",
            "CreateContainerConfigError",
        ),
        (
            "plugins.k8s.image-pull-backoff-grace-period",
            "ImagePullBackOff",
        ),
        ("plugins.k8s.pod-pending-timeout", "ContainerCreating"),
    ] {
        let config = configured(&[(key, json!("1000s"))]);
        for (seconds, fails) in [(999, false), (1_000, true)] {
            let phase = waiting(reason, seconds, &config);
            assert_eq!(
                phase.error.is_some(),
                fails,
                "{key} is 1000s, after {seconds} s: {phase:?}"
            );
        }
        let (default, seconds) = (configured(&[]), 999);
        let is_for_ever = reason == "ContainerCreating";
        let phase = waiting(reason, if is_for_ever { 1_000 } else { seconds }, &default);
        assert_eq!(
            phase.error.is_none(),
            is_for_ever,
            "{key} by default: {phase:?}"
        );
    }
}
