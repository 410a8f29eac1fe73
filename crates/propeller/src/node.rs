//! What a node does next: pure decisions, one file per kind (spec 04 §6, §7).
//!
//! [`step`] gets a [`NodeView`], what the node's last effect brought, and the time. It answers with a [`Step`]: wait,
//! have an effect and look again with its [`NodeResult`], or send events and then become something else. Nothing
//! here reads a clock, a store or a cluster.
//!
//! Decisions are level-triggered: everything but the result of an effect that has just ended is read from the view, so
//! that a process which knows nothing but the written status decides the same. What is inside a node (an arm, a
//! sub-workflow) is such a level, [`Inside`].

pub mod array;
mod boundary;
pub mod branch;
pub mod cache;
mod container;
pub(crate) mod dynamic;
mod effect;
mod failure;
mod files;
mod gate;
pub mod launch_plan;
mod node_end;
pub mod recovery;
pub mod resolve;
pub(crate) mod subworkflow;
pub mod task;
mod unsupported;

use std::{collections::BTreeMap, sync::Arc};

use flyte_core::{identifiers::ExecutionId, unique_id::Parent};
use flyte_crd::{
    FlyteWorkflow, NodeKind, NodePhase, NodeSpec, NodeStatus, Proto, Time, WorkflowSpec,
    execution_config::ExecutionConfig,
};
use flyte_idl::core::{
    ExecutionError, LiteralMap, SecurityContext, TaskTemplate, execution_error::ErrorKind,
    node_execution::Phase as EventPhase,
};
use flyte_plugins::{Registry, config::PluginsConfig};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};

use crate::{
    config::{NodeConfig, PropellerConfig},
    events::{self, Event, InnerWorkflow, NodeDetails, NodeIdentity},
};

use cache::CacheView;
use node_end::{ended, failed, succeeded};
use task::observed_pod::ObjectEvent;

pub use array::{Element, Progress};
pub(crate) use container::is_leaving;
pub use dynamic::DynamicWorkflow;
pub use effect::{NodeEffect, NodeResult, Source, TaskResult};
pub use failure::{attempts_left, is_interruptible, next_deadline};
pub use files::NodeFiles;
pub use launch_plan::ChildState;
pub use node_end::{abort, fail, skip};

/// Status messages are cut to this many bytes (spec 04 §3.5).
const MAX_STATUS_MESSAGE: usize = 1024;

/// What is the same for all nodes of one workflow.
#[derive(Debug)]
pub struct WorkflowContext {
    /// The execution that the resource was made for.
    pub execution: ExecutionId,
    /// Namespace of the resource.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// `project:domain:name` of the workflow.
    pub workflow_name: String,
    /// URI of the workflow's folder.
    pub data_dir: String,
    /// URI below which raw data goes.
    pub raw_output_prefix: String,
    /// The resource as owner of pods.
    pub owner: OwnerReference,
    /// Labels that every pod of the execution gets.
    pub labels: BTreeMap<String, String>,
    /// Annotations that every pod of the execution gets.
    pub annotations: BTreeMap<String, String>,
    /// Service account of its pods.
    pub service_account: String,
    /// Whom tasks run as.
    pub security_context: SecurityContext,
    /// Settings of the execution.
    pub execution_config: ExecutionConfig,
    /// Environment variables that the execution sets in its pods.
    pub environment: BTreeMap<String, String>,
    /// Whether tasks may be interrupted unless they say otherwise.
    pub interruptible: bool,
    /// Base URL of the console.
    pub console_url: String,
    /// Everything the engine is configured by.
    pub settings: Arc<Settings>,
}

/// A workflow as it is run: the one of the resource, a sub-workflow, or one that a dynamic task has made.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowDefinition {
    /// Its nodes and the edges between them.
    pub spec: Arc<WorkflowSpec>,
    /// What its nodes refer to.
    pub entities: Arc<Entities>,
}

impl WorkflowDefinition {
    /// The workflow of a resource, if it has one.
    pub fn of(resource: &FlyteWorkflow) -> Option<Self> {
        let sub_workflows = resource.sub_workflows.iter();
        Some(Self {
            spec: Arc::new(resource.spec.clone()?),
            entities: Arc::new(Entities {
                tasks: resource.tasks.clone().unwrap_or_default(),
                sub_workflows: sub_workflows
                    .map(|(key, spec)| (key.clone(), Arc::new(spec.clone())))
                    .collect(),
            }),
        })
    }
}

