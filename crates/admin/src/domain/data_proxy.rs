//! Signed URLs and `flyte://` references (spec 01 §16).

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_core::{duration, identifiers::NodeExecutionId, reference};
use flyte_idl::{
    core,
    service::{
        self as wire, CreateDownloadLinkRequest, CreateDownloadLinkResponse,
        CreateDownloadLocationRequest, CreateDownloadLocationResponse, CreateUploadLocationRequest,
        CreateUploadLocationResponse, GetDataRequest, GetDataResponse, PreSignedUrLs,
        create_download_link_request::Source, get_data_response::Data,
    },
    text,
};
use flyte_platform::{
    Chain,
    blob::{BlobError, Head, SignRequest, Verb},
};
use jiff::{SignedDuration, Timestamp};

use super::{data, executions::create::random_text, nodes, time};
use crate::{
    caller::{Action, Caller},
    error::{Error, Result},
    repository::task_executions,
    service::Service,
};

/// How long a URL is good for, from the request and the configured maximum.
struct Expiry {
    length: SignedDuration,
    at: Timestamp,
}

fn nanoseconds(length: &prost_types::Duration) -> i64 {
    length
        .seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::from(length.nanos))
}

impl Expiry {
    fn after(length: SignedDuration, now: Timestamp) -> Self {
        Self {
            length,
            at: now.saturating_add(length).unwrap_or(Timestamp::MAX),
        }
    }

    fn request(&self, verb: Verb) -> SignRequest {
        SignRequest {
            verb,
            expires_in: self.length.unsigned_abs(),
            content_md5: None,
            add_content_md5_metadata: false,
        }
    }
}

fn sign_failure(error: BlobError) -> Error {
    match error {
        BlobError::ForeignContainer { .. } | BlobError::Reference { .. } => Error::Invalid(
            format!("failed to create a signed url. Error: {}", Chain(&error)),
        ),
        error => Error::Blob {
            context: format!("failed to create a signed url. Error: {error}"),
            source: error.into(),
        },
    }
}

pub(crate) async fn upload_location(
    service: &Service,
    caller: &Caller,
    request: CreateUploadLocationRequest,
) -> Result<CreateUploadLocationResponse> {
    if request.project.is_empty() || request.domain.is_empty() {
        return Err(Error::invalid("project and domain are required parameters"));
    }
    service.allow(
        caller,
        Action::Register,
        (&request.project, &request.domain),
    )?;
    if request.content_md5.is_empty() && request.filename_root.is_empty() {
        return Err(Error::invalid(
            "content_md5 or filename_root is a required parameter",
        ));
    }
    let config = &service.config.server.data_proxy.upload;
    if !request.filename.is_empty() && !request.filename_root.is_empty() {
        let location = location(service, &request, &request.filename)?;
        refuse_overwriting(service, &location, &request.content_md5).await?;
    }
    let expiry = upload_expiry(
        &request,
        config.max_expires_in.to_signed(),
        service.clock.now(),
    )?;
    let filename = if request.filename.is_empty() {
        random_text(config.default_file_name_length)
    } else {
        request.filename.clone()
    };
    let native_url = location(service, &request, &filename)?;
    let mut sign = expiry.request(Verb::Put);
    if !request.content_md5.is_empty() {
        sign.content_md5 = Some(BASE64_STANDARD.encode(&request.content_md5));
        sign.add_content_md5_metadata = request.add_content_md5_metadata;
    }
    let signed = service
        .blobs
        .sign(&native_url, &sign)
        .await
        .map_err(sign_failure)?;
    Ok(CreateUploadLocationResponse {
        signed_url: signed.url,
        native_url,
        expires_at: Some(time::to_wire(expiry.at)),
        headers: signed.headers,
    })
}

fn upload_expiry(
    request: &CreateUploadLocationRequest,
    max: SignedDuration,
    now: Timestamp,
) -> Result<Expiry> {
    let Some(asked) = &request.expires_in else {
        return Ok(Expiry::after(max, now));
    };
    let length = nanoseconds(asked);
    if length < 0 || !(-999_999_999..=999_999_999).contains(&asked.nanos) {
        return Err(Error::Invalid(format!(
            "expiresIn [{}] is invalid",
            text::prototext(request)
        )));
    }
    let limit = i64::try_from(max.as_nanos()).unwrap_or(i64::MAX);
    if length > limit {
        return Err(Error::Invalid(format!(
            "expiresIn [{}] cannot exceed max allowed expiration [{}]",
            duration::format(length),
            duration::format(limit)
        )));
    }
    Ok(Expiry::after(SignedDuration::from_nanos(length), now))
}

