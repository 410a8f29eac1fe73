//! One workflow as a state machine without I/O.
//!
//! ```text
//!          wake_pod, abort, time                     outcome
//! watch ───────────────────────▶ Machine ◀──────────────────────────┐
//!                                   │ jobs                          │
//!                                   ▼                               │
//!                              world (blobs, pods, admin) ──────────┘
//! ```
//!
//! A wake-up marks the nodes it concerns; [`Machine::next_jobs`] steps the marked ones and answers with what is to
//! be done, at most one job per node at a time, so that a node's effects are in order and different nodes' effects
//! overlap. When no job is left the machine is quiescent and [`Machine::take_patch`] has what is to be written.
//! The cost of a wake-up is that of the nodes it marks, not of the graph.

mod arena;
mod closing;
mod commit;
mod ends;
mod graph;
mod happened;
mod marks;
mod persist;
mod run;
mod workflow;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use flyte_core::{
    identifiers::{ExecutionId, IdError},
    layout,
    reference::InvalidReference,
    unique_id::Parent,
};
use flyte_crd::{FlyteWorkflow, NodeSpec, NodeStatus, WorkflowPhase, WorkflowStatus};
use flyte_idl::core::{ExecutionError, LiteralMap, execution_error::ErrorKind};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};

use crate::{
    events::Event,
    node::{Constants, NodeView, Observation, Places, Settings, TaskResult, Work},
    resolve::ResolveError,
    sweep::{Remains, Search},
};

use arena::{AbortState, Activity, Graph, GraphState, Instance, Past, Room, Upstream};
pub use happened::{Active, NodeChanged, TaskEnd};
pub use persist::{Author, Origin, Patch, Spill};
pub(crate) use run::AUTO_ABORT;

/// Index of a node in the arena.
pub type NodeIndex = usize;
/// Index of a graph in the arena.
type GraphIndex = usize;

/// The resource cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It names no execution.
    #[error("executionId is not usable")]
    Execution(#[from] IdError),
    /// A folder cannot be named.
    #[error("the workflow's folder cannot be named")]
    Folder(#[from] InvalidReference),
    /// It has no graph.
    #[error("spec is missing")]
    NoSpec,
    /// Its graph does not hang together.
    #[error("BadSpecificationError: {0}")]
    Graph(String),
}

/// Whom a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobFor {
    /// The workflow itself.
    Workflow,
    /// A node.
    Node(NodeIndex),
}

/// Something to be done in the world; its [`Outcome`] comes back through [`Machine::complete`].
#[derive(Clone, Debug)]
pub struct Job {
    /// Whom it is for.
    pub whom: JobFor,
    /// What it is.
    pub task: JobTask,
}

/// What a job does.
#[derive(Clone, Debug)]
pub enum JobTask {
    /// Make the workflow's inputs the outputs of its start node.
    Begin {
        /// Inputs that stand in the resource.
        inputs: Option<LiteralMap>,
        /// Where they are otherwise.
        offloaded: String,
        /// Where they go.
        to: String,
    },
    /// Work of a node.
    Node {
        /// What.
        work: Work,
        /// Where the outputs are of each node that its bindings name.
        sources: BTreeMap<String, String>,
        /// Outputs of the node inside that gives this node its own.
        inner: Option<String>,
        /// An input to replace: the error that a failure node gets.
        error: Option<ExecutionError>,
    },
    /// Tell admin, in order.
    Send(Vec<Event>),
    /// Look for what the workflow would leave behind.
    Sweep(Search),
}

/// What became of a job.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Inputs were written, or cannot be.
    Begun(Result<(), ExecutionError>),
    /// Bindings were resolved and inputs written.
    Prepared(Result<Arc<LiteralMap>, ResolveError>),
    /// Inputs were read.
    Inputs(Arc<LiteralMap>),
    /// The pod was created, or what kept it from being.
    Launched(flyte_plugins::PhaseInfo),
    /// The API server knows this pod.
    LookedUp(Option<Arc<Pod>>),
    /// What the task left behind.
    Result(TaskResult),
    /// Whether there was something to copy.
    Copied(bool),
    /// Admin has all events, or refused one for good.
    Sent(Result<Receipt, Rejection>),
    /// What was found.
    Swept(Remains),
    /// It cannot be done, and trying again does not help.
    Broken(ExecutionError),
}

/// A node apart from its machine.
#[derive(Clone, Debug)]
pub struct OwnedNode {
    run: Arc<Constants>,
    spec: Arc<NodeSpec>,
    status: NodeStatus,
    unique_id: String,
    parent: Option<Parent>,
    places: Places,
}

impl OwnedNode {
    /// As decisions see it.
    pub fn view(&self) -> NodeView<'_> {
        NodeView {
            run: &self.run,
            spec: &self.spec,
            status: &self.status,
            unique_id: &self.unique_id,
            parent: self.parent.as_ref(),
            places: &self.places,
            inputs_known: None,
            pod_expected: false,
            waits_for_room: false,
            object_events: &[],
            told: None,
        }
    }
}

