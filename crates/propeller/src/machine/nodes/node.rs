//! One node of a workflow under way: its status, and what only this process knows of it.

use std::sync::{Arc, LazyLock};

use flyte_core::unique_id::Parent;
use flyte_crd::{NodeKind, NodePhase, NodeSpec, NodeStatus};
use flyte_idl::core::{ExecutionError, LiteralMap, execution_error::ErrorKind};
use jiff::Timestamp;

use super::{GraphIndex, Member, NodeIndex};
use crate::{
    events::Event,
    machine::retry::Retry,
    node::{
        Change, NodeFiles, NodeResult,
        cache::{self, CacheView},
        dynamic, launch_plan,
    },
};

/// One node of one graph.
#[derive(Debug)]
pub(in crate::machine) struct Node {
    pub(in crate::machine) graph: GraphIndex,
    pub(in crate::machine) spec: Arc<NodeSpec>,
    pub(in crate::machine) unique_id: String,
    /// The branch or the owner of the graph.
    pub(in crate::machine) parent: Option<Parent>,
    pub(in crate::machine) files: NodeFiles,
    pub(in crate::machine) status: NodeStatus,
    pub(in crate::machine) upstream: Upstream,
    pub(in crate::machine) downstream: Vec<NodeIndex>,
    /// The branch that may choose this node.
    pub(in crate::machine) arm_of: Option<NodeIndex>,
    /// The graph of its sub-workflow or of its dynamic task, once started.
    pub(in crate::machine) inner: Option<GraphIndex>,
    /// Its inputs, once this process knows them.
    pub(in crate::machine) inputs: Option<Arc<LiteralMap>>,
    /// What its last effect brought, until a step takes it in.
    pub(in crate::machine) result: Option<NodeResult>,
    /// A change whose events are not acknowledged yet.
    pub(in crate::machine) pending: Option<Pending>,
    /// Its last effect failed and is tried again.
    pub(in crate::machine) retry: Option<Retry>,
    /// What its last effect was for, in the infinitive.
    pub(in crate::machine) purpose: &'static str,
    /// How often in a row the result of an effect led to nothing but the same effect.
    pub(in crate::machine) repeats: u32,
    pub(in crate::machine) abort: AbortState,
    pub(in crate::machine) task: TaskState,
    pub(in crate::machine) cache: CacheView,
    /// In recovery mode: the checkpoint from the other execution, or empty, once that was asked.
    pub(in crate::machine) checkpoint: Option<Box<str>>,
    pub(in crate::machine) metrics: NodeHistory,
    /// Which element of an array it is.
    pub(in crate::machine) member: Option<Member>,
}

/// What becomes of a node once its events are acknowledged.
#[derive(Debug)]
pub(in crate::machine) struct Pending {
    pub(in crate::machine) events: Vec<Event>,
    pub(in crate::machine) change: Box<Change>,
}

/// What this process knows of a task's pod beside its status and the watch.
#[derive(Debug, Default)]
pub(in crate::machine) struct TaskState {
    /// When this process created the pod, until the watch shows it.
    pub(in crate::machine) pod_created_at: Option<Timestamp>,
    /// This process asked for the pod to be created, and the API server has not said that it was not.
    pub(in crate::machine) may_have_pod: bool,
    pub(in crate::machine) quota: QuotaWait,
    /// The last event of its pod that this process sent to admin, by arrival.
    pub(in crate::machine) reported: Option<u64>,
}

/// Whether the pod of a task has to wait for quota in its namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::machine) enum QuotaWait {
    #[default]
    None,
    Waiting,
    /// A permit came before it was known that it has to wait.
    PermitCameEarly,
}

/// What is counted with a node's next change.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::machine) struct NodeHistory {
    /// What its task left behind was read.
    pub(in crate::machine) result_read: bool,
    /// It was ready before it might run.
    pub(in crate::machine) waited_for_others: bool,
}

/// What a node comes after, and how far that is known to be done with.
#[derive(Debug, Default)]
pub(in crate::machine) struct Upstream {
    pub(in crate::machine) nodes: Vec<NodeIndex>,
    /// How many of them, in order, are.
    pub(super) done: usize,
    /// One of those was skipped or failed.
    pub(super) skips: bool,
    /// When the last of those ended.
    pub(in crate::machine) ended_at: Option<Timestamp>,
}

/// Whether a node is to be terminated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::machine) enum AbortState {
    #[default]
    None,
    Wanted,
    Done,
}

/// Why a node that took too long fails what is around it (spec 04 §4.2).
static TIMED_OUT: LazyLock<ExecutionError> = LazyLock::new(|| ExecutionError {
    code: "Timeout".into(),
    message: "Timeout in node".into(),
    kind: ErrorKind::User.into(),
    ..ExecutionError::default()
});

/// A node that failed without an error, which only somebody else's status says.
static NO_REASON: LazyLock<ExecutionError> = LazyLock::new(|| ExecutionError {
    code: "UnknownError".into(),
    message: "a node failed without saying why".into(),
    ..ExecutionError::default()
});

impl Node {
    /// Whether it has begun and not ended.
    pub(in crate::machine) fn is_active(&self) -> bool {
        self.status.phase.is_active()
    }

    /// Whether it counts among those of which only so many may run at once (max parallelism; spec 04 §5.4). Of elements
    /// that is their array's business.
    pub(in crate::machine) fn takes_slot(&self) -> bool {
        // What a dynamic task has made takes slots of its own: one that waited for them with a slot in hand could wait for ever.
        let is_task = self.spec.kind == NodeKind::Task && !dynamic::has_begun(&self.status);
        let is_task = is_task && !cache::is_waiting(&self.status);
        self.member.is_none() && (is_task || launch_plan::of(&self.spec).is_some())
    }

    /// Whether it failed or timed out.
    pub(in crate::machine) fn has_failed(&self) -> bool {
        matches!(self.status.phase, NodePhase::Failed | NodePhase::TimedOut)
    }

    /// Why it failed or timed out.
    pub(in crate::machine) fn failure(&self) -> &ExecutionError {
        if self.status.phase == NodePhase::TimedOut {
            return &TIMED_OUT;
        }
        self.status
            .error
            .as_ref()
            .map_or(&NO_REASON, |error| &error.0)
    }
}
