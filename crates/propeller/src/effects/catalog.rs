//! The client of datacatalog (spec 06 B): looked up, reserved, written, released.
//!
//! Looking up and reserving fail as other effects do; writing ([`mod@write`]) never keeps a node from succeeding.

mod write;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use flyte_core::{
    catalog,
    types::{self, castable},
    unique_id::{self, Width},
};
use flyte_idl::{
    core::{
        CatalogArtifactTag, CatalogMetadata, Identifier, LiteralMap, ResourceType, TaskTemplate,
        catalog_metadata, execution_error::ErrorKind,
    },
    datacatalog::{
        Artifact, Dataset, DatasetId, GetArtifactRequest, GetDatasetRequest,
        GetOrExtendReservationRequest, Metadata, ReservationId,
        data_catalog_client::DataCatalogClient, get_artifact_request,
    },
    time::from_wire,
};
use flyte_platform::{client::CountedChannel, config};
use jiff::SignedDuration;
use prost::Message as _;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use super::{Backend, EffectError, PermanentError, TransientError, WorkflowEffects};
use crate::{
    config::CatalogConfig,
    metrics,
    node::{
        NodeView,
        cache::{CacheKey, LookUp, Reservation},
        task::Attempt,
    },
};

/// How an engine reaches datacatalog, and what it takes from it.
#[derive(Clone)]
pub struct Catalog {
    /// The service.
    pub client: DataCatalogClient<CountedChannel>,
    /// Older entries are not used; zero is any age.
    pub max_age: SignedDuration,
    /// How often a write is tried that is not answered.
    pub max_tries: u32,
    /// The wait before the first of those; each further one is twice as long.
    pub base_wait: Duration,
    /// How often reservations are extended; datacatalog lets them expire after several times as long.
    pub heartbeat: Duration,
}

impl Catalog {
    /// Over this channel. `heartbeat` is how often reservations are extended.
    pub fn new(
        channel: CountedChannel,
        config: &CatalogConfig,
        heartbeat: config::Duration,
    ) -> Self {
        let client = DataCatalogClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self {
            client,
            max_age: config.max_cache_age.to_signed(),
            max_tries: config.max_retries.max(1),
            base_wait: Duration::from_millis(config.base_scalar.into()),
            heartbeat: heartbeat.to_std(),
        }
    }
}

/// Go's server takes 4 MiB by default, charts let it take more; both ours are as large as those for flyteadmin.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

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
        let labels = metrics::labels_of_node(view);
        let (artifact, dataset) = match (artifact, dataset) {
            (Ok(artifact), Ok(dataset)) => (
                artifact.artifact.unwrap_or_default(),
                dataset.dataset.unwrap_or_default(),
            ),
            (Err(status), _) | (_, Err(status)) if status.code() == Code::NotFound => {
                counts.misses.inc(&labels);
                return Ok((key, LookUp::Miss));
            }
            (Err(status), _) | (_, Err(status)) => {
                counts.get_failures.inc(&labels);
                return Err(TransientError::of_catalog(&status).into());
            }
        };
        if artifact.id == artifact_id(view, &key) {
            // An earlier process came as far as writing what this very attempt has brought, which has a pod and is known to
            // flyteadmin.
            return Ok((key, LookUp::Miss));
        }
        match self.take_over(view, &key, artifact, dataset).await? {
            Ok(metadata) => {
                counts.hits.inc(&labels);
                Ok((key, LookUp::Hit(Box::new(metadata))))
            }
            Err(why) => {
                tracing::info!(
                    node = view.unique_id,
                    tag = key.tag,
                    why,
                    "an entry of the cache is not used"
                );
                counts.misses.inc(&labels);
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
        let created_at = from_wire(artifact.created_at.as_ref());
        let age = created_at.map(|created_at| self.clock.now().duration_since(created_at));
        if !catalog.max_age.is_zero() && age.is_some_and(|age| age > catalog.max_age) {
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
            self.write(&uri, Bytes::from(outputs.encode_to_vec()))
                .await?;
        }
        let task = attempt.template.id.clone().unwrap_or_default();
        let empty = Metadata::default();
        let source = catalog::source(
            &task,
            &dataset.metadata.as_ref().unwrap_or(&empty).key_map,
            &artifact.metadata.as_ref().unwrap_or(&empty).key_map,
        );
        let source = match source {
            Ok(source) => Some(catalog_metadata::SourceExecution::SourceTaskExecution(
                source,
            )),
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
        let labels = metrics::labels_of_node(view);
        let is_ours = match answer {
            Ok(answer) => {
                counts.reserved.inc(&labels);
                let owned_by = answer.reservation.unwrap_or_default().owner_id;
                // A catalog that keeps no reservations names nobody.
                owned_by.is_empty() || owned_by == owner
            }
            Err(error) => {
                counts.reserve_failures.inc(&labels);
                if view.status.phase == flyte_crd::NodePhase::Queued {
                    return Err(error.into());
                }
                tracing::warn!(%error, node = view.unique_id, "a reservation of the cache is not extended");
                true
            }
        };
        let ask_again = self
            .clock
            .now()
            .saturating_add(heartbeat)
            .unwrap_or(jiff::Timestamp::MAX);
        Ok((key, Reservation { is_ours, ask_again }))
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
        let dataset =
            catalog::dataset(&task, &about.discovery_version, template.interface.as_ref())
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

/// The id of what an attempt writes under a key: a UUID, as Go's are.
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
    Uuid::new_v5(&Uuid::NAMESPACE_OID, of.as_bytes()).to_string()
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
        let is = types::of_literal(&literal)
            .map_err(|_unknown| format!("output [{name}] has no type"))?;
        let declared = variable.r#type.clone().unwrap_or_default();
        if !castable(&is, &declared) {
            return Err(format!("output [{name}] is of another type"));
        }
        outputs.literals.insert(name.clone(), literal);
    }
    Ok(outputs)
}
