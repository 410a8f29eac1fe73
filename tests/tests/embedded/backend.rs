//! The backend under test.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use flyte::embedded::services::{BUCKET, Backends, JSON_DEPTH, Services};
use flyte_crd::FlyteWorkflow;
use flyte_idl::service::admin_service_client::AdminServiceClient;
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
use futures::StreamExt as _;
use kube::{
    Api, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Longer than this and nothing comes any more.
const WITHIN: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(5);
const NAMESPACE: &str = "flytesnacks-development";

/// A running backend; its files go when it is dropped.
pub(crate) struct Backend {
    /// Where HTTP and gRPC are served.
    pub(crate) address: SocketAddr,
    /// What the engine is given.
    pub(crate) in_process: Channel,
    kube: kube::Client,
    tasks: Tasks,
    _folder: tempfile::TempDir,
}

impl Backend {
    /// Starts one; returns when it is ready.
    pub(crate) async fn start() -> Self {
        tls::install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("cluster.db"))
            .await
            .unwrap();
        let options = ClusterOptions {
            json_depth: JSON_DEPTH,
            ..ClusterOptions::default()
        };
        let cluster = Cluster::new(store, options).await.unwrap();
        let blobs = Arc::new(BlobFolder::open(&folder.path().join("blobs")).unwrap());
        blobs.create_bucket(BUCKET).unwrap();
        let services = Services::open(Backends {
            cluster: cluster.client(),
            blobs: BlobStore::over("s3", BUCKET, Arc::new(BlobBucket::new(blobs, BUCKET)), None),
            storage: StorageConfig::default(),
            database: DatabaseConfig::sqlite(folder.path().join("admin.db")),
            catalog: DatabaseConfig::sqlite(folder.path().join("datacatalog.db")),
            cache_retention: None,
            clock: Clock::system(),
            metrics: Scope::new(""),
        })
        .await
        .unwrap();
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        services.spawn(&mut tasks);
        let (channel, in_process) =
            server::in_process(services.in_process_router(), stop.child_token());
        tasks.spawn_infallible("in-process API", in_process);
        let listener = server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "API", "")
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn_infallible(
            "API",
            server::serve(listener, None, services.router(), stop.child_token(), GRACE),
        );
        let engine = services.engine(channel.clone(), address.port()).unwrap();
        let (mut engine_ready, mut admin_ready) =
            (engine.readiness(), services.admin().readiness());
        tasks.spawn("engine", engine.run(stop.child_token()));
        engine_ready.wait_for(|ready| *ready).await.unwrap();
        admin_ready.wait_for(|ready| *ready).await.unwrap();
        Self {
            address,
            in_process: channel,
            kube: cluster.client(),
            tasks,
            _folder: folder,
        }
    }

    /// A client of the API over TCP, as users have it.
    pub(crate) async fn client(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.outside().await).max_decoding_message_size(64 << 20)
    }

    /// A channel over TCP.
    pub(crate) async fn outside(&self) -> Channel {
        let address = format!("http://{}", self.address);
        let channel = Channel::from_shared(address).unwrap();
        channel.connect().await.unwrap()
    }

    /// Waits until the engine has let an execution go.
    pub(crate) async fn ended(&self, name: &str) {
        // Only metadata is watched: the whole resource may be deeper than kube reads.
        let api: Api<PartialObjectMeta<FlyteWorkflow>> =
            Api::namespaced(self.kube.clone(), NAMESPACE);
        let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut seen = watcher(api, one).applied_objects().boxed();
        let ended = async {
            while let Some(found) = seen.next().await {
                if found.unwrap().finalizers().is_empty() {
                    return;
                }
            }
            panic!("the watch of {name} ended");
        };
        tokio::time::timeout(WITHIN, ended).await.unwrap();
    }

    /// Ends it.
    pub(crate) async fn stop(self) {
        self.tasks.stop_token().cancel();
        self.tasks.run_until_stopped(GRACE).await.unwrap();
    }
}
