//! What requests about tasks, workflows and launch plans have in common.

use flyte_core::identifiers::{EntityId, ResourceType};
use flyte_idl::{admin, core, text};

use crate::{
    error::{Error, NotFoundKind, Result},
    filters::Page,
};

/// Project, domain and optional name of a list request.
pub(crate) fn require_names(
    id: Option<&admin::NamedEntityIdentifier>,
) -> Result<(&str, &str, &str)> {
    let id = id.ok_or_else(|| Error::missing("id"))?;
    for (field, value) in [("project", &id.project), ("domain", &id.domain)] {
        if value.is_empty() {
            return Err(Error::missing(field));
        }
    }
    Ok((&id.project, &id.domain, &id.name))
}

/// The page part of a list request.
pub(crate) fn page<'a>(request: &'a admin::ResourceListRequest, rpc: &'static str) -> Page<'a> {
    Page {
        filters: &request.filters,
        sort_by: request.sort_by.as_ref(),
        token: &request.token,
        limit: request.limit,
        rpc,
    }
}

/// The complete id in a get request; an unspecified type is the one that the RPC is about.
pub(crate) fn require(id: Option<core::Identifier>, expected: ResourceType) -> Result<EntityId> {
    let mut id = id.ok_or_else(|| Error::missing("id"))?;
    if id.resource_type == ResourceType::Unspecified as i32 {
        id.resource_type = expected as i32;
    }
    Ok(EntityId::expect(Some(&id), expected)?)
}

/// NOT_FOUND for an entity; the text leaves the resource type out.
pub(crate) fn not_found(id: &EntityId) -> Error {
    let untyped = core::Identifier {
        resource_type: ResourceType::Unspecified as i32,
        ..id.to_proto()
    };
    Error::not_found(
        NotFoundKind::Entity(id.resource_type),
        text::prototext(&untyped),
    )
}

/// The parts of an id, for policy questions.
pub(crate) fn scope(id: &EntityId) -> (&str, &str) {
    (id.project.as_str(), id.domain.as_str())
}
