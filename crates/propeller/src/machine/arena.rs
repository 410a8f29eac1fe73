//! What the machine knows of each node and each graph.

use std::{collections::HashMap, sync::Arc};

use flyte_core::unique_id::Parent;
use flyte_crd::{NodeSpec, NodeStatus, WorkflowSpec};
use flyte_idl::core::{ExecutionError, LiteralMap};
use jiff::Timestamp;

use super::{GraphIndex, NodeIndex};
use crate::node::{Change, Places};

/// One node of one graph.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) graph: GraphIndex,
    pub(super) spec: Arc<NodeSpec>,
    pub(super) unique_id: String,
    /// The branch or the owner of the graph.
    pub(super) parent: Option<Parent>,
    pub(super) places: Places,
    pub(super) status: NodeStatus,
    pub(super) upstream: Upstream,
    pub(super) downstream: Vec<NodeIndex>,
    /// The branch that may choose this node.
    pub(super) arm_of: Option<NodeIndex>,
    /// The graph of its sub-workflow, once started.
    pub(super) inner: Option<GraphIndex>,
    /// It counts as a task that runs, from the preparation of its inputs to its end (max parallelism).
    pub(super) holds_slot: bool,
    pub(super) past: Past,
    pub(super) activity: Activity,
    /// What is applied once its events are acknowledged.
    pub(super) pending: Option<Box<Change>>,
    pub(super) inputs: Option<Arc<LiteralMap>>,
    pub(super) pod_expected: bool,
    pub(super) room: Room,
    /// The last event of its pod that this process told, by arrival.
    pub(super) told: Option<u64>,
    pub(super) abort: AbortState,
    pub(super) timer: Option<Timestamp>,
}

/// Whether a job of a node is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Activity {
    #[default]
    Free,
    Busy,
    /// And something happened meanwhile.
    BusyAndMarked,
}

/// Whether the pod of a task has to wait for room in its namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Room {
    #[default]
    Free,
    Awaited,
    /// It was told that there may be room before it came to know that it has to wait.
    CalledEarly,
}

/// What is counted with a node's next change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// What its task left behind was read.
    pub(super) result_read: bool,
    /// It was ready before it might run.
    pub(super) waited_for_others: bool,
}

/// What a node comes after, and how far that is known to be done with.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub(super) nodes: Vec<NodeIndex>,
    /// How many of them, in order, are.
    pub(super) done: usize,
    /// One of those was skipped or failed.
    pub(super) skips: bool,
    /// When the last of those ended.
    pub(super) ended_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AbortState {
    #[default]
    None,
    Wanted,
    Done,
}

/// One workflow or sub-workflow under way.
#[derive(Debug)]
pub(super) struct Graph {
    /// The node whose sub-workflow it is.
    pub(super) owner: Option<NodeIndex>,
    pub(super) spec: Arc<WorkflowSpec>,
    pub(super) parent: Option<Parent>,
    pub(super) ids: HashMap<String, NodeIndex>,
    pub(super) failure_node: Option<NodeIndex>,
    /// Nodes that have not ended, arms of branches and the failure node apart.
    pub(super) remaining: usize,
    /// Nodes here and inside that are to end and have not.
    pub(super) aborting: usize,
    /// The error of the node that failed last.
    pub(super) failure: Option<ExecutionError>,
    pub(super) state: GraphState,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum GraphState {
    Running,
    Aborting(ExecutionError),
    FailureNode(ExecutionError),
    Ended,
}
