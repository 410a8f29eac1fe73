//! The event RPCs: checks, offloading, and the transaction around the state machines (spec 01 §13).
//!
//! An event that will be refused is refused before anything is written. Then its large payloads go to the
//! blob store under names derived from what the event is about, and the machine runs inside a transaction
//! that holds the row. A repeated event meets ALREADY_EXISTS, which propeller takes for success.

mod counts;

use flyte_core::{
    identifiers::{ExecutionId, NodeExecutionId, TaskExecutionId},
    layout,
};
use flyte_idl::{
    admin,
    event::{
        NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent, node_execution_event,
        task_execution_event, workflow_execution_event,
    },
    stored::Stored,
};
use flyte_platform::sql::{DbError, ReadTx};
use jiff::Timestamp;
use prost::{Message, Name};

use super::executions;
use counts::{Recorded, Told};

use crate::{
    caller::{Action, Caller},
    domain::{
        events::{self, absent, accept, check_cluster},
        ids::{execution_scope, node_scope},
    },
    error::{Error, Missing, Result},
    records::{NodeExecutionRow, NodePhase, TaskExecutionRow, WorkflowPhase},
    repository::{
        events::{EventRow, insert_execution, insert_node},
        executions as execution_rows, node_executions, task_executions,
    },
    service::Service,
    time,
    unknown::{self, Unknown},
};

fn is_missing(error: &Error, parent: Missing) -> bool {
    matches!(error, Error::NotFound { what, .. } if *what == parent)
}

/// What the closure took over from the event as it was, it takes over with what this version does not know.
fn keep<M: prost::Message + Name + Default>(event: &Unknown, closure: &mut Stored<M>) {
    event.of_same_fields::<M>().keep_in(closure);
}

/// Writes what an event carries inline.
async fn write_data<M: Message + Name>(
    service: &Service,
    uri: &str,
    (data, unknown): (&M, Unknown),
) -> Result<()> {
    let bytes = unknown::encoded(data, &[unknown]);
    service.write_bytes(uri, bytes, "data of an event").await
}

fn event_row(request_id: &str, phase: &str, occurred: Option<&prost_types::Timestamp>) -> EventRow {
    EventRow {
        request_id: request_id.to_owned(),
        phase: phase.to_owned(),
        occurred_at: time::from_wire(occurred),
    }
}

pub(crate) async fn workflow(
    service: &Service,
    caller: &Caller,
    request: admin::WorkflowExecutionEventRequest,
    unknown: &Unknown,
) -> Result<admin::WorkflowExecutionEventResponse> {
    let limit = service.config().remote_data.max_size_in_bytes;
    let (id, mut event) = accept::workflow(request.event, limit)?;
    service.allow(caller, Action::Report, execution_scope(&id))?;
    let told = Told::of_workflow(&event);
    offload_workflow(service, &id, (&mut event, unknown)).await?;
    let row = event_row(
        &request.request_id,
        WorkflowPhase::from(event.phase).name(),
        event.occurred_at.as_ref(),
    );
    let now = service.clock.now();
    let order = (id.clone(), event, row, now, unknown.part("event"));
    let created = service
        .database
        .write(order, |order, tx| {
            let (id, event, row, now, unknown) = order;
            Box::pin(async move {
                let mut execution = execution_rows::lock(tx, id)
                    .await?
                    .ok_or_else(|| absent::execution(id))?;
                events::workflow::apply(&mut execution, event)?;
                keep(unknown, &mut execution.closure);
                execution_rows::update(tx, &execution, *now).await?;
                insert_execution(tx, id, row, *now).await?;
                Ok::<_, Error>(execution.created_at)
            })
        })
        .await?;
    told.count_workflow(&service.counts().executions, &id, created);
    Ok(admin::WorkflowExecutionEventResponse {})
}

