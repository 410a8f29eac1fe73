//! Events of nodes (spec 01 §13.2).

use flyte_core::{
    identifiers::{ExecutionId, NodeExecutionId},
    layout,
};
use flyte_idl::event::{
    NodeExecutionEvent,
    node_execution_event::{InputValue, OutputResult, TargetMetadata},
};
use flyte_platform::sql::{ReadTx, WriteTx};
use futures::future::BoxFuture;
use prost::Message as _;

use super::{
    EventKind, EventWrite, event_row, keep_unknown,
    observation::{Observation, RowChange, Stage},
    require_cluster, write_data, write_message,
};
use crate::{
    context::AdminContext,
    domain::events::{self, node::Resolved, not_found, validate},
    error::{Error, NotFoundKind, Result},
    metrics::{Managers, of_node},
    records::NodePhase,
    repository::{events::insert_node, executions, node_executions, task_executions},
    time,
    unknown_fields::{Incoming, fields},
};

/// Events of nodes.
pub(super) struct NodeEvents;

impl EventKind for NodeEvents {
    type Event = NodeExecutionEvent;
    type Id = NodeExecutionId;
    /// Where the dynamic workflow is that the event brought; empty if it brought none.
    type Offloaded = String;
    type Applied = RowChange;

    fn validate(
        event: Option<Self::Event>,
        _max_data_bytes: u64,
    ) -> Result<(Self::Id, Self::Event)> {
        validate::node(event)
    }

    fn execution(id: &Self::Id) -> &ExecutionId {
        &id.execution
    }

    fn observe(event: &Self::Event) -> Observation {
        let phase = NodePhase::from(event.phase);
        Observation {
            stage: Stage::of(phase.is_terminal(), phase == NodePhase::Running),
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
    ) -> Result<String> {
        let offload = !context.config().remote_data.stores_inline();
        let Incoming { message, unknown } = event;
        let inputs = matches!(&message.input_value, Some(InputValue::InputData(_)));
        let outputs =
            offload && matches!(&message.output_result, Some(OutputResult::OutputData(_)));
        if !inputs && !outputs && !brings_workflow(message) {
            return Ok(String::new());
        }
        let mut tx = context.database.read().await?;
        require_parent(&mut tx, id, message).await?;
        if let Some(node) = node_executions::get(&mut tx, id).await? {
            events::node::check(&node, message)?;
        }
        drop(tx);
        let base = context.blobs.base();
        if let Some(InputValue::InputData(data)) = &message.input_value {
            let uri = layout::node_file(&base, id, "offloaded_inputs");
            let unknown = unknown.part(fields::NODE_EVENT_INPUTS);
            let uri = write_data(context, uri, (data, unknown)).await?;
            message.input_value = Some(InputValue::InputUri(uri));
        }
        if outputs && let Some(OutputResult::OutputData(data)) = &message.output_result {
            let uri = layout::node_file(&base, id, "offloaded_outputs");
            let unknown = unknown.part(fields::NODE_EVENT_OUTPUTS);
            let uri = write_data(context, uri, (data, unknown)).await?;
            message.output_result = Some(OutputResult::OutputUri(uri));
        }
        offload_workflow(context, id, event).await
    }

    fn apply<'a>(
        write: &'a EventWrite<Self>,
        tx: &'a mut WriteTx,
    ) -> BoxFuture<'a, Result<RowChange>> {
        Box::pin(async move {
            let (id, event) = (&write.id, &write.event.message);
            require_parent(tx, id, event).await?;
            let mut resolved = Resolved {
                dynamic_closure_uri: write.offloaded.clone(),
                ..Resolved::default()
            };
            let change = if let Some(mut node) = node_executions::lock(tx, id).await? {
                events::node::check(&node, event)?;
                require_child(tx, event).await?;
                events::node::apply(&mut node, event, &resolved)?;
                keep_unknown(&write.event.unknown, &mut node.closure);
                node_executions::update(tx, &node, write.now).await?;
                RowChange::Updated
            } else {
                resolve_parents(tx, id, event, &mut resolved).await?;
                let mut node = events::node::create(id.clone(), event, &resolved)?;
                keep_unknown(&write.event.unknown, &mut node.closure);
                node_executions::insert(tx, &node, write.now).await?;
                RowChange::Created {
                    closure_bytes: node.closure.bytes().len(),
                }
            };
            let phase = NodePhase::from(event.phase);
            let row = event_row(&write.request_id, phase.name(), event.occurred_at.as_ref());
            insert_node(tx, id, &row, write.now).await?;
            Ok(change)
        })
    }

    fn count(
        metrics: &Managers,
        id: &Self::Id,
        event: &Observation,
        outcome: Result<&RowChange, &Error>,
    ) {
        let metrics = &metrics.nodes;
        match outcome {
            Ok(change) => event.count_step(metrics, of_node(id), *change),
            Err(Error::NotFound {
                what: NotFoundKind::ExecutionOfNode,
                ..
            }) => metrics.missing_parent.inc(),
            Err(_refused) => {}
        }
    }
}

