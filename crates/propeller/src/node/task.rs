//! Task nodes: create the pod of an attempt, follow it, read what it left, try again (spec 04 §7.1).

mod attempt;
mod failures;

use std::sync::Arc;

use flyte_crd::{
    NanoTime, NodePhase,
    gob::{PluginState, Progress},
    status::{TaskNodeStatus, TaskPhase},
};
use flyte_idl::core::{execution_error::ErrorKind, node_execution::Phase as EventPhase};
use flyte_plugins::{PhaseInfo, TaskInfo, status, task_logs};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{
    Change, NodeView, Observation, Step, TaskResult, TellsEvents, Then, Work, failed,
    failure::{Deadline, deadline},
    identity, running, succeeded, unsupported,
};
use crate::{
    events::{self, NodeDetails},
    guard::guarded,
};

pub use attempt::Attempt;
pub(super) use failures::abort;
use failures::{attempt_failed, retry, within_deadlines};

/// Code of attempts whose pod somebody deletes (spec 05 §4.4).
pub(crate) const OBJECT_DELETED: &str = "UnexpectedObjectDeletion";
/// Version of the plugin state that we and Go write.
const PLUGIN_STATE_VERSION: u32 = 1;

pub(super) fn step(view: &NodeView<'_>, observation: Observation, now: Timestamp) -> Step {
    let attempt = match Attempt::of(*view) {
        Ok(attempt) => attempt,
        Err(error) => return failed(view, *error, Vec::new(), now),
    };
    let under_way = view
        .status
        .task_node_status
        .as_ref()
        .filter(|_| view.status.phase != NodePhase::RetryableFailure)
        .filter(|task| {
            task.phase != TaskPhase::Undefined && task.phase != TaskPhase::WaitingForResources
        });
    match (observation, under_way) {
        (Observation::Launched(info), _) => observed(&attempt, info, now),
        (Observation::Result(result), _) => finished(&attempt, result, now),
        (Observation::Look(_), None) if view.status.phase == NodePhase::RetryableFailure => {
            retry(&attempt, now)
        }
        (_, None) => launch(&attempt, now),
        // Go stores success before it has looked at the outputs.
        (_, Some(task)) if task.phase == TaskPhase::Success => Step::Do(Work::ReadResult),
        (Observation::Look(Some(pod)) | Observation::LookedUp(Some(pod)), Some(_)) => {
            follow(&attempt, &pod, now)
        }
        (Observation::LookedUp(None), Some(_)) => {
            let name = format!("{}/{}", view.run.namespace, attempt.pod_name());
            let message = format!(
                "resource not found, name [{name}]. reason: pods {:?} not found",
                attempt.pod_name()
            );
            observed(
                &attempt,
                PhaseInfo::retryable(ErrorKind::System, "ResourceDeletedExternally", message),
                now,
            )
        }
        (_, Some(_)) if view.pod_expected => within_deadlines(&attempt, None, now),
        (_, Some(_)) => Step::Do(Work::LookUp),
    }
}

/// Creates the pod, unless time is up or there is no room for it yet.
fn launch(attempt: &Attempt<'_>, now: Timestamp) -> Step {
    match deadline(&attempt.view, now) {
        Deadline::Ahead(_) if !attempt.view.waits_for_room => Step::Do(Work::Launch),
        Deadline::Ahead(_) | Deadline::AttemptOver(_) | Deadline::NodeOver(_) => {
            within_deadlines(attempt, None, now)
        }
    }
}

