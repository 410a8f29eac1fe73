//! The client of datacatalog (spec 06 B): looked up, reserved, written, released.
//!
//! Looking up and reserving fail as other effects do. Writing never keeps a node from succeeding: what cannot be written within
//! a few tries is told as such.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use flyte_core::{
    catalog,
    types::{self, castable},
    unique_id::{self, Width},
};
use flyte_idl::{
    core::{
        CatalogArtifactTag, CatalogCacheStatus, CatalogMetadata, Identifier, LiteralMap,
        NodeExecutionIdentifier, ResourceType, TaskExecutionIdentifier, TaskTemplate,
        catalog_metadata, catalog_reservation::Status as ReservationStatus,
        execution_error::ErrorKind,
    },
    datacatalog::{
        AddTagRequest, Artifact, ArtifactData, CreateArtifactRequest, CreateDatasetRequest, Dataset,
        DatasetId, GetArtifactRequest, GetDatasetRequest, GetOrExtendReservationRequest, Metadata,
        ReleaseReservationRequest, ReservationId, Tag, UpdateArtifactRequest,
        data_catalog_client::DataCatalogClient, get_artifact_request, update_artifact_request,
    },
    time::from_wire,
};
use flyte_platform::{Backoff, client::CountedChannel};
use prost::Message as _;
use tonic::{Code, Response, Status};

use super::{Backend, EffectError, PermanentError, TransientError, WorkflowEffects};
use crate::node::{
    NodeView,
    cache::{CacheKey, LookUp, Reservation, Written},
    task::Attempt,
};

/// How an engine reaches datacatalog, and what it takes from it.
#[derive(Clone)]
pub struct Catalog {
    /// The service.
    pub client: DataCatalogClient<CountedChannel>,
    /// Older entries are not used; zero is any age.
    pub max_age: Duration,
    /// How often a write is tried again that was not answered.
    pub max_retries: u32,
    /// The wait before the first of those; each further one is twice as long.
    pub base_wait: Duration,
    /// How long a reservation holds that is not extended, as a part of datacatalog's own factor.
    pub heartbeat: Duration,
}

/// The longest wait between two tries of a write.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The inputs of a node, when whoever asks has them.
type Inputs = Option<Arc<LiteralMap>>;

impl WorkflowEffects {
    /// What the cache has for a node. What it has becomes the node's outputs.
    pub(super) async fn look_up_cache(
        &self,
        view: &NodeView<'_>,
        inputs: Inputs,
    ) -> Result<(Arc<CacheKey>, LookUp), EffectError> {
        let key = self.cache_key(view, inputs).await?;
        let catalog = self.catalog()?;
        let (mut of_artifact, mut of_dataset) = (catalog.client.clone(), catalog.client.clone());
        let artifact = of_artifact.get_artifact(by_tag(&key));
        let dataset = of_dataset.get_dataset(GetDatasetRequest {
            dataset: Some(key.dataset.clone()),
        });
        let (artifact, dataset) = tokio::join!(self.ask(artifact), self.ask(dataset));
        let (artifact, dataset) = (artifact?, dataset?);
        let counts = &self.metrics.cache;
        let labels = self.labels_of(view);
        let (artifact, dataset) = match (artifact, dataset) {
            (Ok(artifact), Ok(dataset)) => (artifact.artifact, dataset.dataset),
            (Err(status), _) | (_, Err(status)) if status.code() == Code::NotFound => {
                counts.misses.with(&labels).inc();
                return Ok((key, LookUp::Miss));
            }
            (Err(status), _) | (_, Err(status)) => {
                counts.get_failures.with(&labels).inc();
                return Err(TransientError::of_catalog(&status).into());
            }
        };
        let found = self
            .take_over(view, &key, artifact.unwrap_or_default(), dataset.unwrap_or_default())
            .await?;
        match found {
            Ok(metadata) => {
                counts.hits.with(&labels).inc();
                Ok((key, LookUp::Hit(Box::new(metadata))))
            }
            Err(why) => {
                tracing::info!(node = view.unique_id, tag = key.tag, why, "an entry of the cache is not used");
                counts.misses.with(&labels).inc();
                Ok((key, LookUp::Stale))
            }
        }
    }

