//! From a compiled closure to the first version of the resource (spec 08 A15, 03 §4.1-4.6).

mod node;

use std::collections::BTreeMap;

use flyte_core::{duration, types};
use flyte_idl::{
    core::{
        CompiledWorkflow, CompiledWorkflowClosure, LiteralMap, TaskTemplate,
        WorkflowExecutionIdentifier, workflow_metadata::OnFailurePolicy,
    },
    text::prototext,
};

use crate::{Connections, FlyteWorkflow, NodeDefaults, NodeSpec, Proto, WorkflowSpec, labels};

/// Why a closure cannot become a resource.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something that must be there is not.
    #[error("Code: ValueRequired, Node Id: {node}, Description: Value required [{value}].")]
    ValueRequired {
        /// The node, or `root`.
        node: String,
        /// What is missing.
        value: &'static str,
    },
    /// A task node names a task that the closure does not have.
    #[error(
        "Code: TaskReferenceNotFound, Node Id: {node}, Description: Referenced Task [{task}] not found."
    )]
    TaskNotFound {
        /// The id of the node.
        node: String,
        /// The task's key.
        task: String,
    },
    /// Two nodes of different content have the same id.
    #[error(
        "Code: ValueCollision, Node Id: {node}, Description: The node id [{node}] is defined twice."
    )]
    Collision {
        /// The id of the node.
        node: String,
    },
    /// The closure was never compiled, or has no way in.
    #[error("Code: WorkflowBuildError, Node Id: {node}, Description: {reason}")]
    Malformed {
        /// The node, or `root`.
        node: String,
        /// What is wrong.
        reason: String,
    },
}

impl BuildError {
    fn required(node: &str, value: &'static str) -> Self {
        Self::ValueRequired {
            node: node.to_owned(),
            value,
        }
    }

    fn malformed(node: &str, reason: impl Into<String>) -> Self {
        Self::Malformed {
            node: node.to_owned(),
            reason: reason.into(),
        }
    }
}

/// The parts of the resource that come from the closure alone; what an engine restores when the closure was
/// offloaded.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The nodes of the workflow and the edges between them.
    pub spec: WorkflowSpec,
    /// Sub-workflows by key.
    pub sub_workflows: BTreeMap<String, WorkflowSpec>,
    /// Task templates by key.
    pub tasks: BTreeMap<String, Proto<TaskTemplate>>,
    /// From the workflow's metadata.
    pub node_defaults: NodeDefaults,
}

/// Builds graph and tasks of a closure, types stripped of what the engine does not read.
pub fn graph(closure: &CompiledWorkflowClosure) -> Result<Graph, BuildError> {
    let primary = closure
        .primary
        .as_ref()
        .ok_or_else(|| BuildError::required("root", "wfClosure"))?;
    let mut tasks = BTreeMap::new();
    for task in &closure.tasks {
        let mut template = task
            .template
            .clone()
            .ok_or_else(|| BuildError::required("root", "task template"))?;
        if let Some(interface) = &mut template.interface {
            types::strip(interface);
        }
        let key = template.id.as_ref().map(prototext).unwrap_or_default();
        tasks.insert(key, Proto(template));
    }
    let builder = Builder { tasks: &tasks };
    let spec = builder.workflow(primary)?;
    let mut sub_workflows = BTreeMap::new();
    for sub in &closure.sub_workflows {
        let key = sub
            .template
            .as_ref()
            .and_then(|template| template.id.as_ref())
            .map(prototext)
            .unwrap_or_default();
        // Supplied but never referenced: kept in the closure as sent, of no use to the engine.
        if sub.connections.is_none() {
            continue;
        }
        sub_workflows.insert(key, builder.workflow(sub)?);
    }
    let interruptible = primary
        .template
        .as_ref()
        .and_then(|template| template.metadata_defaults.as_ref())
        .is_some_and(|defaults| defaults.interruptible);
    Ok(Graph {
        spec,
        sub_workflows,
        tasks,
        node_defaults: NodeDefaults { interruptible },
    })
}

