//! What a dynamic task makes, as its behaviour says: `makes(A,B>C)` has A beside B, and C after B; it hands on what A brings.
//!
//! | part | node |
//! |---|---|
//! | `makes(…)` | a dynamic task |
//! | `sub(…)` | a sub-workflow of such parts |
//! | `launch:PLAN` | a launch plan node (see the children of the simulation) |
//! | `absent` | a task that is not there |
//! | `quick:PART` | a task that may take two seconds |
//! | anything else | a task that ends so, in up to three attempts |

use flyte_idl::{
    admin::{LaunchPlan, LaunchPlanClosure},
    core::{
        Binding, BindingData, Container, DynamicJobSpec, Identifier, LiteralType, Node,
        NodeMetadata, OutputReference, Parameter, ParameterMap, Primitive, ResourceType, Resources,
        RetryStrategy, Scalar, SimpleType, TaskMetadata, TaskNode, TaskTemplate, TypedInterface,
        Variable, VariableMap, WorkflowMetadata, WorkflowMetadataDefaults, WorkflowNode,
        WorkflowTemplate, binding_data, literal_type, node::Target, primitive, scalar, task_node,
        task_template, workflow_node,
    },
};

use tonic::Status;

/// Whether a behaviour is that of a dynamic task.
pub(super) fn is_dynamic(behaviour: &str) -> bool {
    behaviour.starts_with("makes(")
}

/// How many attempts what a behaviour says may take, all levels together.
pub(super) fn attempts(behaviour: &str) -> u64 {
    let parts = behaviour.matches(['(', ',', '>']).count();
    4 * u64::try_from(parts).unwrap_or(u64::MAX)
}

/// What a dynamic task writes to `futures.pb`.
pub(super) fn of(behaviour: &str) -> DynamicJobSpec {
    let mut made = DynamicJobSpec::default();
    let parts = inside(behaviour, "makes").expect("the behaviour is that of a dynamic task");
    let (nodes, outputs) = nodes(parts, &mut made);
    made.nodes = nodes;
    made.outputs = outputs;
    made
}

/// The name of a task or workflow that does what `behaviour` says.
pub(super) fn name_of(behaviour: &str) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    let readable: String = behaviour.chars().map(plain).collect();
    if readable == behaviour || !behaviour.contains('(') {
        return format!("task-{}", behaviour.replace(':', "-"));
    }
    // Different ones must not have one name.
    let sum = behaviour
        .bytes()
        .fold(7_u64, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
    format!("task-makes-{sum:x}")
}

fn inside<'a>(part: &'a str, kind: &str) -> Option<&'a str> {
    part.strip_prefix(kind)?
        .strip_prefix('(')?
        .strip_suffix(')')
}

/// Parts that a separator stands between, outside of parentheses.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if letter == separator && depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn nodes(parts: &str, made: &mut DynamicJobSpec) -> (Vec<Node>, Vec<Binding>) {
    let mut nodes = Vec::new();
    let mut first = None;
    for chain in split(parts, ',') {
        let mut before = None;
        for part in split(chain, '>') {
            let id = format!("dn{}", nodes.len());
            nodes.push(node(&id, part, before.as_deref(), made));
            before = Some(id);
        }
        first = first.or(before);
    }
    let end = first.expect("there is a part");
    (nodes, vec![promise("o0", &end)])
}

fn promise(var: &str, node: &str) -> Binding {
    bound(
        var,
        binding_data::Value::Promise(OutputReference {
            node_id: node.into(),
            var: "o0".into(),
            ..OutputReference::default()
        }),
    )
}

fn bound(var: &str, value: binding_data::Value) -> Binding {
    Binding {
        var: var.into(),
        binding: Some(BindingData {
            value: Some(value),
            ..BindingData::default()
        }),
    }
}

