//! Names and their metadata (spec 01 §11.1).

use flyte_core::identifiers::ResourceType;
use flyte_idl::admin;
use prost::Message;

use super::pages;
use crate::{
    caller::{Action, Caller, Resource},
    context::AdminContext,
    error::{Error, NotFoundKind, Result},
    filters::{
        Entity, LAUNCH_PLANS, ListQuery, NAMED_ENTITIES, Page, Predicate, TASKS, Test, WORKFLOWS,
    },
    records::{NamedEntity, NamedEntityState},
    repository::{
        Names,
        named_entities::{self, NamedResource},
    },
};

/// The longest description, column `description`.
const DESCRIPTION_MAX: usize = 300;

fn resource_name(number: i32) -> String {
    ResourceType::try_from(number).map_or_else(
        |_unknown| number.to_string(),
        |known| known.as_str_name().to_owned(),
    )
}

fn resource(number: i32) -> Option<NamedResource> {
    match ResourceType::try_from(number).ok()? {
        ResourceType::Task => Some(NamedResource::Task),
        ResourceType::Workflow => Some(NamedResource::Workflow),
        ResourceType::LaunchPlan => Some(NamedResource::LaunchPlan),
        ResourceType::Unspecified | ResourceType::Dataset => None,
    }
}

fn require_type(number: i32) -> Result<()> {
    if number == ResourceType::Unspecified as i32 {
        return Err(Error::invalid("invalid value for resource_type"));
    }
    Ok(())
}

fn require_id(id: Option<&admin::NamedEntityIdentifier>) -> Result<&admin::NamedEntityIdentifier> {
    let id = id.ok_or_else(|| Error::missing("id"))?;
    for (field, value) in [
        ("project", &id.project),
        ("domain", &id.domain),
        ("name", &id.name),
    ] {
        if value.is_empty() {
            return Err(Error::missing(field));
        }
    }
    Ok(id)
}

fn require_resource(number: i32) -> Result<NamedResource> {
    resource(number).ok_or_else(|| {
        Error::Invalid(format!(
            "Cannot get NamedEntityMetadata for resource type: {}",
            resource_name(number)
        ))
    })
}

fn message(resource: NamedResource, entity: NamedEntity) -> admin::NamedEntity {
    admin::NamedEntity {
        resource_type: resource.number(),
        id: Some(admin::NamedEntityIdentifier {
            project: entity.project,
            domain: entity.domain,
            name: entity.name,
            ..Default::default()
        }),
        metadata: Some(admin::NamedEntityMetadata {
            description: entity.description,
            state: entity.state.number(),
        }),
    }
}

pub(crate) async fn get(
    context: &AdminContext,
    caller: &Caller,
    request: admin::NamedEntityGetRequest,
) -> Result<admin::NamedEntity> {
    require_type(request.resource_type)?;
    let id = require_id(request.id.as_ref())?;
    context.allow(caller, Action::Read, Resource::of(&id.project, &id.domain))?;
    let resource = require_resource(request.resource_type)?;
    let mut tx = context.database.read().await?;
    let entity = named_entities::get(&mut tx, resource, id)
        .await?
        .ok_or_else(|| Error::not_found(NotFoundKind::NamedEntity, id.name.as_str()))?;
    Ok(message(resource, entity))
}

pub(crate) async fn update(
    context: &AdminContext,
    caller: &Caller,
    request: admin::NamedEntityUpdateRequest,
) -> Result<admin::NamedEntityUpdateResponse> {
    require_type(request.resource_type)?;
    let id = require_id(request.id.as_ref())?;
    context.allow(
        caller,
        Action::Register,
        Resource::of(&id.project, &id.domain),
    )?;
    let metadata = request
        .metadata
        .as_ref()
        .ok_or_else(|| Error::missing("metadata"))?;
    if resource(request.resource_type).is_none()
        && metadata.state != NamedEntityState::Active.number()
    {
        return Err(Error::Invalid(format!(
            "Resource [{}] cannot have its state updated",
            resource_name(request.resource_type)
        )));
    }
    let resource = require_resource(request.resource_type)?;
    if metadata.description.chars().count() > DESCRIPTION_MAX {
        return Err(Error::invalid(
            "failed database operation with value too long for type character varying(300)",
        ));
    }
    let mut tx = context.database.read().await?;
    if named_entities::get(&mut tx, resource, id).await?.is_none() {
        return Err(Error::not_found(
            NotFoundKind::NamedEntity,
            id.name.as_str(),
        ));
    }
    drop(tx);
    let entity = NamedEntity {
        project: id.project.clone(),
        domain: id.domain.clone(),
        name: id.name.clone(),
        description: metadata.description.clone(),
        state: metadata.state.into(),
    };
    let now = context.clock.now();
    context
        .database
        .write((resource, entity, now), |(resource, entity, now), tx| {
            Box::pin(async move {
                named_entities::set_metadata(tx, *resource, entity, *now).await?;
                Ok::<_, Error>(())
            })
        })
        .await?;
    Ok(admin::NamedEntityUpdateResponse {})
}

