//! What of the status is not written yet, and where it is written: in the resource, or node statuses in a blob.
//!
//! ```text
//! status ── fits ──▶ resource: workflow and nodes
//!        └─ too large ──▶ blob: nodes;  resource: workflow, and a start node that names the blob
//! ```
//!
//! The API server refuses resources that are too large, so node statuses leave before it does. A blob never changes
//! once a resource names it (its name holds a hash of its content), and the one before goes when the new one is
//! named durably.

pub(crate) mod merge_patch;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flyte_core::layout::START_NODE;
use flyte_crd::{
    COMPLETED_TIME_LABEL, FINALIZER, FlyteWorkflow, NodeKind, NodePhase, NodeStatus, TERMINATED,
    TERMINATION_LABEL, WorkflowStatus,
};
use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::{
    Machine, NodeIndex,
    nodes::{GraphIndex, Node, Nodes},
};
use crate::{events, node::dynamic};
use flyte_platform::json::merge;
use merge_patch::{encoded_length, growth, members};

/// Phase of the start node of a workflow whose node statuses are in a blob. Go knows no such phase and fails the
/// workflow; were there no entry, it would run all nodes again (docs/adr/008).
const ELSEWHERE: i64 = 100;
/// Node statuses come back into the resource when the status would fill at most this many quarters of its room.
const QUARTERS_TO_RETURN: i64 = 3;
/// Longest message of a node.
const MAX_MESSAGE_BYTES: usize = 1024;
/// Members of the status.
const NODES: &str = "nodeStatus";
const INNER_NODES: &str = "subNodeStatus";
const PARENT: &str = "parentNode";

/// How a resource was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Encoded size without its status, in bytes.
    pub bytes: i64,
    /// Where its node statuses were, when they were not in it.
    pub spill: Option<Spill>,
}

/// Where the node statuses of a workflow are that does not fit into its resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    /// URI of the blob with the statuses.
    pub uri: String,
}

impl Spill {
    /// Where the resource says that its node statuses are; none when they are in it.
    pub fn of(resource: &FlyteWorkflow) -> Option<Self> {
        let start = resource.status.node_status.get(START_NODE)?;
        (start.phase == NodePhase::Unknown(ELSEWHERE)).then(|| Self {
            uri: start.message.clone(),
        })
    }

    /// The number in its name.
    fn version(&self) -> u64 {
        self.uri
            .rsplit('/')
            .next()
            .and_then(|name| name.split('-').next()?.parse().ok())
            .unwrap_or(0)
    }

    fn placeholder(&self) -> Value {
        json!({ START_NODE: { "phase": ELSEWHERE, "message": self.uri } })
    }
}

/// The written status, and what has changed since.
#[derive(Debug)]
pub(super) struct StatusWriter {
    /// The status in the resource, as we would write it.
    written: Value,
    /// Its encoded size.
    size: i64,
    origin: Origin,
    /// The API server refused what we thought would fit.
    must_spill: bool,
    /// Nodes that changed.
    changed: BTreeSet<NodeIndex>,
    head_changed: bool,
    /// Something changed that a crash must not lose.
    urgent: bool,
    /// Nodes that go on when the status is written.
    awaiting: BTreeSet<NodeIndex>,
}

/// A merge patch for the resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// The patch; the resource version is to be added as precondition.
    pub body: Value,
    /// Whether the workflow ends with it.
    pub terminal: bool,
    /// Node statuses, to be written before.
    pub blob: Option<(Spill, Bytes)>,
    place: Place,
}

impl Patch {
    /// The last patch of a resource that cannot be run.
    pub(crate) fn last(body: Value) -> Self {
        Self {
            body,
            terminal: true,
            blob: None,
            place: Place::Blob,
        }
    }
}

/// Where node statuses are once a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the resource, whose status has this size then.
    Resource(i64),
    /// In the blob that comes with the patch, or else where they were.
    Blob,
}

/// Whose status was found where ours was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// Ours of before the patch.
    UsBefore,
    /// Ours with the patch: its answer was lost.
    UsAfter,
    /// Somebody else's.
    Other,
}

