//! The workflow and launch plan that stand for a task that is executed by itself (spec 08 A17.5, spec 01 §12.3).

use std::collections::BTreeMap;

use flyte_idl::{
    admin::{Annotations, Labels, LaunchPlanMetadata, LaunchPlanSpec},
    core::{
        Binding, BindingData, Identifier, LiteralMap, Node, NodeMetadata, OutputReference,
        ParameterMap, RetryStrategy, TaskNode, TaskTemplate, Variable, VariableMap,
        WorkflowTemplate, binding_data, node::Target, task_node,
    },
};

use crate::identifiers::ResourceType;

/// Longest node id that is made from a task's name, in bytes.
const NODE_ID_MAX: usize = 63;
/// Retries of a task that says nothing about them.
const DEFAULT_RETRIES: u32 = 3;
/// The node of a task whose name has no character that a node id may have.
const NAMELESS: &str = "task";

/// The name of the workflow and of the launch plan.
pub fn generated_name(task_name: &str) -> String {
    format!(".flytegen.{task_name}")
}

/// The id of the one node: of the last 63 bytes of the task's name, the letters, digits and dashes. The
/// reference keeps any letter of Unicode, which Kubernetes refuses; here only ASCII ones stay.
pub fn node_id(task_name: &str) -> String {
    let start = task_name.len().saturating_sub(NODE_ID_MAX);
    let tail = task_name.as_bytes().get(start..).unwrap_or_default();
    let id: String = tail
        .iter()
        .filter(|byte| **byte == b'-' || byte.is_ascii_alphanumeric())
        .map(|byte| char::from(*byte))
        .collect();
    if id.is_empty() {
        NAMELESS.to_owned()
    } else {
        id
    }
}

/// The id of the workflow or launch plan for a task.
pub fn generated_id(task: &Identifier, resource_type: ResourceType) -> Identifier {
    Identifier {
        resource_type: resource_type as i32,
        name: generated_name(&task.name),
        ..task.clone()
    }
}

/// A workflow of one node that runs the task; bindings in order of names.
pub fn workflow(id: &Identifier, task: &TaskTemplate) -> WorkflowTemplate {
    let node = node_id(&id.name);
    let interface = task.interface.clone();
    let variables = |map: Option<&VariableMap>| map.map(|map| map.variables.clone());
    let inputs = variables(interface.as_ref().and_then(|i| i.inputs.as_ref()));
    let outputs = variables(interface.as_ref().and_then(|i| i.outputs.as_ref()));
    let metadata = task.metadata.as_ref();
    let retries = metadata
        .and_then(|metadata| metadata.retries)
        .unwrap_or(RetryStrategy {
            retries: DEFAULT_RETRIES,
        });
    WorkflowTemplate {
        id: Some(generated_id(id, ResourceType::Workflow)),
        interface,
        nodes: vec![Node {
            id: node.clone(),
            metadata: Some(NodeMetadata {
                name: node.clone(),
                retries: Some(retries),
                ..Default::default()
            }),
            inputs: bindings(&inputs.unwrap_or_default(), ""),
            target: Some(Target::TaskNode(TaskNode {
                reference: Some(task_node::Reference::ReferenceId(id.clone())),
                ..Default::default()
            })),
            ..Default::default()
        }],
        outputs: bindings(&outputs.unwrap_or_default(), &node),
        ..Default::default()
    }
}

fn bindings(variables: &BTreeMap<String, Variable>, node_id: &str) -> Vec<Binding> {
    let promise = |name: &String| OutputReference {
        node_id: node_id.to_owned(),
        var: name.clone(),
        attr_path: Vec::new(),
    };
    variables
        .keys()
        .map(|name| Binding {
            var: name.clone(),
            binding: Some(BindingData {
                value: Some(binding_data::Value::Promise(promise(name))),
                ..Default::default()
            }),
        })
        .collect()
}

/// The plan for that workflow, before its default inputs are completed. `workflow_id` carries the name of the
/// task, not the generated one, as in the reference: never find the workflow by it. It has no security context:
/// that of the first caller would become everyone's.
pub fn launch_plan(task: &Identifier) -> LaunchPlanSpec {
    LaunchPlanSpec {
        workflow_id: Some(Identifier {
            resource_type: ResourceType::Workflow as i32,
            ..task.clone()
        }),
        entity_metadata: Some(LaunchPlanMetadata::default()),
        default_inputs: Some(ParameterMap::default()),
        fixed_inputs: Some(LiteralMap::default()),
        labels: Some(Labels::default()),
        annotations: Some(Annotations::default()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use flyte_idl::core::{SimpleType, TypedInterface};

    use super::*;
    use crate::{
        compiler::{Rules, compile_task, compile_workflow, requirements},
        types::simple,
    };

    #[test]
    fn node_ids_are_made_from_task_names() {
        for (name, expected) in [
            ("my.mod.my_task", "mymodmytask"),
            ("foo@`!=+- 1,2$3(4)5", "foo-12345"),
            (
                "app.long.path.name.to.a.defined.task.somewhere.in.code.very.very.nested.crazy",
                "nametoadefinedtasksomewhereincodeveryverynestedcrazy",
            ),
            ("é.é", "task"),
        ] {
            assert_eq!(node_id(name), expected);
        }
    }

    #[test]
    fn the_workflow_of_a_task_compiles() {
        let variables = |name: &str| {
            Some(VariableMap {
                variables: [(
                    name.to_owned(),
                    Variable {
                        r#type: Some(simple(SimpleType::Integer)),
                        ..Default::default()
                    },
                )]
                .into(),
            })
        };
        let id = Identifier {
            resource_type: ResourceType::Task as i32,
            name: "m.t".into(),
            ..Default::default()
        };
        let task = TaskTemplate {
            id: Some(id.clone()),
            interface: Some(TypedInterface {
                inputs: variables("n"),
                outputs: variables("o0"),
            }),
            ..Default::default()
        };
        let template = workflow(&id, &task);
        let needed = requirements(&template, &[]).unwrap();
        assert_eq!(needed.tasks, vec![id]);
        let tasks = vec![compile_task(task).unwrap()];
        let closure = compile_workflow(template, vec![], tasks, &[], Rules::Strict).unwrap();
        let compiled = closure.primary.unwrap();
        assert_eq!(
            compiled
                .connections
                .unwrap()
                .downstream
                .keys()
                .collect::<Vec<_>>(),
            ["mt", "start-node"]
        );
        let node = &compiled.template.unwrap().nodes[2];
        assert_eq!(
            node.metadata.as_ref().unwrap().retries,
            Some(RetryStrategy { retries: 3 })
        );
    }
}
