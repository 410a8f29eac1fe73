//! Kubernetes API, kubelet and S3 together, over one data folder.
//!
//! ```text
//! <data>/cluster.db     objects of the Kubernetes API
//! <data>/access.json    certificate and token (0600)
//! <data>/kubeconfig     for kubectl and other processes (0600)
//! <data>/node/          folders and records of pods
//! <data>/blobs/         buckets
//! ```

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleError;
use axum::extract::Request;
use flyte_platform::server::{
    AllowedHosts, ConnectionLimits, Guard, PagesRead, Stopping, serve_within,
};
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};

use crate::access::{Access, AccessError, Authenticated};
use crate::arriving::Within;
use crate::cluster::{
    ApiStatus, Cluster, ClusterError, ClusterOptions, SqliteStore, StoreError, error_response,
};
use crate::collection::{Collector, Retention};
use crate::kubelet::{Kubelet, KubeletError, KubeletOptions};
use crate::s3::{BlobBucket, BlobError, BlobFolder, Credentials, S3Endpoint};

/// How long requests may go on after the end was asked for; watches and followed logs would never end themselves.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

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
        /// `the Kubernetes API` or `the S3 endpoint`.
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

/// A running embedded platform.
#[derive(Debug)]
pub struct LocalPlatform {
    cluster: Cluster,
    blobs: Arc<BlobFolder>,
    bucket: String,
    kubeconfig: PathBuf,
    kubernetes: SocketAddr,
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
        let kubernetes = address_of("the Kubernetes API", &listeners.kubernetes)?;
        let s3 = address_of("the S3 endpoint", &listeners.s3)?;
        let data = options.data_dir;
        make_private(&data).map_err(|source| PlatformError::Folder {
            folder: data.clone(),
            source,
        })?;
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
        let blobs = Arc::new(BlobFolder::open(&data.join("blobs"))?);
        blobs.create_bucket(&options.bucket)?;
        let reachable = reachable_host(&options.host);
        let s3_url = format!("http://{reachable}:{}", s3.port());
        let mut node = options.node;
        node.folder = data.join("node");
        node.environment = storage_environment(&s3_url, &options.credentials)
            .chain(node.environment)
            .collect();
        let kubelet = Kubelet::new(cluster.client(), node).await?;
        cluster.set_log_source(kubelet.log_source());
        let (mut ready, watch_error) = (kubelet.ready(), kubelet.watch_error());
        let stop_servers = CancellationToken::new();
        let mut servers = JoinSet::new();
        let hosts = AllowedHosts::new(&options.host);
        let programs_only = Guard::new(hosts.clone(), PagesRead::Nothing, |foreign| {
            error_response(&ApiStatus::foreign(&foreign.to_string()))
        });
        let api = Authenticated::new(cluster.service().aside(), &access.token);
        let api = programs_only.layer(api);
        // As long as an answer may wait for its client.
        let whole = Within::Whole(limits.write_timeout);
        let api = api.map_request(move |request: Request| request.map(|body| whole.bound(body)));
        let stopping = Stopping {
            stop: stop_servers.clone(),
            grace: LAST_REQUESTS,
        };
        servers.spawn(serve_within(
            limits,
            listeners.kubernetes,
            Some(TlsAcceptor::from(tls)),
            Router::new().fallback_service(api),
            stopping.clone(),
        ));
        let pages_too = Guard::new(hosts, PagesRead::Everything, |foreign| {
            S3Endpoint::denied(&foreign.to_string())
        });
        let endpoint = pages_too.layer(S3Endpoint::new(blobs.clone(), &options.credentials));
        let piece = Within::Piece(limits.write_timeout);
        let endpoint =
            endpoint.map_request(move |request: Request| request.map(|body| piece.bound(body)));
        let endpoint = HandleError::new(endpoint, async |error: s3s::HttpError| {
            tracing::warn!(?error, "a request to S3 could not be answered");
            StatusCode::INTERNAL_SERVER_ERROR
        });
        servers.spawn(serve_within(
            limits,
            listeners.s3,
            None,
            Router::new().fallback_service(endpoint),
            stopping,
        ));
        let collector = Collector::new(blobs.clone(), &*options.bucket, options.retention);
        servers.spawn(collector.run(cluster.clone(), now, stop_servers.clone()));
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
        let kubeconfig = data.join("kubeconfig");
        access.write_kubeconfig(
            &kubeconfig,
            &format!("https://{reachable}:{}", kubernetes.port()),
        )?;
        Ok(Self {
            cluster,
            blobs,
            bucket: options.bucket,
            kubeconfig,
            kubernetes,
            s3,
            s3_url,
            kubelet: kubelets,
            servers,
            stop,
            stop_servers,
        })
    }

    /// The Kubernetes API.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
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

    /// Where the Kubernetes API listens.
    #[must_use]
    pub fn kubernetes_address(&self) -> SocketAddr {
        self.kubernetes
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

/// Makes the folder and shuts others out of it.
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
