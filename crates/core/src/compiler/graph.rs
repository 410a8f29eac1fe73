//! Building one graph: the primary workflow or a sub-workflow (spec 08 A5).

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use flyte_idl::{
    core::{
        Alias, BindingData, CompiledWorkflow, Identifier, Node, WorkflowTemplate, binding_data,
        gate_node, node::Target, workflow_node,
    },
    text::{prototext, prototext_or_nil},
};

use super::{
    Compiled, LaunchPlanInterface, Rules,
    edges::{Direction, Edges},
    errors::{Collector, CompileError, CompileErrors},
    interface::{self, Interface, Tasks, Variables},
    vertex::Vertex,
};
use crate::{
    layout::{END_NODE, START_NODE},
    names,
};

/// Most values of bindings that are compared with types in one graph; a request of 4 MiB holds some hundred
/// thousand.
const MAX_WORK: usize = 5_000_000;

/// What all graphs of a compilation use.
pub(super) struct Shared<'s> {
    pub(super) tasks: Tasks,
    pub(super) launch_plans: HashMap<&'s Identifier, &'s LaunchPlanInterface>,
    pub(super) sub_workflows: SubWorkflows,
    pub(super) rules: Rules,
}

/// A reference to a sub-workflow that is not among those given.
pub(super) struct NotSupplied;

/// The sub-workflows of a compilation.
pub(super) struct SubWorkflows {
    templates: Vec<WorkflowTemplate>,
    index: HashMap<Identifier, usize>,
    interfaces: Vec<Option<Interface>>,
    compiled: HashMap<usize, Compiled>,
}

impl SubWorkflows {
    pub(super) fn new(templates: Vec<WorkflowTemplate>, index: HashMap<Identifier, usize>) -> Self {
        let interfaces = templates
            .iter()
            .map(|template| template.interface.as_ref().map(Interface::of))
            .collect();
        Self {
            templates,
            index,
            interfaces,
            compiled: HashMap::new(),
        }
    }

    pub(super) fn template(&self, position: usize) -> Option<WorkflowTemplate> {
        self.templates.get(position).cloned()
    }

    pub(super) fn compiled(&mut self, position: usize, compiled: Compiled) {
        self.compiled.insert(position, compiled);
    }

    /// The interface as it was sent, if it has one.
    pub(super) fn interface(&self, id: &Identifier) -> Result<Option<Interface>, NotSupplied> {
        let position = self.index.get(id).ok_or(NotSupplied)?;
        self.interfaces.get(*position).cloned().ok_or(NotSupplied)
    }

    /// What was wrong with a sub-workflow.
    fn errors(&self, id: &Identifier) -> Result<Option<&CompileErrors>, NotSupplied> {
        let position = self.index.get(id).ok_or(NotSupplied)?;
        Ok(self
            .compiled
            .get(position)
            .and_then(|compiled| compiled.as_ref().err()))
    }

    /// Those that nobody refers to stay as they were sent.
    pub(super) fn into_closure(mut self) -> Vec<CompiledWorkflow> {
        let templates = self.templates.into_iter().enumerate();
        templates
            .map(
                |(position, template)| match self.compiled.remove(&position) {
                    Some(Ok(compiled)) => compiled,
                    _ => CompiledWorkflow {
                        template: Some(template),
                        connections: None,
                    },
                },
            )
            .collect()
    }
}

/// What others may take from a node.
pub(super) struct Provider {
    /// Name in its metadata; `None` without metadata.
    pub(super) name: Option<String>,
    pub(super) outputs: Outputs,
}

/// The outputs of a node under their aliases.
pub(super) enum Outputs {
    /// By name; empty when the node's interface is not known.
    Known(Arc<Variables>),
    /// The aliases contradict each other or the interface.
    Broken,
}

/// One graph in the making.
pub(super) struct Graph<'g, 's> {
    pub(super) shared: &'g mut Shared<'s>,
    pub(super) providers: BTreeMap<String, Provider>,
    pub(super) edges: Edges,
    pub(super) errors: Collector,
    /// The top-level node that is being looked at.
    pub(super) around: String,
    /// How many more values may be compared with types.
    pub(super) work_left: Cell<usize>,
}