async fn offload_workflow(
    service: &Service,
    id: &ExecutionId,
    (event, unknown): (&mut WorkflowExecutionEvent, &Unknown),
) -> Result<()> {
    use workflow_execution_event::OutputResult;
    if service.config().remote_data.stores_inline() {
        return Ok(());
    }
    let Some(OutputResult::OutputData(data)) = &event.output_result else {
        return Ok(());
    };
    events::workflow::check(&executions::load(service, id).await?, event)?;
    let uri = layout::execution_file(&service.blobs.base(), id, "offloaded_outputs")?;
    write_data(
        service,
        &uri,
        (data, unknown.part("event").part("output_data")),
    )
    .await?;
    event.output_result = Some(OutputResult::OutputUri(uri));
    Ok(())
}

/// Checks that the execution exists and that the event comes from its cluster.
async fn require_cluster(
    tx: &mut ReadTx,
    id: &ExecutionId,
    producer: &str,
    wrap: fn(&ExecutionId) -> Error,
) -> Result<()> {
    let stored = execution_rows::cluster(tx, id)
        .await?
        .ok_or_else(|| wrap(id))?;
    check_cluster(&stored, producer)
}

pub(crate) async fn node(
    service: &Service,
    caller: &Caller,
    request: admin::NodeExecutionEventRequest,
    unknown: &Unknown,
) -> Result<admin::NodeExecutionEventResponse> {
    let (id, event) = accept::node(request.event)?;
    service.allow(caller, Action::Report, node_scope(&id))?;
    let told = Told::of_node(&event);
    let recorded = record_node(service, &request.request_id, (&id, event), unknown)
        .await
        .inspect_err(|error| {
            if is_missing(error, Missing::ExecutionOfNode) {
                service.counts().nodes.missing_parent.inc();
            }
        })?;
    told.count_node(&service.counts().nodes, &id, recorded);
    Ok(admin::NodeExecutionEventResponse {})
}

async fn record_node(
    service: &Service,
    request_id: &str,
    (id, mut event): (&NodeExecutionId, NodeExecutionEvent),
    unknown: &Unknown,
) -> Result<Recorded> {
    let dynamic_closure_uri = offload_node(service, id, (&mut event, unknown)).await?;
    let row = event_row(
        request_id,
        NodePhase::from(event.phase).name(),
        event.occurred_at.as_ref(),
    );
    let order = NodeOrder {
        id: id.clone(),
        event,
        row,
        dynamic_closure_uri,
        now: service.clock.now(),
        unknown: unknown.part("event"),
    };
    let order = std::sync::Arc::new(order);
    let write = || {
        service
            .database
            .write(order.clone(), |order, tx| Box::pin(write_node(order, tx)))
    };
    match write().await {
        // Somebody else created the node in this moment: now it exists, and the event updates it.
        Err(Error::Store(DbError::UniqueViolation { .. })) => write().await,
        outcome => outcome,
    }
}

struct NodeOrder {
    id: NodeExecutionId,
    event: NodeExecutionEvent,
    row: EventRow,
    dynamic_closure_uri: String,
    now: Timestamp,
    /// Of the event.
    unknown: Unknown,
}

async fn write_node(order: &NodeOrder, tx: &mut flyte_platform::sql::WriteTx) -> Result<Recorded> {
    let NodeOrder {
        id,
        event,
        row,
        dynamic_closure_uri,
        now,
        unknown,
    } = order;
    require_cluster(
        tx,
        &id.execution,
        &event.producer_id,
        absent::execution_of_node,
    )
    .await?;
    let mut context = events::node::Context {
        dynamic_closure_uri: dynamic_closure_uri.clone(),
        ..Default::default()
    };
    let recorded = if let Some(mut node) = node_executions::lock(tx, id).await? {
        events::node::check(&node, event)?;
        require_child(tx, event).await?;
        events::node::apply(&mut node, event, &context)?;
        keep(unknown, &mut node.closure);
        node_executions::update(tx, &node, *now).await?;
        Recorded::Updated
    } else {
        (context.parent_row, context.parent_task_row) = parents(tx, id, event).await?;
        let mut node = events::node::create(id.clone(), event, &context)?;
        keep(unknown, &mut node.closure);
        node_executions::insert(tx, &node, *now).await?;
        Recorded::Created {
            closure: node.closure.bytes().len(),
        }
    };
    insert_node(tx, id, row, *now).await?;
    Ok(recorded)
}

