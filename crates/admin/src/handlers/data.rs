//! Inputs and outputs of executions, nodes and tasks (spec 01 §15.2).

use flyte_core::identifiers::{ExecutionId, NodeExecutionId, TaskExecutionId};
use flyte_idl::{
    admin::{
        self, execution_closure, literal_map_blob::Data, node_execution_closure,
        task_execution_closure,
    },
    core::{CompiledWorkflowClosure, LiteralMap},
};
use flyte_platform::{
    Chain,
    blob::{BlobError, SignRequest, Verb},
};
use futures::future::{try_join, try_join3};
use jiff::SignedDuration;
use prost::Message as _;

use super::{executions, node_executions, task_executions};
use crate::{
    caller::{Action, Caller},
    context::AdminContext,
    domain::{
        expiry,
        ids::{execution_scope, node_scope, with_task_type},
        objects,
    },
    error::{Error, Result},
    records::{NodeExecution, TaskExecution},
    unknown_fields::{Reply, UnknownFields, fields},
};

/// Data as an answer carries it: a URL and, unless it is large, the literals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) url: admin::UrlBlob,
    pub(crate) literals: LiteralMap,
    /// Of the literals: tasks may be of a newer Flyte than this.
    unknown: UnknownFields<LiteralMap>,
}

/// Where outputs are.
enum Outputs<'a> {
    Nowhere,
    At(&'a str),
    Inline(&'a LiteralMap),
}

/// The data at `uri`; an empty uri is no data. What cannot be read is logged and left out, because a
/// running execution has no outputs yet and the call must succeed all the same (spec 08 C7).
pub(crate) async fn fetch(context: &AdminContext, uri: &str) -> Result<Fetched> {
    let mut fetched = Fetched::default();
    if uri.is_empty() {
        return Ok(fetched);
    }
    let config = context.config();
    let remote = &config.remote_data;
    if remote.signed_urls.enabled {
        fetched.url = signed(context, uri).await?;
    }
    let always =
        matches!(remote.scheme.as_str(), "local" | "none") || remote.max_size_in_bytes == 0;
    let size = u64::try_from(fetched.url.bytes).unwrap_or(u64::MAX);
    if always || size < remote.max_size_in_bytes {
        match context.read_stored::<LiteralMap>(uri, "data").await {
            Ok(stored) => {
                fetched.unknown = UnknownFields::of_stored(&stored);
                fetched.literals = stored.into_inner();
            }
            Err(error) => tracing::info!(uri, error = %Chain(&error), "data is not readable"),
        }
    }
    Ok(fetched)
}

/// Whether the reference itself is why an object cannot be reached, so that trying again is in vain.
pub(super) fn is_elsewhere(error: &BlobError) -> bool {
    matches!(
        error,
        BlobError::Reference { .. }
            | BlobError::ForeignContainer { .. }
            | BlobError::Configuration(_)
            | BlobError::NameTooLong(_)
    )
}

/// The URL of the data at `uri`; none where there is nothing or where storage cannot have anything, which events may
/// name all the same.
async fn signed(context: &AdminContext, uri: &str) -> Result<admin::UrlBlob> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Blob {
        context: format!("failed to get signed url for {uri}"),
        source,
    };
    if objects::why_impossible(&context.blobs.base(), uri).is_some() {
        return Ok(admin::UrlBlob::default());
    }
    let head = match context.blobs.head(uri).await {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(admin::UrlBlob::default()),
        Err(error) if is_elsewhere(&error) => return Ok(admin::UrlBlob::default()),
        Err(error) => return Err(failed(error.into())),
    };
    let minutes = i64::from(
        context
            .config()
            .remote_data
            .signed_urls
            .duration_minutes
            .max(1),
    );
    let request = SignRequest {
        verb: Verb::Get,
        expires_in: expiry::signable(
            SignedDuration::from_secs(minutes * 60),
            &context.blobs.base(),
        )
        .unsigned_abs(),
        content_md5: None,
        add_content_md5_metadata: false,
    };
    let url = context
        .blobs
        .sign(uri, &request)
        .await
        .map_err(|error| failed(error.into()))?;
    Ok(admin::UrlBlob {
        url: url.url,
        bytes: i64::try_from(head.size).unwrap_or(i64::MAX),
    })
}

