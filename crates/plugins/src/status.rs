//! From a pod's status to a phase (spec 05 §9).

use flyte_crd::status::TaskPhase;
use flyte_idl::core::execution_error::ErrorKind;
use flyte_platform::config::Duration;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodStatus,
};

use crate::{
    PhaseInfo, TaskInfo,
    config::K8sConfig,
    pod::{PRIMARY_ANNOTATION, copilot},
};

/// Exit codes of a killed container: SIGKILL, and what some runtimes report instead.
const KILLED: [i32; 2] = [137, 247];
/// Code of a failed pod that says nothing else.
const UNKNOWN: &str = "UnknownError";
/// Reasons of a failed pod that are never the task's fault.
const SYSTEM_REASONS: [&str; 4] = ["Shutdown", "Terminated", "NodeShutdown", "NodeAffinity"];

/// The phase of the attempt that this pod runs; `info` holds its log links.
pub fn phase(pod: &Pod, config: &K8sConfig, mut info: TaskInfo, now: Timestamp) -> PhaseInfo {
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let (occurred, reported) = times(status, now);
    info.occurred_at = Some(occurred);
    info.reported_at = Some(reported);
    match status.phase.as_deref().unwrap_or_default() {
        "Succeeded" => succeeded(status, info),
        "Failed" => failed(pod, status, info),
        "Pending" => pending(status, config, info, now),
        "Unschedulable" => PhaseInfo::new(TaskPhase::Queued, 0, "pod unschedulable", info),
        _ => running(pod, (status, config), info),
    }
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flatten()
    .flatten()
}

fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn running_phase(info: TaskInfo) -> PhaseInfo {
    let version = u32::from(!info.logs.is_empty());
    PhaseInfo::new(TaskPhase::Running, version, "", info)
}

fn running(pod: &Pod, (status, config): (&PodStatus, &K8sConfig), info: TaskInfo) -> PhaseInfo {
    let primary = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(PRIMARY_ANNOTATION));
    let Some(primary) = primary else {
        let containers = status.container_statuses.as_deref().unwrap_or_default();
        let all = containers
            .iter()
            .chain(status.init_container_statuses.iter().flatten());
        let done = !containers.is_empty()
            && all
                .into_iter()
                .all(|status| terminated(status).is_some_and(|end| end.exit_code == 0));
        return if done {
            succeeded(status, info)
        } else {
            running_phase(info)
        };
    };
    let found = status
        .container_statuses
        .iter()
        .flatten()
        .find(|status| status.name == *primary);
    let Some(container) = found else {
        let in_spec = pod.spec.as_ref().is_some_and(|spec| {
            spec.containers
                .iter()
                .any(|container| container.name == *primary)
        });
        return if in_spec {
            running_phase(info)
        } else {
            let message =
                format!("Primary container [{primary}] not found in pod's container statuses");
            PhaseInfo::permanent(ErrorKind::User, "PrimaryContainerNotFound", message).with(info)
        };
    };
    match terminated(container) {
        None => running_phase(info),
        Some(end) if end.exit_code == STOPPED && all_ended(pod, status) => running_phase(info),
        Some(end) if end.exit_code == 0 && is_uploading(status, config) => running_phase(info),
        Some(end) => primary_ended(primary, end, info),
    }
}

/// Whether outputs of the container are still being taken away; the reference does not wait for that, and then finds no
/// outputs (spec 05 §7).
fn is_uploading(status: &PodStatus, config: &K8sConfig) -> bool {
    let uploader = copilot::uploader(&config.co_pilot);
    let mut init = status.init_container_statuses.iter().flatten();
    init.any(|status| status.name == uploader && terminated(status).is_none())
}

/// Whether nothing of the pod runs any more: its own end is about to be told.
fn all_ended(pod: &Pod, status: &PodStatus) -> bool {
    let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let ended = status
        .container_statuses
        .iter()
        .flatten()
        .filter(|status| terminated(status).is_some());
    ended.count() >= containers
}

/// The exit code of a container that SIGTERM has ended. Who stops a whole pod (an eviction, its deadline, the node's
/// shutdown) tells why with the pod's end, and whose failure it is depends on that.
const STOPPED: i32 = 143;

