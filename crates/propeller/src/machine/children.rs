//! Which child executions a workflow wants to hear of, and whose node each is.

use std::collections::HashMap;

use super::NodeIndex;

/// The engine is to begin or to end asking flyteadmin about an execution; its name, in the project and domain of the workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildWatch {
    /// A node waits for its end.
    Begin(String),
    /// No node does any more.
    End(String),
}

/// The children that nodes wait for.
#[derive(Debug, Default)]
pub(super) struct Children {
    nodes: HashMap<String, NodeIndex>,
    names: HashMap<NodeIndex, String>,
    changes: Vec<ChildWatch>,
}

impl Children {
    /// The node waits for this child now, or for none.
    pub(super) fn awaits(&mut self, index: NodeIndex, child: Option<String>) {
        if self.names.get(&index) == child.as_ref() {
            return;
        }
        if let Some(before) = self.names.remove(&index) {
            self.nodes.remove(&before);
            self.changes.push(ChildWatch::End(before));
        }
        if let Some(child) = child {
            self.names.insert(index, child.clone());
            self.nodes.insert(child.clone(), index);
            self.changes.push(ChildWatch::Begin(child));
        }
    }

    /// The child that a node waits for.
    pub(super) fn awaited_by(&self, index: NodeIndex) -> Option<&str> {
        self.names.get(&index).map(String::as_str)
    }

    /// The node that waits for a child.
    pub(super) fn node(&self, child: &str) -> Option<NodeIndex> {
        self.nodes.get(child).copied()
    }

    /// What has changed since the last time.
    pub(super) fn take_changes(&mut self) -> Vec<ChildWatch> {
        std::mem::take(&mut self.changes)
    }
}
