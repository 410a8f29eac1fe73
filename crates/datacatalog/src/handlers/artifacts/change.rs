//! CreateArtifact and UpdateArtifact: objects first, then the rows that refer to them, in one transaction.
//!
//! Whatever is interrupted before that leaves objects that nobody refers to, and after it objects that were replaced.

use flyte_idl::datacatalog::{
    CreateArtifactRequest, CreateArtifactResponse, Metadata, UpdateArtifactRequest,
    UpdateArtifactResponse,
};
use flyte_platform::sql::{DbError, WriteTx};
use jiff::Timestamp;

use super::{find, missing};
use crate::{
    context::CatalogContext,
    domain::{
        artifacts::{Handle, NewData, data_of_request},
        ids::{DatasetKey, required},
        metadata,
        partitions::fitting,
    },
    error::{Error, Result},
    handlers::{
        datasets,
        outputs::{self, Placing},
    },
    metrics::labels,
    records::{Artifact, ArtifactData, ArtifactKey, Partition},
    repository::{artifact_data, artifacts, entries, partitions},
};

/// Creates an artifact with its outputs in a dataset that exists.
pub(crate) async fn create(
    context: &CatalogContext,
    request: CreateArtifactRequest,
) -> Result<CreateArtifactResponse> {
    let metrics = &context.metrics.artifacts;
    let id = request
        .artifact
        .as_ref()
        .and_then(|artifact| artifact.dataset.clone());
    let id = id.unwrap_or_default();
    let labels = labels(&id.project, &id.domain);
    let work = make(context, request);
    let outcome = metrics.create_duration.timed(&labels, Box::pin(work)).await;
    metrics.settle(&labels, &metrics.create, &outcome);
    outcome
}

/// The rows of a new artifact.
struct NewArtifact {
    artifact: Artifact,
    data: Vec<ArtifactData>,
    /// What the data takes.
    bytes: u64,
    partitions: Vec<Partition>,
}

async fn make(
    context: &CatalogContext,
    request: CreateArtifactRequest,
) -> Result<CreateArtifactResponse> {
    let artifact = request.artifact.ok_or_else(|| Error::missing("artifact"))?;
    let dataset = DatasetKey::of_request(artifact.dataset.as_ref())?;
    let id = required("artifactID", &artifact.id)?.to_owned();
    let data = data_of_request(&artifact.data)?;
    let metadata = metadata::of_request(artifact.metadata)?;
    for data in &data {
        dataset.require_room(&[&id, &data.name])?;
    }
    let (dataset, keys) = datasets::with_keys(context, &dataset, None).await?;
    let partitions = fitting(&keys, &artifact.partitions)?;
    for partition in &partitions {
        dataset
            .id
            .key
            .require_room(&[&id, &partition.key, &partition.value])?;
    }
    let labels = labels(dataset.id.key.project(), dataset.id.key.domain());
    let mut tx = context.database.read().await?;
    let taken = artifacts::get(&mut tx, Some(&dataset.id.key), &id).await?;
    drop(tx);
    if taken.is_some() {
        return Err(Error::AlreadyExists { table: "artifacts" });
    }
    let key = ArtifactKey {
        dataset: dataset.id.key.clone(),
        id: id.clone(),
    };
    let bytes = size_of(&data);
    let data = outputs::write(context, &key, data, Placing::AsGo).await?;
    let now = context.clock.now();
    let new = NewArtifact {
        artifact: Artifact {
            dataset: dataset.id.clone(),
            id,
            metadata,
            created_at: Some(now),
        },
        data,
        bytes,
        partitions,
    };
    let insertion = context
        .database
        .write((new, now), |(new, now), tx| Box::pin(insert(tx, new, *now)));
    let watch = &context.metrics.repositories.artifact.create;
    match watch.timed(&labels, insertion).await {
        Ok(()) => Ok(CreateArtifactResponse {}),
        Err(DbError::UniqueViolation { .. }) => Err(Error::AlreadyExists { table: "artifacts" }),
        Err(error) => Err(error.into()),
    }
}

