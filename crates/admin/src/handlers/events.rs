//! The event RPCs (spec 01 §13): one path for events of executions, nodes and attempts of tasks.
//!
//! ```text
//! validate --> policy --> offload --> apply --> count
//! ```
//!
//! An event that will be refused is refused before anything is written. Then its large payloads go to the blob store under
//! names derived from what the event is about, and the state machine runs inside a transaction that holds the row. A
//! repeated event meets ALREADY_EXISTS, which propeller takes for success.

mod kind;
mod node;
mod observation;
mod payload;
mod rows;
mod task;
mod workflow;

use std::sync::Arc;

use flyte_idl::admin;
use flyte_platform::sql::DbError;

use crate::{
    caller::{Action, Caller},
    context::AdminContext,
    domain::ids::execution_scope,
    error::{Error, Result},
    unknown_fields::{Incoming, UnknownFields, fields},
};
use kind::{EventKind, EventWrite};
use node::NodeEvents;
use task::TaskEvents;
use workflow::WorkflowEvents;

/// The path that every event takes.
async fn record<K: EventKind>(
    context: &AdminContext,
    caller: &Caller,
    request_id: String,
    event: Option<K::Event>,
    unknown: UnknownFields<K::Event>,
) -> Result<()> {
    let limit = context.config().remote_data.max_size_in_bytes;
    let (id, message) = K::validate(event, limit)?;
    context.allow(caller, Action::Report, execution_scope(K::execution(&id)))?;
    let observation = K::observe(&message);
    let event = Incoming { message, unknown };
    let outcome = write::<K>(context, request_id, id.clone(), event).await;
    K::count(context.metrics(), &id, &observation, outcome.as_ref());
    outcome.map(drop)
}

async fn write<K: EventKind>(
    context: &AdminContext,
    request_id: String,
    id: K::Id,
    mut event: Incoming<K::Event>,
) -> Result<K::Applied> {
    let offloaded = K::offload(context, &id, &mut event).await?;
    let write = Arc::new(EventWrite::<K> {
        id,
        event,
        offloaded,
        request_id,
        now: context.clock.now(),
    });
    let apply = || {
        context
            .database
            .write(write.clone(), |write, tx| K::apply(write, tx))
    };
    match apply().await {
        // Somebody else created the row in this moment: now it exists, and the event updates it.
        Err(Error::Store(DbError::UniqueViolation { .. })) => apply().await,
        outcome => outcome,
    }
}

pub(crate) async fn workflow(
    context: &AdminContext,
    caller: &Caller,
    request: Incoming<admin::WorkflowExecutionEventRequest>,
) -> Result<admin::WorkflowExecutionEventResponse> {
    let Incoming { message, unknown } = request;
    let unknown = unknown.part(fields::WORKFLOW_EVENT);
    record::<WorkflowEvents>(context, caller, message.request_id, message.event, unknown).await?;
    Ok(admin::WorkflowExecutionEventResponse {})
}

pub(crate) async fn node(
    context: &AdminContext,
    caller: &Caller,
    request: Incoming<admin::NodeExecutionEventRequest>,
) -> Result<admin::NodeExecutionEventResponse> {
    let Incoming { message, unknown } = request;
    let unknown = unknown.part(fields::NODE_EVENT);
    record::<NodeEvents>(context, caller, message.request_id, message.event, unknown).await?;
    Ok(admin::NodeExecutionEventResponse {})
}

pub(crate) async fn task(
    context: &AdminContext,
    caller: &Caller,
    request: Incoming<admin::TaskExecutionEventRequest>,
) -> Result<admin::TaskExecutionEventResponse> {
    let Incoming { message, unknown } = request;
    let unknown = unknown.part(fields::TASK_EVENT);
    record::<TaskEvents>(context, caller, message.request_id, message.event, unknown).await?;
    Ok(admin::TaskExecutionEventResponse {})
}