fn to_value<T: serde::Serialize>(value: &T) -> Value {
    // Statuses consist of text, numbers and maps with text keys: nothing that JSON cannot say.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

impl StatusWriter {
    pub(super) fn new(
        head: &WorkflowStatus,
        nodes: &BTreeMap<String, NodeStatus>,
        origin: Origin,
    ) -> Self {
        let mut written = to_value(head);
        let nodes = match &origin.spill {
            Some(spill) => spill.placeholder(),
            None => to_value(nodes),
        };
        if let (Value::Object(status), Value::Object(nodes)) = (&mut written, nodes)
            && !nodes.is_empty()
        {
            status.insert(NODES.into(), Value::Object(nodes));
        }
        Self {
            size: encoded_length(&written),
            written,
            origin,
            must_spill: false,
            changed: BTreeSet::new(),
            head_changed: false,
            urgent: false,
            awaiting: BTreeSet::new(),
        }
    }

    /// The node goes on when what has changed is written.
    pub(super) fn hold(&mut self, index: NodeIndex) {
        self.awaiting.insert(index);
    }

    pub(super) fn holds(&self, index: NodeIndex) -> bool {
        self.awaiting.contains(&index)
    }

    fn nodes(&self) -> Option<&Map<String, Value>> {
        self.written.get(NODES)?.as_object()
    }
}

impl Machine {
    /// Notes that a node changed, wherever it is.
    pub(super) fn note_change(&mut self, index: NodeIndex, derivable: bool) {
        // Of an element the array's bits are written.
        let index = self.nodes[index].array().unwrap_or(index);
        self.writer.changed.insert(index);
        self.writer.urgent |= !derivable;
    }

    /// Notes that the workflow itself changed.
    pub(super) fn note_workflow_change(&mut self) {
        self.writer.head_changed = true;
        self.writer.urgent = true;
    }

    /// Whether something changed that a crash must not lose.
    pub fn must_write(&self) -> bool {
        self.writer.urgent
    }

    /// Whether each write costs as much as the whole workflow does, because node statuses are in a blob.
    pub fn is_spilled(&self) -> bool {
        self.writer.origin.spill.is_some()
    }

    /// The API server finds the resource too large: node statuses go to a blob from now on. False when they did
    /// already.
    pub fn must_spill(&mut self) -> bool {
        let never = self.context.settings.propeller.max_resource_bytes == 0;
        if never || self.is_spilled() {
            return false;
        }
        !std::mem::replace(&mut self.writer.must_spill, true)
    }

    /// What changed cannot be written for now.
    pub fn postpone_write(&mut self) {
        self.writer.urgent = false;
        self.let_go_on();
    }

    /// Everything that changed since the last write, as one merge patch with labels and finalizers; none when nothing
    /// did. It changes nothing here until it is [`Machine::written`].
    pub fn patch(&mut self, finalizers: &[String], now: Timestamp) -> Option<Patch> {
        let mut status = Map::new();
        if self.writer.head_changed
            && let (Value::Object(old), Value::Object(new)) =
                (&self.writer.written, to_value(&self.status))
        {
            status = members(old, &new, Some(NODES));
        }
        let (place, blob) = self.place_nodes(&mut status);
        let terminal = self.status.phase.is_terminal();
        let mut body = Map::new();
        let metadata = metadata(finalizers, terminal, status.is_empty(), now);
        if status.is_empty() && metadata.is_empty() {
            self.settle();
            return None;
        }
        if !metadata.is_empty() {
            body.insert("metadata".into(), Value::Object(metadata));
        }
        if !status.is_empty() {
            body.insert("status".into(), Value::Object(status));
        }
        Some(Patch {
            body: Value::Object(body),
            terminal,
            blob,
            place,
        })
    }

    /// A patch is durable. Answers with the blob that nothing names any more.
    pub fn written(&mut self, patch: &Patch) -> Option<Spill> {
        if let Some(status) = patch.body.get("status") {
            merge(&mut self.writer.written, status);
        }
        self.settle();
        match (patch.place, &patch.blob) {
            (Place::Resource(size), _) => {
                self.writer.size = size;
                self.writer.origin.spill.take()
            }
            (Place::Blob, Some((spill, _))) => self
                .writer
                .origin
                .spill
                .replace(spill.clone())
                .filter(|old| old != spill),
            (Place::Blob, None) => None,
        }
    }

    /// Whose this status is, which the resource has although it has not the version that we know.
    pub fn author(&self, status: &Value, patch: &Patch) -> Author {
        // Members that we do not know are nobody's business.
        let Ok(found) = WorkflowStatus::deserialize(status).map(|status| to_value(&status)) else {
            return Author::Other;
        };
        if found == self.writer.written {
            return Author::UsBefore;
        }
        let mut after = self.writer.written.clone();
        if let Some(status) = patch.body.get("status") {
            merge(&mut after, status);
        }
        if found == after {
            Author::UsAfter
        } else {
            Author::Other
        }
    }

    fn settle(&mut self) {
        self.writer.changed.clear();
        self.writer.head_changed = false;
        self.writer.urgent = false;
        self.let_go_on();
    }

    /// Nothing is waited for that would be written.
    fn let_go_on(&mut self) {
        for index in std::mem::take(&mut self.writer.awaiting) {
            self.queue.mark(index);
        }
    }

    /// Adds what changed of nodes to a patch of the status, or makes a blob of all of them.
    fn place_nodes(&self, status: &mut Map<String, Value>) -> (Place, Option<(Spill, Bytes)>) {
        let writer = &self.writer;
        let limit = i64::try_from(self.context.settings.propeller.max_resource_bytes).unwrap_or(0);
        let spilled = writer.origin.spill.as_ref();
        if spilled.is_none() {
            let nodes = self.node_patch();
            let mut inline = status.clone();
            if !nodes.is_empty() {
                inline.insert(NODES.into(), Value::Object(nodes));
            }
            let inline = Value::Object(inline);
            let size = writer.size + growth(&writer.written, &inline);
            let fits = limit == 0 || writer.origin.bytes + size <= limit;
            if fits && !writer.must_spill {
                if let Value::Object(inline) = inline {
                    *status = inline;
                }
                return (Place::Resource(size), None);
            }
        } else if writer.changed.is_empty() {
            return (Place::Blob, None);
        }
        let whole = Value::Object(self.whole_graph(Nodes::TOP));
        let mut head = to_value(&self.status);
        merge(&mut head, &json!({ NODES: whole }));
        let size = encoded_length(&head);
        let room = limit - writer.origin.bytes;
        let returns = limit == 0 || size * 4 <= room * QUARTERS_TO_RETURN;
        let nothing = Map::new();
        let known = writer.nodes().unwrap_or(&nothing);
        if spilled.is_some() && returns && !writer.must_spill {
            let nodes = members(known, whole.as_object().unwrap_or(&nothing), None);
            status.insert(NODES.into(), Value::Object(nodes));
            return (Place::Resource(size), None);
        }
        let bytes = whole.to_string();
        let spill = self.next_spill(bytes.as_bytes());
        let placeholder = spill.placeholder();
        let nodes = members(known, placeholder.as_object().unwrap_or(&nothing), None);
        if !nodes.is_empty() {
            status.insert(NODES.into(), Value::Object(nodes));
        }
        (Place::Blob, Some((spill, Bytes::from(bytes))))
    }

    /// The blob for this content: numbered, and named by its content, so that two engines that both believe to own
    /// the workflow for a moment never write different things into one.
    fn next_spill(&self, content: &[u8]) -> Spill {
        use std::hash::Hasher as _;
        let mut hash = fnv::FnvHasher::default();
        hash.write(content);
        let version = self
            .writer
            .origin
            .spill
            .as_ref()
            .map_or(0, Spill::version)
            .saturating_add(1);
        let folder = self.context.data_dir.trim_end_matches('/');
        Spill {
            uri: format!("{folder}/node-status/{version}-{:016x}.json", hash.finish()),
        }
    }

    /// What changed of nodes, as a patch of the map of nodes.
    fn node_patch(&self) -> Map<String, Value> {
        let mut patch = Map::new();
        for index in &self.writer.changed {
            self.add_change(*index, &mut patch);
        }
        patch
    }

    fn add_change(&self, index: NodeIndex, patch: &mut Map<String, Value>) {
        let node = &self.nodes[index];
        let Some(path) = self.path(index) else { return };
        let Value::Object(new) = to_value(&node.status) else {
            return;
        };
        let nothing = Map::new();
        let mut known = self.writer.nodes();
        for around in path.iter().rev() {
            known = known.and_then(|nodes| around.inner(nodes));
        }
        let old = known
            .and_then(|nodes| nodes.get(node.spec.id.as_str()))
            .and_then(Value::as_object);
        // Nodes inside are told apart by their own changes, until this node ends and they go.
        let has_inner = node.inner.is_some() && !node.status.phase.is_terminal();
        let difference = members(
            old.unwrap_or(&nothing),
            &new,
            has_inner.then_some(INNER_NODES),
        );
        if difference.is_empty() && old.is_some() {
            return;
        }
        let mut at = patch;
        for around in path.iter().rev() {
            let Some(inner) = around.inner_mut(at) else {
                return;
            };
            at = inner;
        }
        if let Some(members) = object(at, &node.spec.id) {
            members.extend(difference);
        }
    }

    /// The nodes around a node, outwards; none when a node around it has ended or begun another attempt, so that nothing inside
    /// is kept.
    fn path(&self, index: NodeIndex) -> Option<Vec<Around<'_>>> {
        let mut path = Vec::new();
        let mut inside = self.nodes[index].graph;
        while let Some(owner) = self.nodes[inside].owner {
            let node = &self.nodes[owner];
            if node.inner != Some(inside) || node.status.phase.is_terminal() {
                return None;
            }
            path.push(Around::of(node));
            inside = node.graph;
        }
        Some(path)
    }

    /// All statuses of a graph that say anything, with those inside.
    fn whole_graph(&self, graph: GraphIndex) -> Map<String, Value> {
        let mut ids: Vec<_> = self.nodes[graph].ids.iter().collect();
        ids.sort();
        ids.into_iter()
            .filter_map(|(id, index)| {
                let node = &self.nodes[*index];
                if node.status == NodeStatus::default() {
                    return None;
                }
                let mut status = to_value(&node.status);
                let inner = node.inner.filter(|_| !self.has_elements(*index));
                if let (Some(inner), false) = (inner, node.status.phase.is_terminal()) {
                    let inner = self.whole_graph(inner);
                    if let (Value::Object(members), false) = (&mut status, inner.is_empty()) {
                        Around::of(node).insert(members, inner);
                    }
                }
                Some((id.clone(), status))
            })
            .collect()
    }
}

