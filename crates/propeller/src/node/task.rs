//! Task nodes: create the pod of an attempt, follow it, read what it left, try again (spec 04 §7.1).

mod attempt;
mod failures;
pub(crate) mod guard;
pub mod observed_pod;

use std::sync::Arc;

use flyte_crd::{
    NanoTime, NodePhase,
    gob::{PluginState, Progress},
    status::{TaskNodeStatus, TaskPhase},
};
use flyte_idl::core::{execution_error::ErrorKind, node_execution::Phase as EventPhase};
use flyte_plugins::{PhaseInfo, TaskInfo, status, task_logs};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::{
    Change, NodeEffect, NodeResult, NodeView, ReportedEvents, Step, TaskResult, declares_outputs,
    dynamic, failed,
    failure::{Deadline, deadline},
    identity, running, running_event, short, succeeded, unsupported,
};
use crate::events::{self, NodeDetails};
use guard::guarded;

pub use attempt::Attempt;
pub(super) use failures::abort;
pub(super) use failures::wait;
use failures::{attempt_failed, retry, within_deadlines};

/// Code of attempts whose pod somebody deletes (spec 05 §4.4).
pub(crate) const OBJECT_DELETED: &str = "UnexpectedObjectDeletion";
/// Code of attempts whose pod is not there.
const OBJECT_MISSING: &str = "ResourceDeletedExternally";
/// Longer reasons of a phase are cut.
const MAX_REASON_BYTES: usize = 4_096;
/// Version of the plugin state that we and Go write.
const PLUGIN_STATE_VERSION: u32 = 1;

/// How long the watch may take to show a pod that was created; then the API server is asked.
const SHOWN_WITHIN: SignedDuration = SignedDuration::from_secs(30);

pub(super) fn step(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    let attempt = match Attempt::of(*view) {
        Ok(attempt) => attempt,
        Err(error) => return failed(view, *error, Vec::new(), now),
    };
    match view.status.phase {
        NodePhase::RetryableFailure => return retry(&attempt, now),
        NodePhase::Failing | NodePhase::TimingOut => return failures::leave(&attempt, now),
        _ => {}
    }
    let under_way = view.status.task_node_status.as_ref().filter(|task| {
        task.phase != TaskPhase::Undefined && task.phase != TaskPhase::WaitingForResources
    });
    match (result, under_way) {
        (Some(NodeResult::PodCreated(info)), _) => observed(&attempt, info, now),
        (Some(NodeResult::TaskResult(result)), _) => finished(&attempt, result, now),
        (_, None) => create(&attempt, now),
        (_, Some(task)) if has_unknown_phase(task.phase) => {
            let message = format!(
                "the task of node [{}] has phase [{}], which this engine does not know",
                view.spec.id,
                task.phase.number()
            );
            let error = super::system("IllegalStateError", message);
            super::fail(view, error, now).step()
        }
        // What is being asked for does not come: the attempt may time out meanwhile.
        (None, Some(_)) if view.is_retrying && is_over(view, now) => {
            within_deadlines(&attempt, None, now)
        }
        // Go stores success before it has looked at the outputs.
        (_, Some(task)) if task.phase == TaskPhase::Success => Step::Do(NodeEffect::ReadResult),
        (Some(NodeResult::Pod(Some(pod))), Some(_)) => follow(&attempt, &pod, now),
        (Some(NodeResult::Pod(None)), Some(_)) => {
            let name = format!("{}/{}", view.workflow.namespace, attempt.pod_name());
            let message = format!(
                "resource not found, name [{name}]. reason: pods {:?} not found",
                attempt.pod_name()
            );
            observed(
                &attempt,
                PhaseInfo::retryable(ErrorKind::System, OBJECT_MISSING, message),
                now,
            )
        }
        (_, Some(_)) => match view.task.pod {
            Some(pod) => follow(&attempt, pod, now),
            None => match shown_by(view).filter(|shown_by| now < *shown_by) {
                Some(shown_by) => within_deadlines(&attempt, Some(shown_by), now),
                None => Step::Do(NodeEffect::GetPod),
            },
        },
    }
}

