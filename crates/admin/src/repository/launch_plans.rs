//! Table `launch_plans`.

use flyte_core::identifiers::{EntityId, ResourceType};
use flyte_platform::sql::{DbError, Listed, ReadTx, Row, Table, WriteTx};
use jiff::Timestamp;
use sea_query::{Cond, Condition, Expr, ExprTrait as _, JoinType, LockType, Query};

use super::{
    Names,
    columns::{
        ENTITIES_AT_ONCE, ENTITY_KEY, NewRow, entity_id, is_entity, is_one_of, optional_name,
        row_number, stored,
    },
    operations, query, resolve,
};
use crate::{
    filters::{LAUNCH_PLANS, ListQuery, WORKFLOWS},
    records::{LaunchPlan, LaunchPlanRow, LaunchPlanState, RowNumber as _, ScheduleType, or_zero},
};

const TABLE: &str = "launch_plans";

const COLUMNS: [&str; 13] = [
    "id",
    "created_at",
    "updated_at",
    "project",
    "domain",
    "name",
    "version",
    "spec",
    "workflow_id",
    "closure",
    "state",
    "digest",
    "schedule_type",
];

const ROWS: Table<LaunchPlan> = Table { name: TABLE, read };

fn read(row: &Row) -> Result<LaunchPlan, DbError> {
    Ok(LaunchPlan {
        row: row_number(row, "id")?,
        id: entity_id(row, ResourceType::LaunchPlan)?,
        spec: stored(row, "spec")?,
        workflow_row: row_number(row, "workflow_id")?,
        closure: stored(row, "closure")?,
        state: row.number("state")?.into(),
        digest: row.bytes("digest")?,
        schedule_type: optional_name(row, "schedule_type")?.unwrap_or(ScheduleType::None),
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

/// Inserts a launch plan; a taken id is a unique violation.
pub async fn insert(tx: &mut WriteTx, plan: &LaunchPlan, now: Timestamp) -> Result<(), DbError> {
    let scheduled = plan.schedule_type != ScheduleType::None;
    let mut row = NewRow::at(now);
    row.entity(&plan.id)
        .set("spec", plan.spec.bytes().to_vec())
        .set("workflow_id", or_zero(plan.workflow_row))
        .set("closure", plan.closure.bytes().to_vec())
        .set("state", plan.state.number())
        .set("digest", plan.digest.clone())
        .set("schedule_type", plan.schedule_type.word())
        .set("launch_condition_type", scheduled.then_some("SCHED"));
    tx.of(operations::LAUNCH_PLANS.create())
        .execute(&row.insert_into(TABLE))
        .await
        .map(drop)
}

/// The launch plan with this id.
pub async fn get(tx: &mut ReadTx, id: &EntityId) -> Result<Option<LaunchPlan>, DbError> {
    one(tx, is_entity(TABLE, id)).await
}

/// The launch plan in this row.
pub async fn get_by_row(
    tx: &mut ReadTx,
    row: LaunchPlanRow,
) -> Result<Option<LaunchPlan>, DbError> {
    let by_id = Expr::col((TABLE, "id")).eq(row.number());
    one(tx, Cond::all().add(by_id)).await
}

async fn one(tx: &mut ReadTx, condition: Condition) -> Result<Option<LaunchPlan>, DbError> {
    let select = query::select(TABLE, &COLUMNS)
        .cond_where(condition)
        .to_owned();
    tx.of(operations::LAUNCH_PLANS.get())
        .read_optional(&select, ROWS)
        .await
}

/// The launch plans among `ids` that exist, in no particular order.
pub async fn get_many(tx: &mut ReadTx, ids: &[EntityId]) -> Result<Vec<LaunchPlan>, DbError> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(ENTITIES_AT_ONCE) {
        let select = query::select(TABLE, &COLUMNS)
            .cond_where(is_one_of(TABLE, ids))
            .to_owned();
        let rows = tx
            .of(operations::LAUNCH_PLANS.list())
            .fetch_all(&select)
            .await?;
        for row in &rows {
            found.push(ROWS.one(row)?);
        }
    }
    Ok(found)
}

/// Launch plans of a project and domain, of one name if `name` is not empty. Plans whose workflow is gone
/// are left out, as in the reference.
pub async fn list(
    tx: &mut ReadTx,
    names: Names<'_>,
    list: &ListQuery,
) -> Result<Listed<LaunchPlan>, DbError> {
    let mut select = query::select(TABLE, &COLUMNS);
    let scope = resolve::Scope {
        table: TABLE,
        columns: names.columns(ENTITY_KEY),
    };
    // A filter on the workflow brings the same join.
    let joined = list
        .predicates
        .iter()
        .any(|predicate| predicate.entity == &WORKFLOWS);
    if !joined {
        select.join(
            JoinType::InnerJoin,
            "workflows",
            Expr::col((TABLE, "workflow_id")).equals(("workflows", "id")),
        );
    }
    resolve::apply(tx, &mut select, &LAUNCH_PLANS, &scope, list).await?;
    tx.of(operations::LAUNCH_PLANS.list())
        .read_all(&select, ROWS)
        .await
}

/// The active version of a name.
pub async fn active(tx: &mut ReadTx, names: Names<'_>) -> Result<Option<LaunchPlan>, DbError> {
    let mut select = query::select(TABLE, &COLUMNS);
    select
        .cond_where(names.condition(TABLE))
        .and_where(Expr::col((TABLE, "state")).eq(LaunchPlanState::Active.number()))
        .order_by((TABLE, "id"), sea_query::Order::Asc)
        .limit(1);
    tx.of(operations::LAUNCH_PLANS.get())
        .read_optional(&select, ROWS)
        .await
}

/// Keeps other transactions from changing which version of a name is active, until this one ends.
pub async fn lock_name(tx: &mut WriteTx, names: Names<'_>) -> Result<(), DbError> {
    let Names {
        project,
        domain,
        name,
    } = names;
    tx.lock(&format!("launch plan {project}:{domain}:{name}"))
        .await
}

/// All versions of a name that are active, locked until the transaction ends.
pub async fn lock_active(tx: &mut WriteTx, names: Names<'_>) -> Result<Vec<LaunchPlan>, DbError> {
    lock_name(tx, names).await?;
    let mut select = query::select(TABLE, &COLUMNS);
    select
        .cond_where(names.condition(TABLE))
        .and_where(Expr::col((TABLE, "state")).eq(LaunchPlanState::Active.number()))
        .lock(LockType::Update);
    let rows = tx
        .of(operations::LAUNCH_PLANS.list())
        .fetch_all(&select)
        .await?;
    rows.iter().map(|row| ROWS.one(row)).collect()
}

/// Whether a change of state is visible in `updated_at`: activation is not (spec 01 §10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// `updated_at` becomes this moment.
    At(Timestamp),
    /// `updated_at` stays.
    Silent,
}

/// Writes the state of the plan in `row`.
pub async fn set_state(
    tx: &mut WriteTx,
    row: LaunchPlanRow,
    state: LaunchPlanState,
    touch: Touch,
) -> Result<(), DbError> {
    let mut update = Query::update();
    update
        .table(TABLE)
        .value("state", state.number())
        .and_where(Expr::col("id").eq(row.number()));
    if let Touch::At(now) = touch {
        update.value("updated_at", now);
    }
    tx.of(operations::LAUNCH_PLANS.set_active())
        .execute(&update)
        .await
        .map(drop)
}
