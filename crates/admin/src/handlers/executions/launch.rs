//! From a reserved row to a running resource: the steps that a crash may interrupt anywhere and that running
//! again completes (spec 01 §12.2, required order).

use std::collections::BTreeMap;

use flyte_core::identifiers::ExecutionId;
use flyte_idl::{
    admin::{ExecutionSpec, LaunchPlanSpec},
    core::{CompiledWorkflowClosure, ExecutionError, LiteralMap, execution_error::ErrorKind},
};

use flyte_platform::Chain;
use jiff::SignedDuration;
use tonic::Code;

use super::terminate::{end_resource, namespace};
use crate::{
    caller::Caller,
    context::AdminContext,
    domain::{
        events::not_found,
        executions::{
            config,
            resource::{self, ResourceInputs},
            transitions,
        },
        projects,
        task_resources::PlatformResources,
    },
    error::{Error, NotFoundKind, Result},
    handlers::workflows,
    records::{Execution, WorkflowPhase},
    repository::{self, executions},
    targets::ExecutionTarget,
};

/// A cluster or a storage that does not answer is waited for no longer than this.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// What the resource is made from besides the row.
pub(crate) struct LaunchInputs {
    pub(crate) closure: CompiledWorkflowClosure,
    pub(crate) closure_uri: String,
    /// Defaults and fixed inputs included.
    pub(crate) inputs: LiteralMap,
    /// The launch plan; none for a single task.
    pub(crate) plan: Option<LaunchPlanSpec>,
    pub(crate) project_labels: BTreeMap<String, String>,
}

/// The cluster that an execution with this spec goes to.
pub(crate) fn target<'a>(
    context: &'a AdminContext,
    spec: &ExecutionSpec,
) -> Result<&'a ExecutionTarget> {
    let label = spec
        .execution_cluster_label
        .as_ref()
        .map(|label| label.value.as_str())
        .unwrap_or_default();
    context.targets.choose(label)
}

/// Creates the resource of a reserved execution.
///
/// # Errors
/// For a single task a failure of the cluster: the reservation is gone then.
pub(crate) async fn run(
    context: &AdminContext,
    execution: &Execution,
    launch: LaunchInputs,
) -> Result<()> {
    let metrics = &context.metrics().executions;
    match submit(context, execution, launch).await {
        Ok(()) => {
            metrics.created(execution);
            end_if_terminated(context, execution).await
        }
        Err(error @ Error::ClusterAway { .. }) => {
            // Nothing acknowledged is lost, and what may run has its row: the reconciler goes on.
            tracing::warn!(execution = %execution.id, error = %Chain(&error), "a creation is finished later");
            Ok(())
        }
        Err(error) if execution.task_row.is_some() => {
            withdraw(context, &execution.id).await?;
            Err(error)
        }
        Err(error) => {
            metrics.created(execution);
            fail(context, &execution.id, &error).await
        }
    }
}

/// Builds and creates the resource, and counts how that went.
async fn submit(context: &AdminContext, execution: &Execution, launch: LaunchInputs) -> Result<()> {
    let metrics = &context.metrics().executions;
    let outcome = create(context, execution, launch).await;
    match &outcome {
        Ok(()) => metrics.accepted(execution.created_at, context.clock.now()),
        Err(_error) => metrics.propeller_failures.inc(),
    }
    outcome
}

async fn create(context: &AdminContext, execution: &Execution, launch: LaunchInputs) -> Result<()> {
    let spec = execution.spec.get();
    let target = target(context, spec).map_err(|error| Error::Cluster {
        context: "failed to create workflow in propeller".to_owned(),
        source: error.into(),
    })?;
    let server_config = context.config();
    let server = &server_config.flyteadmin;
    // The caller's identity is in the stored security context already.
    let config = config::merge(spec, launch.plan.as_ref(), server, &Caller::default());
    let mut labels = config.labels.clone();
    for (key, value) in launch.project_labels {
        labels.entry(key).or_insert(value);
    }
    let namespace = namespace(context, execution);
    let inputs = ResourceInputs {
        id: &execution.id.to_proto(),
        namespace: &namespace,
        closure: launch.closure,
        closure_uri: &launch.closure_uri,
        inputs: launch.inputs,
        inputs_uri: &execution.inputs_uri,
        spec,
        config: &config,
        labels: &labels,
        accepted_at: execution.created_at.unwrap_or_else(|| context.clock.now()),
    };
    let platform = PlatformResources::of_config(&server_config.task_resources)?;
    let metrics = &context.metrics().executions;
    let resource = resource::build(inputs, server, &platform)
        .inspect(|_resource| metrics.built.inc())
        .inspect_err(|_error| metrics.not_built.inc())?;
    target.create(&namespace, &execution.id, &resource).await
}