/// The child execution that an event names must exist.
async fn require_child(tx: &mut ReadTx, event: &NodeExecutionEvent) -> Result<()> {
    let Some(child) = accept::child(event)? else {
        return Ok(());
    };
    match execution_rows::cluster(tx, &child).await? {
        Some(_cluster) => Ok(()),
        None => Err(absent::execution(&child)),
    }
}

/// Rows of the parents that an event names.
async fn parents(
    tx: &mut ReadTx,
    id: &NodeExecutionId,
    event: &NodeExecutionEvent,
) -> Result<(Option<NodeExecutionRow>, Option<TaskExecutionRow>)> {
    let mut task_row = None;
    if let Some(parent) = accept::parent_task(event)? {
        let row = task_executions::row(tx, &parent).await?;
        task_row = Some(row.ok_or_else(|| absent::task(&parent))?);
    }
    let mut node_row = None;
    if let Some(parent) = accept::parent_node(id, event)? {
        let row = node_executions::row(tx, &parent).await?;
        node_row = Some(row.ok_or_else(|| absent::node(&parent))?);
    }
    Ok((node_row, task_row))
}

/// Writes what the event carries inline, and the dynamic workflow, whose location it returns.
async fn offload_node(
    service: &Service,
    id: &NodeExecutionId,
    (event, unknown): (&mut NodeExecutionEvent, &Unknown),
) -> Result<String> {
    use node_execution_event::{InputValue, OutputResult, TargetMetadata};
    let offload = !service.config().remote_data.stores_inline();
    let inputs = matches!(&event.input_value, Some(InputValue::InputData(_)));
    let outputs = offload && matches!(&event.output_result, Some(OutputResult::OutputData(_)));
    let dynamic = match &event.target_metadata {
        Some(TargetMetadata::TaskNodeMetadata(metadata)) => metadata.dynamic_workflow.clone(),
        _ => None,
    };
    if !inputs && !outputs && dynamic.is_none() {
        return Ok(String::new());
    }
    let mut tx = service.database.read().await?;
    require_cluster(
        &mut tx,
        &id.execution,
        &event.producer_id,
        absent::execution_of_node,
    )
    .await?;
    if let Some(node) = node_executions::get(&mut tx, id).await? {
        events::node::check(&node, event)?;
    }
    drop(tx);
    let base = service.blobs.base();
    if let Some(InputValue::InputData(data)) = &event.input_value {
        let uri = layout::node_file(&base, id, "offloaded_inputs")?;
        write_data(
            service,
            &uri,
            (data, unknown.part("event").part("input_data")),
        )
        .await?;
        event.input_value = Some(InputValue::InputUri(uri));
    }
    if outputs && let Some(OutputResult::OutputData(data)) = &event.output_result {
        let uri = layout::node_file(&base, id, "offloaded_outputs")?;
        write_data(
            service,
            &uri,
            (data, unknown.part("event").part("output_data")),
        )
        .await?;
        event.output_result = Some(OutputResult::OutputUri(uri));
    }
    let Some(dynamic) = dynamic else {
        return Ok(String::new());
    };
    let config = service.config();
    let prefix = &config.flyteadmin.metadata_storage_prefix;
    let workflow = dynamic.id.unwrap_or_default();
    let uri = layout::reported_dynamic_closure(&base, prefix, id, &workflow)?;
    let closure = dynamic.compiled_workflow.unwrap_or_default();
    let of_closure = [
        "task_node_metadata",
        "dynamic_workflow",
        "compiled_workflow",
    ]
    .into_iter()
    .fold(unknown.part("event"), |outer, field| outer.part(field));
    write_data(service, &uri, (&closure, of_closure)).await?;
    // The row keeps the reference; the event's copy would only make it larger.
    if let Some(TargetMetadata::TaskNodeMetadata(metadata)) = &mut event.target_metadata
        && let Some(dynamic) = &mut metadata.dynamic_workflow
    {
        dynamic.compiled_workflow = None;
    }
    Ok(uri)
}

