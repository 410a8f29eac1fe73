//! One node of the closure (spec 08 A15 "Node rules", 03 §4.6).

use std::collections::BTreeMap;

use flyte_core::quantity::Quantity;
use flyte_idl::{
    core::{
        ArrayNode, BranchNode, GateNode, IfBlock, Node, Resources, TaskNode, array_node, gate_node,
        if_else_block, node::Target, node_metadata, resources::ResourceName, task_node,
        workflow_node,
    },
    text::prototext,
};
use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource};

use super::{BuildError, Builder, go_duration};
use crate::{
    ArraySpec, BranchArm, BranchSpec, GateSpec, GoStruct, NodeKind, NodeSpec, Proto, RetryStrategy,
    WorkflowNodeSpec,
};

impl Builder<'_> {
    /// The node's spec, followed by those of its arms when it is a branch.
    pub(super) fn node(&self, node: &Node) -> Result<Vec<NodeSpec>, BuildError> {
        let metadata = node.metadata.as_ref();
        let mut spec = NodeSpec {
            id: node.id.clone(),
            name: metadata
                .map(|metadata| metadata.name.clone())
                .unwrap_or_default(),
            input_bindings: node.inputs.iter().cloned().map(Proto).collect(),
            output_alias: node.output_aliases.iter().cloned().map(GoStruct).collect(),
            interruptible: metadata
                .and_then(|metadata| metadata.interruptible_value)
                .map(|node_metadata::InterruptibleValue::Interruptible(flag)| flag),
            ..NodeSpec::default()
        };
        if let Some(timeout) = metadata.and_then(|metadata| metadata.timeout.as_ref()) {
            spec.execution_deadline = Some(go_duration(&node.id, timeout, 1)?);
            spec.active_deadline = Some(go_duration(&node.id, timeout, 2)?);
        }
        let node_retries = metadata
            .and_then(|metadata| metadata.retries.as_ref())
            .map_or(0, |strategy| strategy.retries);
        let mut retries = node_retries;
        let mut arms = Vec::new();
        match &node.target {
            None => {
                spec.kind = match node.id.as_str() {
                    "start-node" => NodeKind::Start,
                    "end-node" => NodeKind::End,
                    _ => return Err(BuildError::required(&node.id, "target")),
                };
            }
            Some(Target::TaskNode(task)) => {
                spec.kind = NodeKind::Task;
                let task_retries = self.task(&mut spec, task)?;
                if node_retries == 0 {
                    retries = task_retries;
                }
            }
            Some(Target::WorkflowNode(workflow)) => {
                spec.kind = NodeKind::Workflow;
                spec.workflow = Some(match &workflow.reference {
                    Some(workflow_node::Reference::LaunchplanRef(id)) => WorkflowNodeSpec {
                        launch_plan_ref_id: Some(Proto(id.clone())),
                        sub_workflow_ref: None,
                    },
                    Some(workflow_node::Reference::SubWorkflowRef(id)) => WorkflowNodeSpec {
                        launch_plan_ref_id: None,
                        sub_workflow_ref: Some(prototext(id)),
                    },
                    None => return Err(BuildError::required(&node.id, "WorkflowNode.Reference")),
                });
            }
            Some(Target::BranchNode(branch)) => {
                spec.kind = NodeKind::Branch;
                spec.branch = Some(self.branch(&node.id, branch, &mut arms)?);
            }
            Some(Target::GateNode(gate)) => {
                spec.kind = NodeKind::Gate;
                spec.gate = Some(gate_spec(&node.id, gate)?);
            }
            Some(Target::ArrayNode(array)) => {
                spec.kind = NodeKind::Array;
                spec.array = Some(Box::new(self.array(&node.id, array)?));
            }
        }
        if retries != 0 {
            spec.retry = Some(RetryStrategy {
                min_attempts: retries.saturating_add(1),
            });
        }
        let mut specs = vec![spec];
        specs.append(&mut arms);
        Ok(specs)
    }

    /// Fills in the task's key and overrides; returns the retries of its template.
    fn task(&self, spec: &mut NodeSpec, node: &TaskNode) -> Result<u32, BuildError> {
        let Some(task_node::Reference::ReferenceId(id)) = &node.reference else {
            return Err(BuildError::required(&spec.id, "TaskNode.Reference"));
        };
        let key = prototext(id);
        let Some(template) = self.tasks.get(&key) else {
            return Err(BuildError::TaskNotFound {
                node: spec.id.clone(),
                task: key,
            });
        };
        spec.task = Some(key);
        if let Some(overrides) = &node.overrides {
            if let Some(resources) = &overrides.resources {
                spec.resources = requirements(&spec.id, resources)?;
            }
            spec.extended_resources = overrides.extended_resources.clone().map(Proto);
            spec.container_image.clone_from(&overrides.container_image);
            spec.pod_template = overrides.pod_template.clone().map(GoStruct);
        }
        let retries = template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.retries.as_ref());
        Ok(retries.map_or(0, |strategy| strategy.retries))
    }

    fn branch(
        &self,
        id: &str,
        node: &BranchNode,
        arms: &mut Vec<NodeSpec>,
    ) -> Result<BranchSpec, BuildError> {
        let block = node
            .if_else
            .as_deref()
            .ok_or_else(|| BuildError::required(id, "IfElse"))?;
        let case = block
            .case
            .as_deref()
            .ok_or_else(|| BuildError::required(id, "IfElse.Case"))?;
        let case = self.arm(id, case, arms)?;
        let else_if = block
            .other
            .iter()
            .map(|other| self.arm(id, other, arms))
            .collect::<Result<Vec<_>, _>>()?;
        let (mut otherwise, mut else_fail) = (None, None);
        match &block.default {
            Some(if_else_block::Default::ElseNode(node)) => {
                arms.extend(self.node(node)?);
                otherwise = Some(node.id.clone());
            }
            Some(if_else_block::Default::Error(error)) => else_fail = Some(GoStruct(error.clone())),
            None => {}
        }
        Ok(BranchSpec {
            case,
            else_if,
            otherwise,
            else_fail,
        })
    }

    fn arm(
        &self,
        id: &str,
        block: &IfBlock,
        arms: &mut Vec<NodeSpec>,
    ) -> Result<BranchArm, BuildError> {
        let node = block
            .then_node
            .as_deref()
            .ok_or_else(|| BuildError::required(id, "IfBlock.ThenNode"))?;
        let condition = block
            .condition
            .clone()
            .ok_or_else(|| BuildError::required(id, "IfBlock.Condition"))?;
        arms.extend(self.node(node)?);
        Ok(BranchArm {
            condition: Proto(condition),
            then: node.id.clone(),
        })
    }

    fn array(&self, id: &str, node: &ArrayNode) -> Result<ArraySpec, BuildError> {
        let inner = node
            .node
            .as_deref()
            .ok_or_else(|| BuildError::required(id, "ArrayNode.Node"))?;
        let sub_node_spec = self
            .node(inner)?
            .into_iter()
            .next()
            .ok_or_else(|| BuildError::required(id, "ArrayNode.Node"))?;
        let (min_successes, min_success_ratio) = match node.success_criteria {
            Some(array_node::SuccessCriteria::MinSuccesses(count)) => (Some(count), None),
            Some(array_node::SuccessCriteria::MinSuccessRatio(ratio)) => (None, Some(ratio)),
            None => (None, None),
        };
        Ok(ArraySpec {
            sub_node_spec,
            parallelism: node
                .parallelism_option
                .map(|array_node::ParallelismOption::Parallelism(parallelism)| parallelism),
            min_successes,
            min_success_ratio,
            bound_inputs: (!node.bound_inputs.is_empty()).then(|| node.bound_inputs.clone()),
        })
    }
}

