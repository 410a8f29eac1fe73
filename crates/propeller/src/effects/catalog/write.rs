//! Writing to the cache and releasing what was reserved (spec 06 B7).
//!
//! Nothing here keeps a node from succeeding: what cannot be written within a few tries is told as such.

use std::time::Duration;

use flyte_core::catalog;
use flyte_idl::{
    core::{
        CatalogCacheStatus, CatalogMetadata, Identifier, NodeExecutionIdentifier,
        TaskExecutionIdentifier, catalog_metadata,
        catalog_reservation::Status as ReservationStatus,
    },
    datacatalog::{
        AddTagRequest, Artifact, ArtifactData, CreateArtifactRequest, CreateDatasetRequest,
        Dataset, Metadata, ReleaseReservationRequest, Tag, UpdateArtifactRequest,
        data_catalog_client::DataCatalogClient, update_artifact_request,
    },
};
use flyte_platform::{Backoff, client::CountedChannel};
use tonic::{Code, Response, Status};

use super::{Inputs, artifact_id, by_tag, metadata, owner, reservation};
use crate::{
    effects::{Backend, EffectError, PermanentError, WorkflowEffects},
    metrics,
    node::{
        NodeView,
        cache::{CacheKey, Written},
        declares_outputs,
        task::Attempt,
    },
};

