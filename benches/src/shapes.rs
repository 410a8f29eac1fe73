//! The workflows that are measured, and how they are registered.

use anyhow::Context as _;
use flyte_idl::{
    admin::{
        LaunchPlanCreateRequest, LaunchPlanSpec, TaskCreateRequest, TaskSpec,
        WorkflowCreateRequest, WorkflowSpec,
    },
    core::{
        Container, Identifier, Node, NodeMetadata, ResourceType, Resources, RetryStrategy,
        TaskMetadata, TaskNode, TaskTemplate, TypedInterface, WorkflowMetadata,
        WorkflowMetadataDefaults, WorkflowTemplate, node, task_node, task_template,
    },
    service::admin_service_client::AdminServiceClient,
};
use tonic::transport::Channel;

/// The project of all benches.
pub(crate) const PROJECT: &str = "flytesnacks";
/// The domain of all benches.
pub(crate) const DOMAIN: &str = "development";
/// Where their pods are.
pub(crate) const NAMESPACE: &str = "flytesnacks-development";

/// A graph of equal tasks: `depth` layers of `width`, each task after all of the layer before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// What `--shape` calls it.
    pub(crate) name: &'static str,
    /// What the table calls it.
    pub(crate) title: &'static str,
    /// Tasks in a layer.
    pub(crate) width: usize,
    /// Layers.
    pub(crate) depth: usize,
    /// What Go Flyte took on this shape, measured with a real API server.
    pub(crate) go: &'static str,
}

/// All shapes, as they were measured with Go Flyte.
pub(crate) const SHAPES: [Shape; 7] = [
    shape("one", "one task", 1, 1, "263 ms, 10 writes"),
    shape("chain", "chain of 10", 1, 10, "1.27 s, 50 writes"),
    shape("parallel", "50 parallel", 50, 1, "4.2 s"),
    shape("layers", "5x5 layers", 5, 5, "3.1 s"),
    shape("layers-6", "6 layers of 3", 3, 6, "2.2 s"),
    shape("layers-9", "9 layers of 3", 3, 9, "6.8 s"),
    shape("layers-12", "12 layers of 3", 3, 12, "106 s"),
];

/// The shape of load: one task.
pub(crate) const ONE: Shape = shape("one", "one task", 1, 1, "");

const fn shape(
    name: &'static str,
    title: &'static str,
    width: usize,
    depth: usize,
    go: &'static str,
) -> Shape {
    Shape {
        name,
        title,
        width,
        depth,
        go,
    }
}

impl Shape {
    /// The launch plan of this shape.
    pub(crate) fn plan(&self) -> Identifier {
        self.id(ResourceType::LaunchPlan)
    }

    fn id(&self, kind: ResourceType) -> Identifier {
        let name = match kind {
            ResourceType::Task => "bench.task".to_owned(),
            _ => format!("bench.{}", self.name),
        };
        Identifier {
            resource_type: kind.into(),
            project: PROJECT.into(),
            domain: DOMAIN.into(),
            name,
            version: "1".into(),
            ..Identifier::default()
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let name = |layer: usize, index: usize| format!("n{layer}-{index}");
        let mut nodes = Vec::new();
        for layer in 0..self.depth {
            let before: Vec<String> = match layer.checked_sub(1) {
                None => Vec::new(),
                Some(previous) => (0..self.width).map(|index| name(previous, index)).collect(),
            };
            nodes.extend((0..self.width).map(|index| Node {
                id: name(layer, index),
                metadata: Some(NodeMetadata {
                    name: name(layer, index),
                    retries: Some(RetryStrategy::default()),
                    ..NodeMetadata::default()
                }),
                upstream_node_ids: before.clone(),
                target: Some(node::Target::TaskNode(TaskNode {
                    reference: Some(task_node::Reference::ReferenceId(
                        self.id(ResourceType::Task),
                    )),
                    ..TaskNode::default()
                })),
                ..Node::default()
            }));
        }
        nodes
    }

    fn task(&self) -> TaskTemplate {
        TaskTemplate {
            id: Some(self.id(ResourceType::Task)),
            r#type: "container".into(),
            metadata: Some(TaskMetadata {
                retries: Some(RetryStrategy::default()),
                ..TaskMetadata::default()
            }),
            interface: Some(TypedInterface::default()),
            target: Some(task_template::Target::Container(Container {
                image: "bench".into(),
                args: vec!["true".into()],
                resources: Some(Resources::default()),
                ..Container::default()
            })),
            ..TaskTemplate::default()
        }
    }

    fn workflow(&self) -> WorkflowTemplate {
        WorkflowTemplate {
            id: Some(self.id(ResourceType::Workflow)),
            metadata: Some(WorkflowMetadata::default()),
            interface: Some(TypedInterface::default()),
            nodes: self.nodes(),
            metadata_defaults: Some(WorkflowMetadataDefaults::default()),
            ..WorkflowTemplate::default()
        }
    }
}

/// Registers task, workflow and launch plan of each shape with admin.
pub(crate) async fn register(channel: Channel, shapes: &[Shape]) -> anyhow::Result<()> {
    let mut admin = AdminServiceClient::new(channel);
    let one = shapes.first().context("no shape is chosen")?;
    admin
        .create_task(TaskCreateRequest {
            id: Some(one.id(ResourceType::Task)),
            spec: Some(TaskSpec {
                template: Some(one.task()),
                ..TaskSpec::default()
            }),
        })
        .await
        .context("the task cannot be registered")?;
    for shape in shapes {
        admin
            .create_workflow(WorkflowCreateRequest {
                id: Some(shape.id(ResourceType::Workflow)),
                spec: Some(WorkflowSpec {
                    template: Some(shape.workflow()),
                    ..WorkflowSpec::default()
                }),
            })
            .await
            .with_context(|| format!("workflow {:?} cannot be registered", shape.name))?;
        admin
            .create_launch_plan(LaunchPlanCreateRequest {
                id: Some(shape.plan()),
                spec: Some(LaunchPlanSpec {
                    workflow_id: Some(shape.id(ResourceType::Workflow)),
                    ..LaunchPlanSpec::default()
                }),
            })
            .await
            .with_context(|| format!("launch plan {:?} cannot be registered", shape.name))?;
    }
    Ok(())
}
