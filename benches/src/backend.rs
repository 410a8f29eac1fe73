//! The embedded backend under measurement: what `flyte start` runs, with a node that ends pods at once.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use flyte::embedded::services::{BUCKET, Backends, JSON_DEPTH, Services};
use flyte_crd::FlyteWorkflow;
use flyte_idl::{
    admin::{ExecutionCreateRequest, ExecutionMetadata, ExecutionSpec},
    core::workflow_execution::Phase,
    service::admin_service_client::AdminServiceClient,
};
use flyte_local::{
    Cluster, ClusterOptions,
    cluster::SqliteStore,
    s3::{BlobBucket, BlobFolder},
};
use flyte_platform::{
    Clock, Tasks,
    blob::{BlobStore, StorageConfig},
    metrics::Scope,
    server,
    sql::DatabaseConfig,
    tls,
};
use kube::{Api, runtime::wait};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::{
    node,
    observe::{self, Endings, Writes},
    shapes::{DOMAIN, NAMESPACE, PROJECT, Shape},
};

/// Longer than this and nothing comes any more.
const LONGEST: Duration = Duration::from_secs(300);
/// How long open calls have at the end.
const GRACE: Duration = Duration::from_secs(10);

/// Whether executions are run or only created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// They run.
    On,
    /// Nobody runs them.
    Off,
}

/// A running backend.
pub(crate) struct Backend {
    /// Writes of API and engine.
    pub(crate) writes: Writes,
    /// Writes of the node.
    pub(crate) node_writes: Writes,
    /// Where calls are counted.
    pub(crate) metrics: Scope,
    /// A client of the cluster that nobody counts.
    pub(crate) outside: kube::Client,
    endings: Endings,
    address: SocketAddr,
    number: AtomicU64,
    tasks: Tasks,
}

impl Backend {
    /// Starts one in `folder`; returns when it is ready.
    pub(crate) async fn start(
        folder: &Path,
        database: DatabaseConfig,
        engine: Engine,
    ) -> anyhow::Result<Self> {
        tls::install_crypto_provider();
        let store = SqliteStore::open(&folder.join("cluster.db")).await?;
        let options = ClusterOptions {
            json_depth: JSON_DEPTH,
            ..ClusterOptions::default()
        };
        let cluster = Cluster::new(store, options).await?;
        let blobs = Arc::new(BlobFolder::open(&folder.join("blobs"))?);
        blobs.create_bucket(BUCKET)?;
        let (writes, node_writes) = (Writes::default(), Writes::default());
        let metrics = Scope::new("");
        let services = Services::open(Backends {
            cluster: writes.client(cluster.service()),
            blobs: BlobStore::over("s3", BUCKET, Arc::new(BlobBucket::new(blobs, BUCKET)), None),
            storage: StorageConfig::default(),
            database,
            catalog: DatabaseConfig::sqlite(folder.join("datacatalog.db")),
            cache_retention: None,
            clock: Clock::system(),
            metrics: metrics.clone(),
        })
        .await?;
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        services.spawn(&mut tasks);
        let endings = Endings::default();
        let router = services
            .router()
            .layer(axum::middleware::from_fn_with_state(
                endings.clone(),
                observe::hear,
            ));
        let (channel, in_process) = server::in_process(router.clone(), stop.child_token());
        tasks.spawn_infallible("in-process API", in_process);
        let listener = server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "gRPC", "").await?;
        let address = listener.local_addr()?;
        tasks.spawn_infallible(
            "API",
            server::serve(listener, None, router, stop.child_token(), GRACE),
        );
        tasks.spawn_infallible(
            "node",
            node::run(node_writes.client(cluster.service()), stop.child_token()),
        );
        let mut ready = services.admin().readiness();
        ready.wait_for(|ready| *ready).await?;
        if engine == Engine::On {
            let engine = services.engine(channel, address.port())?;
            let mut ready = engine.readiness();
            tasks.spawn("engine", engine.run(stop.child_token()));
            ready.wait_for(|ready| *ready).await?;
        }
        Ok(Self {
            writes,
            node_writes,
            metrics,
            outside: cluster.client(),
            endings,
            address,
            number: AtomicU64::new(0),
            tasks,
        })
    }

    /// A connection of its own to the API, over TCP as clients have.
    pub(crate) async fn connect(&self) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?;
        endpoint
            .connect()
            .await
            .context("the API cannot be reached")
    }

    fn request(&self, shape: &Shape) -> ExecutionCreateRequest {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        ExecutionCreateRequest {
            project: PROJECT.into(),
            domain: DOMAIN.into(),
            name: format!("bench-{number}"),
            spec: Some(ExecutionSpec {
                launch_plan: Some(shape.plan()),
                metadata: Some(ExecutionMetadata::default()),
                ..ExecutionSpec::default()
            }),
            ..ExecutionCreateRequest::default()
        }
    }

    /// Creates an execution and says how long the call took.
    pub(crate) async fn create(&self, channel: Channel, shape: &Shape) -> anyhow::Result<Duration> {
        let request = self.request(shape);
        let began = Instant::now();
        AdminServiceClient::new(channel)
            .create_execution(request)
            .await?;
        Ok(began.elapsed())
    }

    /// Runs an execution and says how long it took from the call that creates it until admin has it SUCCEEDED, and
    /// its name.
    pub(crate) async fn execute(
        &self,
        channel: Channel,
        shape: &Shape,
    ) -> anyhow::Result<(Duration, String)> {
        let request = self.request(shape);
        let name = request.name.clone();
        let ending = self.endings.of(&name);
        let began = Instant::now();
        AdminServiceClient::new(channel)
            .create_execution(request)
            .await?;
        let ending = tokio::time::timeout(LONGEST, ending)
            .await
            .with_context(|| format!("execution {name} has not ended within {LONGEST:?}"))??;
        anyhow::ensure!(
            ending.phase == Phase::Succeeded,
            "execution {name} ended {}",
            ending.phase.as_str_name()
        );
        Ok((ending.at.duration_since(began), name))
    }

    /// Waits until the engine has written its last word on the execution, so that writes can be counted.
    pub(crate) async fn settle(&self, name: &str) -> anyhow::Result<()> {
        let api: Api<FlyteWorkflow> = Api::namespaced(self.outside.clone(), NAMESPACE);
        let over = |workflow: Option<&FlyteWorkflow>| {
            workflow.is_none_or(|workflow| {
                workflow
                    .metadata
                    .finalizers
                    .as_ref()
                    .is_none_or(Vec::is_empty)
            })
        };
        tokio::time::timeout(LONGEST, wait::await_condition(api, name, over))
            .await
            .with_context(|| format!("resource {name} is not let go within {LONGEST:?}"))??;
        Ok(())
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.tasks.stop_token().cancel();
        Ok(self.tasks.run_until_stopped(GRACE).await?)
    }
}
