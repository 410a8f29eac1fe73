//! Recovery mode: a node takes over what became of it in the execution that this one recovers (spec 04 §7.10).

use flyte_crd::{
    NodeKind, NodePhase, Time,
    status::{DynamicNodeStatus, DynamicPhase, TaskNodeStatus, TaskPhase},
};
use flyte_idl::{
    core::{WorkflowExecutionIdentifier, node_execution::Phase as EventPhase},
    event::{DynamicWorkflowNodeMetadata, TaskNodeMetadata},
};
use jiff::Timestamp;

use super::{Change, NodeEffect, NodeResult, NodeView, Step, event, identity, node_end::ended};
use crate::events::{self, NodeDetails};

/// What the other execution says of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Recovered {
    /// It has not succeeded there: it runs here, from this checkpoint if it is a task that left one.
    Runs {
        /// URI of the checkpoint, or empty.
        checkpoint: String,
    },
    /// It has: inputs and outputs are copied.
    Ended(Box<Ended>),
    /// Its task has, and what it made has not: inputs and what it made are copied.
    Made,
}

/// How a node has ended in the other execution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ended {
    /// Whether it has outputs.
    pub has_outputs: bool,
    /// URI of its deck, or empty.
    pub deck: String,
    /// What the cache did for it there.
    pub cache: Option<TaskNodeMetadata>,
    /// The workflow that its task made.
    pub dynamic: Option<DynamicWorkflowNodeMetadata>,
    /// Name of the execution that it launched.
    pub child: Option<String>,
}

/// The execution that the node's own recovers, if it does.
pub fn recovers<'a>(view: &NodeView<'a>) -> Option<&'a WorkflowExecutionIdentifier> {
    let other = &view.workflow.execution_config.recovery_execution.0;
    (!other.name.is_empty()).then_some(other)
}

/// What comes before the inputs of a node; none when it runs as any other.
pub(super) fn before(
    view: &NodeView<'_>,
    result: Option<&NodeResult>,
    now: Timestamp,
) -> Option<Step> {
    recovers(view)?;
    if view.spec.kind == NodeKind::Start || view.element.is_some() {
        // What a start node hands on was written before; of elements flyteadmin has no records.
        return None;
    }
    match result {
        Some(NodeResult::Recovered(Recovered::Ended(other))) => Some(take_over(view, other, now)),
        Some(NodeResult::Recovered(Recovered::Made)) => Some(take_over_what_was_made(view, now)),
        _ if view.checkpoint.is_none() => Some(Step::Do(NodeEffect::Recover)),
        _ => None,
    }
}

fn take_over(view: &NodeView<'_>, other: &Ended, now: Timestamp) -> Step {
    let details = NodeDetails {
        outputs: other.has_outputs.then(|| view.files.outputs()),
        deck: other.deck.clone(),
        cache: other.cache.clone(),
        dynamic: other.dynamic.clone(),
        child: other.child.clone(),
        ..NodeDetails::default()
    };
    let event = events::node(&identity(view), EventPhase::Recovered, now, details);
    let status = ended(view.status, NodePhase::Recovered, now);
    Change::new(vec![event], status).step()
}

/// The node goes on behind its task.
fn take_over_what_was_made(view: &NodeView<'_>, now: Timestamp) -> Step {
    let mut status = view.status.clone();
    let time = Some(Time::new(now));
    status.phase = NodePhase::Running;
    status.queued_at = time;
    status.started_at = time;
    status.last_attempt_started_at = time;
    status.last_updated_at = time;
    "running".clone_into(&mut status.message);
    status.task_node_status = Some(TaskNodeStatus {
        phase: TaskPhase::Success,
        ..TaskNodeStatus::default()
    });
    status.dynamic_node_status = Some(DynamicNodeStatus {
        phase: DynamicPhase::ParentFinalized,
        ..DynamicNodeStatus::default()
    });
    let events = vec![
        event(view, EventPhase::Queued, now),
        event(view, EventPhase::Running, now),
    ];
    Change::new(events, status).step()
}