    /// Writes what was found as the node's outputs, or says why it is of no use.
    async fn take_over(
        &self,
        view: &NodeView<'_>,
        key: &CacheKey,
        artifact: Artifact,
        dataset: Dataset,
    ) -> Result<Result<CatalogMetadata, String>, EffectError> {
        let catalog = self.catalog()?;
        let created_at = artifact.created_at.as_ref().and_then(|time| from_wire(time).ok());
        let age = created_at.map(|created_at| self.clock.now().duration_since(created_at));
        if !catalog.max_age.is_zero()
            && age.is_some_and(|age| age > jiff::SignedDuration::try_from(catalog.max_age).unwrap_or(jiff::SignedDuration::MAX))
        {
            return Ok(Err("Artifact over age limit".to_owned()));
        }
        let attempt = Attempt::of(*view).map_err(PermanentError)?;
        let outputs = match outputs_of(attempt.template, &artifact) {
            Ok(outputs) => outputs,
            Err(why) => return Ok(Err(why)),
        };
        if !outputs.literals.is_empty() {
            let (uri, outputs) = (view.files.outputs(), Arc::new(outputs));
            self.outputs_cache.put(&uri, &outputs);
            self.write(&uri, Bytes::from(outputs.encode_to_vec())).await?;
        }
        let task = attempt.template.id.clone().unwrap_or_default();
        let empty = Metadata::default();
        let source = catalog::source(
            &task,
            &dataset.metadata.as_ref().unwrap_or(&empty).key_map,
            &artifact.metadata.as_ref().unwrap_or(&empty).key_map,
        );
        let source = match source {
            Ok(source) => Some(catalog_metadata::SourceExecution::SourceTaskExecution(source)),
            Err(error) => {
                tracing::warn!(%error, tag = key.tag, "an entry of the cache does not say who made it");
                None
            }
        };
        Ok(Ok(metadata(&key.dataset, &artifact.id, &key.tag, source)))
    }