/// The container that does the work has ended (spec 05 §9.2).
fn primary_ended(name: &str, end: &ContainerStateTerminated, info: TaskInfo) -> PhaseInfo {
    if end.exit_code == 0 && !is_out_of_memory(end) {
        return PhaseInfo::new(TaskPhase::Success, 0, "", info);
    }
    let kind = if !is_out_of_memory(end) && KILLED.contains(&end.exit_code) {
        ErrorKind::System
    } else {
        ErrorKind::User
    };
    let code = end.reason.clone().unwrap_or_default();
    PhaseInfo::retryable(kind, &code, end_message(name, end)).with(info)
}

/// The end of the container by which a failed pod is judged: the primary one, or the only one; none when the pod failed
/// for a reason of its own, or before that container ended.
fn deciding_end<'a>(pod: &Pod, status: &'a PodStatus) -> Option<&'a ContainerStatus> {
    if status
        .reason
        .as_ref()
        .is_some_and(|reason| !reason.is_empty())
    {
        return None;
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let annotations = pod.metadata.annotations.as_ref();
    let primary = annotations.and_then(|annotations| annotations.get(PRIMARY_ANNOTATION));
    let decides = match (primary, containers) {
        (Some(primary), _) => containers.iter().find(|status| status.name == *primary),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    decides.filter(|container| terminated(container).is_some())
}

fn is_out_of_memory(end: &ContainerStateTerminated) -> bool {
    end.reason
        .as_deref()
        .is_some_and(|reason| reason.contains("OOMKilled"))
}

fn end_message(name: &str, end: &ContainerStateTerminated) -> String {
    format!(
        "\r\n[{name}] terminated with exit code ({}). Reason [{}]. Message: \n{}.",
        end.exit_code,
        end.reason.as_deref().unwrap_or_default(),
        end.message.as_deref().unwrap_or_default()
    )
}

fn succeeded(status: &PodStatus, info: TaskInfo) -> PhaseInfo {
    if statuses(status)
        .filter_map(terminated)
        .any(is_out_of_memory)
    {
        let message = "Pod reported success despite being OOMKilled";
        return PhaseInfo::retryable(ErrorKind::User, "OOMKilled", message).with(info);
    }
    PhaseInfo::new(TaskPhase::Success, 0, "", info)
}

fn failed(pod: &Pod, status: &PodStatus, info: TaskInfo) -> PhaseInfo {
    // Whose failure it is must not depend on whether somebody looked between the end of the container and that of the
    // pod. The reference judges by the pod then, and takes what is the task's for the system's (spec 05 §9.5).
    if let Some(container) = deciding_end(pod, status)
        && let Some(end) = terminated(container)
    {
        return primary_ended(&container.name, end, info);
    }
    let text = |value: &Option<String>, otherwise: &str| {
        value
            .clone()
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| otherwise.to_owned())
    };
    let mut code = text(&status.reason, UNKNOWN);
    let mut message = text(
        &status.message,
        "Pod failed. No message received from kubernetes.",
    );
    let mut system = SYSTEM_REASONS.contains(&code.as_str());
    let primary = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(PRIMARY_ANNOTATION));
    for container in statuses(status) {
        let last = container
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        let Some(end) = last.or_else(|| terminated(container)) else {
            continue;
        };
        if is_out_of_memory(end) {
            "OOMKilled".clone_into(&mut code);
        } else if KILLED.contains(&end.exit_code) {
            "Interrupted".clone_into(&mut code);
            system |= primary == Some(&container.name);
        }
        if end.exit_code == 0 {
            message.push_str(&format!(
                "\r\n[{}] terminated with ExitCode 0.",
                container.name
            ));
        } else {
            message.push_str(&end_message(&container.name, end));
        }
    }
    if system || code == UNKNOWN {
        PhaseInfo::retryable(ErrorKind::System, "Interrupted", message).with(info)
    } else {
        PhaseInfo::retryable(ErrorKind::User, &code, message).with(info)
    }
}

