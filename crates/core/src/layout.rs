//! Where the engine and admin keep their objects (spec 04 §9, spec 01 §15.1). Admin's reads, `flytectl` and
//! a hand-over between Go and this engine need identical paths.
//!
//! What users name (nodes, entities) is never more than one segment of a path, so that nothing leaves its folder. Names
//! of entities may hold what a segment cannot: Go joins them all the same, and two entities can share an object then
//! (spec 01 §15.1). Such an entity gets a folder of its own, below [`OWN`], from a hash of all its parts. Rows and
//! resources hold whole references, so objects that lie where Go put them are still found.

use flyte_idl::core::Identifier;

use sha2::{Digest as _, Sha256};

use crate::{
    identifiers::{ExecutionId, NodeExecutionId, TaskExecutionId},
    names,
    reference::{self, InvalidReference},
    unique_id,
};

/// Id of the node that stands for a workflow's inputs.
pub const START_NODE: &str = "start-node";
/// Id of the node that stands for a workflow's outputs.
pub const END_NODE: &str = "end-node";

/// Folder of the entities whose names make no path. No entity whose names do has this segment, because of its `~`.
const OWN: &str = "~by-hash";

type Uri = Result<String, InvalidReference>;

/// `text` as the one segment that it must be.
fn segment(text: &str) -> Result<&str, InvalidReference> {
    if names::is_path_segment(text) {
        Ok(text)
    } else {
        Err(InvalidReference(text.to_owned()))
    }
}

