//! What a node takes and gives, found from what it runs (spec 08 A6.1).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use flyte_idl::{
    core::{
        CompiledTask, GateNode, Identifier, TaskNode, TypedInterface, Variable, VariableMap,
        WorkflowNode, gate_node, node::Target, task_node, workflow_node,
    },
    text::{prototext, prototext_or_nil},
};

use super::{
    LaunchPlanInterface,
    array::Wrap,
    edges::Direction,
    errors::{Collector, CompileError},
    graph::{Graph, NotSupplied},
    vertex::Vertex,
};
pub(super) type Variables = BTreeMap<String, Variable>;

/// Inputs and outputs by name; shared by all nodes that run the same thing.
#[derive(Debug, Clone, Default)]
pub(super) struct Interface {
    pub(super) inputs: Arc<Variables>,
    pub(super) outputs: Arc<Variables>,
    flaws: Flaws,
}

/// What is wrong with the variables of an interface, to be told at each node that has it.
#[derive(Debug, Clone, Copy, Default)]
struct Flaws {
    unnamed: bool,
    untyped: bool,
}

impl Interface {
    pub(super) fn new(inputs: Variables, outputs: Variables) -> Self {
        let mut flaws = Flaws::default();
        for (name, variable) in inputs.iter().chain(&outputs) {
            flaws.unnamed |= name.is_empty();
            flaws.untyped |= variable.r#type.is_none();
        }
        Self {
            inputs: Arc::new(inputs),
            outputs: Arc::new(outputs),
            flaws,
        }
    }

    pub(super) fn of(interface: &TypedInterface) -> Self {
        let variables = |map: &Option<VariableMap>| {
            map.as_ref()
                .map(|map| map.variables.clone())
                .unwrap_or_default()
        };
        Self::new(variables(&interface.inputs), variables(&interface.outputs))
    }

    pub(super) fn report(&self, node: &str, errors: &mut Collector) {
        if self.flaws.unnamed {
            errors.add(CompileError::value_required(node, "paramName"));
        }
        if self.flaws.untyped {
            errors.add(CompileError::value_required(node, "param.Type"));
        }
    }
}

/// Makes absent parts of an interface present and empty, as they are stored and hashed (spec 08 A5.3).
pub(super) fn complete(interface: &mut TypedInterface) {
    interface.inputs.get_or_insert_default();
    interface.outputs.get_or_insert_default();
}

/// The tasks of a closure.
pub(super) struct Tasks {
    compiled: Vec<CompiledTask>,
    index: HashMap<Identifier, usize>,
    interfaces: HashMap<usize, Interface>,
}

impl Tasks {
    pub(super) fn new(tasks: Vec<CompiledTask>) -> Self {
        let index = tasks
            .iter()
            .enumerate()
            .filter_map(|(position, task)| Some((task.template.as_ref()?.id.clone()?, position)))
            .collect();
        Self {
            compiled: tasks,
            index,
            interfaces: HashMap::new(),
        }
    }

    pub(super) fn contains(&self, id: &Identifier) -> bool {
        self.index.contains_key(id)
    }

    /// The interface of a task. The first use completes it in the closure.
    fn interface(&mut self, id: &Identifier) -> Option<Interface> {
        let position = *self.index.get(id)?;
        if let Some(known) = self.interfaces.get(&position) {
            return Some(known.clone());
        }
        let template = self.compiled.get_mut(position)?.template.as_mut()?;
        let interface = match &mut template.interface {
            Some(interface) => {
                complete(interface);
                Interface::of(interface)
            }
            None => Interface::default(),
        };
        self.interfaces.insert(position, interface.clone());
        Some(interface)
    }

    pub(super) fn into_closure(self) -> Vec<CompiledTask> {
        self.compiled
    }
}

impl Graph<'_, '_> {
    /// Finds the interface of a node and keeps it there; `None`, with errors collected, when it has none.
    pub(super) fn infer(&mut self, vertex: &mut Vertex) -> Option<Interface> {
        if vertex.interface.is_some() {
            return vertex.interface.clone();
        }
        let mark = self.errors.mark();
        let interface = self.infer_by_target(vertex);
        if let Some(interface) = &interface {
            interface.report(vertex.id(), &mut self.errors);
        }
        if self.errors.clean_since(mark) {
            vertex.interface = interface;
        }
        vertex.interface.clone()
    }

