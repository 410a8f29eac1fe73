//! Kubernetes API, kubelet and S3 together, over one data folder.
//!
//! ```text
//! <data>/cluster.db     objects of the Kubernetes API
//! <data>/access.json    certificate and token (0600)
//! <data>/kubeconfig     for kubectl and other processes (0600)
//! <data>/node/          folders and records of pods
//! <data>/blobs/         buckets
//! ```
//!
//! Where another API server is given ([`LocalPlatform::join`]), `cluster.db` and `kubeconfig` are not made, and this machine is a node there.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flyte_platform::server::ConnectionLimits;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, AccessError};
use crate::cluster::{Cluster, ClusterError, ClusterOptions, SqliteStore, StoreError};
use crate::collection::{Collector, Retention};
use crate::kubelet::{Kubelet, KubeletError, KubeletOptions};
use crate::s3::{BlobBucket, BlobError, BlobFolder, Credentials};

mod ports;

use ports::Ports;

/// Settings of a [`LocalPlatform`].
#[derive(Debug, Clone)]
pub struct PlatformOptions {
    /// Where everything is kept; made, private to this user, if it is missing.
    pub data_dir: PathBuf,
    /// Address or name to listen on, such as `127.0.0.1`.
    pub host: String,
    /// Port of the Kubernetes API; 0 takes any.
    pub kubernetes_port: u16,
    /// Port of the S3 endpoint; 0 takes any.
    pub s3_port: u16,
    /// The one key of the S3 endpoint.
    pub credentials: Credentials,
    /// The bucket that is made if it is missing.
    pub bucket: String,
    /// How long files of executions that ended are kept in the bucket.
    pub retention: Retention,
    /// How deep JSON may nest in the Kubernetes API, see [`ClusterOptions::json_depth`].
    pub json_depth: usize,
    /// The node. Its `folder` is replaced by one in the data folder, and the storage variables that flytekit reads
    /// (spec 08 C13) are put before its `environment`.
    pub node: KubeletOptions,
}

/// An API server that is not ours, and the file that says how it is reached.
#[derive(Clone)]
pub struct ApiServer {
    /// Its client.
    pub client: kube::Client,
    /// The kubeconfig that the client was made of.
    pub kubeconfig: PathBuf,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ApiServer")
            .field("kubeconfig", &self.kubeconfig)
            .finish_non_exhaustive()
    }
}

/// Ports that are taken already, for who wants them taken before anything else is done.
#[derive(Debug)]
pub struct Listeners {
    /// Of the Kubernetes API.
    pub kubernetes: TcpListener,
    /// Of the S3 endpoint.
    pub s3: TcpListener,
}

