//! What a kubelet does about a pod, decided from what the API says of it and whether it runs here.
//!
//! ```text
//!   on no node ──gates gone──> Queue ──its turn──> runs ──ends──> Forget
//!   on this node ─────────────────────> Run ──────^        └──its deletion waits for us──> RunAgain
//! ```

use k8s_openapi::api::core::v1::Pod;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The name of the node.
    pub(super) node: &'a str,
    /// Whether the kubelet takes pods that are on no node.
    pub(super) schedules: bool,
    /// Whether the pod runs here: a task of this kubelet has it.
    pub(super) runs: bool,
}

/// What to do about a pod that the API tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// It is another node's, or waits for another's scheduler.
    Leave,
    /// It is over, and nobody waits for us: nothing more is kept of it.
    Forget,
    /// It is on this node: it is started, adopted, or let go of if it is deleted.
    Run,
    /// It may be put on this node once there is room.
    Queue,
    /// It is remembered, and whoever runs it is told. A pod with scheduling gates waits so.
    Watch,
}

/// Decides about a pod that was made, changed or listed.
pub(super) fn intent(pod: &Pod, place: &Place<'_>) -> Intent {
    let spec = pod.spec.as_ref();
    let node = spec
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    let is_ours = node == place.node;
    let may_be_ours = is_ours || (node.is_empty() && place.schedules);
    if !may_be_ours {
        return Intent::Leave;
    }
    let over = is_terminal(pod);
    let held = is_held(pod);
    if over && !held && !place.runs {
        return Intent::Forget;
    }
    let gates = spec.and_then(|spec| spec.scheduling_gates.as_ref());
    let gated = gates.is_some_and(|gates| !gates.is_empty());
    let deleting = pod.metadata.deletion_timestamp.is_some();
    match is_ours {
        true if !place.runs => Intent::Run,
        false if !over && !deleting && !gated => Intent::Queue,
        _ => Intent::Watch,
    }
}

/// What to do when a run of a pod has ended and the pod is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterRun {
    /// Its deletion came while the run was ending, and waits for us.
    RunAgain,
    /// It is over: nothing more is kept of it.
    Forget,
    /// It is not over: another node has it, or this one shuts down.
    Keep,
}

/// Decides about a pod whose run has ended, by the last that the API has told of it.
pub(super) fn after_run(pod: &Pod, shutting_down: bool) -> AfterRun {
    if is_held(pod) && !shutting_down {
        AfterRun::RunAgain
    } else if is_terminal(pod) {
        AfterRun::Forget
    } else {
        AfterRun::Keep
    }
}

/// Whether it is deleted, but stays until its kubelet has let go of it.
fn is_held(pod: &Pod) -> bool {
    let meta = &pod.metadata;
    meta.deletion_timestamp.is_some() && meta.deletion_grace_period_seconds.unwrap_or(0) > 0
}

/// Whether nothing of it runs or will run.
fn is_terminal(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(parts: &Value) -> Pod {
        let mut pod =
            json!({"metadata": {}, "spec": {"containers": []}, "status": {"phase": "Pending"}});
        flyte_platform::json::merge(&mut pod, parts);
        serde_json::from_value(pod).unwrap()
    }

    fn phase(phase: &str) -> Value {
        json!({"status": {"phase": phase}})
    }

    fn deleted(grace_seconds: i64) -> Value {
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace_seconds}})
    }

    /// The parts of one pod, merged.
    fn all(parts: &[Value]) -> Pod {
        let mut merged = json!({});
        for part in parts {
            flyte_platform::json::merge(&mut merged, part);
        }
        pod(&merged)
    }

    #[test]
    fn what_is_done_about_a_pod_follows_from_where_it_is_and_how_far() {
        let on = |node: &str| json!({"spec": {"nodeName": node}});
        let gated = json!({"spec": {"schedulingGates": [{"name": "a"}]}});
        let done = || phase("Succeeded");
        for (case, parts, runs, expected) in [
            ("on no node", vec![], false, Intent::Queue),
            ("on no node, being bound", vec![], true, Intent::Queue),
            ("gated", vec![gated], false, Intent::Watch),
            (
                "without gates any more",
                vec![json!({"spec": {"schedulingGates": []}})],
                false,
                Intent::Queue,
            ),
            (
                "on no node, deleted",
                vec![deleted(0)],
                false,
                Intent::Watch,
            ),
            (
                "on no node, over",
                vec![phase("Failed")],
                false,
                Intent::Forget,
            ),
            ("on another node", vec![on("other")], false, Intent::Leave),
            (
                "on another node, over",
                vec![on("other"), done()],
                false,
                Intent::Leave,
            ),
            ("here", vec![on("node")], false, Intent::Run),
            (
                "here, running",
                vec![on("node"), phase("Running")],
                true,
                Intent::Watch,
            ),
            (
                "here, running before a restart",
                vec![on("node"), phase("Running")],
                false,
                Intent::Run,
            ),
            (
                "here, deleted",
                vec![on("node"), deleted(30)],
                false,
                Intent::Run,
            ),
            (
                "here, deleted at once",
                vec![on("node"), deleted(0)],
                false,
                Intent::Run,
            ),
            (
                "here, over",
                vec![on("node"), done()],
                false,
                Intent::Forget,
            ),
            (
                "here, over, its run ends",
                vec![on("node"), done()],
                true,
                Intent::Watch,
            ),
            (
                "here, over, deleted",
                vec![on("node"), done(), deleted(30)],
                false,
                Intent::Run,
            ),
            (
                "here, over, deleted, run",
                vec![on("node"), done(), deleted(30)],
                true,
                Intent::Watch,
            ),
            (
                "here, over, held by a finalizer",
                vec![on("node"), done(), deleted(0)],
                false,
                Intent::Forget,
            ),
        ] {
            let place = Place {
                node: "node",
                schedules: true,
                runs,
            };
            assert_eq!(intent(&all(&parts), &place), expected, "{case}");
        }
        let beside_a_scheduler = Place {
            node: "node",
            schedules: false,
            runs: false,
        };
        assert_eq!(intent(&all(&[]), &beside_a_scheduler), Intent::Leave);
        assert_eq!(
            intent(&all(&[on("node")]), &beside_a_scheduler),
            Intent::Run
        );
    }

    #[test]
    fn what_follows_a_run_is_decided_by_what_came_meanwhile() {
        for (case, parts, shutting_down, expected) in [
            ("over", vec![phase("Succeeded")], false, AfterRun::Forget),
            (
                "failed by the shutdown",
                vec![phase("Failed")],
                true,
                AfterRun::Forget,
            ),
            (
                "over, deleted",
                vec![phase("Succeeded"), deleted(30)],
                false,
                AfterRun::RunAgain,
            ),
            ("deleted", vec![deleted(1)], false, AfterRun::RunAgain),
            (
                "deleted at the shutdown",
                vec![deleted(1)],
                true,
                AfterRun::Keep,
            ),
            (
                "over, deleted at the shutdown",
                vec![phase("Failed"), deleted(1)],
                true,
                AfterRun::Forget,
            ),
            (
                "held by a finalizer",
                vec![phase("Failed"), deleted(0)],
                false,
                AfterRun::Forget,
            ),
            (
                "another node's",
                vec![json!({"spec": {"nodeName": "other"}})],
                false,
                AfterRun::Keep,
            ),
        ] {
            assert_eq!(after_run(&all(&parts), shutting_down), expected, "{case}");
        }
    }
}