pub(crate) async fn list(
    context: &AdminContext,
    caller: &Caller,
    request: admin::NamedEntityListRequest,
) -> Result<admin::NamedEntityList> {
    context.allow(
        caller,
        Action::Read,
        Resource::of(&request.project, &request.domain),
    )?;
    require_scope(&request.project, &request.domain)?;
    require_type(request.resource_type)?;
    let page = pages::page!(request, "ListNamedEntities");
    page.require_limit()?;
    let mut query = page.parse(&NAMED_ENTITIES, context.clock.now())?;
    if query.predicates.is_empty() {
        query.predicates.extend(not_generated());
    }
    let resource = resource(request.resource_type).ok_or_else(|| {
        Error::Invalid(format!(
            "Cannot list entity names for resource type: {}",
            resource_name(request.resource_type)
        ))
    })?;
    refuse_unknown_columns(&query)?;
    let mut tx = context.database.read_lagging().await?;
    let names = names_of(&request.project, &request.domain);
    let entities = named_entities::list(&mut tx, resource, names, &query).await?;
    let mut entities = entities.map(|entity| message(resource, entity));
    let token = pages::fit(context, &query, &mut entities, Message::encoded_len);
    Ok(admin::NamedEntityList {
        entities: entities.into_vec(),
        token,
    })
}

/// All names of a project and domain.
fn names_of<'a>(project: &'a str, domain: &'a str) -> Names<'a> {
    Names {
        project,
        domain,
        name: "",
    }
}

fn require_scope(project: &str, domain: &str) -> Result<()> {
    if project.is_empty() {
        return Err(Error::missing("project"));
    }
    if domain.is_empty() {
        return Err(Error::missing("domain"));
    }
    Ok(())
}

/// Columns that the language allows but the query does not have: UNKNOWN in the reference.
fn refuse_unknown_columns(query: &ListQuery) -> Result<()> {
    let filtered = query.predicates.iter().any(|predicate| {
        predicate.entity == &NAMED_ENTITIES && predicate.column.name == "resource_type"
    });
    if filtered {
        return Err(Error::invalid(
            "failed database operation with column entities.resource_type does not exist",
        ));
    }
    match query.sort {
        Some(sort) if !matches!(sort.column.name, "project" | "domain" | "name") => {
            Err(Error::Invalid(format!(
                "failed database operation with column \"{}\" does not exist",
                sort.column.name
            )))
        }
        _ => Ok(()),
    }
}

/// Names that admin made up for single tasks are hidden unless a filter is given.
fn not_generated() -> Option<Predicate> {
    Some(Predicate {
        entity: &NAMED_ENTITIES,
        column: NAMED_ENTITIES.column("name")?,
        test: Test::NotLike(".flytegen%".into()),
        checked: false,
    })
}

/// Which id list is asked for; they differ in small ways (spec 01 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdList {
    Tasks,
    Workflows,
    LaunchPlans,
}

impl IdList {
    fn entity(self) -> &'static Entity {
        match self {
            Self::Tasks => &TASKS,
            Self::Workflows => &WORKFLOWS,
            Self::LaunchPlans => &LAUNCH_PLANS,
        }
    }

    fn resource(self) -> NamedResource {
        match self {
            Self::Tasks => NamedResource::Task,
            Self::Workflows => NamedResource::Workflow,
            Self::LaunchPlans => NamedResource::LaunchPlan,
        }
    }

    fn rpc(self) -> &'static str {
        match self {
            Self::Tasks => "ListUniqueTaskIdentifiers",
            Self::Workflows => "ListWorkflowIdentifiers",
            Self::LaunchPlans => "",
        }
    }
}

/// Distinct names; filters are ignored, malformed ones too.
pub(crate) async fn ids(
    context: &AdminContext,
    caller: &Caller,
    which: IdList,
    request: admin::NamedEntityIdentifierListRequest,
) -> Result<admin::NamedEntityIdentifierList> {
    context.allow(
        caller,
        Action::Read,
        Resource::of(&request.project, &request.domain),
    )?;
    let page = Page {
        filters: "",
        sort_by: request.sort_by.as_ref(),
        token: &request.token,
        limit: request.limit,
        rpc: which.rpc(),
    };
    match which {
        IdList::Tasks | IdList::Workflows => {
            require_scope(&request.project, &request.domain)?;
            page.require_limit()?;
        }
        // This one skips request validation and fails in the database layer (spec 01 §5.1).
        IdList::LaunchPlans => {}
    }
    let query = page.parse(which.entity(), context.clock.now())?;
    if which == IdList::LaunchPlans {
        if request.limit == 0 {
            return Err(Error::invalid("missing and/or invalid parameters: limit"));
        }
        if request.project.is_empty() && request.domain.is_empty() {
            return Err(Error::invalid("missing and/or invalid parameters: filters"));
        }
    }
    if let Some(sort) = query.sort
        && !matches!(sort.column.name, "project" | "domain" | "name")
    {
        return Err(Error::Invalid(format!(
            "failed database operation with column \"{}.{}\" must appear in the GROUP BY clause or be used in an aggregate function",
            which.entity().table,
            sort.column.name
        )));
    }
    let mut tx = context.database.read_lagging().await?;
    let names = names_of(&request.project, &request.domain);
    let mut entities = named_entities::names(&mut tx, which.resource(), names, &query).await?;
    let token = pages::fit(context, &query, &mut entities, Message::encoded_len);
    Ok(admin::NamedEntityIdentifierList {
        entities: entities.into_vec(),
        token,
    })
}
