//! Inputs and outputs of executions, nodes and tasks (spec 01 §15.2).

use std::time::Duration;

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
    blob::{SignRequest, Verb},
};
use futures::future::{try_join, try_join3};
use prost::Message as _;

use super::{executions, node_executions, task_executions};
use crate::{
    caller::{Action, Caller},
    domain::ids::{execution_scope, node_scope, with_task_type},
    error::{Error, Result},
    records::{NodeExecution, TaskExecution},
    service::Service,
    unknown::{Answer, Unknown},
};

/// Data as an answer carries it: a URL and, unless it is large, the literals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) url: admin::UrlBlob,
    pub(crate) literals: LiteralMap,
    /// Of the literals: tasks may be of a newer Flyte than this.
    unknown: Unknown,
}

/// Where outputs are.
enum Outputs<'a> {
    Nowhere,
    At(&'a str),
    Inline(&'a LiteralMap),
}

/// The data at `uri`; an empty uri is no data. What cannot be read is logged and left out, because a
/// running execution has no outputs yet and the call must succeed all the same (spec 08 C7).
pub(crate) async fn fetch(service: &Service, uri: &str) -> Result<Fetched> {
    let mut fetched = Fetched::default();
    if uri.is_empty() {
        return Ok(fetched);
    }
    let config = service.config();
    let remote = &config.remote_data;
    if remote.signed_urls.enabled {
        fetched.url = signed(service, uri).await?;
    }
    let always =
        matches!(remote.scheme.as_str(), "local" | "none") || remote.max_size_in_bytes == 0;
    let size = u64::try_from(fetched.url.bytes).unwrap_or(u64::MAX);
    if always || size < remote.max_size_in_bytes {
        match service.read_stored::<LiteralMap>(uri, "data").await {
            Ok(stored) => {
                fetched.unknown = Unknown::of_stored(&stored);
                fetched.literals = stored.into_inner();
            }
            Err(error) => tracing::info!(uri, error = %Chain(&error), "data is not readable"),
        }
    }
    Ok(fetched)
}

async fn signed(service: &Service, uri: &str) -> Result<admin::UrlBlob> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Blob {
        context: format!("failed to get signed url for {uri}"),
        source,
    };
    let head = service
        .blobs
        .head(uri)
        .await
        .map_err(|error| failed(error.into()))?;
    let Some(head) = head else {
        return Ok(admin::UrlBlob::default());
    };
    let minutes = u64::from(
        service
            .config()
            .remote_data
            .signed_urls
            .duration_minutes
            .max(1),
    );
    let request = SignRequest {
        verb: Verb::Get,
        expires_in: Duration::from_secs(minutes * 60),
        content_md5: None,
        add_content_md5_metadata: false,
    };
    let url = service
        .blobs
        .sign(uri, &request)
        .await
        .map_err(|error| failed(error.into()))?;
    Ok(admin::UrlBlob {
        url: url.url,
        bytes: i64::try_from(head.size).unwrap_or(i64::MAX),
    })
}

async fn fetch_outputs(service: &Service, outputs: Outputs<'_>) -> Result<Fetched> {
    match outputs {
        Outputs::Nowhere => Ok(Fetched::default()),
        Outputs::At(uri) => fetch(service, uri).await,
        Outputs::Inline(literals) => {
            let size = literals.encoded_len() as u64;
            let mut fetched = Fetched::default();
            if size < service.config().remote_data.max_size_in_bytes {
                fetched.literals = literals.clone();
            }
            Ok(fetched)
        }
    }
}

pub(crate) async fn execution(
    service: &Service,
    caller: &Caller,
    request: admin::WorkflowExecutionGetDataRequest,
) -> Result<Answer<admin::WorkflowExecutionGetDataResponse>> {
    let id = ExecutionId::from_proto(request.id.as_ref())?;
    service.allow(caller, Action::Read, execution_scope(&id))?;
    let execution = executions::load(service, &id).await?;
    let closure = execution.closure.get();
    let inputs = async {
        if execution.inputs_uri.is_empty() {
            // Rows from before inputs were offloaded.
            return Ok(Fetched {
                literals: closure.computed_inputs.clone().unwrap_or_default(),
                ..Fetched::default()
            });
        }
        fetch(service, &execution.inputs_uri).await
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
    let (inputs, outputs) = try_join(inputs, fetch_outputs(service, outputs)).await?;
    service.counts().executions.data.answered(
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
    Ok(Answer::made_from(
        message,
        kept(inputs.unknown, outputs.unknown),
    ))
}

fn kept(inputs: Unknown, outputs: Unknown) -> [(&'static str, Unknown); 2] {
    [("full_inputs", inputs), ("full_outputs", outputs)]
}

pub(crate) async fn node(
    service: &Service,
    caller: &Caller,
    request: admin::NodeExecutionGetDataRequest,
) -> Result<Answer<admin::NodeExecutionGetDataResponse>> {
    let id = NodeExecutionId::from_proto(request.id.as_ref())?;
    service.allow(caller, Action::Read, node_scope(&id))?;
    let node = node_executions::load(service, &id).await?;
    let closure = node.closure.get();
    let inputs = fetch(service, &node.input_uri);
    let outputs = match &closure.output_result {
        Some(node_execution_closure::OutputResult::OutputUri(uri)) => Outputs::At(uri),
        Some(node_execution_closure::OutputResult::OutputData(data)) => Outputs::Inline(data),
        Some(node_execution_closure::OutputResult::Error(_)) | None => Outputs::Nowhere,
    };
    let outputs = fetch_outputs(service, outputs);
    let (inputs, outputs, dynamic_workflow) =
        try_join3(inputs, outputs, dynamic(service, &node)).await?;
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
    service.counts().nodes.data.answered(
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
    Ok(Answer::made_from(
        message,
        kept(inputs.unknown, outputs.unknown),
    ))
}

async fn dynamic(
    service: &Service,
    node: &NodeExecution,
) -> Result<Option<admin::DynamicWorkflowNodeMetadata>> {
    if node.dynamic_closure_uri.is_empty() {
        return Ok(None);
    }
    let closure: CompiledWorkflowClosure = service
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
    service: &Service,
    caller: &Caller,
    request: admin::TaskExecutionGetDataRequest,
) -> Result<Answer<admin::TaskExecutionGetDataResponse>> {
    let id = TaskExecutionId::from_proto(with_task_type(request.id).as_ref())?;
    service.allow(caller, Action::Read, node_scope(&id.node))?;
    let task = task_executions::load(service, &id).await?;
    of_task(service, &task).await
}

/// Inputs and outputs of an attempt.
pub(crate) async fn of_task(
    service: &Service,
    task: &TaskExecution,
) -> Result<Answer<admin::TaskExecutionGetDataResponse>> {
    let inputs = fetch(service, &task.input_uri);
    let outputs = match &task.closure.get().output_result {
        Some(task_execution_closure::OutputResult::OutputUri(uri)) => Outputs::At(uri),
        Some(task_execution_closure::OutputResult::OutputData(data)) => Outputs::Inline(data),
        Some(task_execution_closure::OutputResult::Error(_)) | None => Outputs::Nowhere,
    };
    let (inputs, outputs) = try_join(inputs, fetch_outputs(service, outputs)).await?;
    let base = format!("{}/{}", flyte_url(&task.id.node), task.id.retry_attempt);
    service.counts().tasks.data.answered(
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
    Ok(Answer::made_from(
        message,
        kept(inputs.unknown, outputs.unknown),
    ))
}
