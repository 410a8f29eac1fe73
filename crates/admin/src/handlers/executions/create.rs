//! Creating executions (spec 01 §12.1-12.6).
//!
//! ```text
//! inputs, where nothing is --> row, which takes the name --> resource
//! ```
//!
//! From the row on, everything that the resource is made from is in the store: a crash leaves a reservation that the
//! client's repeat of the request finishes at once, and [`crate::reconciler`] after a while. A resource that is refused ends
//! as the reference's: a launch plan's execution is FAILED, a task's gives the name back and the refusal is the answer.

use flyte_core::{
    identifiers::{EntityId, ExecutionId, NodeExecutionId, ResourceType},
    inputs,
};
use flyte_idl::{
    admin::{self, ExecutionSpec, execution_metadata::ExecutionMode},
    core::LiteralMap,
    stored::Stored,
    text,
};
use prost::Message as _;

use super::{
    files,
    launch::{self, LaunchInputs},
    load, reserve, single_task,
    terminate::namespace,
};
use crate::{
    caller::{Action, Caller, Resource},
    context::AdminContext,
    domain::{
        self,
        executions::{
            config,
            lineage::{self, Lineage},
            record::{LaunchTarget, NewExecution},
            request,
        },
    },
    error::{Error, NotFoundKind, Result},
    handlers::{entities, node_executions, projects, tasks, workflows},
    records::{Execution, ExecutionRow, Project, WorkflowPhase},
    repository::{self, executions},
    targets::{self, Holder},
    unknown_fields::{self, Incoming, UnknownFields, fields},
};

pub(crate) async fn create(
    context: &AdminContext,
    caller: &Caller,
    request: Incoming<admin::ExecutionCreateRequest>,
) -> Result<admin::ExecutionCreateResponse> {
    Box::pin(start(context, caller, request, None)).await
}

pub(crate) async fn relaunch(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ExecutionRelaunchRequest,
) -> Result<admin::ExecutionCreateResponse> {
    let id = ExecutionId::from_proto(request.id.as_ref())?;
    let original = load(context, &id).await?;
    let mut spec = original.spec.get().clone();
    let inputs = user_inputs(context, &original, &mut spec).await?;
    let unknown = UnknownFields::default()
        .with(
            fields::CREATE_EXECUTION_SPEC,
            UnknownFields::of_stored(&original.spec),
        )
        .with(
            fields::CREATE_EXECUTION_INPUTS,
            UnknownFields::of_stored(&inputs),
        );
    let metadata = spec.metadata.get_or_insert_default();
    metadata.mode = ExecutionMode::Relaunch as i32;
    metadata.reference_execution = Some(id.to_proto());
    spec.overwrite_cache = request.overwrite_cache;
    let message = admin::ExecutionCreateRequest {
        project: id.project.to_string(),
        domain: id.domain.to_string(),
        name: request.name,
        spec: Some(spec),
        inputs: Some(inputs.into_inner()),
        org: String::new(),
    };
    let create = Incoming { message, unknown };
    Box::pin(start(context, caller, create, original.row)).await
}

/// The inputs that the user gave; old rows have them in the spec.
async fn user_inputs(
    context: &AdminContext,
    execution: &Execution,
    spec: &mut ExecutionSpec,
) -> Result<Stored<LiteralMap>> {
    if execution.user_inputs_uri.is_empty() {
        return Ok(Stored::new(spec.inputs.take().unwrap_or_default()));
    }
    context
        .read_stored(&execution.user_inputs_uri, "user inputs")
        .await
}

