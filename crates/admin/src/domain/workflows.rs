//! Workflows (spec 01 §8, spec 08 A12).
//!
//! The row is written before the closure's blob, so that of two different registrations of one version only
//! the winner writes it. A crash between the two leaves a row without a blob; registering the same workflow
//! again, which flytekit does at once, finds that and writes it.

use std::sync::Arc;

use flyte_core::{
    compiler::{self, LaunchPlanInterface},
    digest,
    identifiers::{EntityId, ResourceType},
    layout,
    quantity::Quantity,
    reference,
};
use flyte_idl::{admin, core, stored::Stored, text};
use flyte_platform::{blob::Cached, sql::DbError};
use prost::Message as _;

use super::{
    descriptions, diff,
    entities::{self, missing, scope},
    lists::WORKFLOWS,
    projects, time,
};
use crate::{
    caller::{Action, Caller},
    error::{Error, Result, Structure},
    records::{Description, Workflow},
    repository,
    service::Service,
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
    require_own_blob(&id)?;
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

/// The closure's key is made of name and version; some would share the key of another version
/// (spec 01 §15.1, a defect of the reference).
fn require_own_blob(id: &EntityId) -> Result<()> {
    for (field, value) in [("name", &id.name), ("version", &id.version)] {
        if !reference::is_safe_part(value) {
            return Err(Error::Invalid(format!(
                "{field} {value:?}: '?', '#' and the path segments '.' and '..' are not allowed"
            )));
        }
    }
    Ok(())
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
                Error::NotFound(text) => failed(&text),
                other => other,
            })?;
    let rules = service.config().registration.compiler_rules.into();
    let compiled = compiler::compile_workflow(template, sub_workflows, tasks, &plans, rules)
        .inspect_err(|_errors| failures.inc())
        .map_err(|errors| failed(&errors.to_string()))?;
    require_limits(service, &id, &compiled)?;
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
    let ids = complete(&needed.tasks, ResourceType::Task)?;
    let found = repository::tasks::get_many(&mut tx, &ids).await?;
    let mut tasks = Vec::with_capacity(ids.len());
    let mut of_tasks = Vec::new();
    for id in &ids {
        let task = found
            .iter()
            .find(|task| task.id == *id)
            .ok_or_else(|| missing(id))?;
        tasks.push(task.closure.get().compiled_task.clone().unwrap_or_default());
        of_tasks.push(Unknown::of_stored(&task.closure).part("compiled_task"));
    }
    let ids = complete(&needed.launch_plans, ResourceType::LaunchPlan)?;
    let found = repository::launch_plans::get_many(&mut tx, &ids).await?;
    let mut plans = Vec::with_capacity(ids.len());
    for id in &ids {
        let plan = found
            .iter()
            .find(|plan| plan.id == *id)
            .ok_or_else(|| missing(id))?;
        plans.push(LaunchPlanInterface {
            id: id.to_proto(),
            expected_inputs: plan.closure.get().expected_inputs.clone(),
            expected_outputs: plan.closure.get().expected_outputs.clone(),
        });
    }
    Ok((tasks, of_tasks, plans))
}

/// The ids of the right kind; of those of another kind the compiler will say that they do not exist. An
/// incomplete one names nothing that exists.
fn complete(ids: &[core::Identifier], expected: ResourceType) -> Result<Vec<EntityId>> {
    ids.iter()
        .filter(|id| id.resource_type == expected as i32)
        .map(|id| {
            EntityId::any(Some(id)).map_err(|_incomplete| {
                let untyped = core::Identifier {
                    resource_type: ResourceType::Unspecified as i32,
                    ..id.clone()
                };
                Error::missing_entity(expected.as_str_name(), &text::prototext(&untyped))
            })
        })
        .collect()
}

fn require_limits(
    service: &Service,
    id: &core::Identifier,
    compiled: &core::CompiledWorkflowClosure,
) -> Result<()> {
    let config = service.config();
    let registration = &config.registration;
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
    let closure_uri = layout::workflow_closure(
        &service.blobs.base(),
        &service.config().flyteadmin.metadata_storage_prefix,
        &id.to_proto(),
    )
    .map_err(|error| Error::Invalid(error.to_string()))?;
    let closure = Unknown::of_stored(&compiled)
        .within("flyteidl.admin.WorkflowClosure", "compiled_workflow")
        .store(admin::WorkflowClosure {
            compiled_workflow: Some(compiled.into_inner()),
            created_at: Some(time::to_wire(now)),
        });
    let workflow = Workflow {
        row: 0,
        id,
        interface,
        closure_uri,
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
    service
        .write_bytes(
            &workflow.closure_uri,
            closure.bytes().to_vec(),
            "WorkflowClosure",
        )
        .await?;
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
        let there = service
            .blobs
            .exists(&stored.closure_uri)
            .await
            .map_err(|error| Error::Blob {
                context: format!("Unable to look for {}", stored.closure_uri),
                source: error.into(),
            })?;
        if !there {
            service
                .write_bytes(
                    &stored.closure_uri,
                    closure.bytes().to_vec(),
                    "WorkflowClosure",
                )
                .await?;
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
    let stored: Stored<admin::WorkflowClosure> = service
        .read_stored(&workflow.closure_uri, "WorkflowClosure")
        .await?;
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
    let closure: Stored<admin::WorkflowClosure> = service
        .read_stored(&workflow.closure_uri, "WorkflowClosure")
        .await?;
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
