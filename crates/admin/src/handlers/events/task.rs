//! Events of attempts of tasks (spec 01 §13.3).

use flyte_core::{
    identifiers::{ExecutionId, TaskExecutionId},
    layout,
};
use flyte_idl::event::{
    TaskExecutionEvent,
    task_execution_event::{InputValue, OutputResult},
};
use flyte_platform::{metrics::Labels, sql::WriteTx};
use futures::future::{BoxFuture, try_join};
use prost::Message as _;

use super::{
    kind::{EventKind, EventWrite},
    observation::{Observation, RowChange, Stage},
    payload::{Payload, offloaded},
    rows::{keep_unknown, require_cluster},
};
use crate::{
    context::AdminContext,
    domain::events::{self, not_found, validate},
    error::{Error, NotFoundKind, Result},
    metrics::{Managers, of_node},
    records::TaskPhase,
    repository::{node_executions, task_executions},
    time,
    unknown_fields::{Incoming, fields},
};

/// Events of attempts of tasks.
pub(super) struct TaskEvents;

impl EventKind for TaskEvents {
    type Event = TaskExecutionEvent;
    type Id = TaskExecutionId;
    type Offloaded = ();
    type Applied = RowChange;

    fn validate(
        event: Option<Self::Event>,
        max_data_bytes: u64,
    ) -> Result<(Self::Id, Self::Event)> {
        validate::task(event, max_data_bytes)
    }

    fn execution(id: &Self::Id) -> &ExecutionId {
        &id.node.execution
    }

    /// A later version of a phase neither begins nor ends anything.
    fn observe(event: &Self::Event) -> Observation {
        let phase = TaskPhase::from(event.phase);
        let stage = Stage::of(phase.is_terminal(), phase == TaskPhase::Running);
        Observation {
            stage: match event.phase_version {
                0 => stage,
                _ => Stage::Between,
            },
            phase: phase.to_string(),
            occurred_at: time::from_wire(event.occurred_at.as_ref()),
            error_kind: "",
            output_bytes: match &event.output_result {
                Some(OutputResult::OutputData(data)) => Some(data.encoded_len()),
                _ => None,
            },
        }
    }

    async fn offload(
        context: &AdminContext,
        id: &Self::Id,
        event: &mut Incoming<Self::Event>,
    ) -> Result<()> {
        let offload = !context.config().remote_data.stores_inline();
        let base = context.blobs.base();
        let Incoming { message, unknown } = event;
        let inputs = match &message.input_value {
            Some(InputValue::InputData(data)) => Some(Payload {
                uri: layout::task_file(&base, id, "offloaded_inputs"),
                message: data,
                unknown: unknown.part(fields::TASK_EVENT_INPUTS),
            }),
            _ => None,
        };
        let outputs = match &message.output_result {
            Some(OutputResult::OutputData(data)) if offload => Some(Payload {
                uri: layout::task_file(&base, id, "offloaded_outputs"),
                message: data,
                unknown: unknown.part(fields::TASK_EVENT_OUTPUTS),
            }),
            _ => None,
        };
        if inputs.is_none() && outputs.is_none() {
            return Ok(());
        }
        let mut tx = context.database.read().await?;
        let missing = not_found::execution;
        require_cluster(&mut tx, &id.node.execution, &message.producer_id, missing).await?;
        if let Some(task) = task_executions::get(&mut tx, id).await? {
            events::task::check(&task, message)?;
        }
        drop(tx);
        let (inputs, outputs) =
            try_join(offloaded(context, inputs), offloaded(context, outputs)).await?;
        if let Some(uri) = inputs {
            message.input_value = Some(InputValue::InputUri(uri));
        }
        if let Some(uri) = outputs {
            message.output_result = Some(OutputResult::OutputUri(uri));
        }
        Ok(())
    }

    fn apply<'a>(
        write: &'a EventWrite<Self>,
        tx: &'a mut WriteTx,
    ) -> BoxFuture<'a, Result<RowChange>> {
        Box::pin(async move {
            let (id, event) = (&write.id, &write.event.message);
            let execution = &id.node.execution;
            require_cluster(tx, execution, &event.producer_id, not_found::execution).await?;
            if let Some(mut task) = task_executions::lock(tx, id).await? {
                events::task::apply(&mut task, event)?;
                keep_unknown(&write.event.unknown, &mut task.closure);
                task_executions::update(tx, &task, write.now).await?;
                return Ok(RowChange::Updated);
            }
            if node_executions::row(tx, &id.node).await?.is_none() {
                return Err(not_found::node_of_task(&id.node));
            }
            let mut task = events::task::create(id.clone(), event)?;
            keep_unknown(&write.event.unknown, &mut task.closure);
            task_executions::insert(tx, &task, write.now).await?;
            Ok(RowChange::Created {
                closure_bytes: task.closure.bytes().len(),
            })
        })
    }

    /// Label `task` has the attempt's number too, as Go's.
    fn count(
        metrics: &Managers,
        id: &Self::Id,
        event: &Observation,
        outcome: Result<&RowChange, &Error>,
    ) {
        let metrics = &metrics.tasks;
        match outcome {
            Ok(change) => {
                let task = format!("{}-{}", id.task.name, id.retry_attempt);
                let labels = Labels {
                    task: &task,
                    ..of_node(&id.node)
                };
                event.count_step(metrics, labels, *change);
            }
            Err(Error::NotFound {
                what: NotFoundKind::NodeOfTask,
                ..
            }) => metrics.missing_parent.inc(),
            Err(_refused) => {}
        }
    }
}
