//! Tables `execution_events` and `node_execution_events`: one row per phase, which nothing reads but
//! operators (spec 01 §13.5).

use flyte_core::identifiers::{ExecutionId, NodeExecutionId};
use flyte_platform::sql::{DbError, WriteTx};
use jiff::Timestamp;
use sea_query::OnConflict;

use super::{
    columns::{EXECUTION_KEY, NewRow},
    operations,
};

/// What an event row says.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// The sender's id of the request.
    pub request_id: String,
    /// Name of the phase.
    pub phase: String,
    /// The event's own time.
    pub occurred_at: Option<Timestamp>,
}

/// Records a phase of an execution, once.
pub async fn insert_execution(
    tx: &mut WriteTx,
    id: &ExecutionId,
    event: &EventRow,
    now: Timestamp,
) -> Result<(), DbError> {
    let mut row = NewRow::at(now);
    row.execution(id);
    fill(&mut row, event);
    let mut insert = row.insert_into("execution_events");
    let key = EXECUTION_KEY.into_iter().chain(["phase"]);
    insert.on_conflict(OnConflict::columns(key).do_nothing().to_owned());
    tx.of(operations::EXECUTION_EVENTS.create())
        .execute(&insert)
        .await
        .map(drop)
}

/// Records a phase of a node, once.
pub async fn insert_node(
    tx: &mut WriteTx,
    id: &NodeExecutionId,
    event: &EventRow,
    now: Timestamp,
) -> Result<(), DbError> {
    let mut row = NewRow::at(now);
    row.execution(&id.execution)
        .set("node_id", id.node.as_str());
    fill(&mut row, event);
    let mut insert = row.insert_into("node_execution_events");
    let key = EXECUTION_KEY.into_iter().chain(["node_id", "phase"]);
    insert.on_conflict(OnConflict::columns(key).do_nothing().to_owned());
    tx.of(operations::NODE_EVENTS.create())
        .execute(&insert)
        .await
        .map(drop)
}

fn fill(row: &mut NewRow, event: &EventRow) {
    row.set("request_id", event.request_id.as_str())
        .set("occurred_at", event.occurred_at)
        .set("phase", event.phase.as_str());
}
