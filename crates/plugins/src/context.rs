//! What a plugin may know of one attempt of a task.

use std::collections::BTreeMap;

use flyte_core::identifiers::ExecutionId;
use flyte_crd::execution_config::TaskResources;
use flyte_idl::core::{ExtendedResources, K8sPod, SecurityContext, TaskTemplate};
use k8s_openapi::{
    api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::OwnerReference,
};

/// One attempt of a task: the task, where it runs, and what the execution says about it.
#[derive(Clone, Debug)]
pub struct TaskContext<'a> {
    /// The task, types stripped.
    pub template: &'a TaskTemplate,
    /// The workflow execution that the task runs for.
    pub execution: &'a ExecutionId,
    /// `project:domain:name` of the workflow.
    pub workflow: &'a str,
    /// The node's id within its workflow.
    pub node_id: &'a str,
    /// The node's id within the execution (spec 04 §8.2).
    pub unique_node_id: &'a str,
    /// Number of the attempt, from 0.
    pub attempt: u32,
    /// Name of the attempt (spec 04 §8.3).
    pub generated_name: &'a str,
    /// Namespace of the workflow resource.
    pub namespace: &'a str,
    /// The workflow resource as controller of what the plugin creates.
    pub owner: OwnerReference,
    /// Labels of the workflow resource.
    pub labels: &'a BTreeMap<String, String>,
    /// Annotations of the workflow resource.
    pub annotations: &'a BTreeMap<String, String>,
    /// URI of `inputs.pb`.
    pub inputs: String,
    /// URI of the folder of this attempt's outputs.
    pub output_folder: String,
    /// URI of the folder for raw data.
    pub raw_output: String,
    /// URI of the folder for checkpoints.
    pub checkpoints: String,
    /// The previous attempt's; empty for the first.
    pub previous_checkpoints: String,
    /// URI of `task.pb`.
    pub task_template: String,
    /// Overrides of requests and limits.
    pub resources: &'a ResourceRequirements,
    /// Overrides of accelerators and shared memory.
    pub extended_resources: Option<&'a ExtendedResources>,
    /// Override of the image; empty for none.
    pub container_image: &'a str,
    /// Override of the pod template.
    pub pod_template: Option<&'a K8sPod>,
    /// Defaults and upper bounds of the execution.
    pub platform: &'a TaskResources,
    /// Variables of the execution.
    pub environment: &'a BTreeMap<String, String>,
    /// Whether this attempt may run on a machine that can be taken away.
    pub interruptible: bool,
    /// Service account of the workflow resource; empty for none.
    pub service_account: &'a str,
    /// Whom it runs as, and secrets of the execution.
    pub security_context: &'a SecurityContext,
    /// Base URL of the console; empty for none.
    pub console_url: &'a str,
}
