//! One datacatalog per test: its own database and blob store.

use std::path::Path;

use axum::body::Body;
use flyte_datacatalog::{
    DataCatalog, Dependencies,
    config::{ApplicationConfig, DataCatalogConfig},
};
use flyte_idl::{
    core::{Literal, Primitive, Scalar, literal, primitive, scalar},
    datacatalog::{
        AddTagRequest, Artifact, ArtifactData, CreateArtifactRequest, CreateDatasetRequest,
        Dataset, DatasetId, GetArtifactRequest, Metadata, Tag, UpdateArtifactRequest,
        data_catalog_client::DataCatalogClient, get_artifact_request, update_artifact_request,
    },
};
use flyte_platform::{
    Clock,
    blob::BlobStore,
    metrics::{LabelKeys, Scope},
    sql::{Database, DatabaseConfig},
};
use tempfile::TempDir;
use tonic::{Code, Status};

pub(crate) use flyte_postgres::Store;

/// A client of a router.
pub(crate) type Client = DataCatalogClient<axum::Router<()>>;

/// What a test configures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) application: ApplicationConfig,
    pub(crate) datacatalog: DataCatalogConfig,
}

/// A running datacatalog and what it stands on.
pub(crate) struct World {
    pub(crate) catalog: DataCatalog,
    pub(crate) database: Database,
    pub(crate) blobs: BlobStore,
    pub(crate) metrics: Scope,
    pub(crate) client: Client,
    /// Where the file of SQLite is.
    _folder: TempDir,
}

/// A datacatalog over a database and blobs, its metrics beside it.
pub(crate) fn wired(
    (database, blobs): (&Database, &BlobStore),
    settings: &Settings,
    clock: Clock,
) -> (DataCatalog, Scope) {
    let metrics = Scope::new("").labelled_by(LabelKeys::of_the_single_binary());
    let dependencies = Dependencies {
        database: database.clone(),
        blobs: blobs.clone(),
        clock,
        metrics: metrics.clone(),
    };
    let wired = flyte_datacatalog::wire(dependencies, &settings.application, &settings.datacatalog);
    (wired.unwrap(), metrics)
}

/// A client of a datacatalog.
pub(crate) fn client(catalog: &DataCatalog) -> Client {
    let router = catalog.grpc().prepare().into_axum_router();
    DataCatalogClient::new(router).max_decoding_message_size(usize::MAX)
}

impl World {
    pub(crate) async fn start(store: Store) -> Self {
        Self::start_with(store, &Settings::default()).await
    }

    pub(crate) async fn start_with(store: Store, settings: &Settings) -> Self {
        Self::start_over(store, settings, BlobStore::in_memory()).await
    }

