//! What a node takes and gives, found from what it runs (spec 08 A6.1).

use flyte_idl::{
    core::{
        GateNode, Identifier, TaskNode, Variable, WorkflowNode, gate_node, node::Target, task_node,
        workflow_node,
    },
    text::{prototext, prototext_or_nil},
};

use super::{
    LaunchPlanInterface,
    array::Wrap,
    edges::Direction,
    errors::CompileError,
    graph::{Graph, NotSupplied},
    interface::{Interface, Variables},
    vertex::Vertex,
};

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
