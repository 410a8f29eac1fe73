//! Events of nodes (spec 01 §13.2).

use flyte_core::{
    identifiers::{ExecutionId, NodeExecutionId},
    layout,
};
use flyte_idl::core::CompiledWorkflowClosure;
use flyte_idl::event::{
    NodeExecutionEvent,
    node_execution_event::{InputValue, OutputResult, TargetMetadata},
};
use flyte_platform::sql::{ReadTx, WriteTx};
use futures::future::{BoxFuture, try_join3};
use prost::Message as _;

use super::{
    kind::{EventKind, EventWrite},
    observation::{Observation, RowChange, Stage},
    payload::{Payload, offloaded},
    rows::{event_row, keep_unknown, require_cluster},
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
        let base = context.blobs.base();
        let Incoming { message, unknown } = &*event;
        let inputs = match &message.input_value {
            Some(InputValue::InputData(data)) => Some(Payload {
                uri: layout::node_file(&base, id, "offloaded_inputs"),
                message: data,
                unknown: unknown.part(fields::NODE_EVENT_INPUTS),
            }),
            _ => None,
        };
        let outputs = match &message.output_result {
            Some(OutputResult::OutputData(data)) if offload => Some(Payload {
                uri: layout::node_file(&base, id, "offloaded_outputs"),
                message: data,
                unknown: unknown.part(fields::NODE_EVENT_OUTPUTS),
            }),
            _ => None,
        };
        let workflow = dynamic_workflow(context, id, event);
        if inputs.is_none() && outputs.is_none() && workflow.is_none() {
            return Ok(String::new());
        }
        let mut tx = context.database.read().await?;
        require_parent(&mut tx, id, message).await?;
        if let Some(node) = node_executions::get(&mut tx, id).await? {
            events::node::check(&node, message)?;
        }
        drop(tx);
        let (inputs, outputs, workflow) = try_join3(
            offloaded(context, inputs),
            offloaded(context, outputs),
            offloaded(context, workflow),
        )
        .await?;
        let message = &mut event.message;
        if let Some(uri) = inputs {
            message.input_value = Some(InputValue::InputUri(uri));
        }
        if let Some(uri) = outputs {
            message.output_result = Some(OutputResult::OutputUri(uri));
        }
        drop_workflow(message);
        Ok(workflow.unwrap_or_default())
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

/// The workflow that a dynamic task made, if the event carries it.
fn dynamic_workflow<'a>(
    context: &AdminContext,
    id: &NodeExecutionId,
    event: &'a Incoming<NodeExecutionEvent>,
) -> Option<Payload<'a, CompiledWorkflowClosure>> {
    let Some(TargetMetadata::TaskNodeMetadata(metadata)) = &event.message.target_metadata else {
        return None;
    };
    let dynamic = metadata.dynamic_workflow.as_ref()?;
    Some(Payload {
        uri: layout::reported_dynamic_closure(
            &context.blobs.base(),
            &context.config().flyteadmin.metadata_storage_prefix,
            id,
            &dynamic.id.clone().unwrap_or_default(),
        ),
        message: dynamic.compiled_workflow.as_ref().unwrap_or(&NO_WORKFLOW),
        unknown: event
            .unknown
            .part(fields::NODE_EVENT_TASK_METADATA)
            .part(fields::TASK_METADATA_DYNAMIC)
            .part(fields::DYNAMIC_COMPILED),
    })
}

/// What stands for a dynamic workflow that an event names and does not have.
static NO_WORKFLOW: CompiledWorkflowClosure = CompiledWorkflowClosure {
    primary: None,
    sub_workflows: Vec::new(),
    tasks: Vec::new(),
    launch_plans: Vec::new(),
};

/// Drops the event's copy of a dynamic workflow: the row keeps a reference to the one that was written.
fn drop_workflow(event: &mut NodeExecutionEvent) {
    if let Some(TargetMetadata::TaskNodeMetadata(metadata)) = &mut event.target_metadata
        && let Some(dynamic) = &mut metadata.dynamic_workflow
    {
        dynamic.compiled_workflow = None;
    }
}
