//! Signed URLs and `flyte://` references (spec 01 §16).

mod signing;
mod upload;

use flyte_core::identifiers::NodeExecutionId;
use flyte_idl::{
    core,
    service::{
        self, CreateDownloadLinkRequest, CreateDownloadLinkResponse, CreateDownloadLocationRequest,
        CreateDownloadLocationResponse, GetDataRequest, GetDataResponse, PreSignedUrLs,
        create_download_link_request::Source, get_data_response::Data,
    },
    text,
};
use flyte_platform::{Chain, blob::Verb};

use super::{data, node_executions};
use crate::{
    caller::{Action, Caller, Resource},
    context::AdminContext,
    domain::{
        expiry::{self, Expiry, Limits},
        flyte_url::{Artifact, parse},
        ids::node_scope,
        objects,
    },
    error::{Error, NotFoundKind, Result},
    repository::task_executions,
    time,
};
use signing::{sign_failure, sign_request};

pub(crate) use upload::upload_location;

fn download_expiry(
    context: &AdminContext,
    asked: Option<&prost_types::Duration>,
    prefix: &str,
) -> Result<Expiry> {
    let config = &context.server.data_proxy.download;
    let limits = Limits {
        longest: expiry::signable(config.max_expires_in.to_signed(), &context.blobs.base()),
        now: context.clock.now(),
    };
    expiry::of_download(asked, limits, prefix)
}

pub(crate) async fn download_location(
    context: &AdminContext,
    caller: &Caller,
    request: CreateDownloadLocationRequest,
) -> Result<CreateDownloadLocationResponse> {
    context.allow(caller, Action::Read, Resource::Platform)?;
    let expiry = download_expiry(
        context,
        request.expires_in.as_ref(),
        "error while validating request:",
    )?;
    // The store signs for its own container alone: the reference signs anything (spec 01 §24 no. 22).
    let signed = context
        .blobs
        .sign(&request.native_url, &sign_request(&expiry, Verb::Get))
        .await
        .map_err(sign_failure)?;
    Ok(CreateDownloadLocationResponse {
        signed_url: signed.url,
        expires_at: Some(time::to_wire(expiry.at)),
    })
}

pub(crate) async fn download_link(
    context: &AdminContext,
    caller: &Caller,
    mut request: CreateDownloadLinkRequest,
) -> Result<CreateDownloadLinkResponse> {
    let expiry = download_expiry(
        context,
        request.expires_in.as_ref(),
        "error while validating request. Error:",
    )?;
    let invalid =
        |rule: &str| Error::Invalid(format!("error while validating request. Error: {rule}"));
    if request.artifact_type == service::ArtifactType::Undefined as i32 {
        return Err(invalid("invalid artifact type [ARTIFACT_TYPE_UNDEFINED]"));
    }
    let Some(Source::NodeExecutionId(node)) = request.source.clone() else {
        return Err(invalid("source is required. Provided nil"));
    };
    let length = i64::try_from(expiry.length.as_nanos()).unwrap_or(i64::MAX);
    request.expires_in = Some(time::duration_to_wire(length));
    let unavailable = |error: &Error| {
        Error::Invalid(format!(
            "failed to find node execution [{}]. Error: {error}",
            text::prototext(&node)
        ))
    };
    let id =
        NodeExecutionId::from_proto(Some(&node)).map_err(|error| unavailable(&error.into()))?;
    context.allow(caller, Action::Read, node_scope(&id))?;
    let found = node_executions::load(context, &id)
        .await
        .map_err(|error| unavailable(&error))?;
    let deck = found.closure.get().deck_uri.clone();
    if deck.is_empty() || request.artifact_type != service::ArtifactType::Deck as i32 {
        return Err(Error::not_found(
            NotFoundKind::Deck,
            text::prototext(&request),
        ));
    }
    let urls = presign(context, &deck, &expiry).await?;
    Ok(deprecated_link(urls))
}

fn deprecated_link(urls: PreSignedUrLs) -> CreateDownloadLinkResponse {
    CreateDownloadLinkResponse {
        signed_url: urls.signed_url.clone(),
        expires_at: urls.expires_at,
        pre_signed_urls: Some(urls),
    }
}

