//! The nodes and graphs of one workflow.
//!
//! A graph is the workflow itself or a sub-workflow under way. Nodes and graphs are only added, so an index that was
//! handed out stays good; one that was not handed out here is a mistake of ours, and looking it up panics (an actor
//! that panics starts over).

mod order;
mod readiness;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    ops::{Index, IndexMut},
    sync::{Arc, LazyLock},
};

use flyte_core::{
    layout::{END_NODE, START_NODE},
    unique_id::{self, Parent},
};
use flyte_crd::{NodeKind, NodePhase, NodeSpec, NodeStatus, WorkflowSpec, status::BranchPhase};
use flyte_idl::core::{ExecutionError, LiteralMap, execution_error::ErrorKind};
use jiff::Timestamp;

use order::in_order;

use super::{Unreadable, graph_end::GraphState, retry::Retry};
use crate::{
    events::Event,
    node::{
        Change, Inside, NodeFiles, NodeResult, NodeView, TaskView, WorkflowContext, task::Attempt,
    },
};

/// A node of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(u32);

/// A graph of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GraphIndex(u32);

impl NodeIndex {
    pub(super) fn position(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for NodeIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "node#{}", self.0)
    }
}

impl fmt::Debug for GraphIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "graph#{}", self.0)
    }
}

/// One node of one graph.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) graph: GraphIndex,
    pub(super) spec: Arc<NodeSpec>,
    pub(super) unique_id: String,
    /// The branch or the owner of the graph.
    pub(super) parent: Option<Parent>,
    pub(super) files: NodeFiles,
    pub(super) status: NodeStatus,
    pub(super) upstream: Upstream,
    pub(super) downstream: Vec<NodeIndex>,
    /// The branch that may choose this node.
    pub(super) arm_of: Option<NodeIndex>,
    /// The graph of its sub-workflow, once started.
    pub(super) inner: Option<GraphIndex>,
    /// Its inputs, once this process knows them.
    pub(super) inputs: Option<Arc<LiteralMap>>,
    /// What its last effect brought, until a step takes it in.
    pub(super) result: Option<NodeResult>,
    /// A change whose events are not acknowledged yet.
    pub(super) pending: Option<Pending>,
    /// Its last effect failed and is tried again.
    pub(super) retry: Option<Retry>,
    /// What its last effect was for, in the infinitive.
    pub(super) purpose: &'static str,
    /// How often in a row the result of an effect led to nothing but the same effect.
    pub(super) repeats: u32,
    pub(super) abort: AbortState,
    pub(super) task: TaskState,
    pub(super) metrics: NodeHistory,
}

/// What becomes of a node once its events are acknowledged.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) events: Vec<Event>,
    pub(super) change: Box<Change>,
}

/// What this process knows of a task's pod beside its status and the watch.
#[derive(Debug, Default)]
pub(super) struct TaskState {
    /// When this process created the pod, until the watch shows it.
    pub(super) pod_created_at: Option<Timestamp>,
    /// This process asked for the pod to be created, and the API server has not said that it was not.
    pub(super) may_have_pod: bool,
    pub(super) quota: QuotaWait,
    /// The last event of its pod that this process sent to admin, by arrival.
    pub(super) reported: Option<u64>,
}

/// Whether the pod of a task has to wait for quota in its namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum QuotaWait {
    #[default]
    None,
    Waiting,
    /// A permit came before it was known that it has to wait.
    PermitCameEarly,
}

/// What is counted with a node's next change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NodeHistory {
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
    done: usize,
    /// One of those was skipped or failed.
    skips: bool,
    /// When the last of those ended.
    pub(super) ended_at: Option<Timestamp>,
}

/// Whether a node is to be terminated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AbortState {
    #[default]
    None,
    Wanted,
    Done,
}

/// Which of several failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    First,
    Last,
}

/// What a node's upstream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    NotReady,
    Skip,
}

/// One workflow or sub-workflow under way.
#[derive(Debug)]
pub(super) struct Graph {
    /// The node whose sub-workflow it is.
    pub(super) owner: Option<NodeIndex>,
    pub(super) spec: Arc<WorkflowSpec>,
    pub(super) ids: HashMap<String, NodeIndex>,
    pub(super) failure_node: Option<NodeIndex>,
    /// Nodes that have not ended, arms of branches and the failure node apart.
    pub(super) remaining: usize,
    /// Nodes here and inside that are to end and have not.
    pub(super) aborting: usize,
    /// The node that failed first.
    pub(super) first_failed: Option<NodeIndex>,
    pub(super) state: GraphState,
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
    pub(super) fn is_active(&self) -> bool {
        self.status.phase.is_active()
    }

