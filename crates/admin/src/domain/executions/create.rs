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
    inputs, names,
};
use flyte_idl::{
    admin::{self, ExecutionSpec, execution_metadata::ExecutionMode, execution_spec},
    core::LiteralMap,
    stored::Stored,
    text,
};
use prost::Message as _;

use super::{
    config::{self, EffectiveConfig},
    files,
    launch::{self, Materials},
    load, namespace, reserve, single_task,
};
use crate::{
    caller::{Action, Caller},
    domain::{entities, launch_plan_rules, nodes, projects, tasks, workflows},
    error::{Error, Missing, Result},
    records::{
        Execution, ExecutionRow, LaunchPlan, NodeExecutionRow, Project, TaskRow, Workflow,
        WorkflowPhase,
    },
    repository::{self, executions},
    service::Service,
    unknown::{self, Kept, Unknown},
};

/// Letters and digits of generated names: no vowels, so no words.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Random text for names.
pub(crate) fn random_text(length: usize) -> String {
    (0..length)
        .filter_map(|_| NAME_ALPHABET.get(rand::random_range(0..NAME_ALPHABET.len())))
        .map(|byte| char::from(*byte))
        .collect()
}

pub(crate) async fn create(
    service: &Service,
    caller: &Caller,
    request: admin::ExecutionCreateRequest,
    unknown: &Unknown,
) -> Result<admin::ExecutionCreateResponse> {
    Box::pin(start(service, caller, request, (None, unknown))).await
}

pub(crate) async fn relaunch(
    service: &Service,
    caller: &Caller,
    request: admin::ExecutionRelaunchRequest,
) -> Result<admin::ExecutionCreateResponse> {
    let id = ExecutionId::from_proto(request.id.as_ref())?;
    let original = load(service, &id).await?;
    let mut spec = original.spec.get().clone();
    let inputs = user_inputs(service, &original, &mut spec).await?;
    let unknown = [
        ("spec", Kept::One(Unknown::of_stored(&original.spec))),
        ("inputs", Kept::One(Unknown::of_stored(&inputs))),
    ];
    let unknown = Unknown::gathered("flyteidl.admin.ExecutionCreateRequest", unknown);
    let metadata = spec.metadata.get_or_insert_default();
    metadata.mode = ExecutionMode::Relaunch as i32;
    metadata.reference_execution = Some(id.to_proto());
    spec.overwrite_cache = request.overwrite_cache;
    let create = admin::ExecutionCreateRequest {
        project: id.project.to_string(),
        domain: id.domain.to_string(),
        name: request.name,
        spec: Some(spec),
        inputs: Some(inputs.into_inner()),
        org: String::new(),
    };
    Box::pin(start(service, caller, create, (original.row, &unknown))).await
}

/// The inputs that the user gave; old rows have them in the spec.
async fn user_inputs(
    service: &Service,
    execution: &Execution,
    spec: &mut ExecutionSpec,
) -> Result<Stored<LiteralMap>> {
    if execution.user_inputs_uri.is_empty() {
        return Ok(Stored::new(spec.inputs.take().unwrap_or_default()));
    }
    service
        .read_stored(&execution.user_inputs_uri, "user inputs")
        .await
}

/// What a request launches.
pub(super) struct Subject {
    pub(super) plan: LaunchPlan,
    pub(super) workflow: Workflow,
    /// Row of the task of a single-task execution.
    pub(super) task_row: Option<TaskRow>,
}

impl Subject {
    pub(super) fn plan_spec(&self) -> Option<&admin::LaunchPlanSpec> {
        self.task_row.is_none().then_some(self.plan.spec.get())
    }
}