/// Creates an execution. `source_row` is the row of the one that it repeats.
async fn start(
    context: &AdminContext,
    caller: &Caller,
    Incoming {
        message: mut request,
        unknown,
    }: Incoming<admin::ExecutionCreateRequest>,
    source_row: Option<ExecutionRow>,
) -> Result<admin::ExecutionCreateResponse> {
    let accepted_at = context.clock.now();
    request::adopt_inputs(&mut request);
    let (project, plan) = futures::future::join(
        validate(context, caller, &request),
        planned(context, request.spec.as_ref()),
    )
    .await;
    let project = project?;
    let (mut spec, given) = (
        request.spec.take().unwrap_or_default(),
        request.inputs.take().unwrap_or_default(),
    );
    let target = match plan? {
        Some(target) => target,
        None => single(context, &spec).await?,
    };
    let full = inputs::execution_inputs(
        Some(&given),
        target.plan.spec.get().fixed_inputs.as_ref(),
        target.plan.closure.get().expected_inputs.as_ref(),
    )?;
    let (closure, lineage) = futures::future::try_join(
        workflows::closure(context, &target.workflow),
        inherit(context, caller, &mut spec, source_row),
    )
    .await?;
    let server_config = context.config();
    let config = config::merge(&spec, target.plan_spec(), &server_config.flyteadmin, caller);
    if !target.is_task() {
        let limits = &server_config.registration;
        config::require_at_most("labels", &config.labels, limits.max_label_entries)?;
        config::require_at_most(
            "annotations",
            &config.annotations,
            limits.max_annotation_entries,
        )?;
    }
    request::require_pool(&server_config, &request, &spec)?;
    let system = system_metadata(context, &request, &spec);
    request::complete_spec(&mut spec, &target, &config, &project, system);
    let of_spec = unknown.part(fields::CREATE_EXECUTION_SPEC);
    let new = NewExecution {
        spec: of_spec.store(spec),
        target: &target,
        lineage,
        accepted_at,
    };
    let launch_inputs = LaunchInputs {
        closure: closure.compiled_workflow.clone().unwrap_or_default(),
        closure_uri: target.workflow.closure_uri.clone(),
        inputs: full,
        plan: target.plan_spec().cloned(),
        project_labels: domain::projects::labels(&project),
    };
    // Old clients give inputs in the spec.
    let mut of_inputs = vec![
        of_spec.part(fields::EXECUTION_SPEC_INPUTS),
        unknown.part(fields::CREATE_EXECUTION_INPUTS),
    ];
    let user_inputs = unknown_fields::encoded(&given, &of_inputs);
    let of_plan = UnknownFields::of_stored(&target.plan.spec);
    of_inputs.push(of_plan.part(fields::LAUNCH_PLAN_SPEC_FIXED_INPUTS));
    let files = files::Files {
        inputs: unknown_fields::encoded(&launch_inputs.inputs, &of_inputs),
        user_inputs,
    };
    let bytes = given.encoded_len();
    let execution = match interrupted(context, &request, &new, &given, &files).await? {
        Some(execution) => execution,
        None => reserve::reserve(context, &request, &new, &files).await?,
    };
    launch::run(context, &execution, launch_inputs).await?;
    if target.is_task() {
        context.metrics().executions.data.inputs(bytes);
    }
    Ok(admin::ExecutionCreateResponse {
        id: Some(execution.id.to_proto()),
    })
}

/// The reservation that an earlier, equal request left when its process ended; none if the name is free. Other
/// requests of that name meet the row that has it, as in the reference.
async fn interrupted(
    context: &AdminContext,
    request: &admin::ExecutionCreateRequest,
    new: &NewExecution<'_>,
    given: &LiteralMap,
    files: &files::Files,
) -> Result<Option<Execution>> {
    if request.name.is_empty() {
        return Ok(None);
    }
    let id = ExecutionId::new(&request.project, &request.domain, &request.name)?;
    let mut tx = context.database.read().await?;
    let Some(execution) = executions::get(&mut tx, &id).await? else {
        return Ok(None);
    };
    drop(tx);
    let equal = execution.phase == WorkflowPhase::Undefined
        && execution.spec.get() == new.spec.get()
        && files::complete(context, &execution, given, files).await?;
    if !equal {
        return Err(executions::name_taken().into());
    }
    let target = context.targets.stored(&execution.cluster)?;
    let holder = target
        .holder(&namespace(context, &execution), &id)
        .await
        .map_err(|error| targets::failed("looking for the resource:".to_owned(), error))?;
    if holder != Holder::Nobody {
        return Err(executions::name_taken().into());
    }
    tracing::info!(execution = %id, "finishing a reservation that a repeated request found");
    Ok(Some(execution))
}