/// `‹base›/‹prefix›/‹org›/‹project›/‹domain›/‹root or base32 of the md5›/‹file›`, the same for the same
/// content, so that a repeated upload meets its own object.
fn location(
    service: &Service,
    request: &CreateUploadLocationRequest,
    filename: &str,
) -> Result<String> {
    let root = if request.filename_root.is_empty() {
        base32(&request.content_md5)
    } else {
        request.filename_root.clone()
    };
    let prefix = &service.config.server.data_proxy.upload.storage_prefix;
    for (field, value) in [
        ("org", &request.org),
        ("project", &request.project),
        ("domain", &request.domain),
        ("filename_root", &root),
        ("filename", &filename.to_owned()),
    ] {
        if !value.is_empty() && !reference::is_safe_part(value) {
            return Err(Error::Invalid(format!(
                "{field} {value:?}: '?', '#' and the path segments '.' and '..' are not allowed"
            )));
        }
    }
    let parts: Vec<&str> = [
        prefix.as_str(),
        &request.org,
        &request.project,
        &request.domain,
        &root,
        filename,
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect();
    reference::construct(&service.blobs.base(), &parts)
        .map_err(|error| Error::Invalid(error.to_string()))
}

async fn refuse_overwriting(service: &Service, location: &str, md5: &[u8]) -> Result<()> {
    let head = service
        .blobs
        .head(location)
        .await
        .map_err(|error| Error::Blob {
            context: format!("failed to look for {location}"),
            source: error.into(),
        })?;
    match head {
        Some(head) if !is_content(&head, md5) => Err(Error::AlreadyExists(format!(
            "file already exists at location [{location}], specify a matching hash if you wish to rewrite"
        ))),
        _ => Ok(()),
    }
}

/// Whether an object has this MD5, by its declared one or, without that, by its entity tag.
fn is_content(head: &Head, md5: &[u8]) -> bool {
    if md5.is_empty() {
        return false;
    }
    let encoded = BASE64_STANDARD.encode(md5);
    if !head.content_md5.is_empty() {
        return head.content_md5 == encoded;
    }
    let mut hex = String::with_capacity(md5.len() * 2);
    for byte in md5 {
        // Writing to a String does not fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
    }
    [encoded, hex, base32(md5)].contains(&head.etag)
}

/// RFC 4648 base32, upper case and padded.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut block = [0_u8; 8];
        for (target, byte) in block.iter_mut().skip(3).zip(chunk) {
            *target = *byte;
        }
        let bits = u64::from_be_bytes(block);
        let digits = (chunk.len() * 8).div_ceil(5);
        for position in 0..8 {
            let digit = usize::try_from((bits >> (35 - 5 * position)) & 31).unwrap_or_default();
            let known = ALPHABET.get(digit).copied().unwrap_or(b'=');
            text.push(char::from(if position < digits { known } else { b'=' }));
        }
    }
    text
}

/// Checks of download requests, whose texts differ from those of uploads.
fn download_expiry(
    asked: Option<&prost_types::Duration>,
    service: &Service,
    prefix: &str,
) -> Result<Expiry> {
    let max = service
        .config
        .server
        .data_proxy
        .download
        .max_expires_in
        .to_signed();
    let now = service.clock.now();
    let Some(asked) = asked else {
        return Ok(Expiry::after(max, now));
    };
    let length = nanoseconds(asked);
    let limit = i64::try_from(max.as_nanos()).unwrap_or(i64::MAX);
    let invalid = |rule: String| {
        Error::Invalid(format!(
            "{prefix} expiresIn is invalid. Error: input duration [{}] {rule}",
            duration::format(length)
        ))
    };
    if length < 0 {
        return Err(invalid("should not less than 0".to_owned()));
    }
    if length > limit {
        return Err(invalid(format!(
            "cannot exceed max allowed expiration [{}]",
            duration::format(limit)
        )));
    }
    Ok(Expiry::after(SignedDuration::from_nanos(length), now))
}

