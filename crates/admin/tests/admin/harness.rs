//! One admin per test: its own database, blob store and cluster.

use std::path::Path;

use axum::body::Body;
use flyte_admin::{
    Admin, Dependencies,
    config::{
        AdminConfig, DomainConfig, DomainsConfig, LiveConfig, ResourceSetConfig,
        TaskResourcesConfig,
    },
    targets::ExecutionTargets,
};
use flyte_idl::{
    descriptors,
    json::{self, Unknown},
};
use flyte_platform::{
    Clock,
    blob::BlobStore,
    metrics::{LabelKeys, Scope},
    sql::{Database, DatabaseConfig},
};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::Value;
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt as _;

pub(crate) use flyte_postgres::Store;

use crate::cluster::TestCluster;

/// A running admin and what it stands on.
pub(crate) struct World {
    pub(crate) admin: Admin,
    pub(crate) database: Database,
    pub(crate) blobs: BlobStore,
    pub(crate) cluster: TestCluster,
    pub(crate) metrics: Scope,
    grpc: axum::Router,
    http: axum::Router,
    /// Where the file of SQLite is.
    _folder: Option<TempDir>,
}

/// The configuration of the recording (recorded/README.md).
pub(crate) fn config() -> AdminConfig {
    let domain = |name: &str| DomainConfig {
        id: name.to_owned(),
        name: name.to_owned(),
    };
    let resources = |cpu: &str, memory: &str, gpu: &str| ResourceSetConfig {
        cpu: cpu.to_owned(),
        memory: memory.to_owned(),
        gpu: gpu.to_owned(),
        ..ResourceSetConfig::default()
    };
    AdminConfig {
        domains: DomainsConfig(
            ["development", "staging", "production", "domain"]
                .map(domain)
                .to_vec(),
        ),
        task_resources: TaskResourcesConfig {
            defaults: resources("100m", "100Mi", ""),
            limits: resources("4", "4Gi", "1"),
        },
        ..AdminConfig::default()
    }
}

impl World {
    /// A fresh admin with project flytesnacks, whose namespaces exist.
    pub(crate) async fn start(store: Store) -> Self {
        Self::start_with(store, config()).await
    }

    pub(crate) async fn start_with(store: Store, config: impl Into<LiveConfig>) -> Self {
        Self::start_over(store, config, BlobStore::in_memory()).await
    }

    /// As [`World::start_with`], with a blob store of the test's own.
    pub(crate) async fn start_over(
        store: Store,
        config: impl Into<LiveConfig>,
        blobs: BlobStore,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = database_config(store, folder.path());
        Self {
            _folder: Some(folder),
            ..Self::begin(&database, config, blobs).await
        }
    }

    /// As [`World::start_with`], on a database of the test's own.
    pub(crate) async fn start_on(database: &DatabaseConfig, config: impl Into<LiveConfig>) -> Self {
        Self::begin(database, config, BlobStore::in_memory()).await
    }

    async fn begin(
        database: &DatabaseConfig,
        config: impl Into<LiveConfig>,
        blobs: BlobStore,
    ) -> Self {
        let database = Database::open(database).await.unwrap();
        let cluster = TestCluster::start().await;
        let metrics = Scope::new("").labelled_by(LabelKeys::of_the_single_binary());
        let dependencies = Dependencies {
            database: database.clone(),
            blobs: blobs.clone(),
            targets: ExecutionTargets::single(cluster.client()),
            clock: Clock::system(),
            metrics: metrics.clone(),
        };
        let admin = flyte_admin::wire(dependencies, config).unwrap();
        admin.migrate().await.unwrap();
        admin
            .seed_projects(&[("flytesnacks".to_owned(), String::new())])
            .await
            .unwrap();
        admin.sync_cluster_resources().await.unwrap();
        Self {
            grpc: admin.grpc().prepare().into_axum_router(),
            http: admin.http(),
            admin,
            database,
            blobs,
            cluster,
            metrics,
            _folder: None,
        }
    }

    /// A second admin on the same database, blobs and cluster.
    pub(crate) fn replica(&self) -> Admin {
        self.replica_over(self.blobs.clone())
    }