/// Gives the name back: nothing of the execution was ever visible to the engine.
async fn withdraw(context: &AdminContext, id: &ExecutionId) -> Result<()> {
    context
        .database
        .write(id.clone(), |id, tx| {
            Box::pin(async move { Ok::<_, Error>(executions::remove(tx, id).await?) })
        })
        .await
}

/// Ends a launch plan's execution whose resource could not be created; its creation still succeeds.
pub(crate) async fn fail(context: &AdminContext, id: &ExecutionId, error: &Error) -> Result<()> {
    let failure = failure(error);
    let now = context.clock.now();
    let failed = context
        .database
        .write((id.clone(), failure, now), |(id, failure, now), tx| {
            Box::pin(async move {
                let Some(mut execution) = executions::lock(tx, id).await? else {
                    return Ok(false);
                };
                if !transitions::fail_launch(&mut execution, failure, *now) {
                    return Ok(false);
                }
                executions::update(tx, &execution, *now).await?;
                Ok::<_, Error>(true)
            })
        })
        .await?;
    if failed {
        context.metrics().executions.failed_at_once();
    }
    Ok(())
}

/// The error that the execution shows. A closure that the transform refuses is not one of admin's own
/// errors, so its code is `Unknown` (spec 03 §4.1).
fn failure(error: &Error) -> ExecutionError {
    let code = match error {
        Error::Invalid(_) | Error::Transform(_) => "Unknown".to_owned(),
        other => format!("{:?}", other.code()),
    };
    ExecutionError {
        code,
        message: error.public_text(),
        kind: ErrorKind::System as i32,
        ..Default::default()
    }
}

/// A termination may have come between reservation and creation and found no resource to delete; or an equal request,
/// whose own try was refused, has given the name back.
async fn end_if_terminated(context: &AdminContext, execution: &Execution) -> Result<()> {
    let mut tx = context.database.read().await?;
    let phase = executions::phase(&mut tx, &execution.id).await?;
    drop(tx);
    match phase {
        Some(WorkflowPhase::Aborting | WorkflowPhase::Aborted) => {
            end_resource(context, execution).await
        }
        None => {
            end_resource(context, execution).await?;
            Err(not_found::execution(&execution.id))
        }
        Some(_) => Ok(()),
    }
}

/// Finishes a reservation that a crash left: everything it needs is in the store. A launch plan's execution
/// that cannot be finished is FAILED; a task's reservation too, since its caller is long gone.
pub(crate) async fn resume(context: &AdminContext, execution: &Execution) -> Result<()> {
    let metrics = &context.metrics().executions;
    let launch = match launch_inputs(context, execution).await {
        Ok(launch) => launch,
        Err(error) if may_come(context, execution, &error) => return Err(error),
        Err(error) => {
            metrics.created(execution);
            return fail(context, &execution.id, &error).await;
        }
    };
    match submit(context, execution, launch).await {
        Ok(()) => {
            metrics.created(execution);
            end_if_terminated(context, execution).await
        }
        Err(error) if may_come(context, execution, &error) => Err(error),
        Err(error) => {
            metrics.created(execution);
            fail(context, &execution.id, &error).await
        }
    }
}

/// Whether another pass may do what this one could not: the database failed, or a cluster or the storage is away and has not
/// been for too long.
fn may_come(context: &AdminContext, execution: &Execution, error: &Error) -> bool {
    let now = context.clock.now();
    let age = execution
        .created_at
        .map(|created| now.duration_since(created));
    let is_too_old = age.is_some_and(|age| age > LONGEST);
    matches!(error, Error::Store(_)) || (error.code() == Code::Unavailable && !is_too_old)
}

async fn launch_inputs(context: &AdminContext, execution: &Execution) -> Result<LaunchInputs> {
    let mut tx = context.database.read().await?;
    let workflow = match execution.workflow_row {
        Some(row) => repository::workflows::get_by_row(&mut tx, row).await?,
        None => None,
    };
    let workflow = workflow.ok_or_else(|| {
        Error::not_found(
            NotFoundKind::WorkflowOfExecution,
            execution.id.name.as_str(),
        )
    })?;
    let plan = match execution.launch_plan_row {
        Some(row) => repository::launch_plans::get_by_row(&mut tx, row).await?,
        None => None,
    };
    let project = repository::projects::get(&mut tx, execution.id.project.as_str()).await?;
    drop(tx);
    let inputs = context.read_blob(&execution.inputs_uri, "inputs").await?;
    let closure = workflows::closure(context, &workflow).await?;
    Ok(LaunchInputs {
        closure: closure.compiled_workflow.clone().unwrap_or_default(),
        closure_uri: workflow.closure_uri,
        inputs,
        plan: plan.map(|plan| plan.spec.into_inner()),
        project_labels: project.as_ref().map(projects::labels).unwrap_or_default(),
    })
}
