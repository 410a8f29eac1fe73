//! The graph (spec 03 §4.5, §4.6).

use std::collections::BTreeMap;

use flyte_idl::core::{
    Alias, ApproveCondition, Binding, BooleanExpression, Error, ExtendedResources, Identifier,
    K8sPod, SignalCondition, SleepCondition, VariableMap, workflow_metadata::OnFailurePolicy,
};
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value};

use crate::{GoStruct, Proto, go_json::null_is_default};

/// A workflow or sub-workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowSpec {
    /// `project:domain:name`.
    pub id: String,
    /// Nodes by id, arms of branches included.
    #[serde(default, deserialize_with = "null_is_default")]
    pub nodes: BTreeMap<String, NodeSpec>,
    /// Downstream edges once more, for old readers.
    #[serde(default, deserialize_with = "null_is_default")]
    pub connections: BTreeMap<String, Vec<String>>,
    /// Edges in both directions.
    #[serde(default, deserialize_with = "null_is_default")]
    pub edges: Connections,
    /// The failure node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Box<NodeSpec>>,
    /// The outputs of the workflow's interface.
    #[serde(default)]
    pub outputs: Proto<VariableMap>,
    /// Where outputs come from.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub output_bindings: Vec<Proto<Binding>>,
    /// What a failed node means for the others.
    #[serde(default, with = "policy", skip_serializing_if = "is_fail_immediately")]
    pub on_failure_policy: OnFailurePolicy,
}

/// A sub-workflow is a workflow.
pub type SubWorkflowSpec = WorkflowSpec;

impl WorkflowSpec {
    /// Edges in both directions, also for resources that have only the older `connections`.
    pub fn complete_edges(&self) -> Connections {
        if !self.edges.downstream.is_empty() || !self.edges.upstream.is_empty() {
            return self.edges.clone();
        }
        let mut upstream: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (from, targets) in &self.connections {
            for to in targets {
                upstream.entry(to.clone()).or_default().push(from.clone());
            }
        }
        Connections {
            downstream: self.connections.clone(),
            upstream,
        }
    }
}

/// Edges by node id; lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Node to those after it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub downstream: BTreeMap<String, Vec<String>>,
    /// Node to those before it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub upstream: BTreeMap<String, Vec<String>>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// Id within its workflow.
    #[serde(default)]
    pub id: String,
    /// The author's name for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Overrides of requests and limits.
    #[serde(default, deserialize_with = "null_is_default")]
    pub resources: ResourceRequirements,
    /// What it is.
    pub kind: NodeKind,
    /// For kind branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<BranchSpec>,
    /// For kind task: the task's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// For kind workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowNodeSpec>,
    /// For kind gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateSpec>,
    /// For kind array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<Box<ArraySpec>>,
    /// Where inputs come from.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub input_bindings: Vec<Proto<Binding>>,
    /// How often it is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryStrategy>,
    /// Other names of outputs.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub output_alias: Vec<GoStruct<Alias>>,
    /// Accelerators and shared memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_resources: Option<Proto<ExtendedResources>>,
    /// Longest time of one attempt, as Go duration text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_deadline: Option<String>,
    /// Longest time from being queued, over all attempts, as Go duration text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline: Option<String>,
    /// Whether it may run on a machine that can be taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interruptible: Option<bool>,
    /// Override of the image.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub container_image: String,
    /// Override of the pod template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<GoStruct<K8sPod>>,
    /// Members of ours or of later versions, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// Runs a task.
    #[default]
    Task,
    /// Chooses one of several nodes.
    Branch,
    /// Runs a sub-workflow or a launch plan.
    Workflow,
    /// Waits for a person, a signal or a time.
    Gate,
    /// Runs a node for each element of a list.
    Array,
    /// Where the workflow's inputs are outputs.
    Start,
    /// Where the workflow's outputs are inputs.
    End,
}

impl NodeKind {
    /// The name in the resource.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Branch => "branch",
            Self::Workflow => "workflow",
            Self::Gate => "gate",
            Self::Array => "array",
            Self::Start => "start",
            Self::End => "end",
        }
    }
}