/// Creates an execution. `source_row` is the row of the one that it repeats.
async fn start(
    service: &Service,
    caller: &Caller,
    mut request: admin::ExecutionCreateRequest,
    (source_row, unknown): (Option<ExecutionRow>, &Unknown),
) -> Result<admin::ExecutionCreateResponse> {
    let accepted_at = service.clock.now();
    adopt_inputs(&mut request);
    let (project, plan) = futures::future::join(
        validate(service, caller, &request),
        planned(service, request.spec.as_ref()),
    )
    .await;
    let project = project?;
    let (mut spec, given) = (
        request.spec.take().unwrap_or_default(),
        request.inputs.take().unwrap_or_default(),
    );
    let subject = match plan? {
        Some(subject) => subject,
        None => single(service, &spec).await?,
    };
    let full = inputs::execution_inputs(
        Some(&given),
        subject.plan.spec.get().fixed_inputs.as_ref(),
        subject.plan.closure.get().expected_inputs.as_ref(),
    )?;
    let (closure, family) = futures::future::try_join(
        workflows::closure(service, &subject.workflow),
        inherit(service, caller, &mut spec, source_row),
    )
    .await?;
    let server_config = service.config();
    let config = config::merge(
        &spec,
        subject.plan_spec(),
        &server_config.flyteadmin,
        caller,
    );
    if subject.task_row.is_none() {
        let limits = &server_config.registration;
        config::require_at_most("labels", &config.labels, limits.max_label_entries)?;
        config::require_at_most(
            "annotations",
            &config.annotations,
            limits.max_annotation_entries,
        )?;
    }
    require_pool(service, &request, &spec)?;
    complete_spec(service, &request, &mut spec, (&subject, &config, &project));
    let order = reserve::Order {
        request: &request,
        spec,
        subject: &subject,
        family,
        accepted_at,
        unknown: unknown.part("spec"),
    };
    let materials = Materials {
        closure: closure.compiled_workflow.clone().unwrap_or_default(),
        closure_uri: subject.workflow.closure_uri.clone(),
        inputs: full,
        plan: subject.plan_spec().cloned(),
        project_labels: projects::labels(&project),
    };
    // Old clients give inputs in the spec.
    let mut unknown = vec![unknown.part("spec").part("inputs"), unknown.part("inputs")];
    let user_inputs = unknown::encoded(&given, &unknown);
    unknown.push(Unknown::of_stored(&subject.plan.spec).part("fixed_inputs"));
    let files = files::Files {
        inputs: unknown::encoded(&materials.inputs, &unknown),
        user_inputs,
    };
    let bytes = given.encoded_len();
    let execution = match interrupted(service, &order, (&given, &files)).await? {
        Some(execution) => execution,
        None => reserve::reserve(service, order, &files).await?,
    };
    launch::run(service, &execution, materials).await?;
    if subject.task_row.is_some() {
        service.counts().executions.data.inputs(bytes);
    }
    Ok(admin::ExecutionCreateResponse {
        id: Some(execution.id.to_proto()),
    })
}

/// The reservation that an earlier, equal request left when its process ended; none if the name is free. Other
/// requests of that name meet the row that has it, as in the reference.
async fn interrupted(
    service: &Service,
    order: &reserve::Order<'_>,
    (given, files): (&LiteralMap, &files::Files),
) -> Result<Option<Execution>> {
    let request = order.request;
    if request.name.is_empty() {
        return Ok(None);
    }
    let id = ExecutionId::new(&request.project, &request.domain, &request.name)?;
    let mut tx = service.database.read().await?;
    let Some(execution) = executions::get(&mut tx, &id).await? else {
        return Ok(None);
    };
    drop(tx);
    let equal = execution.phase == WorkflowPhase::Undefined
        && *execution.spec.get() == order.spec
        && files::complete(service, &execution, given, files).await?;
    if !equal {
        return Err(executions::taken().into());
    }
    let target = service.targets.stored(&execution.cluster)?;
    let there = target
        .has(&namespace(service, &execution), &id.name)
        .await
        .map_err(|error| Error::Cluster {
            context: "looking for the resource:".to_owned(),
            source: error.into(),
        })?;
    if there {
        return Err(executions::taken().into());
    }
    tracing::info!(execution = %id, "finishing a reservation that a repeated request found");
    Ok(Some(execution))
}

/// Moves inputs of old clients to where they belong.
fn adopt_inputs(request: &mut admin::ExecutionCreateRequest) {
    let given = request
        .inputs
        .as_ref()
        .is_some_and(|inputs| !inputs.literals.is_empty());
    if let Some(spec) = &request.spec
        && !given
        && let Some(inputs) = spec.inputs.clone()
    {
        request.inputs = Some(inputs);
    }
}

/// Checks the request by itself (spec 01 §12.1).
async fn validate(
    service: &Service,
    caller: &Caller,
    request: &admin::ExecutionCreateRequest,
) -> Result<Project> {
    for (field, value) in [("project", &request.project), ("domain", &request.domain)] {
        if value.is_empty() {
            return Err(Error::missing(field));
        }
    }
    service.allow(caller, Action::Execute, (&request.project, &request.domain))?;
    if !request.name.is_empty() {
        names::execution_name(&request.name)?;
    }
    let project = projects::require(service, &request.project, &request.domain).await?;
    let spec = request
        .spec
        .as_ref()
        .ok_or_else(|| Error::missing("spec"))?;
    EntityId::any(spec.launch_plan.as_ref())?;
    let reference = spec.launch_plan.clone().unwrap_or_default();
    let kind = ResourceType::try_from(reference.resource_type);
    if !matches!(kind, Ok(ResourceType::LaunchPlan | ResourceType::Task)) {
        let name = kind.map_or_else(
            |_unknown| reference.resource_type.to_string(),
            |kind| kind.as_str_name().to_owned(),
        );
        return Err(Error::Invalid(format!(
            "Invalid reference entity resource type [{name}], only [map[TASK:<nil> LAUNCH_PLAN:<nil>]] allowed"
        )));
    }
    if let Some(inputs) = &request.inputs {
        inputs::validate_literals(&inputs.literals, "inputs")?;
    }
    if let Some(execution_spec::NotificationOverrides::Notifications(list)) =
        &spec.notification_overrides
    {
        launch_plan_rules::notifications(&list.notifications)?;
    }
    if let Some(labels) = &spec.labels {
        names::labels(&labels.values)?;
    }
    Ok(project)
}