/// What the pod says.
fn follow(attempt: &Attempt<'_>, pod: &Arc<Pod>, now: Timestamp) -> Step {
    let settings = &attempt.view.run.settings.plugins;
    let judged = guarded(attempt.plugin, || {
        let logs = task_logs(pod, &attempt.context(), &settings.logs, now);
        let info = TaskInfo {
            logs,
            ..TaskInfo::default()
        };
        status::phase(pod, &settings.k8s, info, now)
    });
    let info = match judged {
        Ok(info) => info,
        Err(panicked) => return observed(attempt, *panicked, now),
    };
    if !info.phase.is_terminal() && pod.metadata.deletion_timestamp.is_some() {
        let name = format!("{}/{}", attempt.view.run.namespace, attempt.pod_name());
        let message = format!("object [{name}] terminated in the background, manually");
        return observed(
            attempt,
            PhaseInfo::retryable(ErrorKind::System, OBJECT_DELETED, message),
            now,
        );
    }
    if info.phase == TaskPhase::Success {
        return Step::Do(Work::ReadResult);
    }
    observed(attempt, info, now)
}

/// A phase that the plugin reported: nothing new, progress, or a failure.
fn observed(attempt: &Attempt<'_>, info: PhaseInfo, now: Timestamp) -> Step {
    let view = &attempt.view;
    match info.phase {
        TaskPhase::RetryableFailure | TaskPhase::PermanentFailure => {
            return attempt_failed(attempt, info, now);
        }
        // Only plugins that finish without a pod report success when launched.
        TaskPhase::Success => return finished(attempt, TaskResult::Outputs { deck: false }, now),
        _ => {}
    }
    let known = view.status.task_node_status.clone().unwrap_or_default();
    let state = attempt.state();
    let same_phase = known.phase == info.phase;
    let untold = attempt.told(&state).untold(view.object_events);
    let news = News::of(&info, &known, &state, !untold.is_empty());
    if news == News::None && view.status.phase == NodePhase::Running {
        if info.phase == TaskPhase::WaitingForResources {
            return launch(attempt, now);
        }
        let grace = (info.phase == TaskPhase::Initializing || info.phase == TaskPhase::Queued)
            .then(|| pending_check(attempt, now))
            .flatten();
        return within_deadlines(attempt, grace, now);
    }
    let version = match news {
        News::Phase => info.version,
        News::None => known.phase_version,
        // A new version for everything that is told within a phase (spec 05 §2.6, §4.7).
        News::Reason | News::ObjectEvents => known.phase_version + 1,
    };
    if version > view.run.settings.plugins.tasks.max_plugin_phase_versions {
        let message = format!(
            "Too many Plugin [{}] phase versions: attempted [{}], max allowed [{}]",
            attempt.plugin.id(),
            version,
            view.run.settings.plugins.tasks.max_plugin_phase_versions
        );
        let failure = PhaseInfo::permanent(ErrorKind::User, "TooManyPluginPhaseVersions", message)
            .cleaned_up();
        return attempt_failed(attempt, failure, now);
    }
    let mut said = PhaseInfo {
        version,
        ..info.clone()
    };
    if news == News::ObjectEvents {
        // Said before.
        said.reason.clear();
    }
    let mut events = vec![attempt.event(&said, now)];
    let begins = view.status.phase == NodePhase::Queued;
    let mut status = if view.status.phase == NodePhase::Running
        && view.status.last_attempt_started_at.is_some()
    {
        view.status.clone()
    } else {
        running(view.status, now)
    };
    if begins {
        let details = NodeDetails {
            deck: attempt.promised_deck(),
            ..NodeDetails::default()
        };
        events.push(events::node(
            &identity(view),
            EventPhase::Running,
            now,
            details,
        ));
    }
    let launched = info.phase != TaskPhase::WaitingForResources;
    let told = attempt.told(&state).after(view.object_events);
    let new_state = PluginState {
        progress: if launched {
            Progress::Started
        } else {
            Progress::NotStarted
        },
        phase: info.phase,
        // The pod's own version while it runs, by which new log links are told.
        phase_version: match info.phase {
            TaskPhase::Running if same_phase => info.version.max(state.phase_version),
            TaskPhase::Running => info.version,
            _ => version,
        },
        reason: info.reason,
        last_event_update: told.created_at,
    };
    let tells = told.arrival.filter(|_| !untold.is_empty()).map(|arrival| {
        let before = view.told.is_none().then(|| PluginState {
            last_event_update: state.last_event_update,
            ..new_state.clone()
        });
        TellsEvents {
            arrival,
            if_repeated: before.map(|state| state.encode()),
        }
    });
    status.dynamic_node_status.get_or_insert_default();
    status.task_node_status = Some(TaskNodeStatus {
        phase: info.phase,
        phase_version: version,
        plugin_state: new_state.encode(),
        plugin_state_version: PLUGIN_STATE_VERSION,
        updated_at: if same_phase {
            known.updated_at
        } else {
            NanoTime(Some(now))
        },
        ..known
    });
    Step::Change(Box::new(Change {
        events,
        status,
        // That the pod exists can always be found out again; that the node runs is worth a write.
        derivable: !begins && launched && untold.is_empty(),
        then: Then::Nothing,
        delete_pod: None,
        told: tells,
    }))
}

