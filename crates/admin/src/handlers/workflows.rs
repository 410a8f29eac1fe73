//! Workflows (spec 01 §8, spec 08 A12).
//!
//! The closure's blob is written before the row, and only where nothing is: a row never refers to a blob that is not
//! there or is another's. Two different registrations of one version write two blobs, and the row of the winner refers to
//! its own. Rows of older versions may lack theirs; registering the same workflow again writes it. What is read is the
//! workflow of the row only if it has the row's digest.

use std::{collections::HashMap, sync::Arc};

use flyte_core::{
    compiler::{self, LaunchPlanInterface},
    digest,
    identifiers::{EntityId, ResourceType},
    layout,
};
use flyte_idl::{admin, core, stored::Stored};
use flyte_platform::{
    blob::{BlobError, Cached},
    sql::DbError,
};

use super::{
    descriptions,
    entities::{self, missing, scope},
    projects,
};
use crate::{
    caller::{Action, Caller},
    domain::{diff, workflows as rules},
    error::{Error, Result, Structure},
    filters::WORKFLOWS,
    records::{Description, LaunchPlan, Task, Workflow, WorkflowRow},
    repository,
    service::Service,
    time,
    unknown::{Answer, Kept, Unknown},
};

pub(crate) async fn create(
    service: &Service,
    caller: &Caller,
    request: admin::WorkflowCreateRequest,
    unknown: &Unknown,
) -> Result<admin::WorkflowCreateResponse> {
    let id = EntityId::expect(request.id.as_ref(), ResourceType::Workflow)?;
    service.allow(caller, Action::Register, scope(&id))?;
    projects::require(service, id.project.as_str(), id.domain.as_str()).await?;
    let spec = request.spec.ok_or_else(|| Error::missing("spec"))?;
    let mut template = spec.template.ok_or_else(|| Error::missing("spec"))?;
    template.id = Some(id.to_proto());
    let unknown = unknown.part("spec");
    let of_interface = unknown.part("template").part("interface");
    let interface = template
        .interface
        .clone()
        .map(|interface| of_interface.store(interface));
    let description = spec.description.as_ref().map(|description| {
        descriptions::record(&id.to_proto(), description, &unknown.part("description"))
    });
    let compiled = compile(service, (&id, &unknown), template, spec.sub_workflows).await?;
    register(
        service,
        Registration {
            id,
            interface,
            compiled,
            description,
        },
    )
    .await?;
    Ok(admin::WorkflowCreateResponse {})
}

/// A compiled workflow on its way into the store.
pub(crate) struct Registration {
    pub(crate) id: EntityId,
    /// As the client sent it.
    pub(crate) interface: Option<Stored<core::TypedInterface>>,
    pub(crate) compiled: Stored<core::CompiledWorkflowClosure>,
    pub(crate) description: Option<Description>,
}

/// Collects what a workflow refers to, and compiles it. `unknown` belongs to the spec.
pub(crate) async fn compile(
    service: &Service,
    (id, unknown): (&EntityId, &Unknown),
    template: core::WorkflowTemplate,
    sub_workflows: Vec<core::WorkflowTemplate>,
) -> Result<Stored<core::CompiledWorkflowClosure>> {
    let id = id.to_proto();
    let failed = |cause: &str| Error::Invalid(compiler::workflow_failure(&id, cause));
    let failures = &service.counts().registered.compilation_failures;
    let needed = compiler::requirements(&template, &sub_workflows)
        .inspect_err(|_errors| failures.inc())
        .map_err(|errors| failed(&compiler::requirements_failure(&errors)))?;
    let (tasks, of_tasks, plans) =
        load_requirements(service, &needed)
            .await
            .map_err(|error| match error {
                error @ Error::NotFound { .. } => failed(&error.to_string()),
                other => other,
            })?;
    let rules = service.config().registration.compiler_rules.into();
    let compiled = compiler::compile_workflow(template, sub_workflows, tasks, &plans, rules)
        .inspect_err(|_errors| failures.inc())
        .map_err(|errors| failed(&errors.to_string()))?;
    rules::require_limits(&service.config().registration, &id, &compiled)?;
    let compiled_from =
        |template: Unknown| template.within("flyteidl.core.CompiledWorkflow", "template");
    let sub_workflows = unknown.parts("sub_workflows");
    let parts = [
        (
            "primary",
            Kept::One(compiled_from(unknown.part("template"))),
        ),
        (
            "sub_workflows",
            Kept::Many(sub_workflows.into_iter().map(compiled_from).collect()),
        ),
        ("tasks", Kept::Many(of_tasks)),
    ];
    Ok(Unknown::gathered("flyteidl.core.CompiledWorkflowClosure", parts).store(compiled))
}

