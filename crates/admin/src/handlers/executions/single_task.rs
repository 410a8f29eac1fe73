//! The workflow and launch plan that stand for a task that is launched alone (spec 01 §12.3).

use flyte_core::{
    identifiers::{EntityId, ResourceType},
    single_task,
};
use flyte_idl::stored::Stored;
use flyte_platform::sql::DbError;

use crate::{
    context::AdminContext,
    domain,
    error::{Error, Result},
    handlers::{
        entities::not_found,
        launch_plans,
        workflows::{self, Registration},
    },
    records::{LaunchPlan, NamedEntity, NamedEntityState, Task, Workflow},
    repository::{self, named_entities::NamedResource},
    unknown_fields::UnknownFields,
};

/// The workflow and launch plan of `task`, made on first use. Two requests that make them at once end with
/// the same ones.
pub(crate) async fn skeleton(
    context: &AdminContext,
    task: &Task,
) -> Result<(Workflow, LaunchPlan)> {
    let workflow = workflow(context, task).await?;
    let plan = launch_plan(context, task, &workflow).await?;
    Ok((workflow, plan))
}

fn generated(task: &Task, resource_type: ResourceType) -> Result<EntityId> {
    let id = single_task::generated_id(&task.id.to_proto(), resource_type);
    Ok(EntityId::expect(Some(&id), resource_type)?)
}

async fn workflow(context: &AdminContext, task: &Task) -> Result<Workflow> {
    let id = generated(task, ResourceType::Workflow)?;
    let mut tx = context.database.read().await?;
    let found = repository::workflows::get(&mut tx, &id).await?;
    drop(tx);
    // Without its closure it is registered again, which writes that.
    if let Some(found) = found
        && workflows::closure(context, &found).await.is_ok()
    {
        return Ok(found);
    }
    let template = task
        .closure
        .get()
        .compiled_task
        .as_ref()
        .and_then(|compiled| compiled.template.clone())
        .unwrap_or_default();
    let template = single_task::workflow(&task.id.to_proto(), &template);
    let registration = Registration {
        interface: template.interface.clone().map(Stored::new),
        compiled: workflows::compile(
            context,
            &id,
            &UnknownFields::default(),
            template,
            Vec::new(),
        )
        .await?,
        id: id.clone(),
        description: None,
    };
    match workflows::register(context, registration).await {
        Ok(_) | Err(Error::WorkflowExists { .. }) => {}
        Err(error) => return Err(error),
    }
    hide(context, NamedResource::Workflow, &id).await?;
    let mut tx = context.database.read().await?;
    repository::workflows::get(&mut tx, &id)
        .await?
        .ok_or_else(|| not_found(&id))
}

async fn launch_plan(
    context: &AdminContext,
    task: &Task,
    workflow: &Workflow,
) -> Result<LaunchPlan> {
    let id = generated(task, ResourceType::LaunchPlan)?;
    if let Some(found) = launch_plans::find(context, &id).await? {
        return Ok(found);
    }
    let spec = single_task::launch_plan(&task.id.to_proto());
    let interface = workflow.interface.clone();
    let interface = interface.map(Stored::into_inner).unwrap_or_default();
    let expected = domain::launch_plans::expected_inputs(&spec, &interface)?;
    let plan = domain::launch_plans::assemble(
        id.clone(),
        spec,
        expected,
        interface.outputs,
        workflow.row,
    )?;
    match launch_plans::insert(context, &plan).await {
        Ok(()) | Err(Error::Store(DbError::UniqueViolation { .. })) => {}
        Err(error) => return Err(error),
    }
    hide(context, NamedResource::LaunchPlan, &id).await?;
    launch_plans::find(context, &id)
        .await?
        .ok_or_else(|| not_found(&id))
}

/// Marks a name as made by the system, so that lists leave it out.
async fn hide(context: &AdminContext, resource: NamedResource, id: &EntityId) -> Result<()> {
    let entity = NamedEntity {
        project: id.project.to_string(),
        domain: id.domain.to_string(),
        name: id.name.clone(),
        description: String::new(),
        state: NamedEntityState::SystemGenerated,
    };
    let now = context.clock.now();
    context
        .database
        .write((resource, entity, now), |(resource, entity, now), tx| {
            Box::pin(async move {
                repository::named_entities::set_metadata(tx, *resource, entity, *now).await?;
                Ok::<_, Error>(())
            })
        })
        .await
}
