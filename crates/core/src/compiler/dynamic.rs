//! The workflow that a dynamic task asked for at run time (spec 08 A16).

use std::collections::{HashMap, HashSet};

use flyte_idl::core::{
    BindingData, CompiledTask, DynamicJobSpec, Identifier, Node, ResourceType, TaskTemplate,
    TypedInterface, WorkflowTemplate, binding_data, if_else_block, node::Target, task_template,
};

use super::{CompileErrors, compile_task};
use crate::{
    identifiers::ExecutionId,
    unique_id::{self, Width},
};

/// The node that ran the dynamic task.
#[derive(Debug, Clone, Copy)]
pub struct DynamicParent<'a> {
    /// The execution that it belongs to.
    pub execution: &'a ExecutionId,
    /// The id of the node that runs the dynamic task.
    pub node_id: &'a str,
    /// The attempt of the task that made the workflow, from 0.
    pub attempt: u32,
    /// Version of events of the execution; 0 gives inner nodes ids that name their parent.
    pub event_version: u32,
    /// The dynamic task, whose interface the workflow must have.
    pub task: &'a TaskTemplate,
}

/// What a dynamic task asked for, ready to be compiled: first [`DynamicWorkflow::compiled_tasks`], then
/// [`super::requirements()`] and [`super::compile_workflow`].
#[derive(Debug, Clone, PartialEq)]
pub struct DynamicWorkflow {
    /// The workflow: no inputs, the outputs of the task.
    pub template: WorkflowTemplate,
    /// Tasks that came with it.
    pub tasks: Vec<TaskTemplate>,
    /// Workflows that came with it.
    pub sub_workflows: Vec<WorkflowTemplate>,
}

impl DynamicWorkflow {
    /// Makes a workflow of a job specification. `version` is a text of ten random lower-case letters and
    /// digits, drawn by the caller.
    pub fn new(spec: DynamicJobSpec, parent: &DynamicParent<'_>, version: String) -> Self {
        let mut nodes = spec.nodes;
        let mut outputs = spec.outputs;
        if parent.event_version == 0 {
            let renames = Renames::new(parent, &nodes);
            for node in &mut nodes {
                renames.node(node);
            }
            for output in &mut outputs {
                if let Some(data) = &mut output.binding {
                    renames.binding(data);
                }
            }
        }
        let mut tasks = spec.tasks;
        for task in &mut tasks {
            inherit_config(task, parent.task);
        }
        let interface = parent.task.interface.as_ref();
        Self {
            template: WorkflowTemplate {
                id: Some(Identifier {
                    resource_type: ResourceType::Workflow as i32,
                    project: parent.execution.project.to_string(),
                    domain: parent.execution.domain.to_string(),
                    name: format!("dynamic_{}", parent.node_id),
                    version,
                    org: String::new(),
                }),
                interface: Some(TypedInterface {
                    inputs: None,
                    outputs: interface.and_then(|interface| interface.outputs.clone()),
                }),
                nodes,
                outputs,
                ..Default::default()
            },
            tasks,
            sub_workflows: spec.subworkflows,
        }
    }

    /// The tasks, each once, checked. An error is the user's.
    pub fn compiled_tasks(&self) -> Result<Vec<CompiledTask>, CompileErrors> {
        let mut seen = HashSet::new();
        self.tasks
            .iter()
            .filter(|task| seen.insert(task.id.as_ref()))
            .map(|task| compile_task(task.clone()))
            .collect()
    }
}

/// Children of a container task inherit the deprecated configuration of its container.
#[expect(deprecated, reason = "container.config is what is inherited")]
fn inherit_config(task: &mut TaskTemplate, parent: &TaskTemplate) {
    if let (
        Some(task_template::Target::Container(container)),
        Some(task_template::Target::Container(parent)),
    ) = (&mut task.target, &parent.target)
    {
        container.config.extend(parent.config.iter().cloned());
    }
}

/// Ids of the time when events named nodes by these alone: parent, attempt and own id, at most 20 bytes.
struct Renames(HashMap<String, String>);

impl Renames {
    fn new(parent: &DynamicParent<'_>, nodes: &[Node]) -> Self {
        let attempt = parent.attempt.to_string();
        let renamed = |id: &str| {
            let parts = [parent.node_id, &attempt, id];
            unique_id::join(unique_id::NODE_ID_MAX, &parts, Width::Bits32)
                .unwrap_or_else(|too_long| too_long.name)
        };
        let ids = nodes.iter().map(|node| node.id.clone());
        Self(ids.map(|id| (id.clone(), renamed(&id))).collect())
    }

    fn id(&self, id: &mut String) {
        if let Some(renamed) = self.0.get(id) {
            renamed.clone_into(id);
        }
    }

    fn node(&self, node: &mut Node) {
        self.id(&mut node.id);
        self.references(node);
    }

    /// References of a node and of those inside it.
    fn references(&self, node: &mut Node) {
        node.upstream_node_ids.iter_mut().for_each(|id| self.id(id));
        for input in &mut node.inputs {
            input.binding.iter_mut().for_each(|data| self.binding(data));
        }
        match &mut node.target {
            Some(Target::BranchNode(branch)) => {
                let Some(block) = &mut branch.if_else else {
                    return;
                };
                let cases = block.case.iter_mut().map(|case| &mut **case);
                for case in cases.chain(&mut block.other) {
                    case.then_node
                        .iter_mut()
                        .for_each(|node| self.references(node));
                }
                if let Some(if_else_block::Default::ElseNode(node)) = &mut block.default {
                    self.references(node);
                }
            }
            Some(Target::ArrayNode(array)) => {
                array.node.iter_mut().for_each(|node| self.references(node));
            }
            _ => {}
        }
    }

    fn binding(&self, data: &mut BindingData) {
        match &mut data.value {
            Some(binding_data::Value::Promise(promise)) => self.id(&mut promise.node_id),
            Some(binding_data::Value::Collection(list)) => {
                list.bindings.iter_mut().for_each(|item| self.binding(item));
            }
            Some(binding_data::Value::Map(map)) => {
                map.bindings
                    .values_mut()
                    .for_each(|item| self.binding(item));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use flyte_idl::core::{Binding, OutputReference};

    use super::*;

    #[test]
    fn old_events_have_ids_that_name_the_parent() {
        let promise = |node: &str| Binding {
            var: "v".into(),
            binding: Some(BindingData {
                value: Some(binding_data::Value::Promise(OutputReference {
                    node_id: node.into(),
                    ..Default::default()
                })),
                ..Default::default()
            }),
        };
        let node = |id: &str, inputs: Vec<Binding>| Node {
            id: id.into(),
            inputs,
            ..Default::default()
        };
        let spec = DynamicJobSpec {
            nodes: vec![node("a", vec![]), node("b", vec![promise("a")])],
            outputs: vec![promise("b")],
            ..Default::default()
        };
        let execution = ExecutionId::new("p", "d", "e").unwrap();
        let made = |event_version| {
            let parent = DynamicParent {
                execution: &execution,
                node_id: "n0",
                attempt: 1,
                event_version,
                task: &TaskTemplate::default(),
            };
            DynamicWorkflow::new(spec.clone(), &parent, "v".into()).template
        };
        let old = made(0);
        assert_eq!(
            old.nodes,
            vec![
                node("n0-1-a", vec![]),
                node("n0-1-b", vec![promise("n0-1-a")])
            ]
        );
        assert_eq!(old.outputs, vec![promise("n0-1-b")]);
        assert_eq!(made(2).nodes, spec.nodes);
        assert_eq!(made(2).id.unwrap().name, "dynamic_n0");
    }
}