/// Checks a template and connects its nodes.
pub(super) fn compile(mut template: WorkflowTemplate, shared: &mut Shared<'_>) -> Compiled {
    if template.nodes.is_empty() {
        let id = prototext_or_nil(template.id.as_ref());
        return Err(CompileError::no_nodes_found(&id).into());
    }
    let mut graph = Graph {
        shared,
        providers: BTreeMap::new(),
        edges: Edges::default(),
        errors: Collector::default(),
        around: String::new(),
        work_left: Cell::new(MAX_WORK),
    };
    let interface = template.interface.get_or_insert_default();
    interface::complete(interface);
    let own = Interface::of(interface);
    own.report(START_NODE, &mut graph.errors);
    let mark = Collector::default().mark();
    if !graph.errors.clean_since(mark) {
        return Err(graph.errors.into_errors());
    }
    graph.build(&mut template, &own);
    let Graph { edges, errors, .. } = graph;
    errors.finish(CompiledWorkflow {
        template: Some(template),
        connections: Some(edges.into_connections()),
    })
}

impl Graph<'_, '_> {
    fn build(&mut self, template: &mut WorkflowTemplate, own: &Interface) {
        self.provide(START_NODE, None, Arc::clone(&own.outputs_of_start()));
        self.provide(END_NODE, None, Arc::default());
        let (mut kept, mut dropped) = self.vertices(std::mem::take(&mut template.nodes));
        self.infer_all(&mut kept);
        for vertex in kept.iter_mut().chain(&mut dropped) {
            // Nobody will read what else is wrong.
            if self.errors.is_full() {
                return;
            }
            vertex.id().clone_into(&mut self.around);
            self.validate(vertex);
        }
        let mut end = Node {
            id: END_NODE.to_owned(),
            inputs: std::mem::take(&mut template.outputs),
            ..Default::default()
        };
        for vertex in &mut kept {
            if self.errors.is_full() {
                return;
            }
            vertex.id().clone_into(&mut self.around);
            self.explicit_edges(vertex);
            self.bind(vertex, Direction::Both);
        }
        END_NODE.clone_into(&mut self.around);
        self.check_bindings(&mut end, &own.outputs, Direction::Both);
        template.outputs.clone_from(&end.inputs);
        if let Some(node) = template.failure_node.take() {
            let mut vertex = Vertex::new(node);
            vertex.id().clone_into(&mut self.around);
            self.validate(&mut vertex);
            self.bind(&mut vertex, Direction::Upstream);
            template.failure_node = Some(vertex.into_node());
        }
        let mut ids: BTreeSet<String> = kept.iter().map(|vertex| vertex.id().to_owned()).collect();
        for id in &ids {
            self.edges.adopt_orphan(id);
        }
        ids.extend([START_NODE.to_owned(), END_NODE.to_owned()]);
        if let Some(problem) = self.edges.problem(&ids) {
            self.errors.add(problem);
        }
        let start = Node {
            id: START_NODE.to_owned(),
            ..Default::default()
        };
        template.nodes = [start, end]
            .into_iter()
            .chain(kept.into_iter().map(Vertex::into_node))
            .collect();
    }

    fn provide(&mut self, id: &str, name: Option<String>, outputs: Arc<Variables>) {
        let outputs = Outputs::Known(outputs);
        self.providers
            .insert(id.to_owned(), Provider { name, outputs });
    }

    /// The nodes of the graph, and those whose id is used already. The reference checks the latter and leaves them out; where
    /// they are errors, they are not looked at any further.
    fn vertices(&mut self, nodes: Vec<Node>) -> (Vec<Vertex>, Vec<Vertex>) {
        let mut seen = HashSet::from([START_NODE.to_owned(), END_NODE.to_owned()]);
        let distinct: HashSet<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        let (mut kept, mut dropped) = (Vec::with_capacity(distinct.len()), Vec::new());
        for node in nodes {
            if seen.insert(node.id.clone()) {
                kept.push(Vertex::new(node));
            } else {
                match self.shared.rules {
                    Rules::Strict => self.errors.add(CompileError::duplicate_id(&node.id)),
                    Rules::Reference => dropped.push(Vertex::new(node)),
                }
            }
        }
        (kept, dropped)
    }

