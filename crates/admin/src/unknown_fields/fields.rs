//! The fields through which unknown fields are followed, each with the types of both its ends: a name that does not
//! belong to a message cannot be asked for.

use std::marker::PhantomData;

use flyte_idl::{admin, core, event};

/// A field of message `Outer` that holds a message `Part`, or a list of them.
pub(crate) struct Field<Outer, Part> {
    name: &'static str,
    types: PhantomData<fn(Outer) -> Part>,
}

impl<Outer, Part> Field<Outer, Part> {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            types: PhantomData,
        }
    }

    /// Its name in the IDL.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

macro_rules! fields {
    ($($constant:ident: $outer:ty => $part:ty = $name:literal,)*) => {
        $(pub(crate) const $constant: Field<$outer, $part> = Field::new($name);)*

        /// Each field: its message, its name, and the message in it.
        #[cfg(test)]
        fn all() -> Vec<(String, &'static str, String)> {
            use prost::Name as _;
            vec![$((<$outer>::full_name(), $name, <$part>::full_name()),)*]
        }
    };
}

fields!(
    // Registrations.
    CREATE_TASK_SPEC: admin::TaskCreateRequest => admin::TaskSpec = "spec",
    TASK_SPEC_TEMPLATE: admin::TaskSpec => core::TaskTemplate = "template",
    TASK_SPEC_DESCRIPTION: admin::TaskSpec => admin::DescriptionEntity = "description",
    COMPILED_TASK_TEMPLATE: core::CompiledTask => core::TaskTemplate = "template",
    TASK_CLOSURE_COMPILED: admin::TaskClosure => core::CompiledTask = "compiled_task",
    CREATE_WORKFLOW_SPEC: admin::WorkflowCreateRequest => admin::WorkflowSpec = "spec",
    WORKFLOW_SPEC_TEMPLATE: admin::WorkflowSpec => core::WorkflowTemplate = "template",
    WORKFLOW_SPEC_SUB_WORKFLOWS: admin::WorkflowSpec => core::WorkflowTemplate = "sub_workflows",
    WORKFLOW_SPEC_DESCRIPTION: admin::WorkflowSpec => admin::DescriptionEntity = "description",
    WORKFLOW_TEMPLATE_INTERFACE: core::WorkflowTemplate => core::TypedInterface = "interface",
    INTERFACE_OUTPUTS: core::TypedInterface => core::VariableMap = "outputs",
    COMPILED_WORKFLOW_TEMPLATE: core::CompiledWorkflow => core::WorkflowTemplate = "template",
    COMPILED_CLOSURE_PRIMARY: core::CompiledWorkflowClosure => core::CompiledWorkflow = "primary",
    COMPILED_CLOSURE_SUB_WORKFLOWS: core::CompiledWorkflowClosure => core::CompiledWorkflow = "sub_workflows",
    COMPILED_CLOSURE_TASKS: core::CompiledWorkflowClosure => core::CompiledTask = "tasks",
    WORKFLOW_CLOSURE_COMPILED: admin::WorkflowClosure => core::CompiledWorkflowClosure = "compiled_workflow",
    CREATE_LAUNCH_PLAN_SPEC: admin::LaunchPlanCreateRequest => admin::LaunchPlanSpec = "spec",
    LAUNCH_PLAN_SPEC_DEFAULT_INPUTS: admin::LaunchPlanSpec => core::ParameterMap = "default_inputs",
    LAUNCH_PLAN_SPEC_FIXED_INPUTS: admin::LaunchPlanSpec => core::LiteralMap = "fixed_inputs",
    LAUNCH_PLAN_CLOSURE_INPUTS: admin::LaunchPlanClosure => core::ParameterMap = "expected_inputs",
    LAUNCH_PLAN_CLOSURE_OUTPUTS: admin::LaunchPlanClosure => core::VariableMap = "expected_outputs",
    DESCRIPTION_LONG: admin::DescriptionEntity => admin::Description = "long_description",
    REGISTER_PROJECT: admin::ProjectRegisterRequest => admin::Project = "project",
    // Executions and signals.
    CREATE_EXECUTION_SPEC: admin::ExecutionCreateRequest => admin::ExecutionSpec = "spec",
    CREATE_EXECUTION_INPUTS: admin::ExecutionCreateRequest => core::LiteralMap = "inputs",
    EXECUTION_SPEC_INPUTS: admin::ExecutionSpec => core::LiteralMap = "inputs",
    CREATE_SIGNAL_TYPE: admin::SignalGetOrCreateRequest => core::LiteralType = "type",
    SET_SIGNAL_VALUE: admin::SignalSetRequest => core::Literal = "value",
    // Events.
    WORKFLOW_EVENT: admin::WorkflowExecutionEventRequest => event::WorkflowExecutionEvent = "event",
    WORKFLOW_EVENT_OUTPUTS: event::WorkflowExecutionEvent => core::LiteralMap = "output_data",
    NODE_EVENT: admin::NodeExecutionEventRequest => event::NodeExecutionEvent = "event",
    NODE_EVENT_INPUTS: event::NodeExecutionEvent => core::LiteralMap = "input_data",
    NODE_EVENT_OUTPUTS: event::NodeExecutionEvent => core::LiteralMap = "output_data",
    NODE_EVENT_TASK_METADATA: event::NodeExecutionEvent => event::TaskNodeMetadata = "task_node_metadata",
    TASK_METADATA_DYNAMIC: event::TaskNodeMetadata => event::DynamicWorkflowNodeMetadata = "dynamic_workflow",
    DYNAMIC_COMPILED: event::DynamicWorkflowNodeMetadata => core::CompiledWorkflowClosure = "compiled_workflow",
    TASK_EVENT: admin::TaskExecutionEventRequest => event::TaskExecutionEvent = "event",
    TASK_EVENT_INPUTS: event::TaskExecutionEvent => core::LiteralMap = "input_data",
    TASK_EVENT_OUTPUTS: event::TaskExecutionEvent => core::LiteralMap = "output_data",
    // Answers.
    TASK_CLOSURE: admin::Task => admin::TaskClosure = "closure",
    WORKFLOW_CLOSURE: admin::Workflow => admin::WorkflowClosure = "closure",
    LAUNCH_PLAN_SPEC: admin::LaunchPlan => admin::LaunchPlanSpec = "spec",
    LAUNCH_PLAN_CLOSURE: admin::LaunchPlan => admin::LaunchPlanClosure = "closure",
    EXECUTION_SPEC: admin::Execution => admin::ExecutionSpec = "spec",
    EXECUTION_CLOSURE: admin::Execution => admin::ExecutionClosure = "closure",
    NODE_EXECUTION_CLOSURE: admin::NodeExecution => admin::NodeExecutionClosure = "closure",
    NODE_EXECUTION_METADATA: admin::NodeExecution => admin::NodeExecutionMetaData = "metadata",
    TASK_EXECUTION_CLOSURE: admin::TaskExecution => admin::TaskExecutionClosure = "closure",
    SIGNAL_TYPE: admin::Signal => core::LiteralType = "type",
    SIGNAL_VALUE: admin::Signal => core::Literal = "value",
    DYNAMIC_NODE_WORKFLOW: admin::DynamicNodeWorkflowResponse => core::CompiledWorkflowClosure = "compiled_workflow",
    EXECUTION_DATA_INPUTS: admin::WorkflowExecutionGetDataResponse => core::LiteralMap = "full_inputs",
    EXECUTION_DATA_OUTPUTS: admin::WorkflowExecutionGetDataResponse => core::LiteralMap = "full_outputs",
    NODE_DATA_INPUTS: admin::NodeExecutionGetDataResponse => core::LiteralMap = "full_inputs",
    NODE_DATA_OUTPUTS: admin::NodeExecutionGetDataResponse => core::LiteralMap = "full_outputs",
    TASK_DATA_INPUTS: admin::TaskExecutionGetDataResponse => core::LiteralMap = "full_inputs",
    TASK_DATA_OUTPUTS: admin::TaskExecutionGetDataResponse => core::LiteralMap = "full_outputs",
    // Lists of answers.
    TASKS: admin::TaskList => admin::Task = "tasks",
    WORKFLOWS: admin::WorkflowList => admin::Workflow = "workflows",
    LAUNCH_PLANS: admin::LaunchPlanList => admin::LaunchPlan = "launch_plans",
    EXECUTIONS: admin::ExecutionList => admin::Execution = "executions",
    NODE_EXECUTIONS: admin::NodeExecutionList => admin::NodeExecution = "node_executions",
    TASK_EXECUTIONS: admin::TaskExecutionList => admin::TaskExecution = "task_executions",
    SIGNALS: admin::SignalList => admin::Signal = "signals",
    PROJECTS: admin::Projects => admin::Project = "projects",
    DESCRIPTIONS: admin::DescriptionEntityList => admin::DescriptionEntity = "descriptionEntities",
);

#[cfg(test)]
mod tests {
    use flyte_idl::descriptors;
    use prost_reflect::Kind;

    use super::*;

    #[test]
    fn every_field_is_one_of_the_idl() {
        for (outer, name, part) in all() {
            let message = descriptors::pool().get_message_by_name(&outer);
            let field = message.and_then(|message| message.get_field_by_name(name));
            let kind = field.map(|field| field.kind());
            assert!(
                matches!(&kind, Some(Kind::Message(found)) if found.full_name() == part),
                "{outer}.{name}: {kind:?}"
            );
        }
    }
}
