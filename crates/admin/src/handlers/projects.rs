//! Projects and domains (spec 01 §6).

use flyte_idl::admin;

use super::pages;
use crate::{
    caller::{Action, Caller, Resource},
    config::AdminConfig,
    context::AdminContext,
    domain::projects as rules,
    error::{Error, NotFoundKind, Result},
    filters::PROJECTS,
    records::Project,
    repository::projects,
    unknown_fields::{Incoming, Reply, UnknownFields, fields},
};

/// Checks that `project` is registered and active and that `domain` is configured (spec 01 §6.4).
pub(crate) async fn require(
    context: &AdminContext,
    project: &str,
    domain: &str,
) -> Result<Project> {
    if project.is_empty() {
        return Err(Error::missing("project"));
    }
    let mut tx = context.database.read().await?;
    let found = projects::get(&mut tx, project).await?;
    rules::require_active(found, project, domain, &context.config())
}

pub(crate) async fn register(
    context: &AdminContext,
    caller: &Caller,
    Incoming {
        message: request,
        unknown,
    }: Incoming<admin::ProjectRegisterRequest>,
) -> Result<admin::ProjectRegisterResponse> {
    let project = request.project.ok_or_else(|| Error::missing("project"))?;
    context.allow(caller, Action::Administer, Resource::of(&project.id, ""))?;
    if project.name.is_empty() {
        return Err(Error::missing("project_name"));
    }
    rules::validate(&project)?;
    let record = record(project, &unknown.part(fields::REGISTER_PROJECT));
    let now = context.clock.now();
    context
        .database
        .write((record, now), |(record, now), tx| {
            Box::pin(async move { Ok::<_, Error>(projects::insert(tx, record, *now).await?) })
        })
        .await?;
    context.projects_changed.notify_one();
    Ok(admin::ProjectRegisterResponse {})
}

fn record(project: admin::Project, unknown: &UnknownFields<admin::Project>) -> Project {
    Project {
        identifier: project.id.clone(),
        name: project.name.clone(),
        description: project.description.clone(),
        state: project.state.into(),
        labels: project.labels.is_some().then(|| unknown.store(project)),
    }
}

pub(crate) async fn update(
    context: &AdminContext,
    caller: &Caller,
    Incoming {
        message: project,
        unknown,
    }: Incoming<admin::Project>,
) -> Result<admin::ProjectUpdateResponse> {
    context.allow(caller, Action::Administer, Resource::of(&project.id, ""))?;
    if project.id.is_empty() {
        return Err(Error::missing("project_id"));
    }
    let mut tx = context.database.read().await?;
    if projects::get(&mut tx, &project.id).await?.is_none() {
        return Err(not_found(&project.id));
    }
    drop(tx);
    rules::validate(&project)?;
    let now = context.clock.now();
    let id = project.id.clone();
    let touched = context
        .database
        .write((record(project, &unknown), now), |(record, now), tx| {
            Box::pin(async move { Ok::<_, Error>(projects::update(tx, record, *now).await?) })
        })
        .await?;
    if touched == 0 {
        return Err(not_found(&id));
    }
    context.projects_changed.notify_one();
    Ok(admin::ProjectUpdateResponse {})
}

fn not_found(id: &str) -> Error {
    Error::not_found(NotFoundKind::Project, id)
}

pub(crate) async fn get(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ProjectGetRequest,
) -> Result<Reply<admin::Project>> {
    context.allow(caller, Action::Read, Resource::of(&request.id, ""))?;
    if request.id.is_empty() {
        return Err(Error::missing("project_id"));
    }
    let mut tx = context.database.read().await?;
    let project = projects::get(&mut tx, &request.id)
        .await?
        .ok_or_else(|| not_found(&request.id))?;
    Ok(answer(&context.config(), project))
}

pub(crate) async fn list(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ProjectListRequest,
) -> Result<Reply<admin::Projects>> {
    context.allow(caller, Action::Read, Resource::Platform)?;
    let page = pages::page!(request, "ListProjects");
    let mut query = page.parse(&PROJECTS, context.clock.now())?;
    if query.predicates.is_empty() {
        query.predicates.extend(rules::not_archived());
    }
    let mut tx = context.database.read_lagging().await?;
    let projects = projects::list(&mut tx, &query).await?;
    let config = context.config();
    let replies = projects.map(|project| answer(&config, project));
    Ok(pages::reply(
        context,
        &query,
        replies,
        fields::PROJECTS,
        |projects, token| admin::Projects { projects, token },
    ))
}

pub(crate) fn domains(
    context: &AdminContext,
    caller: &Caller,
) -> Result<admin::GetDomainsResponse> {
    context.allow(caller, Action::Read, Resource::Platform)?;
    Ok(admin::GetDomainsResponse {
        domains: domain_messages(&context.config()),
    })
}

fn domain_messages(config: &AdminConfig) -> Vec<admin::Domain> {
    config
        .domains
        .0
        .iter()
        .map(|domain| admin::Domain {
            id: domain.id.clone(),
            name: domain.name.clone(),
        })
        .collect()
}

fn answer(config: &AdminConfig, project: Project) -> Reply<admin::Project> {
    let unknown = project.labels.as_ref().map(UnknownFields::of_stored);
    let message = admin::Project {
        id: project.identifier,
        name: project.name,
        domains: domain_messages(config),
        description: project.description,
        labels: project.labels.and_then(|stored| stored.into_inner().labels),
        state: project.state.number(),
        org: String::new(),
    };
    Reply::new(message, unknown.unwrap_or_default())
}