    /// Finds all interfaces. Those of branches and approvals come from what is bound to them, so what they
    /// refer to goes first; the reference only knows what comes earlier in the list (spec 08 A18, 8).
    fn infer_all(&mut self, vertices: &mut [Vertex]) {
        for position in inference_order(vertices) {
            let Some(vertex) = vertices.get_mut(position) else {
                continue;
            };
            if self.errors.is_full() {
                return;
            }
            vertex.id().clone_into(&mut self.around);
            let interface = self.infer(vertex);
            let outputs = match interface {
                Some(interface) => self.aliased(vertex, &interface),
                None => Outputs::Known(Arc::default()),
            };
            let name = vertex
                .node
                .metadata
                .as_ref()
                .map(|metadata| metadata.name.clone());
            self.providers
                .insert(vertex.id().to_owned(), Provider { name, outputs });
        }
    }

    /// The outputs of a node under their aliases (spec 08 A8.5).
    fn aliased(&mut self, vertex: &Vertex, interface: &Interface) -> Outputs {
        if vertex.node.output_aliases.is_empty() {
            return Outputs::Known(Arc::clone(&interface.outputs));
        }
        let mark = self.errors.mark();
        let mut aliases = BTreeMap::new();
        for Alias { var, alias } in &vertex.node.output_aliases {
            if aliases.contains_key(var) {
                self.errors
                    .add(CompileError::duplicate_alias(vertex.id(), alias));
            } else {
                aliases.insert(var.clone(), alias.clone());
            }
        }
        let outputs = interface
            .outputs
            .iter()
            .map(|(name, variable)| {
                let name = aliases.remove(name).unwrap_or_else(|| name.clone());
                (name, variable.clone())
            })
            .collect();
        for alias in aliases.into_values() {
            self.errors
                .add(CompileError::parameter_not_bound(vertex.id(), &alias));
        }
        if self.errors.clean_since(mark) {
            Outputs::Known(Arc::new(outputs))
        } else {
            Outputs::Broken
        }
    }

    /// Checks one node, those inside it, and what it runs (spec 08 A6).
    pub(super) fn validate(&mut self, vertex: &mut Vertex) {
        let id = vertex.id().to_owned();
        if id.is_empty() {
            self.errors
                .add(CompileError::value_required("<node>", "Id"));
        } else if !self.names_a_folder(&id) {
            self.errors.add(CompileError::invalid_node_id(&id));
        }
        if id == START_NODE || id == END_NODE {
            return;
        }
        if let Some(interface) = self.infer(vertex) {
            self.aliased(vertex, &interface);
        }
        vertex.node.upstream_node_ids.sort_unstable();
        self.validate_target(vertex);
    }

    /// Whether a node of this id has a folder that it alone writes to and that its pods find: they take what is in a URL
    /// for the key as it is. Go registers others, and their tasks fail.
    fn names_a_folder(&self, id: &str) -> bool {
        match self.shared.rules {
            Rules::Strict => names::is_plain_path_segment(id),
            Rules::Reference => names::is_path_segment(id),
        }
    }