fn gate_spec(id: &str, node: &GateNode) -> Result<GateSpec, BuildError> {
    let mut gate = GateSpec {
        kind: String::new(),
        approve: None,
        signal: None,
        sleep: None,
    };
    match &node.condition {
        Some(gate_node::Condition::Approve(condition)) => {
            "approve".clone_into(&mut gate.kind);
            gate.approve = Some(Proto(condition.clone()));
        }
        Some(gate_node::Condition::Signal(condition)) => {
            "signal".clone_into(&mut gate.kind);
            gate.signal = Some(Proto(condition.clone()));
        }
        Some(gate_node::Condition::Sleep(condition)) => {
            "sleep".clone_into(&mut gate.kind);
            gate.sleep = Some(Proto(*condition));
        }
        None => return Err(BuildError::required(id, "GateNode.Condition")),
    }
    Ok(gate)
}

/// Overrides as Kubernetes quantities; zero values are dropped.
fn requirements(node: &str, resources: &Resources) -> Result<ResourceRequirements, BuildError> {
    let list = |entries: &[flyte_idl::core::resources::ResourceEntry]| {
        let mut quantities = BTreeMap::new();
        for entry in entries {
            let name = match entry.name() {
                ResourceName::Cpu => "cpu",
                ResourceName::Memory => "memory",
                ResourceName::Gpu => "nvidia.com/gpu",
                ResourceName::EphemeralStorage => "ephemeral-storage",
                ResourceName::Storage | ResourceName::Unknown => continue,
            };
            let quantity: Quantity = entry.value.parse().map_err(|error| {
                BuildError::malformed(
                    node,
                    format!(
                        "resource {name} {:?} is not a quantity: {error}",
                        entry.value
                    ),
                )
            })?;
            if !quantity.is_zero() {
                quantities.insert(name.to_owned(), resource::Quantity(quantity.canonical()));
            }
        }
        Ok::<_, BuildError>((!quantities.is_empty()).then_some(quantities))
    };
    Ok(ResourceRequirements {
        claims: None,
        requests: list(&resources.requests)?,
        limits: list(&resources.limits)?,
    })
}
