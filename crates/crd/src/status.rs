//! What the engine knows of a run (spec 03 §4.9, 04 §12.3).

mod array;
mod phases;

use std::collections::BTreeMap;

use flyte_idl::core::ExecutionError;
use serde::{Deserialize, Serialize};

pub use array::{ArrayNodeStatus, CompactArray};
pub use phases::{
    ArrayPhase, BranchPhase, DynamicPhase, GatePhase, NodePhase, TaskPhase, WorkflowNodePhase,
    WorkflowPhase,
};

use crate::{
    GoStruct, NanoTime, Proto, Time,
    go_json::{is_default, null_is_default},
};

/// Status of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkflowStatus {
    /// Where the workflow is in its life; written also when 0.
    pub phase: WorkflowPhase,
    /// First change of phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// First terminal phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
    /// Last change of phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_at: Option<Time>,
    /// At most 1024 bytes.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub message: String,
    /// The workflow's folder in the blob store.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub data_dir: String,
    /// The outputs of a workflow that succeeded.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub output_ref: String,
    /// Nodes by id.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub node_status: BTreeMap<String, NodeStatus>,
    /// Rounds that failed.
    #[serde(skip_serializing_if = "is_default")]
    pub failed_attempts: u32,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Proto<ExecutionError>>,
    /// Version of conventions; 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub def_version: Option<u32>,
}

/// Status of a node; members at their default are left out, so a node that was only looked at is `{}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeStatus {
    /// Where the node stands.
    #[serde(skip_serializing_if = "is_default")]
    pub phase: NodePhase,
    /// When it was queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<Time>,
    /// When its first attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
    /// Last change of phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_at: Option<Time>,
    /// When its latest attempt started.
    #[serde(rename = "laStartedAt", skip_serializing_if = "Option::is_none")]
    pub last_attempt_started_at: Option<Time>,
    /// At most 1024 bytes.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub message: String,
    /// Attempts that ended; also the number of the attempt under way.
    #[serde(skip_serializing_if = "is_default")]
    pub attempts: u32,
    /// Failures that were not the user's.
    #[serde(skip_serializing_if = "is_default")]
    pub system_failures: u32,
    /// Set by old versions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// The branch that chose this node.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub parent_node: String,
    /// Decision of a branch node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch_status: Option<BranchStatus>,
    /// Nodes inside this one.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub sub_node_status: BTreeMap<String, NodeStatus>,
    /// State of a sub-workflow or launch plan node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_node_status: Option<WorkflowNodeStatus>,
    /// State of a task.
    #[serde(rename = "TaskNodeStatus", skip_serializing_if = "Option::is_none")]
    pub task_node_status: Option<TaskNodeStatus>,
    /// State of the dynamic part of a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_node_status: Option<DynamicNodeStatus>,
    /// State of a gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_node_status: Option<GateNodeStatus>,
    /// State of an array node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array_node_status: Option<ArrayNodeStatus>,
    /// Why the latest attempt failed; replaced, never removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Proto<ExecutionError>>,
}

/// Decision of a branch node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BranchStatus {
    /// Whether it was decided.
    pub phase: BranchPhase,
    /// The chosen node.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub final_node_id: String,
}

/// State of a sub-workflow or launch plan node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkflowNodeStatus {
    /// Executing or failing.
    #[serde(skip_serializing_if = "is_default")]
    pub phase: WorkflowNodePhase,
    /// Why it is failing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_error: Option<GoStruct<ExecutionError>>,
}

/// State of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskNodeStatus {
    /// The plugin's phase.
    #[serde(skip_serializing_if = "is_default")]
    pub phase: TaskPhase,
    /// Changes within that phase.
    #[serde(skip_serializing_if = "is_default")]
    pub phase_version: u32,
    /// The plugin's own state, base64 (see [`crate::gob`]).
    #[serde(
        rename = "pState",
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub plugin_state: String,
    /// Version of that state.
    #[serde(rename = "psv", skip_serializing_if = "is_default")]
    pub plugin_state_version: u32,
    /// Always 0: the reference has the field and never changes it.
    #[serde(skip_serializing_if = "is_default")]
    pub tick: u32,
    /// Last change of the plugin's phase.
    #[serde(rename = "updAt")]
    pub updated_at: NanoTime,
    /// The previous attempt's checkpoint.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub checkpoint_path: String,
    /// The plugin asked to be cleaned up although it ended.
    #[serde(rename = "clean", skip_serializing_if = "std::ops::Not::not")]
    pub clean_up_on_failure: bool,
}

/// State of the dynamic part of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DynamicNodeStatus {
    /// How far it got.
    #[serde(skip_serializing_if = "is_default")]
    pub phase: DynamicPhase,
    /// Why it is failing.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub reason: String,
    /// Why the workflow that the task made could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Proto<ExecutionError>>,
    /// Whether it is worth another attempt: no.
    #[serde(rename = "permFailure", skip_serializing_if = "std::ops::Not::not")]
    pub permanent_failure: bool,
}

/// State of a gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GateNodeStatus {
    /// Executing once it was looked at.
    #[serde(skip_serializing_if = "is_default")]
    pub phase: GatePhase,
}
