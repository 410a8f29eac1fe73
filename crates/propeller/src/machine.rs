//! One workflow as a state machine without I/O.
//!
//! ```text
//!          pods, abort, time                          EffectResult
//! watch ───────────────────────▶ Machine ◀──────────────────────────┐
//!                                   │ Job { id, effect }            │
//!                                   ▼                               │
//!                              effects (blobs, pods, admin) ────────┘
//! ```
//!
//! A wake-up marks the nodes it concerns; [`Machine::next_jobs`] steps the marked ones and answers with what is to
//! be done, at most one job per node at a time, so that a node's effects are in order and different nodes' effects
//! overlap. When no job is left the machine is quiescent and [`Machine::patch`] has what is to be written.
//! The cost of a wake-up is that of the nodes it marks, not of the graph.
//!
//! Its parts keep their state to themselves: the [`nodes`] and graphs, the [`ready_queue`], the [`lifecycle`] of the
//! workflow, the [`status_writer`], the [`changes`] that are counted.

mod array;
mod changes;
mod children;
mod commit;
mod graph_end;
mod graph_state;
mod job;
mod lifecycle;
mod nodes;
mod ready_queue;
mod retry;
mod stage;
mod status_writer;
mod step;
mod workflow_end;

use std::sync::Arc;

use flyte_core::{
    identifiers::{ExecutionId, IdError},
    layout,
    reference::InvalidReference,
    unique_id::Parent,
};
use flyte_crd::{FlyteWorkflow, NodeSpec, NodeStatus, WorkflowPhase, WorkflowStatus};
use flyte_idl::core::LiteralMap;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::node::{
    ChildState, Element, Entities, Inside, NodeFiles, NodeView, Settings, TaskView,
    WorkflowContext, WorkflowDefinition, cache::CacheView, task::observed_pod::ObservedPod,
};

use array::Arrays;
use changes::Changes;
use children::Children;
use job::Jobs;
use lifecycle::Lifecycle;
use nodes::{AbortState, Nodes, QuotaWait};
use ready_queue::ReadyQueue;
use stage::Stage;
use status_writer::StatusWriter;

pub use changes::{Active, NodeChanged, TaskEnd};
pub use children::ChildWatch;
pub use job::{Effect, EffectResult, Job, JobId, Receipt, Rejection};
pub use nodes::NodeIndex;
pub use stage::EndMark;
pub(crate) use status_writer::merge_patch;
pub use status_writer::{Author, Origin, Patch, Spill};
pub(crate) use step::AUTO_ABORT;

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
    /// It has more nodes than can be counted.
    #[error("BadSpecificationError: more than four billion nodes")]
    TooLarge,
}

/// A node apart from its machine, for effects that outlive a borrow.
#[derive(Clone, Debug)]
pub struct OwnedNode {
    context: Arc<WorkflowContext>,
    entities: Arc<Entities>,
    spec: Arc<NodeSpec>,
    status: NodeStatus,
    unique_id: String,
    parent: Option<Parent>,
    files: NodeFiles,
    cache: CacheView,
    element: Option<Element>,
}

impl OwnedNode {
    /// As decisions see it, but for what is inside it and what the watches show.
    pub fn view(&self) -> NodeView<'_> {
        NodeView {
            workflow: &self.context,
            entities: &self.entities,
            spec: &self.spec,
            status: &self.status,
            unique_id: &self.unique_id,
            parent: self.parent.as_ref(),
            files: &self.files,
            inputs: None,
            inside: Inside::Nothing,
            is_retrying: false,
            task: TaskView::default(),
            checkpoint: None,
            cache: &self.cache,
            child: None,
            element: self.element.as_ref(),
            elements: None,
        }
    }
}

/// What is to be done with pods once what was decided is written.
#[derive(Debug, Default)]
struct Cleanup {
    /// These are to be deleted.
    delete: Vec<String>,
    /// Of attempts that have ended by themselves: they may stay, without our finalizer.
    release: Vec<String>,
}

/// What an engine has been shown of what its nodes wait for.
pub trait Watches {
    /// The pod of this name, in the namespace of the workflow.
    fn pod(&self, name: &str) -> Option<ObservedPod>;