fn pending(status: &PodStatus, config: &K8sConfig, info: TaskInfo, now: Timestamp) -> PhaseInfo {
    let mut since = now;
    let mut found = PhaseInfo::new(TaskPhase::Queued, 0, "Demistify Pending", info.clone());
    for condition in status.conditions.iter().flatten() {
        since = condition
            .last_transition_time
            .as_ref()
            .map_or(now, |time| time.0);
        if let Some(phase) = pending_condition(condition, status, config, now.duration_since(since))
        {
            found = phase.with(info);
            break;
        }
    }
    let timeout = config.pod_pending_timeout;
    if !timeout.is_zero()
        && !found.phase.is_terminal()
        && now.duration_since(since) >= timeout.to_signed()
    {
        let (reason, info) = (found.reason, found.info);
        return PhaseInfo::retryable(ErrorKind::User, "PodPendingTimeout", reason)
            .cleaned_up()
            .with(info);
    }
    found
}

fn pending_condition(
    condition: &PodCondition,
    status: &PodStatus,
    config: &K8sConfig,
    lasted: SignedDuration,
) -> Option<PhaseInfo> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let unschedulable = condition.type_ == "PodScheduled" && condition.status == "False";
    if unschedulable || condition.type_ == "Unschedulable" {
        let reason = format!("{}:{}", text(&condition.reason), text(&condition.message));
        return Some(PhaseInfo::new(
            TaskPhase::Queued,
            0,
            reason,
            TaskInfo::default(),
        ));
    }
    if condition.type_ != "Ready" || condition.status != "False" {
        return None;
    }
    // Init containers come first: an image that cannot be pulled for one of them would otherwise never be seen.
    let waiting = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .filter(|container| !container.ready)
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref())
        .find(|waiting| waiting.reason.as_deref() != Some("PodInitializing"))
        .or_else(|| {
            let mut containers = status.container_statuses.iter().flatten();
            containers.find_map(|container| container.state.as_ref()?.waiting.as_ref())
        })?;
    let reason = text(&waiting.reason);
    let code = format!("{}|{reason}", text(&condition.reason));
    let message = format!("{}|{}", text(&condition.message), text(&waiting.message));
    let initializing = || {
        PhaseInfo::new(
            TaskPhase::Initializing,
            0,
            format!("[{code}]: {message}"),
            TaskInfo::default(),
        )
    };
    let permanent =
        |message: &str| PhaseInfo::permanent(ErrorKind::User, &code, message).cleaned_up();
    let exceeded = |grace: Duration| lasted >= grace.to_signed();
    let over = |grace: Duration| format!("Grace period [{grace}] exceeded|{message}");
    Some(match reason.as_str() {
        "ErrImagePull" | "ContainerCreating" | "PodInitializing" => initializing(),
        "CreateContainerError" | "CreateContainerConfigError" => {
            let grace = if reason == "CreateContainerError" {
                config.create_container_error_grace_period
            } else {
                config.create_container_config_error_grace_period
            };
            if exceeded(grace) {
                permanent(&over(grace))
            } else {
                initializing()
            }
        }
        "InvalidImageName" => permanent(&message),
        "ImagePullBackOff" => {
            let grace = config.image_pull_backoff_grace_period;
            if exceeded(grace) {
                PhaseInfo::retryable(ErrorKind::User, &code, over(grace)).cleaned_up()
            } else {
                initializing()
            }
        }
        _ => PhaseInfo::retryable(ErrorKind::System, &code, message).cleaned_up(),
    })
}

/// When the pod last changed by its containers, and when that was reported (spec 05 §9.6).
fn times(status: &PodStatus, now: Timestamp) -> (Timestamp, Timestamp) {
    let occurred = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .filter_map(|container| container.state.as_ref())
        .flat_map(|state| {
            let started = state
                .running
                .as_ref()
                .and_then(|running| running.started_at.as_ref());
            let finished = state
                .terminated
                .as_ref()
                .and_then(|terminated| terminated.finished_at.as_ref());
            [started, finished]
        })
        .flatten()
        .map(|time| time.0)
        .max()
        .unwrap_or(now);
    let completed = |condition: &&PodCondition| {
        condition.type_ == "Ready"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("PodCompleted")
    };
    let reported = status
        .conditions
        .iter()
        .flatten()
        .filter(completed)
        .filter_map(|condition| condition.last_transition_time.as_ref().map(|time| time.0))
        .max()
        .unwrap_or(occurred);
    (occurred, reported)
}

#[cfg(test)]
mod tests;
