//! GetArtifact and ListArtifacts; [`change`] has CreateArtifact and UpdateArtifact.

pub(crate) mod change;

use flyte_idl::datacatalog::{
    GetArtifactRequest, GetArtifactResponse, ListArtifactsRequest, ListArtifactsResponse, Tag,
};
use futures::{StreamExt as _, stream};
use prost::Message as _;

use super::{
    datasets::{self, ROWS_AT_ONCE},
    outputs,
    parts::Parts,
};
use crate::{
    context::CatalogContext,
    domain::{
        artifacts::Handle,
        filters,
        ids::DatasetKey,
        pages::{FullPage, Page},
    },
    error::{Error, Result},
    metrics::labels,
    records::{Artifact, ArtifactData, ArtifactKey},
    repository::{artifacts, tags},
};

/// Artifacts of a page whose outputs are read at once.
const ARTIFACTS_AT_ONCE: usize = 4;

/// An artifact with its outputs.
///
/// One whose outputs are gone from the blob store is NOT_FOUND, where Go says INTERNAL: then the task is run again instead
/// of failing whenever its cache is asked.
pub(crate) async fn get(
    context: &CatalogContext,
    request: GetArtifactRequest,
) -> Result<GetArtifactResponse> {
    let metrics = &context.metrics.artifacts;
    let id = request.dataset.clone().unwrap_or_default();
    let labels = labels(&id.project, &id.domain);
    let work = async {
        let handle = Handle::of_get(&request)?;
        let artifact = find(context, &handle).await?;
        let (artifact, mut parts, data) = with_outputs(context, artifact).await?;
        Ok(GetArtifactResponse {
            artifact: Some(parts.on_wire(artifact, data)),
        })
    };
    let outcome = metrics.get_duration.timed(&labels, Box::pin(work)).await;
    metrics.settle(&labels, &metrics.get, &outcome);
    outcome
}

/// The artifact that a handle names.
///
/// # Errors
/// NOT_FOUND, of the tag or of the artifact.
async fn find(context: &CatalogContext, handle: &Handle) -> Result<Artifact> {
    let (project, domain) = handle
        .dataset()
        .map_or(("", ""), |key| (key.project(), key.domain()));
    let labels = labels(project, domain);
    let repositories = &context.metrics.repositories;
    let mut tx = context.database.read().await?;
    let id = match handle {
        Handle::Id { id, .. } => id.clone(),
        Handle::Tag { dataset, name } => {
            let look_up = tags::artifact_of(&mut tx, dataset, name);
            let found = repositories.tag.get.timed(&labels, look_up).await?;
            found.ok_or_else(|| {
                let tag = Tag {
                    name: name.clone(),
                    dataset: Some(dataset.to_wire(None)),
                    ..Tag::default()
                };
                Error::not_found("Tag", &tag)
            })?
        }
    };
    let look_up = artifacts::get(&mut tx, handle.dataset(), &id);
    let found = repositories.artifact.get.timed(&labels, look_up).await?;
    found.ok_or_else(|| missing(handle.dataset(), &id))
}

/// NOT_FOUND for an artifact.
fn missing(dataset: Option<&DatasetKey>, id: &str) -> Error {
    let artifact = flyte_idl::datacatalog::Artifact {
        id: id.to_owned(),
        dataset: dataset.map(|key| key.to_wire(None)),
        ..Default::default()
    };
    Error::not_found("Artifact", &artifact)
}

/// What belongs to an artifact, and its outputs.
async fn with_outputs(
    context: &CatalogContext,
    artifact: Artifact,
) -> Result<(Artifact, Parts, Vec<flyte_idl::datacatalog::ArtifactData>)> {
    let key = artifact.key();
    let mut before: Option<Vec<ArtifactData>> = None;
    loop {
        let mut tx = context.database.read().await?;
        let ids = std::slice::from_ref(&artifact.id);
        let mut parts = Parts::load(&mut tx, &artifact.dataset, ids).await?;
        drop(tx);
        let data = parts.take_data(&artifact.id);
        if data.is_empty() {
            let mut tx = context.database.read().await?;
            let still = artifacts::get(&mut tx, Some(&key.dataset), &key.id).await?;
            // It may have been evicted meanwhile, with its data.
            return Err(match still {
                Some(_) => Error::NoData(key.id),
                None => missing(Some(&key.dataset), &key.id),
            });
        }
        match outputs::read(context, &key, data.clone()).await {
            // Somebody may have replaced them meanwhile; if the rows are the same, they are gone.
            Err(Error::LostData { .. }) if before.as_ref() != Some(&data) => before = Some(data),
            read => return Ok((artifact, parts, read?)),
        }
    }
}

