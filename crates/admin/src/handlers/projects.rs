//! Projects and domains (spec 01 §6).

use flyte_idl::admin;

use crate::{
    caller::{Action, Caller},
    config::AdminConfig,
    domain::projects as rules,
    error::{Error, Missing, Result},
    filters::{Comparison, PROJECTS, Page, Predicate, Test},
    records::{Project, ProjectState},
    repository::projects,
    service::Service,
    unknown::{Answer, Unknown},
};

/// Checks that `project` is registered and active and that `domain` is configured (spec 01 §6.4).
pub(crate) async fn require(service: &Service, project: &str, domain: &str) -> Result<Project> {
    if project.is_empty() {
        return Err(Error::missing("project"));
    }
    let mut tx = service.database.read().await?;
    let found = projects::get(&mut tx, project).await?;
    rules::require_active(found, (project, domain), &service.config())
}

pub(crate) async fn register(
    service: &Service,
    caller: &Caller,
    request: admin::ProjectRegisterRequest,
    unknown: &Unknown,
) -> Result<admin::ProjectRegisterResponse> {
    let project = request.project.ok_or_else(|| Error::missing("project"))?;
    service.allow(caller, Action::Administer, (&project.id, ""))?;
    if project.name.is_empty() {
        return Err(Error::missing("project_name"));
    }
    rules::validate(&project)?;
    let record = record(project, &unknown.part("project"));
    let now = service.clock.now();
    service
        .database
        .write((record, now), |(record, now), tx| {
            Box::pin(async move { Ok::<_, Error>(projects::insert(tx, record, *now).await?) })
        })
        .await?;
    service.projects_changed.notify_one();
    Ok(admin::ProjectRegisterResponse {})
}

fn record(project: admin::Project, unknown: &Unknown) -> Project {
    Project {
        identifier: project.id.clone(),
        name: project.name.clone(),
        description: project.description.clone(),
        state: project.state.into(),
        labels: project.labels.is_some().then(|| unknown.store(project)),
    }
}

pub(crate) async fn update(
    service: &Service,
    caller: &Caller,
    project: admin::Project,
    unknown: &Unknown,
) -> Result<admin::ProjectUpdateResponse> {
    service.allow(caller, Action::Administer, (&project.id, ""))?;
    if project.id.is_empty() {
        return Err(Error::missing("project_id"));
    }
    let mut tx = service.database.read().await?;
    if projects::get(&mut tx, &project.id).await?.is_none() {
        return Err(not_found(&project.id));
    }
    drop(tx);
    rules::validate(&project)?;
    let now = service.clock.now();
    let id = project.id.clone();
    let touched = service
        .database
        .write((record(project, unknown), now), |(record, now), tx| {
            Box::pin(async move { Ok::<_, Error>(projects::update(tx, record, *now).await?) })
        })
        .await?;
    if touched == 0 {
        return Err(not_found(&id));
    }
    service.projects_changed.notify_one();
    Ok(admin::ProjectUpdateResponse {})
}

fn not_found(id: &str) -> Error {
    Error::not_found(Missing::Project, id)
}

pub(crate) async fn get(
    service: &Service,
    caller: &Caller,
    request: admin::ProjectGetRequest,
) -> Result<Answer<admin::Project>> {
    service.allow(caller, Action::Read, (&request.id, ""))?;
    if request.id.is_empty() {
        return Err(Error::missing("project_id"));
    }
    let mut tx = service.database.read().await?;
    let project = projects::get(&mut tx, &request.id)
        .await?
        .ok_or_else(|| not_found(&request.id))?;
    Ok(answer(&service.config(), project))
}

pub(crate) async fn list(
    service: &Service,
    caller: &Caller,
    request: admin::ProjectListRequest,
) -> Result<Answer<admin::Projects>> {
    service.allow(caller, Action::Read, ("", ""))?;
    let page = Page {
        filters: &request.filters,
        sort_by: request.sort_by.as_ref(),
        token: &request.token,
        limit: request.limit,
        rpc: "ListProjects",
    };
    let mut query = page.parse(&PROJECTS, service.clock.now())?;
    if query.predicates.is_empty() {
        query.predicates.extend(not_archived());
    }
    let mut tx = service.database.read_lagging().await?;
    let projects = projects::list(&mut tx, &query).await?;
    let token = query.next_token(projects.len());
    let config = service.config();
    let answers = projects
        .into_iter()
        .map(|project| answer(&config, project))
        .collect();
    Ok(Answer::list(answers, "projects", |projects| {
        admin::Projects { projects, token }
    }))
}

/// The predicate that leaves archived projects out.
pub(crate) fn not_archived() -> Option<Predicate> {
    Some(Predicate {
        entity: &PROJECTS,
        column: PROJECTS.column("state")?,
        test: Test::Compare(Comparison::NotEqual, ProjectState::Archived.number().into()),
    })
}

pub(crate) fn domains(service: &Service, caller: &Caller) -> Result<admin::GetDomainsResponse> {
    service.allow(caller, Action::Read, ("", ""))?;
    Ok(admin::GetDomainsResponse {
        domains: domain_messages(&service.config()),
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

fn answer(config: &AdminConfig, project: Project) -> Answer<admin::Project> {
    let unknown = project.labels.as_ref().map(Unknown::of_stored);
    let message = admin::Project {
        id: project.identifier,
        name: project.name,
        domains: domain_messages(config),
        description: project.description,
        labels: project.labels.and_then(|stored| stored.into_inner().labels),
        state: project.state.number(),
        org: String::new(),
    };
    Answer::like(message, unknown.unwrap_or_default())
}