    /// Whether it failed or timed out.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.status.phase, NodePhase::Failed | NodePhase::TimedOut)
    }

    /// Why it failed or timed out.
    pub(super) fn failure(&self) -> &ExecutionError {
        if self.status.phase == NodePhase::TimedOut {
            return &TIMED_OUT;
        }
        self.status
            .error
            .as_ref()
            .map_or(&NO_REASON, |error| &error.0)
    }
}

/// All nodes and graphs.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    arena: Vec<Node>,
    graphs: Vec<Graph>,
    /// Nodes by the name of their pod.
    pods: HashMap<String, NodeIndex>,
}

impl Index<NodeIndex> for Nodes {
    type Output = Node;

    fn index(&self, index: NodeIndex) -> &Node {
        let node = self.arena.get(index.position());
        node.expect("node indices are made here, and nodes are never removed")
    }
}

impl IndexMut<NodeIndex> for Nodes {
    fn index_mut(&mut self, index: NodeIndex) -> &mut Node {
        let node = self.arena.get_mut(index.position());
        node.expect("node indices are made here, and nodes are never removed")
    }
}

impl Index<GraphIndex> for Nodes {
    type Output = Graph;

    fn index(&self, index: GraphIndex) -> &Graph {
        let graph = self.graphs.get(index.0 as usize);
        graph.expect("graph indices are made here, and graphs are never removed")
    }
}

impl IndexMut<GraphIndex> for Nodes {
    fn index_mut(&mut self, index: GraphIndex) -> &mut Graph {
        let graph = self.graphs.get_mut(index.0 as usize);
        graph.expect("graph indices are made here, and graphs are never removed")
    }
}

impl Graph {
    /// The start node, which every graph has.
    pub(super) fn find(&self, id: &str) -> Option<NodeIndex> {
        self.ids.get(id).copied()
    }
}

impl Nodes {
    /// The workflow itself, which is added first.
    pub(super) const TOP: GraphIndex = GraphIndex(0);

    pub(super) fn all(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        (0..).map(NodeIndex).zip(&self.arena)
    }

    /// Names of the pods of attempts that were or are under way.
    pub(super) fn pods(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(String::as_str)
    }

    /// The node whose pod has this name.
    pub(super) fn of_pod(&self, pod: &str) -> Option<NodeIndex> {
        self.pods.get(pod).copied()
    }

    /// Indices of a graph's nodes, in the order of their ids.
    pub(super) fn in_graph(&self, graph: GraphIndex) -> Vec<NodeIndex> {
        let mut indices: Vec<_> = self[graph].ids.values().copied().collect();
        indices.sort_unstable();
        indices
    }

    /// The branch or the owner of the graph.
    pub(super) fn around(&self, index: NodeIndex) -> Option<NodeIndex> {
        let node = &self[index];
        node.arm_of.or(self[node.graph].owner)
    }

    /// Adds a graph with the statuses that are known of its nodes. Answers with its nodes.
    pub(super) fn add_graph(
        &mut self,
        context: &WorkflowContext,
        owner: Option<NodeIndex>,
        spec: &Arc<WorkflowSpec>,
        mut statuses: BTreeMap<String, NodeStatus>,
    ) -> Result<GraphIndex, Unreadable> {
        let number = u32::try_from(self.graphs.len());
        let graph = GraphIndex(number.map_err(|_| Unreadable::TooLarge)?);
        let order = in_order(spec)?;
        self.graphs.push(Graph {
            owner,
            spec: spec.clone(),
            ids: HashMap::with_capacity(order.len()),
            failure_node: None,
            remaining: 0,
            aborting: 0,
            first_failed: None,
            state: GraphState::Running,
        });
        for (node, branch) in order {
            let arm_of = branch.and_then(|branch| self[graph].find(branch));
            let status = statuses.remove(&node.id).unwrap_or_default();
            self.add_node(context, (graph, arm_of), node, status)?;
        }
        if self[graph].find(START_NODE).is_none() {
            return Err(Unreadable::Graph("there is no start node".into()));
        }
        self[graph].failure_node = spec
            .on_failure
            .as_deref()
            .and_then(|node| self[graph].find(&node.id));
        self.connect(graph)?;
        self.count(graph);
        Ok(graph)
    }

