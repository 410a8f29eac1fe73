//! Where the engine and admin keep their objects (spec 04 §9, spec 01 §15.1). Admin's reads, `flytectl` and
//! a hand-over between Go and this engine need identical paths.

use flyte_idl::core::Identifier;

use crate::{
    identifiers::{ExecutionId, NodeExecutionId, TaskExecutionId},
    reference::{self, InvalidReference},
    unique_id,
};

/// Id of the node that stands for a workflow's inputs.
pub const START_NODE: &str = "start-node";
/// Id of the node that stands for a workflow's outputs.
pub const END_NODE: &str = "end-node";

type Uri = Result<String, InvalidReference>;

/// The folder of one workflow run: `‹metadata root›/‹project›-‹domain›-‹execution›`.
///
/// `root` is `‹scheme›://‹container›/‹metadata prefix›`. A resource without execution id uses its own name.
pub fn workflow(root: &str, execution: &ExecutionId) -> Uri {
    let folder = format!(
        "{}-{}-{}",
        execution.project, execution.domain, execution.name
    );
    reference::construct(root, &[&folder])
}

/// The folders of one attempt of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Holds what all attempts share: the inputs and the task template.
    pub data: String,
    /// Holds what one attempt wrote.
    pub output: String,
}

impl Node {
    /// A node of the workflow itself; `workflow` is [`workflow`]'s folder.
    pub fn top_level(
        workflow: &str,
        node_id: &str,
        attempt: u32,
    ) -> Result<Self, InvalidReference> {
        Self::at(reference::construct(workflow, &[node_id, "data"])?, attempt)
    }

    /// A node inside a branch, sub-workflow or dynamic node, whose output folder is `parent_output`.
    pub fn nested(
        parent_output: &str,
        node_id: &str,
        attempt: u32,
    ) -> Result<Self, InvalidReference> {
        Self::at(reference::construct(parent_output, &[node_id])?, attempt)
    }

    /// One item of an array node.
    pub fn array_item(&self, index: usize, attempt: u32) -> Result<Self, InvalidReference> {
        let (index, attempt) = (index.to_string(), attempt.to_string());
        Ok(Self {
            data: reference::construct(&self.data, &[&index, &attempt])?,
            output: reference::construct(&self.output, &[&index, &attempt])?,
        })
    }

    fn at(data: String, attempt: u32) -> Result<Self, InvalidReference> {
        Ok(Self {
            output: reference::construct(&data, &[&attempt.to_string()])?,
            data,
        })
    }

    /// `core.LiteralMap` of inputs, one for all attempts.
    pub fn inputs(&self) -> Uri {
        reference::construct(&self.data, &["inputs.pb"])
    }

    /// `core.TaskTemplate`, written when a plugin asks for its path.
    pub fn task_template(&self) -> Uri {
        reference::construct(&self.data, &["task.pb"])
    }

    /// A file of this attempt: `outputs.pb`, `error.pb`, `deck.html`, `futures.pb`, …
    pub fn output_file(&self, name: &str) -> Uri {
        reference::construct(&self.output, &[name])
    }

    /// `core.LiteralMap` of outputs.
    pub fn outputs(&self) -> Uri {
        self.output_file("outputs.pb")
    }

    /// `core.ErrorDocument`.
    pub fn error(&self) -> Uri {
        self.output_file("error.pb")
    }

    /// The deck page.
    pub fn deck(&self) -> Uri {
        self.output_file("deck.html")
    }

    /// `core.DynamicJobSpec` of a dynamic task.
    pub fn futures(&self) -> Uri {
        self.output_file("futures.pb")
    }

    /// The transformed dynamic workflow, as JSON of the resource.
    pub fn compiled_futures(&self) -> Uri {
        self.output_file("futures_compiled.pb")
    }

    /// `core.CompiledWorkflowClosure` of the dynamic workflow.
    pub fn dynamic_closure(&self) -> Uri {
        self.output_file("dynamic_compiled.pb")
    }

    /// An output of an array that is kept outside its literal map.
    pub fn offloaded_output(&self, variable: &str) -> Uri {
        self.output_file(&format!("{variable}_offloaded_metadata.pb"))
    }
}

/// The folder of raw outputs of one attempt: `‹prefix›/‹shard›/‹generated name›`.
pub fn raw_output(prefix: &str, generated_name: &str) -> Uri {
    reference::construct(
        prefix,
        &[&unique_id::raw_output_shard(generated_name), generated_name],
    )
}

/// The folder of checkpoints below a folder of raw outputs.
pub fn checkpoints(raw_output: &str) -> Uri {
    reference::construct(raw_output, &["_flytecheckpoints"])
}