/// A page of the artifacts of a dataset, with their outputs.
pub(crate) async fn list(
    context: &CatalogContext,
    request: ListArtifactsRequest,
) -> Result<ListArtifactsResponse> {
    let metrics = &context.metrics.artifacts;
    let id = request.dataset.clone().unwrap_or_default();
    let labels = labels(&id.project, &id.domain);
    let outcome = page_of(context, &request).await;
    metrics.settle(&labels, &metrics.list, &outcome);
    outcome
}

/// The page ends early when it is as large as a message may be: the token goes on from there.
async fn page_of(
    context: &CatalogContext,
    request: &ListArtifactsRequest,
) -> Result<ListArtifactsResponse> {
    let key = DatasetKey::of_request(request.dataset.as_ref())?;
    let filters = filters::of_artifacts(request.filter.as_ref())?;
    let page = Page::of_request(request.pagination.as_ref())?;
    let (dataset, _keys) = datasets::with_keys(context, &key, None).await?;
    let look_up = async {
        let mut tx = context.database.read().await?;
        artifacts::list(&mut tx, &dataset.id, &filters, &page).await
    };
    let watch = &context.metrics.repositories.artifact.list;
    let labels = labels(key.project(), key.domain());
    let listed = watch.timed(&labels, look_up).await?;
    let places: Vec<Option<Artifact>> = listed.places().map(Option::<&Artifact>::cloned).collect();
    let mut full = FullPage::of(context.message_bytes);
    let (mut artifacts, mut count) = (Vec::new(), 0);
    'page: for places in places.chunks(ROWS_AT_ONCE) {
        let ids: Vec<String> = places
            .iter()
            .flatten()
            .map(|artifact| artifact.id.clone())
            .collect();
        let mut tx = context.database.read().await?;
        let mut parts = Parts::load(&mut tx, &dataset.id, &ids).await?;
        drop(tx);
        let places = places.iter().cloned().map(|artifact| {
            let artifact = artifact?;
            let data = parts.take_data(&artifact.id);
            Some((artifact, data))
        });
        let places: Vec<Option<(Artifact, Vec<ArtifactData>)>> = places.collect();
        let mut read = stream::iter(places)
            .map(|place| async move {
                let Some((artifact, data)) = place else {
                    return Ok(None);
                };
                let data = what_is_there(context, &artifact.key(), data).await?;
                Ok::<_, Error>(Some((artifact, data)))
            })
            .buffered(ARTIFACTS_AT_ONCE);
        while let Some(place) = read.next().await {
            if let Some((artifact, data)) = place? {
                let artifact = parts.on_wire(artifact, data);
                if full.with(artifact.encoded_len()) {
                    break 'page;
                }
                artifacts.push(artifact);
            }
            count += 1;
        }
    }
    Ok(ListArtifactsResponse {
        artifacts,
        next_token: page.next_token(count),
    })
}

/// The outputs of one artifact of a list. Those that are gone are left out: one artifact hides no others.
async fn what_is_there(
    context: &CatalogContext,
    artifact: &ArtifactKey,
    data: Vec<ArtifactData>,
) -> Result<Vec<flyte_idl::datacatalog::ArtifactData>> {
    match outputs::read(context, artifact, data.clone()).await {
        Err(Error::LostData { .. }) => {}
        read => return read,
    }
    let mut there = Vec::with_capacity(data.len());
    for data in data {
        match outputs::read_one(context, artifact, data).await {
            Err(Error::LostData { artifact, location }) => {
                tracing::warn!(
                    artifact,
                    location,
                    "a list leaves out an output that is gone"
                );
            }
            read => there.push(read?),
        }
    }
    Ok(there)
}