/// The embedded platform cannot start, or a part of it ended.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// A port is taken, or the host is not of this machine.
    #[error("{what} cannot listen on {address}")]
    Listen {
        /// `the Kubernetes API`, `the S3 endpoint` or `the kubelet`.
        what: &'static str,
        /// Host and port.
        address: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The data folder cannot be made or is not writable.
    #[error("the data folder {} cannot be used", folder.display())]
    Folder {
        /// The folder that could not be made or read.
        folder: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// Certificate or kubeconfig.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The database of the Kubernetes API.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The objects of the Kubernetes API.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The folder of the buckets could not be opened.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The kubelet could not start.
    #[error(transparent)]
    Kubelet(#[from] KubeletError),
    /// The nodes of an API server cannot be listed.
    #[error("the nodes of the Kubernetes API server cannot be listed")]
    Nodes(#[source] Box<kube::Error>),
    /// An API server has other nodes, whose pods are not this machine's to run.
    #[error(
        "the Kubernetes API server has nodes of its own ({}): pods that wait for them would run here as processes of your \
         user; name an API server without nodes",
        names.join(", ")
    )]
    OtherNodes {
        /// Their names; no more than three.
        names: Vec<String>,
    },
    /// The node did not come up in time.
    #[error("the node is not ready within {} s: {why}", READY_WITHIN.as_secs())]
    NotReady {
        /// What it waits for.
        why: String,
    },
    /// A part ended by a panic.
    #[error("a part of the embedded platform failed")]
    Panic(#[from] tokio::task::JoinError),
}

/// How long the node may take to list its pods: a second or two with ten thousand of them.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How many foreign nodes are named.
const NODES_NAMED: usize = 3;

/// The Kubernetes API of a platform.
#[derive(Debug)]
enum KubernetesApi {
    Embedded {
        cluster: Cluster,
        address: SocketAddr,
    },
    Given(ApiServer),
}

/// A running embedded platform.
#[derive(Debug)]
pub struct LocalPlatform {
    api: KubernetesApi,
    blobs: Arc<BlobFolder>,
    bucket: String,
    kubeconfig: PathBuf,
    s3: SocketAddr,
    s3_url: String,
    kubelet: JoinSet<Result<(), KubeletError>>,
    servers: JoinSet<()>,
    stop: CancellationToken,
    stop_servers: CancellationToken,
}

impl LocalPlatform {
    /// Starts everything; returns when the API answers, the node is registered and all pods are known. Ports are taken first
    /// and the folder is written last, so that a start that fails leaves nothing behind.
    ///
    /// # Errors
    /// A port is taken, or the folder or what it holds cannot be used.
    pub async fn start(
        options: PlatformOptions,
        stop: CancellationToken,
    ) -> Result<Self, PlatformError> {
        let host = &options.host;
        let listeners = Listeners {
            kubernetes: listen("the Kubernetes API", host, options.kubernetes_port).await?,
            s3: listen("the S3 endpoint", host, options.s3_port).await?,
        };
        Self::start_on(listeners, options, stop).await
    }

    /// As [`LocalPlatform::start`], on ports that are taken already; those of the options are not used.
    ///
    /// # Errors
    /// The folder or what it holds cannot be used.
    pub async fn start_on(
        listeners: Listeners,
        options: PlatformOptions,
        stop: CancellationToken,
    ) -> Result<Self, PlatformError> {
        Self::start_within(ConnectionLimits::default(), listeners, options, stop).await
    }

    /// As [`LocalPlatform::start_on`], where the connections of each port have other limits than the default ones.
    ///
    /// # Errors
    /// The folder or what it holds cannot be used.
    pub async fn start_within(
        limits: ConnectionLimits,
        listeners: Listeners,
        options: PlatformOptions,
        stop: CancellationToken,
    ) -> Result<Self, PlatformError> {
        let address = address_of("the Kubernetes API", &listeners.kubernetes)?;
        let s3 = address_of("the S3 endpoint", &listeners.s3)?;
        let data = &options.data_dir;
        private(data)?;
        let access_file = data.join("access.json");
        let access = Access::load(&access_file, &options.host)?;
        let tls = access.tls(&access_file)?;
        let store = SqliteStore::open(&data.join("cluster.db")).await?;
        let now = options.node.now.clone();
        let cluster_options = ClusterOptions {
            now: now.clone(),
            json_depth: options.json_depth,
            ..ClusterOptions::default()
        };
        let cluster = Cluster::new(store, cluster_options).await?;
        let blobs = open_bucket(&options)?;
        let s3_url = format!("http://{}:{}", reachable_host(&options.host), s3.port());
        let kubelet = new_kubelet(cluster.client(), &options, &s3_url).await?;
        cluster.set_log_source(kubelet.log_source());
        let ports = Ports::new(limits, &options.host);
        let stop_servers = ports.stop_token();
        let mut servers = JoinSet::new();
        servers.spawn(ports.kubernetes(listeners.kubernetes, tls, &cluster, &access));
        servers.spawn(ports.s3(listeners.s3, &blobs, &options.credentials));
        let collector = Collector::new(blobs.clone(), &*options.bucket, options.retention);
        servers.spawn(collector.run(cluster.clone(), now, stop_servers.clone()));
        let kubelet = run_until_ready(kubelet, &stop).await?;
        let kubeconfig = data.join("kubeconfig");
        access.write_kubeconfig(
            &kubeconfig,
            &format!(
                "https://{}:{}",
                reachable_host(&options.host),
                address.port()
            ),
        )?;
        Ok(Self {
            api: KubernetesApi::Embedded { cluster, address },
            blobs,
            bucket: options.bucket,
            kubeconfig,
            s3,
            s3_url,
            kubelet,
            servers,
            stop,
            stop_servers,
        })
    }

    /// A platform without a Kubernetes API: this machine is the only node of `server`, and puts every pod on itself. Nothing of
    /// the bucket is collected, whatever the retention: which executions run is read from an embedded API alone.
    ///
    /// # Errors
    /// The folder or what it holds cannot be used, the API server does not answer, or it has other nodes.
    pub async fn join(
        server: ApiServer,
        s3_listener: TcpListener,
        mut options: PlatformOptions,
        stop: CancellationToken,
    ) -> Result<Self, PlatformError> {
        refuse_other_nodes(&server.client, &options.node.node_name).await?;
        let s3 = address_of("the S3 endpoint", &s3_listener)?;
        private(&options.data_dir)?;
        let blobs = open_bucket(&options)?;
        let s3_url = format!("http://{}:{}", reachable_host(&options.host), s3.port());
        // The API server asks for logs there, so that it must be on this machine for that.
        let logs = listen("the kubelet", "127.0.0.1", 0).await?;
        let logs_port = address_of("the kubelet", &logs)?.port();
        options.node.port = Some(logs_port);
        let access_file = options.data_dir.join("access.json");
        let tls = Access::load(&access_file, &options.host)?.tls(&access_file)?;
        let kubelet = new_kubelet(server.client.clone(), &options, &s3_url).await?;
        let ports = Ports::new(ConnectionLimits::default(), &options.host);
        let stop_servers = ports.stop_token();
        let mut servers = JoinSet::new();
        servers.spawn(ports.s3(s3_listener, &blobs, &options.credentials));
        servers.spawn(ports.kubelet(logs, tls, kubelet.endpoint()));
        let kubelet = run_until_ready(kubelet, &stop).await?;
        Ok(Self {
            kubeconfig: server.kubeconfig.clone(),
            api: KubernetesApi::Given(server),
            blobs,
            bucket: options.bucket,
            s3,
            s3_url,
            kubelet,
            servers,
            stop,
            stop_servers,
        })
    }

    /// A client of the Kubernetes API, whichever that is.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        match &self.api {
            KubernetesApi::Embedded { cluster, .. } => cluster.client(),
            KubernetesApi::Given(server) => server.client.clone(),
        }
    }

    /// The folder that the S3 port serves, a sub-folder for each bucket.
    #[must_use]
    pub fn blobs(&self) -> &Arc<BlobFolder> {
        &self.blobs
    }

    /// The bucket of the options, for services of this process.
    #[must_use]
    pub fn bucket(&self) -> BlobBucket {
        BlobBucket::new(self.blobs.clone(), self.bucket.clone())
    }

    /// The kubeconfig for other processes.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where the embedded Kubernetes API listens.
    #[must_use]
    pub fn kubernetes_address(&self) -> Option<SocketAddr> {
        match &self.api {
            KubernetesApi::Embedded { address, .. } => Some(*address),
            KubernetesApi::Given(_) => None,
        }
    }

    /// Where the S3 endpoint listens.
    #[must_use]
    pub fn s3_address(&self) -> SocketAddr {
        self.s3
    }

    /// The URL of the S3 endpoint, as task processes get it.
    #[must_use]
    pub fn s3_url(&self) -> &str {
        &self.s3_url
    }

    /// Runs until the token given at the start is cancelled or a part ends. The kubelet goes first: its pods end, and their
    /// status is written, while API and S3 still answer.
    ///
    /// # Errors
    /// A part ended although nobody asked.
    pub async fn run(mut self) -> Result<(), PlatformError> {
        let ended = tokio::select! {
            Some(ended) = self.kubelet.join_next() => ended.map_err(PlatformError::from).and_then(|ended| Ok(ended?)),
            Some(ended) = self.servers.join_next() => ended.map_err(PlatformError::from),
        };
        self.stop.cancel();
        while let Some(other) = self.kubelet.join_next().await {
            other??;
        }
        self.stop_servers.cancel();
        while let Some(other) = self.servers.join_next().await {
            other?;
        }
        ended
    }
}

