//! AddTag.

use flyte_idl::datacatalog::{self, AddTagRequest, AddTagResponse};
use flyte_platform::sql::{DbError, WriteTx};
use jiff::Timestamp;

use super::{datasets, outputs};
use crate::{
    context::CatalogContext,
    domain::ids::{DatasetKey, required},
    error::{Error, Result},
    metrics::labels,
    records::{ArtifactKey, DatasetRef},
    repository::{artifact_data, artifacts, tags},
};

/// The most tags of one artifact; all of them come with it.
const MOST: i64 = 1_000;

/// Names an artifact. Propeller takes ALREADY_EXISTS for success.
///
/// A tag whose artifact is gone, or has lost its data, names the new artifact from then on; otherwise the task, which GetArtifact
/// says is not cached, would be run again for ever.
pub(crate) async fn add(
    context: &CatalogContext,
    request: AddTagRequest,
) -> Result<AddTagResponse> {
    let metrics = &context.metrics.tags;
    let id = request.tag.as_ref().and_then(|tag| tag.dataset.clone());
    let id = id.unwrap_or_default();
    let labels = labels(&id.project, &id.domain);
    let work = make(context, request);
    let outcome = metrics.create_duration.timed(&labels, Box::pin(work)).await;
    metrics.settle(&labels, &outcome);
    outcome
}

/// A tag of a dataset that exists.
#[derive(Clone)]
struct NewTag {
    dataset: DatasetRef,
    name: String,
    artifact: String,
}

async fn make(context: &CatalogContext, request: AddTagRequest) -> Result<AddTagResponse> {
    let tag = request.tag.ok_or_else(|| Error::missing("tag"))?;
    let dataset = DatasetKey::of_request(tag.dataset.as_ref())?;
    let name = required("tagName", &tag.name)?.to_owned();
    let artifact = required("artifactID", &tag.artifact_id)?.to_owned();
    dataset.require_room(&[&name])?;
    let (dataset, _keys) = datasets::with_keys(context, &dataset, None).await?;
    let labels = labels(dataset.id.key.project(), dataset.id.key.domain());
    let mut tx = context.database.read().await?;
    let look_up = artifacts::get(&mut tx, Some(&dataset.id.key), &artifact);
    let watch = &context.metrics.repositories.artifact.get;
    let found = watch.timed(&labels, look_up).await?;
    drop(tx);
    if found.is_none() {
        return Err(missing(&dataset.id.key, artifact));
    }
    let now = context.clock.now();
    let new = NewTag {
        dataset: dataset.id.clone(),
        name,
        artifact,
    };
    let insertion = context
        .database
        .write((new.clone(), now), |(new, now), tx| {
            Box::pin(insert(tx, new, *now))
        });
    let watch = &context.metrics.repositories.tag.create;
    match watch.timed(&labels, insertion).await {
        Ok(()) => Ok(AddTagResponse {}),
        Err(Error::Store(DbError::UniqueViolation { .. })) if rescue(context, new).await? => {
            Ok(AddTagResponse {})
        }
        Err(Error::Store(DbError::UniqueViolation { .. })) => {
            Err(Error::AlreadyExists { table: "tags" })
        }
        Err(error) => Err(error),
    }
}

/// NOT_FOUND for an artifact.
fn missing(dataset: &DatasetKey, artifact: String) -> Error {
    let artifact = datacatalog::Artifact {
        id: artifact,
        dataset: Some(dataset.to_wire(None)),
        ..Default::default()
    };
    Error::not_found("Artifact", &artifact)
}

/// Keeps the artifact to be named from being evicted until its tag is there, which would go with it.
async fn hold(tx: &mut WriteTx, new: &NewTag) -> Result<()> {
    let key = ArtifactKey {
        dataset: new.dataset.key.clone(),
        id: new.artifact.clone(),
    };
    if artifacts::hold(tx, &key).await? {
        Ok(())
    } else {
        Err(missing(&key.dataset, key.id))
    }
}

async fn insert(tx: &mut WriteTx, new: &NewTag, now: Timestamp) -> Result<()> {
    hold(tx, new).await?;
    let NewTag {
        dataset,
        name,
        artifact,
    } = new;
    tags::create(tx, dataset, name, artifact, now).await?;
    if tags::count(tx, dataset, artifact).await? > MOST {
        return Err(Error::invalid(format!(
            "artifact {artifact} has {MOST} tags, which are the most"
        )));
    }
    Ok(())
}

/// Moves a tag that is taken, if the artifact that it names is gone or has lost its data. True if it was moved.
async fn rescue(context: &CatalogContext, new: NewTag) -> Result<bool> {
    let key = &new.dataset.key.clone();
    let mut tx = context.database.read().await?;
    let Some(named) = tags::artifact_of(&mut tx, key, &new.name).await? else {
        return Ok(false);
    };
    if named == new.artifact {
        return Ok(false);
    }
    let gone = artifacts::get(&mut tx, Some(key), &named).await?.is_none();
    let data = artifact_data::of(&mut tx, key, std::slice::from_ref(&named)).await?;
    drop(tx);
    let data = data.into_iter().map(|(_, data)| data).collect();
    if !gone && !outputs::is_lost(context, data).await? {
        return Ok(false);
    }
    let now = context.clock.now();
    let labels = labels(key.project(), key.domain());
    tracing::info!(
        tag = new.name,
        lost = named,
        "a tag is moved to an artifact that has its data"
    );
    let movement = context
        .database
        .write((new, named, now), |(new, named, now), tx| {
            Box::pin(async move {
                hold(tx, new).await?;
                let of = (named.as_str(), new.artifact.as_str());
                let moved = tags::move_to(tx, &new.dataset.key, &new.name, of, *now).await?;
                Ok::<_, Error>(moved)
            })
        });
    let watch = &context.metrics.repositories.tag.update;
    watch.timed(&labels, movement).await
}
