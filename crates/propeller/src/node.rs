//! What a node does next: pure decisions, one file per kind (spec 04 §6, §7).
//!
//! [`step`] gets the node's status and an [`Observation`] and answers with a [`Step`]: wait, do some [`Work`] and
//! look again with what it brought, or send events and then become something else. Nothing here reads a clock, a
//! store or a cluster; running a step twice with the same observation gives the same answer.

mod boundary;
mod branch;
mod endings;
mod failure;
mod places;
pub(crate) mod subworkflow;
pub mod task;
mod unsupported;

use std::{collections::BTreeMap, sync::Arc};

use flyte_core::{identifiers::ExecutionId, unique_id::Parent};
use flyte_crd::{
    NodeKind, NodePhase, NodeSpec, NodeStatus, Proto, Time, WorkflowSpec,
    execution_config::ExecutionConfig,
};
use flyte_idl::core::{
    Binding, ExecutionError, Identifier, LiteralMap, SecurityContext, TaskTemplate,
    execution_error::ErrorKind, node_execution::Phase as EventPhase,
};
use flyte_plugins::{PhaseInfo, Registry, config::PluginsConfig};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};

use crate::{
    config::{NodeConfig, PropellerConfig},
    events::{self, Event, NodeDetails, NodeIdentity},
    resolve::ResolveError,
    sighting::ObjectEvent,
};

use endings::{abort, ended, failed, succeeded};
pub use endings::{fail, skip};
pub use failure::{attempts_left, is_interruptible};
pub use places::Places;

/// Status messages are cut to this many bytes.
const MAX_STATUS_MESSAGE: usize = 1024;

/// What is the same for all nodes of one workflow.
#[derive(Debug)]
pub struct Constants {
    /// The execution.
    pub execution: ExecutionId,
    /// Namespace of the resource.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// `project:domain:name` of the workflow.
    pub workflow: String,
    /// The workflow's folder.
    pub data_dir: String,
    /// Where raw data goes.
    pub raw_output_prefix: String,
    /// The resource as owner of pods.
    pub owner: OwnerReference,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Service account of its pods.
    pub service_account: String,
    /// Whom tasks run as.
    pub security_context: SecurityContext,
    /// Settings of the execution.
    pub execution_config: ExecutionConfig,
    /// Variables of the execution.
    pub environment: BTreeMap<String, String>,
    /// Whether tasks may be interrupted unless they say otherwise.
    pub interruptible: bool,
    /// Base URL of the console.
    pub console_url: String,
    /// Task templates by key.
    pub tasks: BTreeMap<String, Proto<TaskTemplate>>,
    /// Sub-workflows by key.
    pub sub_workflows: BTreeMap<String, Arc<WorkflowSpec>>,
    /// Everything the engine is configured by.
    pub settings: Arc<Settings>,
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
    pub run: &'a Constants,
    /// The node.
    pub spec: &'a NodeSpec,
    /// Where it stands.
    pub status: &'a NodeStatus,
    /// Its id within the execution.
    pub unique_id: &'a str,
    /// The node around it.
    pub parent: Option<&'a Parent>,
    /// Its folders.
    pub places: &'a Places,
    /// Its inputs, when this process has resolved or read them.
    pub inputs_known: Option<&'a Arc<LiteralMap>>,
    /// The pod of its attempt was created in this process and has not shown up in the watch yet.
    pub pod_expected: bool,
    /// The API server refused the pod of its attempt, and nothing says yet that there is room.
    pub waits_for_room: bool,
    /// What the cluster says about the pod of its attempt.
    pub object_events: &'a [ObjectEvent],
    /// The last of those that this process told, by arrival.
    pub told: Option<u64>,
}