/// What there is to tell about a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    None,
    /// It is another one than before.
    Phase,
    /// It has another reason, or log links that it did not have.
    Reason,
    /// The cluster has said something about the pod.
    ObjectEvents,
}

impl News {
    fn of(info: &PhaseInfo, known: &TaskNodeStatus, state: &PluginState, said: bool) -> Self {
        let another_reason = if info.phase == TaskPhase::Running {
            info.version > state.phase_version
        } else {
            info.reason != state.reason
        };
        if info.phase != known.phase {
            Self::Phase
        } else if another_reason {
            Self::Reason
        } else if said {
            Self::ObjectEvents
        } else {
            Self::None
        }
    }
}

/// Pods that cannot start are judged by time, so they must be looked at again without an event.
fn pending_check(attempt: &Attempt<'_>, now: Timestamp) -> Option<Timestamp> {
    let k8s = &attempt.view.run.settings.plugins.k8s;
    [
        k8s.image_pull_backoff_grace_period,
        k8s.create_container_error_grace_period,
        k8s.create_container_config_error_grace_period,
        k8s.pod_pending_timeout,
    ]
    .into_iter()
    .filter(|grace| !grace.is_zero())
    .filter_map(|grace| now.checked_add(grace.to_signed()).ok())
    .min()
}

/// The plugin said success; what did the task leave behind?
fn finished(attempt: &Attempt<'_>, result: TaskResult, now: Timestamp) -> Step {
    let view = &attempt.view;
    match result {
        TaskResult::Outputs { deck } => {
            let event = attempt.event(
                &PhaseInfo::new(TaskPhase::Success, 0, "", TaskInfo::default()),
                now,
            );
            let has_outputs = attempt
                .template
                .interface
                .as_ref()
                .and_then(|interface| interface.outputs.as_ref())
                .is_some_and(|outputs| !outputs.variables.is_empty());
            let details = NodeDetails {
                outputs: has_outputs.then(|| view.places.outputs()),
                deck: if deck {
                    view.places.deck()
                } else {
                    String::new()
                },
                ..attempt.details()
            };
            succeeded(view, details, vec![event], now)
        }
        TaskResult::Futures => {
            let error = unsupported::error(view, "dynamic");
            let failure = PhaseInfo {
                error: Some(error.clone()),
                ..PhaseInfo::permanent(ErrorKind::User, "", "")
            };
            failed(view, error, vec![attempt.event(&failure, now)], now)
        }
        TaskResult::Failed {
            error,
            recoverable,
            deck: _,
        } => {
            let phase = if recoverable {
                TaskPhase::RetryableFailure
            } else {
                TaskPhase::PermanentFailure
            };
            let info = PhaseInfo {
                phase,
                error: Some(error),
                ..PhaseInfo::permanent(ErrorKind::User, "", "")
            };
            attempt_failed(attempt, info, now)
        }
    }
}
