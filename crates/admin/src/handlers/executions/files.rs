//! The two files of inputs of an execution.
//!
//! They are written before the row, so that a row never lacks them, and only where nothing is, so that nothing that a row
//! refers to is ever overwritten. Their place is Go's; where another request of the same name has put something else
//! there, they get a place of their own. Rows hold the whole reference.

use flyte_core::{identifiers::ExecutionId, layout};
use flyte_idl::core::LiteralMap;
use flyte_platform::{Chain, blob::BlobError};

use crate::{
    context::AdminContext,
    domain::{executions::record::InputUris, objects},
    error::{Error, Result},
    random::random_text,
    records::Execution,
};

/// The encoded literal maps of a new execution.
pub(super) struct Files {
    /// Defaults and fixed inputs included.
    pub(super) inputs: Vec<u8>,
    /// As the user gave them.
    pub(super) user_inputs: Vec<u8>,
}

impl Files {
    /// Writes the inputs and the user's inputs of an execution.
    pub(super) async fn write(
        &self,
        context: &AdminContext,
        id: &ExecutionId,
    ) -> Result<InputUris> {
        let (inputs, user_inputs) = futures::future::try_join(
            write(context, id, "inputs", &self.inputs),
            write(context, id, "user_inputs", &self.user_inputs),
        )
        .await?;
        Ok(InputUris {
            inputs,
            user_inputs,
        })
    }
}

/// Removes the files of a generated name whose row was not inserted: nobody else has tried for it. Those of a name that a
/// client chose may be another request's as well, and stay for its repeat.
pub(super) async fn remove(context: &AdminContext, uris: &InputUris) {
    for uri in [&uris.inputs, &uris.user_inputs] {
        if let Err(error) = context.blobs.delete(uri).await {
            tracing::warn!(uri, error = %Chain(&error), "inputs of an execution that was not created stay behind");
        }
    }
}

async fn write(
    context: &AdminContext,
    id: &ExecutionId,
    file: &str,
    bytes: &[u8],
) -> Result<String> {
    let base = context.blobs.base();
    let own = format!("{file}-{}", random_text(20));
    for file in [file, &own] {
        let uri = layout::execution_file(&base, id, file)?;
        if put(context, &uri, bytes).await? {
            return Ok(uri);
        }
        let there = context.blobs.get(&uri).await;
        if there.is_ok_and(|there| there == bytes) {
            return Ok(uri);
        }
    }
    Err(Error::Internal(format!(
        "there is no place for file {file} of {id}"
    )))
}

/// Whether it was written; else something is there.
async fn put(context: &AdminContext, uri: &str, bytes: &[u8]) -> Result<bool> {
    objects::require_key(uri)?;
    match context
        .blobs
        .put_if_absent(uri, bytes.to_vec().into())
        .await
    {
        Ok(()) => Ok(true),
        Err(BlobError::AlreadyExists(_)) => Ok(false),
        Err(error) => Err(Error::Blob {
            context: format!("Failed to write inputs to location {uri}"),
            source: error.into(),
        }),
    }
}

/// Whether the row's files are those of a request that gives `given`. Rows of older versions may lack them, which were
/// written after the row; then the request's are written.
pub(super) async fn complete(
    context: &AdminContext,
    execution: &Execution,
    given: &LiteralMap,
    files: &Files,
) -> Result<bool> {
    for (uri, bytes) in [
        (&execution.inputs_uri, &files.inputs),
        (&execution.user_inputs_uri, &files.user_inputs),
    ] {
        put(context, uri, bytes).await?;
    }
    let stored: LiteralMap = context
        .read_blob(&execution.user_inputs_uri, "user inputs")
        .await?;
    Ok(stored == *given)
}
