//! The command line of `flytepropeller` (spec 07 §5.4).

use std::{ffi::OsString, net::SocketAddr, process::ExitCode, time::Duration};

use clap::ArgMatches;
use flyte_platform::{
    Clock, Tasks,
    blob::{self, BlobStore, StorageConfig},
    cli::{self, Bootstrap, Program, Sections},
    client::{self, AdminClientConfig, EndpointError},
    config::Config,
    kubernetes,
    metrics::{LabelKeys, Scope},
    server::{self, BuildInformation, ProfConfig},
    telemetry::{self, LoggerConfig, OtelConfig},
};
use flyte_plugins::config::{EchoConfig, K8sConfig, LogsConfig, PluginsConfig, TasksConfig};
use tokio_util::sync::CancellationToken;

use crate::{
    CatalogService, Dependencies,
    config::{CatalogConfig, CatalogType, PropellerConfig},
    wire,
};

/// How long writes under way may take when the engine is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// What the engine is configured by.
pub struct EngineConfig {
    /// Section `propeller`.
    pub propeller: PropellerConfig,
    /// Sections of the plugins.
    pub plugins: PluginsConfig,
    /// Section `admin`.
    pub admin: AdminClientConfig,
    /// Section `catalog-cache`.
    pub catalog: CatalogConfig,
    /// Section `storage`.
    pub storage: StorageConfig,
    /// Section `logger`.
    pub logger: LoggerConfig,
    /// Section `otel`.
    pub otel: OtelConfig,
}

impl EngineConfig {
    /// Decodes the sections; problems are kept in `config`.
    pub fn read(config: &mut Config) -> Self {
        let k8s: K8sConfig = config.section("plugins.k8s");
        let environment = k8s
            .default_env_vars_from_env
            .0
            .values()
            .filter_map(|name| Some((name.clone(), config.variable(name)?.to_owned())))
            .collect();
        let storage: StorageConfig = config.section("storage");
        let logger: LoggerConfig = config.section("logger");
        Self {
            propeller: config.section("propeller"),
            plugins: PluginsConfig {
                tasks: config.section("tasks"),
                k8s,
                logs: config.section("plugins.logs"),
                echo: config.section("plugins.echo"),
                environment,
                own_namespace: config
                    .variable("POD_NAMESPACE")
                    .unwrap_or_default()
                    .to_owned(),
                storage: storage.clone(),
                logger: logger.clone(),
            },
            admin: config.section("admin"),
            catalog: config.section("catalog-cache"),
            storage,
            logger,
            otel: config.section("otel"),
        }
    }
}

/// The sections that the engine reads.
pub fn sections() -> Sections {
    Sections::new()
        .with::<PropellerConfig>("propeller")
        .with::<TasksConfig>("tasks")
        .with::<K8sConfig>("plugins.k8s")
        .with::<LogsConfig>("plugins.logs")
        .with::<EchoConfig>("plugins.echo")
        .with::<AdminClientConfig>("admin")
        .with::<CatalogConfig>("catalog-cache")
        .with::<StorageConfig>("storage")
        .with::<LoggerConfig>("logger")
        .with::<OtelConfig>("otel")
        .with::<ProfConfig>("prof")
        .unheard(blob::UNHEARD)
        .unheard(client::UNHEARD)
        .unheard(crate::config::UNHEARD)
        .unheard(flyte_plugins::config::UNHEARD)
        .and(flyte_webhook::cli::sections())
}

/// What reaches the cache that the configuration names, if it names one.
///
/// # Errors
/// When its endpoint is no address.
pub fn catalog_service(config: CatalogConfig) -> Result<Option<CatalogService>, EndpointError> {
    match config.r#type {
        CatalogType::Noop => Ok(None),
        CatalogType::Datacatalog => Ok(Some(CatalogService {
            channel: client::channel(&config.endpoint, config.insecure)?,
            config,
        })),
    }
}

/// Its command line.
pub fn program() -> Program {
    Program::new(
        "flytepropeller",
        "Runs workflows: watches FlyteWorkflow resources, drives their nodes, tells flyteadmin",
        sections(),
    )
    .with(|command| {
        command
            .long_about(
                "Runs workflows: watches FlyteWorkflow resources, turns their tasks into pods, follows them and tells \
                 flyteadmin.\n\nWithout a subcommand it runs the engine until it is told to stop.",
            )
            .subcommand(flyte_webhook::cli::command())
    })
}

/// Runs the command line `arguments`, program name included; `flyte propeller` calls this too.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    program().main(arguments, |matches| match matches.subcommand() {
        Some(("webhook", inner)) => flyte_webhook::cli::dispatch(inner),
        _ => cli::run(serve(matches.clone())),
    })
}

async fn serve(matches: ArgMatches) -> anyhow::Result<()> {
    let Bootstrap {
        config: mut loaded,
        shown,
        mut reload,
    } = sections().bootstrap(&matches)?;
    let config = EngineConfig::read(&mut loaded);
    let home = loaded.variable("HOME").map(str::to_owned);
    let warnings = loaded.finish()?;
    let telemetry = telemetry::install(&config.logger, &config.otel, "flytepropeller")?;
    for warning in warnings {
        tracing::warn!(key = warning.key, "{}", warning.message);
    }
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    telemetry.follow(&mut reload);
    tasks.spawn_infallible("configuration", reload.run(stop.child_token()));
    let kube = kubernetes::client(config.propeller.api_server(), |name| {
        home.clone().filter(|_| name == "HOME")
    })
    .await?;
    let metrics = Scope::new("").labelled_by(LabelKeys::new(&config.propeller.metrics_keys));
    let operations = SocketAddr::from(([0, 0, 0, 0], config.propeller.prof_port));
    let listener = server::bind(operations, "metrics and health", "--propeller.prof-port").await?;
    let engine = wire(
        Dependencies {
            kube,
            blobs: BlobStore::open(&config.storage)?,
            admin: client::channel(&config.admin.endpoint, config.admin.insecure)?,
            catalog: catalog_service(config.catalog)?,
            clock: Clock::system(),
            metrics: metrics.clone(),
        },
        config.propeller,
        config.plugins,
        &config.admin,
    )?;
    let router = server::operations(metrics, BuildInformation::THIS, shown);
    tasks.spawn_infallible(
        "operations",
        server::serve(listener, None, router, stop.child_token(), GRACE),
    );
    tasks.spawn("engine", engine.run(stop.child_token()));
    cli::stop_on_signals(&mut tasks);
    Ok(tasks.run_until_stopped(GRACE).await?)
}