/// A node with others inside, as their statuses lie in its own.
#[derive(Clone, Copy)]
struct Around<'a> {
    id: &'a str,
    /// Its task made them: there is an entry of its own between (spec 04 §7.6).
    is_dynamic: bool,
}

impl<'a> Around<'a> {
    fn of(node: &'a Node) -> Self {
        Self {
            id: &node.spec.id,
            is_dynamic: node.spec.kind == NodeKind::Task,
        }
    }

    /// The statuses inside, where `nodes` has the node.
    fn inner<'b>(&self, nodes: &'b Map<String, Value>) -> Option<&'b Map<String, Value>> {
        let mut inner = nodes.get(self.id)?.get(INNER_NODES)?;
        if self.is_dynamic {
            inner = inner.get(dynamic::INNER_ENTRY)?.get(INNER_NODES)?;
        }
        inner.as_object()
    }

    /// The statuses inside, which are made if there are none.
    fn inner_mut<'b>(
        &self,
        nodes: &'b mut Map<String, Value>,
    ) -> Option<&'b mut Map<String, Value>> {
        let inner = object(object(nodes, self.id)?, INNER_NODES)?;
        if !self.is_dynamic {
            return Some(inner);
        }
        let entry = object(inner, dynamic::INNER_ENTRY)?;
        entry.insert(PARENT.into(), json!(self.id));
        object(entry, INNER_NODES)
    }

    /// Puts the statuses inside where they belong in the node's own.
    fn insert(&self, status: &mut Map<String, Value>, inner: Map<String, Value>) {
        let inner = if self.is_dynamic {
            json!({ dynamic::INNER_ENTRY: { PARENT: self.id, INNER_NODES: inner } })
        } else {
            Value::Object(inner)
        };
        status.insert(INNER_NODES.into(), inner);
    }
}