/// The longest wait between two tries of a write.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl WorkflowEffects {
    /// Writes the outputs of a node that has ended well, and releases its reservation.
    pub(in crate::effects) async fn write_cache(
        &self,
        view: &NodeView<'_>,
        inputs: Inputs,
        replaces: bool,
        releases: bool,
    ) -> Result<Written, EffectError> {
        let attempt = Attempt::of(*view).map_err(PermanentError)?;
        let task = attempt.template.id.clone().unwrap_or_default();
        let labels = metrics::labels_of_node(view);
        let counts = &self.metrics.cache;
        let key = match self.cache_key(view, inputs).await {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!(
                    ?error,
                    node = view.unique_id,
                    "the key of a cached task cannot be made"
                );
                counts.put_failures.inc(&labels);
                return Ok(not_written(&task));
            }
        };
        let mut written = if declares_outputs(attempt.template) {
            match self.put(view, &attempt, &key, replaces).await {
                Ok(metadata) => {
                    counts.puts.inc(&labels);
                    Written {
                        status: CatalogCacheStatus::CachePopulated,
                        metadata: Some(Box::new(metadata)),
                        reservation: None,
                    }
                }
                Err(why) => {
                    tracing::warn!(
                        node = view.unique_id,
                        tag = key.tag,
                        why,
                        "outputs are not cached"
                    );
                    counts.put_failures.inc(&labels);
                    not_written(&task)
                }
            }
        } else {
            Written {
                status: CatalogCacheStatus::CacheDisabled,
                metadata: None,
                reservation: None,
            }
        };
        if releases {
            written.reservation = Some(self.release(view, &key).await);
        }
        Ok(written)
    }

    async fn release(&self, view: &NodeView<'_>, key: &CacheKey) -> ReservationStatus {
        let counts = &self.metrics.cache;
        let labels = metrics::labels_of_node(view);
        let request = ReleaseReservationRequest {
            reservation_id: Some(reservation(key)),
            owner_id: owner(view),
        };
        let released = self
            .insist(|mut client| {
                let request = request.clone();
                async move { client.release_reservation(request).await }
            })
            .await;
        match released {
            Ok(_) => {
                counts.released.inc(&labels);
                ReservationStatus::ReservationReleased
            }
            Err(why) => {
                tracing::warn!(
                    node = view.unique_id,
                    why,
                    "a reservation of the cache is left to expire"
                );
                counts.release_failures.inc(&labels);
                ReservationStatus::ReservationFailure
            }
        }
    }

    async fn put(
        &self,
        view: &NodeView<'_>,
        attempt: &Attempt<'_>,
        key: &CacheKey,
        replaces: bool,
    ) -> Result<CatalogMetadata, String> {
        let task = attempt.template.id.clone().unwrap_or_default();
        let uri = view.files.outputs();
        let outputs = match self.literals(&uri).await {
            Ok(Ok(outputs)) => outputs,
            Ok(Err(unreadable)) => return Err(unreadable.to_string()),
            Err(error) => return Err(format!("{error:?}")),
        };
        let data: Vec<_> = outputs
            .literals
            .iter()
            .map(|(name, value)| ArtifactData {
                name: name.clone(),
                value: Some(value.clone()),
            })
            .collect();
        let source = TaskExecutionIdentifier {
            task_id: Some(task.clone()),
            node_execution_id: Some(NodeExecutionIdentifier {
                node_id: view.spec.id.clone(),
                execution_id: Some(view.workflow.execution.to_proto()),
            }),
            retry_attempt: view.status.attempts,
        };
        let about = Metadata {
            key_map: catalog::artifact_metadata(Some(&source)),
        };
        let dataset = CreateDatasetRequest {
            dataset: Some(Dataset {
                id: Some(key.dataset.clone()),
                metadata: Some(Metadata {
                    key_map: catalog::dataset_metadata(&task),
                }),
                partition_keys: Vec::new(),
            }),
        };
        self.insist(|mut client| {
            let dataset = dataset.clone();
            async move { is_new(client.create_dataset(dataset).await) }
        })
        .await?;
        let made_by_us = |id: &str| {
            let source = catalog_metadata::SourceExecution::SourceTaskExecution(source.clone());
            metadata(&key.dataset, id, &key.tag, Some(source))
        };
        if replaces && let Some(id) = self.replace(key, &data, &about).await? {
            return Ok(made_by_us(&id));
        }
        // A second try, or another process, makes the same.
        let id = artifact_id(view, key);
        let artifact = CreateArtifactRequest {
            artifact: Some(Artifact {
                id: id.clone(),
                dataset: Some(key.dataset.clone()),
                data: data.clone(),
                metadata: Some(about.clone()),
                ..Artifact::default()
            }),
        };
        self.insist(|mut client| {
            let artifact = artifact.clone();
            async move { is_new(client.create_artifact(artifact).await) }
        })
        .await?;
        let tag = AddTagRequest {
            tag: Some(Tag {
                name: key.tag.clone(),
                artifact_id: id.clone(),
                dataset: Some(key.dataset.clone()),
            }),
        };
        let tagged = self
            .insist(|mut client| {
                let tag = tag.clone();
                async move { is_new(client.add_tag(tag).await) }
            })
            .await?;
        if tagged {
            return Ok(metadata(&key.dataset, &id, &key.tag, None));
        }
        self.of_winner(key, &id, &data, &about).await
    }

    /// The entry of whoever was first under a tag; one that is of no use to anybody is replaced.
    async fn of_winner(
        &self,
        key: &CacheKey,
        ours: &str,
        data: &[ArtifactData],
        about: &Metadata,
    ) -> Result<CatalogMetadata, String> {
        let winner = self
            .insist(|mut client| {
                let request = by_tag(key);
                async move { found(client.get_artifact(request).await) }
            })
            .await?;
        let id = match winner.and_then(|answer| answer.artifact) {
            Some(winner) => winner.id,
            // Its data is gone.
            None => {
                let replaced = self.replace(key, data, about).await?;
                replaced.unwrap_or_else(|| ours.to_owned())
            }
        };
        Ok(metadata(&key.dataset, &id, &key.tag, None))
    }

    /// Gives an entry other data; none when there is no entry.
    async fn replace(
        &self,
        key: &CacheKey,
        data: &[ArtifactData],
        about: &Metadata,
    ) -> Result<Option<String>, String> {
        let request = UpdateArtifactRequest {
            dataset: Some(key.dataset.clone()),
            data: data.to_vec(),
            metadata: Some(about.clone()),
            query_handle: Some(update_artifact_request::QueryHandle::TagName(
                key.tag.clone(),
            )),
        };
        let replaced = self.insist(|mut client| {
            let request = request.clone();
            async move { found(client.update_artifact(request).await) }
        });
        Ok(replaced.await?.map(|answer| answer.artifact_id))
    }

    /// Calls until there is an answer, so often at most, without a permit while it waits.
    async fn insist<T, F>(
        &self,
        call: impl Fn(DataCatalogClient<CountedChannel>) -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let catalog = self.catalog().map_err(|error| error.to_string())?;
        let backoff = Backoff::new(catalog.base_wait, LONGEST_WAIT);
        let mut tries = 0;
        loop {
            let asked = Box::pin(call(catalog.client.clone()));
            let why = match self.budget.request(Backend::Catalog, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => {
                    let again = matches!(
                        status.code(),
                        Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled
                    );
                    let why = format!("{:?}: {}", status.code(), status.message());
                    if !again {
                        return Err(why);
                    }
                    why
                }
                Err(error) => error.to_string(),
            };
            tries += 1;
            if tries >= catalog.max_tries {
                return Err(why);
            }
            tokio::time::sleep(backoff.wait(tries, rand::random())).await;
        }
    }
}

/// Whether something was made, or was there.
fn is_new<T>(answer: Result<T, Status>) -> Result<bool, Status> {
    match answer {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::AlreadyExists => Ok(false),
        Err(status) => Err(status),
    }
}

/// What was found, if there is something.
fn found<T>(answer: Result<Response<T>, Status>) -> Result<Option<T>, Status> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}
fn not_written(task: &Identifier) -> Written {
    Written {
        status: CatalogCacheStatus::CachePutFailure,
        metadata: Some(Box::new(CatalogMetadata {
            dataset_id: Some(task.clone()),
            ..CatalogMetadata::default()
        })),
        reservation: None,
    }
}