    /// Checks what a node runs, beyond what was found with its interface.
    pub(super) fn validate_target(&mut self, vertex: &mut Vertex) {
        match vertex.target() {
            Some(Target::BranchNode(_)) => self.validate_branch(vertex),
            Some(Target::WorkflowNode(workflow)) => {
                if let Some(workflow_node::Reference::SubWorkflowRef(reference)) =
                    &workflow.reference
                {
                    match self.shared.sub_workflows.errors(reference) {
                        Ok(Some(errors)) => self.errors.add_all(errors),
                        Ok(None) => {}
                        Err(NotSupplied) => {
                            self.errors.add(CompileError::workflow_reference_not_found(
                                vertex.id(),
                                &prototext(reference),
                            ));
                        }
                    }
                }
            }
            Some(Target::ArrayNode(_)) if self.shared.rules == Rules::Strict => {
                self.validate_inner(vertex);
            }
            // What a task or gate needs was found with its interface.
            Some(Target::TaskNode(_) | Target::GateNode(_) | Target::ArrayNode(_)) | None => {}
        }
    }

    fn explicit_edges(&mut self, vertex: &Vertex) {
        if vertex.interface.is_none() {
            return;
        }
        for upstream in &vertex.node.upstream_node_ids {
            let exists = upstream.is_empty() || self.providers.contains_key(upstream);
            if !exists && self.shared.rules == Rules::Strict {
                self.errors.add(CompileError::node_reference_not_found(
                    vertex.id(),
                    upstream,
                ));
                continue;
            }
            self.edges.add(upstream, vertex.id(), Direction::Both);
        }
    }

    /// Checks the bindings of a node whose interface is known.
    pub(super) fn bind(&mut self, vertex: &mut Vertex, direction: Direction) {
        if let Some(interface) = &vertex.interface {
            let inputs = Arc::clone(&interface.inputs);
            self.check_bindings(&mut vertex.node, &inputs, direction);
        }
    }
}

impl Interface {
    /// What the start node gives: the inputs of the workflow.
    fn outputs_of_start(&self) -> Arc<Variables> {
        Arc::clone(&self.inputs)
    }
}

/// Positions of nodes such that what a branch or an approval refers to comes before it, and else as they are.
fn inference_order(vertices: &[Vertex]) -> Vec<usize> {
    let positions: HashMap<&str, usize> = vertices
        .iter()
        .enumerate()
        .map(|(position, vertex)| (vertex.id(), position))
        .collect();
    let needs = |position: usize| {
        let mut promised = Vec::new();
        if let Some(vertex) = vertices.get(position) {
            promised_to(vertex, &mut promised);
        }
        promised
            .into_iter()
            .filter_map(|id| positions.get(id).copied())
            .collect::<Vec<_>>()
            .into_iter()
    };
    let mut order = Vec::with_capacity(vertices.len());
    let mut begun = HashSet::new();
    for position in 0..vertices.len() {
        if !begun.insert(position) {
            continue;
        }
        let mut path = vec![(position, needs(position))];
        while let Some((current, next)) = path.last_mut() {
            match next.next() {
                // One that has begun and not ended is part of a circle; it is reported as not found.
                Some(next) if begun.insert(next) => path.push((next, needs(next))),
                Some(_) => {}
                None => {
                    order.push(*current);
                    path.pop();
                }
            }
        }
    }
    order
}

/// The nodes that must be known before the interface of a branch or an approval can be.
fn promised_to<'a>(vertex: &'a Vertex, promised: &mut Vec<&'a str>) {
    let from_bindings = match vertex.target() {
        Some(Target::BranchNode(_)) => true,
        Some(Target::GateNode(gate)) => {
            matches!(gate.condition, Some(gate_node::Condition::Approve(_)))
        }
        _ => false,
    };
    if from_bindings {
        let mut values: Vec<&BindingData> = vertex
            .node
            .inputs
            .iter()
            .filter_map(|binding| binding.binding.as_ref())
            .collect();
        while let Some(value) = values.pop() {
            match &value.value {
                Some(binding_data::Value::Promise(promise)) => promised.push(&promise.node_id),
                Some(binding_data::Value::Collection(list)) => values.extend(&list.bindings),
                Some(binding_data::Value::Map(map)) => values.extend(map.bindings.values()),
                _ => {}
            }
        }
    }
    let inner = vertex.cases.iter().map(|case| &case.vertex);
    for vertex in inner.chain(vertex.inner.as_deref()) {
        promised_to(vertex, promised);
    }
}
