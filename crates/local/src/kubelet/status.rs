//! The status of a pod, as a kubelet reports it: a pure function of the pod and what is known about its processes.
//! Propeller's decisions rest on these fields (spec 05 §9).

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use crate::kubelet::record::{ContainerRecord, ContainerState, Outcome, Record, Role, Terminated};

/// What the kubelet knows of the processes of a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RuntimeStatus<'a> {
    /// Its folder is being made.
    Creating,
    /// It cannot be started.
    Blocked(&'a StartError),
    /// Its supervisor keeps this record.
    Recorded(&'a Record),
}

/// Why a pod cannot be started: reason and message of `state.waiting` of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartError {
    reason: &'static str,
    message: String,
    cause: Cause,
}

/// The part of a pod that a [`StartError`] is caused by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    Pod,
    Container(String),
    Volume(String),
}

impl StartError {
    /// What the pod says is the reason, or what it names is missing.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self {
            reason: "CreateContainerConfigError",
            message: message.into(),
            cause: Cause::Pod,
        }
    }

    /// The node is the reason, such as a full disk.
    pub(crate) fn node(message: impl Into<String>) -> Self {
        Self {
            reason: "CreateContainerError",
            message: message.into(),
            cause: Cause::Pod,
        }
    }

    /// The same error, caused by a part of the pod.
    pub(crate) fn caused_by(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }

    /// What is in the way, for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The part of the pod that the error is caused by.
    pub(crate) fn cause(&self) -> &Cause {
        &self.cause
    }
}

/// The reason of pods that ended because the node did: a system retry (spec 05 §9.5).
pub(crate) const NODE_SHUTDOWN: &str = "NodeShutdown";

/// The status of `pod`. `started` is when the kubelet accepted it, `now` the time of changed conditions.
pub(crate) fn status(pod: &Pod, known: RuntimeStatus<'_>, started: &str, now: &str) -> Value {
    let spec = pod.spec.clone().unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let waiting = |containers: &[Container], reason: &str, message: &str| -> Vec<Value> {
        containers
            .iter()
            .map(|container| waiting_container(container, reason, message))
            .collect()
    };
    let inits = spec.init_containers.clone().unwrap_or_default();
    let (phase, reason, init_statuses, statuses) = match known {
        RuntimeStatus::Creating if inits.is_empty() => (
            "Pending",
            None,
            Vec::new(),
            waiting(&spec.containers, "ContainerCreating", ""),
        ),
        RuntimeStatus::Creating => (
            "Pending",
            None,
            waiting(&inits, "PodInitializing", ""),
            waiting(&spec.containers, "PodInitializing", ""),
        ),
        RuntimeStatus::Blocked(StartError {
            reason, message, ..
        }) => (
            "Pending",
            None,
            waiting(&inits, reason, message),
            waiting(&spec.containers, reason, message),
        ),
        RuntimeStatus::Recorded(record) => {
            let of = |containers: &[Container]| -> Vec<Value> {
                let statuses = containers.iter().map(|container| {
                    let found = record
                        .containers
                        .iter()
                        .find(|known| known.name == container.name);
                    found.map_or_else(
                        || waiting_container(container, "ContainerCreating", ""),
                        |known| container_status(uid, container, known, initialized(record)),
                    )
                });
                statuses.collect()
            };
            let (phase, reason) = phase(record);
            (phase, reason, of(&inits), of(&spec.containers))
        }
    };
    let mut status = json!({
        "phase": phase,
        // Absent means that there is none; an earlier one must not stay in a merge patch.
        "reason": reason.as_ref().map(|(reason, _)| reason),
        "message": reason.as_ref().map(|(_, message)| message),
        "startTime": started,
        "hostIP": "127.0.0.1",
        "hostIPs": [{ "ip": "127.0.0.1" }],
        "podIP": "127.0.0.1",
        "podIPs": [{ "ip": "127.0.0.1" }],
        "conditions": conditions(pod, phase, known, &statuses, now),
        "containerStatuses": statuses,
    });
    if let (false, Some(members)) = (inits.is_empty(), status.as_object_mut()) {
        members.insert(
            "initContainerStatuses".to_owned(),
            Value::Array(init_statuses),
        );
    }
    status
}

fn initialized(record: &Record) -> bool {
    record
        .containers
        .iter()
        .all(|container| match (container.role, &container.state) {
            (Role::Init, ContainerState::Terminated(ended)) => ended.exit_code == 0,
            (Role::Init, _) => false,
            (Role::Sidecar, _) => container.has_started(),
            (Role::Main, _) => true,
        })
}

fn phase(record: &Record) -> (&'static str, Option<(String, String)>) {
    match &record.outcome {
        Outcome::Succeeded => ("Succeeded", None),
        Outcome::Failed(reason) => ("Failed", reason.clone()),
        Outcome::Running => {
            let started = record
                .containers
                .iter()
                .filter(|container| container.role == Role::Main)
                .any(|container| {
                    !matches!(container.state, ContainerState::Waiting { .. })
                        || container.last.is_some()
                });
            (if started { "Running" } else { "Pending" }, None)
        }
    }
}