/// A task that is launched alone, with the workflow and the plan that are made for it.
async fn single(service: &Service, spec: &ExecutionSpec) -> Result<Subject> {
    let id = EntityId::any(spec.launch_plan.as_ref())?;
    let task = tasks::load(service, &id).await?;
    let (workflow, plan) = single_task::skeleton(service, &task).await?;
    Ok(Subject {
        plan,
        workflow,
        task_row: task.row,
    })
}

/// The launch plan that a spec names, with its workflow; none if it names something else, or nothing well. It only
/// reads, so that it can run while the request is still being checked.
async fn planned(service: &Service, spec: Option<&ExecutionSpec>) -> Result<Option<Subject>> {
    let reference = spec.and_then(|spec| spec.launch_plan.as_ref());
    let Ok(id) = EntityId::expect(reference, ResourceType::LaunchPlan) else {
        return Ok(None);
    };
    let mut tx = service.database.read().await?;
    let plan = repository::launch_plans::get(&mut tx, &id)
        .await?
        .ok_or_else(|| entities::missing(&id))?;
    let workflow = match plan.workflow_row {
        Some(row) => repository::workflows::get_by_row(&mut tx, row).await?,
        None => None,
    };
    let workflow = workflow.ok_or_else(|| {
        let id = plan.spec.get().workflow_id.clone().unwrap_or_default();
        Error::not_found(
            Missing::Entity(ResourceType::Workflow),
            text::prototext(&id),
        )
    })?;
    Ok(Some(Subject {
        plan,
        workflow,
        task_row: None,
    }))
}

/// What an execution takes over from the node or execution that it comes from.
#[derive(Clone, Copy, Default)]
pub(super) struct Family {
    pub(super) source_row: Option<ExecutionRow>,
    pub(super) parent_node_row: Option<NodeExecutionRow>,
}

/// Principal, nesting and cluster label (spec 03 §2.10); the client's principal is discarded.
async fn inherit(
    service: &Service,
    caller: &Caller,
    spec: &mut ExecutionSpec,
    source_row: Option<ExecutionRow>,
) -> Result<Family> {
    let mut family = Family {
        source_row,
        parent_node_row: None,
    };
    let metadata = spec.metadata.get_or_insert_default();
    metadata.principal.clone_from(&caller.user);
    metadata.artifact_ids.clear();
    let Some(parent) = metadata.parent_node_execution.clone() else {
        return Ok(family);
    };
    let parent = NodeExecutionId::from_proto(Some(&parent))?;
    let node = nodes::load(service, &parent).await?;
    let execution = load(service, &parent.execution).await?;
    family.parent_node_row = node.row;
    family.source_row = source_row.or(execution.row);
    metadata.principal.clone_from(&execution.user);
    let parent_spec = execution.spec.get();
    metadata.nesting = parent_spec
        .metadata
        .as_ref()
        .map_or(0, |metadata| metadata.nesting)
        + 1;
    if parent_spec.execution_cluster_label.is_some() {
        spec.execution_cluster_label
            .clone_from(&parent_spec.execution_cluster_label);
    }
    Ok(family)
}

/// A request may not ask for another pool than the domain's (spec 03 §2.5).
fn require_pool(
    service: &Service,
    request: &admin::ExecutionCreateRequest,
    spec: &ExecutionSpec,
) -> Result<()> {
    let asked = spec
        .cluster_assignment
        .as_ref()
        .map(|assignment| assignment.cluster_pool_name.as_str())
        .unwrap_or_default();
    let config = service.config();
    let pools = &config.cluster_pools.cluster_pool_assignments.0;
    let configured = pools
        .get(&request.domain)
        .map(|assignment| assignment.pool.as_str())
        .unwrap_or_default();
    if asked.is_empty() || configured.is_empty() || asked == configured {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "execution with project {:?} and domain {:?} cannot run on cluster pool {asked:?}, because its configured to run on pool {configured:?}",
        request.project, request.domain
    )))
}

/// Writes into the spec what the row is to keep of the merged settings.
fn complete_spec(
    service: &Service,
    request: &admin::ExecutionCreateRequest,
    spec: &mut ExecutionSpec,
    (subject, config, project): (&Subject, &EffectiveConfig, &Project),
) {
    spec.security_context = Some(config.security_context.clone());
    if subject.task_row.is_none() {
        spec.max_parallelism = config.max_parallelism;
    }
    // The reference's maps are shared, so labels of the request end up with the project's (spec 01 §12.2
    // step 11); tags and lists show them.
    if let Some(labels) = &mut spec.labels
        && !labels.values.is_empty()
    {
        for (key, value) in projects::labels(project) {
            labels.values.entry(key).or_insert(value);
        }
    }
    let namespace = service
        .config()
        .namespace_mapping
        .namespace(&request.project, &request.domain);
    let cluster = launch::target(service, spec)
        .map(|target| target.id.clone())
        .unwrap_or_default();
    spec.metadata.get_or_insert_default().system_metadata = Some(admin::SystemMetadata {
        execution_cluster: cluster,
        namespace,
    });
}