async fn fetch_outputs(context: &AdminContext, outputs: Outputs<'_>) -> Result<Fetched> {
    match outputs {
        Outputs::Nowhere => Ok(Fetched::default()),
        Outputs::At(uri) => fetch(context, uri).await,
        Outputs::Inline(literals) => {
            let size = literals.encoded_len() as u64;
            let mut fetched = Fetched::default();
            if size < context.config().remote_data.max_size_in_bytes {
                fetched.literals = literals.clone();
            }
            Ok(fetched)
        }
    }
}

pub(crate) async fn execution(
    context: &AdminContext,
    caller: &Caller,
    request: admin::WorkflowExecutionGetDataRequest,
) -> Result<Reply<admin::WorkflowExecutionGetDataResponse>> {
    let id = ExecutionId::from_proto(request.id.as_ref())?;
    context.allow(caller, Action::Read, execution_scope(&id))?;
    let execution = executions::load(context, &id).await?;
    let closure = execution.closure.get();
    let inputs = async {
        if execution.inputs_uri.is_empty() {
            // Rows from before inputs were offloaded.
            return Ok(Fetched {
                literals: closure.computed_inputs.clone().unwrap_or_default(),
                ..Fetched::default()
            });
        }
        fetch(context, &execution.inputs_uri).await
    };
    let outputs = match &closure.output_result {
        Some(execution_closure::OutputResult::Outputs(blob)) => match &blob.data {
            Some(Data::Uri(uri)) => Outputs::At(uri),
            Some(Data::Values(values)) => Outputs::Inline(values),
            None => Outputs::Nowhere,
        },
        Some(execution_closure::OutputResult::OutputData(data)) => Outputs::Inline(data),
        _ => Outputs::Nowhere,
    };
    let (inputs, outputs) = try_join(inputs, fetch_outputs(context, outputs)).await?;
    context.metrics().executions.data.read(
        inputs.url.bytes,
        outputs.url.bytes,
        outputs.literals.encoded_len(),
    );
    let message = admin::WorkflowExecutionGetDataResponse {
        outputs: Some(outputs.url),
        inputs: Some(inputs.url),
        full_inputs: Some(inputs.literals),
        full_outputs: Some(outputs.literals),
    };
    Ok(Reply::from(message)
        .with(fields::EXECUTION_DATA_INPUTS, inputs.unknown)
        .with(fields::EXECUTION_DATA_OUTPUTS, outputs.unknown))
}

pub(crate) async fn node(
    context: &AdminContext,
    caller: &Caller,
    request: admin::NodeExecutionGetDataRequest,
) -> Result<Reply<admin::NodeExecutionGetDataResponse>> {
    let id = NodeExecutionId::from_proto(request.id.as_ref())?;
    context.allow(caller, Action::Read, node_scope(&id))?;
    let node = node_executions::load(context, &id).await?;
    let closure = node.closure.get();
    let inputs = fetch(context, &node.input_uri);
    let outputs = match &closure.output_result {
        Some(node_execution_closure::OutputResult::OutputUri(uri)) => Outputs::At(uri),
        Some(node_execution_closure::OutputResult::OutputData(data)) => Outputs::Inline(data),
        Some(node_execution_closure::OutputResult::Error(_)) | None => Outputs::Nowhere,
    };
    let outputs = fetch_outputs(context, outputs);
    let (inputs, outputs, dynamic_workflow) =
        try_join3(inputs, outputs, dynamic(context, &node)).await?;
    let base = flyte_url(&id);
    let urls = admin::FlyteUrLs {
        inputs: format!("{base}/i"),
        outputs: format!("{base}/o"),
        deck: if closure.deck_uri.is_empty() {
            String::new()
        } else {
            format!("{base}/d")
        },
    };
    context.metrics().nodes.data.read(
        inputs.url.bytes,
        outputs.url.bytes,
        outputs.literals.encoded_len(),
    );
    let message = admin::NodeExecutionGetDataResponse {
        inputs: Some(inputs.url),
        outputs: Some(outputs.url),
        full_inputs: Some(inputs.literals),
        full_outputs: Some(outputs.literals),
        dynamic_workflow,
        flyte_urls: Some(urls),
    };
    Ok(Reply::from(message)
        .with(fields::NODE_DATA_INPUTS, inputs.unknown)
        .with(fields::NODE_DATA_OUTPUTS, outputs.unknown))
}