/// Checks the request by itself and its project (spec 01 §12.1), which it answers.
async fn validate(
    context: &AdminContext,
    caller: &Caller,
    request: &admin::ExecutionCreateRequest,
) -> Result<Project> {
    request::require_scope(request)?;
    context.allow(
        caller,
        Action::Execute,
        Resource::of(&request.project, &request.domain),
    )?;
    request::validate_name(request)?;
    let project = projects::require(context, &request.project, &request.domain).await?;
    request::validate(request)?;
    Ok(project)
}

/// A task that is launched alone, with the workflow and the plan that are made for it.
async fn single(context: &AdminContext, spec: &ExecutionSpec) -> Result<LaunchTarget> {
    let id = EntityId::any(spec.launch_plan.as_ref())?;
    let task = tasks::load(context, &id).await?;
    let (workflow, plan) = single_task::skeleton(context, &task).await?;
    Ok(LaunchTarget {
        plan,
        workflow,
        task_row: task.row,
    })
}

/// The launch plan that a spec names, with its workflow; none if it names something else, or nothing well. It only
/// reads, so that it can run while the request is still being checked.
async fn planned(
    context: &AdminContext,
    spec: Option<&ExecutionSpec>,
) -> Result<Option<LaunchTarget>> {
    let reference = spec.and_then(|spec| spec.launch_plan.as_ref());
    let Ok(id) = EntityId::expect(reference, ResourceType::LaunchPlan) else {
        return Ok(None);
    };
    let mut tx = context.database.read().await?;
    let plan = repository::launch_plans::get(&mut tx, &id)
        .await?
        .ok_or_else(|| entities::not_found(&id))?;
    let workflow = match plan.workflow_row {
        Some(row) => repository::workflows::get_by_row(&mut tx, row).await?,
        None => None,
    };
    let workflow = workflow.ok_or_else(|| {
        let id = plan.spec.get().workflow_id.clone().unwrap_or_default();
        Error::not_found(
            NotFoundKind::Entity(ResourceType::Workflow),
            text::prototext(&id),
        )
    })?;
    Ok(Some(LaunchTarget {
        plan,
        workflow,
        task_row: None,
    }))
}

/// What the execution takes over from the node that launches it, if one does.
async fn inherit(
    context: &AdminContext,
    caller: &Caller,
    spec: &mut ExecutionSpec,
    source_row: Option<ExecutionRow>,
) -> Result<Lineage> {
    let metadata = spec.metadata.as_ref();
    let parent = metadata.and_then(|metadata| metadata.parent_node_execution.as_ref());
    let parent = match parent {
        Some(parent) => {
            let id = NodeExecutionId::from_proto(Some(parent))?;
            let node = node_executions::load(context, &id).await?;
            Some((node, load(context, &id.execution).await?))
        }
        None => None,
    };
    let parent = parent.as_ref().map(|(node, execution)| (node, execution));
    Ok(lineage::inherit(spec, &caller.user, source_row, parent))
}

/// The cluster and the namespace that the execution goes to.
fn system_metadata(
    context: &AdminContext,
    request: &admin::ExecutionCreateRequest,
    spec: &ExecutionSpec,
) -> admin::SystemMetadata {
    admin::SystemMetadata {
        execution_cluster: launch::target(context, spec)
            .map(|target| target.id.clone())
            .unwrap_or_default(),
        namespace: context
            .config()
            .namespace_mapping
            .namespace(&request.project, &request.domain),
    }
}