fn waiting_container(container: &Container, reason: &str, message: &str) -> Value {
    let mut waiting = json!({ "reason": reason });
    if let (false, Some(members)) = (message.is_empty(), waiting.as_object_mut()) {
        members.insert("message".to_owned(), message.into());
    }
    json!({
        "name": container.name, "image": container.image.clone().unwrap_or_default(), "imageID": "", "ready": false,
        "started": false, "restartCount": 0, "lastState": {}, "state": { "waiting": waiting },
    })
}

/// `uid` is that of the pod.
fn container_status(
    uid: &str,
    container: &Container,
    known: &ContainerRecord,
    initialized: bool,
) -> Value {
    let (state, ready, started) = match &known.state {
        ContainerState::Waiting { reason, message } => {
            let reason = if initialized || known.role != Role::Main {
                reason.as_str()
            } else {
                "PodInitializing"
            };
            let mut waiting = json!({ "reason": reason });
            if let (false, Some(members)) = (message.is_empty(), waiting.as_object_mut()) {
                members.insert("message".to_owned(), message.clone().into());
            }
            (json!({ "waiting": waiting }), false, false)
        }
        ContainerState::Running { started_at, .. } => (
            json!({ "running": { "startedAt": started_at } }),
            known.role != Role::Init && known.health.ready,
            known.health.started,
        ),
        ContainerState::Terminated(ended) => {
            let succeeded_init = known.role == Role::Init && ended.exit_code == 0;
            (
                json!({ "terminated": terminated(ended) }),
                succeeded_init,
                false,
            )
        }
    };
    let last = known.last.as_ref().map_or_else(
        || json!({}),
        |ended| json!({ "terminated": terminated(ended) }),
    );
    let mut status = json!({
        "name": known.name, "image": container.image.clone().unwrap_or_default(), "imageID": "", "ready": ready,
        "started": started, "restartCount": known.restarts, "lastState": last, "state": state,
    });
    // One for each run, and the same before and after a restart of the kubelet.
    let runs = !matches!(known.state, ContainerState::Waiting { .. });
    if let (true, Some(members)) = (runs, status.as_object_mut()) {
        let id = format!("process://{uid}-{}-{}", known.name, known.restarts);
        members.insert("containerID".to_owned(), id.into());
    }
    status
}

fn terminated(ended: &Terminated) -> Value {
    let mut terminated = json!({
        "exitCode": ended.exit_code, "reason": ended.reason, "startedAt": ended.started_at,
        "finishedAt": ended.finished_at,
    });
    if let Some(members) = terminated.as_object_mut() {
        if let Some(signal) = ended.signal {
            members.insert("signal".to_owned(), signal.into());
        }
        if !ended.message.is_empty() {
            members.insert("message".to_owned(), ended.message.clone().into());
        }
    }
    terminated
}

fn conditions(
    pod: &Pod,
    phase: &str,
    known: RuntimeStatus<'_>,
    statuses: &[Value],
    now: &str,
) -> Value {
    let unready: Vec<&str> = statuses
        .iter()
        .filter(|status| status.get("ready").and_then(Value::as_bool) != Some(true))
        .filter_map(|status| status.get("name").and_then(Value::as_str))
        .collect();
    let ready = match phase {
        "Succeeded" => (false, Some(("PodCompleted", String::new()))),
        "Failed" => (false, Some(("PodFailed", String::new()))),
        _ if unready.is_empty() => (true, None),
        _ => (
            false,
            Some((
                "ContainersNotReady",
                format!("containers with unready status: [{}]", unready.join(" ")),
            )),
        ),
    };
    let has_inits = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_ref())
        .is_some_and(|list| !list.is_empty());
    let initialized = match known {
        RuntimeStatus::Recorded(record) => initialized(record),
        RuntimeStatus::Creating | RuntimeStatus::Blocked(_) => !has_inits,
    };
    let initialized = match (initialized, phase) {
        (true, "Succeeded") => (true, Some(("PodCompleted", String::new()))),
        (true, _) => (true, None),
        (false, _) => (
            false,
            Some((
                "ContainersNotInitialized",
                "containers with incomplete status".to_owned(),
            )),
        ),
    };
    let found = [
        ("Initialized", initialized),
        ("Ready", ready.clone()),
        ("ContainersReady", ready),
        ("PodScheduled", (true, None)),
    ];
    let before = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let conditions = found.into_iter().map(|(kind, (holds, why))| {
        let text = if holds { "True" } else { "False" };
        let since = before
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == kind && condition.status == text)
            .and_then(|condition| serde_json::to_value(&condition.last_transition_time).ok())
            .filter(|time| !time.is_null())
            .unwrap_or_else(|| now.into());
        let mut condition = json!({ "type": kind, "status": text, "lastProbeTime": null, "lastTransitionTime": since });
        if let (Some((reason, message)), Some(members)) = (why, condition.as_object_mut()) {
            members.insert("reason".to_owned(), reason.into());
            if !message.is_empty() {
                members.insert("message".to_owned(), message.into());
            }
        }
        condition
    });
    Value::Array(conditions.collect())
}