/// What was seen or done since the last step.
#[derive(Clone, Debug)]
pub enum Observation {
    /// Something may have changed; for a task under way, its pod as the watch knows it.
    Look(Option<Arc<Pod>>),
    /// Bindings were resolved and inputs written.
    Prepared(Result<Arc<LiteralMap>, ResolveError>),
    /// Inputs were read back.
    Inputs(Arc<LiteralMap>),
    /// Creating the pod brought this phase.
    Launched(PhaseInfo),
    /// The API server was asked for the pod.
    LookedUp(Option<Arc<Pod>>),
    /// Outputs of a task whose plugin said success.
    Result(TaskResult),
    /// Outputs were copied; false when there were none.
    Copied(bool),
    /// The graph or node inside has ended.
    Inner(Result<(), ExecutionError>),
    /// The node must end.
    Abort {
        /// Why.
        reason: Arc<str>,
        /// The cluster has a pod of the attempt, whatever the status says.
        pod_exists: bool,
    },
}

/// What a task left behind (spec 05 §10.3).
#[derive(Clone, Debug, PartialEq)]
pub enum TaskResult {
    /// Its outputs are there, or it has none.
    Outputs {
        /// It wrote a deck.
        deck: bool,
    },
    /// It failed or left nothing usable.
    Failed {
        /// Why.
        error: ExecutionError,
        /// Another attempt may succeed.
        recoverable: bool,
        /// It wrote a deck.
        deck: bool,
    },
    /// It made a workflow.
    Futures,
}

/// What the node does next.
#[derive(Debug)]
pub enum Step {
    /// Nothing until something happens, or until this time.
    Wait(Option<Timestamp>),
    /// This, and then look at what it brought.
    Do(Work),
    /// Send events and then become something else.
    Change(Box<Change>),
}

/// Something outside the decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Resolve bindings and write the result; an end node's also as its outputs.
    Prepare {
        /// The bindings.
        bindings: Vec<Binding>,
        /// Where inputs go.
        to: String,
        /// Where they go too.
        also: Option<String>,
    },
    /// Read inputs back.
    ReadInputs(String),
    /// Create the pod of this attempt.
    Launch,
    /// Ask the API server for the pod of this attempt.
    LookUp,
    /// Read what the task left behind.
    ReadResult,
    /// Copy outputs; the inner node's by id, or a file.
    Copy {
        /// Where from.
        from: Source,
        /// Where to.
        to: String,
    },
}

/// Where outputs are copied from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A file.
    File(String),
    /// Outputs of the node inside that gives this node its outputs: the chosen arm, or the inner end node.
    Inner,
}

/// Events, then a new status.
#[derive(Debug)]
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
    /// Events of the object that are told with it.
    pub told: Option<TellsEvents>,
}

/// Events of an object that are told with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TellsEvents {
    /// The last of them, by arrival.
    pub arrival: u64,
    /// The task's state when admin answers that it has heard of the change before: an earlier process told it, but
    /// maybe without these events, which are told again then. None when this process told all there was before.
    pub if_repeated: Option<String>,
}

/// What happens together with a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Then {
    /// Nothing else.
    #[default]
    Nothing,
    /// The sub-workflow starts.
    StartSubWorkflow,
    /// An arm was chosen; all others are skipped.
    ChooseArm(Option<String>),
    /// The node was terminated.
    Aborted,
}

impl Change {
    fn step(events: Vec<Event>, status: NodeStatus) -> Step {
        Step::Change(Box::new(Self {
            events,
            status,
            derivable: false,
            then: Then::Nothing,
            delete_pod: None,
            told: None,
        }))
    }
}