    /// The execution of this name, in the project and domain of the workflow, of which [`ChildWatch`] told.
    fn child(&self, name: &str) -> Option<ChildState>;
}

/// Nothing has been shown yet.
impl Watches for () {
    fn pod(&self, _: &str) -> Option<ObservedPod> {
        None
    }

    fn child(&self, _: &str) -> Option<ChildState> {
        None
    }
}

/// A workflow under way.
#[derive(Debug)]
pub struct Machine {
    context: Arc<WorkflowContext>,
    inputs: Option<LiteralMap>,
    offloaded_inputs: String,
    accepted_at: Option<Timestamp>,
    /// The status of the workflow itself, without those of nodes.
    status: WorkflowStatus,
    lifecycle: Lifecycle,
    nodes: Nodes,
    queue: ReadyQueue,
    jobs: Jobs,
    writer: StatusWriter,
    changes: Changes,
    children: Children,
    arrays: Arrays,
    cleanup: Cleanup,
    steps: u64,
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
        let definition = WorkflowDefinition::of(resource).ok_or(Unreadable::NoSpec)?;
        let context = Arc::new(context(resource, &definition.spec.id, settings)?);
        let mut status = resource.status.clone();
        let node_status = std::mem::take(&mut status.node_status);
        let created = resource.metadata.creation_timestamp.as_ref();
        let mut machine = Self {
            inputs: resource.inputs.as_ref().map(|inputs| inputs.0.clone()),
            offloaded_inputs: resource.offloaded_inputs.clone(),
            accepted_at: resource
                .accepted_at
                .map(flyte_crd::Time::timestamp)
                .or(created.map(|time| time.0)),
            lifecycle: Lifecycle::read(status.phase, EndMark::of(resource)),
            nodes: Nodes::default(),
            queue: ReadyQueue::new(context.execution_config.max_parallelism.into()),
            jobs: Jobs::default(),
            writer: StatusWriter::new(&status, &node_status, origin),
            changes: Changes::default(),
            children: Children::default(),
            arrays: Arrays::default(),
            cleanup: Cleanup::default(),
            steps: 0,
            context,
            status,
        };
        machine.open_graph(None, &definition, node_status)?;
        machine.count_active();
        machine.resume();
        Ok(machine)
    }

    /// What is the same for all nodes.
    pub fn context(&self) -> &Arc<WorkflowContext> {
        &self.context
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
        *self.lifecycle.stage() == Stage::Over
    }

    /// Whether all that admin and the cluster know of this workflow is from this process.
    pub fn is_first(&self) -> bool {
        self.lifecycle.is_first()
    }

    /// A node as decisions see it, without what the watches show.
    pub fn view(&self, index: NodeIndex) -> NodeView<'_> {
        self.nodes.view(&self.context, index)
    }

    /// A node with what it needs, for effects that outlive a borrow.
    pub fn owned(&self, index: NodeIndex) -> OwnedNode {
        let node = &self.nodes[index];
        OwnedNode {
            context: self.context.clone(),
            entities: self.nodes[node.graph].definition.entities.clone(),
            spec: node.spec.clone(),
            status: node.status.clone(),
            unique_id: node.unique_id.clone(),
            parent: node.parent.clone(),
            files: node.files.clone(),
            cache: node.cache.clone(),
            element: node.member.as_ref().map(|member| member.element.clone()),
        }
    }

    /// Pods to delete once what was decided is written.
    pub fn take_deletions(&mut self) -> Vec<String> {
        std::mem::take(&mut self.cleanup.delete)
    }

    /// Pods of attempts that have ended by themselves, to be released once that is written; some may not exist.
    pub fn take_ended_pods(&mut self) -> Vec<String> {
        std::mem::take(&mut self.cleanup.release)
    }

    /// Names of the pods of its attempts.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.nodes.pods()
    }

    /// Marks the node whose pod this is; false when the pod belongs to none under way.
    pub fn wake_pod(&mut self, pod: &str) -> bool {
        let Some(index) = self.nodes.of_pod(pod) else {
            return false;
        };
        self.nodes[index].task.pod_created_at = None;
        self.queue.mark(index);
        true
    }

    /// Marks the node that waits for this child execution.
    pub fn wake_child(&mut self, child: &str) {
        if let Some(index) = self.children.node(child) {
            self.queue.mark(index);
        }
    }

    /// Of which child executions the workflow wants to hear, since the last time.
    pub fn take_child_watches(&mut self) -> Vec<ChildWatch> {
        self.children.take_changes()
    }

    /// There may be quota for this pod: marks the node that waits for it.
    pub fn wake_waiting(&mut self, pod: &str) {
        let Some(index) = self.creating(pod) else {
            return;
        };
        let is_busy = self.queue.is_busy(index);
        let quota = &mut self.nodes[index].task.quota;
        if *quota == QuotaWait::Waiting {
            *quota = QuotaWait::None;
            self.queue.mark(index);
        } else if is_busy {
            *quota = QuotaWait::PermitCameEarly;
        }
    }

    /// Whether this pod is still to be created.
    pub fn may_create(&self, pod: &str) -> bool {
        self.creating(pod).is_some()
    }

    /// The node that is to create this pod.
    fn creating(&self, pod: &str) -> Option<NodeIndex> {
        use flyte_crd::status::TaskPhase;
        let index = self.nodes.of_pod(pod)?;
        let node = &self.nodes[index];
        if node.abort != AbortState::None || !self.may_step(index) {
            return None;
        }
        let is_created = node.status.task_node_status.as_ref().is_some_and(|task| {
            task.phase != TaskPhase::Undefined && task.phase != TaskPhase::WaitingForResources
        });
        let is_current = self.nodes.pod_name(&self.context, index).as_deref() == Some(pod);
        (!is_created && !node.status.phase.is_terminal() && is_current).then_some(index)
    }

    /// Looks at everything again that is under way, as a process does that has just read the status. A wake-up that got
    /// lost is made good by it.
    pub fn repair(&mut self) {
        for (index, node) in self.nodes.all() {
            if node.is_active() && node.abort != AbortState::Done {
                self.queue.mark(index);
            }
        }
    }

    /// When something is to be looked at again.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let timers = [self.queue.next_timer(), self.lifecycle.timer()];
        timers.into_iter().flatten().min()
    }

    /// Marks what has its time come.
    pub fn wake_timers(&mut self, now: Timestamp) {
        self.queue.wake_timers(now);
        self.lifecycle.wake(now);
    }

    /// Whether nothing is under way and nothing is marked.
    pub fn is_quiescent(&self) -> bool {
        self.jobs.are_over() && self.queue.is_empty() && !self.workflow_can_step()
    }

    /// How many steps were taken, of nodes and of the workflow.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