type Required = (
    Vec<core::CompiledTask>,
    Vec<Unknown>,
    Vec<LaunchPlanInterface>,
);

/// One query per kind; the first of the sorted ids that is missing is the answer.
async fn load_requirements(service: &Service, needed: &compiler::Requirements) -> Result<Required> {
    let mut tx = service.database.read().await?;
    let ids = rules::complete(&needed.tasks, ResourceType::Task)?;
    let found = repository::tasks::get_many(&mut tx, &ids).await?;
    let found: HashMap<&EntityId, &Task> = found.iter().map(|task| (&task.id, task)).collect();
    let mut tasks = Vec::with_capacity(ids.len());
    let mut of_tasks = Vec::new();
    for id in &ids {
        let task = found.get(id).ok_or_else(|| missing(id))?;
        tasks.push(task.closure.get().compiled_task.clone().unwrap_or_default());
        of_tasks.push(Unknown::of_stored(&task.closure).part("compiled_task"));
    }
    let ids = rules::complete(&needed.launch_plans, ResourceType::LaunchPlan)?;
    let found = repository::launch_plans::get_many(&mut tx, &ids).await?;
    let found: HashMap<&EntityId, &LaunchPlan> =
        found.iter().map(|plan| (&plan.id, plan)).collect();
    let mut plans = Vec::with_capacity(ids.len());
    for id in &ids {
        let plan = found.get(id).ok_or_else(|| missing(id))?;
        plans.push(LaunchPlanInterface {
            id: id.to_proto(),
            expected_inputs: plan.closure.get().expected_inputs.clone(),
            expected_outputs: plan.closure.get().expected_outputs.clone(),
        });
    }
    Ok((tasks, of_tasks, plans))
}

/// Stores a compiled workflow and returns its row.
///
/// # Errors
/// [`Error::WorkflowExists`] when the version is taken.
pub(crate) async fn register(service: &Service, registration: Registration) -> Result<Workflow> {
    let Registration {
        id,
        interface,
        compiled,
        description,
    } = registration;
    let digest = digest::of_message(compiled.get()).map_err(|error| {
        Error::Invalid(format!(
            "failed to hash workflow [{id}] to digest with err {error}"
        ))
    })?;
    let now = service.clock.now();
    let closure = Unknown::of_stored(&compiled)
        .within("flyteidl.admin.WorkflowClosure", "compiled_workflow")
        .store(admin::WorkflowClosure {
            compiled_workflow: Some(compiled.into_inner()),
            created_at: Some(time::to_wire(now)),
        });
    let mut workflow = Workflow {
        row: None,
        id,
        interface,
        closure_uri: String::new(),
        digest: digest.0.to_vec(),
        short_description: description
            .as_ref()
            .map(|description| description.short.clone())
            .unwrap_or_default(),
        created_at: Some(now),
    };
    if let Some(stored) = find(service, &workflow.id).await? {
        return Err(exists(service, &stored, &workflow, &closure).await?);
    }
    workflow.closure_uri = write_closure(service, &workflow, &closure).await?;
    match insert(service, &workflow, description).await {
        Ok(()) => {
            let interface = workflow.interface.as_ref();
            let bytes = interface.map_or(0, |interface| interface.bytes().len());
            service
                .counts()
                .registered
                .interface_size
                .observe_size(bytes);
        }
        Err(Error::Store(DbError::UniqueViolation { .. })) => {
            let stored = find(service, &workflow.id)
                .await?
                .ok_or_else(|| missing(&workflow.id))?;
            return Err(exists(service, &stored, &workflow, &closure).await?);
        }
        Err(error) => return Err(error),
    }
    find(service, &workflow.id)
        .await?
        .ok_or_else(|| missing(&workflow.id))
}