fn node(id: &str, part: &str, before: Option<&str>, made: &mut DynamicJobSpec) -> Node {
    let is_plan = part.starts_with("launch:");
    let var = if is_plan { "o0" } else { "n" };
    let input = match before {
        Some(before) => promise(var, before),
        None => bound(
            var,
            binding_data::Value::Scalar(Scalar {
                value: Some(scalar::Value::Primitive(Primitive {
                    value: Some(primitive::Value::Integer(5)),
                })),
            }),
        ),
    };
    let takes = part.starts_with("quick:").then_some(2);
    let part = part.strip_prefix("quick:").unwrap_or(part);
    let target = if let Some(plan) = part.strip_prefix("launch:") {
        let reference =
            workflow_node::Reference::LaunchplanRef(id_of(ResourceType::LaunchPlan, plan));
        workflow(reference)
    } else if let Some(parts) = inside(part, "sub") {
        let id = id_of(ResourceType::Workflow, &name_of(part));
        let (nodes, outputs) = nodes(parts, made);
        made.subworkflows.push(WorkflowTemplate {
            id: Some(id.clone()),
            metadata: Some(WorkflowMetadata::default()),
            interface: Some(interface()),
            nodes,
            outputs,
            metadata_defaults: Some(WorkflowMetadataDefaults::default()),
            ..WorkflowTemplate::default()
        });
        workflow(workflow_node::Reference::SubWorkflowRef(id))
    } else {
        let id = id_of(ResourceType::Task, &name_of(part));
        if part != "absent" && !made.tasks.iter().any(|task| task.id.as_ref() == Some(&id)) {
            made.tasks.push(task(id.clone(), part));
        }
        Target::TaskNode(TaskNode {
            reference: Some(task_node::Reference::ReferenceId(id)),
            ..TaskNode::default()
        })
    };
    let retries = matches!(target, Target::TaskNode(_)).then_some(RetryStrategy { retries: 2 });
    Node {
        id: id.into(),
        metadata: Some(NodeMetadata {
            name: id.into(),
            retries,
            timeout: takes.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            ..NodeMetadata::default()
        }),
        inputs: vec![input],
        upstream_node_ids: before.map(str::to_owned).into_iter().collect(),
        target: Some(target),
        ..Node::default()
    }
}

fn workflow(reference: workflow_node::Reference) -> Target {
    Target::WorkflowNode(WorkflowNode {
        reference: Some(reference),
    })
}

fn id_of(kind: ResourceType, name: &str) -> Identifier {
    Identifier {
        resource_type: kind.into(),
        project: "project".into(),
        domain: "development".into(),
        name: name.into(),
        version: "v".into(),
        ..Identifier::default()
    }
}

fn integers(name: &str) -> VariableMap {
    let kind = LiteralType {
        r#type: Some(literal_type::Type::Simple(SimpleType::Integer.into())),
        ..LiteralType::default()
    };
    let variable = Variable {
        r#type: Some(kind),
        ..Variable::default()
    };
    VariableMap {
        variables: [(name.to_owned(), variable)].into(),
    }
}

/// A launch plan of the simulation: what it takes is what it brings. There is none of the name `absent`.
pub(super) fn launch_plan(id: Option<Identifier>) -> Result<LaunchPlan, Status> {
    if id.as_ref().is_some_and(|id| id.name == "absent") {
        return Err(Status::not_found("no such launch plan"));
    }
    let variables = integers("o0");
    let parameters = variables.variables.iter().map(|(name, variable)| {
        let parameter = Parameter {
            var: Some(variable.clone()),
            ..Parameter::default()
        };
        (name.clone(), parameter)
    });
    Ok(LaunchPlan {
        id,
        closure: Some(LaunchPlanClosure {
            expected_inputs: Some(ParameterMap {
                parameters: parameters.collect(),
            }),
            expected_outputs: Some(variables),
            ..LaunchPlanClosure::default()
        }),
        ..LaunchPlan::default()
    })
}

fn interface() -> TypedInterface {
    TypedInterface {
        inputs: Some(integers("n")),
        outputs: Some(integers("o0")),
    }
}

fn task(id: Identifier, behaviour: &str) -> TaskTemplate {
    TaskTemplate {
        id: Some(id),
        r#type: "container".into(),
        metadata: Some(TaskMetadata {
            retries: Some(RetryStrategy::default()),
            ..TaskMetadata::default()
        }),
        interface: Some(interface()),
        target: Some(task_template::Target::Container(Container {
            image: "i".into(),
            args: vec![
                behaviour.into(),
                "{{.outputPrefix}}".into(),
                "{{.input}}".into(),
            ],
            resources: Some(Resources::default()),
            ..Container::default()
        })),
        ..TaskTemplate::default()
    }
}