async fn dynamic(
    context: &AdminContext,
    node: &NodeExecution,
) -> Result<Option<admin::DynamicWorkflowNodeMetadata>> {
    if node.dynamic_closure_uri.is_empty() {
        return Ok(None);
    }
    let closure: CompiledWorkflowClosure = context
        .read_blob(&node.dynamic_closure_uri, "WorkflowClosure")
        .await?;
    let id = closure
        .primary
        .as_ref()
        .and_then(|primary| primary.template.as_ref())
        .and_then(|template| template.id.clone());
    Ok(Some(admin::DynamicWorkflowNodeMetadata {
        id,
        compiled_workflow: Some(closure),
        dynamic_job_spec_uri: node.closure.get().dynamic_job_spec_uri.clone(),
    }))
}

fn flyte_url(id: &NodeExecutionId) -> String {
    format!(
        "flyte://v1/{}/{}/{}/{}",
        id.execution.project, id.execution.domain, id.execution.name, id.node
    )
}

pub(crate) async fn task(
    context: &AdminContext,
    caller: &Caller,
    request: admin::TaskExecutionGetDataRequest,
) -> Result<Reply<admin::TaskExecutionGetDataResponse>> {
    let id = TaskExecutionId::from_proto(with_task_type(request.id).as_ref())?;
    context.allow(caller, Action::Read, node_scope(&id.node))?;
    let task = task_executions::load(context, &id).await?;
    of_task(context, &task).await
}

/// Inputs and outputs of an attempt.
pub(crate) async fn of_task(
    context: &AdminContext,
    task: &TaskExecution,
) -> Result<Reply<admin::TaskExecutionGetDataResponse>> {
    let inputs = fetch(context, &task.input_uri);
    let outputs = match &task.closure.get().output_result {
        Some(task_execution_closure::OutputResult::OutputUri(uri)) => Outputs::At(uri),
        Some(task_execution_closure::OutputResult::OutputData(data)) => Outputs::Inline(data),
        Some(task_execution_closure::OutputResult::Error(_)) | None => Outputs::Nowhere,
    };
    let (inputs, outputs) = try_join(inputs, fetch_outputs(context, outputs)).await?;
    let base = format!("{}/{}", flyte_url(&task.id.node), task.id.retry_attempt);
    context.metrics().tasks.data.read(
        inputs.url.bytes,
        outputs.url.bytes,
        outputs.literals.encoded_len(),
    );
    let message = admin::TaskExecutionGetDataResponse {
        inputs: Some(inputs.url),
        outputs: Some(outputs.url),
        full_inputs: Some(inputs.literals),
        full_outputs: Some(outputs.literals),
        flyte_urls: Some(admin::FlyteUrLs {
            inputs: format!("{base}/i"),
            outputs: format!("{base}/o"),
            deck: String::new(),
        }),
    };
    Ok(Reply::from(message)
        .with(fields::TASK_DATA_INPUTS, inputs.unknown)
        .with(fields::TASK_DATA_OUTPUTS, outputs.unknown))
}