/// Cuts what a task, a plugin or a cluster may have made long, so that a status can always be written (spec 04 §3.5).
pub(super) fn bound(status: &mut NodeStatus) {
    if let Some(error) = &mut status.error {
        error.0 = events::cut(std::mem::take(&mut error.0));
    }
    let inner = status.workflow_node_status.as_mut();
    if let Some(error) = inner.and_then(|inner| inner.execution_error.as_mut()) {
        error.0 = events::cut(std::mem::take(&mut error.0));
    }
    let dynamic = status.dynamic_node_status.as_mut();
    if let Some(error) = dynamic.and_then(|dynamic| dynamic.error.as_mut()) {
        error.0 = events::cut(std::mem::take(&mut error.0));
    }
    let length = status.message.floor_char_boundary(MAX_MESSAGE_BYTES);
    status.message.truncate(length);
}

/// The object that is or becomes a member.
fn object<'a>(
    members: &'a mut Map<String, Value>,
    key: &str,
) -> Option<&'a mut Map<String, Value>> {
    members
        .entry(key)
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut()
}

/// Labels and finalizers that go with a write of status.
fn metadata(
    finalizers: &[String],
    terminal: bool,
    unchanged: bool,
    now: Timestamp,
) -> Map<String, Value> {
    let mut metadata = Map::new();
    let names = finalizers.iter().map(String::as_str);
    if terminal {
        let hour = now.strftime("%Y-%m-%d.%H").to_string();
        metadata.insert(
            "labels".into(),
            json!({ TERMINATION_LABEL: TERMINATED, COMPLETED_TIME_LABEL: hour }),
        );
        let rest: Vec<_> = names.filter(|name| *name != FINALIZER).collect();
        metadata.insert("finalizers".into(), json!(rest));
    } else if !unchanged && !finalizers.iter().any(|name| name == FINALIZER) {
        let with: Vec<_> = names.chain([FINALIZER]).collect();
        metadata.insert("finalizers".into(), json!(with));
    }
    metadata
}