/// The segments of a folder that belongs to an entity with these parts alone: the parts if they are plain segments,
/// else a hash of them.
fn own_folder(parts: &[&str]) -> Vec<String> {
    let plain = |part: &&str| names::is_plain_path_segment(part) && !part.contains('~');
    if parts.iter().all(plain) {
        return parts.iter().map(ToString::to_string).collect();
    }
    let mut hash = Sha256::new();
    for part in parts {
        // The length keeps the parts apart.
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    vec![OWN.to_owned(), hex::encode(hash.finalize())]
}

fn construct(base: &str, parts: impl IntoIterator<Item = impl AsRef<str>>) -> Uri {
    let parts: Vec<_> = parts.into_iter().collect();
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    reference::construct(base, &parts)
}

/// The folder of one workflow run: `‹metadata root›/‹project›-‹domain›-‹execution›`.
///
/// `root` is `‹scheme›://‹container›/‹metadata prefix›`. A resource without execution id uses its own name.
pub fn workflow(root: &str, execution: &ExecutionId) -> Uri {
    let folder = format!(
        "{}-{}-{}",
        execution.project, execution.domain, execution.name
    );
    reference::construct(root, &[segment(&folder)?])
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
        let data = reference::construct(workflow, &[segment(node_id)?, "data"])?;
        Self::at(data, attempt)
    }

    /// A node inside a branch, sub-workflow or dynamic node, whose output folder is `parent_output`.
    pub fn nested(
        parent_output: &str,
        node_id: &str,
        attempt: u32,
    ) -> Result<Self, InvalidReference> {
        let data = reference::construct(parent_output, &[segment(node_id)?])?;
        Self::at(data, attempt)
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
    let own = own_folder(&[&id.project, &id.domain, &id.name, &id.version]);
    construct(base, prefix.iter().cloned().chain(own))
}

/// Where a closure goes whose place holds something else: only Go writes what could be there.
pub fn other_workflow_closure(
    base: &str,
    prefix: &[String],
    id: &Identifier,
    digest: &[u8],
) -> Uri {
    let digest = hex::encode(digest);
    let own = own_folder(&[&id.project, &id.domain, &id.name, &id.version, "~", &digest]);
    construct(base, prefix.iter().cloned().chain(own))
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
    let mut parts = prefix.to_vec();
    for part in [
        node.execution.project.as_str(),
        node.execution.domain.as_str(),
        &node.execution.name,
        node.node.as_str(),
    ] {
        parts.push(segment(part)?.to_owned());
    }
    parts.extend(own_folder(&[&name]));
    construct(base, parts)
}

/// A file that admin keeps for an execution: `inputs`, `user_inputs`, `offloaded_outputs`. The first segment
/// is always `metadata`, whatever the configured prefix.
pub fn execution_file(base: &str, execution: &ExecutionId, file: &str) -> Uri {
    reference::construct(
        base,
        &[
            "metadata",
            segment(execution.project.as_str())?,
            segment(execution.domain.as_str())?,
            segment(&execution.name)?,
            file,
        ],
    )
}

/// A file that admin keeps for a node execution: `offloaded_inputs`, `offloaded_outputs`.
pub fn node_file(base: &str, node: &NodeExecutionId, file: &str) -> Uri {
    let folder = segment(node.node.as_str())?;
    execution_file(base, &node.execution, &format!("{folder}/{file}"))
}

/// A file that admin keeps for a task execution: `offloaded_inputs`, `offloaded_outputs`.
pub fn task_file(base: &str, task: &TaskExecutionId, file: &str) -> Uri {
    let id = &task.task;
    let own = own_folder(&[
        id.project.as_str(),
        id.domain.as_str(),
        &id.name,
        &id.version,
    ]);
    let below = format!("{}/{}/{file}", own.join("/"), task.retry_attempt);
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

    fn workflow_id(name: &str, version: &str) -> Identifier {
        Identifier {
            project: "p".into(),
            domain: "d".into(),
            name: name.into(),
            version: version.into(),
            ..Identifier::default()
        }
    }

    #[test]
    fn different_entities_have_different_closures() {
        let prefix = ["metadata".to_owned(), "admin".to_owned()];
        let place = |name: &str, version: &str| {
            let uri = workflow_closure("s3://c", &prefix, &workflow_id(name, version)).unwrap();
            assert!(uri.starts_with("s3://c/metadata/admin/"), "{uri}");
            // Programs differ in whether they decode; none may see another key than the others.
            let key = reference::object(&uri).unwrap().key;
            assert_eq!(uri, format!("s3://c/{key}"));
            key
        };
        assert_eq!(
            place("mod.wf", "v1+x=1"),
            "metadata/admin/p/d/mod.wf/v1+x=1"
        );
        let ids = [
            ("a", "y"),
            ("a/x", "y"),
            ("a", "x/y"),
            ("a//x", "y"),
            ("a", "y/"),
            ("/a", "y"),
            ("a%2Fx", "y"),
            ("%61", "y"),
            ("a b", "y"),
            ("a%20b", "y"),
            ("a", "y "),
            ("..", "y"),
            ("a/../b", "y"),
            ("a", "y?z"),
            ("a", "y#z"),
            ("a", "é"),
            ("a", "e\u{301}"),
            ("~by-hash", "y"),
        ];
        let places: std::collections::BTreeSet<String> = ids
            .iter()
            .map(|(name, version)| place(name, version))
            .collect();
        assert_eq!(places.len(), ids.len());
    }

    #[test]
    fn no_name_leaves_its_folder() {
        let execution = ExecutionId::new("p", "d", "e").unwrap();
        let below = "s3://c/metadata/p/d/e/";
        for name in [
            "..",
            ".",
            "../x",
            "a/../../x",
            "/",
            "a/b",
            "%2e%2e",
            "%2F..",
            "a?b",
            "a#b",
            "a%",
            "\u{1}",
            " ",
            "é",
        ] {
            let folder = workflow("s3://b/m", &execution).unwrap();
            let node = NodeExecutionId {
                execution: execution.clone(),
                node: crate::identifiers::NodeId::new(name).unwrap(),
            };
            let single = names::is_path_segment(name);
            assert_eq!(Node::top_level(&folder, name, 0).is_ok(), single, "{name}");
            assert_eq!(Node::nested(&folder, name, 0).is_ok(), single, "{name}");
            assert_eq!(
                node_file("s3://c", &node, "inputs").is_ok(),
                single,
                "{name}"
            );
            let node = NodeExecutionId {
                node: crate::identifiers::NodeId::new("n0").unwrap(),
                ..node
            };
            let mut id = workflow_id(name, name);
            id.resource_type = crate::identifiers::ResourceType::Task as i32;
            let task = TaskExecutionId {
                task: crate::identifiers::EntityId::any(Some(&id)).unwrap(),
                node: node.clone(),
                retry_attempt: 0,
            };
            let uri = task_file("s3://c", &task, "inputs").unwrap();
            assert!(uri.starts_with(&format!("{below}n0/")), "{uri}");
            assert!(uri.ends_with("/0/inputs"), "{uri}");
            let uri = reported_dynamic_closure("s3://c", &["m".to_owned()], &node, &id).unwrap();
            assert!(uri.starts_with("s3://c/m/p/d/e/n0/"), "{uri}");
        }
    }
}