/// How often a node is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryStrategy {
    /// Attempts in all.
    pub min_attempts: u32,
}

/// The arms of a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BranchSpec {
    /// The first condition.
    #[serde(rename = "if")]
    pub case: BranchArm,
    /// Further conditions, in order.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub else_if: Vec<BranchArm>,
    /// The node when no condition holds.
    #[serde(default, rename = "else", skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<String>,
    /// The error when no condition holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub else_fail: Option<GoStruct<Error>>,
}

impl BranchSpec {
    /// Ids of all arms, in order.
    pub fn arms(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.case)
            .chain(&self.else_if)
            .map(|arm| arm.then.as_str())
            .chain(self.otherwise.as_deref())
    }
}

/// One condition and its node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BranchArm {
    /// The arm is taken if this holds and no arm before it did.
    pub condition: Proto<BooleanExpression>,
    /// The node's id.
    pub then: String,
}

/// What a workflow node runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowNodeSpec {
    /// A launch plan, as a child execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_plan_ref_id: Option<Proto<Identifier>>,
    /// A sub-workflow's key, within this execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_workflow_ref: Option<String>,
}

/// What a gate waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub struct GateSpec {
    /// `approve`, `signal` or `sleep`.
    pub kind: String,
    /// A person's yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<Proto<ApproveCondition>>,
    /// Waits until a value of this type is set from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Proto<SignalCondition>>,
    /// A length of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<Proto<SleepCondition>>,
}

/// A node for each element of a list. All members are always written, under Go's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ArraySpec {
    /// The node that runs once for each element.
    pub sub_node_spec: NodeSpec,
    /// At once; none is not set, 0 no limit.
    pub parallelism: Option<u32>,
    /// How many must succeed.
    pub min_successes: Option<u32>,
    /// Which share must succeed.
    #[serde(with = "ratio")]
    pub min_success_ratio: Option<f32>,
    /// Inputs that are passed whole.
    pub bound_inputs: Option<Vec<String>>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_fail_immediately(policy: &OnFailurePolicy) -> bool {
    *policy == OnFailurePolicy::FailImmediately
}

mod policy {
    use super::{D, Deserialize as _, OnFailurePolicy, S};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) fn serialize<Ser: S>(
        policy: &OnFailurePolicy,
        serializer: Ser,
    ) -> Result<Ser::Ok, Ser::Error> {
        serializer.serialize_str(policy.as_str_name())
    }

    pub(super) fn deserialize<'de, De: D<'de>>(
        deserializer: De,
    ) -> Result<OnFailurePolicy, De::Error> {
        use serde::de::Error as _;
        let name = String::deserialize(deserializer)?;
        OnFailurePolicy::from_str_name(&name)
            .ok_or_else(|| De::Error::custom(format!("onFailurePolicy {name:?} is not known")))
    }
}

use serde::{Deserializer as D, Serializer as S};

mod ratio {
    use super::{Deserialize as _, Value};

    /// A 32-bit float with the shortest digits that read back as itself.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        clippy::ref_option,
        reason = "serde passes a reference"
    )]
    pub(super) fn serialize<S: super::Serializer>(
        ratio: &Option<f32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match ratio {
            None => serializer.serialize_none(),
            Some(ratio) => {
                let shortest: f64 = ratio
                    .to_string()
                    .parse()
                    .unwrap_or_else(|_| f64::from(*ratio));
                if shortest.fract() == 0.0 {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "a ratio without fraction is 0 or 1"
                    )]
                    return serializer.serialize_i64(shortest as i64);
                }
                serializer.serialize_f64(shortest)
            }
        }
    }

    pub(super) fn deserialize<'de, D: super::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f32>, D::Error> {
        use super::Value as Json;
        match Value::deserialize(deserializer)? {
            Json::Null => Ok(None),
            Json::Number(number) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "it was written as a 32-bit float"
                )]
                let ratio = number.as_f64().map(|ratio| ratio as f32);
                Ok(ratio)
            }
            other => Err(super::custom::<D>(&other)),
        }
    }
}

fn custom<'de, De: Deserializer<'de>>(found: &Value) -> De::Error {
    De::Error::custom(format!("expected a number, found {found}"))
}