/// The condition of a pod that waits for the machine.
pub(crate) fn unscheduled(why: &str, now: &str) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why, "lastProbeTime": null,
            "lastTransitionTime": now,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::processes::ProcessIdentity;
    use crate::kubelet::record::Health;

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "initContainers": [{"name": "init", "image": "i"}],
            "containers": [{"name": "main", "image": "m"}, {"name": "side", "image": "s"}]}}))
        .unwrap()
    }

    fn identity() -> ProcessIdentity {
        ProcessIdentity {
            pid: 7,
            start_time: 1,
            boot: "b".to_owned(),
        }
    }

    fn ended(exit_code: i32, reason: &str) -> ContainerState {
        ContainerState::Terminated(Terminated {
            exit_code,
            signal: None,
            reason: reason.to_owned(),
            message: String::new(),
            started_at: "2026-01-01T00:00:01Z".to_owned(),
            finished_at: "2026-01-01T00:00:02Z".to_owned(),
        })
    }

    fn running() -> ContainerState {
        ContainerState::Running {
            process: identity(),
            started_at: "2026-01-01T00:00:01Z".to_owned(),
        }
    }

    fn waiting() -> ContainerState {
        ContainerState::Waiting {
            reason: "ContainerCreating".to_owned(),
            message: String::new(),
        }
    }

    fn record(states: [ContainerState; 3], outcome: Outcome) -> Record {
        let roles = [
            ("init", Role::Init),
            ("main", Role::Main),
            ("side", Role::Main),
        ];
        let containers =
            roles
                .into_iter()
                .zip(states)
                .map(|((name, role), state)| ContainerRecord {
                    name: name.to_owned(),
                    role,
                    state,
                    last: None,
                    restarts: 0,
                    health: Health::default(),
                });
        Record {
            supervisor: identity(),
            containers: containers.collect(),
            outcome,
        }
    }

    #[test]
    fn a_status_follows_the_record_as_a_kubelets_does() {
        let shutdown = Some(("Shutdown".to_owned(), "why".to_owned()));
        for (case, record, phase, ready, main) in [
            (
                "its init container runs",
                record([running(), waiting(), waiting()], Outcome::Running),
                "Pending",
                "False",
                "/waiting/reason=PodInitializing",
            ),
            (
                "its containers run",
                record(
                    [ended(0, "Completed"), running(), running()],
                    Outcome::Running,
                ),
                "Running",
                "True",
                "/running/startedAt=2026-01-01T00:00:01Z",
            ),
            (
                "one container is over",
                record(
                    [ended(0, "Completed"), ended(1, "Error"), running()],
                    Outcome::Running,
                ),
                "Running",
                "False",
                "/terminated/reason=Error",
            ),
            (
                "all went well",
                record(
                    [
                        ended(0, "Completed"),
                        ended(0, "Completed"),
                        ended(0, "Completed"),
                    ],
                    Outcome::Succeeded,
                ),
                "Succeeded",
                "False",
                "/terminated/reason=Completed",
            ),
            (
                "the node shut down",
                record(
                    [
                        ended(0, "Completed"),
                        ended(143, "Error"),
                        ended(0, "Completed"),
                    ],
                    Outcome::Failed(shutdown),
                ),
                "Failed",
                "False",
                "/terminated/reason=Error",
            ),
        ] {
            let written = status(
                &pod(),
                RuntimeStatus::Recorded(&record),
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:00:03Z",
            );
            assert_eq!(written["phase"], json!(phase), "{case}");
            assert_eq!(
                written["conditions"][1]["status"],
                json!(ready),
                "{case}: {written}"
            );
            let (pointer, expected) = main.split_once('=').unwrap();
            let state = &written["containerStatuses"][0]["state"];
            assert_eq!(
                state.pointer(pointer),
                Some(&json!(expected)),
                "{case}: {state}"
            );
        }
    }

    #[test]
    fn a_pod_that_cannot_be_launched_says_why_while_it_waits() {
        let blocked = StartError::config("secret \"s\" not found");
        let written = status(&pod(), RuntimeStatus::Blocked(&blocked), "t", "t");
        let waiting = &written["containerStatuses"][0]["state"]["waiting"];
        assert_eq!(waiting["reason"], json!("CreateContainerConfigError"));
        assert_eq!(waiting["message"], json!("secret \"s\" not found"));
        assert_eq!(
            written["conditions"][1]["reason"],
            json!("ContainersNotReady")
        );
    }

    #[test]
    fn a_condition_keeps_the_time_since_when_it_holds() {
        let mut pod = pod();
        let written = status(
            &pod,
            RuntimeStatus::Creating,
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:01Z",
        );
        pod.status = Some(serde_json::from_value(written).unwrap());
        let again = status(
            &pod,
            RuntimeStatus::Creating,
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:09:00Z",
        );
        assert_eq!(
            again["conditions"][1]["lastTransitionTime"],
            json!("2026-01-01T00:00:01Z")
        );
    }
}
