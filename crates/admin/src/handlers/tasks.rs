//! Tasks (spec 01 §7).

use flyte_core::{
    compiler, digest,
    identifiers::{EntityId, ResourceType},
};
use flyte_idl::admin;
use flyte_platform::sql::DbError;

use super::{
    descriptions,
    entities::{self, missing, scope},
    projects,
};
use crate::{
    caller::{Action, Caller},
    domain::{self, diff},
    error::{Error, Result},
    filters::TASKS,
    records::{Description, Task},
    repository,
    service::Service,
    time,
    unknown::{Answer, Unknown},
};

pub(crate) async fn create(
    service: &Service,
    caller: &Caller,
    request: admin::TaskCreateRequest,
    unknown: &Unknown,
) -> Result<admin::TaskCreateResponse> {
    let id = EntityId::expect(request.id.as_ref(), ResourceType::Task)?;
    service.allow(caller, Action::Register, scope(&id))?;
    projects::require(service, id.project.as_str(), id.domain.as_str()).await?;
    let spec = request.spec.ok_or_else(|| Error::missing("spec"))?;
    let mut template = spec.template.ok_or_else(|| Error::missing("spec"))?;
    domain::tasks::validate(&service.config(), &id, &template)?;
    template.id = Some(id.to_proto());
    let short_description = spec
        .description
        .as_ref()
        .map(|description| description.short_description.clone())
        .unwrap_or_default();
    let task_type = template.r#type.clone();
    let compiled = compiler::compile_task(template)
        .map_err(|errors| Error::Invalid(compiler::task_failure(&errors)))?;
    let digest = digest::of_message(&compiled).map_err(|error| {
        Error::Invalid(format!(
            "failed to hash task [{id}] to digest with err {error}"
        ))
    })?;
    let now = service.clock.now();
    let kept = unknown
        .part("spec")
        .part("template")
        .within("flyteidl.core.CompiledTask", "template")
        .within("flyteidl.admin.TaskClosure", "compiled_task");
    let task = Task {
        row: None,
        id: id.clone(),
        closure: kept.store(admin::TaskClosure {
            compiled_task: Some(compiled),
            created_at: Some(time::to_wire(now)),
        }),
        digest: digest.0.to_vec(),
        task_type,
        short_description,
        created_at: Some(now),
    };
    let description = spec.description.as_ref().map(|description| {
        let of_description = unknown.part("spec").part("description");
        descriptions::record(&id.to_proto(), description, &of_description)
    });
    // A repeated registration is the normal case and need not reach the writer (spec 08 C9).
    let mut tx = service.database.read().await?;
    if let Some(stored) = repository::tasks::digest(&mut tx, &id).await? {
        drop(tx);
        return Err(exists(service, &task, stored == task.digest).await);
    }
    drop(tx);
    let written = insert(service, &task, description).await;
    match written {
        Ok(()) => {
            count(service, &task);
            Ok(admin::TaskCreateResponse {})
        }
        Err(Error::Store(DbError::UniqueViolation { .. })) => {
            let mut tx = service.database.read().await?;
            let stored = repository::tasks::digest(&mut tx, &id).await?;
            drop(tx);
            Err(exists(service, &task, stored.as_ref() == Some(&task.digest)).await)
        }
        Err(error) => Err(error),
    }
}

fn count(service: &Service, task: &Task) {
    let runtime = task
        .closure
        .get()
        .compiled_task
        .as_ref()
        .and_then(|compiled| {
            compiled
                .template
                .as_ref()?
                .metadata
                .as_ref()?
                .runtime
                .as_ref()
        });
    let (kind, version) = runtime.map_or(("OTHER", ""), |runtime| {
        (runtime.r#type().as_str_name(), runtime.version.as_str())
    });
    service
        .counts()
        .registered
        .task(&task.id, task.closure.bytes().len(), (kind, version));
}

async fn insert(service: &Service, task: &Task, description: Option<Description>) -> Result<()> {
    let now = service.clock.now();
    service
        .database
        .write(
            (task.clone(), description, now),
            |(task, description, now), tx| {
                Box::pin(async move {
                    repository::tasks::insert(tx, task, *now).await?;
                    if let Some(description) = description {
                        repository::descriptions::insert(tx, description, *now).await?;
                    }
                    Ok::<_, Error>(())
                })
            },
        )
        .await
}

/// The answer to a registration under a taken id.
async fn exists(service: &Service, task: &Task, identical: bool) -> Error {
    if identical {
        return Error::AlreadyExists("task with identical structure already exists".to_owned());
    }
    let stored = match service.database.read().await {
        Ok(mut tx) => repository::tasks::get(&mut tx, &task.id).await,
        Err(error) => Err(error),
    };
    match stored {
        Ok(stored) => {
            let old = stored.and_then(|task| task.closure.into_inner().compiled_task);
            let new = task.closure.get().compiled_task.clone();
            Error::Invalid(format!(
                "{} task with different structure already exists. (Please register a new version of the task):\n{}",
                task.id.name,
                diff::text(&old.unwrap_or_default(), &new.unwrap_or_default())
            ))
        }
        Err(error) => error.into(),
    }
}

fn message(task: Task) -> Answer<admin::Task> {
    let unknown = Unknown::of_stored(&task.closure);
    let mut closure = task.closure.into_inner();
    closure.created_at = task.created_at.map(time::to_wire);
    let message = admin::Task {
        id: Some(task.id.to_proto()),
        closure: Some(closure),
        short_description: task.short_description,
    };
    Answer::made_from(message, [("closure", unknown)])
}

pub(crate) async fn load(service: &Service, id: &EntityId) -> Result<Task> {
    let mut tx = service.database.read().await?;
    repository::tasks::get(&mut tx, id)
        .await?
        .ok_or_else(|| missing(id))
}

pub(crate) async fn get(
    service: &Service,
    caller: &Caller,
    request: admin::ObjectGetRequest,
) -> Result<Answer<admin::Task>> {
    let id = entities::require(request.id, ResourceType::Task)?;
    service.allow(caller, Action::Read, scope(&id))?;
    Ok(message(load(service, &id).await?))
}

pub(crate) async fn list(
    service: &Service,
    caller: &Caller,
    request: admin::ResourceListRequest,
) -> Result<Answer<admin::TaskList>> {
    let names = entities::require_names(request.id.as_ref())?;
    service.allow(caller, Action::Read, (names.0, names.1))?;
    let page = entities::page(&request, "ListTasks");
    page.require_limit()?;
    let query = page.parse(&TASKS, service.clock.now())?;
    let mut tx = service.database.read_lagging().await?;
    let tasks = repository::tasks::list(&mut tx, names, &query).await?;
    let token = query.next_token(tasks.len());
    let tasks = tasks.into_iter().map(message).collect();
    Ok(Answer::list(tasks, "tasks", |tasks| admin::TaskList {
        tasks,
        token,
    }))
}