async fn insert(tx: &mut WriteTx, new: &NewArtifact, now: Timestamp) -> Result<(), DbError> {
    let artifact = &new.artifact;
    artifacts::create(tx, artifact, now).await?;
    artifact_data::put(tx, &artifact.key(), &new.data, now).await?;
    entries::put_size(tx, &artifact.key(), now, new.bytes).await?;
    // A dataset without UUID has no partition keys.
    if let Some(dataset) = artifact.dataset.uuid {
        partitions::create(tx, dataset, &artifact.id, &new.partitions, now).await?;
    }
    Ok(())
}

/// Replaces outputs and metadata of an artifact (`overwrite_cache`).
pub(crate) async fn update(
    context: &CatalogContext,
    request: UpdateArtifactRequest,
) -> Result<UpdateArtifactResponse> {
    let metrics = &context.metrics.artifacts;
    let id = request.dataset.clone().unwrap_or_default();
    let labels = labels(&id.project, &id.domain);
    let work = replace(context, request);
    let outcome = metrics.update_duration.timed(&labels, Box::pin(work)).await;
    metrics.settle(&labels, &metrics.update, &outcome);
    outcome
}

/// What the rows of an artifact are to become.
struct Replacement {
    key: ArtifactKey,
    metadata: Metadata,
    data: Vec<ArtifactData>,
    /// What the data takes.
    bytes: u64,
}

/// What outputs take in the blob store.
fn size_of(data: &[NewData]) -> u64 {
    data.iter().map(|output| output.literal.len() as u64).sum()
}

async fn replace(
    context: &CatalogContext,
    request: UpdateArtifactRequest,
) -> Result<UpdateArtifactResponse> {
    let handle = Handle::of_update(&request)?;
    let data = data_of_request(&request.data)?;
    let metadata = metadata::of_request(request.metadata)?;
    let artifact = find(context, &handle).await?;
    let key = artifact.key();
    for data in &data {
        key.dataset.require_room(&[&key.id, &data.name])?;
    }
    let bytes = size_of(&data);
    let data = outputs::write(context, &key, data, Placing::Beside).await?;
    let written: Vec<String> = data.iter().map(|data| data.location.clone()).collect();
    let now = context.clock.now();
    let replacement = Replacement {
        key: key.clone(),
        metadata,
        data,
        bytes,
    };
    let switch = context
        .database
        .write((replacement, now), |(replacement, now), tx| {
            Box::pin(switch(tx, replacement, *now))
        });
    let watch = &context.metrics.repositories.artifact.update;
    let labels = labels(key.dataset.project(), key.dataset.domain());
    let Some(replaced) = watch.timed(&labels, switch).await? else {
        // Evicted meanwhile; clients create it anew.
        outputs::remove(context, &key, written).await;
        return Err(missing(handle.dataset(), &key.id));
    };
    outputs::remove(context, &key, replaced).await;
    Ok(UpdateArtifactResponse {
        artifact_id: key.id,
    })
}

/// Switches the rows, and says where the outputs were before; none if there is no artifact any more. Its row is locked
/// first, so that of two at once the second sees the rows of the first.
async fn switch(
    tx: &mut WriteTx,
    Replacement {
        key,
        metadata,
        data,
        bytes,
    }: &Replacement,
    now: Timestamp,
) -> Result<Option<Vec<String>>, DbError> {
    if !artifacts::update(tx, key, metadata, now).await? {
        return Ok(None);
    }
    let before = artifact_data::of(tx, &key.dataset, std::slice::from_ref(&key.id)).await?;
    let names: Vec<&str> = data.iter().map(|data| data.name.as_str()).collect();
    artifact_data::keep_only(tx, key, &names).await?;
    artifact_data::put(tx, key, data, now).await?;
    entries::put_size(tx, key, now, *bytes).await?;
    let locations = before.into_iter().map(|(_, data)| data.location);
    Ok(Some(locations.collect()))
}
