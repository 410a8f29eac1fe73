//! What of the status is not written yet.

use std::collections::{BTreeMap, BTreeSet};

use flyte_crd::{
    COMPLETED_TIME_LABEL, FINALIZER, NodeStatus, TERMINATED, TERMINATION_LABEL, WorkflowStatus,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Machine, NodeIndex};
use crate::patch::difference;

/// The written status, and what has changed since.
#[derive(Debug)]
pub(super) struct Persist {
    head: Value,
    nodes: BTreeMap<String, Value>,
    /// Top-level nodes that changed, themselves or inside.
    changed: BTreeSet<NodeIndex>,
    head_changed: bool,
    /// Something changed that a crash must not lose.
    pub(super) urgent: bool,
}

/// A merge patch for the resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// The patch; the resource version is to be added as precondition.
    pub body: Value,
    /// Whether the workflow ends with it.
    pub terminal: bool,
}

fn to_value<T: serde::Serialize>(value: &T) -> Value {
    // Statuses consist of text, numbers and maps with text keys: nothing that JSON cannot say.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

impl Persist {
    pub(super) fn new(head: &WorkflowStatus, nodes: &BTreeMap<String, NodeStatus>) -> Self {
        Self {
            head: to_value(head),
            nodes: nodes
                .iter()
                .map(|(id, status)| (id.clone(), to_value(status)))
                .collect(),
            changed: BTreeSet::new(),
            head_changed: false,
            urgent: false,
        }
    }
}

impl Machine {
    /// Notes that a node changed, wherever it is.
    pub(super) fn note_change(&mut self, index: NodeIndex, derivable: bool) {
        let mut top = index;
        while let Some(owner) = self
            .nodes
            .get(top)
            .and_then(|node| self.graphs.get(node.graph))
            .and_then(|graph| graph.owner)
        {
            top = owner;
        }
        self.persist.changed.insert(top);
        self.persist.urgent |= !derivable;
    }

    /// Notes that the workflow itself changed.
    pub(super) fn note_workflow_change(&mut self) {
        self.persist.head_changed = true;
        self.persist.urgent = true;
    }

    /// Whether something changed that a crash must not lose.
    pub fn must_write(&self) -> bool {
        self.persist.urgent
    }

    /// Everything that changed since the last write, as one merge patch with labels and finalizers.
    pub fn take_patch(&mut self, finalizers: &[String], now: Timestamp) -> Option<Patch> {
        let mut status = Map::new();
        if self.persist.head_changed {
            let head = to_value(&self.status);
            if let Some(Value::Object(members)) = difference(&self.persist.head, &head) {
                status.extend(members);
            }
            self.persist.head = head;
        }
        let mut nodes = Map::new();
        for index in std::mem::take(&mut self.persist.changed) {
            let Some(id) = self.nodes.get(index).map(|node| node.spec.id.clone()) else {
                continue;
            };
            let new = to_value(&self.whole_status(index));
            match self.persist.nodes.get(&id) {
                None => {
                    nodes.insert(id.clone(), new.clone());
                }
                Some(old) => {
                    if let Some(patch) = difference(old, &new) {
                        nodes.insert(id.clone(), patch);
                    }
                }
            }
            self.persist.nodes.insert(id, new);
        }
        if !nodes.is_empty() {
            status.insert("nodeStatus".into(), Value::Object(nodes));
        }
        self.persist.head_changed = false;
        self.persist.urgent = false;
        let terminal = self.status.phase.is_terminal();
        let mut body = Map::new();
        let mut metadata = Map::new();
        if terminal {
            let hour = now.strftime("%Y-%m-%d.%H").to_string();
            metadata.insert(
                "labels".into(),
                json!({ TERMINATION_LABEL: TERMINATED, COMPLETED_TIME_LABEL: hour }),
            );
            let rest: Vec<_> = finalizers
                .iter()
                .filter(|name| *name != FINALIZER)
                .collect();
            metadata.insert("finalizers".into(), json!(rest));
        } else if !status.is_empty() && !finalizers.iter().any(|name| name == FINALIZER) {
            let with: Vec<_> = finalizers
                .iter()
                .map(String::as_str)
                .chain([FINALIZER])
                .collect();
            metadata.insert("finalizers".into(), json!(with));
        }
        if status.is_empty() && metadata.is_empty() {
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
        })
    }

    /// The status of a node with those inside it.
    fn whole_status(&self, index: NodeIndex) -> NodeStatus {
        let Some(node) = self.nodes.get(index) else {
            return NodeStatus::default();
        };
        let mut status = node.status.clone();
        if !status.phase.is_terminal()
            && let Some(graph) = node.inner.and_then(|inner| self.graphs.get(inner))
        {
            status.sub_node_status = graph
                .ids
                .iter()
                .filter(|(_, inner)| {
                    self.nodes
                        .get(**inner)
                        .is_some_and(|node| node.status != NodeStatus::default())
                })
                .map(|(id, inner)| (id.clone(), self.whole_status(*inner)))
                .collect();
        }
        status
    }
}
