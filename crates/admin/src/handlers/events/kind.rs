//! What differs between events of executions, nodes and attempts of tasks.

use flyte_core::identifiers::ExecutionId;
use flyte_platform::sql::WriteTx;
use futures::future::BoxFuture;
use jiff::Timestamp;
use prost::{Message, Name};

use super::observation::Observation;
use crate::{
    context::AdminContext,
    error::{Error, Result},
    metrics::Managers,
    unknown_fields::Incoming,
};

/// What differs between the kinds of events.
pub(super) trait EventKind: Sized + Send + Sync + 'static {
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
pub(super) struct EventWrite<K: EventKind> {
    pub(super) id: K::Id,
    pub(super) event: Incoming<K::Event>,
    pub(super) offloaded: K::Offloaded,
    /// The sender's id of the request.
    pub(super) request_id: String,
    pub(super) now: Timestamp,
}
