//! The cache in memory: who else is about says the cache version of a task.
//!
//! | version | what happens |
//! |---|---|
//! | `writes` | somebody else has reserved each entry before, and writes it after twelve seconds |
//! | `dies` | somebody else has reserved each entry before, and is never heard of again |
//! | `lost` | the data of the second entry is gone until it is written again |
//! | any other | nobody else is about |

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use flyte_idl::{
    core::{Literal, Primitive, Scalar, literal, primitive, scalar},
    datacatalog::{
        AddTagRequest, AddTagResponse, Artifact, ArtifactData, CreateArtifactRequest,
        CreateArtifactResponse, CreateDatasetRequest, CreateDatasetResponse, Dataset, DatasetId,
        GetArtifactRequest, GetArtifactResponse, GetDatasetRequest, GetDatasetResponse,
        GetOrExtendReservationRequest, GetOrExtendReservationResponse, ListArtifactsRequest,
        ListArtifactsResponse, ListDatasetsRequest, ListDatasetsResponse, Metadata,
        ReleaseReservationRequest, ReleaseReservationResponse, Reservation, ReservationId,
        UpdateArtifactRequest, UpdateArtifactResponse, data_catalog_server::DataCatalog,
        get_artifact_request, update_artifact_request,
    },
};
use flyte_platform::sync::Mutex;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// How long somebody else takes.
const RIVAL_TAKES: Duration = Duration::from_secs(12);
/// A reservation holds for so many heartbeats.
const HEARTBEATS: u32 = 3;
const RIVAL: &str = "somebody else";

/// All entries, shared with whoever asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalog(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    datasets: Vec<Dataset>,
    artifacts: BTreeMap<String, Artifact>,
    tags: BTreeMap<String, String>,
    reservations: BTreeMap<String, (String, Instant)>,
    /// When a rival began, by tag.
    rivals: BTreeMap<String, Instant>,
    /// Artifacts whose data is gone.
    lost: Vec<String>,
}

/// What is in the cache at the end of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cached {
    /// Artifacts, tagged or not.
    pub artifacts: usize,
    /// Who has still reserved what, rivals apart.
    pub reserved: Vec<String>,
}

impl Catalog {
    pub(super) fn snapshot(&self) -> Cached {
        let entries = self.0.lock();
        let reserved = entries.reservations.iter();
        let ours = reserved.filter(|(_, (owner, _))| owner != RIVAL);
        Cached {
            artifacts: entries.artifacts.len(),
            reserved: ours
                .map(|(tag, (owner, _))| format!("{owner}: {tag}"))
                .collect(),
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Entries) -> T) -> T {
        use_it(&mut self.0.lock())
    }
}

fn not_found(what: &str) -> Status {
    Status::not_found(format!("no such {what}"))
}

fn version(dataset: &DatasetId) -> &str {
    dataset.version.split('-').next().unwrap_or_default()
}

impl Entries {
    /// What somebody else has done by now.
    fn let_rival_work(&mut self, dataset: &DatasetId, tag: &str) {
        let kind = version(dataset);
        if !matches!(kind, "writes" | "dies") {
            return;
        }
        let began = *self
            .rivals
            .entry(tag.to_owned())
            .or_insert_with(Instant::now);
        let expires = began + RIVAL_TAKES;
        if Instant::now() == began {
            self.reservations
                .insert(tag.to_owned(), (RIVAL.to_owned(), expires));
        }
        if kind == "writes" && expires <= Instant::now() && !self.tags.contains_key(tag) {
            let literal = Literal {
                value: Some(literal::Value::Scalar(Box::new(Scalar {
                    value: Some(scalar::Value::Primitive(Primitive {
                        value: Some(primitive::Value::Integer(7)),
                    })),
                }))),
                ..Literal::default()
            };
            let artifact = Artifact {
                id: format!("of-{RIVAL}"),
                dataset: Some(dataset.clone()),
                data: vec![ArtifactData {
                    name: "o0".into(),
                    value: Some(literal),
                }],
                created_at: Some(SystemTime::UNIX_EPOCH.into()),
                ..Artifact::default()
            };
            self.datasets.push(Dataset {
                id: Some(dataset.clone()),
                ..Dataset::default()
            });
            self.tags.insert(tag.to_owned(), artifact.id.clone());
            self.artifacts.insert(artifact.id.clone(), artifact);
            self.reservations.remove(tag);
        }
    }

    fn by_tag(&mut self, dataset: &DatasetId, tag: &str) -> Result<Artifact, Status> {
        self.let_rival_work(dataset, tag);
        let id = self.tags.get(tag).ok_or_else(|| not_found("tag"))?;
        let is_lost = self.lost.contains(id);
        let artifact = self.artifacts.get(id).filter(|_| !is_lost);
        artifact.cloned().ok_or_else(|| not_found("data"))
    }
}

#[tonic::async_trait]
impl DataCatalog for Catalog {
    async fn create_dataset(
        &self,
        request: Request<CreateDatasetRequest>,
    ) -> Result<Response<CreateDatasetResponse>, Status> {
        let dataset = request.into_inner().dataset.unwrap_or_default();
        self.with(|entries| {
            if entries.datasets.iter().any(|known| known.id == dataset.id) {
                return Err(Status::already_exists("the dataset is there"));
            }
            entries.datasets.push(dataset);
            Ok(Response::new(CreateDatasetResponse {}))
        })
    }