async fn find(service: &Service, id: &EntityId) -> Result<Option<Workflow>> {
    let mut tx = service.database.read().await?;
    Ok(repository::workflows::get(&mut tx, id).await?)
}

async fn insert(
    service: &Service,
    workflow: &Workflow,
    description: Option<Description>,
) -> Result<()> {
    let now = service.clock.now();
    service
        .database
        .write(
            (workflow.clone(), description, now),
            |(workflow, description, now), tx| {
                Box::pin(async move {
                    repository::workflows::insert(tx, workflow, *now).await?;
                    if let Some(description) = description {
                        repository::descriptions::insert(tx, description, *now).await?;
                    }
                    Ok::<_, Error>(())
                })
            },
        )
        .await
}

/// The answer to a registration under a taken id. An identical one repairs a missing blob.
async fn exists(
    service: &Service,
    stored: &Workflow,
    new: &Workflow,
    closure: &Stored<admin::WorkflowClosure>,
) -> Result<Error> {
    let id = Box::new(new.id.to_proto());
    if stored.digest == new.digest {
        if holds(service, &stored.closure_uri, stored).await? != Some(true) {
            let uri = write_closure(service, stored, closure).await?;
            if uri != stored.closure_uri {
                move_closure(service, stored.row, uri).await?;
            }
        }
        return Ok(Error::WorkflowExists {
            message: "workflow with identical structure already exists".to_owned(),
            id,
            structure: Structure::Identical,
        });
    }
    let old = service
        .read_blob::<admin::WorkflowClosure>(&stored.closure_uri, "WorkflowClosure")
        .await
        .ok()
        .and_then(|closure| closure.compiled_workflow)
        .unwrap_or_default();
    let compiled = closure.get().compiled_workflow.clone().unwrap_or_default();
    Ok(Error::WorkflowExists {
        message: format!(
            "{} workflow with different structure already exists. (Please register a new version of the workflow):\n{}",
            new.id.name,
            diff::text(&old, &compiled)
        ),
        id,
        structure: Structure::Different,
    })
}

/// Writes a closure where nothing is, and says where: at the workflow's own place, or, if something else is there that
/// Go put there for another workflow, at one that this closure alone has.
async fn write_closure(
    service: &Service,
    workflow: &Workflow,
    closure: &Stored<admin::WorkflowClosure>,
) -> Result<String> {
    let (base, config) = (service.blobs.base(), service.config());
    let prefix = &config.flyteadmin.metadata_storage_prefix;
    let id = workflow.id.to_proto();
    let other = layout::other_workflow_closure(&base, prefix, &id, &workflow.digest);
    for uri in [layout::workflow_closure(&base, prefix, &id), other] {
        let uri = uri?;
        let bytes = closure.bytes().to_vec();
        match service.blobs.put_if_absent(&uri, bytes.into()).await {
            Ok(()) => return Ok(uri),
            Err(BlobError::AlreadyExists(_)) => {
                if holds(service, &uri, workflow).await? == Some(true) {
                    return Ok(uri);
                }
            }
            Err(error) => {
                return Err(Error::Blob {
                    context: format!("Failed to write WorkflowClosure to location {uri}"),
                    source: error.into(),
                });
            }
        }
    }
    Err(Error::Internal(format!(
        "both places of the closure of {} hold something else",
        workflow.id
    )))
}

/// Whether the blob is the workflow's closure; `None` if there is none.
async fn holds(service: &Service, uri: &str, workflow: &Workflow) -> Result<Option<bool>> {
    let failed = |source: BlobError| Error::Blob {
        context: format!("Unable to read WorkflowClosure from location {uri}"),
        source: source.into(),
    };
    let bytes = match service.blobs.get(uri).await {
        Err(error) if error.is_not_found() => return Ok(None),
        bytes => bytes.map_err(failed)?,
    };
    let closure = Stored::decode(bytes.into());
    Ok(Some(closure.is_ok_and(|closure| {
        rules::is_closure_of(&closure, workflow)
    })))
}

async fn move_closure(service: &Service, row: Option<WorkflowRow>, uri: String) -> Result<()> {
    let Some(row) = row else {
        return Ok(());
    };
    service
        .database
        .write((row, uri), |(row, uri), tx| {
            Box::pin(async move {
                repository::workflows::set_closure_uri(tx, *row, uri).await?;
                Ok::<_, Error>(())
            })
        })
        .await
}

