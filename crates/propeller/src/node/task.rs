//! Task nodes: create the pod of an attempt, follow it, read what it left, try again (spec 04 §7.1).

use std::sync::Arc;

use flyte_core::{layout, unique_id};
use flyte_crd::{
    NanoTime, NodePhase, NodeStatus, Proto, Time,
    gob::{PluginState, Progress},
    status::{TaskNodeStatus, TaskPhase},
};
use flyte_idl::core::{
    ExecutionError, TaskTemplate, execution_error::ErrorKind, node_execution::Phase as EventPhase,
};
use flyte_plugins::{PhaseInfo, Plugin, TaskContext, TaskInfo, pod, status, task_logs};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{
    Change, NodeView, Observation, Step, TaskResult, Then, Work, attempts_left, ended, failed,
    failure::{Deadline, deadline},
    identity, is_interruptible, running, short, template, unsupported,
};
use crate::events::{self, Event, NodeDetails, TaskIdentity};

/// Version of the plugin state that we and Go write.
const PLUGIN_STATE_VERSION: u32 = 1;
/// How long to wait before asking again for resources that a quota refused.
const QUOTA_RETRY_SECONDS: i64 = 5;

/// One attempt of a task, with everything that its plugin needs.
pub struct Attempt<'a> {
    /// The node.
    pub view: NodeView<'a>,
    /// The task.
    pub template: &'a TaskTemplate,
    /// Which plugin runs it.
    pub plugin: Plugin,
    /// Name of the attempt.
    pub generated_name: String,
}

