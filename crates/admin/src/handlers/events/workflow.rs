//! Events of executions (spec 01 §13.1).

use flyte_core::{identifiers::ExecutionId, layout};
use flyte_idl::event::{WorkflowExecutionEvent, workflow_execution_event::OutputResult};
use flyte_platform::sql::WriteTx;
use futures::future::BoxFuture;
use jiff::Timestamp;
use prost::Message as _;

use super::{
    kind::{EventKind, EventWrite},
    observation::{Observation, Stage},
    payload::Payload,
    rows::{event_row, keep_unknown},
};
use crate::{
    context::AdminContext,
    domain::events::{self, not_found, validate},
    error::{Error, Result},
    handlers::executions::load,
    metrics::{ExecutionEnd, Managers},
    records::WorkflowPhase,
    repository::{events::insert_execution, executions},
    time,
    unknown_fields::{Incoming, fields},
};

/// Events of executions.
pub(super) struct WorkflowEvents;

impl EventKind for WorkflowEvents {
    type Event = WorkflowExecutionEvent;
    type Id = ExecutionId;
    type Offloaded = ();
    /// When the execution was created.
    type Applied = Option<Timestamp>;

    fn validate(
        event: Option<Self::Event>,
        max_data_bytes: u64,
    ) -> Result<(Self::Id, Self::Event)> {
        validate::workflow(event, max_data_bytes)
    }

    fn execution(id: &Self::Id) -> &ExecutionId {
        id
    }

    fn observe(event: &Self::Event) -> Observation {
        let phase = WorkflowPhase::from(event.phase);
        let (output_bytes, error_kind) = match &event.output_result {
            Some(OutputResult::OutputData(data)) => (Some(data.encoded_len()), ""),
            Some(OutputResult::Error(error)) => (None, error.kind().as_str_name()),
            Some(OutputResult::OutputUri(_)) | None => (None, ""),
        };
        Observation {
            stage: Stage::of(phase.is_terminal(), phase == WorkflowPhase::Running),
            phase: phase.to_string(),
            occurred_at: time::from_wire(event.occurred_at.as_ref()),
            error_kind,
            output_bytes,
        }
    }

    async fn offload(
        context: &AdminContext,
        id: &Self::Id,
        event: &mut Incoming<Self::Event>,
    ) -> Result<()> {
        if context.config().remote_data.stores_inline() {
            return Ok(());
        }
        let Some(OutputResult::OutputData(data)) = &event.message.output_result else {
            return Ok(());
        };
        events::workflow::check(&load(context, id).await?, &event.message)?;
        let outputs = Payload {
            uri: layout::execution_file(&context.blobs.base(), id, "offloaded_outputs"),
            message: data,
            unknown: event.unknown.part(fields::WORKFLOW_EVENT_OUTPUTS),
        };
        let uri = outputs.write(context).await?;
        event.message.output_result = Some(OutputResult::OutputUri(uri));
        Ok(())
    }

    fn apply<'a>(
        write: &'a EventWrite<Self>,
        tx: &'a mut WriteTx,
    ) -> BoxFuture<'a, Result<Option<Timestamp>>> {
        Box::pin(async move {
            let (id, event) = (&write.id, &write.event.message);
            let mut execution = executions::lock(tx, id)
                .await?
                .ok_or_else(|| not_found::execution(id))?;
            events::workflow::apply(&mut execution, event)?;
            keep_unknown(&write.event.unknown, &mut execution.closure);
            executions::update(tx, &execution, write.now).await?;
            let row = event_row(
                &write.request_id,
                execution.phase.name(),
                event.occurred_at.as_ref(),
            );
            insert_execution(tx, id, &row, write.now).await?;
            Ok(execution.created_at)
        })
    }

    /// The execution counts as active since it was created.
    fn count(
        metrics: &Managers,
        id: &Self::Id,
        event: &Observation,
        outcome: Result<&Option<Timestamp>, &Error>,
    ) {
        let Ok(created_at) = outcome else {
            return;
        };
        let metrics = &metrics.executions;
        metrics.event();
        if event.stage == Stage::Ends {
            let end = ExecutionEnd {
                phase: &event.phase,
                error_kind: event.error_kind,
                created: *created_at,
                ended: event.occurred_at,
            };
            metrics.ended(id, &end);
            if let Some(bytes) = event.output_bytes {
                metrics.data.outputs(bytes);
            }
        }
    }
}
