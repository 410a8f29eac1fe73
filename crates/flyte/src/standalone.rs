//! `flyte start --config F`: the services that a configuration describes (spec 07 §5.8).

use std::{net::SocketAddr, time::Duration};

use clap::ArgMatches;
use flyte_admin::{
    cli::Ports,
    config::{AdminConfig, LiveConfig},
    targets::ExecutionTargets,
};
use flyte_datacatalog::config::CatalogConfig;
use flyte_platform::{
    Clock, Tasks,
    blob::BlobStore,
    cli::{self, Bootstrap, Sections},
    client,
    config::Unheard,
    kubernetes,
    metrics::{LabelKeys, Scope},
    server::{self, BuildInformation, ProfConfig, Stopping},
    sql::Database,
    telemetry,
};
use flyte_propeller::cli::EngineConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health;

/// Keys of programs that stand alone, whose ports one process shares.
const UNHEARD: &[Unheard] = &[
    Unheard {
        key: "application.httpPort",
        instead: "flyte start says how its parts are at the API's port: GET /healthcheck, and gRPC health of datacatalog",
    },
    Unheard {
        key: "datacatalog.profiler-port",
        instead: "flyte start serves the metrics of all its parts at propeller.prof-port",
    },
];

/// How long open calls may take when the process is asked to end.
const GRACE: Duration = Duration::from_secs(10);

/// Section `flyte`: which services run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct FlyteConfig {
    /// The engine and its webhook.
    propeller: PropellerSwitch,
    /// The API and what belongs to it.
    admin: AdminSwitch,
    /// The cache index.
    data_catalog: Switch,
}

impl FlyteConfig {
    /// Services that are wanted and not part of this version.
    fn missing(&self) -> Vec<&'static str> {
        let (admin, propeller) = (&self.admin, &self.propeller);
        [
            (
                health::SCHEDULER,
                !admin.disabled && !admin.disable_scheduler,
            ),
            (
                health::WEBHOOK,
                !propeller.disabled && !propeller.disable_webhook,
            ),
        ]
        .into_iter()
        .filter_map(|(part, wanted)| wanted.then_some(part))
        .collect()
    }
}

/// Section `flyte.propeller`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PropellerSwitch {
    /// Do not run the engine.
    disabled: bool,
    /// Do not run the webhook.
    disable_webhook: bool,
}

/// Section `flyte.admin`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AdminSwitch {
    /// Do not run the API.
    disabled: bool,
    /// Do not run the scheduler.
    disable_scheduler: bool,
    /// Do not create namespaces.
    disable_cluster_resource_manager: bool,
    /// Projects that are made at start.
    seed_projects: Vec<String>,
}

impl Default for AdminSwitch {
    fn default() -> Self {
        Self {
            disabled: false,
            disable_scheduler: false,
            disable_cluster_resource_manager: false,
            seed_projects: vec!["flytesnacks".into()],
        }
    }
}

/// Section `flyte.dataCatalog`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Switch {
    /// Do not run it.
    disabled: bool,
}

/// All sections of all services.
pub(crate) fn sections() -> Sections {
    Sections::new()
        .with::<FlyteConfig>("flyte")
        .with::<ProfConfig>("prof")
        .and(flyte_propeller::cli::sections())
        .and(flyte_admin::cli::sections())
        .and(flyte_datacatalog::cli::sections())
        .unheard(UNHEARD)
        .and(flyte_scheduler::cli::sections())
        .and(flyte_webhook::cli::sections())
}