/// Builds the undecorated resource. With an execution it is named after it; without, it gets a `generateName`.
///
/// Inputs must have been checked against the interface: admin does so when an execution is created.
pub fn build(
    closure: &CompiledWorkflowClosure,
    inputs: Option<LiteralMap>,
    execution: Option<&WorkflowExecutionIdentifier>,
    namespace: &str,
) -> Result<FlyteWorkflow, BuildError> {
    let graph = graph(closure)?;
    let template = closure
        .primary
        .as_ref()
        .and_then(|primary| primary.template.as_ref());
    let has_inputs = template
        .and_then(|template| template.interface.as_ref()?.inputs.as_ref())
        .is_some_and(|inputs| !inputs.variables.is_empty());
    if inputs.is_none() && has_inputs {
        return Err(BuildError::required("root", "inputs"));
    }
    let workflow_id = template
        .and_then(|template| template.id.clone())
        .unwrap_or_default();
    let (label, project, domain) = match execution {
        Some(execution) => (
            execution.name.clone(),
            &execution.project,
            &execution.domain,
        ),
        None => {
            let parts = [&workflow_id.project, &workflow_id.domain, &workflow_id.name];
            let joined = parts
                .iter()
                .filter(|part| !part.is_empty())
                .map(|part| part.as_str())
                .collect::<Vec<_>>()
                .join("-");
            let end = joined.floor_char_boundary(32);
            (
                joined.get(..end).unwrap_or_default().to_owned(),
                &workflow_id.project,
                &workflow_id.domain,
            )
        }
    };
    let labels = labels(&label, project, domain, &graph.spec.id);
    let mut resource = FlyteWorkflow::new(namespace, &label, graph.spec);
    if execution.is_none() {
        resource.metadata.name = None;
        resource.metadata.generate_name = Some(format!("{label}-"));
    }
    resource.metadata.labels = Some(labels);
    resource.tasks = Some(graph.tasks);
    resource.sub_workflows = graph.sub_workflows;
    resource.node_defaults = graph.node_defaults;
    resource.inputs = Some(Proto(inputs.unwrap_or_default()));
    Ok(resource)
}

struct Builder<'a> {
    tasks: &'a BTreeMap<String, Proto<TaskTemplate>>,
}

impl Builder<'_> {
    fn workflow(&self, compiled: &CompiledWorkflow) -> Result<WorkflowSpec, BuildError> {
        let template = compiled
            .template
            .as_ref()
            .ok_or_else(|| BuildError::required("root", "template"))?;
        let connections = compiled
            .connections
            .as_ref()
            .filter(|connections| !connections.downstream.is_empty() && !template.nodes.is_empty())
            .ok_or_else(|| {
                BuildError::malformed(
                    "root",
                    "the closure has no nodes or no edges; it was never compiled",
                )
            })?;
        if connections
            .downstream
            .get("start-node")
            .is_none_or(|set| set.ids.is_empty())
        {
            return Err(BuildError::malformed(
                "start-node",
                "no node follows the start node",
            ));
        }
        let mut nodes = BTreeMap::new();
        for node in &template.nodes {
            for spec in self.node(node)? {
                insert(&mut nodes, spec)?;
            }
        }
        let on_failure = match &template.failure_node {
            Some(node) => self.node(node)?.into_iter().next().map(Box::new),
            None => None,
        };
        let mut interface = template.interface.clone();
        if let Some(interface) = &mut interface {
            types::strip(interface);
        }
        let id = template.id.clone().unwrap_or_default();
        let lists = |edges: &BTreeMap<String, flyte_idl::core::connection_set::IdList>| {
            edges
                .iter()
                .map(|(id, list)| (id.clone(), list.ids.clone()))
                .collect::<BTreeMap<_, _>>()
        };
        let edges = Connections {
            downstream: lists(&connections.downstream),
            upstream: lists(&connections.upstream),
        };
        Ok(WorkflowSpec {
            id: format!("{}:{}:{}", id.project, id.domain, id.name),
            nodes,
            connections: edges.downstream.clone(),
            edges,
            on_failure,
            outputs: Proto(
                interface
                    .and_then(|interface| interface.outputs)
                    .unwrap_or_default(),
            ),
            output_bindings: template.outputs.iter().cloned().map(Proto).collect(),
            on_failure_policy: template.metadata.as_ref().map_or(
                OnFailurePolicy::FailImmediately,
                flyte_idl::core::WorkflowMetadata::on_failure,
            ),
        })
    }
}

fn insert(nodes: &mut BTreeMap<String, NodeSpec>, spec: NodeSpec) -> Result<(), BuildError> {
    match nodes.get(&spec.id) {
        Some(known) if *known != spec => Err(BuildError::Collision { node: spec.id }),
        Some(_) => Ok(()),
        None => {
            nodes.insert(spec.id.clone(), spec);
            Ok(())
        }
    }
}

fn go_duration(
    node: &str,
    field: &prost_types::Duration,
    factor: i64,
) -> Result<String, BuildError> {
    field
        .seconds
        .checked_mul(1_000_000_000)
        .and_then(|nanos| nanos.checked_add(i64::from(field.nanos)))
        .and_then(|nanos| nanos.checked_mul(factor))
        .map(duration::format)
        .ok_or_else(|| {
            BuildError::malformed(node, format!("{node}:metadata:timeout is out of range"))
        })
}

#[cfg(test)]
mod tests;
