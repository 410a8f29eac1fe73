//! The workflow compiler: templates, tasks and launch-plan interfaces in, a checked and connected closure out
//! (spec 08 A1 to A8, A11).
//!
//! ```text
//! requirements ──> (the caller fetches) ──> compile_workflow
//!                                             ├─ every sub-workflow, innermost first ─┐
//!                                             └─ the primary workflow ────────────────┤
//!                                                  vertices → interfaces → bindings → edges → reachability
//! ```
//!
//! The result is hashed, stored and compared on re-registration, so the order of nodes and lists, messages
//! that are present but empty, and rewritten promises are all part of the contract; only texts may differ
//! between runs of the reference, and here they do not. Admin runs this at registration, the engine for
//! dynamic workflows.

mod array;
mod bindings;
mod branch;
mod dynamic;
mod edges;
mod errors;
mod graph;
mod infer;
mod interface;
mod requirements;
mod task;
mod vertex;

use std::collections::{HashMap, HashSet};

use flyte_idl::{
    core::{
        CompiledTask, CompiledWorkflow, CompiledWorkflowClosure, Identifier, ParameterMap,
        VariableMap, WorkflowTemplate,
    },
    text::prototext,
};

pub use dynamic::{DynamicParent, DynamicWorkflow};
pub use errors::{Code, CompileError, CompileErrors};
pub use requirements::{Requirements, requirements};
pub use task::{PodSpecError, compile_task, pod_spec};

use crate::layout::START_NODE;
use errors::Collector;
use graph::{Shared, SubWorkflows};
use interface::Tasks;
use requirements::Arrays;

/// A launch plan as the compiler sees it. An absent map is an error of whoever uses the plan; a plan without
/// inputs has a map without entries.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchPlanInterface {
    /// The launch plan.
    pub id: Identifier,
    /// Its inputs; those with a default need not be bound.
    pub expected_inputs: Option<ParameterMap>,
    /// The outputs of the workflow that it launches.
    pub expected_outputs: Option<VariableMap>,
}

/// How to treat what the reference accepts although it cannot work (spec 08 A18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rules {
    /// They are errors.
    #[default]
    Strict,
    /// They are accepted, as by the reference: a node with a used id is dropped, an explicit upstream id need not exist, an input
    /// whose union type has a variant that is not simple may stay unbound, and what an array node runs is not looked at.
    Reference,
}

/// Compiles a workflow.
///
/// `tasks` and `launch_plans` must hold what [`requirements()`] named. The tasks of the closure are those given,
/// each once, in the order given, with the interfaces of those that are used completed; its sub-workflows are
/// those given, in the order given, compiled if they are used.
pub fn compile_workflow(
    template: WorkflowTemplate,
    sub_workflows: Vec<WorkflowTemplate>,
    tasks: Vec<CompiledTask>,
    launch_plans: &[LaunchPlanInterface],
    rules: Rules,
) -> Result<CompiledWorkflowClosure, CompileErrors> {
    let tasks = Tasks::new(distinct(tasks)?);
    let mut errors = Collector::default();
    let index = requirements::index(&sub_workflows, &mut errors);
    let index = errors.finish(index)?;
    let launch_plans: HashMap<&Identifier, &LaunchPlanInterface> =
        launch_plans.iter().map(|plan| (&plan.id, plan)).collect();

    let needed = requirements::walk(&template, &sub_workflows, &index, Arrays::Enter)?;
    check_supplied(&needed, &launch_plans, &tasks)?;

    let order = match rules {
        Rules::Strict => needed.order,
        Rules::Reference => {
            requirements::walk(&template, &sub_workflows, &index, Arrays::Skip)?.order
        }
    };
    let mut shared = Shared {
        tasks,
        launch_plans,
        sub_workflows: SubWorkflows::new(sub_workflows, index),
        rules,
    };
    // Innermost first, so that a chain of sub-workflows needs no stack.
    for position in order {
        if let Some(template) = shared.sub_workflows.template(position) {
            let compiled = graph::compile(template, &mut shared);
            shared.sub_workflows.compiled(position, compiled);
        }
    }
    let primary = graph::compile(template, &mut shared)?;
    Ok(CompiledWorkflowClosure {
        primary: Some(primary),
        sub_workflows: shared.sub_workflows.into_closure(),
        tasks: shared.tasks.into_closure(),
        launch_plans: Vec::new(),
    })
}

/// Tasks by id, the first of each.
fn distinct(tasks: Vec<CompiledTask>) -> Result<Vec<CompiledTask>, CompileErrors> {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(tasks.len());
    for task in tasks {
        let id = task
            .template
            .as_ref()
            .and_then(|template| template.id.clone())
            .ok_or_else(|| CompileError::value_required("task", "Template.Id"))?;
        if seen.insert(id) {
            kept.push(task);
        }
    }
    Ok(kept)
}

/// Everything that is referred to must have been supplied.
fn check_supplied(
    needed: &requirements::Walk,
    launch_plans: &HashMap<&Identifier, &LaunchPlanInterface>,
    tasks: &Tasks,
) -> Result<(), CompileErrors> {
    let mut errors = Collector::default();
    for (node, reference) in &needed.missing {
        errors.add(CompileError::workflow_reference_not_found(
            node,
            &prototext(reference),
        ));
    }
    for id in &needed.requirements.launch_plans {
        if !launch_plans.contains_key(id) {
            errors.add(CompileError::workflow_reference_not_found(
                START_NODE,
                &prototext(id),
            ));
        }
    }
    for id in &needed.requirements.tasks {
        if !tasks.contains(id) {
            errors.add(CompileError::task_reference_not_found(
                START_NODE,
                &prototext(id),
            ));
        }
    }
    errors.finish(())
}

/// The text of a failed compilation as CreateWorkflow answers it (INVALID_ARGUMENT, spec 08 A12). `cause` is
/// the errors' text, or `missing entity of type … with identifier …`.
pub fn workflow_failure(id: &Identifier, cause: &str) -> String {
    format!(
        "failed to compile workflow for [{}] with err: {cause}",
        prototext(id)
    )
}

/// The cause when already the requirements could not be collected.
pub fn requirements_failure(errors: &CompileErrors) -> String {
    format!("failed to get workflow requirements with err {errors}")
}

/// The text of a failed compilation as CreateTask answers it (INVALID_ARGUMENT).
pub fn task_failure(errors: &CompileErrors) -> String {
    format!("task failed compilation with {errors}")
}

/// A workflow of nodes and connections; absent connections mean that it was not compiled.
type Compiled = Result<CompiledWorkflow, CompileErrors>;