fn context(
    resource: &FlyteWorkflow,
    workflow_name: &str,
    settings: Arc<Settings>,
) -> Result<WorkflowContext, Unreadable> {
    let execution = ExecutionId::from_proto(Some(&resource.execution_id.0))?;
    let data_dir = if resource.status.data_dir.is_empty() {
        layout::workflow(&settings.metadata_root, &execution)?
    } else {
        resource.status.data_dir.clone()
    };
    let name = resource.metadata.name.clone().unwrap_or_default();
    let prefix = &resource.raw_output_data_config.output_location_prefix;
    let environment = &resource.execution_config.environment_variables;
    Ok(WorkflowContext {
        namespace: resource.metadata.namespace.clone().unwrap_or_default(),
        workflow_name: workflow_name.to_owned(),
        data_dir,
        raw_output_prefix: if prefix.is_empty() {
            settings.propeller.rawoutput_prefix.clone()
        } else {
            prefix.clone()
        },
        owner: OwnerReference {
            api_version: "flyte.lyft.com/v1alpha1".into(),
            // In lower case: Go propeller looks for exactly this (spec 04 §6.6).
            kind: "flyteworkflow".into(),
            name: name.clone(),
            uid: resource.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        labels: resource.metadata.labels.clone().unwrap_or_default(),
        annotations: resource.metadata.annotations.clone().unwrap_or_default(),
        service_account: resource.service_account_name.clone(),
        security_context: resource.security_context.0.clone(),
        environment: environment.clone().unwrap_or_default(),
        execution_config: resource.execution_config.clone(),
        interruptible: resource.node_defaults.interruptible,
        console_url: resource.console_url.clone(),
        settings,
        execution,
        name,
    })
}

#[cfg(test)]
mod tests;