    fn infer_by_target(&mut self, vertex: &mut Vertex) -> Option<Interface> {
        let id = vertex.id().to_owned();
        match vertex.target() {
            Some(Target::TaskNode(task)) => self.of_task(&id, task),
            Some(Target::WorkflowNode(workflow)) => {
                let workflow = workflow.clone();
                self.of_workflow_node(vertex, &workflow)
            }
            Some(Target::BranchNode(_)) => self.infer_branch(vertex),
            Some(Target::GateNode(gate)) => {
                let gate = gate.clone();
                self.of_gate(vertex, &gate)
            }
            Some(Target::ArrayNode(array)) => {
                let wrap = Wrap::of(array);
                self.infer_array(vertex, wrap)
            }
            None => self.fail(CompileError::value_required(&id, "Target")),
        }
    }

    pub(super) fn fail(&mut self, error: CompileError) -> Option<Interface> {
        self.errors.add(error);
        None
    }

    fn of_task(&mut self, node: &str, task: &TaskNode) -> Option<Interface> {
        let Some(task_node::Reference::ReferenceId(id)) = &task.reference else {
            return self.fail(CompileError::value_required(node, "TaskNode.ReferenceId"));
        };
        let known = self.shared.tasks.interface(id);
        known.or_else(|| self.fail(CompileError::task_reference_not_found(node, &prototext(id))))
    }

    fn of_workflow_node(&mut self, vertex: &Vertex, workflow: &WorkflowNode) -> Option<Interface> {
        let node = vertex.id();
        match &workflow.reference {
            Some(workflow_node::Reference::LaunchplanRef(id)) => {
                match self.shared.launch_plans.get(id).copied() {
                    Some(plan) => self.of_launch_plan(vertex, plan),
                    None => self.fail(CompileError::workflow_reference_not_found(
                        node,
                        &prototext(id),
                    )),
                }
            }
            Some(workflow_node::Reference::SubWorkflowRef(id)) => {
                match self.shared.sub_workflows.interface(id) {
                    Ok(Some(interface)) => Some(interface),
                    Ok(None) => self.fail(CompileError::value_required(
                        node,
                        "WorkflowNode.Template.Interface",
                    )),
                    Err(NotSupplied) => self.fail(CompileError::workflow_reference_not_found(
                        node,
                        &prototext(id),
                    )),
                }
            }
            None => {
                let nil = prototext_or_nil::<Identifier>(None);
                self.fail(CompileError::workflow_reference_not_found(
                    node,
                    &format!("{nil}/{nil}"),
                ))
            }
        }
    }

    /// An input with a default is there only if the node binds it.
    fn of_launch_plan(&mut self, vertex: &Vertex, plan: &LaunchPlanInterface) -> Option<Interface> {
        let node = vertex.id();
        for (absent, name) in [
            (
                plan.expected_inputs.is_none(),
                "WorkflowNode.ExpectedInputs",
            ),
            (
                plan.expected_outputs.is_none(),
                "WorkflowNode.ExpectedOutputs",
            ),
        ] {
            if absent {
                self.errors.add(CompileError::value_required(node, name));
            }
        }
        let is_required = |parameter: &flyte_idl::core::Parameter| {
            matches!(
                parameter.behavior,
                Some(flyte_idl::core::parameter::Behavior::Required(true))
            )
        };
        let bound = |name: &str| vertex.node.inputs.iter().any(|binding| binding.var == name);
        let inputs = plan.expected_inputs.as_ref()?.parameters.iter();
        let exposed = inputs
            .filter(|(name, parameter)| is_required(parameter) || bound(name))
            .map(|(name, parameter)| (name.clone(), parameter.var.clone().unwrap_or_default()))
            .collect();
        let outputs = plan.expected_outputs.as_ref()?.variables.clone();
        Some(Interface::new(exposed, outputs))
    }

    fn of_gate(&mut self, vertex: &mut Vertex, gate: &GateNode) -> Option<Interface> {
        let node = vertex.id().to_owned();
        match &gate.condition {
            Some(gate_node::Condition::Approve(_)) => {
                // What comes in goes out.
                let variables = self.resolve_bindings(&mut vertex.node, Direction::Upstream);
                Some(Interface::new(variables.clone(), variables))
            }
            Some(gate_node::Condition::Signal(signal)) => {
                let Some(literal_type) = &signal.r#type else {
                    return self.fail(CompileError::value_required(&node, "GateNode.Signal.Type"));
                };
                if signal.output_variable_name.is_empty() {
                    return self.fail(CompileError::value_required(
                        &node,
                        "GateNode.Signal.OutputVariableName",
                    ));
                }
                let variable = Variable {
                    r#type: Some(literal_type.clone()),
                    ..Default::default()
                };
                let outputs = [(signal.output_variable_name.clone(), variable)].into();
                Some(Interface::new(Variables::new(), outputs))
            }
            Some(gate_node::Condition::Sleep(_)) => Some(Interface::default()),
            None => self.fail(CompileError::no_condition_found(&node)),
        }
    }
}
