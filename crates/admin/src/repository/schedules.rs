//! Table `schedulable_entities`, which the scheduler reads (spec 01 §10.3).

use flyte_core::identifiers::EntityId;
use flyte_platform::sql::{DbError, WriteTx};
use jiff::Timestamp;
use sea_query::{OnConflict, Query};

use super::{
    columns::{ENTITY_KEY, NewRow, is_entity},
    operations,
};
use crate::records::{RateUnit, Schedule, ScheduleExpression};

const TABLE: &str = "schedulable_entities";

/// Inserts the schedule as active, or activates the row that is there.
pub async fn activate(
    tx: &mut WriteTx,
    schedule: &Schedule,
    now: Timestamp,
) -> Result<(), DbError> {
    let (cron, rate, unit) = match &schedule.expression {
        ScheduleExpression::Cron(cron) => (cron.as_str(), 0, RateUnit::Minute),
        ScheduleExpression::Rate { value, unit } => ("", *value, *unit),
    };
    let mut row = NewRow::at(now);
    row.entity(&schedule.launch_plan)
        .set("cron_expression", cron)
        .set("fixed_rate_value", i64::from(rate))
        .set("unit", unit.number())
        .set("kickoff_time_input_arg", schedule.kickoff_input.as_str())
        .set("active", true);
    let mut insert = row.insert_into(TABLE);
    insert.on_conflict(
        OnConflict::columns(ENTITY_KEY)
            .value("active", true)
            .value("updated_at", now)
            .to_owned(),
    );
    tx.of(operations::SCHEDULES.create())
        .execute(&insert)
        .await
        .map(drop)
}

/// Deactivates the schedule of a launch plan, if it has one.
pub async fn deactivate(
    tx: &mut WriteTx,
    launch_plan: &EntityId,
    now: Timestamp,
) -> Result<(), DbError> {
    let update = Query::update()
        .table(TABLE)
        .value("active", false)
        .value("updated_at", now)
        .cond_where(is_entity(TABLE, launch_plan))
        .take();
    tx.of(operations::SCHEDULES.update())
        .execute(&update)
        .await
        .map(drop)
}
