//! Launch plans (spec 01 §10).

use flyte_core::{
    identifiers::{EntityId, ResourceType},
    names,
};
use flyte_idl::{admin, stored::Stored, text};
use flyte_platform::sql::{DbError, Listed, WriteTx};
use jiff::Timestamp;

use super::{
    entities::{self, not_found, scope},
    pages, projects,
};
use crate::{
    caller::{Action, Caller, Resource},
    context::AdminContext,
    domain::{diff, launch_plans as rules},
    error::{Error, NotFoundKind, Result},
    filters::{Comparison, LAUNCH_PLANS, ListQuery, Page, Predicate, Test},
    records::{LaunchPlan, LaunchPlanRow, LaunchPlanState},
    repository::{self, Names, launch_plans::Touch},
    time,
    unknown_fields::{Incoming, Reply, UnknownFields, fields},
};

pub(crate) async fn create(
    context: &AdminContext,
    caller: &Caller,
    Incoming {
        message: request,
        unknown,
    }: Incoming<admin::LaunchPlanCreateRequest>,
) -> Result<admin::LaunchPlanCreateResponse> {
    let spec = request.spec.unwrap_or_default();
    let workflow = EntityId::expect(spec.workflow_id.as_ref(), ResourceType::Workflow)?;
    let mut tx = context.database.read().await?;
    let workflow = repository::workflows::get(&mut tx, &workflow)
        .await?
        .ok_or_else(|| not_found(&workflow))?;
    drop(tx);
    let id = EntityId::expect(request.id.as_ref(), ResourceType::LaunchPlan)?;
    context.allow(caller, Action::Register, scope(&id))?;
    projects::require(context, id.project.as_str(), id.domain.as_str()).await?;
    if let Some(labels) = &spec.labels {
        names::labels(&labels.values)?;
    }
    let of_interface = workflow.interface.as_ref().map(UnknownFields::of_stored);
    let of_interface = of_interface.unwrap_or_default();
    let interface = workflow
        .interface
        .map(Stored::into_inner)
        .unwrap_or_default();
    let expected = rules::expected_inputs(&spec, &interface)?;
    rules::notifications(
        spec.entity_metadata
            .as_ref()
            .map_or(&[], |metadata| metadata.notifications.as_slice()),
    )?;
    rules::launch_conditions(&spec)?;
    let mut plan = rules::assemble(id, spec, expected, interface.outputs, workflow.row)?;
    let of_spec = unknown.part(fields::CREATE_LAUNCH_PLAN_SPEC);
    of_spec.keep_in(&mut plan.spec);
    UnknownFields::default()
        .with(
            fields::LAUNCH_PLAN_CLOSURE_INPUTS,
            of_spec.part(fields::LAUNCH_PLAN_SPEC_DEFAULT_INPUTS),
        )
        .with(
            fields::LAUNCH_PLAN_CLOSURE_OUTPUTS,
            of_interface.part(fields::INTERFACE_OUTPUTS),
        )
        .keep_in(&mut plan.closure);
    let (spec, closure) = (plan.spec.bytes().len(), plan.closure.bytes().len());
    register(context, plan).await?;
    let metrics = &context.metrics().registered;
    metrics.plan_spec.observe_size(spec);
    metrics.plan_closure.observe_size(closure);
    Ok(admin::LaunchPlanCreateResponse {})
}

async fn register(context: &AdminContext, plan: LaunchPlan) -> Result<()> {
    if let Some(stored) = find(context, &plan.id).await? {
        return Err(exists(&stored, &plan));
    }
    match insert(context, &plan).await {
        Err(Error::Store(DbError::UniqueViolation { .. })) => {
            let stored = find(context, &plan.id).await?;
            Err(stored.map_or_else(|| not_found(&plan.id), |stored| exists(&stored, &plan)))
        }
        outcome => outcome,
    }
}

/// Inserts a plan as it is; a taken id is a unique violation.
pub(crate) async fn insert(context: &AdminContext, plan: &LaunchPlan) -> Result<()> {
    let now = context.clock.now();
    context
        .database
        .write((plan.clone(), now), |(plan, now), tx| {
            Box::pin(async move {
                Ok::<_, Error>(repository::launch_plans::insert(tx, plan, *now).await?)
            })
        })
        .await
}