/// `admin.WorkflowClosure` of a registered workflow. `base` is the container, `prefix` the parts of
/// `metadataStoragePrefix`.
pub fn workflow_closure(base: &str, prefix: &[String], id: &Identifier) -> Uri {
    let mut parts: Vec<&str> = prefix.iter().map(String::as_str).collect();
    parts.extend([id.project.as_str(), &id.domain, &id.name, &id.version]);
    reference::construct(base, &parts)
}

/// `core.CompiledWorkflowClosure` of a dynamic workflow that a node reported.
pub fn reported_dynamic_closure(
    base: &str,
    prefix: &[String],
    node: &NodeExecutionId,
    workflow: &Identifier,
) -> Uri {
    let name = format!(
        "{}_{}_{}_{}",
        workflow.project, workflow.domain, workflow.name, workflow.version
    );
    let mut parts: Vec<&str> = prefix.iter().map(String::as_str).collect();
    parts.extend([
        node.execution.project.as_str(),
        node.execution.domain.as_str(),
        &node.execution.name,
        node.node.as_str(),
        &name,
    ]);
    reference::construct(base, &parts)
}

/// A file that admin keeps for an execution: `inputs`, `user_inputs`, `offloaded_outputs`. The first segment
/// is always `metadata`, whatever the configured prefix.
pub fn execution_file(base: &str, execution: &ExecutionId, file: &str) -> Uri {
    reference::construct(
        base,
        &[
            "metadata",
            execution.project.as_str(),
            execution.domain.as_str(),
            &execution.name,
            file,
        ],
    )
}

/// A file that admin keeps for a node execution: `offloaded_inputs`, `offloaded_outputs`.
pub fn node_file(base: &str, node: &NodeExecutionId, file: &str) -> Uri {
    execution_file(base, &node.execution, &format!("{}/{file}", node.node))
}

/// A file that admin keeps for a task execution: `offloaded_inputs`, `offloaded_outputs`.
pub fn task_file(base: &str, task: &TaskExecutionId, file: &str) -> Uri {
    let id = &task.task;
    let below = format!(
        "{}/{}/{}/{}/{}/{file}",
        id.project, id.domain, id.name, id.version, task.retry_attempt
    );
    node_file(base, &task.node, &below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_each_level_lie_where_the_reference_puts_them() {
        let execution = ExecutionId::new("flytesnacks", "development", "f6a9").unwrap();
        let folder = workflow("s3://b/metadata/propeller", &execution).unwrap();
        let top = Node::top_level(&folder, "n0", 1).unwrap();
        let root = "s3://b/metadata/propeller/flytesnacks-development-f6a9";
        assert_eq!(top.inputs().unwrap(), format!("{root}/n0/data/inputs.pb"));
        assert_eq!(
            top.outputs().unwrap(),
            format!("{root}/n0/data/1/outputs.pb")
        );
        let parent = Node::top_level(&folder, "n0", 0).unwrap();
        let nested = Node::nested(&parent.output, "n1", 0).unwrap();
        assert_eq!(
            nested.outputs().unwrap(),
            format!("{root}/n0/data/0/n1/0/outputs.pb")
        );
        let start = Node::nested(&parent.output, START_NODE, 0).unwrap();
        assert_eq!(
            start.outputs().unwrap(),
            format!("{root}/n0/data/0/start-node/0/outputs.pb")
        );
        let item = parent.array_item(3, 2).unwrap();
        assert_eq!(
            item.inputs().unwrap(),
            format!("{root}/n0/data/3/2/inputs.pb")
        );
        assert_eq!(
            item.outputs().unwrap(),
            format!("{root}/n0/data/0/3/2/outputs.pb")
        );
    }

    #[test]
    fn raw_outputs_are_spread_over_shards() {
        let raw = raw_output("s3://b", "f1a2b3c4d5e6f7a8b9c0-n0-0").unwrap();
        assert_eq!(raw, "s3://b/xz/f1a2b3c4d5e6f7a8b9c0-n0-0");
        assert_eq!(
            checkpoints(&raw).unwrap(),
            format!("{raw}/_flytecheckpoints")
        );
    }

    #[test]
    fn offloaded_data_of_admin_lies_below_metadata() {
        let execution = ExecutionId::new("p", "d", "e").unwrap();
        assert_eq!(
            execution_file("s3://c", &execution, "inputs").as_deref(),
            Ok("s3://c/metadata/p/d/e/inputs")
        );
        let node = NodeExecutionId {
            execution,
            node: crate::identifiers::NodeId::new("n0").unwrap(),
        };
        assert_eq!(
            node_file("s3://c", &node, "offloaded_inputs").as_deref(),
            Ok("s3://c/metadata/p/d/e/n0/offloaded_inputs")
        );
    }
}