    /// The same world, served by an admin with these blobs.
    pub(crate) fn over(self, blobs: BlobStore) -> Self {
        let admin = self.replica_over(blobs.clone());
        Self {
            grpc: admin.grpc().prepare().into_axum_router(),
            http: admin.http(),
            admin,
            blobs,
            ..self
        }
    }

    fn replica_over(&self, blobs: BlobStore) -> Admin {
        let dependencies = Dependencies {
            database: self.database.clone(),
            blobs,
            targets: ExecutionTargets::single(self.cluster.client()),
            clock: Clock::system(),
            metrics: Scope::new(""),
        };
        flyte_admin::wire(dependencies, config()).unwrap()
    }

    /// A client of the health service.
    pub(crate) fn health(&self) -> HealthClient<axum::Router> {
        HealthClient::new(self.grpc.clone())
    }

    /// Calls `package.Service/Method` with a request in JSON.
    pub(crate) async fn call(&self, rpc: &str, request: &Value) -> Result<DynamicMessage, Status> {
        self.send(rpc, &message(rpc, request)).await
    }

    /// Calls `package.Service/Method`.
    pub(crate) async fn send(
        &self,
        rpc: &str,
        request: &DynamicMessage,
    ) -> Result<DynamicMessage, Status> {
        let answer = self.call_bytes(rpc, request.encode_to_vec()).await?;
        Ok(DynamicMessage::decode(method(rpc).output(), answer.as_slice()).unwrap())
    }

    /// Calls an RPC of AdminService with a generated message.
    pub(crate) async fn admin<Q, A>(&self, method: &str, request: &Q) -> Result<A, Status>
    where
        Q: Message + Name,
        A: Message + Default,
    {
        let rpc = format!("flyteidl.service.AdminService/{method}");
        let answer = self.call_bytes(&rpc, request.encode_to_vec()).await?;
        Ok(A::decode(answer.as_slice()).unwrap())
    }

    /// Calls an RPC of AdminService with JSON and reads the answer as a generated message.
    pub(crate) async fn get<A>(&self, method: &str, request: &Value) -> Result<A, Status>
    where
        A: Message + Default,
    {
        let rpc = format!("flyteidl.service.AdminService/{method}");
        let answer = self.call(&rpc, request).await?;
        Ok(A::decode(answer.encode_to_vec().as_slice()).unwrap())
    }

    async fn call_bytes(&self, rpc: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        self.call_frame(rpc, frame).await
    }

    /// Calls an RPC with the bytes of a whole body.
    pub(crate) async fn call_frame(&self, rpc: &str, frame: Vec<u8>) -> Result<Vec<u8>, Status> {
        let request = Request::post(format!("/{rpc}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::from(frame))
            .unwrap();
        let response = self.grpc.clone().oneshot(request).await.unwrap();
        if let Some(status) = Status::from_header_map(response.headers())
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        let collected = response.into_body().collect().await.unwrap();
        let status = collected.trailers().and_then(Status::from_header_map);
        match status {
            Some(status) if status.code() != Code::Ok => Err(status),
            _ => Ok(collected.to_bytes()[5..].to_vec()),
        }
    }

    /// An HTTP request to the gateway.
    pub(crate) async fn http(&self, request: Request<Body>) -> Response<axum::body::Bytes> {
        let response = self.http.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Response::from_parts(parts, body)
    }
}

fn method(rpc: &str) -> MethodDescriptor {
    let (service, method) = rpc.split_once('/').unwrap();
    descriptors::pool()
        .get_service_by_name(service)
        .unwrap()
        .methods()
        .find(|known| known.name() == method)
        .unwrap()
}

/// The request message of an RPC.
pub(crate) fn message(rpc: &str, request: &Value) -> DynamicMessage {
    let text = request.to_string();
    json::dynamic_from_slice(Unknown::Refuse, &method(rpc).input(), text.as_bytes()).unwrap()
}

/// The golden data of a file, a line a value.
pub(crate) fn recorded(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(file);
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Text of a member, empty if it has none.
pub(crate) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

/// Go's name of a code.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unknown => "UNKNOWN",
        _ => "other",
    }
}

/// A new database of its own.
pub(crate) fn database_config(store: Store, folder: &Path) -> DatabaseConfig {
    match store {
        Store::Sqlite => DatabaseConfig::sqlite(folder.join("admin.db")),
        Store::Postgres => flyte_postgres::database(),
    }
}
