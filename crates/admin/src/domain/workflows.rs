//! Workflows: what they refer to, their limits, and which blob is whose closure (spec 01 §8).

use std::collections::HashSet;

use flyte_core::{
    digest,
    identifiers::{EntityId, ResourceType},
    layout::{END_NODE, START_NODE},
    quantity::Quantity,
};
use flyte_idl::{admin, core, stored::Stored, text};
use prost::Message as _;

use crate::{
    config::RegistrationConfig,
    error::{Error, NotFoundKind, Result},
    records::Workflow,
};

/// The ids of the right kind; of those of another kind the compiler will say that they do not exist. An
/// incomplete one names nothing that exists.
pub(crate) fn complete(ids: &[core::Identifier], expected: ResourceType) -> Result<Vec<EntityId>> {
    ids.iter()
        .filter(|id| id.resource_type == expected as i32)
        .map(|id| {
            EntityId::any(Some(id)).map_err(|_incomplete| {
                let untyped = core::Identifier {
                    resource_type: ResourceType::Unspecified as i32,
                    ..id.clone()
                };
                Error::not_found(NotFoundKind::Entity(expected), text::prototext(&untyped))
            })
        })
        .collect()
}

/// Checks the number of nodes of a workflow that is to be registered under `id`. This comes before all that costs more than
/// reading it; the reference counts when it has compiled it, where it counts nodes with one id once.
///
/// # Errors
/// INVALID_ARGUMENT with the limit that it exceeds.
pub(crate) fn require_node_count(
    registration: &RegistrationConfig,
    id: &core::Identifier,
    template: &core::WorkflowTemplate,
) -> Result<()> {
    let max = registration.max_workflow_nodes;
    if max == 0 || template.nodes.len() <= max {
        return Ok(());
    }
    let ids: HashSet<&str> = template
        .nodes
        .iter()
        .map(|node| node.id.as_str())
        .filter(|id| ![START_NODE, END_NODE].contains(id))
        .collect();
    if ids.len() > max {
        return Err(Error::Invalid(format!(
            "number of nodes in workflow [{}] exceeds limit ({} > {max})",
            text::prototext(id),
            ids.len()
        )));
    }
    Ok(())
}

/// Checks the size of a compiled workflow.
///
/// # Errors
/// INVALID_ARGUMENT with the limit that it exceeds; INTERNAL when the configured one is no quantity.
pub(crate) fn require_size(
    registration: &RegistrationConfig,
    compiled: &core::CompiledWorkflowClosure,
) -> Result<()> {
    if !registration.workflow_size_limit.is_empty() {
        let limit: Quantity = registration
            .workflow_size_limit
            .parse()
            .map_err(|error| Error::Internal(format!("registration.workflowSizeLimit: {error}")))?;
        let size = i64::try_from(compiled.encoded_len()).unwrap_or(i64::MAX);
        if size > limit.value() {
            return Err(Error::Invalid(format!(
                "Workflow closure size exceeds max limit [{}]",
                registration.workflow_size_limit
            )));
        }
    }
    Ok(())
}

/// Whether this is the closure that was registered: it has the digest of the row. One with fields that this version does
/// not know has a digest that it cannot compute, and is taken at its id.
pub(crate) fn is_closure_of(closure: &Stored<admin::WorkflowClosure>, workflow: &Workflow) -> bool {
    let Some(compiled) = &closure.get().compiled_workflow else {
        return false;
    };
    if closure.has_unknown() {
        let template = compiled
            .primary
            .as_ref()
            .and_then(|primary| primary.template.as_ref());
        let id = template.and_then(|template| template.id.as_ref());
        return id == Some(&workflow.id.to_proto());
    }
    digest::of_message(compiled).is_ok_and(|digest| digest.0.as_slice() == workflow.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted_once_by_id_before_anything_is_made_of_them() {
        let registration = RegistrationConfig {
            max_workflow_nodes: 2,
            ..RegistrationConfig::default()
        };
        let unlimited = RegistrationConfig {
            max_workflow_nodes: 0,
            ..RegistrationConfig::default()
        };
        let id = core::Identifier {
            name: "w".into(),
            ..Default::default()
        };
        for (ids, expected) in [
            (&["a", "b"][..], None),
            (&["a", "b", "start-node", "end-node"], None),
            (&["a", "b", "b", "a"], None),
            (
                &["a", "b", "c"],
                Some("number of nodes in workflow [name:\"w\"] exceeds limit (3 > 2)"),
            ),
        ] {
            let nodes = ids.iter().map(|id| core::Node {
                id: (*id).to_owned(),
                ..Default::default()
            });
            let template = core::WorkflowTemplate {
                nodes: nodes.collect(),
                ..Default::default()
            };
            let refused = require_node_count(&registration, &id, &template).err();
            let refused = refused.map(|error| error.to_string());
            assert_eq!(refused.as_deref(), expected, "{ids:?}");
            assert!(require_node_count(&unlimited, &id, &template).is_ok());
        }
    }
}
