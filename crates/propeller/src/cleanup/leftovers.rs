//! What a workflow must not leave behind when it ends. Pure.
//!
//! Several steps are taken between two writes of status. After a crash most of them are taken again and meet what
//! they made before; but when the workflow fails or is aborted first, they are not, and then admin may know nodes,
//! and the cluster pods, of which no status tells. So the last event waits until those are found and ended.

use flyte_core::identifiers::ExecutionId;
use flyte_idl::core::{NodeExecutionIdentifier, TaskExecutionIdentifier};
use jiff::Timestamp;

use crate::events::{self, Event};

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftoverQuery {
    /// The execution whose resource is gone or being deleted.
    pub execution: ExecutionId,
    /// Unique ids of nodes that have begun and may have nodes inside, whether they have ended or not.
    pub parents: Vec<String>,
    /// Where its pods are; none when they bear no label.
    pub pods: Option<PodQuery>,
}

/// Where the pods of an execution are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodQuery {
    /// The namespace that the pods are looked for in.
    pub namespace: String,
    /// Their value of label `execution-id`.
    pub execution_label: String,
    /// Name of the resource that owns them: pods of child executions may bear the label too (spec 04 §2.2).
    pub owner: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Leftovers {
    /// Nodes that admin holds for open, each after those around it.
    pub nodes: Vec<OpenNode>,
    /// Pods that have not ended.
    pub pods: Vec<String>,
}

/// A node that admin holds for open.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenNode {
    /// The node execution that admin does not yet have in a terminal phase.
    pub id: NodeExecutionIdentifier,
    /// Its attempts that are open too.
    pub attempts: Vec<TaskExecutionIdentifier>,
    /// Name of the execution that it has launched, or may have.
    pub child: Option<String>,
}

/// What is to be ended before the workflow's own end is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clearance {
    /// Names of child executions, in the project and domain of the workflow.
    pub children: Vec<String>,
    /// Why they are terminated.
    pub cause: String,
    /// The ends of nodes and attempts.
    pub events: Vec<Event>,
}

/// The events that end what is open: attempts before their node, nodes before those around them (spec 04 §11.8).
pub fn events(nodes: Vec<OpenNode>, producer: &str, reason: &str, now: Timestamp) -> Vec<Event> {
    let mut sent = Vec::new();
    for node in nodes.into_iter().rev() {
        sent.extend(
            node.attempts
                .into_iter()
                .map(|attempt| events::attempt_aborted(attempt, producer, now)),
        );
        sent.push(events::node_aborted(node.id, None, producer, reason, now));
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_end_before_nodes_and_inner_nodes_before_outer_ones() {
        let id = |node: &str| NodeExecutionIdentifier {
            node_id: node.into(),
            execution_id: None,
        };
        let open = |node: &str, attempts: u32| OpenNode {
            id: id(node),
            attempts: (0..attempts)
                .map(|attempt| TaskExecutionIdentifier {
                    task_id: None,
                    node_execution_id: Some(id(node)),
                    retry_attempt: attempt,
                })
                .collect(),
            child: None,
        };
        let sent: Vec<_> = events(
            vec![open("n0", 0), open("n0-0-n1", 2)],
            "propeller",
            "over",
            Timestamp::UNIX_EPOCH,
        )
        .into_iter()
        .map(|event| match event {
            Event::Node(event) => event.id.map(|id| id.node_id).unwrap_or_default(),
            Event::Task(event) => format!("attempt {}", event.retry_attempt),
            Event::Workflow(_) => "workflow".into(),
        })
        .collect();
        assert_eq!(sent, ["attempt 0", "attempt 1", "n0-0-n1", "n0"]);
    }
}