pub(crate) async fn find(context: &AdminContext, id: &EntityId) -> Result<Option<LaunchPlan>> {
    let mut tx = context.database.read().await?;
    Ok(repository::launch_plans::get(&mut tx, id).await?)
}

fn exists(stored: &LaunchPlan, new: &LaunchPlan) -> Error {
    if stored.digest == new.digest {
        return Error::AlreadyExists(
            "launch plan with identical structure already exists".to_owned(),
        );
    }
    let hashed = |plan: &LaunchPlan| admin::LaunchPlan {
        id: Some(plan.id.to_proto()),
        spec: Some(plan.spec.get().clone()),
        closure: Some(plan.closure.get().clone()),
    };
    Error::Invalid(format!(
        "{} launch plan with different structure already exists. (Please register a new version of the launch plan):\n{}",
        new.id.name,
        diff::text(&hashed(stored), &hashed(new))
    ))
}

fn message(plan: LaunchPlan) -> Reply<admin::LaunchPlan> {
    let of_spec = UnknownFields::of_stored(&plan.spec);
    let of_closure = UnknownFields::of_stored(&plan.closure);
    let mut closure = plan.closure.into_inner();
    closure.state = plan.state.number();
    closure.created_at = plan.created_at.map(time::to_wire);
    closure.updated_at = plan.updated_at.map(time::to_wire);
    let message = admin::LaunchPlan {
        id: Some(plan.id.to_proto()),
        spec: Some(plan.spec.into_inner()),
        closure: Some(closure),
    };
    Reply::from(message)
        .with(fields::LAUNCH_PLAN_SPEC, of_spec)
        .with(fields::LAUNCH_PLAN_CLOSURE, of_closure)
}

pub(crate) async fn get(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ObjectGetRequest,
) -> Result<Reply<admin::LaunchPlan>> {
    let id = entities::require(request.id, ResourceType::LaunchPlan)?;
    context.allow(caller, Action::Read, scope(&id))?;
    let plan = find(context, &id).await?.ok_or_else(|| not_found(&id))?;
    Ok(message(plan))
}

pub(crate) async fn get_active(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ActiveLaunchPlanRequest,
) -> Result<Reply<admin::LaunchPlan>> {
    let id = request.id.unwrap_or_default();
    for (field, value) in [
        ("project", &id.project),
        ("domain", &id.domain),
        ("name", &id.name),
    ] {
        if value.is_empty() {
            return Err(Error::missing(field));
        }
    }
    context.allow(caller, Action::Read, Resource::of(&id.project, &id.domain))?;
    let mut tx = context.database.read().await?;
    let names = Names {
        project: &id.project,
        domain: &id.domain,
        name: &id.name,
    };
    let plan = repository::launch_plans::active(&mut tx, names).await?;
    plan.map(message).ok_or_else(|| {
        Error::not_found(
            NotFoundKind::ActiveLaunchPlan,
            format!("{}:{}:{}", id.project, id.domain, id.name),
        )
    })
}

pub(crate) async fn list(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ResourceListRequest,
) -> Result<Reply<admin::LaunchPlanList>> {
    let (names, query) =
        entities::list_query(context, caller, &request, &LAUNCH_PLANS, "ListLaunchPlans")?;
    let mut tx = context.database.read_lagging().await?;
    let plans = repository::launch_plans::list(&mut tx, names, &query).await?;
    Ok(listed(context, &query, plans))
}

fn listed(
    context: &AdminContext,
    query: &ListQuery,
    plans: Listed<LaunchPlan>,
) -> Reply<admin::LaunchPlanList> {
    let plans = plans.map(message);
    pages::reply(
        context,
        query,
        plans,
        fields::LAUNCH_PLANS,
        |launch_plans, token| admin::LaunchPlanList {
            launch_plans,
            token,
        },
    )
}

