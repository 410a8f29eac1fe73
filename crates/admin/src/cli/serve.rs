//! `serve` and `clusterresource run`: the long-lived processes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use flyte_platform::{
    Clock, Tasks,
    blob::BlobStore,
    cli,
    metrics::{LabelKeys, Scope},
    server::{self, BuildInformation},
    sql::Database,
    telemetry, tls,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_util::sync::CancellationToken;

use super::{Loaded, Outcome};
use crate::{
    Admin, Dependencies,
    config::{AdminConfig, LiveConfig, ServerConfig},
    targets::ExecutionTargets,
    wire,
};

/// What the ports have to close connections after the grace.
const CLOSING: Duration = Duration::from_secs(2);

/// What a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    /// The API and the loops.
    Everything,
    /// The cluster-resource loop alone.
    ClusterResources,
}

/// Opens what the configuration names and wires admin.
pub(super) async fn connect(config: impl Into<LiveConfig>, metrics: Scope) -> Outcome<Admin> {
    tls::install_crypto_provider();
    let live = config.into();
    let config = live.now();
    let dependencies = Dependencies {
        database: Database::open(&config.database).await?,
        blobs: BlobStore::open(&config.storage)?,
        targets: ExecutionTargets::single(kubernetes(&config.server).await?),
        clock: Clock::system(),
        metrics,
    };
    Ok(wire(dependencies, live)?)
}

/// The client of the one cluster: a kubeconfig, else the pod's service account (spec 03 §3.1).
async fn kubernetes(server: &ServerConfig) -> Outcome<kube::Client> {
    let mut config = if server.kube_config.is_empty() {
        kube::Config::infer().await?
    } else {
        let file = Kubeconfig::read_from(&server.kube_config)?;
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
    };
    if !server.master.is_empty() {
        config.cluster_url = server.master.parse()?;
    }
    let timeout = server.kube_client_config.timeout.to_std();
    config.connect_timeout = Some(timeout);
    config.read_timeout = Some(timeout);
    Ok(kube::Client::try_from(config)?)
}

/// Runs until SIGTERM or SIGINT, then ends within the configured grace.
pub(super) async fn run(loaded: Loaded, parts: Parts) -> Outcome {
    require_built(&loaded.admin)?;
    let telemetry = telemetry::install(&loaded.logger, &loaded.otel, "flyteadmin")?;
    let mut reload = loaded.reload;
    telemetry.follow(&mut reload);
    let config = loaded.admin;
    config.warn_of_unused_keys();
    let grace = Duration::from_secs(u64::from(config.server.graceful_shutdown_timeout_seconds));
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    let live = LiveConfig::following(config.clone(), &mut reload);
    tasks.spawn_infallible("configuration", reload.run(stop.child_token()));
    let metrics = Scope::new("").labelled_by(LabelKeys::new(&config.flyteadmin.metrics_keys));
    let profiler = server::operations(metrics.clone(), BuildInformation::THIS, loaded.shown);
    let mut listeners = vec![(
        config.flyteadmin.profiler_port,
        "flyteadmin.profilerPort",
        None,
        profiler,
    )];
    let limits = config.server.connection_limits();
    let ports = ports(&config.server);
    tls::install_crypto_provider();
    let tls = acceptor(&config.server)?;
    let admin = connect(live, metrics).await?;
    match parts {
        Parts::ClusterResources => admin.spawn_cluster_resources(&mut tasks),
        Parts::Everything => {
            admin.spawn(&mut tasks);
            let router = server::combine(admin.grpc(), admin.http());
            for (port, key) in ports {
                listeners.push((port, key, tls.clone(), router.clone()));
            }
        }
    }
    for (port, key, tls, router) in listeners {
        let address = SocketAddr::from(([0, 0, 0, 0], port));
        let listener = server::bind(address, key, &format!("--{key}")).await?;
        tasks.spawn_infallible(
            key,
            server::serve_within(limits, listener, tls, router, (stop.child_token(), grace)),
        );
    }
    cli::stop_on_signals(&mut tasks);
    // The ports close what outlives the grace, and end after it.
    Ok(tasks.run_until_stopped(grace + CLOSING).await?)
}

/// Ports and the keys that set them; both serve gRPC and REST.
fn ports(server: &ServerConfig) -> Vec<(u16, &'static str)> {
    if server.security.secure {
        return vec![(server.http_port, "server.httpPort")];
    }
    let grpc = match server.grpc.port {
        negative if negative < 0 => server.grpc_port,
        port => port,
    };
    let mut ports = vec![(server.http_port, "server.httpPort")];
    if let Ok(grpc) = u16::try_from(grpc)
        && grpc != 0
        && grpc != server.http_port
    {
        ports.push((grpc, "server.grpc.port"));
    }
    ports
}

/// Refuses settings whose part is not built: serving without them would be less safe than asked for.
fn require_built(config: &AdminConfig) -> Outcome {
    if config.server.security.use_auth {
        return Err(
            "server.security.useAuth: authentication is not built yet; set it to false".into(),
        );
    }
    if !config.cluster_resources.template_path.is_empty() {
        tracing::warn!(
            "cluster_resources.templatePath: templates are not built yet; namespaces are created"
        );
    }
    Ok(())
}

/// TLS of the listeners, if it is on.
fn acceptor(server: &ServerConfig) -> Outcome<Option<TlsAcceptor>> {
    if !server.security.secure {
        return Ok(None);
    }
    let ssl = &server.security.ssl;
    let certificates = CertificateDer::pem_file_iter(&ssl.certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| {
            format!(
                "server.security.ssl.certificateFile {:?}: {error}",
                ssl.certificate_file
            )
        })?;
    let key = PrivateKeyDer::from_pem_file(&ssl.key_file)
        .map_err(|error| format!("server.security.ssl.keyFile {:?}: {error}", ssl.key_file))?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