pub(crate) async fn download_location(
    service: &Service,
    caller: &Caller,
    request: CreateDownloadLocationRequest,
) -> Result<CreateDownloadLocationResponse> {
    service.allow(caller, Action::Read, ("", ""))?;
    let expiry = download_expiry(
        request.expires_in.as_ref(),
        service,
        "error while validating request:",
    )?;
    // The store signs for its own container alone: the reference signs anything (spec 01 §24 no. 22).
    let signed = service
        .blobs
        .sign(&request.native_url, &expiry.request(Verb::Get))
        .await
        .map_err(sign_failure)?;
    Ok(CreateDownloadLocationResponse {
        signed_url: signed.url,
        expires_at: Some(time::to_wire(expiry.at)),
    })
}

pub(crate) async fn download_link(
    service: &Service,
    caller: &Caller,
    mut request: CreateDownloadLinkRequest,
) -> Result<CreateDownloadLinkResponse> {
    let expiry = download_expiry(
        request.expires_in.as_ref(),
        service,
        "error while validating request. Error:",
    )?;
    let invalid =
        |rule: &str| Error::Invalid(format!("error while validating request. Error: {rule}"));
    if request.artifact_type == wire::ArtifactType::Undefined as i32 {
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
    service.allow(caller, Action::Read, nodes::scope(&id))?;
    let found = nodes::load(service, &id)
        .await
        .map_err(|error| unavailable(&error))?;
    let deck = found.closure.get().deck_uri.clone();
    if deck.is_empty() || request.artifact_type != wire::ArtifactType::Deck as i32 {
        return Err(Error::NotFound(format!(
            "no deckUrl found for request [{}]",
            text::prototext(&request)
        )));
    }
    let urls = presign(service, &deck, &expiry).await?;
    Ok(deprecated_link(urls))
}

fn deprecated_link(urls: PreSignedUrLs) -> CreateDownloadLinkResponse {
    CreateDownloadLinkResponse {
        signed_url: urls.signed_url.clone(),
        expires_at: urls.expires_at,
        pre_signed_urls: Some(urls),
    }
}

async fn presign(service: &Service, uri: &str, expiry: &Expiry) -> Result<PreSignedUrLs> {
    let there = service
        .blobs
        .exists(uri)
        .await
        .map_err(|error| Error::Blob {
            context: format!("failed to look for {uri}"),
            source: error.into(),
        })?;
    if !there {
        return Err(Error::NotFound("object not found".to_owned()));
    }
    let signed = service
        .blobs
        .sign(uri, &expiry.request(Verb::Get))
        .await
        .map_err(sign_failure)?;
    Ok(PreSignedUrLs {
        signed_url: vec![signed.url],
        expires_at: Some(time::to_wire(expiry.at)),
    })
}

/// What a `flyte://` reference names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reference {
    node: core::NodeExecutionIdentifier,
    attempt: Option<u32>,
    artifact: Artifact,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Artifact {
    Inputs(Option<String>),
    Outputs(Option<String>),
    Deck,
}

fn parse(url: &str) -> Option<Reference> {
    let parts: Vec<&str> = url.strip_prefix("flyte://v1/")?.split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    if !parts.iter().all(plain) {
        return None;
    }
    let (head, rest) = parts.split_at_checked(4)?;
    let [project, domain, name, node] = head else {
        return None;
    };
    let artifact = |kind: &str, literal: Option<&&str>| {
        let literal = literal.map(|text| (*text).to_owned());
        match kind {
            "i" => Some(Artifact::Inputs(literal)),
            "o" => Some(Artifact::Outputs(literal)),
            "d" if literal.is_none() => Some(Artifact::Deck),
            _ => None,
        }
    };
    let number = |part: &str| part.parse::<u32>().ok();
    let (attempt, artifact) = match rest {
        [kind] => (None, artifact(kind, None)?),
        [first, second] => match (number(first), artifact(second, None)) {
            (Some(attempt), Some(artifact)) => (Some(attempt), artifact),
            _ => (None, artifact(first, Some(second))?),
        },
        [first, kind, literal] => (Some(number(first)?), artifact(kind, Some(literal))?),
        _ => return None,
    };
    Some(Reference {
        node: core::NodeExecutionIdentifier {
            node_id: (*node).to_owned(),
            execution_id: Some(core::WorkflowExecutionIdentifier {
                project: (*project).to_owned(),
                domain: (*domain).to_owned(),
                name: (*name).to_owned(),
                org: String::new(),
            }),
        },
        attempt,
        artifact,
    })
}

pub(crate) async fn get_data(
    service: &Service,
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
    service.allow(caller, Action::Read, nodes::scope(&id))?;
    let data = match reference.attempt {
        None => node_data(service, caller, &id, &reference.artifact).await?,
        Some(attempt) => attempt_data(service, &id, attempt, &reference.artifact).await?,
    };
    Ok(GetDataResponse { data: Some(data) })
}

async fn node_data(
    service: &Service,
    caller: &Caller,
    id: &NodeExecutionId,
    artifact: &Artifact,
) -> Result<Data> {
    if *artifact == Artifact::Deck {
        let link = CreateDownloadLinkRequest {
            artifact_type: wire::ArtifactType::Deck as i32,
            expires_in: None,
            source: Some(Source::NodeExecutionId(id.to_proto())),
        };
        let link = download_link(service, caller, link).await?;
        return Ok(Data::PreSignedUrls(
            link.pre_signed_urls.unwrap_or_default(),
        ));
    }
    let request = flyte_idl::admin::NodeExecutionGetDataRequest {
        id: Some(id.to_proto()),
    };
    let answer = data::node(service, caller, request).await?;
    let text = text::prototext(&id.to_proto());
    choose(artifact, answer.full_inputs, answer.full_outputs, &|name| {
        format!("name [{name}] not found in node execution [{text}]")
    })
}

async fn attempt_data(
    service: &Service,
    id: &NodeExecutionId,
    attempt: u32,
    artifact: &Artifact,
) -> Result<Data> {
    if *artifact == Artifact::Deck {
        return Err(Error::invalid(
            "deck type cannot be specified with a retry attempt, just use the node instead",
        ));
    }
    let mut tx = service.database.read().await?;
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
    let answer = data::of_task(service, &task).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_prefixes_are_padded_base32() {
        let md5 = [
            0x5d, 0x41, 0x40, 0x2a, 0xbc, 0x4b, 0x2a, 0x76, 0xb9, 0x71, 0x9d, 0x91, 0x10, 0x17,
            0xc5, 0x92,
        ];
        assert_eq!(base32(&md5), "LVAUAKV4JMVHNOLRTWIRAF6FSI======");
    }

    #[test]
    fn references_name_nodes_attempts_and_literals() {
        for (url, expected) in [
            (
                "flyte://v1/fs/dev/abc/n0-dn0-9-n0-n0/i",
                Some(("n0-dn0-9-n0-n0", None, Artifact::Inputs(None))),
            ),
            (
                "flyte://v1/fs/dev/abc/n0/o/o0",
                Some(("n0", None, Artifact::Outputs(Some("o0".to_owned())))),
            ),
            (
                "flyte://v1/fs/dev/abc/n0/3/o",
                Some(("n0", Some(3), Artifact::Outputs(None))),
            ),
            (
                "flyte://v1/fs/dev/abc/n0/3/o/o0",
                Some(("n0", Some(3), Artifact::Outputs(Some("o0".to_owned())))),
            ),
            (
                "flyte://v1/fs/dev/abc/n0/d",
                Some(("n0", None, Artifact::Deck)),
            ),
            ("flyte://v1/fs/dev/abc/n0/x", None),
            ("flyte://v1/fs/dev/n0/i", None),
            ("flyte://v1/fs/dev/a.b/n0/i", None),
        ] {
            let parsed = parse(url).map(|reference| {
                (
                    reference.node.node_id,
                    reference.attempt,
                    reference.artifact,
                )
            });
            let expected =
                expected.map(|(node, attempt, artifact)| (node.to_owned(), attempt, artifact));
            assert_eq!(parsed, expected, "{url}");
        }
    }
}