/// What the nodes of a workflow refer to by key; sub-workflows share it with the workflow around them, one that a
/// dynamic task has made brings its own.
#[derive(Debug, Default, PartialEq)]
pub struct Entities {
    /// Task templates.
    pub tasks: BTreeMap<String, Proto<TaskTemplate>>,
    /// Sub-workflows.
    pub sub_workflows: BTreeMap<String, Arc<WorkflowSpec>>,
}

/// What is the same for all workflows.
#[derive(Debug)]
pub struct Settings {
    /// Section `propeller`.
    pub propeller: PropellerConfig,
    /// Sections of the plugins.
    pub plugins: PluginsConfig,
    /// Which plugin runs what.
    pub registry: Registry,
    /// `scheme://container/metadata-prefix`.
    pub metadata_root: String,
    /// Whether there is a cache for the outputs of tasks.
    pub caches: bool,
}

impl Settings {
    fn nodes(&self) -> &NodeConfig {
        &self.propeller.node_config
    }
}

/// A node as decisions see it.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    /// What is the same for all.
    pub workflow: &'a WorkflowContext,
    /// What the nodes of its graph refer to.
    pub entities: &'a Entities,
    /// What the workflow's author wrote about the node.
    pub spec: &'a NodeSpec,
    /// Where it stands.
    pub status: &'a NodeStatus,
    /// Its id within the execution.
    pub unique_id: &'a str,
    /// The node around it.
    pub parent: Option<&'a Parent>,
    /// Where the node's inputs, outputs and error are.
    pub files: &'a NodeFiles,
    /// Its inputs, when this process has resolved or read them.
    pub inputs: Option<&'a Arc<LiteralMap>>,
    /// Where what is inside it stands.
    pub inside: Inside<'a>,
    /// Its last effect failed and is tried again, so that it may time out meanwhile.
    pub is_retrying: bool,
    /// What is known of its task's pod beside the status.
    pub task: TaskView<'a>,
    /// In recovery mode: the checkpoint that the node has from the other execution, or empty; none as long as it was not asked.
    pub checkpoint: Option<&'a str>,
    /// What is known of its entry in the cache.
    pub cache: &'a CacheView,
    /// What flyteadmin says of the execution that it has launched; none as long as it has not been asked.
    pub child: Option<&'a ChildState>,
    /// Which element of an array node it is.
    pub element: Option<&'a Element>,
    /// How far the elements of this array node are; none before they have begun.
    pub elements: Option<&'a Progress>,
}

/// What is inside a node: the chosen arm of a branch, the graph of a sub-workflow or of a dynamic task.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Inside<'a> {
    /// There is nothing, or it has not been started.
    #[default]
    Nothing,
    /// Another process has started it, and this one has not read yet what it consists of.
    Unread,
    /// It goes on, or is being aborted.
    UnderWay,
    /// It has ended well.
    Succeeded,
    /// It has failed, because of this.
    Failed(&'a ExecutionError),
    /// It was aborted from outside.
    Stopped,
}

/// What is known of a task's pod beside the status.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskView<'a> {
    /// The pod of the attempt under way, as the watch shows it.
    pub pod: Option<&'a Arc<Pod>>,
    /// When this process created the pod, until the watch has shown it.
    pub pod_created_at: Option<Timestamp>,
    /// This process has asked for the pod to be created: it exists, whatever status and watch say, unless the API
    /// server has said that it does not.
    pub may_have_pod: bool,
    /// The API server refused the pod for lack of quota, and nothing says yet that there is some.
    pub waits_for_quota: bool,
    /// What the cluster says about the pod.
    pub object_events: &'a [ObjectEvent],
    /// The last of those that this process sent to admin, by arrival.
    pub reported: Option<u64>,
}

/// What the node does next.
#[derive(Debug)]
pub enum Step {
    /// Nothing until something happens, or until this time.
    Wait(Option<Timestamp>),
    /// This, and then look at what it brought.
    Do(NodeEffect),
    /// Send events and then become something else.
    Change(Box<Change>),
}

/// Events, then a new status.
#[derive(Clone, Debug)]
pub struct Change {
    /// In order; all are acknowledged before the status changes.
    pub events: Vec<Event>,
    /// What the node becomes.
    pub status: NodeStatus,
    /// Whether losing this change in a crash only repeats events.
    pub derivable: bool,
    /// What happens with it.
    pub then: Then,
    /// The pod of this attempt is to be deleted once the status is written.
    pub delete_pod: Option<String>,
    /// The pod of this attempt went although nobody here asked for it. The node goes on when the status is written: another
    /// engine may have the workflow by now, and have deleted the pod because it had ended. Then the write is refused.
    pub lost_pod: bool,
    /// Events of the object that are reported with it.
    pub reported: Option<ReportedEvents>,
}