    pub(crate) async fn start_over(store: Store, settings: &Settings, blobs: BlobStore) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = database_config(store, folder.path());
        let database = Database::open(&database).await.unwrap();
        let (catalog, metrics) = wired((&database, &blobs), settings, Clock::system());
        catalog.migrate().await.unwrap();
        Self {
            client: client(&catalog),
            catalog,
            database,
            blobs,
            metrics,
            _folder: folder,
        }
    }

    /// A client of another datacatalog on the same database and blobs, where it is another time.
    pub(crate) fn at(&self, settings: &Settings, clock: Clock) -> Client {
        client(&wired((&self.database, &self.blobs), settings, clock).0)
    }

    /// Creates a dataset with these partition keys.
    pub(crate) async fn dataset(&self, id: &DatasetId, partition_keys: &[&str]) {
        let request = CreateDatasetRequest {
            dataset: Some(Dataset {
                id: Some(id.clone()),
                metadata: None,
                partition_keys: partition_keys.iter().map(|key| (*key).to_owned()).collect(),
            }),
        };
        self.client.clone().create_dataset(request).await.unwrap();
    }

    /// Creates an artifact with these outputs.
    pub(crate) async fn artifact(
        &self,
        dataset: &DatasetId,
        id: &str,
        outputs: &[(&str, i64)],
    ) -> Result<(), Status> {
        let request = CreateArtifactRequest {
            artifact: Some(Artifact {
                id: id.to_owned(),
                dataset: Some(dataset.clone()),
                data: data(outputs),
                ..Artifact::default()
            }),
        };
        let created = self.client.clone().create_artifact(request).await;
        created.map(drop)
    }

    /// Names an artifact.
    pub(crate) async fn tag(
        &self,
        dataset: &DatasetId,
        name: &str,
        artifact: &str,
    ) -> Result<(), Status> {
        let request = AddTagRequest {
            tag: Some(Tag {
                name: name.to_owned(),
                artifact_id: artifact.to_owned(),
                dataset: Some(dataset.clone()),
            }),
        };
        self.client.clone().add_tag(request).await.map(drop)
    }

    /// The artifact that a tag names.
    pub(crate) async fn tagged(&self, dataset: &DatasetId, name: &str) -> Result<Artifact, Status> {
        let request = GetArtifactRequest {
            dataset: Some(dataset.clone()),
            query_handle: Some(get_artifact_request::QueryHandle::TagName(name.to_owned())),
        };
        let got = self.client.clone().get_artifact(request).await?;
        Ok(got.into_inner().artifact.unwrap())
    }

    /// Replaces the outputs of the artifact that a tag names, and says which that is.
    pub(crate) async fn overwrite(
        &self,
        dataset: &DatasetId,
        name: &str,
        outputs: &[(&str, i64)],
    ) -> Result<String, Status> {
        let request = overwriting(dataset, name, outputs);
        let updated = self.client.clone().update_artifact(request).await?;
        Ok(updated.into_inner().artifact_id)
    }

    /// Runs SQL.
    pub(crate) async fn sql(&self, text: &str) {
        let script = text.to_owned();
        let run = self.database.write(script, |script, tx| {
            Box::pin(async move { tx.execute_script(script).await })
        });
        run.await.unwrap();
    }

    /// Keys of all objects, sorted.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let base = self.blobs.base();
        let mut keys = self
            .blobs
            .list(&format!("{base}/metadata"), 1_000)
            .await
            .unwrap();
        keys.sort();
        keys.iter()
            .map(|key| key.strip_prefix(&format!("{base}/")).unwrap().to_owned())
            .collect()
    }
}

/// A dataset as propeller names it.
pub(crate) fn task(name: &str) -> DatasetId {
    DatasetId {
        project: "flytesnacks".to_owned(),
        domain: "development".to_owned(),
        name: format!("flyte_task-{name}"),
        version: "1.0-jUwlIzHW-PmK8qF6C".to_owned(),
        ..DatasetId::default()
    }
}

pub(crate) fn integer(value: i64) -> Literal {
    Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(scalar::Value::Primitive(Primitive {
                value: Some(primitive::Value::Integer(value)),
            })),
        }))),
        ..Literal::default()
    }
}

pub(crate) fn data(outputs: &[(&str, i64)]) -> Vec<ArtifactData> {
    let outputs = outputs.iter().map(|(name, value)| ArtifactData {
        name: (*name).to_owned(),
        value: Some(integer(*value)),
    });
    outputs.collect()
}

/// A request to replace the outputs of the artifact that a tag names.
pub(crate) fn overwriting(
    dataset: &DatasetId,
    tag: &str,
    outputs: &[(&str, i64)],
) -> UpdateArtifactRequest {
    UpdateArtifactRequest {
        dataset: Some(dataset.clone()),
        query_handle: Some(update_artifact_request::QueryHandle::TagName(
            tag.to_owned(),
        )),
        data: data(outputs),
        metadata: Some(metadata("execution-name", "later")),
    }
}

pub(crate) fn metadata(key: &str, value: &str) -> Metadata {
    Metadata {
        key_map: [(key.to_owned(), value.to_owned())].into(),
    }
}

/// Code and text of a refusal.
pub(crate) fn refusal<T>(outcome: Result<T, Status>) -> Option<(Code, String)> {
    let status = outcome.err()?;
    Some((status.code(), status.message().to_owned()))
}

/// A GET of a path that is no RPC.
pub(crate) fn get(path: &str) -> http::Request<Body> {
    http::Request::get(path).body(Body::empty()).unwrap()
}

/// A new database of its own.
pub(crate) fn database_config(store: Store, folder: &Path) -> DatabaseConfig {
    match store {
        Store::Sqlite => DatabaseConfig::sqlite(folder.join("datacatalog.db")),
        Store::Postgres => flyte_postgres::database(),
    }
}