/// Starts what the configuration describes, until asked to stop.
pub(crate) async fn start(files: String, matches: ArgMatches) -> anyhow::Result<()> {
    let Bootstrap {
        config: mut loaded,
        shown,
        mut reload,
    } = sections().bootstrap(&matches)?;
    anyhow::ensure!(
        !loaded.files.is_empty(),
        "--config {files:?} names no file; name one that is there, or leave --config out to start Flyte embedded"
    );
    let flyte: FlyteConfig = loaded.section("flyte");
    let engine_config = EngineConfig::read(&mut loaded);
    let admin_config = AdminConfig::read(&mut loaded);
    let catalog_config = CatalogConfig::read(&mut loaded);
    let home = loaded.variable("HOME").map(str::to_owned);
    let warnings = loaded.finish()?;
    let telemetry = telemetry::install(&engine_config.logger, &engine_config.otel, "flyte")?;
    for warning in warnings {
        tracing::warn!(key = warning.key, "{}", warning.message);
    }
    let missing = flyte.missing();
    for part in &missing {
        tracing::warn!("{part} is not part of this version yet and does not run");
    }
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    telemetry.follow(&mut reload);
    let live_admin_config = LiveConfig::following(admin_config.clone(), &mut reload);
    tasks.spawn_infallible("configuration", reload.run(stop.child_token()));
    let metrics = Scope::new("").labelled_by(LabelKeys::of_the_single_binary());
    let expand = |name: &str| home.clone().filter(|_| name == "HOME");
    // There is one cluster: what one section says of it holds for the other; each has its own pace.
    let (of_admin, of_engine) = (
        admin_config.server.api_server(),
        engine_config.propeller.api_server(),
    );
    let kube_config = given(of_admin.kube_config, of_engine.kube_config);
    let master = given(of_admin.master, of_engine.master);
    let kube = async |pace| {
        let server = kubernetes::Server {
            kube_config,
            master,
            pace,
        };
        kubernetes::client(server, expand).await
    };
    let blobs = BlobStore::open(&engine_config.storage)?;
    let clock = Clock::system();
    let (mut served, mut shared) = (None, None);
    let channel = if flyte.admin.disabled {
        client::channel(&engine_config.admin.endpoint, engine_config.admin.insecure)?
    } else {
        let ports = Ports::of(&admin_config.server).map_err(anyhow::Error::from_boxed)?;
        let database = Database::open(&admin_config.database).await?;
        shared = Some(database.clone());
        let seeds: Vec<_> = flyte
            .admin
            .seed_projects
            .iter()
            .map(|id| (id.clone(), String::new()))
            .collect();
        let admin = flyte_admin::wire(
            flyte_admin::Dependencies {
                database,
                blobs: blobs.clone(),
                targets: ExecutionTargets::single(kube(of_admin.pace).await?),
                clock,
                metrics: metrics.clone(),
            },
            live_admin_config,
        )?;
        admin.migrate().await?;
        admin.seed_projects(&seeds).await?;
        if flyte.admin.disable_cluster_resource_manager {
            admin.spawn_without_namespaces(&mut tasks);
        } else {
            admin.spawn(&mut tasks);
        }
        for part in missing {
            admin.health().missing(part);
        }
        served = Some(admin.health().clone());
        let router = server::combine(admin.grpc(), admin.http());
        let served = ports.serve(&mut tasks, &router).await;
        served.map_err(anyhow::Error::from_boxed)?;
        let (channel, in_process) = server::in_process(router, stop.child_token());
        tasks.spawn_infallible("in-process API", in_process);
        channel
    };
    if !flyte.data_catalog.disabled {
        // Both read section `database`.
        let database = match shared {
            Some(database) => database,
            None => Database::open(&catalog_config.database).await?,
        };
        let dependencies = flyte_datacatalog::Dependencies {
            database,
            blobs: blobs.clone(),
            clock,
            metrics: metrics.clone(),
        };
        let ready = start_catalog(&mut tasks, dependencies, &catalog_config).await?;
        if let Some(served) = &served {
            served.report(health::DATACATALOG, ready);
        }
    }
    if !flyte.propeller.disabled {
        let port = engine_config.propeller.prof_port;
        let listener = server::bind(
            SocketAddr::from(([0, 0, 0, 0], port)),
            "metrics and health",
            "--propeller.prof-port",
        )
        .await?;
        let kube = kube(of_engine.pace).await?;
        let engine = flyte_propeller::wire(
            flyte_propeller::Dependencies {
                kube,
                blobs,
                admin: channel,
                catalog: flyte_propeller::cli::catalog_service(engine_config.catalog)?,
                clock,
                metrics: metrics.clone(),
            },
            engine_config.propeller,
            engine_config.plugins,
            &engine_config.admin,
        )?;
        if let Some(served) = served {
            served.report(health::PROPELLER, engine.readiness());
        }
        let router = server::operations(metrics, BuildInformation::THIS, shown);
        tasks.spawn_infallible(
            "operations",
            server::serve(listener, None, router, stop.child_token(), GRACE),
        );
        tasks.spawn("engine", engine.run(stop.child_token()));
    }
    cli::stop_on_signals(&mut tasks);
    Ok(tasks.run_until_stopped(GRACE).await?)
}

/// Starts the cache index on the port of its own section, and says when it is ready.
async fn start_catalog(
    tasks: &mut Tasks,
    dependencies: flyte_datacatalog::Dependencies,
    config: &CatalogConfig,
) -> anyhow::Result<watch::Receiver<bool>> {
    let catalog = flyte_datacatalog::wire(dependencies, &config.application, &config.datacatalog)?;
    catalog.migrate().await?;
    let address = SocketAddr::from(([0, 0, 0, 0], config.application.grpc_port));
    let key = "application.grpcPort";
    let listener = server::bind(address, key, &format!("--{key}")).await?;
    let router = server::combine(catalog.grpc(), catalog.http());
    let stopping = Stopping {
        stop: tasks.stop_token().child_token(),
        grace: GRACE,
    };
    let limits = config.application.connection_limits();
    tasks.spawn_infallible(
        key,
        server::serve_within(limits, listener, None, router, stopping),
    );
    catalog.spawn(tasks);
    Ok(catalog.readiness())
}

/// The first text that says something.
fn given<'a>(first: &'a str, second: &'a str) -> &'a str {
    if first.is_empty() { second } else { first }
}

#[cfg(test)]
mod tests {
    use flyte_platform::config::{Config, Sources};

    use super::*;

    #[test]
    fn nobody_misses_what_is_not_wanted() {
        let (scheduler, webhook) = (health::SCHEDULER, health::WEBHOOK);
        for (key, expected) in [
            (None, vec![scheduler, webhook]),
            (Some("flyte.admin.disabled"), vec![webhook]),
            (Some("flyte.admin.disableScheduler"), vec![webhook]),
            (Some("flyte.propeller.disabled"), vec![scheduler]),
            (Some("flyte.propeller.disableWebhook"), vec![scheduler]),
            (Some("flyte.dataCatalog.disabled"), vec![scheduler, webhook]),
        ] {
            let flags = key.map(|key| (key.to_owned(), "true".to_owned()));
            let mut config = Config::load(Sources {
                flags: flags.into_iter().collect(),
                ..Sources::default()
            })
            .unwrap();
            let flyte: FlyteConfig = config.section("flyte");
            assert_eq!(flyte.missing(), expected, "{key:?}");
        }
    }
}
