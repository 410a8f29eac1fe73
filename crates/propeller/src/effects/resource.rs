//! Reading whole workflow resources.
//!
//! kube reads bodies with `serde_json`, which stops at 128 levels; types and literals may be nested a thousand levels
//! deep, each of which is several in JSON. So bodies are taken as text and read by our own parser.

use flyte_crd::FlyteWorkflow;
use flyte_idl::json::{self, JsonError};
use flyte_platform::kubernetes;
use kube::{
    Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, GetParams, Preconditions},
    core::{PartialObjectMeta, Request},
};
use serde_json::Value;

/// A resource cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("Kubernetes API")]
    Kubernetes(#[from] kube::Error),
    #[error("the API server's answer is not JSON")]
    Json(#[from] JsonError),
}

/// A resource as the API server has it.
pub(crate) struct Found {
    pub(crate) value: Value,
    /// Encoded size without its status.
    pub(crate) bytes: i64,
}

impl Found {
    /// Which resource of its name it is.
    pub(crate) fn uid(&self) -> &str {
        self.value
            .pointer("/metadata/uid")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

fn request(namespace: &str) -> Request {
    Request::new(FlyteWorkflow::url_path(&(), Some(namespace)))
}

/// The resource; none when it is gone.
pub(crate) async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Found>, ReadError> {
    let request = request(namespace)
        .get(name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    let Some(text) = kubernetes::found(client.request_text(request).await)? else {
        return Ok(None);
    };
    let value = json::parse(text.as_bytes())?;
    let status = value
        .get("status")
        .map_or(0, crate::machine::merge_patch::encoded_length);
    let bytes = i64::try_from(text.len()).unwrap_or(i64::MAX) - status;
    Ok(Some(Found { value, bytes }))
}

/// Deletes the resource that was seen, none that has its name by now, and then what it owns. The answer is the resource
/// and is not read.
pub(crate) async fn delete(
    client: &Client,
    seen: &PartialObjectMeta<FlyteWorkflow>,
) -> Result<(), kube::Error> {
    let only_this = DeleteParams::background().preconditions(Preconditions {
        uid: seen.uid(),
        resource_version: None,
    });
    let request = request(&seen.namespace().unwrap_or_default())
        .delete(&seen.name_any(), &only_this)
        .map_err(kube::Error::BuildRequest)?;
    client.request_text(request).await.map(drop)
}