/// Events of an object that are reported with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedEvents {
    /// The last of them, by arrival.
    pub arrival: u64,
    /// The task's state when admin answers that it has heard of the change before: an earlier process reported it, but
    /// maybe without these events, which are reported again then. None when this process reported all there was before.
    pub if_repeated: Option<String>,
}

/// What happens together with a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Then {
    /// The step has no other consequence.
    #[default]
    Nothing,
    /// The sub-workflow starts.
    StartSubWorkflow,
    /// The workflow that the task has made starts, or goes on where the status says that it stands.
    StartDynamic(WorkflowDefinition),
    /// An arm was chosen; all others are skipped.
    ChooseArm(Option<String>),
    /// What is inside is aborted.
    AbortInside,
    /// The elements of an array node begin.
    StartElements,
    /// So many news of elements were told.
    TellElements(usize),
    /// The node was terminated.
    Aborted,
}

impl Change {
    /// Becomes `status` once `events` are acknowledged.
    fn new(events: Vec<Event>, status: NodeStatus) -> Self {
        Self {
            events,
            status,
            derivable: false,
            then: Then::Nothing,
            delete_pod: None,
            lost_pod: false,
            reported: None,
        }
    }

    fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }

    fn deleting(self, delete_pod: Option<String>) -> Self {
        Self { delete_pod, ..self }
    }

    fn step(self) -> Step {
        Step::Change(Box::new(self))
    }
}

/// The next step of a node; `result` is what its last effect brought, if that has just ended.
pub fn step(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    match view.status.phase {
        NodePhase::NotYetStarted => start(view, result, now),
        NodePhase::Queued
        | NodePhase::Running
        | NodePhase::DynamicRunning
        | NodePhase::RetryableFailure
        | NodePhase::Failing
        | NodePhase::TimingOut => match view.spec.kind {
            NodeKind::Start | NodeKind::End => boundary::step(view, result, now),
            NodeKind::Task => cache::around(view, result, now, |view, result| {
                if dynamic::has_begun(view.status) {
                    dynamic::step(view, result, now)
                } else {
                    task::step(view, result, now)
                }
            }),
            NodeKind::Branch => {
                container::within_deadlines(view, |view| branch::step(view, result, now), now)
            }
            NodeKind::Workflow => match launch_plan::of(view.spec) {
                Some(plan) => launch_plan::step(view, plan, result, now),
                None => container::within_deadlines(
                    view,
                    |view| subworkflow::step(view, result, now),
                    now,
                ),
            },
            NodeKind::Gate => {
                container::within_deadlines(view, |view| gate::step(view, result, now), now)
            }
            NodeKind::Array => array::step(view, result, now),
        },
        // Written by Go between its rounds: the events are out, only cleaning up is left.
        NodePhase::Succeeding => {
            Change::new(Vec::new(), ended(view.status, NodePhase::Succeeded, now)).step()
        }
        NodePhase::Succeeded
        | NodePhase::Failed
        | NodePhase::Skipped
        | NodePhase::TimedOut
        | NodePhase::Recovered => Step::Wait(None),
        NodePhase::Unknown(phase) => {
            let message = format!(
                "node [{}] has phase [{phase}], which this engine does not know: a newer version wrote it, or it was \
                 changed by hand",
                view.spec.id
            );
            fail(view, system("IllegalStateError", message), now).step()
        }
    }
}

fn start(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    if let Some(step) = recovery::before(view, result.as_ref(), now) {
        return step;
    }
    if view.spec.kind == NodeKind::Task
        && let Some(result) = &result
        && let Some(step) = cache::before(view, result, now)
    {
        return step;
    }
    match result {
        _ if view.spec.kind == NodeKind::Start => boundary::step(view, None, now),
        Some(NodeResult::Prepared(Ok(_)) | NodeResult::CacheLookedUp(..)) => queued(view, now),
        // Its inputs are the array's, which are written.
        _ if view.element.is_some() => queued(view, now),
        Some(NodeResult::Prepared(Err(error))) => {
            let error = system("BindingResolutionFailure", error.of_node(&view.spec.id));
            failed(view, error, Vec::new(), now)
        }
        _ => Step::Do(NodeEffect::Prepare {
            bindings: view
                .spec
                .input_bindings
                .iter()
                .map(|binding| binding.0.clone())
                .collect(),
            to: view.files.inputs(),
            also: (view.spec.kind == NodeKind::End).then(|| view.files.outputs()),
        }),
    }
}

