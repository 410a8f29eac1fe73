//! What must be fetched before a workflow can be compiled (spec 08 A2).

use std::collections::{HashMap, HashSet};

use flyte_idl::{
    core::{
        Identifier, IfElseBlock, Node, WorkflowTemplate, if_else_block, node::Target, task_node,
        workflow_node,
    },
    text::prototext,
};

use super::errors::{Collector, CompileError, CompileErrors};
use crate::identifiers::sort_key;

/// The entities that a workflow and its sub-workflows refer to, each once, sorted by resource type, project,
/// domain, name and version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// The tasks that its nodes run, each once.
    pub tasks: Vec<Identifier>,
    /// The launch plans that its nodes launch, each once.
    pub launch_plans: Vec<Identifier>,
}

/// Collects what a workflow needs. Fails when two sub-workflows have one id, when one has none, and when
/// sub-workflows contain each other; a sub-workflow that is not supplied is left to the compilation to report.
pub fn requirements(
    template: &WorkflowTemplate,
    sub_workflows: &[WorkflowTemplate],
) -> Result<Requirements, CompileErrors> {
    let mut errors = Collector::default();
    let index = index(sub_workflows, &mut errors);
    let index = errors.finish(index)?;
    let found = walk(template, sub_workflows, &index, Arrays::Enter)?;
    Ok(found.requirements)
}

/// Where each sub-workflow is among those supplied.
pub(super) fn index(
    sub_workflows: &[WorkflowTemplate],
    errors: &mut Collector,
) -> HashMap<Identifier, usize> {
    let mut index = HashMap::new();
    for (position, workflow) in sub_workflows.iter().enumerate() {
        let Some(id) = &workflow.id else {
            // The reference fails here without telling why (spec 08 A18, 19).
            errors.add(CompileError::value_required("root", "Template.Id"));
            continue;
        };
        if index.contains_key(id) {
            errors.add(CompileError::duplicate_id(&prototext(id)));
        } else {
            index.insert(id.clone(), position);
        }
    }
    index
}

/// Whether a walk looks at the inner nodes of array nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrays {
    /// They need what they refer to.
    Enter,
    /// Their sub-workflows are not compiled (spec 08 A6.1).
    Skip,
}

/// What a walk over a workflow and its sub-workflows finds.
pub(super) struct Walk {
    pub(super) requirements: Requirements,
    /// Positions of the sub-workflows that are referred to, each after those that it contains.
    pub(super) order: Vec<usize>,
    /// References to sub-workflows that are not there: the node and the reference.
    pub(super) missing: Vec<(String, Identifier)>,
}

/// One workflow on the way down.
struct Step<'a> {
    workflow: &'a WorkflowTemplate,
    position: Option<usize>,
    references: std::vec::IntoIter<(&'a str, &'a Identifier)>,
}

impl<'a> Step<'a> {
    fn new(workflow: &'a WorkflowTemplate, position: Option<usize>, found: &mut Found<'a>) -> Self {
        Self {
            workflow,
            position,
            references: found.workflow(workflow).into_iter(),
        }
    }
}

/// Walks without recursion: sub-workflows may be chained as long as a request can carry.
pub(super) fn walk(
    template: &WorkflowTemplate,
    sub_workflows: &[WorkflowTemplate],
    index: &HashMap<Identifier, usize>,
    arrays: Arrays,
) -> Result<Walk, CompileErrors> {
    let mut found = Found::new(arrays);
    let mut missing = Vec::new();
    let mut order = Vec::new();
    let mut visited = HashSet::new();
    let mut open = HashSet::new();
    let mut path = vec![Step::new(template, None, &mut found)];
    while let Some(step) = path.last_mut() {
        let Some((node, reference)) = step.references.next() else {
            if let Some(position) = step.position {
                open.remove(&position);
                order.push(position);
            }
            path.pop();
            continue;
        };
        let Some(&position) = index.get(reference) else {
            missing.push((node.to_owned(), reference.clone()));
            continue;
        };
        if open.contains(&position) {
            return Err(cycle(node, &path, position, reference).into());
        }
        if visited.insert(position)
            && let Some(workflow) = sub_workflows.get(position)
        {
            open.insert(position);
            path.push(Step::new(workflow, Some(position), &mut found));
        }
    }
    Ok(Walk {
        requirements: Requirements {
            tasks: sorted(found.tasks),
            launch_plans: sorted(found.launch_plans),
        },
        order,
        missing,
    })
}

fn cycle(node: &str, path: &[Step<'_>], position: usize, again: &Identifier) -> CompileError {
    let mut ids: Vec<String> = path
        .iter()
        .skip_while(|step| step.position != Some(position))
        .filter_map(|step| step.workflow.id.as_ref().map(prototext))
        .collect();
    ids.push(prototext(again));
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    CompileError::cycle_detected(node, &ids)
}

fn sorted(ids: HashSet<&Identifier>) -> Vec<Identifier> {
    let mut ids: Vec<Identifier> = ids.into_iter().cloned().collect();
    ids.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    ids
}

struct Found<'a> {
    arrays: Arrays,
    tasks: HashSet<&'a Identifier>,
    launch_plans: HashSet<&'a Identifier>,
}