    async fn get_dataset(
        &self,
        request: Request<GetDatasetRequest>,
    ) -> Result<Response<GetDatasetResponse>, Status> {
        let id = request.into_inner().dataset;
        self.with(|entries| {
            let dataset = entries.datasets.iter().find(|known| known.id == id);
            let dataset = dataset.cloned().ok_or_else(|| not_found("dataset"))?;
            Ok(Response::new(GetDatasetResponse {
                dataset: Some(dataset),
            }))
        })
    }

    async fn create_artifact(
        &self,
        request: Request<CreateArtifactRequest>,
    ) -> Result<Response<CreateArtifactResponse>, Status> {
        let mut artifact = request.into_inner().artifact.unwrap_or_default();
        self.with(|entries| {
            if entries.artifacts.contains_key(&artifact.id) {
                return Err(Status::already_exists("the artifact is there"));
            }
            let dataset = artifact.dataset.clone().unwrap_or_default();
            if version(&dataset) == "lost" && entries.artifacts.len() == 1 {
                entries.lost.push(artifact.id.clone());
            }
            artifact.created_at = Some(SystemTime::UNIX_EPOCH.into());
            entries.artifacts.insert(artifact.id.clone(), artifact);
            Ok(Response::new(CreateArtifactResponse {}))
        })
    }

    async fn get_artifact(
        &self,
        request: Request<GetArtifactRequest>,
    ) -> Result<Response<GetArtifactResponse>, Status> {
        let request = request.into_inner();
        let Some(get_artifact_request::QueryHandle::TagName(tag)) = request.query_handle else {
            return Err(Status::invalid_argument("the engine asks by tag"));
        };
        let dataset = request.dataset.unwrap_or_default();
        let artifact = self.with(|entries| entries.by_tag(&dataset, &tag))?;
        Ok(Response::new(GetArtifactResponse {
            artifact: Some(artifact),
        }))
    }

    async fn add_tag(
        &self,
        request: Request<AddTagRequest>,
    ) -> Result<Response<AddTagResponse>, Status> {
        let tag = request.into_inner().tag.unwrap_or_default();
        self.with(|entries| {
            if !entries.artifacts.contains_key(&tag.artifact_id) {
                return Err(not_found("artifact"));
            }
            if entries.tags.contains_key(&tag.name) {
                return Err(Status::already_exists("the tag is there"));
            }
            entries.tags.insert(tag.name, tag.artifact_id);
            Ok(Response::new(AddTagResponse {}))
        })
    }

    async fn list_artifacts(
        &self,
        _: Request<ListArtifactsRequest>,
    ) -> Result<Response<ListArtifactsResponse>, Status> {
        Err(Status::unimplemented("the engine does not list"))
    }

    async fn list_datasets(
        &self,
        _: Request<ListDatasetsRequest>,
    ) -> Result<Response<ListDatasetsResponse>, Status> {
        Err(Status::unimplemented("the engine does not list"))
    }

    async fn update_artifact(
        &self,
        request: Request<UpdateArtifactRequest>,
    ) -> Result<Response<UpdateArtifactResponse>, Status> {
        let request = request.into_inner();
        let Some(update_artifact_request::QueryHandle::TagName(tag)) = request.query_handle else {
            return Err(Status::invalid_argument("the engine asks by tag"));
        };
        self.with(|entries| {
            let id = entries.tags.get(&tag).cloned();
            let id = id.ok_or_else(|| not_found("tag"))?;
            let artifact = entries.artifacts.get_mut(&id);
            let artifact = artifact.ok_or_else(|| not_found("artifact"))?;
            artifact.data = request.data;
            artifact.metadata = request.metadata;
            entries.lost.retain(|lost| *lost != id);
            Ok(Response::new(UpdateArtifactResponse { artifact_id: id }))
        })
    }

    async fn get_or_extend_reservation(
        &self,
        request: Request<GetOrExtendReservationRequest>,
    ) -> Result<Response<GetOrExtendReservationResponse>, Status> {
        let request = request.into_inner();
        let id = request.reservation_id.unwrap_or_default();
        let heartbeat = request.heartbeat_interval.unwrap_or_default();
        let heartbeat = Duration::try_from(heartbeat).unwrap_or_default();
        let owner = self.with(|entries| {
            entries.let_rival_work(&id.dataset_id.clone().unwrap_or_default(), &id.tag_name);
            let known = entries.reservations.get(&id.tag_name);
            let held = known
                .filter(|(owner, until)| *until > Instant::now() && *owner != request.owner_id);
            if let Some((owner, _)) = held {
                return owner.clone();
            }
            let until = Instant::now() + heartbeat * HEARTBEATS;
            entries
                .reservations
                .insert(id.tag_name.clone(), (request.owner_id.clone(), until));
            request.owner_id.clone()
        });
        Ok(Response::new(GetOrExtendReservationResponse {
            reservation: Some(Reservation {
                reservation_id: Some(id),
                owner_id: owner,
                metadata: Some(Metadata::default()),
                ..Reservation::default()
            }),
        }))
    }

    async fn release_reservation(
        &self,
        request: Request<ReleaseReservationRequest>,
    ) -> Result<Response<ReleaseReservationResponse>, Status> {
        let ReleaseReservationRequest {
            reservation_id,
            owner_id,
        } = request.into_inner();
        let ReservationId { tag_name, .. } = reservation_id.unwrap_or_default();
        self.with(|entries| {
            let is_ours = |known: &(String, Instant)| known.0 == owner_id;
            if entries.reservations.get(&tag_name).is_some_and(is_ours) {
                entries.reservations.remove(&tag_name);
            }
        });
        Ok(Response::new(ReleaseReservationResponse {}))
    }
}
