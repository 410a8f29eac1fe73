//! Nesting through every crate: registered, compiled, run, and read back.

use flyte_idl::{
    admin::{
        ExecutionCreateRequest, ExecutionMetadata, ExecutionSpec, LaunchPlanCreateRequest,
        LaunchPlanSpec, TaskCreateRequest, TaskSpec, WorkflowCreateRequest,
        WorkflowExecutionGetDataRequest, WorkflowExecutionGetRequest, WorkflowSpec,
    },
    core::{
        Binding, BindingData, Identifier, Literal, LiteralCollection, LiteralMap, LiteralType,
        Node, NodeMetadata, OutputReference, Primitive, ResourceType, Scalar, SimpleType,
        TaskMetadata, TaskNode, TaskTemplate, TypedInterface, Variable, VariableMap,
        WorkflowExecutionIdentifier, WorkflowMetadata, WorkflowMetadataDefaults, WorkflowTemplate,
        binding_data, literal, literal_type::Type, node, primitive, scalar, task_node,
        workflow_execution::Phase,
    },
    nesting::MAX_LEVELS,
};
use tonic::Code;

use crate::backend::Backend;

const PROJECT: &str = "flytesnacks";
const DOMAIN: &str = "development";

fn nested_type(levels: usize) -> LiteralType {
    let leaf = LiteralType {
        r#type: Some(Type::Simple(SimpleType::Integer.into())),
        ..LiteralType::default()
    };
    (0..levels).fold(leaf, |inner, _| LiteralType {
        r#type: Some(Type::CollectionType(Box::new(inner))),
        ..LiteralType::default()
    })
}

fn nested_literal(levels: usize) -> Literal {
    let leaf = Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(scalar::Value::Primitive(Primitive {
                value: Some(primitive::Value::Integer(42)),
            })),
        }))),
        ..Literal::default()
    };
    (0..levels).fold(leaf, |inner, _| Literal {
        value: Some(literal::Value::Collection(LiteralCollection {
            literals: vec![inner],
        })),
        ..Literal::default()
    })
}

fn id(kind: ResourceType, levels: usize) -> Identifier {
    Identifier {
        resource_type: kind.into(),
        project: PROJECT.into(),
        domain: DOMAIN.into(),
        name: format!("depth.of_{levels}"),
        version: "1".into(),
        ..Identifier::default()
    }
}

fn variables(name: &str, levels: usize) -> VariableMap {
    let variable = Variable {
        r#type: Some(nested_type(levels)),
        ..Variable::default()
    };
    VariableMap {
        variables: [(name.to_owned(), variable)].into(),
    }
}

fn interface(levels: usize) -> TypedInterface {
    TypedInterface {
        inputs: Some(variables("given", levels)),
        outputs: Some(variables("returned", levels)),
    }
}

fn task(levels: usize) -> TaskCreateRequest {
    TaskCreateRequest {
        id: Some(id(ResourceType::Task, levels)),
        spec: Some(TaskSpec {
            template: Some(TaskTemplate {
                id: Some(id(ResourceType::Task, levels)),
                r#type: "echo".into(),
                metadata: Some(TaskMetadata::default()),
                interface: Some(interface(levels)),
                ..TaskTemplate::default()
            }),
            ..TaskSpec::default()
        }),
    }
}

fn binding(variable: &str, node: &str, output: &str) -> Binding {
    Binding {
        var: variable.into(),
        binding: Some(BindingData {
            value: Some(binding_data::Value::Promise(OutputReference {
                node_id: node.into(),
                var: output.into(),
                ..OutputReference::default()
            })),
            ..BindingData::default()
        }),
    }
}