/// The closure of a row, with the fields that this version does not know.
///
/// # Errors
/// FAILED_PRECONDITION if the blob is another workflow's.
async fn read(service: &Service, workflow: &Workflow) -> Result<Stored<admin::WorkflowClosure>> {
    let closure = service
        .read_stored(&workflow.closure_uri, "WorkflowClosure")
        .await?;
    if rules::is_closure_of(&closure, workflow) {
        return Ok(closure);
    }
    Err(Error::Precondition(format!(
        "what is stored at {} is not the workflow that was registered as {}; register a new version",
        workflow.closure_uri, workflow.id
    )))
}

/// The closure of a registered workflow.
pub(crate) async fn closure(
    service: &Service,
    workflow: &Workflow,
) -> Result<Arc<admin::WorkflowClosure>> {
    let key = (workflow.closure_uri.clone(), workflow.digest.clone());
    if let Some(closure) = service.closures.get(&key) {
        service.blobs.count_cached(Cached::Hit);
        return Ok(closure);
    }
    service.blobs.count_cached(Cached::Miss);
    let stored = read(service, workflow).await?;
    let bytes = stored.bytes().len();
    let closure = Arc::new(stored.into_inner());
    service.closures.put(key, closure.clone(), bytes);
    Ok(closure)
}

pub(crate) async fn get(
    service: &Service,
    caller: &Caller,
    request: admin::ObjectGetRequest,
) -> Result<Answer<admin::Workflow>> {
    let id = entities::require(request.id, ResourceType::Workflow)?;
    service.allow(caller, Action::Read, scope(&id))?;
    let workflow = find(service, &id).await?.ok_or_else(|| missing(&id))?;
    let closure = read(service, &workflow).await?;
    let unknown = Unknown::of_stored(&closure);
    let mut closure = closure.into_inner();
    closure.created_at = workflow.created_at.map(time::to_wire);
    let message = admin::Workflow {
        id: Some(id.to_proto()),
        closure: Some(closure),
        short_description: workflow.short_description,
    };
    Ok(Answer::made_from(message, [("closure", unknown)]))
}

/// A workflow in a list: its interface, without the closure's blob.
fn listed(workflow: Workflow) -> Answer<admin::Workflow> {
    let unknown = workflow
        .interface
        .as_ref()
        .map(Unknown::of_stored)
        .unwrap_or_default()
        .within("flyteidl.core.WorkflowTemplate", "interface")
        .within("flyteidl.core.CompiledWorkflow", "template")
        .within("flyteidl.core.CompiledWorkflowClosure", "primary")
        .within("flyteidl.admin.WorkflowClosure", "compiled_workflow");
    let interface = workflow.interface.map(Stored::into_inner);
    let template = core::WorkflowTemplate {
        interface: Some(interface.unwrap_or_default()),
        ..Default::default()
    };
    let primary = core::CompiledWorkflow {
        template: Some(template),
        ..Default::default()
    };
    let message = admin::Workflow {
        id: Some(workflow.id.to_proto()),
        closure: Some(admin::WorkflowClosure {
            compiled_workflow: Some(core::CompiledWorkflowClosure {
                primary: Some(primary),
                ..Default::default()
            }),
            created_at: workflow.created_at.map(time::to_wire),
        }),
        short_description: workflow.short_description,
    };
    Answer::made_from(message, [("closure", unknown)])
}

pub(crate) async fn list(
    service: &Service,
    caller: &Caller,
    request: admin::ResourceListRequest,
) -> Result<Answer<admin::WorkflowList>> {
    let names = entities::require_names(request.id.as_ref())?;
    service.allow(caller, Action::Read, (names.0, names.1))?;
    let page = entities::page(&request, "ListWorkflows");
    page.require_limit()?;
    let query = page.parse(&WORKFLOWS, service.clock.now())?;
    let mut tx = service.database.read_lagging().await?;
    let workflows = repository::workflows::list(&mut tx, names, &query).await?;
    let token = query.next_token(workflows.len());
    let workflows = workflows.into_iter().map(listed).collect();
    Ok(Answer::list(workflows, "workflows", |workflows| {
        admin::WorkflowList { workflows, token }
    }))
}