    fn add_node(
        &mut self,
        context: &WorkflowContext,
        (graph, arm_of): (GraphIndex, Option<NodeIndex>),
        spec: &NodeSpec,
        status: NodeStatus,
    ) -> Result<(), Unreadable> {
        let number = u32::try_from(self.arena.len());
        let index = NodeIndex(number.map_err(|_| Unreadable::TooLarge)?);
        let around = arm_of.or(self[graph].owner);
        let place = Place::of(
            context,
            around.map(|around| &self[around]),
            &spec.id,
            status.attempts,
        )?;
        self[graph].ids.insert(spec.id.clone(), index);
        self.arena.push(Node {
            graph,
            unique_id: place.unique_id,
            parent: place.parent,
            files: place.files,
            spec: Arc::new(spec.clone()),
            status,
            upstream: Upstream::default(),
            downstream: Vec::new(),
            arm_of,
            inner: None,
            inputs: None,
            result: None,
            pending: None,
            retry: None,
            purpose: "",
            repeats: 0,
            abort: AbortState::None,
            task: TaskState::default(),
            metrics: NodeHistory::default(),
        });
        self.remember_pod(context, index);
        Ok(())
    }

    /// Names and files of a node for its current attempt.
    pub(super) fn place(
        &mut self,
        context: &WorkflowContext,
        index: NodeIndex,
    ) -> Result<(), Unreadable> {
        let around = self.around(index).map(|around| &self[around]);
        let node = &self[index];
        let place = Place::of(context, around, &node.spec.id, node.status.attempts)?;
        let node = &mut self[index];
        node.unique_id = place.unique_id;
        node.parent = place.parent;
        node.files = place.files;
        Ok(())
    }

    /// Every edge in both directions. A node is woken by all that it comes after, whichever of the two lists of the
    /// resource names the edge: of arms only `upstream` does (spec 03 §4.5).
    fn connect(&mut self, graph: GraphIndex) -> Result<(), Unreadable> {
        let edges = self[graph].spec.complete_edges();
        let find = |nodes: &Self, id: &String| {
            nodes[graph].find(id).ok_or_else(|| {
                Unreadable::Graph(format!("an edge names node [{id}], which does not exist"))
            })
        };
        for (id, list) in &edges.upstream {
            let index = find(self, id)?;
            for before in list {
                let before = find(self, before)?;
                self[index].upstream.nodes.push(before);
                self[before].downstream.push(index);
            }
        }
        for (id, list) in &edges.downstream {
            let index = find(self, id)?;
            for after in list {
                let after = find(self, after)?;
                self[index].downstream.push(after);
            }
        }
        for index in self.in_graph(graph) {
            let downstream = &mut self[index].downstream;
            downstream.sort_unstable();
            downstream.dedup();
        }
        Ok(())
    }

    fn count(&mut self, graph: GraphIndex) {
        let counts = |index: &NodeIndex| {
            self[*index].arm_of.is_none() && self[graph].failure_node != Some(*index)
        };
        let open = |index: &NodeIndex| !self[*index].status.phase.is_terminal();
        let indices = self.in_graph(graph);
        let remaining = indices.iter().filter(|index| counts(index) && open(index));
        self[graph].remaining = remaining.count();
        self[graph].first_failed = self.failure_in(graph, Which::First);
    }

    /// The node whose failure a graph ends with, when it is looked for in the order in which the reference walks: from
    /// the start, each node's downstream by id, and not beyond a node that failed (spec 04 §5.2). The walk depends on
    /// the statuses alone, so that every process finds the same.
    pub(super) fn failure_in(&self, graph: GraphIndex, which: Which) -> Option<NodeIndex> {
        let mut seen = HashSet::new();
        let mut stack: Vec<_> = self[graph].find(START_NODE).into_iter().collect();
        while let Some(index) = stack.pop() {
            let node = &self[index];
            if node.has_failed() {
                return Some(index);
            }
            if !seen.insert(index) {
                continue;
            }
            let outside = |index: &&NodeIndex| self[**index].arm_of.is_none();
            let mut after: Vec<_> = node.downstream.iter().filter(outside).copied().collect();
            after.sort_by(|one, other| {
                let order = self[*one].spec.id.cmp(&self[*other].spec.id);
                match which {
                    Which::First => order.reverse(),
                    Which::Last => order,
                }
            });
            stack.append(&mut after);
        }
        None
    }

    /// Which node a pod belongs to, for the attempt under way.
    pub(super) fn remember_pod(&mut self, context: &WorkflowContext, index: NodeIndex) {
        if self[index].status.phase.is_terminal() {
            return;
        }
        if let Some(name) = self.pod_name(context, index) {
            self.pods.insert(name, index);
        }
    }

    /// Name of the pod of the attempt under way, whether or not there is one.
    pub(super) fn pod_name(&self, context: &WorkflowContext, index: NodeIndex) -> Option<String> {
        if self[index].spec.kind != NodeKind::Task {
            return None;
        }
        let attempt = Attempt::of(self.view(context, index)).ok()?;
        Some(attempt.pod_name())
    }