pub(crate) async fn list_active(
    context: &AdminContext,
    caller: &Caller,
    request: admin::ActiveLaunchPlanListRequest,
) -> Result<Reply<admin::LaunchPlanList>> {
    for (field, value) in [("project", &request.project), ("domain", &request.domain)] {
        if value.is_empty() {
            return Err(Error::missing(field));
        }
    }
    context.allow(
        caller,
        Action::Read,
        Resource::of(&request.project, &request.domain),
    )?;
    let page = Page {
        filters: "",
        sort_by: request.sort_by.as_ref(),
        token: &request.token,
        limit: request.limit,
        rpc: "ListActiveLaunchPlans",
    };
    page.require_limit()?;
    let mut query = page.parse(&LAUNCH_PLANS, context.clock.now())?;
    query
        .predicates
        .extend(LAUNCH_PLANS.column("state").map(|column| Predicate {
            entity: &LAUNCH_PLANS,
            column,
            test: Test::Compare(Comparison::Equal, LaunchPlanState::Active.number().into()),
            checked: false,
        }));
    let mut tx = context.database.read().await?;
    let names = Names {
        project: &request.project,
        domain: &request.domain,
        name: "",
    };
    let plans = repository::launch_plans::list(&mut tx, names, &query).await?;
    Ok(listed(context, &query, plans))
}

pub(crate) async fn update(
    context: &AdminContext,
    caller: &Caller,
    request: admin::LaunchPlanUpdateRequest,
) -> Result<admin::LaunchPlanUpdateResponse> {
    let mut wire_id = request.id.ok_or_else(|| Error::missing("id"))?;
    if wire_id.resource_type == ResourceType::Unspecified as i32 {
        wire_id.resource_type = ResourceType::LaunchPlan as i32;
    }
    let state = LaunchPlanState::from(request.state);
    if let LaunchPlanState::Unknown(_) = state {
        return Err(Error::Invalid(format!(
            "Unrecognized launch plan state {} for update for launch plan [{}]",
            request.state,
            text::prototext(&wire_id)
        )));
    }
    let id = EntityId::expect(Some(&wire_id), ResourceType::LaunchPlan)?;
    context.allow(caller, Action::Register, scope(&id))?;
    let now = context.clock.now();
    let activate = state == LaunchPlanState::Active;
    context
        .database
        .write((id, activate, now), |(id, activate, now), tx| {
            Box::pin(async move {
                if *activate {
                    activate_plan(tx, id, *now).await
                } else {
                    deactivate_plan(tx, id, *now).await
                }
            })
        })
        .await?;
    Ok(admin::LaunchPlanUpdateResponse {})
}

/// Writes the state of a plan that was read in this transaction.
async fn set_state(
    tx: &mut WriteTx,
    row: Option<LaunchPlanRow>,
    state: LaunchPlanState,
    touch: Touch,
) -> Result<()> {
    if let Some(row) = row {
        repository::launch_plans::set_state(tx, row, state, touch).await?;
    }
    Ok(())
}

/// Under the lock of the name as well: plan and schedule are two rows, and an activation between them would leave the
/// schedule of an inactive plan active.
async fn deactivate_plan(tx: &mut WriteTx, id: &EntityId, now: Timestamp) -> Result<()> {
    repository::launch_plans::lock_name(tx, Names::of(id)).await?;
    let plan = repository::launch_plans::get(tx, id)
        .await?
        .ok_or_else(|| not_found(id))?;
    if rules::schedule_expression(plan.spec.get()).is_some() {
        repository::schedules::deactivate(tx, id, now).await?;
    }
    set_state(tx, plan.row, LaunchPlanState::Inactive, Touch::At(now)).await?;
    Ok(())
}

/// One active version per name: everything happens under a lock of the name, in one transaction
/// (spec 01 §24 no. 14).
async fn activate_plan(tx: &mut WriteTx, id: &EntityId, now: Timestamp) -> Result<()> {
    let active = repository::launch_plans::lock_active(tx, Names::of(id)).await?;
    let plan = repository::launch_plans::get(tx, id)
        .await?
        .ok_or_else(|| not_found(id))?;
    for other in active.iter().filter(|other| other.row != plan.row) {
        if rules::schedule_expression(other.spec.get()).is_some() {
            repository::schedules::deactivate(tx, &other.id, now).await?;
        }
        set_state(tx, other.row, LaunchPlanState::Inactive, Touch::Silent).await?;
    }
    if let Some(schedule) = rules::schedule(&plan)? {
        repository::schedules::activate(tx, &schedule, now).await?;
    }
    set_state(tx, plan.row, LaunchPlanState::Active, Touch::Silent).await?;
    Ok(())
}