fn workflow(levels: usize) -> WorkflowCreateRequest {
    let echo = Node {
        id: "n0".into(),
        metadata: Some(NodeMetadata::default()),
        inputs: vec![binding("given", "", "given")],
        target: Some(node::Target::TaskNode(TaskNode {
            reference: Some(task_node::Reference::ReferenceId(id(
                ResourceType::Task,
                levels,
            ))),
            ..TaskNode::default()
        })),
        ..Node::default()
    };
    WorkflowCreateRequest {
        id: Some(id(ResourceType::Workflow, levels)),
        spec: Some(WorkflowSpec {
            template: Some(WorkflowTemplate {
                id: Some(id(ResourceType::Workflow, levels)),
                metadata: Some(WorkflowMetadata::default()),
                interface: Some(interface(levels)),
                nodes: vec![echo],
                outputs: vec![binding("returned", "n0", "returned")],
                metadata_defaults: Some(WorkflowMetadataDefaults::default()),
                ..WorkflowTemplate::default()
            }),
            ..WorkflowSpec::default()
        }),
    }
}

fn execution(levels: usize, literal: Literal) -> ExecutionCreateRequest {
    ExecutionCreateRequest {
        project: PROJECT.into(),
        domain: DOMAIN.into(),
        name: "deep".into(),
        spec: Some(ExecutionSpec {
            launch_plan: Some(id(ResourceType::LaunchPlan, levels)),
            metadata: Some(ExecutionMetadata::default()),
            ..ExecutionSpec::default()
        }),
        inputs: Some(LiteralMap {
            literals: [("given".to_owned(), literal)].into(),
        }),
        ..ExecutionCreateRequest::default()
    }
}

/// On a thread with as much stack as `flyte start` gives its own: prost and serde recurse.
fn run(test: impl Future<Output = ()> + Send + 'static) {
    flyte_platform::cli::runtime().unwrap().block_on(async {
        let mut tests = tokio::task::JoinSet::new();
        tests.spawn(test);
        tests.join_all().await;
    });
}

#[test]
fn an_input_of_a_thousand_levels_comes_out_of_its_workflow() {
    run(async {
        let backend = Backend::start().await;
        let mut client = backend.client().await;
        client.create_task(task(MAX_LEVELS)).await.unwrap();
        client.create_workflow(workflow(MAX_LEVELS)).await.unwrap();
        client
            .create_launch_plan(LaunchPlanCreateRequest {
                id: Some(id(ResourceType::LaunchPlan, MAX_LEVELS)),
                spec: Some(LaunchPlanSpec {
                    workflow_id: Some(id(ResourceType::Workflow, MAX_LEVELS)),
                    ..LaunchPlanSpec::default()
                }),
            })
            .await
            .unwrap();
        let request = execution(MAX_LEVELS, nested_literal(MAX_LEVELS));
        let created = client.create_execution(request).await.unwrap().into_inner();
        let execution: WorkflowExecutionIdentifier = created.id.unwrap();
        backend.ended(&execution.name).await;
        let ended = client
            .get_execution(WorkflowExecutionGetRequest {
                id: Some(execution.clone()),
            })
            .await
            .unwrap()
            .into_inner();
        let closure = ended.closure.unwrap();
        assert_eq!(
            closure.phase(),
            Phase::Succeeded,
            "{:?}",
            closure.output_result
        );
        let data = client
            .get_execution_data(WorkflowExecutionGetDataRequest {
                id: Some(execution),
            })
            .await
            .unwrap()
            .into_inner();
        let expected = nested_literal(MAX_LEVELS);
        assert!(data.full_inputs.unwrap().literals["given"] == expected);
        assert!(data.full_outputs.unwrap().literals["returned"] == expected);
        backend.stop().await;
    });
}

#[test]
fn a_level_more_is_refused_and_the_limit_is_named() {
    run(async {
        let backend = Backend::start().await;
        let mut client = backend.client().await;
        let refusals = [
            client
                .create_task(task(MAX_LEVELS + 1))
                .await
                .map(|_| ())
                .unwrap_err(),
            client
                .create_workflow(workflow(MAX_LEVELS + 1))
                .await
                .map(|_| ())
                .unwrap_err(),
            client
                .create_execution(execution(1, nested_literal(MAX_LEVELS + 1)))
                .await
                .map(|_| ())
                .unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
            assert!(refusal.message().contains("1000 levels"), "{refusal}");
        }
        backend.stop().await;
    });
}
