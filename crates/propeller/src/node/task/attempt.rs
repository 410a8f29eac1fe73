//! One attempt of a task: what its plugin and its events are made of.

use std::{borrow::Cow, collections::BTreeMap};

use flyte_core::{layout, unique_id};
use flyte_crd::{gob::PluginState, status::TaskPhase};
use flyte_idl::core::{ExecutionError, TaskTemplate, execution_error::ErrorKind};
use flyte_plugins::{AdditionalReason, PhaseInfo, Plugin, TaskContext, pod};
use jiff::Timestamp;

use super::observed_pod::EventCursor;
use crate::{
    events::{self, Event, NodeDetails, TaskIdentity},
    node::{NodeView, identity, is_interruptible, template},
};

/// One attempt of a task, with everything that its plugin needs.
pub struct Attempt<'a> {
    /// The node that runs the task.
    pub view: NodeView<'a>,
    /// The task as it was registered.
    pub template: &'a TaskTemplate,
    /// Which plugin runs it.
    pub plugin: Plugin,
    /// Name of the attempt.
    pub generated_name: String,
    /// Environment variables of the execution, and what an element of an array is told by.
    environment: Cow<'a, BTreeMap<String, String>>,
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
            .workflow
            .execution_config
            .task_plugin_impls
            .get(&template.r#type);
        let plugin = view
            .workflow
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
            &view.workflow.name,
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
            environment: match view.element {
                Some(element) => Cow::Owned(element.environment(&view.workflow.environment)),
                None => Cow::Borrowed(&view.workflow.environment),
            },
        })
    }

    /// Name of its pod.
    pub fn pod_name(&self) -> String {
        pod::object_name(&self.generated_name)
    }

    /// What the plugin may know.
    pub fn context(&'a self) -> TaskContext<'a> {
        let run = self.view.workflow;
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
            workflow: &run.workflow_name,
            node_id: &self.view.spec.id,
            unique_node_id: self.view.unique_id,
            attempt,
            generated_name: &self.generated_name,
            namespace: &run.namespace,
            owner: run.owner.clone(),
            labels: &run.labels,
            annotations: &run.annotations,
            inputs: self.view.files.inputs(),
            output_folder: self.view.files.output().to_owned(),
            raw_output: raw(&self.generated_name),
            checkpoints: checkpoints(&self.generated_name),
            previous_checkpoints,
            task_template: self.view.files.task_template(),
            resources: &self.view.spec.resources,
            extended_resources: self.view.spec.extended_resources.as_deref(),
            container_image: &self.view.spec.container_image,
            pod_template: self.view.spec.pod_template.as_deref(),
            platform: &run.execution_config.task_resources,
            environment: &self.environment,
            interruptible: is_interruptible(&self.view),
            service_account: &run.service_account,
            security_context: &run.security_context,
            console_url: &run.console_url,
        }
    }

    /// Up to which event of its pod admin has them.
    pub(super) fn cursor(&self, state: &PluginState) -> EventCursor {
        EventCursor {
            created_at: state.last_event_update,
            arrival: self.view.task.reported,
        }
    }

    /// The plugin's state as the status has it.
    pub(super) fn state(&self) -> PluginState {
        let known = self.view.status.task_node_status.as_ref();
        known
            .and_then(|known| PluginState::decode(&known.plugin_state).ok())
            .unwrap_or_default()
    }

    /// What admin is told of a phase, with everything that the cluster has said about the pod meanwhile.
    pub(in crate::node) fn event(&self, info: &PhaseInfo, now: Timestamp) -> Event {
        if self.view.task.object_events.is_empty() {
            return self.plain_event(info, now);
        }
        let mut info = info.clone();
        let cursor = self.cursor(&self.state());
        info.info.additional_reasons = cursor
            .unreported(self.view.task.object_events)
            .into_iter()
            .map(|event| AdditionalReason {
                reason: event.note.clone(),
                occurred_at: event.created_at,
            })
            .collect();
        self.plain_event(&info, now)
    }

    fn plain_event(&self, info: &PhaseInfo, now: Timestamp) -> Event {
        let outputs = (info.phase == TaskPhase::Success).then(|| self.view.files.outputs());
        let node = identity(&self.view);
        let identity = TaskIdentity {
            node: &node,
            task: self.template.id.clone().unwrap_or_default(),
            task_type: &self.template.r#type,
            attempt: self.view.status.attempts,
            generated_name: &self.generated_name,
            plugin: self.plugin.id(),
            interruptible: is_interruptible(&self.view),
            send_object_events: self.view.workflow.settings.plugins.k8s.send_object_events,
            is_first: self
                .view
                .status
                .task_node_status
                .as_ref()
                .is_none_or(|task| task.phase == TaskPhase::Undefined),
        };
        events::task(&identity, info, now, outputs.as_deref())
    }

    pub(super) fn details(&self) -> NodeDetails {
        NodeDetails {
            checkpoint: Some(self.context().checkpoints),
            ..NodeDetails::default()
        }
    }

    /// The deck, where the template promises one from the first event on.
    pub(super) fn promised_deck(&self) -> String {
        let promised = self
            .template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.generates_deck);
        if promised == Some(true) {
            self.view.files.deck()
        } else {
            String::new()
        }
    }
}