pub(crate) async fn task(
    service: &Service,
    caller: &Caller,
    request: admin::TaskExecutionEventRequest,
    unknown: &Unknown,
) -> Result<admin::TaskExecutionEventResponse> {
    let limit = service.config().remote_data.max_size_in_bytes;
    let (id, event) = accept::task(request.event, limit)?;
    service.allow(caller, Action::Report, node_scope(&id.node))?;
    let told = Told::of_task(&event);
    let recorded = record_task(service, &id, event, unknown)
        .await
        .inspect_err(|error| {
            if is_missing(error, Missing::NodeOfTask) {
                service.counts().tasks.missing_parent.inc();
            }
        })?;
    told.count_task(&service.counts().tasks, &id, recorded);
    Ok(admin::TaskExecutionEventResponse {})
}

async fn record_task(
    service: &Service,
    id: &TaskExecutionId,
    mut event: TaskExecutionEvent,
    unknown: &Unknown,
) -> Result<Recorded> {
    offload_task(service, id, (&mut event, unknown)).await?;
    let order = (
        id.clone(),
        event,
        service.clock.now(),
        unknown.part("event"),
    );
    let order = std::sync::Arc::new(order);
    let write = || {
        service.database.write(order.clone(), |order, tx| {
            Box::pin(async move {
                let (id, event, now, unknown) = order.as_ref();
                write_task(tx, id, (event, unknown), *now).await
            })
        })
    };
    match write().await {
        Err(Error::Store(DbError::UniqueViolation { .. })) => write().await,
        outcome => outcome,
    }
}

async fn write_task(
    tx: &mut flyte_platform::sql::WriteTx,
    id: &TaskExecutionId,
    (event, unknown): (&TaskExecutionEvent, &Unknown),
    now: Timestamp,
) -> Result<Recorded> {
    require_cluster(
        tx,
        &id.node.execution,
        &event.producer_id,
        absent::execution,
    )
    .await?;
    if let Some(mut task) = task_executions::lock(tx, id).await? {
        events::task::apply(&mut task, event)?;
        keep(unknown, &mut task.closure);
        task_executions::update(tx, &task, now).await?;
        return Ok(Recorded::Updated);
    }
    if node_executions::row(tx, &id.node).await?.is_none() {
        return Err(absent::node_of_task(&id.node));
    }
    let mut task = events::task::create(id.clone(), event)?;
    keep(unknown, &mut task.closure);
    task_executions::insert(tx, &task, now).await?;
    Ok(Recorded::Created {
        closure: task.closure.bytes().len(),
    })
}

async fn offload_task(
    service: &Service,
    id: &TaskExecutionId,
    (event, unknown): (&mut TaskExecutionEvent, &Unknown),
) -> Result<()> {
    use task_execution_event::{InputValue, OutputResult};
    let offload = !service.config().remote_data.stores_inline();
    let inputs = matches!(&event.input_value, Some(InputValue::InputData(_)));
    let outputs = offload && matches!(&event.output_result, Some(OutputResult::OutputData(_)));
    if !inputs && !outputs {
        return Ok(());
    }
    let mut tx = service.database.read().await?;
    require_cluster(
        &mut tx,
        &id.node.execution,
        &event.producer_id,
        absent::execution,
    )
    .await?;
    if let Some(task) = task_executions::get(&mut tx, id).await? {
        events::task::check(&task, event)?;
    }
    drop(tx);
    let base = service.blobs.base();
    if let Some(InputValue::InputData(data)) = &event.input_value {
        let uri = layout::task_file(&base, id, "offloaded_inputs")?;
        write_data(
            service,
            &uri,
            (data, unknown.part("event").part("input_data")),
        )
        .await?;
        event.input_value = Some(InputValue::InputUri(uri));
    }
    if outputs && let Some(OutputResult::OutputData(data)) = &event.output_result {
        let uri = layout::task_file(&base, id, "offloaded_outputs")?;
        write_data(
            service,
            &uri,
            (data, unknown.part("event").part("output_data")),
        )
        .await?;
        event.output_result = Some(OutputResult::OutputUri(uri));
    }
    Ok(())
}