/// Until when the watch may be about to show a pod that this process has created.
fn shown_by(view: &NodeView<'_>) -> Option<Timestamp> {
    view.task.pod_created_at?.checked_add(SHOWN_WITHIN).ok()
}

fn is_over(view: &NodeView<'_>, now: Timestamp) -> bool {
    !matches!(deadline(view, now), Deadline::Ahead(_))
}

fn has_unknown_phase(phase: TaskPhase) -> bool {
    matches!(phase, TaskPhase::Unknown(_))
}

/// Creates the pod, unless time is up or the namespace has no quota for it yet.
fn create(attempt: &Attempt<'_>, now: Timestamp) -> Step {
    match deadline(&attempt.view, now) {
        Deadline::Ahead(_) if !attempt.view.task.waits_for_quota => Step::Do(NodeEffect::CreatePod),
        Deadline::Ahead(_) | Deadline::AttemptOver(_) | Deadline::NodeOver(_) => {
            within_deadlines(attempt, None, now)
        }
    }
}

/// An effect of the attempt does not succeed and is tried again: an event within the phase that the task is in, so that
/// `trouble` stands where a user looks. None when it was sent before, or the attempt has ended.
pub(super) fn troubled(view: &NodeView<'_>, trouble: &str, now: Timestamp) -> Option<Change> {
    let attempt = Attempt::of(*view).ok()?;
    let known = view.status.task_node_status.clone().unwrap_or_default();
    let phase = match known.phase {
        TaskPhase::Undefined => TaskPhase::WaitingForResources,
        phase => phase,
    };
    let state = attempt.state();
    let reason = short(trouble);
    if phase.is_terminal() || (phase == known.phase && state.reason == reason) {
        return None;
    }
    let version = if phase == known.phase {
        known.phase_version + 1
    } else {
        0
    };
    let info = PhaseInfo::new(phase, version, reason.clone(), TaskInfo::default());
    let mut events = vec![attempt.event(&info, now)];
    events.extend(running_event(view, now));
    let mut status = if view.status.phase == NodePhase::Queued {
        running(view.status, now)
    } else {
        view.status.clone()
    };
    status.message.clone_from(&reason);
    status.task_node_status = Some(TaskNodeStatus {
        phase,
        phase_version: version,
        plugin_state: PluginState {
            phase,
            reason,
            ..state
        }
        .encode(),
        plugin_state_version: PLUGIN_STATE_VERSION,
        updated_at: if phase == known.phase {
            known.updated_at
        } else {
            NanoTime(Some(now))
        },
        ..known
    });
    Some(Change::new(events, status))
}

/// What the pod says.
fn follow(attempt: &Attempt<'_>, pod: &Arc<Pod>, now: Timestamp) -> Step {
    let settings = &attempt.view.workflow.settings.plugins;
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
        let name = format!("{}/{}", attempt.view.workflow.namespace, attempt.pod_name());
        let message = format!("object [{name}] terminated in the background, manually");
        return observed(
            attempt,
            PhaseInfo::retryable(ErrorKind::System, OBJECT_DELETED, message),
            now,
        );
    }
    if info.phase == TaskPhase::Success {
        return Step::Do(NodeEffect::ReadResult);
    }
    observed(attempt, info, now)
}