/// Admin has the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It had not heard of any before.
    New,
    /// It had: an earlier try, or an earlier process, came as far.
    Repeated,
}

/// Admin refused an event for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Its entity has already ended.
    AlreadyEnded {
        /// The phase that admin has recorded, by name.
        phase: String,
        /// Admin's words.
        message: String,
    },
    /// The execution belongs to another cluster.
    IncompatibleCluster(String),
    /// There is no such execution.
    NoExecution(String),
    /// It is too large or malformed.
    Invalid(String),
}

/// What the workflow itself is waiting for.
#[derive(Clone, Debug, PartialEq)]
enum Stage {
    /// The inputs to be written.
    Beginning,
    /// RUNNING to be acknowledged.
    Announcing,
    /// Nodes.
    Running,
    /// FAILING to be acknowledged, because of this.
    AnnouncingFailure(ExecutionError),
    /// Active nodes to be aborted and the failure node to end.
    Failing,
    /// The resource is being deleted; active nodes are being aborted.
    Aborting,
    /// What would be left behind to be found, before this end.
    Sweeping(closing::Last),
    /// Its end to be acknowledged, before this end.
    Clearing(closing::Last),
    /// The last event to be acknowledged.
    Ending(WorkflowPhase),
    /// Nothing.
    Over,
}

/// A workflow under way.
#[derive(Debug)]
pub struct Machine {
    run: Arc<Constants>,
    inputs: Option<LiteralMap>,
    offloaded_inputs: String,
    status: WorkflowStatus,
    stage: Stage,
    stage_busy: bool,
    abort_reason: Option<Arc<str>>,
    graphs: Vec<Graph>,
    nodes: Vec<Instance>,
    /// Nodes by the name of their pod.
    pods: HashMap<String, NodeIndex>,
    /// Marked nodes; none of them is busy.
    dirty: BTreeSet<NodeIndex>,
    observations: HashMap<NodeIndex, Observation>,
    timers: BTreeSet<(Timestamp, NodeIndex)>,
    /// Ready nodes that wait for others to end (max parallelism).
    waiting: BTreeSet<NodeIndex>,
    /// How many tasks hold one.
    slots: usize,
    /// Jobs that are not handed out yet.
    jobs: VecDeque<Job>,
    under_way: usize,
    steps: u64,
    /// What became of nodes and nobody has looked at.
    changes: Vec<NodeChanged>,
    active: Active,
    accepted_at: Option<Timestamp>,
    persist: persist::Persist,
    deletions: Vec<String>,
    ended_pods: Vec<String>,
    retry_begin_at: Option<Timestamp>,
    /// All that admin and the cluster know of this workflow is from this process.
    is_first: bool,
    /// How the top-level graph ended.
    finishing: Option<Result<(), ExecutionError>>,
}

