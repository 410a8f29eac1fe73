//! `executionConfig`: settings of one execution, under Go's field names (spec 03 §4.7).

use std::collections::BTreeMap;

use flyte_idl::core::WorkflowExecutionIdentifier;
use serde::{Deserialize, Serialize};

use crate::{GoStruct, go_json::null_is_default};

/// Settings of one execution; all members are always written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecutionConfig {
    /// Plugins to use instead of the default ones, by task type.
    #[serde(deserialize_with = "null_is_default")]
    pub task_plugin_impls: BTreeMap<String, TaskPluginOverride>,
    /// How many nodes may run at once; 0 is no limit.
    pub max_parallelism: u32,
    /// The execution that this one recovers.
    pub recovery_execution: GoStruct<WorkflowExecutionIdentifier>,
    /// Requests and limits of tasks that name none, and upper bounds.
    pub task_resources: TaskResources,
    /// Overrides of the interruptible flag.
    pub interruptible: Option<bool>,
    /// Run tasks even when their outputs are cached, and replace these.
    pub overwrite_cache: bool,
    /// Variables for every task.
    pub environment_variables: Option<BTreeMap<String, String>>,
}

/// Which plugins run a task type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskPluginOverride {
    /// Ids; the first one that is registered wins.
    #[serde(rename = "PluginIDs", deserialize_with = "null_is_default")]
    pub plugin_ids: Vec<String>,
    /// 0 fails, 1 uses the default when none is registered.
    #[serde(rename = "MissingPluginBehavior")]
    pub missing_plugin_behavior: i32,
}

/// Resources of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskResources {
    /// For tasks that request none.
    pub requests: TaskResourceSpec,
    /// The largest values that a task may ask for.
    pub limits: TaskResourceSpec,
}

/// Canonical Kubernetes quantities; `"0"` when unset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskResourceSpec {
    /// CPU, as a Kubernetes quantity of cores; empty means not set.
    #[serde(rename = "CPU")]
    pub cpu: String,
    /// Bytes of memory.
    #[serde(rename = "Memory")]
    pub memory: String,
    /// Bytes of scratch disk.
    #[serde(rename = "EphemeralStorage")]
    pub ephemeral_storage: String,
    /// Always `"0"`.
    #[serde(rename = "Storage")]
    pub storage: String,
    /// Number of GPUs, as a Kubernetes quantity; empty means not set.
    #[serde(rename = "GPU")]
    pub gpu: String,
}

impl Default for TaskResourceSpec {
    fn default() -> Self {
        let zero = || "0".to_owned();
        Self {
            cpu: zero(),
            memory: zero(),
            ephemeral_storage: zero(),
            storage: zero(),
            gpu: zero(),
        }
    }
}
