//! What array nodes run is checked, and left as it was sent (spec 08 A18, 11).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flyte_core::compiler::{Rules, compile_task, compile_workflow};
use flyte_idl::core::{
    ArrayNode, Binding, BindingData, BindingDataCollection, CompiledTask, CompiledWorkflowClosure,
    Container, Identifier, LiteralType, Node, OutputReference, Primitive, ResourceType, Scalar,
    SimpleType, TaskNode, TaskTemplate, TypedInterface, Variable, VariableMap, WorkflowNode,
    WorkflowTemplate, binding_data, literal_type, node::Target, primitive, scalar, task_node,
    task_template, workflow_node,
};

fn id(resource_type: ResourceType, name: &str) -> Identifier {
    Identifier {
        resource_type: resource_type.into(),
        project: "p".into(),
        domain: "d".into(),
        name: name.into(),
        version: "v".into(),
        ..Default::default()
    }
}

fn integers() -> LiteralType {
    LiteralType {
        r#type: Some(literal_type::Type::CollectionType(Box::new(integer()))),
        ..Default::default()
    }
}

fn integer() -> LiteralType {
    LiteralType {
        r#type: Some(literal_type::Type::Simple(SimpleType::Integer.into())),
        ..Default::default()
    }
}

/// One input `x`, no outputs.
fn takes(literal_type: LiteralType) -> TypedInterface {
    let variable = Variable {
        r#type: Some(literal_type),
        ..Default::default()
    };
    TypedInterface {
        inputs: Some(VariableMap {
            variables: [("x".to_owned(), variable)].into(),
        }),
        outputs: Some(VariableMap::default()),
    }
}

fn task(literal_type: LiteralType) -> CompiledTask {
    compile_task(TaskTemplate {
        id: Some(id(ResourceType::Task, "t")),
        interface: Some(takes(literal_type)),
        target: Some(task_template::Target::Container(Container {
            image: "i".into(),
            command: vec!["c".into()],
            ..Default::default()
        })),
        ..Default::default()
    })
    .unwrap()
}

fn bound(name: &str, value: binding_data::Value) -> Binding {
    Binding {
        var: name.into(),
        binding: Some(BindingData {
            value: Some(value),
            ..Default::default()
        }),
    }
}

fn one() -> binding_data::Value {
    binding_data::Value::Scalar(Scalar {
        value: Some(scalar::Value::Primitive(Primitive {
            value: Some(primitive::Value::Integer(1)),
        })),
    })
}

fn ones() -> binding_data::Value {
    let element = BindingData {
        value: Some(one()),
        ..Default::default()
    };
    binding_data::Value::Collection(BindingDataCollection {
        bindings: vec![element],
    })
}

fn promise(node: &str) -> binding_data::Value {
    binding_data::Value::Promise(OutputReference {
        node_id: node.into(),
        var: "x".into(),
        ..Default::default()
    })
}

fn runs_task() -> Target {
    Target::TaskNode(TaskNode {
        reference: Some(task_node::Reference::ReferenceId(id(
            ResourceType::Task,
            "t",
        ))),
        ..Default::default()
    })
}

fn runs_workflow() -> Target {
    Target::WorkflowNode(WorkflowNode {
        reference: Some(workflow_node::Reference::SubWorkflowRef(id(
            ResourceType::Workflow,
            "s",
        ))),
    })
}

