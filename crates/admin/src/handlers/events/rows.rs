//! What events of all kinds do with rows.

use flyte_core::identifiers::ExecutionId;
use flyte_idl::stored::Stored;
use flyte_platform::sql::ReadTx;
use prost::{Message, Name};

use crate::{
    domain::events::check_cluster,
    error::{Error, Result},
    repository::{events::EventRow, executions},
    time,
    unknown_fields::UnknownFields,
};

/// What the event row says.
pub(super) fn event_row(
    request_id: &str,
    phase: &str,
    occurred: Option<&prost_types::Timestamp>,
) -> EventRow {
    EventRow {
        request_id: request_id.to_owned(),
        phase: phase.to_owned(),
        occurred_at: time::from_wire(occurred),
    }
}

/// What the closure took over from the event as it was, it takes over with what this version does not know.
pub(super) fn keep_unknown<E: Name, C: Message + Name + Default>(
    event: &UnknownFields<E>,
    closure: &mut Stored<C>,
) {
    event.of_same_fields::<C>().keep_in(closure);
}

/// Checks that the execution exists and that the event comes from its cluster.
pub(super) async fn require_cluster(
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
