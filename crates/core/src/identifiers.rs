//! Identifiers of entities and executions.
//!
//! Wire identifiers are prost structs in which every part may be empty; the types here are complete by
//! construction. The texts of the errors are those that clients see (spec 01 §4.6).

use std::fmt;

use flyte_idl::{core, text};

pub use flyte_idl::core::ResourceType;

/// Why a wire identifier is not one. The display text is the answer of the API (INVALID_ARGUMENT).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A part, or the identifier itself, is absent or empty.
    #[error("missing {0}")]
    Missing(&'static str),
    /// The identifier is of another kind than the request is about.
    #[error("unexpected resource type {got} for identifier [{id}], expected {expected} instead")]
    ResourceType {
        /// Lower-case name of the resource type that was sent.
        got: String,
        /// Text of the identifier.
        id: String,
        /// Lower-case name of the resource type that is meant.
        expected: String,
    },
}

macro_rules! text_id {
    ($(#[$docs:meta])* $name:ident, $field:literal) => {
        $(#[$docs])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes any non-empty text.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if text.is_empty() {
                    return Err(IdError::Missing($field));
                }
                Ok(Self(text))
            }

            /// The checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// A project, for example `flytesnacks`. Registration allows RFC 1123 labels only
    /// ([`crate::names::project_id`]); rows of older control planes may hold other texts.
    ProjectId,
    "project"
);
text_id!(
    /// A domain, for example `development`.
    DomainId,
    "domain"
);
text_id!(
    /// A node of a workflow, for example `n0`.
    NodeId,
    "node_id"
);

/// One version of a task, workflow, launch plan or dataset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId {
    /// What it is.
    pub resource_type: ResourceType,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// The domain that it belongs to.
    pub domain: DomainId,
    /// Its name, never empty.
    pub name: String,
    /// Its version, never empty.
    pub version: String,
}

impl EntityId {
    /// Reads a wire identifier that must be complete and of the expected type (*id4* of spec 01 §4.6).
    pub fn expect(id: Option<&core::Identifier>, expected: ResourceType) -> Result<Self, IdError> {
        let id = id.ok_or(IdError::Missing("id"))?;
        if id.resource_type != expected as i32 {
            return Err(IdError::ResourceType {
                got: resource_type_name(id.resource_type),
                id: text::prototext(id),
                expected: resource_type_name(expected as i32),
            });
        }
        Self::complete(id, expected)
    }

    /// Reads a wire identifier of whatever type, all parts required (the launch plan of CreateExecution).
    pub fn any(id: Option<&core::Identifier>) -> Result<Self, IdError> {
        let id = id.ok_or(IdError::Missing("id"))?;
        Self::complete(id, id.resource_type())
    }

    fn complete(id: &core::Identifier, resource_type: ResourceType) -> Result<Self, IdError> {
        Ok(Self {
            resource_type,
            project: ProjectId::new(&id.project)?,
            domain: DomainId::new(&id.domain)?,
            name: non_empty(&id.name, "name")?,
            version: non_empty(&id.version, "version")?,
        })
    }

    /// The wire form.
    pub fn to_proto(&self) -> core::Identifier {
        core::Identifier {
            resource_type: self.resource_type as i32,
            project: self.project.to_string(),
            domain: self.domain.to_string(),
            name: self.name.clone(),
            version: self.version.clone(),
            org: String::new(),
        }
    }
}

impl fmt::Display for EntityId {
    /// The text that error messages show and that keys the resource's tasks:
    /// `resource_type:TASK project:"p" domain:"d" name:"n" version:"v"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::prototext(&self.to_proto()))
    }
}

/// An execution of a workflow or of a single task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId {
    /// The project that it runs in.
    pub project: ProjectId,
    /// The domain that it runs in.
    pub domain: DomainId,
    /// Its name, never empty; also the name of its Kubernetes resource.
    pub name: String,
}

impl ExecutionId {
    /// Takes the three parts, none of them empty.
    pub fn new(project: &str, domain: &str, name: &str) -> Result<Self, IdError> {
        Ok(Self {
            project: ProjectId::new(project)?,
            domain: DomainId::new(domain)?,
            name: non_empty(name, "name")?,
        })
    }

    /// Reads a wire identifier, all parts required (*ex* of spec 01 §4.6).
    pub fn from_proto(id: Option<&core::WorkflowExecutionIdentifier>) -> Result<Self, IdError> {
        let id = id.ok_or(IdError::Missing("id"))?;
        Self::new(&id.project, &id.domain, &id.name)
    }

    /// The wire form.
    pub fn to_proto(&self) -> core::WorkflowExecutionIdentifier {
        core::WorkflowExecutionIdentifier {
            project: self.project.to_string(),
            domain: self.domain.to_string(),
            name: self.name.clone(),
            org: String::new(),
        }
    }
}

impl fmt::Display for ExecutionId {
    /// `project:domain:name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.project, self.domain, self.name)
    }
}

/// One node of an execution; the node id is the unique one (spec 04 §8.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeExecutionId {
    /// The workflow execution that the node belongs to.
    pub execution: ExecutionId,
    /// The node's unique id within it.
    pub node: NodeId,
}