/// The signed URL of a deck. Whoever reports events chooses where the deck is said to be: not every place is ours.
async fn presign(context: &AdminContext, uri: &str, expiry: &Expiry) -> Result<PreSignedUrLs> {
    let elsewhere = |why: &str| {
        Error::Precondition(format!(
            "the deck of the node is said to be at {uri:?}, which is in no store of this installation: {why}"
        ))
    };
    if let Some(why) = objects::why_impossible(&context.blobs.base(), uri) {
        return Err(elsewhere(&why));
    }
    let there = match context.blobs.exists(uri).await {
        Ok(there) => there,
        Err(error) if data::is_elsewhere(&error) => {
            return Err(elsewhere(&Chain(&error).to_string()));
        }
        Err(error) => {
            return Err(Error::Blob {
                context: format!("failed to look for {uri}"),
                source: error.into(),
            });
        }
    };
    if !there {
        return Err(Error::not_found(NotFoundKind::Object, uri));
    }
    let signed = context
        .blobs
        .sign(uri, &sign_request(expiry, Verb::Get))
        .await
        .map_err(sign_failure)?;
    Ok(PreSignedUrLs {
        signed_url: vec![signed.url],
        expires_at: Some(time::to_wire(expiry.at)),
    })
}

pub(crate) async fn get_data(
    context: &AdminContext,
    caller: &Caller,
    request: GetDataRequest,
) -> Result<GetDataResponse> {
    let url = request.flyte_url.as_str();
    let invalid = |rule: &str| {
        Error::Invalid(format!(
            "failed to validate resolve artifact request. Error: {rule}"
        ))
    };
    if url.is_empty() {
        return Err(invalid("source is required. Provided empty string"));
    }
    if !url.starts_with("flyte://") {
        return Err(invalid("request does not start with the correct prefix"));
    }
    let reference = parse(url).ok_or_else(|| {
        Error::Invalid(format!(
            "failed to parse artifact url Error: failed to parse [{url}]"
        ))
    })?;
    let id = NodeExecutionId::from_proto(Some(&reference.node))?;
    context.allow(caller, Action::Read, node_scope(&id))?;
    let data = match reference.attempt {
        None => node_data(context, caller, &id, &reference.artifact).await?,
        Some(attempt) => attempt_data(context, &id, attempt, &reference.artifact).await?,
    };
    Ok(GetDataResponse { data: Some(data) })
}

async fn node_data(
    context: &AdminContext,
    caller: &Caller,
    id: &NodeExecutionId,
    artifact: &Artifact,
) -> Result<Data> {
    if *artifact == Artifact::Deck {
        let link = CreateDownloadLinkRequest {
            artifact_type: service::ArtifactType::Deck as i32,
            expires_in: None,
            source: Some(Source::NodeExecutionId(id.to_proto())),
        };
        let link = download_link(context, caller, link).await?;
        return Ok(Data::PreSignedUrls(
            link.pre_signed_urls.unwrap_or_default(),
        ));
    }
    let request = flyte_idl::admin::NodeExecutionGetDataRequest {
        id: Some(id.to_proto()),
    };
    let answer = data::node(context, caller, request).await?.into_message();
    let text = text::prototext(&id.to_proto());
    choose(artifact, answer.full_inputs, answer.full_outputs, &|name| {
        format!("name [{name}] not found in node execution [{text}]")
    })
}

async fn attempt_data(
    context: &AdminContext,
    id: &NodeExecutionId,
    attempt: u32,
    artifact: &Artifact,
) -> Result<Data> {
    if *artifact == Artifact::Deck {
        return Err(Error::invalid(
            "deck type cannot be specified with a retry attempt, just use the node instead",
        ));
    }
    let mut tx = context.database.read().await?;
    let task = task_executions::by_attempt(&mut tx, id, attempt).await?;
    drop(tx);
    let Some(task) = task else {
        let shown = core::TaskExecutionIdentifier {
            task_id: None,
            node_execution_id: Some(id.to_proto()),
            retry_attempt: attempt,
        };
        return Err(Error::Invalid(format!(
            "no task executions were listed [{}]. Error: <nil>",
            text::prototext(&shown)
        )));
    };
    let text = text::prototext(&task.id.to_proto());
    let answer = data::of_task(context, &task).await?.into_message();
    choose(artifact, answer.full_inputs, answer.full_outputs, &|name| {
        format!("name [{name}] not found in task execution [{text}]")
    })
}

fn choose(
    artifact: &Artifact,
    inputs: Option<core::LiteralMap>,
    outputs: Option<core::LiteralMap>,
    missing: &dyn Fn(&str) -> String,
) -> Result<Data> {
    let (map, name) = match artifact {
        Artifact::Inputs(name) => (inputs, name),
        Artifact::Outputs(name) => (outputs, name),
        Artifact::Deck => (None, &None),
    };
    let mut map = map.unwrap_or_default();
    match name {
        None => Ok(Data::LiteralMap(map)),
        Some(name) => map
            .literals
            .remove(name)
            .map(Data::Literal)
            .ok_or_else(|| Error::Invalid(missing(name))),
    }
}