/// The execution must exist and run on the event's cluster.
async fn require_parent(
    tx: &mut ReadTx,
    id: &NodeExecutionId,
    event: &NodeExecutionEvent,
) -> Result<()> {
    let missing = not_found::execution_of_node;
    require_cluster(tx, &id.execution, &event.producer_id, missing).await
}

/// The child execution that an event names must exist.
async fn require_child(tx: &mut ReadTx, event: &NodeExecutionEvent) -> Result<()> {
    let Some(child) = validate::child(event)? else {
        return Ok(());
    };
    match executions::cluster(tx, &child).await? {
        Some(_cluster) => Ok(()),
        None => Err(not_found::execution(&child)),
    }
}

/// Looks up the rows of the parents that the first event of a node names.
async fn resolve_parents(
    tx: &mut ReadTx,
    id: &NodeExecutionId,
    event: &NodeExecutionEvent,
    resolved: &mut Resolved,
) -> Result<()> {
    if let Some(parent) = validate::parent_task(event)? {
        let row = task_executions::row(tx, &parent).await?;
        resolved.parent_task_row = Some(row.ok_or_else(|| not_found::task(&parent))?);
    }
    if let Some(parent) = validate::parent_node(id, event)? {
        let row = node_executions::row(tx, &parent).await?;
        resolved.parent_row = Some(row.ok_or_else(|| not_found::node(&parent))?);
    }
    Ok(())
}

/// Whether the event carries the workflow that a dynamic task made.
fn brings_workflow(event: &NodeExecutionEvent) -> bool {
    matches!(
        &event.target_metadata,
        Some(TargetMetadata::TaskNodeMetadata(metadata)) if metadata.dynamic_workflow.is_some()
    )
}

/// Writes the workflow that a dynamic task made, and answers where it is. The event's copy of it is dropped: the row keeps
/// the reference.
async fn offload_workflow(
    context: &AdminContext,
    id: &NodeExecutionId,
    event: &mut Incoming<NodeExecutionEvent>,
) -> Result<String> {
    let Some(TargetMetadata::TaskNodeMetadata(metadata)) = &mut event.message.target_metadata
    else {
        return Ok(String::new());
    };
    let Some(dynamic) = &mut metadata.dynamic_workflow else {
        return Ok(String::new());
    };
    let config = context.config();
    let uri = layout::reported_dynamic_closure(
        &context.blobs.base(),
        &config.flyteadmin.metadata_storage_prefix,
        id,
        &dynamic.id.clone().unwrap_or_default(),
    )?;
    let closure = dynamic.compiled_workflow.take().unwrap_or_default();
    let unknown = event
        .unknown
        .part(fields::NODE_EVENT_TASK_METADATA)
        .part(fields::TASK_METADATA_DYNAMIC)
        .part(fields::DYNAMIC_COMPILED);
    write_message(context, &uri, (&closure, unknown)).await?;
    Ok(uri)
}
