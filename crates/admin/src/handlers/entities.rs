//! What requests about tasks, workflows and launch plans have in common.

use flyte_core::identifiers::{EntityId, ResourceType};
use flyte_idl::{admin, core, text};

use super::pages;
use crate::{
    caller::{Action, Caller, Resource},
    context::AdminContext,
    error::{Error, NotFoundKind, Result},
    filters::{Entity, ListQuery},
    repository::Names,
};

/// Project, domain and optional name of a list request.
fn require_names(id: Option<&admin::NamedEntityIdentifier>) -> Result<Names<'_>> {
    let id = id.ok_or_else(|| Error::missing("id"))?;
    for (field, value) in [("project", &id.project), ("domain", &id.domain)] {
        if value.is_empty() {
            return Err(Error::missing(field));
        }
    }
    Ok(Names {
        project: &id.project,
        domain: &id.domain,
        name: &id.name,
    })
}

/// What a list of `entity` begins with: whose rows are asked for, whether the caller may see them, and which of them.
pub(crate) fn list_query<'a>(
    context: &AdminContext,
    caller: &Caller,
    request: &'a admin::ResourceListRequest,
    entity: &'static Entity,
    rpc: &'static str,
) -> Result<(Names<'a>, ListQuery)> {
    let names = require_names(request.id.as_ref())?;
    let scope = Resource::of(names.project, names.domain);
    context.allow(caller, Action::Read, scope)?;
    let page = pages::page!(request, rpc);
    page.require_limit()?;
    Ok((names, page.parse(entity, context.clock.now())?))
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

/// Project and domain of an entity, which the policy is asked about.
pub(crate) fn scope(id: &EntityId) -> Resource<'_> {
    Resource::of(id.project.as_str(), id.domain.as_str())
}
