//! `serve` and `serve-dummy`: the long-lived processes.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use flyte_platform::{
    Chain, Clock, Tasks,
    blob::BlobStore,
    cli,
    metrics::{LabelKeys, Scope},
    server::{self, BuildInformation, Stopping},
    sql::Database,
    telemetry, tls,
};
use tokio_util::sync::CancellationToken;

use super::{Loaded, Outcome};
use crate::{
    config::ApplicationConfig,
    wire::{Dependencies, dummy, wire},
};

/// What open calls have at the end.
const GRACE: Duration = Duration::from_secs(10);

/// What the ports have to close connections after the grace.
const CLOSING: Duration = Duration::from_secs(2);

/// The key of the port of metrics and health.
const PROFILER: &str = "datacatalog.profiler-port";

/// Serves until SIGTERM or SIGINT, then ends within the grace.
pub(super) async fn run(loaded: Loaded) -> Outcome {
    tls::install_crypto_provider();
    let telemetry = telemetry::install(&loaded.logger, &loaded.otel, "datacatalog")?;
    let mut reload = loaded.reload;
    telemetry.follow(&mut reload);
    let config = loaded.catalog;
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    tasks.spawn_infallible("configuration", reload.run(stop.child_token()));
    let labels = LabelKeys::new(["app_name", "project", "domain"]);
    let metrics = Scope::new("").labelled_by(labels);
    let dependencies = Dependencies {
        database: Database::open_as(&config.database, "datacatalog").await?,
        blobs: BlobStore::open(&config.storage)?,
        clock: Clock::system(),
        metrics: metrics.clone(),
    };
    let catalog = wire(dependencies, &config.application, &config.datacatalog)?;
    let own = catalog.complete_own_tables().await;
    own.map_err(|error| {
        format!(
            "tables flyte_rs_* are missing and cannot be made; let `datacatalog migrate run` make them: {}",
            Chain(&error)
        )
    })?;
    let router = server::combine(catalog.grpc(), catalog.http());
    listen(&mut tasks, &config.application, &router).await?;
    catalog.spawn(&mut tasks);
    let profiler = server::operations(metrics, BuildInformation::THIS, loaded.shown);
    let port = (config.datacatalog.profiler_port, PROFILER);
    bind(&mut tasks, &config.application, port, profiler).await?;
    cli::stop_on_signals(&mut tasks);
    Ok(tasks.run_until_stopped(GRACE + CLOSING).await?)
}

/// Serves an API that answers UNIMPLEMENTED, without database and storage.
pub(super) async fn run_dummy(loaded: Loaded) -> Outcome {
    let _telemetry = telemetry::install(&loaded.logger, &loaded.otel, "datacatalog")?;
    let application = loaded.catalog.application;
    let mut tasks = Tasks::new(CancellationToken::new());
    let (grpc, http) = dummy(&application);
    listen(&mut tasks, &application, &server::combine(grpc, http)).await?;
    cli::stop_on_signals(&mut tasks);
    Ok(tasks.run_until_stopped(GRACE + CLOSING).await?)
}

/// Listens on the ports of section `application`; each serves both gRPC and HTTP.
async fn listen(tasks: &mut Tasks, application: &ApplicationConfig, router: &Router) -> Outcome {
    let grpc = (application.grpc_port, "application.grpcPort");
    bind(tasks, application, grpc, router.clone()).await?;
    if application.http_port != application.grpc_port {
        let http = (application.http_port, "application.httpPort");
        bind(tasks, application, http, router.clone()).await?;
    }
    Ok(())
}

async fn bind(
    tasks: &mut Tasks,
    application: &ApplicationConfig,
    (port, key): (u16, &'static str),
    router: Router,
) -> Outcome {
    let address = SocketAddr::from(([0, 0, 0, 0], port));
    let listener = server::bind(address, key, &format!("--{key}")).await?;
    let stopping = Stopping {
        stop: tasks.stop_token().child_token(),
        grace: GRACE,
    };
    let limits = application.connection_limits();
    tasks.spawn_infallible(
        key,
        server::serve_within(limits, listener, None, router, stopping),
    );
    Ok(())
}