impl NodeExecutionId {
    /// Reads a wire identifier, all parts required (*node* of spec 01 §4.6).
    pub fn from_proto(id: Option<&core::NodeExecutionIdentifier>) -> Result<Self, IdError> {
        let id = id.ok_or(IdError::Missing("id"))?;
        if id.execution_id.is_none() {
            return Err(IdError::Missing("execution_id"));
        }
        let node = NodeId::new(&id.node_id)?;
        Ok(Self {
            execution: ExecutionId::from_proto(id.execution_id.as_ref())?,
            node,
        })
    }

    /// The wire form.
    pub fn to_proto(&self) -> core::NodeExecutionIdentifier {
        core::NodeExecutionIdentifier {
            node_id: self.node.to_string(),
            execution_id: Some(self.execution.to_proto()),
        }
    }
}

impl fmt::Display for NodeExecutionId {
    /// `project:domain:name:node`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.execution, self.node)
    }
}

/// One attempt of a task at a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskExecutionId {
    /// The task that the node runs.
    pub task: EntityId,
    /// The node that runs it.
    pub node: NodeExecutionId,
    /// Counts from 0, user and system retries together.
    pub retry_attempt: u32,
}

impl TaskExecutionId {
    /// Reads a wire identifier, all parts required (*task* of spec 01 §4.6).
    pub fn from_proto(id: Option<&core::TaskExecutionIdentifier>) -> Result<Self, IdError> {
        let id = id.ok_or(IdError::Missing("id"))?;
        if id.node_execution_id.is_none() {
            return Err(IdError::Missing("node_execution_id"));
        }
        let node = NodeExecutionId::from_proto(id.node_execution_id.as_ref())?;
        if id.task_id.is_none() {
            return Err(IdError::Missing("task_id"));
        }
        Ok(Self {
            task: EntityId::expect(id.task_id.as_ref(), ResourceType::Task)?,
            node,
            retry_attempt: id.retry_attempt,
        })
    }

    /// The wire form.
    pub fn to_proto(&self) -> core::TaskExecutionIdentifier {
        core::TaskExecutionIdentifier {
            task_id: Some(self.task.to_proto()),
            node_execution_id: Some(self.node.to_proto()),
            retry_attempt: self.retry_attempt,
        }
    }
}

/// A wire identifier in the order in which requirements and lookups are sorted: resource type, project,
/// domain, name, version (spec 08 A2).
pub fn sort_key(id: &core::Identifier) -> (i32, &str, &str, &str, &str, &str) {
    (
        id.resource_type,
        &id.project,
        &id.domain,
        &id.name,
        &id.version,
        &id.org,
    )
}

/// Lower-case name of a resource type (`launch_plan`); the number where it is unknown.
pub fn resource_type_name(number: i32) -> String {
    ResourceType::try_from(number).map_or_else(
        |_| number.to_string(),
        |known| known.as_str_name().to_lowercase(),
    )
}

fn non_empty(text: &str, field: &'static str) -> Result<String, IdError> {
    if text.is_empty() {
        Err(IdError::Missing(field))
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> core::Identifier {
        core::Identifier {
            resource_type: ResourceType::Task as i32,
            project: "p".into(),
            domain: "d".into(),
            name: "n".into(),
            version: "v".into(),
            org: String::new(),
        }
    }

    #[test]
    fn a_complete_identifier_survives_the_round_trip() {
        let id = EntityId::expect(Some(&wire()), ResourceType::Task).unwrap();
        assert_eq!(id.to_proto(), wire());
        assert_eq!(
            id.to_string(),
            "resource_type:TASK project:\"p\" domain:\"d\" name:\"n\" version:\"v\""
        );
    }

    #[test]
    fn the_first_missing_part_is_named() {
        for (change, expected) in [
            (
                (|id| id.resource_type = 3) as fn(&mut core::Identifier),
                "unexpected resource type launch_plan for identifier [resource_type:LAUNCH_PLAN project:\"p\" domain:\"d\" name:\"n\" version:\"v\"], expected task instead",
            ),
            (
                |id| {
                    id.project.clear();
                    id.name.clear();
                },
                "missing project",
            ),
            (|id| id.domain.clear(), "missing domain"),
            (|id| id.name.clear(), "missing name"),
            (|id| id.version.clear(), "missing version"),
        ] {
            let mut id = wire();
            change(&mut id);
            let error = EntityId::expect(Some(&id), ResourceType::Task).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(
            EntityId::expect(None, ResourceType::Task),
            Err(IdError::Missing("id"))
        );
    }

    #[test]
    fn node_and_task_executions_name_what_they_miss() {
        let node = core::NodeExecutionIdentifier {
            node_id: String::new(),
            execution_id: Some(core::WorkflowExecutionIdentifier::default()),
        };
        for (id, expected) in [
            (
                core::NodeExecutionIdentifier::default(),
                "missing execution_id",
            ),
            (node.clone(), "missing node_id"),
            (
                core::NodeExecutionIdentifier {
                    node_id: "n0".into(),
                    ..node
                },
                "missing project",
            ),
        ] {
            assert_eq!(
                NodeExecutionId::from_proto(Some(&id))
                    .unwrap_err()
                    .to_string(),
                expected
            );
        }
        assert_eq!(
            TaskExecutionId::from_proto(Some(&core::TaskExecutionIdentifier::default())),
            Err(IdError::Missing("node_execution_id"))
        );
    }
}