    /// A node as decisions see it, without what the watches show.
    pub(super) fn view<'a>(
        &'a self,
        context: &'a WorkflowContext,
        index: NodeIndex,
    ) -> NodeView<'a> {
        let node = &self[index];
        NodeView {
            workflow: context,
            spec: &node.spec,
            status: &node.status,
            unique_id: &node.unique_id,
            parent: node.parent.as_ref(),
            files: &node.files,
            inputs: node.inputs.as_ref(),
            inside: self.inside(index),
            is_retrying: node.retry.is_some(),
            task: TaskView {
                pod: None,
                pod_created_at: node.task.pod_created_at,
                may_have_pod: node.task.may_have_pod,
                waits_for_quota: node.task.quota == QuotaWait::Waiting,
                object_events: &[],
                reported: node.task.reported,
            },
        }
    }

    /// Where what is inside a node stands.
    pub(super) fn inside(&self, index: NodeIndex) -> Inside<'_> {
        let node = &self[index];
        match node.spec.kind {
            NodeKind::Branch => match self.chosen_arm(index) {
                None => Inside::Nothing,
                Some(arm) => {
                    let arm = &self[arm];
                    if arm.has_failed() {
                        Inside::Failed(arm.failure())
                    } else if arm.status.phase.is_terminal() {
                        Inside::Succeeded
                    } else if arm.abort == AbortState::Done {
                        Inside::Stopped
                    } else {
                        Inside::UnderWay
                    }
                }
            },
            NodeKind::Workflow => match node.inner.map(|inner| &self[inner]) {
                None => Inside::Nothing,
                Some(graph) => match &graph.state {
                    GraphState::Ended(Ok(())) => Inside::Succeeded,
                    GraphState::Ended(Err(error)) => Inside::Failed(error),
                    GraphState::Stopping if graph.aborting == 0 => Inside::Stopped,
                    GraphState::Running
                    | GraphState::Aborting(_)
                    | GraphState::FailureNode(_)
                    | GraphState::Stopping => Inside::UnderWay,
                },
            },
            NodeKind::Start | NodeKind::End | NodeKind::Task | NodeKind::Gate | NodeKind::Array => {
                Inside::Nothing
            }
        }
    }

    /// The arm that a branch has chosen.
    pub(super) fn chosen_arm(&self, branch: NodeIndex) -> Option<NodeIndex> {
        let node = &self[branch];
        let status = node.status.branch_status.as_ref()?;
        if status.phase != BranchPhase::Success {
            return None;
        }
        self[node.graph].find(&status.final_node_id)
    }

    /// All arms of a branch.
    pub(super) fn arms(&self, branch: NodeIndex) -> Vec<NodeIndex> {
        let node = &self[branch];
        let graph = &self[node.graph];
        let arms = node
            .spec
            .branch
            .iter()
            .flat_map(flyte_crd::BranchSpec::arms);
        arms.filter_map(|arm| graph.find(arm)).collect()
    }

    /// Where the outputs are that the node inside gives a node: of the chosen arm, or of the end node of the
    /// sub-workflow.
    pub(super) fn inner_outputs(&self, index: NodeIndex) -> Option<String> {
        let inner = match self[index].inner {
            Some(graph) => self[graph].find(END_NODE)?,
            None => self.chosen_arm(index)?,
        };
        Some(self[inner].files.outputs())
    }

    /// Forgets everything about a node and what is inside it, which is to run again in another attempt of the node
    /// around it. Answers with the nodes concerned.
    pub(super) fn reset(
        &mut self,
        context: &WorkflowContext,
        index: NodeIndex,
    ) -> Result<Vec<NodeIndex>, Unreadable> {
        let node = &mut self[index];
        node.status = NodeStatus::default();
        node.upstream.done = 0;
        node.upstream.skips = false;
        node.inner = None;
        node.inputs = None;
        node.result = None;
        node.retry = None;
        node.repeats = 0;
        node.abort = AbortState::None;
        node.task = TaskState::default();
        self.place(context, index)?;
        self.remember_pod(context, index);
        let mut concerned = vec![index];
        for arm in self.arms(index) {
            concerned.extend(self.reset(context, arm)?);
        }
        Ok(concerned)
    }
}

/// Name and files of a node's attempt.
struct Place {
    unique_id: String,
    parent: Option<Parent>,
    files: NodeFiles,
}

impl Place {
    fn of(
        context: &WorkflowContext,
        around: Option<&Node>,
        id: &str,
        attempt: u32,
    ) -> Result<Self, Unreadable> {
        let parent = around.map(|around| Parent {
            unique_id: around.unique_id.clone(),
            attempt: around.status.attempts,
        });
        Ok(Self {
            unique_id: unique_id::node(parent.as_ref(), id),
            files: match around {
                Some(around) => NodeFiles::nested(around.files.output(), id, attempt)?,
                None => NodeFiles::top_level(&context.data_dir, id, attempt)?,
            },
            parent,
        })
    }
}
