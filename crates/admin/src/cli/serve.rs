//! `serve` and `clusterresource run`: the long-lived processes.

use std::{net::SocketAddr, time::Duration};

use flyte_platform::{
    Clock, Tasks,
    blob::BlobStore,
    cli, kubernetes,
    metrics::{LabelKeys, Scope},
    server::{self, BuildInformation, Stopping},
    sql::Database,
    telemetry, tls,
};
use tokio_util::sync::CancellationToken;

use super::{loaded::Loaded, outcome::Outcome, ports::Ports};
use crate::{Admin, Dependencies, config::LiveConfig, targets::ExecutionTargets, wire};

/// What the ports have to close connections after the grace.
const CLOSING: Duration = Duration::from_secs(2);

/// The key of the port of metrics and health.
const PROFILER: &str = "flyteadmin.profilerPort";

/// What a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    /// The API and the loops.
    Everything,
    /// The cluster-resource loop alone.
    ClusterResources,
}

/// Opens what the configuration names and wires admin; `home` is the user's folder.
pub(super) async fn connect(
    config: impl Into<LiveConfig>,
    home: Option<String>,
    metrics: Scope,
) -> Outcome<Admin> {
    tls::install_crypto_provider();
    let live = config.into();
    let config = live.now();
    let client = kubernetes::client(config.server.api_server(), |name| {
        home.clone().filter(|_| name == "HOME")
    })
    .await?;
    let dependencies = Dependencies {
        database: Database::open_as(&config.database, "flyteadmin").await?,
        blobs: BlobStore::open(&config.storage)?,
        targets: ExecutionTargets::single(client),
        clock: Clock::system(),
        metrics,
    };
    Ok(wire(dependencies, live)?)
}

/// Runs until SIGTERM or SIGINT, then ends within the configured grace.
pub(super) async fn run(loaded: Loaded, parts: Parts) -> Outcome {
    let ports = Ports::of(&loaded.admin.server)?;
    let telemetry = telemetry::install(&loaded.logger, &loaded.otel, "flyteadmin")?;
    let mut reload = loaded.reload;
    telemetry.follow(&mut reload);
    let config = loaded.admin;
    let (limits, grace) = (ports.limits, ports.grace);
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    let live = LiveConfig::following(config.clone(), &mut reload);
    tasks.spawn_infallible("configuration", reload.run(stop.child_token()));
    let metrics = Scope::new("").labelled_by(LabelKeys::new(&config.flyteadmin.metrics_keys));
    let profiler = server::operations(metrics.clone(), BuildInformation::THIS, loaded.shown);
    let admin = connect(live, loaded.home, metrics).await?;
    match parts {
        Parts::ClusterResources => admin.spawn_cluster_resources(&mut tasks),
        Parts::Everything => {
            admin.spawn(&mut tasks);
            let router = server::combine(admin.grpc(), admin.http());
            ports.serve(&mut tasks, &router).await?;
        }
    }
    let address = SocketAddr::from(([0, 0, 0, 0], config.flyteadmin.profiler_port));
    let listener = server::bind(address, PROFILER, &format!("--{PROFILER}")).await?;
    let stopping = Stopping {
        stop: stop.child_token(),
        grace,
    };
    tasks.spawn_infallible(
        PROFILER,
        server::serve_within(limits, listener, None, profiler, stopping),
    );
    cli::stop_on_signals(&mut tasks);
    // The ports close what outlives the grace, and end after it.
    Ok(tasks.run_until_stopped(grace + CLOSING).await?)
}