fn queued(view: &NodeView<'_>, now: Timestamp) -> Step {
    let mut status = view.status.clone();
    status.phase = NodePhase::Queued;
    status.queued_at = Some(Time::new(now));
    status.last_updated_at = Some(Time::new(now));
    "node queued".clone_into(&mut status.message);
    if let Some(checkpoint) = view.checkpoint.filter(|uri| !uri.is_empty()) {
        let task = status.task_node_status.get_or_insert_default();
        checkpoint.clone_into(&mut task.checkpoint_path);
    }
    Change::new(vec![event(view, EventPhase::Queued, now)], status).step()
}

/// An effect of the node does not succeed and is tried again: how a user sees it. `trouble` is a sentence.
pub fn troubled(view: &NodeView<'_>, trouble: &str, now: Timestamp) -> Change {
    if view.spec.kind == NodeKind::Task
        && view.status.phase.is_active()
        && let Some(change) = task::troubled(view, trouble, now)
    {
        return change;
    }
    let mut status = view.status.clone();
    status.message = short(trouble);
    status.last_updated_at = Some(Time::new(now));
    Change::new(Vec::new(), status)
}

/// Who the node is, for events.
fn identity<'a>(view: &NodeView<'a>) -> NodeIdentity<'a> {
    let target = match view.spec.kind {
        NodeKind::Task => template(view).and_then(|template| template.id.clone()),
        NodeKind::Workflow => launch_plan::of(view.spec).cloned(),
        NodeKind::Branch | NodeKind::Gate | NodeKind::Array | NodeKind::Start | NodeKind::End => {
            None
        }
    };
    let has_sub_workflow = view
        .spec
        .workflow
        .as_ref()
        .is_some_and(|workflow| workflow.sub_workflow_ref.is_some());
    let inside = if dynamic::has_begun(view.status) {
        InnerWorkflow::Dynamic
    } else if has_sub_workflow {
        InnerWorkflow::Static
    } else {
        InnerWorkflow::None
    };
    NodeIdentity {
        execution: &view.workflow.execution,
        producer: &view.workflow.settings.propeller.cluster_id,
        unique_id: view.unique_id,
        spec_id: &view.spec.id,
        name: &view.spec.name,
        parent: view.parent,
        inputs: view.files.inputs(),
        policy: view
            .workflow
            .settings
            .propeller
            .event_config
            .raw_output_policy,
        target,
        inside,
        is_array: view.spec.kind == NodeKind::Array,
        is_start: view.spec.kind == NodeKind::Start,
    }
}

fn template<'a>(view: &NodeView<'a>) -> Option<&'a TaskTemplate> {
    view.entities
        .tasks
        .get(view.spec.task.as_ref()?)
        .map(|template| &template.0)
}

/// Whether a task has outputs.
pub(crate) fn declares_outputs(template: &TaskTemplate) -> bool {
    let interface = template.interface.as_ref();
    interface
        .and_then(|interface| interface.outputs.as_ref())
        .is_some_and(|outputs| !outputs.variables.is_empty())
}

fn event(view: &NodeView<'_>, phase: EventPhase, now: Timestamp) -> Event {
    events::node(&identity(view), phase, now, NodeDetails::default())
}

/// The event that a node runs, unless it was sent before.
fn running_event(view: &NodeView<'_>, now: Timestamp) -> Vec<Event> {
    if view.status.phase == NodePhase::Queued {
        vec![event(view, EventPhase::Running, now)]
    } else {
        Vec::new()
    }
}

/// The status of a node that has just begun to run.
fn running(status: &NodeStatus, now: Timestamp) -> NodeStatus {
    let mut status = status.clone();
    status.phase = NodePhase::Running;
    status.started_at = status.started_at.or(Some(Time::new(now)));
    status.last_attempt_started_at = Some(Time::new(now));
    status.last_updated_at = Some(Time::new(now));
    "running".clone_into(&mut status.message);
    status
}

/// An error of this engine or of what it runs on.
pub(crate) fn system(code: &str, message: impl Into<String>) -> ExecutionError {
    error(ErrorKind::System, code, message)
}

/// A dynamic task made a workflow that cannot be run.
pub(crate) fn unbuildable(message: String) -> ExecutionError {
    user("DynamicWorkflowBuildFailed", message)
}

/// An error of the workflow's author.
fn user(code: &str, message: impl Into<String>) -> ExecutionError {
    error(ErrorKind::User, code, message)
}

fn error(kind: ErrorKind, code: &str, message: impl Into<String>) -> ExecutionError {
    ExecutionError {
        code: code.to_owned(),
        message: message.into(),
        kind: kind.into(),
        ..ExecutionError::default()
    }
}

fn short(message: &str) -> String {
    message
        .get(..message.floor_char_boundary(MAX_STATUS_MESSAGE))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests;
