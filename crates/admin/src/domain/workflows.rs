//! Workflows: what they refer to, their limits, and which blob is whose closure (spec 01 §8).

use flyte_core::{
    digest,
    identifiers::{EntityId, ResourceType},
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

/// Checks size and number of nodes of a workflow that is registered under `id`.
///
/// # Errors
/// INVALID_ARGUMENT with the limit that it exceeds; INTERNAL when the configured one is no quantity.
pub(crate) fn require_limits(
    registration: &RegistrationConfig,
    id: &core::Identifier,
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
    let nodes = compiled
        .primary
        .as_ref()
        .and_then(|primary| primary.template.as_ref())
        .map_or(0, |template| template.nodes.len())
        .saturating_sub(2);
    let max = registration.max_workflow_nodes;
    if max > 0 && nodes > max {
        return Err(Error::Invalid(format!(
            "number of nodes in workflow [{}] exceeds limit ({nodes} > {max})",
            text::prototext(id)
        )));
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