impl<'a> Attempt<'a> {
    /// The attempt under way.
    ///
    /// # Errors
    /// The user error of a node whose task is missing or has no plugin.
    pub fn of(view: NodeView<'a>) -> Result<Self, Box<ExecutionError>> {
        let user = |code: &str, message: String| {
            Box::new(ExecutionError {
                code: code.to_owned(),
                message,
                kind: ErrorKind::User.into(),
                ..ExecutionError::default()
            })
        };
        let Some(template) = template(&view) else {
            let task = view.spec.task.as_deref().unwrap_or_default();
            return Err(user(
                "BadTaskSpecification",
                format!(
                    "node [{}] runs task [{task}], which the execution does not have",
                    view.spec.id
                ),
            ));
        };
        let has_container = template.target.is_some();
        let overrides = view
            .run
            .execution_config
            .task_plugin_impls
            .get(&template.r#type);
        let plugin = view
            .run
            .settings
            .registry
            .resolve(&template.r#type, has_container, overrides)
            .map_err(|error| {
                let task = template.id.as_ref().map_or("", |id| id.name.as_str());
                user(
                    "UnsupportedTaskType",
                    format!(
                        "node [{}] of kind [task] runs task [{task}]: {error}",
                        view.spec.id
                    ),
                )
            })?;
        let generated_name = unique_id::generated_name(
            &view.run.name,
            view.unique_id,
            view.status.attempts,
            unique_id::GENERATED_NAME_MAX,
        )
        .unwrap_or_else(|too_long| too_long.name);
        Ok(Self {
            view,
            template,
            plugin,
            generated_name,
        })
    }

    /// Name of its pod.
    pub fn pod_name(&self) -> String {
        pod::object_name(&self.generated_name)
    }

    /// What the plugin may know.
    pub fn context(&'a self) -> TaskContext<'a> {
        let run = self.view.run;
        let raw = |name: &str| layout::raw_output(&run.raw_output_prefix, name).unwrap_or_default();
        let checkpoints = |name: &str| layout::checkpoints(&raw(name)).unwrap_or_default();
        let attempt = self.view.status.attempts;
        let previous_checkpoints = match attempt.checked_sub(1) {
            None => self
                .view
                .status
                .task_node_status
                .as_ref()
                .map(|task| task.checkpoint_path.clone())
                .unwrap_or_default(),
            Some(previous) => {
                let name = unique_id::generated_name(
                    &run.name,
                    self.view.unique_id,
                    previous,
                    unique_id::GENERATED_NAME_MAX,
                );
                checkpoints(&name.unwrap_or_else(|too_long| too_long.name))
            }
        };
        TaskContext {
            template: self.template,
            execution: &run.execution,
            workflow: &run.workflow,
            node_id: &self.view.spec.id,
            unique_node_id: self.view.unique_id,
            attempt,
            generated_name: &self.generated_name,
            namespace: &run.namespace,
            owner: run.owner.clone(),
            labels: &run.labels,
            annotations: &run.annotations,
            inputs: self.view.places.inputs(),
            output_folder: self.view.places.output().to_owned(),
            raw_output: raw(&self.generated_name),
            checkpoints: checkpoints(&self.generated_name),
            previous_checkpoints,
            task_template: self.view.places.task_template(),
            resources: &self.view.spec.resources,
            extended_resources: self.view.spec.extended_resources.as_deref(),
            container_image: &self.view.spec.container_image,
            pod_template: self.view.spec.pod_template.as_deref(),
            platform: &run.execution_config.task_resources,
            environment: &run.environment,
            interruptible: is_interruptible(&self.view),
            service_account: &run.service_account,
            security_context: &run.security_context,
            console_url: &run.console_url,
        }
    }

    fn event(&self, info: &PhaseInfo, now: Timestamp) -> Event {
        let outputs = (info.phase == TaskPhase::Success).then(|| self.view.places.outputs());
        let node = identity(&self.view);
        let identity = TaskIdentity {
            node: &node,
            task: self.template.id.clone().unwrap_or_default(),
            task_type: &self.template.r#type,
            attempt: self.view.status.attempts,
            generated_name: &self.generated_name,
            plugin: self.plugin.id(),
            interruptible: is_interruptible(&self.view),
            send_object_events: self.view.run.settings.plugins.k8s.send_object_events,
            is_first: self
                .view
                .status
                .task_node_status
                .as_ref()
                .is_none_or(|task| task.phase == TaskPhase::Undefined),
        };
        events::task(&identity, info, now, outputs.as_deref())
    }

    fn details(&self) -> NodeDetails {
        NodeDetails {
            checkpoint: Some(self.context().checkpoints),
            ..NodeDetails::default()
        }
    }

    /// The deck, where the template promises one from the first event on.
    fn promised_deck(&self) -> String {
        let promised = self
            .template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.generates_deck);
        if promised == Some(true) {
            self.view.places.deck()
        } else {
            String::new()
        }
    }
}

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

/// Creates the pod, unless time is up or resources were refused a moment ago.
fn launch(attempt: &Attempt<'_>, now: Timestamp) -> Step {
    let refused = attempt
        .view
        .status
        .task_node_status
        .as_ref()
        .and_then(|task| task.updated_at.0);
    if let Some(again) = refused.and_then(|at| {
        at.checked_add(jiff::SignedDuration::from_secs(QUOTA_RETRY_SECONDS))
            .ok()
    }) && again > now
    {
        return within_deadlines(attempt, Some(again), now);
    }
    match deadline(&attempt.view, now) {
        Deadline::Ahead(_) => Step::Do(Work::Launch),
        Deadline::AttemptOver(_) | Deadline::NodeOver(_) => within_deadlines(attempt, None, now),
    }
}

/// What the pod says.
fn follow(attempt: &Attempt<'_>, pod: &Arc<Pod>, now: Timestamp) -> Step {
    let settings = &attempt.view.run.settings.plugins;
    let logs = task_logs(pod, &attempt.context(), &settings.logs, now);
    let info = status::phase(
        pod,
        &settings.k8s,
        TaskInfo {
            logs,
            ..TaskInfo::default()
        },
        now,
    );
    if !info.phase.is_terminal() && pod.metadata.deletion_timestamp.is_some() {
        let name = format!("{}/{}", attempt.view.run.namespace, attempt.pod_name());
        let message = format!("object [{name}] terminated in the background, manually");
        return observed(
            attempt,
            PhaseInfo::retryable(ErrorKind::System, "UnexpectedObjectDeletion", message),
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
    let state = PluginState::decode(&known.plugin_state).unwrap_or_default();
    let mut info = info;
    let same_phase = known.phase == info.phase;
    if same_phase && info.phase != TaskPhase::Running {
        // The same reason keeps its version, a new one gets the next (spec 05 §2.6).
        info.version = if state.reason == info.reason {
            known.phase_version
        } else {
            known.phase_version + 1
        };
    }
    if same_phase && info.version == known.phase_version && view.status.phase == NodePhase::Running
    {
        let wake = (info.phase == TaskPhase::WaitingForResources)
            .then(|| {
                now.checked_add(jiff::SignedDuration::from_secs(QUOTA_RETRY_SECONDS))
                    .ok()
            })
            .flatten();
        let grace = (info.phase == TaskPhase::Initializing || info.phase == TaskPhase::Queued)
            .then(|| pending_check(attempt, now))
            .flatten();
        return within_deadlines(attempt, [wake, grace].into_iter().flatten().min(), now);
    }
    if info.version > view.run.settings.plugins.tasks.max_plugin_phase_versions {
        let message = format!(
            "Too many Plugin [{}] phase versions: attempted [{}], max allowed [{}]",
            attempt.plugin.id(),
            info.version,
            view.run.settings.plugins.tasks.max_plugin_phase_versions
        );
        let failure = PhaseInfo::permanent(ErrorKind::User, "TooManyPluginPhaseVersions", message)
            .cleaned_up();
        return attempt_failed(attempt, failure, now);
    }
    let mut events = vec![attempt.event(&info, now)];
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
    status.dynamic_node_status.get_or_insert_default();
    status.task_node_status = Some(TaskNodeStatus {
        phase: info.phase,
        phase_version: info.version,
        plugin_state: PluginState {
            progress: if launched {
                Progress::Started
            } else {
                Progress::NotStarted
            },
            phase: info.phase,
            phase_version: info.version,
            reason: info.reason.clone(),
        }
        .encode(),
        plugin_state_version: PLUGIN_STATE_VERSION,
        updated_at: if same_phase && launched {
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
        derivable: !begins && launched,
        then: Then::Nothing,
        delete_pod: None,
    }))
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
            super::succeeded(view, details, vec![event], now)
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

/// An attempt failed: another one, or the end.
fn attempt_failed(attempt: &Attempt<'_>, info: PhaseInfo, now: Timestamp) -> Step {
    let error = info.error.clone().unwrap_or_default();
    let events = vec![attempt.event(&info, now)];
    let delete_pod = info.clean_up.then(|| attempt.pod_name());
    let retryable = info.phase == TaskPhase::RetryableFailure;
    after_failure(
        attempt,
        error,
        retryable,
        Aftermath { events, delete_pod },
        now,
    )
}

struct Aftermath {
    events: Vec<Event>,
    delete_pod: Option<String>,
}

fn after_failure(
    attempt: &Attempt<'_>,
    error: ExecutionError,
    retryable: bool,
    aftermath: Aftermath,
    now: Timestamp,
) -> Step {
    let view = &attempt.view;
    let attempts = attempts_left(view, error.kind());
    let Aftermath {
        mut events,
        delete_pod,
    } = aftermath;
    if retryable && attempts.left {
        let status = next_attempt(view.status, error, now);
        return Step::Change(Box::new(Change {
            events,
            status,
            derivable: false,
            then: Then::Nothing,
            delete_pod,
        }));
    }
    let error = if retryable {
        attempts.exhausted(&error)
    } else {
        error
    };
    let details = NodeDetails {
        error: Some(error.clone()),
        ..attempt.details()
    };
    events.push(events::node(
        &identity(view),
        EventPhase::Failed,
        now,
        details,
    ));
    let mut status = ended(view.status, NodePhase::Failed, now);
    status.error = Some(Proto(error));
    Step::Change(Box::new(Change {
        events,
        status,
        derivable: false,
        then: Then::Nothing,
        delete_pod,
    }))
}

/// The node's status when another attempt begins.
fn next_attempt(status: &NodeStatus, error: ExecutionError, now: Timestamp) -> NodeStatus {
    let mut status = status.clone();
    if error.kind() == ErrorKind::System {
        status.system_failures += 1;
    }
    status.phase = NodePhase::Running;
    status.attempts += 1;
    status.message = "retrying".into();
    status.last_attempt_started_at = Some(Time::new(now));
    status.last_updated_at = Some(Time::new(now));
    status.error = Some(Proto(error));
    status.task_node_status = None;
    status.dynamic_node_status = None;
    status
}

/// Go stored that another attempt is to be made.
fn retry(attempt: &Attempt<'_>, now: Timestamp) -> Step {
    let view = &attempt.view;
    let mut status = view.status.clone();
    status.phase = NodePhase::Running;
    status.attempts += 1;
    status.message = short("retrying");
    status.last_attempt_started_at = Some(Time::new(now));
    status.last_updated_at = Some(Time::new(now));
    status.task_node_status = None;
    status.dynamic_node_status = None;
    Step::Change(Box::new(Change {
        events: Vec::new(),
        status,
        derivable: false,
        then: Then::Nothing,
        delete_pod: None,
    }))
}

/// Waits, but no longer than the node may take.
fn within_deadlines(attempt: &Attempt<'_>, wake: Option<Timestamp>, now: Timestamp) -> Step {
    let view = &attempt.view;
    match deadline(view, now) {
        Deadline::Ahead(end) => Step::Wait([end, wake].into_iter().flatten().min()),
        Deadline::AttemptOver(length) => {
            let text =
                flyte_core::duration::format(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX));
            let error = ExecutionError {
                code: "TimeoutExpired".into(),
                message: format!("task execution timeout [{text}] expired"),
                kind: ErrorKind::User.into(),
                ..ExecutionError::default()
            };
            let (events, delete_pod) = abort(view, false, now);
            after_failure(attempt, error, true, Aftermath { events, delete_pod }, now)
        }
        Deadline::NodeOver(_) => {
            let (mut events, delete_pod) = abort(view, false, now);
            events.push(events::node(
                &identity(view),
                EventPhase::TimedOut,
                now,
                attempt.details(),
            ));
            let status = ended(view.status, NodePhase::TimedOut, now);
            Step::Change(Box::new(Change {
                events,
                status,
                derivable: false,
                then: Then::Nothing,
                delete_pod,
            }))
        }
    }
}

/// What ends the attempt under way: its last event, and the pod to delete.
pub(super) fn abort(
    view: &NodeView<'_>,
    pod_exists: bool,
    now: Timestamp,
) -> (Vec<Event>, Option<String>) {
    let launched = view
        .status
        .task_node_status
        .as_ref()
        .is_some_and(|task| !task.phase.is_terminal());
    let (Ok(attempt), true) = (Attempt::of(*view), launched || pod_exists) else {
        return (Vec::new(), None);
    };
    let info = PhaseInfo::new(TaskPhase::Aborted, 0, "", TaskInfo::default());
    (vec![attempt.event(&info, now)], Some(attempt.pod_name()))
}
