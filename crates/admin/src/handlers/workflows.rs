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
    sql::{DbError, WriteTx},
};
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
    domain::{diff, objects, workflows as rules},
    error::{Error, Result, Structure},
    filters::WORKFLOWS,
    records::{Description, LaunchPlan, Task, Workflow, WorkflowRow},
    repository, time,
    unknown_fields::{Incoming, Reply, UnknownFields, fields},
};

pub(crate) async fn create(
    context: &AdminContext,
    caller: &Caller,
    Incoming {
        message: request,
        unknown,
    }: Incoming<admin::WorkflowCreateRequest>,
) -> Result<admin::WorkflowCreateResponse> {
    let id = EntityId::expect(request.id.as_ref(), ResourceType::Workflow)?;
    context.allow(caller, Action::Register, scope(&id))?;
    projects::require(context, id.project.as_str(), id.domain.as_str()).await?;
    let spec = request.spec.ok_or_else(|| Error::missing("spec"))?;
    let mut template = spec.template.ok_or_else(|| Error::missing("spec"))?;
    template.id = Some(id.to_proto());
    let unknown = unknown.part(fields::CREATE_WORKFLOW_SPEC);
    let of_interface = unknown
        .part(fields::WORKFLOW_SPEC_TEMPLATE)
        .part(fields::WORKFLOW_TEMPLATE_INTERFACE);
    let interface = template
        .interface
        .clone()
        .map(|interface| of_interface.store(interface));
    let description = spec.description.as_ref().map(|description| {
        let of_description = unknown.part(fields::WORKFLOW_SPEC_DESCRIPTION);
        descriptions::record(&id.to_proto(), description, &of_description)
    });
    let compiled = compile(context, &id, &unknown, template, spec.sub_workflows).await?;
    register(
        context,
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
    context: &AdminContext,
    id: &EntityId,
    unknown: &UnknownFields<admin::WorkflowSpec>,
    template: core::WorkflowTemplate,
    sub_workflows: Vec<core::WorkflowTemplate>,
) -> Result<Stored<core::CompiledWorkflowClosure>> {
    let id = id.to_proto();
    rules::require_node_count(&context.config().registration, &id, &template)?;
    let failed = |cause: &str| Error::Invalid(compiler::workflow_failure(&id, cause));
    let failures = &context.metrics().registered.compilation_failures;
    let needed = compiler::requirements(&template, &sub_workflows)
        .inspect_err(|_errors| failures.inc())
        .map_err(|errors| failed(&compiler::requirements_failure(&errors)))?;
    let (tasks, of_tasks, plans) =
        load_requirements(context, &needed)
            .await
            .map_err(|error| match error {
                error @ Error::NotFound { .. } => failed(&error.to_string()),
                other => other,
            })?;
    let rules = context.config().registration.compiler_rules.into();
    let compiled = compiler::compile_workflow(template, sub_workflows, tasks, &plans, rules)
        .inspect_err(|_errors| failures.inc())
        .map_err(|errors| failed(&errors.to_string()))?;
    rules::require_size(&context.config().registration, &compiled)?;
    let template = unknown.part(fields::WORKFLOW_SPEC_TEMPLATE);
    let sub_workflows = unknown.parts(fields::WORKFLOW_SPEC_SUB_WORKFLOWS);
    let sub_workflows = sub_workflows
        .into_iter()
        .map(|template| template.within(fields::COMPILED_WORKFLOW_TEMPLATE))
        .collect();
    let of_closure = template
        .within(fields::COMPILED_WORKFLOW_TEMPLATE)
        .within(fields::COMPILED_CLOSURE_PRIMARY)
        .with_list(fields::COMPILED_CLOSURE_SUB_WORKFLOWS, sub_workflows)
        .with_list(fields::COMPILED_CLOSURE_TASKS, of_tasks);
    Ok(of_closure.store(compiled))
}

type Required = (
    Vec<core::CompiledTask>,
    Vec<UnknownFields<core::CompiledTask>>,
    Vec<LaunchPlanInterface>,
);

/// One query per kind; the first of the sorted ids that is missing is the answer.
async fn load_requirements(
    context: &AdminContext,
    needed: &compiler::Requirements,
) -> Result<Required> {
    let mut tx = context.database.read().await?;
    let ids = rules::complete(&needed.tasks, ResourceType::Task)?;
    let found = repository::tasks::get_many(&mut tx, &ids).await?;
    let found: HashMap<&EntityId, &Task> = found.iter().map(|task| (&task.id, task)).collect();
    let mut tasks = Vec::with_capacity(ids.len());
    let mut of_tasks = Vec::new();
    for id in &ids {
        let task = found.get(id).ok_or_else(|| not_found(id))?;
        tasks.push(task.closure.get().compiled_task.clone().unwrap_or_default());
        of_tasks.push(UnknownFields::of_stored(&task.closure).part(fields::TASK_CLOSURE_COMPILED));
    }
    let ids = rules::complete(&needed.launch_plans, ResourceType::LaunchPlan)?;
    let found = repository::launch_plans::get_many(&mut tx, &ids).await?;
    let found: HashMap<&EntityId, &LaunchPlan> =
        found.iter().map(|plan| (&plan.id, plan)).collect();
    let mut plans = Vec::with_capacity(ids.len());
    for id in &ids {
        let plan = found.get(id).ok_or_else(|| not_found(id))?;
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
pub(crate) async fn register(
    context: &AdminContext,
    registration: Registration,
) -> Result<Workflow> {
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
    let now = context.clock.now();
    let closure = UnknownFields::of_stored(&compiled)
        .within(fields::WORKFLOW_CLOSURE_COMPILED)
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
    if let Some(stored) = find(context, &workflow.id).await? {
        return Err(exists(context, &stored, &workflow, &closure).await?);
    }
    workflow.closure_uri = write_closure(context, &workflow, &closure).await?;
    match descriptions::insert(context, &workflow, description).await {
        Ok(()) => {
            let interface = workflow.interface.as_ref();
            let bytes = interface.map_or(0, |interface| interface.bytes().len());
            context
                .metrics()
                .registered
                .interface_size
                .observe_size(bytes);
        }
        Err(Error::Store(DbError::UniqueViolation { .. })) => {
            let stored = find(context, &workflow.id)
                .await?
                .ok_or_else(|| not_found(&workflow.id))?;
            return Err(exists(context, &stored, &workflow, &closure).await?);
        }
        Err(error) => return Err(error),
    }
    find(context, &workflow.id)
        .await?
        .ok_or_else(|| not_found(&workflow.id))
}

async fn find(context: &AdminContext, id: &EntityId) -> Result<Option<Workflow>> {
    let mut tx = context.database.read().await?;
    Ok(repository::workflows::get(&mut tx, id).await?)
}

impl Described for Workflow {
    fn insert<'a>(
        &'a self,
        tx: &'a mut WriteTx,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<(), DbError>> {
        Box::pin(repository::workflows::insert(tx, self, now))
    }
}

/// The answer to a registration under a taken id. An identical one repairs a missing blob.
async fn exists(
    context: &AdminContext,
    stored: &Workflow,
    new: &Workflow,
    closure: &Stored<admin::WorkflowClosure>,
) -> Result<Error> {
    let id = Box::new(new.id.to_proto());
    if stored.digest == new.digest {
        if holds(context, &stored.closure_uri, stored).await? != Some(true) {
            let uri = write_closure(context, stored, closure).await?;
            if uri != stored.closure_uri {
                move_closure(context, stored.row, uri).await?;
            }
        }
        return Ok(Error::WorkflowExists {
            message: "workflow with identical structure already exists".to_owned(),
            id,
            structure: Structure::Identical,
        });
    }
    let old = context
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
    context: &AdminContext,
    workflow: &Workflow,
    closure: &Stored<admin::WorkflowClosure>,
) -> Result<String> {
    let (base, config) = (context.blobs.base(), context.config());
    let prefix = &config.flyteadmin.metadata_storage_prefix;
    let id = workflow.id.to_proto();
    let other = layout::other_workflow_closure(&base, prefix, &id, &workflow.digest);
    for uri in [layout::workflow_closure(&base, prefix, &id), other] {
        let uri = uri?;
        objects::require_key(&uri)?;
        let bytes = closure.bytes().to_vec();
        match context.blobs.put_if_absent(&uri, bytes.into()).await {
            Ok(()) => return Ok(uri),
            Err(BlobError::AlreadyExists(_)) => {
                if holds(context, &uri, workflow).await? == Some(true) {
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
async fn holds(context: &AdminContext, uri: &str, workflow: &Workflow) -> Result<Option<bool>> {
    let failed = |source: BlobError| Error::Blob {
        context: format!("Unable to read WorkflowClosure from location {uri}"),
        source: source.into(),
    };
    let bytes = match context.blobs.get(uri).await {
        Err(error) if error.is_not_found() => return Ok(None),
        bytes => bytes.map_err(failed)?,
    };
    let closure = Stored::decode(bytes.into());
    Ok(Some(closure.is_ok_and(|closure| {
        rules::is_closure_of(&closure, workflow)
    })))
}

async fn move_closure(context: &AdminContext, row: Option<WorkflowRow>, uri: String) -> Result<()> {
    let Some(row) = row else {
        return Ok(());
    };
    context
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
async fn read(
    context: &AdminContext,
    workflow: &Workflow,
) -> Result<Stored<admin::WorkflowClosure>> {
    let closure = context
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
    context: &AdminContext,
    workflow: &Workflow,
) -> Result<Arc<admin::WorkflowClosure>> {
    let key = (workflow.closure_uri.clone(), workflow.digest.clone());
    if let Some(closure) = context.closures.get(&key) {
        context.blobs.count_cached(Cached::Hit);
        return Ok(closure);
    }
    context.blobs.count_cached(Cached::Miss);
    let stored = read(context, workflow).await?;
    let bytes = stored.bytes().len();
    let closure = Arc::new(stored.into_inner());
    context.closures.put(key, closure.clone(), bytes);
    Ok(closure)
}

pub(crate) async fn get(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ObjectGetRequest,
) -> Result<Reply<admin::Workflow>> {
    let id = entities::require(request.id, ResourceType::Workflow)?;
    context.allow(caller, Action::Read, scope(&id))?;
    let workflow = find(context, &id).await?.ok_or_else(|| not_found(&id))?;
    let closure = read(context, &workflow).await?;
    let unknown = UnknownFields::of_stored(&closure);
    let mut closure = closure.into_inner();
    closure.created_at = workflow.created_at.map(time::to_wire);
    let message = admin::Workflow {
        id: Some(id.to_proto()),
        closure: Some(closure),
        short_description: workflow.short_description,
    };
    Ok(Reply::from(message).with(fields::WORKFLOW_CLOSURE, unknown))
}

/// A workflow in a list: its interface, without the closure's blob.
fn listed(workflow: Workflow) -> Reply<admin::Workflow> {
    let unknown = workflow
        .interface
        .as_ref()
        .map(UnknownFields::of_stored)
        .unwrap_or_default()
        .within(fields::WORKFLOW_TEMPLATE_INTERFACE)
        .within(fields::COMPILED_WORKFLOW_TEMPLATE)
        .within(fields::COMPILED_CLOSURE_PRIMARY)
        .within(fields::WORKFLOW_CLOSURE_COMPILED);
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
    Reply::from(message).with(fields::WORKFLOW_CLOSURE, unknown)
}

pub(crate) async fn list(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ResourceListRequest,
) -> Result<Reply<admin::WorkflowList>> {
    let (names, query) =
        entities::list_query(context, caller, &request, &WORKFLOWS, "ListWorkflows")?;
    let mut tx = context.database.read_lagging().await?;
    let workflows = repository::workflows::list(&mut tx, names, &query).await?;
    let workflows = workflows.map(listed);
    Ok(pages::reply(
        context,
        &query,
        workflows,
        fields::WORKFLOWS,
        |workflows, token| admin::WorkflowList { workflows, token },
    ))
}
