//! The outputs of artifacts in the blob store (spec 06 A7).
//!
//! An object is written once and never changed: what replaces an output has a location of its own, to which the row is
//! switched. So whoever reads sees the outputs of one version, and two artifacts never share an object.

use flyte_idl::{core::Literal, datacatalog, stored::Stored};
use flyte_platform::{Chain, blob::BlobError};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use crate::{
    context::CatalogContext,
    domain::artifacts::NewData,
    error::{Error, Result},
    metrics::{Outcomes, labels},
    records::{ArtifactData, ArtifactKey},
    repository::artifact_data,
};

/// Objects that one request reads, writes or deletes at once.
const AT_ONCE: usize = 16;

/// Where outputs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placing {
    /// Where Go has them, unless there is something.
    AsGo,
    /// Beside what is there.
    Beside,
}

/// Writes outputs; those that were written stay when a later one fails, and nobody refers to them.
pub(super) async fn write(
    context: &CatalogContext,
    artifact: &ArtifactKey,
    data: Vec<NewData>,
    placing: Placing,
) -> Result<Vec<ArtifactData>> {
    let counted = match placing {
        Placing::AsGo => &context.metrics.artifacts.create_data,
        Placing::Beside => &context.metrics.artifacts.update_data,
    };
    let writes = data.into_iter().map(|data| async move {
        let location = write_one(context, artifact, &data, placing).await;
        count(artifact, counted, &location);
        Ok(ArtifactData {
            name: data.name,
            location: location?,
        })
    });
    stream::iter(writes).buffered(AT_ONCE).try_collect().await
}

fn count<T>(artifact: &ArtifactKey, outcomes: &Outcomes, outcome: &Result<T>) {
    let dataset = &artifact.dataset;
    outcomes.count(&labels(dataset.project(), dataset.domain()), outcome);
}

async fn write_one(
    context: &CatalogContext,
    artifact: &ArtifactKey,
    data: &NewData,
    placing: Placing,
) -> Result<String> {
    let dataset = &artifact.dataset;
    let blobs = context
        .blobs
        .used_by(dataset.project(), dataset.domain(), "");
    let failed = |location: &str, source| Error::Blob {
        context: format!("Unable to store artifact data in location {location}"),
        source,
    };
    if placing == Placing::AsGo {
        let location = context.folder.location(artifact, &data.name, None)?;
        match blobs.put_if_absent(&location, data.literal.clone()).await {
            Ok(()) => return Ok(location),
            // Of a creation that was interrupted, or of an artifact whose path is the same.
            Err(BlobError::AlreadyExists(_)) => {}
            Err(source) => return Err(failed(&location, source)),
        }
    }
    let attempt = Some(Uuid::new_v4());
    let location = context.folder.location(artifact, &data.name, attempt)?;
    match blobs.put_if_absent(&location, data.literal.clone()).await {
        Ok(()) => Ok(location),
        Err(source) => Err(failed(&location, source)),
    }
}

/// Reads outputs, in their order.
///
/// # Errors
/// [`Error::LostData`] for one that is gone.
pub(super) async fn read(
    context: &CatalogContext,
    artifact: &ArtifactKey,
    data: Vec<ArtifactData>,
) -> Result<Vec<datacatalog::ArtifactData>> {
    let reads = data
        .into_iter()
        .map(|data| read_one(context, artifact, data));
    stream::iter(reads).buffered(AT_ONCE).try_collect().await
}

/// Reads one output.
///
/// # Errors
/// [`Error::LostData`] if it is gone.
pub(super) async fn read_one(
    context: &CatalogContext,
    artifact: &ArtifactKey,
    data: ArtifactData,
) -> Result<datacatalog::ArtifactData> {
    let dataset = &artifact.dataset;
    let blobs = context
        .blobs
        .used_by(dataset.project(), dataset.domain(), "");
    let ArtifactData { name, location } = data;
    let context = || format!("Unable to read artifact data from location {location}");
    let bytes = blobs.get(&location).await.map_err(|source| match source {
        BlobError::NotFound(_) => Error::LostData {
            artifact: artifact.id.clone(),
            location: location.clone(),
        },
        source => Error::Blob {
            context: context(),
            source,
        },
    })?;
    // Nesting is checked before decoding, which recurses.
    let literal: Stored<Literal> =
        blobs
            .decoded(|| Stored::decode(bytes.into()))
            .map_err(|error| Error::Undecodable {
                context: context(),
                source: error.into(),
            })?;
    Ok(datacatalog::ArtifactData {
        name,
        value: Some(literal.into_inner()),
    })
}

/// Whether any of these outputs is gone.
pub(super) async fn is_lost(context: &CatalogContext, data: Vec<ArtifactData>) -> Result<bool> {
    let looks = data.into_iter().map(|data| async move {
        let found = context.blobs.exists(&data.location).await;
        found.map_err(|source| Error::Blob {
            context: format!("Unable to find artifact data in location {}", data.location),
            source,
        })
    });
    let there: Vec<bool> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
    Ok(there.contains(&false))
}

/// What the outputs of an artifact take together, in bytes; those that are gone take none.
pub(crate) async fn size(context: &CatalogContext, artifact: &ArtifactKey) -> Result<u64> {
    let mut tx = context.database.read().await?;
    let ids = std::slice::from_ref(&artifact.id);
    let data = artifact_data::of(&mut tx, &artifact.dataset, ids).await?;
    drop(tx);
    let looks = data.into_iter().map(|(_, data)| async move {
        let found = context.blobs.head(&data.location).await;
        found
            .map(|head| head.map_or(0, |head| head.size))
            .map_err(|source| Error::Blob {
                context: format!("Unable to find artifact data in location {}", data.location),
                source,
            })
    });
    stream::iter(looks)
        .buffer_unordered(AT_ONCE)
        .try_fold(
            0_u64,
            |sum, size| async move { Ok(sum.saturating_add(size)) },
        )
        .await
}

/// Removes objects that no row refers to any more. What cannot be removed stays: nobody will miss the room before operators do.
pub(crate) async fn remove(
    context: &CatalogContext,
    artifact: &ArtifactKey,
    locations: Vec<String>,
) {
    let removals = locations.into_iter().map(|location| async move {
        let removed = context.blobs.delete(&location).await;
        let dataset = &artifact.dataset;
        let labels = labels(dataset.project(), dataset.domain());
        let metrics = &context.metrics.artifacts;
        metrics.delete_data.count(&labels, &removed);
        if let Err(error) = removed {
            tracing::warn!(error = %Chain(&error), location, "an output that nobody needs stays");
        }
    });
    stream::iter(removals)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}
