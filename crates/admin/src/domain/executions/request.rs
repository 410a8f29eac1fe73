//! What a request to create an execution must obey, and what its spec is completed with (spec 01 §12.1-12.2).

use flyte_core::{
    identifiers::{EntityId, ResourceType},
    inputs, names,
};
use flyte_idl::{
    admin::{
        ExecutionCreateRequest, ExecutionSpec, SystemMetadata,
        execution_spec::NotificationOverrides,
    },
    text::quoted,
};

use super::{config::EffectiveConfig, record::LaunchTarget};
use crate::{
    config::AdminConfig,
    domain::{launch_plans, projects},
    error::{Error, Result},
    records::Project,
};

/// Moves inputs of old clients, which are in the spec, to where they belong.
pub(crate) fn adopt_inputs(request: &mut ExecutionCreateRequest) {
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

/// Checks that the request names a project and a domain.
///
/// # Errors
/// `missing project` or `missing domain`.
pub(crate) fn require_scope(request: &ExecutionCreateRequest) -> Result<()> {
    for (field, value) in [("project", &request.project), ("domain", &request.domain)] {
        if value.is_empty() {
            return Err(Error::missing(field));
        }
    }
    Ok(())
}

/// Checks the name that the client chose, if it did.
///
/// # Errors
/// INVALID_ARGUMENT for one that Kubernetes would not take.
pub(crate) fn validate_name(request: &ExecutionCreateRequest) -> Result<()> {
    if !request.name.is_empty() {
        names::execution_name(&request.name)?;
    }
    Ok(())
}

/// Checks everything of the request that needs nothing else, in the reference's order.
///
/// # Errors
/// INVALID_ARGUMENT for the first thing that is wrong.
pub(crate) fn validate(request: &ExecutionCreateRequest) -> Result<()> {
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
    if let Some(NotificationOverrides::Notifications(list)) = &spec.notification_overrides {
        launch_plans::notifications(&list.notifications)?;
    }
    if let Some(labels) = &spec.labels {
        names::labels(&labels.values)?;
    }
    Ok(())
}

/// Checks that the request asks for no other pool than the one that its domain is configured with (spec 03 §2.5).
///
/// # Errors
/// INVALID_ARGUMENT with both pools.
pub(crate) fn require_pool(
    config: &AdminConfig,
    request: &ExecutionCreateRequest,
    spec: &ExecutionSpec,
) -> Result<()> {
    let asked = spec
        .cluster_assignment
        .as_ref()
        .map(|assignment| assignment.cluster_pool_name.as_str())
        .unwrap_or_default();
    let pools = &config.cluster_pools.cluster_pool_assignments.0;
    let configured = pools
        .get(&request.domain)
        .map(|assignment| assignment.pool.as_str())
        .unwrap_or_default();
    if asked.is_empty() || configured.is_empty() || asked == configured {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "execution with project {} and domain {} cannot run on cluster pool {}, because its configured to run on pool {}",
        quoted(&request.project),
        quoted(&request.domain),
        quoted(asked),
        quoted(configured)
    )))
}

/// Writes into the spec what the row is to keep of the merged settings, and where the execution runs.
pub(crate) fn complete_spec(
    spec: &mut ExecutionSpec,
    target: &LaunchTarget,
    config: &EffectiveConfig,
    project: &Project,
    system: SystemMetadata,
) {
    spec.security_context = Some(config.security_context.clone());
    if !target.is_task() {
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
    spec.metadata.get_or_insert_default().system_metadata = Some(system);
}