    /// Reserves the entry of a node, or goes on with a reservation that it has. Once the node runs this fails nothing.
    pub(super) async fn reserve_cache(
        &self,
        view: &NodeView<'_>,
        inputs: Inputs,
    ) -> Result<(Arc<CacheKey>, Reservation), EffectError> {
        let key = self.cache_key(view, inputs).await?;
        let catalog = self.catalog()?;
        let heartbeat = catalog.heartbeat;
        let owner = owner(view);
        let mut client = catalog.client.clone();
        let request = GetOrExtendReservationRequest {
            reservation_id: Some(reservation(&key)),
            owner_id: owner.clone(),
            heartbeat_interval: prost_types::Duration::try_from(heartbeat).ok(),
        };
        let answer = match self.ask(client.get_or_extend_reservation(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(TransientError::of_catalog(&status)),
            Err(error) => Err(error),
        };
        let counts = &self.metrics.cache;
        let labels = self.labels_of(view);
        let is_ours = match answer {
            Ok(answer) => {
                counts.reserved.with(&labels).inc();
                let owned_by = answer.reservation.unwrap_or_default().owner_id;
                // A catalog that keeps no reservations names nobody.
                owned_by.is_empty() || owned_by == owner
            }
            Err(error) => {
                counts.reserve_failures.with(&labels).inc();
                if view.status.phase == flyte_crd::NodePhase::Queued {
                    return Err(error.into());
                }
                tracing::warn!(%error, node = view.unique_id, "a reservation of the cache is not extended");
                true
            }
        };
        let ask_again = self.clock.now().saturating_add(heartbeat).unwrap_or(jiff::Timestamp::MAX);
        Ok((key, Reservation { is_ours, ask_again }))
    }

    /// Writes the outputs of a node that has ended well, and releases its reservation.
    pub(super) async fn write_cache(
        &self,
        view: &NodeView<'_>,
        inputs: Inputs,
        replaces: bool,
        releases: bool,
    ) -> Result<Written, EffectError> {
        let attempt = Attempt::of(*view).map_err(PermanentError)?;
        let task = attempt.template.id.clone().unwrap_or_default();
        let labels = self.labels_of(view);
        let counts = &self.metrics.cache;
        let key = match self.cache_key(view, inputs).await {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!(?error, node = view.unique_id, "the key of a cached task cannot be made");
                counts.put_failures.with(&labels).inc();
                return Ok(not_written(&task));
            }
        };
        let mut written = if declares_outputs(attempt.template) {
            match self.put(view, &attempt, &key, replaces).await {
                Ok(metadata) => {
                    counts.puts.with(&labels).inc();
                    Written {
                        status: CatalogCacheStatus::CachePopulated,
                        metadata: Some(Box::new(metadata)),
                        reservation: None,
                    }
                }
                Err(why) => {
                    tracing::warn!(node = view.unique_id, tag = key.tag, why, "outputs are not cached");
                    counts.put_failures.with(&labels).inc();
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
        let labels = self.labels_of(view);
        let request = ReleaseReservationRequest {
            reservation_id: Some(reservation(key)),
            owner_id: owner(view),
        };
        let released = self
            .insist(async |mut client| client.release_reservation(request.clone()).await)
            .await;
        match released {
            Ok(_) => {
                counts.released.with(&labels).inc();
                ReservationStatus::ReservationReleased
            }
            Err(why) => {
                tracing::warn!(node = view.unique_id, why, "a reservation of the cache is left to expire");
                counts.release_failures.with(&labels).inc();
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
        self.insist(async |mut client| unless_there(client.create_dataset(dataset.clone()).await))
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
        self.insist(async |mut client| unless_there(client.create_artifact(artifact.clone()).await))
            .await?;
        let tag = AddTagRequest {
            tag: Some(Tag {
                name: key.tag.clone(),
                artifact_id: id.clone(),
                dataset: Some(key.dataset.clone()),
            }),
        };
        let tagged = self
            .insist(async |mut client| match client.add_tag(tag.clone()).await {
                Ok(_) => Ok(true),
                Err(status) if status.code() == Code::AlreadyExists => Ok(false),
                Err(status) => Err(status),
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
            .insist(async |mut client| match client.get_artifact(by_tag(key)).await {
                Ok(answer) => Ok(answer.into_inner().artifact),
                Err(status) if status.code() == Code::NotFound => Ok(None),
                Err(status) => Err(status),
            })
            .await?;
        let id = match winner {
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
            query_handle: Some(update_artifact_request::QueryHandle::TagName(key.tag.clone())),
        };
        self.insist(async |mut client| {
            match client.update_artifact(request.clone()).await {
                Ok(answer) => Ok(Some(answer.into_inner().artifact_id)),
                Err(status) if status.code() == Code::NotFound => Ok(None),
                Err(status) => Err(status),
            }
        })
        .await
    }

    /// Calls until there is an answer, so often at most, without a permit while it waits.
    async fn insist<T>(
        &self,
        call: impl AsyncFn(DataCatalogClient<CountedChannel>) -> Result<T, Status>,
    ) -> Result<T, String> {
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
            if tries >= catalog.max_retries {
                return Err(why);
            }
            tries += 1;
            tokio::time::sleep(backoff.wait(tries, rand::random())).await;
        }
    }

    /// One call.
    async fn ask<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Result<T, Status>, TransientError> {
        let answer = self.budget.request(Backend::Catalog, call).await?;
        Ok(answer.map(Response::into_inner))
    }

    fn catalog(&self) -> Result<&Catalog, TransientError> {
        let missing = || {
            let message = "catalog-cache.endpoint is not set".to_owned();
            TransientError::refused(Backend::Catalog, message)
        };
        self.catalog.as_ref().ok_or_else(missing)
    }

    async fn cache_key(
        &self,
        view: &NodeView<'_>,
        inputs: Inputs,
    ) -> Result<Arc<CacheKey>, EffectError> {
        if let Some(key) = &view.cache.key {
            return Ok(key.clone());
        }
        let inputs = match inputs {
            Some(inputs) => inputs,
            None => self.read(&view.files.inputs()).await?,
        };
        let attempt = Attempt::of(*view).map_err(PermanentError)?;
        let template = attempt.template;
        let about = template.metadata.clone().unwrap_or_default();
        let unusable = |error: catalog::CatalogError| {
            let message = format!("node [{}] is cached, and has no key: {error}", view.spec.id);
            PermanentError::new(ErrorKind::User, "BadTaskSpecification", message)
        };
        let task = template.id.clone().unwrap_or_default();
        let dataset = catalog::dataset(&task, &about.discovery_version, template.interface.as_ref())
            .map_err(unusable)?;
        let has_inputs = template
            .interface
            .as_ref()
            .is_some_and(|interface| interface.inputs.is_some());
        let nothing = LiteralMap::default();
        let counted = if has_inputs { &*inputs } else { &nothing };
        let tag = catalog::input_tag(&counted.literals, &about.cache_ignore_input_vars)
            .map_err(unusable)?;
        Ok(Arc::new(CacheKey { dataset, tag }))
    }
}

fn unless_there<T>(answer: Result<T, Status>) -> Result<(), Status> {
    match answer {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        Err(status) => Err(status),
    }
}

fn by_tag(key: &CacheKey) -> GetArtifactRequest {
    GetArtifactRequest {
        dataset: Some(key.dataset.clone()),
        query_handle: Some(get_artifact_request::QueryHandle::TagName(key.tag.clone())),
    }
}

fn reservation(key: &CacheKey) -> ReservationId {
    ReservationId {
        dataset_id: Some(key.dataset.clone()),
        tag_name: key.tag.clone(),
    }
}

/// Who reserves: an attempt of a node (spec 06 B9).
fn owner(view: &NodeView<'_>) -> String {
    let attempt = view.status.attempts.to_string();
    let parts = [view.workflow.name.as_str(), view.unique_id, &attempt];
    unique_id::join(unique_id::GENERATED_NAME_MAX, &parts, Width::Bits32)
        .unwrap_or_else(|too_long| too_long.name)
}

/// The id of what an attempt writes under a key: 32 letters and digits.
fn artifact_id(view: &NodeView<'_>, key: &CacheKey) -> String {
    let execution = &view.workflow.execution;
    let of = format!(
        "{}:{}:{}:{}:{}:{}:{}",
        execution.project,
        execution.domain,
        execution.name,
        view.unique_id,
        view.status.attempts,
        key.dataset.version,
        key.tag,
    );
    format!("{:032x}", unique_id::fnv1a_128(of.as_bytes()))
}

fn metadata(
    dataset: &DatasetId,
    artifact: &str,
    tag: &str,
    source: Option<catalog_metadata::SourceExecution>,
) -> CatalogMetadata {
    CatalogMetadata {
        dataset_id: Some(Identifier {
            resource_type: ResourceType::Dataset.into(),
            project: dataset.project.clone(),
            domain: dataset.domain.clone(),
            name: dataset.name.clone(),
            version: dataset.version.clone(),
            org: dataset.org.clone(),
        }),
        artifact_tag: Some(CatalogArtifactTag {
            artifact_id: artifact.to_owned(),
            name: tag.to_owned(),
        }),
        source_execution: source,
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

fn declares_outputs(template: &TaskTemplate) -> bool {
    let interface = template.interface.as_ref();
    interface
        .and_then(|interface| interface.outputs.as_ref())
        .is_some_and(|outputs| !outputs.variables.is_empty())
}

/// The data of an entry as outputs of a task, or why they are none (spec 06 B7).
fn outputs_of(template: &TaskTemplate, artifact: &Artifact) -> Result<LiteralMap, String> {
    let interface = template.interface.as_ref();
    let declared = interface.and_then(|interface| interface.outputs.as_ref());
    let Some(declared) = declared.filter(|declared| !declared.variables.is_empty()) else {
        return Ok(LiteralMap::default());
    };
    if declared.variables.len() != artifact.data.len() {
        return Err(format!(
            "the task has {} outputs, the entry {}",
            declared.variables.len(),
            artifact.data.len()
        ));
    }
    let mut outputs = LiteralMap::default();
    for data in &artifact.data {
        let name = &data.name;
        let Some(variable) = declared.variables.get(name) else {
            return Err(format!("the task has no output [{name}]"));
        };
        let literal = data.value.clone().unwrap_or_default();
        let is = types::infer::of_literal(&literal).map_err(|_unknown| format!("output [{name}] has no type"))?;
        if !castable(&is, variable.r#type.as_ref().unwrap_or(&Default::default())) {
            return Err(format!("output [{name}] is of another type"));
        }
        outputs.literals.insert(name.clone(), literal);
    }
    Ok(outputs)
}
