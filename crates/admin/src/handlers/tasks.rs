//! Tasks (spec 01 §7).

use flyte_core::{
    compiler, digest,
    identifiers::{EntityId, ResourceType},
};
use flyte_idl::admin;
use flyte_platform::sql::{DbError, WriteTx};
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::{
    descriptions::{self, Described},
    entities::{self, not_found, scope},
    pages, projects,
};
use crate::{
    caller::{Action, Caller},
    context::AdminContext,
    domain::{self, diff},
    error::{Error, Result},
    filters::TASKS,
    records::Task,
    repository, time,
    unknown_fields::{Incoming, Reply, UnknownFields, fields},
};

pub(crate) async fn create(
    context: &AdminContext,
    caller: &Caller,
    Incoming {
        message: request,
        unknown,
    }: Incoming<admin::TaskCreateRequest>,
) -> Result<admin::TaskCreateResponse> {
    let id = EntityId::expect(request.id.as_ref(), ResourceType::Task)?;
    context.allow(caller, Action::Register, scope(&id))?;
    projects::require(context, id.project.as_str(), id.domain.as_str()).await?;
    let spec = request.spec.ok_or_else(|| Error::missing("spec"))?;
    let mut template = spec.template.ok_or_else(|| Error::missing("spec"))?;
    domain::tasks::validate(&context.config(), &id, &template)?;
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
    let now = context.clock.now();
    let unknown = unknown.part(fields::CREATE_TASK_SPEC);
    let of_closure = unknown
        .part(fields::TASK_SPEC_TEMPLATE)
        .within(fields::COMPILED_TASK_TEMPLATE)
        .within(fields::TASK_CLOSURE_COMPILED);
    let task = Task {
        row: None,
        id: id.clone(),
        closure: of_closure.store(admin::TaskClosure {
            compiled_task: Some(compiled),
            created_at: Some(time::to_wire(now)),
        }),
        digest: digest.0.to_vec(),
        task_type,
        short_description,
        created_at: Some(now),
    };
    let description = spec.description.as_ref().map(|description| {
        let of_description = unknown.part(fields::TASK_SPEC_DESCRIPTION);
        descriptions::record(&id.to_proto(), description, &of_description)
    });
    // A repeated registration is the normal case and need not reach the writer (spec 08 C9).
    let mut tx = context.database.read().await?;
    if let Some(stored) = repository::tasks::digest(&mut tx, &id).await? {
        drop(tx);
        return Err(exists(context, &task, stored == task.digest).await);
    }
    drop(tx);
    let written = descriptions::insert(context, &task, description).await;
    match written {
        Ok(()) => {
            count(context, &task);
            Ok(admin::TaskCreateResponse {})
        }
        Err(Error::Store(DbError::UniqueViolation { .. })) => {
            let mut tx = context.database.read().await?;
            let stored = repository::tasks::digest(&mut tx, &id).await?;
            drop(tx);
            Err(exists(context, &task, stored.as_ref() == Some(&task.digest)).await)
        }
        Err(error) => Err(error),
    }
}

fn count(context: &AdminContext, task: &Task) {
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
    context
        .metrics()
        .registered
        .task(&task.id, task.closure.bytes().len(), kind, version);
}

impl Described for Task {
    fn insert<'a>(
        &'a self,
        tx: &'a mut WriteTx,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<(), DbError>> {
        Box::pin(repository::tasks::insert(tx, self, now))
    }
}

/// The answer to a registration under a taken id.
async fn exists(context: &AdminContext, task: &Task, identical: bool) -> Error {
    if identical {
        return Error::AlreadyExists("task with identical structure already exists".to_owned());
    }
    let stored = match context.database.read().await {
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

fn message(task: Task) -> Reply<admin::Task> {
    let unknown = UnknownFields::of_stored(&task.closure);
    let mut closure = task.closure.into_inner();
    closure.created_at = task.created_at.map(time::to_wire);
    let message = admin::Task {
        id: Some(task.id.to_proto()),
        closure: Some(closure),
        short_description: task.short_description,
    };
    Reply::from(message).with(fields::TASK_CLOSURE, unknown)
}

pub(crate) async fn load(context: &AdminContext, id: &EntityId) -> Result<Task> {
    let mut tx = context.database.read().await?;
    repository::tasks::get(&mut tx, id)
        .await?
        .ok_or_else(|| not_found(id))
}

pub(crate) async fn get(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ObjectGetRequest,
) -> Result<Reply<admin::Task>> {
    let id = entities::require(request.id, ResourceType::Task)?;
    context.allow(caller, Action::Read, scope(&id))?;
    Ok(message(load(context, &id).await?))
}

pub(crate) async fn list(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ResourceListRequest,
) -> Result<Reply<admin::TaskList>> {
    let (names, query) = entities::list_query(context, caller, &request, &TASKS, "ListTasks")?;
    let mut tx = context.database.read_lagging().await?;
    let tasks = repository::tasks::list(&mut tx, names, &query).await?;
    let tasks = tasks.map(message);
    Ok(pages::reply(
        context,
        &query,
        tasks,
        fields::TASKS,
        |tasks, token| admin::TaskList { tasks, token },
    ))
}