/// The next step of a node.
pub fn step(view: &NodeView<'_>, observation: Observation, now: Timestamp) -> Step {
    if let Observation::Abort { reason, pod_exists } = &observation {
        return abort(view, reason, *pod_exists, now);
    }
    match view.status.phase {
        NodePhase::NotYetStarted => start(view, observation, now),
        NodePhase::Queued
        | NodePhase::Running
        | NodePhase::DynamicRunning
        | NodePhase::RetryableFailure => match view.spec.kind {
            NodeKind::Start | NodeKind::End => boundary::step(view, now),
            NodeKind::Task => task::step(view, observation, now),
            NodeKind::Branch => branch::step(view, observation, now),
            NodeKind::Workflow => subworkflow::step(view, observation, now),
            NodeKind::Gate | NodeKind::Array => {
                unsupported::fail(view, view.spec.kind.as_str(), now)
            }
        },
        // Written by Go between its rounds: the events are out, only cleaning up is left.
        NodePhase::Succeeding => {
            Change::step(Vec::new(), ended(view.status, NodePhase::Succeeded, now))
        }
        NodePhase::Failing => Change::step(Vec::new(), ended(view.status, NodePhase::Failed, now)),
        NodePhase::TimingOut => {
            Change::step(Vec::new(), ended(view.status, NodePhase::TimedOut, now))
        }
        NodePhase::Succeeded
        | NodePhase::Failed
        | NodePhase::Skipped
        | NodePhase::TimedOut
        | NodePhase::Recovered
        | NodePhase::Unknown(_) => Step::Wait(None),
    }
}

fn start(view: &NodeView<'_>, observation: Observation, now: Timestamp) -> Step {
    match observation {
        _ if view.spec.kind == NodeKind::Start => boundary::step(view, now),
        Observation::Prepared(Ok(_)) => {
            let mut status = view.status.clone();
            status.phase = NodePhase::Queued;
            status.queued_at = Some(Time::new(now));
            status.last_updated_at = Some(Time::new(now));
            "node queued".clone_into(&mut status.message);
            Change::step(vec![event(view, EventPhase::Queued, now)], status)
        }
        Observation::Prepared(Err(error)) => {
            let error = ExecutionError {
                code: "BindingResolutionFailure".into(),
                message: error.to_string(),
                kind: ErrorKind::System.into(),
                ..ExecutionError::default()
            };
            failed(view, error, Vec::new(), now)
        }
        _ => Step::Do(Work::Prepare {
            bindings: view
                .spec
                .input_bindings
                .iter()
                .map(|binding| binding.0.clone())
                .collect(),
            to: view.places.inputs(),
            also: (view.spec.kind == NodeKind::End).then(|| view.places.outputs()),
        }),
    }
}

/// Who the node is, for events.
fn identity<'a>(view: &NodeView<'a>) -> NodeIdentity<'a> {
    let target = match view.spec.kind {
        NodeKind::Task => template(view).and_then(|template| template.id.clone()),
        NodeKind::Workflow => view
            .spec
            .workflow
            .as_ref()
            .and_then(|workflow| workflow.launch_plan_ref_id.as_ref())
            .map(|id| Identifier::clone(id)),
        NodeKind::Branch | NodeKind::Gate | NodeKind::Array | NodeKind::Start | NodeKind::End => {
            None
        }
    };
    NodeIdentity {
        execution: &view.run.execution,
        producer: &view.run.settings.propeller.cluster_id,
        unique_id: view.unique_id,
        spec_id: &view.spec.id,
        name: &view.spec.name,
        parent: view.parent,
        inputs: view.places.inputs(),
        policy: view.run.settings.propeller.event_config.raw_output_policy,
        target,
        is_parent: view
            .spec
            .workflow
            .as_ref()
            .is_some_and(|workflow| workflow.sub_workflow_ref.is_some()),
        is_array: view.spec.kind == NodeKind::Array,
        is_start: view.spec.kind == NodeKind::Start,
    }
}

fn template<'a>(view: &NodeView<'a>) -> Option<&'a TaskTemplate> {
    view.run
        .tasks
        .get(view.spec.task.as_ref()?)
        .map(|template| &template.0)
}

fn event(view: &NodeView<'_>, phase: EventPhase, now: Timestamp) -> Event {
    events::node(&identity(view), phase, now, NodeDetails::default())
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

fn short(message: &str) -> String {
    message
        .get(..events::floor(message, MAX_STATUS_MESSAGE))
        .unwrap_or_default()
        .to_owned()
}