/// Opens the folder of buckets and makes the one of the options.
fn open_bucket(options: &PlatformOptions) -> Result<Arc<BlobFolder>, PlatformError> {
    let blobs = Arc::new(BlobFolder::open(&options.data_dir.join("blobs"))?);
    blobs.create_bucket(&options.bucket)?;
    Ok(blobs)
}

/// A kubelet whose pods find the bucket.
async fn new_kubelet(
    client: kube::Client,
    options: &PlatformOptions,
    s3_url: &str,
) -> Result<Kubelet, PlatformError> {
    let mut node = options.node.clone();
    node.folder = options.data_dir.join("node");
    node.environment = storage_environment(s3_url, &options.credentials)
        .chain(node.environment)
        .collect();
    Ok(Kubelet::new(client, node).await?)
}

/// Runs the kubelet, and returns when it has registered its node and knows all pods.
async fn run_until_ready(
    kubelet: Kubelet,
    stop: &CancellationToken,
) -> Result<JoinSet<Result<(), KubeletError>>, PlatformError> {
    let (mut ready, watch_error) = (kubelet.ready(), kubelet.watch_error());
    let mut kubelets = JoinSet::new();
    kubelets.spawn(kubelet.run(stop.child_token()));
    tokio::select! {
        _ = ready.wait_for(|ready| *ready) => {}
        Some(ended) = kubelets.join_next() => ended??,
        () = tokio::time::sleep(READY_WITHIN) => {
            let why = watch_error.borrow().clone();
            let why = why.unwrap_or_else(|| "its list of pods does not come".to_owned());
            return Err(PlatformError::NotReady { why });
        }
    }
    Ok(kubelets)
}