/// A workflow with a list `x` whose only node is an array over `target`.
fn array(target: Target, inner: Vec<Binding>, original: bool) -> WorkflowTemplate {
    let inner = Node {
        id: "inner".into(),
        inputs: inner,
        target: Some(target),
        ..Default::default()
    };
    WorkflowTemplate {
        id: Some(id(ResourceType::Workflow, "w")),
        interface: Some(takes(integers())),
        nodes: vec![Node {
            id: "n0".into(),
            inputs: vec![bound("x", promise(""))],
            target: Some(Target::ArrayNode(Box::new(ArrayNode {
                node: Some(Box::new(inner)),
                is_original_sub_node_interface: Some(original),
                ..Default::default()
            }))),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn outcome(result: Result<CompiledWorkflowClosure, flyte_core::compiler::CompileErrors>) -> String {
    match result {
        Ok(_) => "accepted".into(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn inner_bindings_must_be_possible() {
    let unknown_node = "Code: NodeReferenceNotFound, Node Id: ghost, Description: Referenced node [ghost] not found.";
    let unknown_input = "Code: VariableNameNotFound, Node Id: inner, Description: Variable [y] not found on node [inner].";
    let wrong_type = "Code: MismatchingTypes, Node Id: inner";
    let text = || {
        binding_data::Value::Scalar(Scalar {
            value: Some(scalar::Value::Primitive(Primitive {
                value: Some(primitive::Value::StringValue("a".into())),
            })),
        })
    };
    for (inner, original, expected) in [
        (vec![], false, "accepted"),
        // As flytekit sends it: the bindings of the array, again.
        (vec![bound("x", promise(""))], false, "accepted"),
        (vec![bound("x", ones())], false, "accepted"),
        (vec![bound("x", promise(""))], true, "accepted"),
        // As one of its runs sees it.
        (vec![bound("x", one())], true, "accepted"),
        (vec![bound("x", promise("ghost"))], false, unknown_node),
        (vec![bound("y", one())], false, unknown_input),
        (vec![bound("x", text())], true, wrong_type),
    ] {
        let declared = if original { integer() } else { integers() };
        let template = array(runs_task(), inner.clone(), original);
        let tasks = vec![task(declared)];
        let compile = |rules| {
            outcome(compile_workflow(
                template.clone(),
                vec![],
                tasks.clone(),
                &[],
                rules,
            ))
        };
        let strict = compile(Rules::Strict);
        assert!(strict.contains(expected), "{inner:?}: {strict}");
        assert_eq!(compile(Rules::Reference), "accepted", "{inner:?}");
    }
}

#[test]
fn inner_nodes_stay_as_they_were_sent() {
    let template = array(runs_task(), vec![bound("x", promise(""))], false);
    let sent = template.nodes[0].target.clone();
    let closure = compile_workflow(template, vec![], vec![task(integers())], &[], Rules::Strict);
    let compiled = closure.unwrap().primary.unwrap();
    let nodes = compiled.template.unwrap().nodes;
    let node = nodes.iter().find(|node| node.id == "n0").unwrap();
    assert_eq!(node.target, sent);
}

#[test]
fn inner_sub_workflows_are_compiled() {
    let sub_workflow = |node: Option<Node>| WorkflowTemplate {
        id: Some(id(ResourceType::Workflow, "s")),
        interface: Some(takes(integer())),
        nodes: node.into_iter().collect(),
        ..Default::default()
    };
    let compile = |sub_workflow| {
        compile_workflow(
            array(runs_workflow(), vec![], true),
            vec![sub_workflow],
            vec![task(integer())],
            &[],
            Rules::Strict,
        )
    };
    let runs = Node {
        id: "n0".into(),
        inputs: vec![bound("x", promise(""))],
        target: Some(runs_task()),
        ..Default::default()
    };
    let closure = compile(sub_workflow(Some(runs.clone()))).unwrap();
    let compiled = closure.sub_workflows[0].clone();
    let nodes = compiled.template.unwrap().nodes;
    let ids: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(ids, ["start-node", "end-node", "n0"]);
    let unbound = Node {
        inputs: vec![],
        ..runs
    };
    for (node, expected) in [
        (Some(unbound), "Code: ParameterNotBound, Node Id: n0"),
        (None, "Code: NoNodesFound"),
    ] {
        let answer = outcome(compile(sub_workflow(node)));
        assert!(answer.contains(expected), "{answer}");
    }
}
