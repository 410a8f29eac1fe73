//! The top level of the resource (spec 03 §4.2, §4.8, §4.11).

use std::{borrow::Cow, collections::BTreeMap};

use flyte_core::{names, unique_id};
use flyte_idl::{
    admin::RawOutputDataConfig,
    core::{LiteralMap, SecurityContext, TaskTemplate, WorkflowExecutionIdentifier},
};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    GoStruct, Proto, Time, WorkflowSpec, WorkflowStatus,
    execution_config::ExecutionConfig,
    go_json::{is_default, null_is_default},
};

/// Keeps the resource until the engine has finished with it.
pub const FINALIZER: &str = "flyte.org/finalizer";
/// Keeps a task's pod until the engine has read it.
#[derive(Clone, Copy, Debug)]
pub struct PodFinalizer;

impl PodFinalizer {
    /// The finalizer's name.
    pub const NAME: &'static str = "flyte.org/finalizer-k8s";
}

/// Label that a finished resource carries; the engine's watch leaves it out.
pub const TERMINATION_LABEL: &str = "termination-status";
/// Value of the label of a resource that has ended, by which the garbage collector finds it.
pub const TERMINATED: &str = "terminated";
/// Label with the hour of completion, `YYYY-MM-DD.HH` UTC.
pub const COMPLETED_TIME_LABEL: &str = "completed-time";

/// One workflow execution as the engine sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlyteWorkflow {
    /// `flyte.lyft.com/v1alpha1`.
    #[serde(default = "api_version")]
    pub api_version: String,
    /// `FlyteWorkflow`.
    #[serde(default = "kind")]
    pub kind: String,
    /// Name, namespace, labels, finalizers.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The graph; none when the closure is offloaded.
    #[serde(default)]
    pub spec: Option<WorkflowSpec>,
    /// Versions of conventions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_meta: Option<WorkflowMeta>,
    /// Inputs; none when offloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Proto<LiteralMap>>,
    /// The execution that admin made the resource for.
    #[serde(default)]
    pub execution_id: GoStruct<WorkflowExecutionIdentifier>,
    /// Task templates by key; none when the closure is offloaded.
    #[serde(default)]
    pub tasks: Option<BTreeMap<String, Proto<TaskTemplate>>>,
    /// Sub-workflows by key.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub sub_workflows: BTreeMap<String, WorkflowSpec>,
    /// Never set by admin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    /// Defaults of nodes.
    #[serde(
        default,
        rename = "node-defaults",
        deserialize_with = "null_is_default"
    )]
    pub node_defaults: NodeDefaults,
    /// When admin received the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Time>,
    /// Older twin of `securityContext.run_as.k8s_service_account`.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub service_account_name: String,
    /// Whom tasks run as, and their secrets.
    #[serde(default)]
    pub security_context: GoStruct<SecurityContext>,
    /// Written by the engine.
    #[serde(default, deserialize_with = "null_is_default")]
    pub status: WorkflowStatus,
    /// Where tasks put raw data.
    #[serde(default)]
    pub raw_output_data_config: GoStruct<RawOutputDataConfig>,
    /// Settings of this execution.
    #[serde(default, deserialize_with = "null_is_default")]
    pub execution_config: ExecutionConfig,
    /// Blob of the closure when it is offloaded.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub workflow_closure_reference: String,
    /// Base URL of the console.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub console_url: String,
    /// Blob of the inputs when they are offloaded.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub offloaded_inputs: String,
}

/// Versions of conventions that the engine follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkflowMeta {
    /// 2: unique node ids and phase DYNAMIC_RUNNING (spec 04 §8.2).
    #[serde(skip_serializing_if = "is_default")]
    pub event_version: i32,
}

/// Defaults of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDefaults {
    /// Whether tasks may run on machines that can be taken away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interruptible: bool,
}

impl FlyteWorkflow {
    /// An empty resource of this name.
    pub fn new(namespace: &str, name: &str, spec: WorkflowSpec) -> Self {
        Self {
            api_version: api_version(),
            kind: kind(),
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            workflow_meta: None,
            inputs: None,
            execution_id: GoStruct::default(),
            tasks: None,
            sub_workflows: BTreeMap::new(),
            active_deadline_seconds: None,
            node_defaults: NodeDefaults::default(),
            accepted_at: None,
            service_account_name: String::new(),
            security_context: GoStruct::default(),
            status: WorkflowStatus::default(),
            raw_output_data_config: GoStruct::default(),
            execution_config: ExecutionConfig::default(),
            workflow_closure_reference: String::new(),
            console_url: String::new(),
            offloaded_inputs: String::new(),
        }
    }

    /// The event version; 0 when absent.
    pub fn event_version(&self) -> i32 {
        self.workflow_meta.map_or(0, |meta| meta.event_version)
    }
}

/// The labels that admin puts on the resource (spec 03 §4.8). `workflow` is `spec.id`, `project:domain:name`.
pub fn labels(
    execution_label: &str,
    project: &str,
    domain: &str,
    workflow: &str,
) -> BTreeMap<String, String> {
    let mut parts = workflow.split(':');
    let name = match (parts.nth(2), parts.next()) {
        (Some(name), None) => name,
        _ => "",
    };
    BTreeMap::from([
        ("execution-id".to_owned(), execution_label.to_owned()),
        ("project".to_owned(), project.to_owned()),
        ("domain".to_owned(), domain.to_owned()),
        (
            "workflow-name".to_owned(),
            names::sanitized_label_value(name),
        ),
        (
            "shard-key".to_owned(),
            unique_id::shard_key(execution_label).to_string(),
        ),
    ])
}

impl kube::Resource for FlyteWorkflow {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "FlyteWorkflow".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "flyte.lyft.com".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "flyteworkflows".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The definition that makes an API server serve FlyteWorkflow (spec 03 §4.11). There is no status
/// subresource: Go writes status with a plain PUT.
pub fn custom_resource_definition() -> CustomResourceDefinition {
    let definition = json!({
        "metadata": { "name": "flyteworkflows.flyte.lyft.com" },
        "spec": {
            "group": "flyte.lyft.com",
            "scope": "Namespaced",
            "names": {
                "kind": "FlyteWorkflow",
                "plural": "flyteworkflows",
                "singular": "flyteworkflow",
                "shortNames": ["fly"],
            },
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    });
    serde_json::from_value(definition).expect("the definition above has the shape of one")
}

fn api_version() -> String {
    "flyte.lyft.com/v1alpha1".into()
}

fn kind() -> String {
    "FlyteWorkflow".into()
}