/// A cluster with nodes has workloads that are none of ours.
async fn refuse_other_nodes(client: &kube::Client, own: &str) -> Result<(), PlatformError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let first = u32::try_from(NODES_NAMED)
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    let listed = nodes
        .list_metadata(&ListParams::default().limit(first))
        .await
        .map_err(|error| PlatformError::Nodes(Box::new(error)))?;
    let others = listed
        .items
        .into_iter()
        .filter_map(|node| node.metadata.name);
    let names: Vec<String> = others
        .filter(|name| name != own)
        .take(NODES_NAMED)
        .collect();
    if names.is_empty() {
        Ok(())
    } else {
        Err(PlatformError::OtherNodes { names })
    }
}

async fn listen(what: &'static str, host: &str, port: u16) -> Result<TcpListener, PlatformError> {
    TcpListener::bind((host, port))
        .await
        .map_err(|source| PlatformError::Listen {
            what,
            address: format!("{host}:{port}"),
            source,
        })
}

fn address_of(what: &'static str, listener: &TcpListener) -> Result<SocketAddr, PlatformError> {
    listener
        .local_addr()
        .map_err(|source| PlatformError::Listen {
            what,
            address: "its port".to_owned(),
            source,
        })
}

/// Makes the data folder and shuts others out of it.
fn private(folder: &Path) -> Result<(), PlatformError> {
    make_private(folder).map_err(|source| PlatformError::Folder {
        folder: folder.to_owned(),
        source,
    })
}

fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// The host under which this machine reaches its own listener.
fn reachable_host(host: &str) -> String {
    match host {
        "0.0.0.0" | "::" | "127.0.0.1" | "::1" => "localhost".to_owned(),
        other if other.contains(':') => format!("[{other}]"),
        other => other.to_owned(),
    }
}

/// What flytekit reads to find the blob store (spec 08 C13).
fn storage_environment(
    url: &str,
    credentials: &Credentials,
) -> impl Iterator<Item = (String, String)> + use<> {
    let pairs = [
        ("FLYTE_AWS_ENDPOINT", url.to_owned()),
        ("FLYTE_AWS_ACCESS_KEY_ID", credentials.access_key.clone()),
        (
            "FLYTE_AWS_SECRET_ACCESS_KEY",
            credentials.secret_key.clone(),
        ),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
}