/// A phase that the plugin reported: nothing new, progress, or a failure.
fn observed(attempt: &Attempt<'_>, mut info: PhaseInfo, now: Timestamp) -> Step {
    let view = &attempt.view;
    // It is kept in the status, and clusters say what they like.
    info.reason
        .truncate(info.reason.floor_char_boundary(MAX_REASON_BYTES));
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
    let unreported = attempt.cursor(&state).unreported(view.task.object_events);
    let news = News::of(&info, &known, &state, !unreported.is_empty());
    if news == News::None && view.status.phase == NodePhase::Running {
        if info.phase == TaskPhase::WaitingForResources {
            return create(attempt, now);
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
    if version
        > view
            .workflow
            .settings
            .plugins
            .tasks
            .max_plugin_phase_versions
    {
        let message = format!(
            "Too many Plugin [{}] phase versions: attempted [{}], max allowed [{}]",
            attempt.plugin.id(),
            version,
            view.workflow
                .settings
                .plugins
                .tasks
                .max_plugin_phase_versions
        );
        let failure = PhaseInfo::permanent(ErrorKind::User, "TooManyPluginPhaseVersions", message)
            .cleaned_up();
        return attempt_failed(attempt, failure, now);
    }
    let mut reported = PhaseInfo {
        version,
        ..info.clone()
    };
    if news == News::ObjectEvents {
        // Said before.
        reported.reason.clear();
    }
    let mut events = vec![attempt.event(&reported, now)];
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
    let cursor = attempt.cursor(&state).after(view.task.object_events);
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
        last_event_update: cursor.created_at,
    };
    let reported_events = cursor
        .arrival
        .filter(|_| !unreported.is_empty())
        .map(|arrival| {
            let before = view.task.reported.is_none().then(|| PluginState {
                last_event_update: state.last_event_update,
                ..new_state.clone()
            });
            ReportedEvents {
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
    Change {
        // That the pod exists can always be found out again; that the node runs is worth a write.
        derivable: !begins && launched && unreported.is_empty(),
        reported: reported_events,
        ..Change::new(events, status)
    }
    .step()
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
    fn of(info: &PhaseInfo, known: &TaskNodeStatus, state: &PluginState, has_events: bool) -> Self {
        let another_reason = if info.phase == TaskPhase::Running {
            info.version > state.phase_version
        } else {
            info.reason != state.reason
        };
        if info.phase != known.phase {
            Self::Phase
        } else if another_reason {
            Self::Reason
        } else if has_events {
            Self::ObjectEvents
        } else {
            Self::None
        }
    }
}

/// Pods that cannot start are judged by time, so they must be looked at again without an event: when the first grace
/// period ends that began with a condition of the pod, as [`flyte_plugins::status`] counts it.
fn pending_check(attempt: &Attempt<'_>, now: Timestamp) -> Option<Timestamp> {
    let k8s = &attempt.view.workflow.settings.plugins.k8s;
    let conditions = attempt
        .view
        .task
        .pod
        .and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
    let begins: Vec<_> = conditions
        .into_iter()
        .flatten()
        .filter_map(|condition| condition.last_transition_time.as_ref())
        .map(|time| time.0)
        .collect();
    let graces = [
        k8s.image_pull_backoff_grace_period,
        k8s.create_container_error_grace_period,
        k8s.create_container_config_error_grace_period,
        k8s.pod_pending_timeout,
    ];
    graces
        .into_iter()
        .filter(|grace| !grace.is_zero())
        .flat_map(|grace| {
            let ends = begins
                .iter()
                .filter_map(move |begin| begin.checked_add(grace.to_signed()).ok());
            ends.collect::<Vec<_>>()
        })
        .filter(|end| *end > now)
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
            let has_outputs = declares_outputs(attempt.template);
            let details = NodeDetails {
                outputs: has_outputs.then(|| view.files.outputs()),
                deck: if deck {
                    view.files.deck()
                } else {
                    String::new()
                },
                ..attempt.details()
            };
            succeeded(view, details, vec![event], now)
        }
        TaskResult::Futures if view.element.is_some() => {
            // An array keeps a few bits of each element, and nothing of what is inside.
            let error = unsupported::error(view, "dynamic task in an array node");
            failed(view, error, Vec::new(), now)
        }
        TaskResult::Futures => dynamic::begin(attempt, now),
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