impl<'a> Found<'a> {
    fn new(arrays: Arrays) -> Self {
        Self {
            arrays,
            tasks: HashSet::new(),
            launch_plans: HashSet::new(),
        }
    }

    /// Notes the tasks and launch plans of one workflow; its sub-workflow references, with the nodes that
    /// have them, are returned.
    fn workflow(&mut self, workflow: &'a WorkflowTemplate) -> Vec<(&'a str, &'a Identifier)> {
        let mut references = Vec::new();
        let mut nodes: Vec<&Node> = workflow
            .nodes
            .iter()
            .chain(&workflow.failure_node)
            .collect();
        nodes.reverse();
        while let Some(node) = nodes.pop() {
            match &node.target {
                Some(Target::TaskNode(task)) => {
                    if let Some(task_node::Reference::ReferenceId(id)) = &task.reference {
                        self.tasks.insert(id);
                    }
                }
                Some(Target::WorkflowNode(workflow)) => match &workflow.reference {
                    Some(workflow_node::Reference::LaunchplanRef(id)) => {
                        self.launch_plans.insert(id);
                    }
                    Some(workflow_node::Reference::SubWorkflowRef(id)) => {
                        references.push((node.id.as_str(), id));
                    }
                    None => {}
                },
                Some(Target::BranchNode(branch)) => {
                    nodes.extend(branch.if_else.iter().flat_map(|block| inner_nodes(block)));
                }
                Some(Target::ArrayNode(array)) if self.arrays == Arrays::Enter => {
                    nodes.extend(array.node.as_deref());
                }
                Some(Target::ArrayNode(_) | Target::GateNode(_)) | None => {}
            }
        }
        references
    }
}

/// The nodes of a branch, the last one first.
fn inner_nodes(block: &IfElseBlock) -> Vec<&Node> {
    let otherwise = match &block.default {
        Some(if_else_block::Default::ElseNode(node)) => Some(&**node),
        _ => None,
    };
    let others = block.other.iter().rev();
    otherwise
        .into_iter()
        .chain(others.filter_map(|other| other.then_node.as_deref()))
        .chain(
            block
                .case
                .iter()
                .filter_map(|case| case.then_node.as_deref()),
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use flyte_idl::core::{ResourceType, TaskNode, WorkflowNode};

    use super::*;

    fn id(resource_type: ResourceType, name: &str) -> Identifier {
        Identifier {
            resource_type: resource_type as i32,
            name: name.into(),
            ..Default::default()
        }
    }

    fn node(id: &str, target: Target) -> Node {
        Node {
            id: id.into(),
            target: Some(target),
            ..Default::default()
        }
    }

    fn task(name: &str) -> Node {
        node(
            name,
            Target::TaskNode(TaskNode {
                reference: Some(task_node::Reference::ReferenceId(id(
                    ResourceType::Task,
                    name,
                ))),
                ..Default::default()
            }),
        )
    }

    fn sub(name: &str) -> Node {
        node(
            name,
            Target::WorkflowNode(WorkflowNode {
                reference: Some(workflow_node::Reference::SubWorkflowRef(id(
                    ResourceType::Workflow,
                    name,
                ))),
            }),
        )
    }

    fn workflow(name: &str, nodes: Vec<Node>) -> WorkflowTemplate {
        WorkflowTemplate {
            id: Some(id(ResourceType::Workflow, name)),
            nodes,
            ..Default::default()
        }
    }

    #[test]
    fn tasks_of_sub_workflows_are_needed_too() {
        let primary = workflow("p", vec![task("b"), sub("s"), sub("nowhere")]);
        let found = requirements(&primary, &[workflow("s", vec![task("a"), task("b")])]).unwrap();
        assert_eq!(
            found.tasks,
            vec![id(ResourceType::Task, "a"), id(ResourceType::Task, "b")]
        );
    }

    #[test]
    fn workflows_that_contain_each_other_are_refused() {
        let subs = [workflow("s", vec![sub("t")]), workflow("t", vec![sub("s")])];
        let errors = requirements(&workflow("p", vec![sub("s")]), &subs).unwrap_err();
        assert_eq!(
            errors.to_string(),
            "Collected Errors: 1\n\tError 0: Code: CycleDetected, Node Id: s, Description: A cycle has been detected while traversing the Workflow [resource_type:WORKFLOW name:\"s\">resource_type:WORKFLOW name:\"t\">resource_type:WORKFLOW name:\"s\"].\n"
        );
    }

    #[test]
    fn long_chains_need_no_stack() {
        let subs: Vec<_> = (0..50_000)
            .map(|n| workflow(&n.to_string(), vec![sub(&(n + 1).to_string())]))
            .collect();
        let primary = workflow("p", vec![sub("0")]);
        assert!(requirements(&primary, &subs).is_ok());
    }
}
