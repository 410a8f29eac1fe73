//! Description entities (spec 01 §11.2).

use flyte_core::identifiers::ResourceType;
use flyte_idl::{admin, core, stored::Stored};
use flyte_platform::sql::{DbError, WriteTx};
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::pages;
use crate::{
    caller::{Action, Caller, Resource},
    context::AdminContext,
    error::{Error, NotFoundKind, Result},
    filters::{DESCRIPTION_ENTITIES, LAUNCH_PLANS, TASKS, WORKFLOWS},
    records::Description,
    repository::descriptions,
    unknown_fields::{Reply, UnknownFields, fields},
};

/// The record of a description that came with a registration.
pub(crate) fn record(
    id: &core::Identifier,
    description: &admin::DescriptionEntity,
    unknown: &UnknownFields<admin::DescriptionEntity>,
) -> Description {
    Description {
        id: id.clone(),
        short: description.short_description.clone(),
        long: description
            .long_description
            .clone()
            .map(|long| unknown.part(fields::DESCRIPTION_LONG).store(long)),
        link: description
            .source_code
            .as_ref()
            .map(|source| source.link.clone())
            .unwrap_or_default(),
    }
}

/// What may be registered with a description.
pub(super) trait Described: Clone + Send + Sync + 'static {
    /// Inserts it; a taken id is a unique violation.
    fn insert<'a>(
        &'a self,
        tx: &'a mut WriteTx,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<(), DbError>>;
}

/// Inserts `entity` and its description, both or neither.
pub(super) async fn insert<E: Described>(
    context: &AdminContext,
    entity: &E,
    description: Option<Description>,
) -> Result<()> {
    let now = context.clock.now();
    context
        .database
        .write(
            (entity.clone(), description, now),
            |(entity, description, now), tx| {
                Box::pin(async move {
                    entity.insert(tx, *now).await?;
                    if let Some(description) = description {
                        descriptions::insert(tx, description, *now).await?;
                    }
                    Ok::<_, Error>(())
                })
            },
        )
        .await
}

fn answer(description: Description) -> Reply<admin::DescriptionEntity> {
    let unknown = description.long.as_ref().map(UnknownFields::of_stored);
    let message = admin::DescriptionEntity {
        id: Some(description.id),
        short_description: description.short,
        long_description: description.long.map(Stored::into_inner),
        source_code: Some(admin::SourceCode {
            link: description.link,
        }),
        ..Default::default()
    };
    Reply::from(message).with(fields::DESCRIPTION_LONG, unknown.unwrap_or_default())
}

pub(crate) async fn get(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ObjectGetRequest,
) -> Result<Reply<admin::DescriptionEntity>> {
    let mut id = request.id.unwrap_or_default();
    context.allow(caller, Action::Read, Resource::of(&id.project, &id.domain))?;
    if id == core::Identifier::default() {
        return Err(Error::invalid("invalid value for resource_type"));
    }
    if id.resource_type == ResourceType::Unspecified as i32 {
        id.resource_type = ResourceType::Task as i32;
    }
    for (field, value) in [
        ("project", &id.project),
        ("domain", &id.domain),
        ("name", &id.name),
        ("version", &id.version),
    ] {
        if value.is_empty() {
            return Err(Error::missing(field));
        }
    }
    let mut tx = context.database.read().await?;
    let description = descriptions::get(&mut tx, &id)
        .await?
        .ok_or_else(|| Error::not_found(NotFoundKind::Description, id.name))?;
    Ok(answer(description))
}

pub(crate) async fn list(
    context: &AdminContext,
    caller: &Caller,
    request: admin::DescriptionEntityListRequest,
) -> Result<Reply<admin::DescriptionEntityList>> {
    let id = request.id.ok_or_else(|| Error::missing("id"))?;
    context.allow(caller, Action::Read, Resource::of(&id.project, &id.domain))?;
    for (field, value) in [
        ("project", &id.project),
        ("domain", &id.domain),
        ("name", &id.name),
    ] {
        if value.is_empty() {
            return Err(Error::missing(field));
        }
    }
    let page = pages::page!(request, "ListWorkflows");
    page.require_limit()?;
    let filtered = match ResourceType::try_from(request.resource_type) {
        Ok(ResourceType::Task) => &TASKS,
        Ok(ResourceType::Workflow) => &WORKFLOWS,
        Ok(ResourceType::LaunchPlan) => &LAUNCH_PLANS,
        Ok(ResourceType::Unspecified | ResourceType::Dataset) | Err(_) => {
            if !request.filters.is_empty() {
                return Err(Error::invalid("unsupported entity ''"));
            }
            &TASKS
        }
    };
    let query = page.parse_with(filtered, &DESCRIPTION_ENTITIES, context.clock.now())?;
    let mut tx = context.database.read_lagging().await?;
    let list = descriptions::list(&mut tx, request.resource_type, &id, &query).await?;
    let replies = list.map(answer);
    Ok(pages::reply(
        context,
        &query,
        replies,
        fields::DESCRIPTIONS,
        |description_entities, token| admin::DescriptionEntityList {
            description_entities,
            token,
        },
    ))
}
