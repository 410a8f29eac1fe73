//! The event RPCs (spec 01 §13): one path for events of executions, nodes and attempts of tasks.
//!
//! ```text
//! validate --> policy --> offload --> apply --> count
//! ```
//!
//! An event that will be refused is refused before anything is written. Then its large payloads go to the blob store under
//! names derived from what the event is about, and the state machine runs inside a transaction that holds the row. A
//! repeated event meets ALREADY_EXISTS, which propeller takes for success.

mod node;
mod observation;
mod task;
mod workflow;

use std::sync::Arc;

use flyte_core::{identifiers::ExecutionId, reference::InvalidReference};
use flyte_idl::{admin, stored::Stored};
use flyte_platform::sql::{DbError, ReadTx, WriteTx};
use futures::future::{BoxFuture, OptionFuture};
use jiff::Timestamp;
use prost::{Message, Name};

use crate::{
    caller::{Action, Caller},
    context::AdminContext,
    domain::{events::check_cluster, ids::execution_scope},
    error::{Error, Result},
    metrics::Managers,
    repository::{events::EventRow, executions},
    time,
    unknown_fields::{self, Incoming, UnknownFields, fields},
};
use node::NodeEvents;
use observation::Observation;
use task::TaskEvents;
use workflow::WorkflowEvents;

/// What differs between the kinds of events.
trait EventKind: Sized + Send + Sync + 'static {
    /// The event's message in flyteidl, without the request around it.
    type Event: Message + Name + Default + Clone + Send + Sync + 'static;
    /// The id of what it is about.
    type Id: Clone + Send + Sync + 'static;
    /// What offloading leaves for the record besides the event.
    type Offloaded: Send + Sync + 'static;
    /// What the transaction did, as metrics count it.
    type Applied: Send + 'static;

    /// Checks what needs nothing but the event. Inline data has at most `max_data_bytes`.
    fn validate(event: Option<Self::Event>, max_data_bytes: u64)
    -> Result<(Self::Id, Self::Event)>;

    /// The execution that the event belongs to.
    fn execution(id: &Self::Id) -> &ExecutionId;

    /// What metrics need of the event.
    fn observe(event: &Self::Event) -> Observation;

    /// Writes large payloads to the blob store, and references to them into the event.
    fn offload(
        context: &AdminContext,
        id: &Self::Id,
        event: &mut Incoming<Self::Event>,
    ) -> impl Future<Output = Result<Self::Offloaded>> + Send;

    /// Makes or changes the record, in a transaction.
    fn apply<'a>(
        write: &'a EventWrite<Self>,
        tx: &'a mut WriteTx,
    ) -> BoxFuture<'a, Result<Self::Applied>>;

    /// Counts what became of the event.
    fn count(
        metrics: &Managers,
        id: &Self::Id,
        event: &Observation,
        outcome: Result<&Self::Applied, &Error>,
    );
}

/// An event whose payloads are offloaded, on its way into the database.
struct EventWrite<K: EventKind> {
    id: K::Id,
    event: Incoming<K::Event>,
    offloaded: K::Offloaded,
    /// The sender's id of the request.
    request_id: String,
    now: Timestamp,
}

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

/// What the event row says.
fn event_row(request_id: &str, phase: &str, occurred: Option<&prost_types::Timestamp>) -> EventRow {
    EventRow {
        request_id: request_id.to_owned(),
        phase: phase.to_owned(),
        occurred_at: time::from_wire(occurred),
    }
}

/// What the closure took over from the event as it was, it takes over with what this version does not know.
fn keep_unknown<E: Name, C: Message + Name + Default>(
    event: &UnknownFields<E>,
    closure: &mut Stored<C>,
) {
    event.of_same_fields::<C>().keep_in(closure);
}

/// Checks that the execution exists and that the event comes from its cluster.
async fn require_cluster(
    tx: &mut ReadTx,
    id: &ExecutionId,
    producer: &str,
    missing: fn(&ExecutionId) -> Error,
) -> Result<()> {
    let stored = executions::cluster(tx, id)
        .await?
        .ok_or_else(|| missing(id))?;
    check_cluster(&stored, producer)
}

/// A message that an event carries inline, on its way to the blob store.
struct Payload<'a, M> {
    /// Where it goes.
    uri: Result<String, InvalidReference>,
    message: &'a M,
    unknown: UnknownFields<M>,
}

impl<M: Message + Name> Payload<'_, M> {
    /// Writes it and answers where it is.
    async fn write(self, context: &AdminContext) -> Result<String> {
        let uri = self.uri?;
        let bytes = unknown_fields::encoded(self.message, &[self.unknown]);
        context.write_bytes(&uri, bytes, "data of an event").await?;
        Ok(uri)
    }
}

/// Writes a payload if there is one. An event's payloads are written at the same time.
async fn offloaded<M: Message + Name>(
    context: &AdminContext,
    payload: Option<Payload<'_, M>>,
) -> Result<Option<String>> {
    OptionFuture::from(payload.map(|payload| payload.write(context)))
        .await
        .transpose()
}