impl Machine {
    /// The workflow as its resource says, at whatever point it was left by us or by Go. Node statuses from a blob
    /// have taken their place in it.
    ///
    /// # Errors
    /// When the resource cannot be run at all; it fails, and only it.
    pub fn load(
        resource: &FlyteWorkflow,
        origin: Origin,
        settings: Arc<Settings>,
    ) -> Result<Self, Unreadable> {
        let execution = ExecutionId::from_proto(Some(&resource.execution_id.0))?;
        let data_dir = if resource.status.data_dir.is_empty() {
            layout::workflow(&settings.metadata_root, &execution)?
        } else {
            resource.status.data_dir.clone()
        };
        let spec = resource.spec.clone().ok_or(Unreadable::NoSpec)?;
        let name = resource.metadata.name.clone().unwrap_or_default();
        let prefix = &resource.raw_output_data_config.output_location_prefix;
        let owner = OwnerReference {
            api_version: "flyte.lyft.com/v1alpha1".into(),
            // In lower case: Go propeller looks for exactly this (spec 04 §6.6).
            kind: "flyteworkflow".into(),
            name: name.clone(),
            uid: resource.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        let run = Arc::new(Constants {
            namespace: resource.metadata.namespace.clone().unwrap_or_default(),
            workflow: spec.id.clone(),
            data_dir,
            raw_output_prefix: if prefix.is_empty() {
                settings.propeller.rawoutput_prefix.clone()
            } else {
                prefix.clone()
            },
            owner,
            labels: resource.metadata.labels.clone().unwrap_or_default(),
            annotations: resource.metadata.annotations.clone().unwrap_or_default(),
            service_account: resource.service_account_name.clone(),
            security_context: resource.security_context.0.clone(),
            environment: resource
                .execution_config
                .environment_variables
                .clone()
                .unwrap_or_default(),
            execution_config: resource.execution_config.clone(),
            interruptible: resource.node_defaults.interruptible,
            console_url: resource.console_url.clone(),
            tasks: resource.tasks.clone().unwrap_or_default(),
            sub_workflows: resource
                .sub_workflows
                .iter()
                .map(|(key, spec)| (key.clone(), Arc::new(spec.clone())))
                .collect(),
            settings,
            execution,
            name,
        });
        let mut status = resource.status.clone();
        let node_status = std::mem::take(&mut status.node_status);
        let persist = persist::Persist::new(&status, &node_status, origin);
        let stage = match status.phase {
            WorkflowPhase::Ready => Stage::Beginning,
            WorkflowPhase::Running | WorkflowPhase::Succeeding | WorkflowPhase::Unknown(_) => {
                Stage::Running
            }
            WorkflowPhase::Failing | WorkflowPhase::HandlingFailureNode => Stage::Failing,
            WorkflowPhase::Success | WorkflowPhase::Failed | WorkflowPhase::Aborted => Stage::Over,
        };
        let mut machine = Self {
            run,
            inputs: resource.inputs.as_ref().map(|inputs| inputs.0.clone()),
            offloaded_inputs: resource.offloaded_inputs.clone(),
            status,
            stage,
            stage_busy: false,
            abort_reason: None,
            graphs: Vec::new(),
            nodes: Vec::new(),
            pods: HashMap::new(),
            dirty: BTreeSet::new(),
            observations: HashMap::new(),
            timers: BTreeSet::new(),
            waiting: BTreeSet::new(),
            slots: 0,
            jobs: VecDeque::new(),
            under_way: 0,
            steps: 0,
            changes: Vec::new(),
            active: Active::default(),
            accepted_at: resource
                .accepted_at
                .map(flyte_crd::Time::timestamp)
                .or(resource
                    .metadata
                    .creation_timestamp
                    .as_ref()
                    .map(|time| time.0)),
            persist,
            deletions: Vec::new(),
            ended_pods: Vec::new(),
            retry_begin_at: None,
            is_first: false,
            finishing: None,
        };
        machine.add_graph(None, Arc::new(spec), node_status)?;
        machine.count_active();
        machine.resume();
        Ok(machine)
    }

    /// What is the same for all nodes.
    pub fn constants(&self) -> &Arc<Constants> {
        &self.run
    }

    /// When admin accepted it.
    pub fn accepted_at(&self) -> Option<Timestamp> {
        self.accepted_at
    }

    /// When the workflow began to run and when it ended.
    pub fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let time = |time: Option<flyte_crd::Time>| time.map(flyte_crd::Time::timestamp);
        (time(self.status.started_at), time(self.status.stopped_at))
    }

    /// Where the workflow stands.
    pub fn phase(&self) -> WorkflowPhase {
        self.status.phase
    }

    /// Whether it has ended and its last event is acknowledged.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// A node as decisions see it.
    pub fn view(&self, index: NodeIndex) -> Option<NodeView<'_>> {
        let node = self.nodes.get(index)?;
        Some(NodeView {
            run: &self.run,
            spec: &node.spec,
            status: &node.status,
            unique_id: &node.unique_id,
            parent: node.parent.as_ref(),
            places: &node.places,
            inputs_known: node.inputs.as_ref(),
            pod_expected: node.pod_expected,
            waits_for_room: node.room == Room::Awaited,
            object_events: &[],
            told: node.told,
        })
    }

    /// A node with what it needs, for effects that outlive a borrow.
    pub fn owned(&self, index: NodeIndex) -> Option<OwnedNode> {
        let node = self.nodes.get(index)?;
        Some(OwnedNode {
            run: self.run.clone(),
            spec: node.spec.clone(),
            status: node.status.clone(),
            unique_id: node.unique_id.clone(),
            parent: node.parent.clone(),
            places: node.places.clone(),
        })
    }

    /// The resource is being deleted: ends the workflow as aborted.
    pub fn abort(&mut self, reason: &str) {
        if self.abort_reason.is_none() && !self.is_closing() {
            self.abort_reason = Some(reason.into());
        }
    }

    /// Pods to delete once what was decided is written.
    pub fn take_deletions(&mut self) -> Vec<String> {
        std::mem::take(&mut self.deletions)
    }

    /// Pods of attempts that have ended by themselves, to be released once that is written; some may not exist.
    pub fn take_ended_pods(&mut self) -> Vec<String> {
        std::mem::take(&mut self.ended_pods)
    }

    /// Whether all that admin and the cluster know of this workflow is from this process.
    pub fn is_first(&self) -> bool {
        self.is_first
    }
}

/// A failure that is not the workflow's own.
pub(crate) fn system_error(code: &str, message: String) -> ExecutionError {
    ExecutionError {
        code: code.to_owned(),
        message,
        kind: ErrorKind::System.into(),
        ..ExecutionError::default()
    }
}
