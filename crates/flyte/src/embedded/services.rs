//! API, cache index and engine of an embedded backend, over whatever cluster, bucket and database they are given.
//!
//! `flyte start` gives them the embedded platform; the benches a node that ends pods at once. Both run the same lines.

use anyhow::Context as _;
use axum::Router;
use flyte_admin::{Admin, config::AdminConfig, targets::ExecutionTargets};
use flyte_datacatalog::{
    DataCatalog,
    config::{ApplicationConfig, DataCatalogConfig, RetentionConfig},
};
use flyte_platform::{
    Clock, Tasks,
    blob::{BlobStore, StorageConfig},
    client::AdminClientConfig,
    config::{Duration, StringMap},
    kubernetes,
    metrics::Scope,
    server,
    sql::{Database, DatabaseConfig},
};
use flyte_plugins::config::{CopilotConfig, Credentials, K8sConfig, LogsConfig, PluginsConfig};
use flyte_propeller::{
    CatalogService, Engine,
    config::{CatalogConfig, PropellerConfig},
};
use jiff::SignedDuration;
use tonic::transport::Channel;
use tower::ServiceExt as _;

use crate::{
    health::{DATACATALOG, NOT_BUILT, PROPELLER},
    pages,
};

/// The bucket of an embedded backend, the one of Flyte's sandbox.
pub const BUCKET: &str = "my-s3-bucket";
/// How deep resources may nest: 1,000 levels of a type are four times as many of JSON, and each takes about 3 KiB of
/// the 16 MiB stacks of [`flyte_platform::cli::runtime`].
pub const JSON_DEPTH: usize = 4_096;

/// What the services are given: cluster, blob store, database, time.
#[derive(Clone)]
pub struct Backends {
    /// The cluster that executions run on.
    pub cluster: kube::Client,
    /// Where closures and data are; its container is [`BUCKET`].
    pub blobs: BlobStore,
    /// How processes of tasks reach it.
    pub storage: StorageConfig,
    /// Admin's database; made if it is missing.
    pub database: DatabaseConfig,
    /// The cache index's database; made if it is missing.
    pub catalog: DatabaseConfig,
    /// How long what cached tasks have is kept; none keeps it.
    pub cache_retention: Option<SignedDuration>,
    /// The source of time.
    pub clock: Clock,
    /// Where calls are counted.
    pub metrics: Scope,
}

/// API, cache index and engine, not yet running.
pub struct Services {
    backends: Backends,
    admin: Admin,
    catalog: DataCatalog,
}

impl Services {
    /// Makes the cluster serve FlyteWorkflow, opens the databases and brings their schemas up to date.
    ///
    /// # Errors
    /// The cluster refuses the definition, or a database cannot be used.
    pub async fn open(backends: Backends) -> anyhow::Result<Self> {
        let (database, catalog, defined) = tokio::join!(
            Box::pin(Database::open(&backends.database)),
            Box::pin(Database::open(&backends.catalog)),
            define_workflows(backends.cluster.clone())
        );
        defined?;
        let database = database.context("the database of the API")?;
        let catalog = flyte_datacatalog::wire(
            flyte_datacatalog::Dependencies {
                database: catalog.context("the database of the cache index")?,
                blobs: backends.blobs.clone(),
                clock: backends.clock,
                metrics: backends.metrics.clone(),
            },
            &ApplicationConfig::default(),
            &catalog_config(backends.cache_retention),
        )?;
        catalog.migrate().await?;
        let config = admin_config(backends.database.clone());
        let admin = flyte_admin::wire(
            flyte_admin::Dependencies {
                database,
                blobs: backends.blobs.clone(),
                targets: ExecutionTargets::single(backends.cluster.clone()),
                clock: backends.clock,
                metrics: backends.metrics.clone(),
            },
            config,
        )?;
        admin.migrate().await?;
        admin
            .seed_projects(&[("flytesnacks".into(), "Default project setup.".into())])
            .await?;
        for part in NOT_BUILT {
            admin.health().missing(part);
        }
        admin.health().report(DATACATALOG, catalog.readiness());
        Ok(Self {
            backends,
            admin,
            catalog,
        })
    }

    /// The API's own loops and readiness.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The cache index's own loops and readiness.
    pub fn catalog(&self) -> &DataCatalog {
        &self.catalog
    }

    /// gRPC, REST and pages behind the common layers.
    pub fn router(&self) -> Router {
        let pages = pages::routes(self.backends.cluster.clone(), self.backends.metrics.clone())
            .merge(self.catalog.management())
            .fallback_service(self.admin.http());
        server::combine(self.admin.grpc(), pages)
    }

    /// What the engine reaches in process: all of [`Services::router`], and the RPCs of the cache index, which nobody else is served.
    pub fn in_process_router(&self) -> Router {
        let catalog = server::combine(self.catalog.grpc(), self.catalog.http());
        let catalog = tower::service_fn(move |request| catalog.clone().oneshot(request));
        self.router()
            .route_service("/datacatalog.DataCatalog/{method}", catalog)
    }

    /// Starts the loops of API and cache index.
    pub fn spawn(&self, tasks: &mut Tasks) {
        self.admin.spawn(tasks);
        self.catalog.spawn(tasks);
    }

    /// The engine, which reaches the API over `channel` to [`Services::in_process_router`]; `port` is where users reach it on this machine.
    ///
    /// # Errors
    /// Metrics that are registered already.
    pub fn engine(&self, channel: Channel, port: u16) -> anyhow::Result<Engine> {
        let engine = flyte_propeller::wire(
            flyte_propeller::Dependencies {
                kube: self.backends.cluster.clone(),
                blobs: self.backends.blobs.clone(),
                admin: channel.clone(),
                catalog: Some(CatalogService {
                    channel,
                    config: CatalogConfig::default(),
                }),
                clock: self.backends.clock,
                metrics: self.backends.metrics.clone(),
            },
            propeller_config(),
            plugins_config(port, self.backends.storage.clone()),
            &AdminClientConfig::default(),
        )?;
        self.admin.health().report(PROPELLER, engine.readiness());
        Ok(engine)
    }
}

/// Makes the cluster serve FlyteWorkflow.
///
/// # Errors
/// The cluster's, unless it does already.
pub async fn define_workflows(client: kube::Client) -> anyhow::Result<()> {
    kubernetes::define(client, &flyte_crd::custom_resource_definition())
        .await
        .context("the FlyteWorkflow definition cannot be created")
}

fn admin_config(database: DatabaseConfig) -> AdminConfig {
    let mut config = AdminConfig {
        database,
        ..AdminConfig::default()
    };
    config.task_resources.defaults.cpu = "500m".into();
    config.task_resources.defaults.memory = "500Mi".into();
    // 0 is no limit: a node that is too small says so itself.
    for limit in [
        &mut config.task_resources.limits.cpu,
        &mut config.task_resources.limits.memory,
        &mut config.task_resources.limits.gpu,
    ] {
        "0".clone_into(limit);
    }
    config
}

/// As Flyte's charts set it; what is in the bucket stays apart by service. The bucket is this backend's alone, so objects that
/// no row names are nobody's.
fn catalog_config(kept: Option<SignedDuration>) -> DataCatalogConfig {
    DataCatalogConfig {
        retention: RetentionConfig {
            max_age: kept.map_or(Duration::ZERO, |age| Duration::seconds(age.as_secs())),
            remove_orphans: true,
            ..RetentionConfig::default()
        },
        storage_prefix: "metadata/datacatalog".to_owned(),
        ..DataCatalogConfig::default()
    }
}

fn propeller_config() -> PropellerConfig {
    PropellerConfig {
        rawoutput_prefix: format!("s3://{BUCKET}/data"),
        ..PropellerConfig::default()
    }
}

fn plugins_config(port: u16, storage: StorageConfig) -> PluginsConfig {
    PluginsConfig {
        k8s: K8sConfig {
            default_env_vars: StringMap::from([
                ("FLYTE_PLATFORM_URL", format!("localhost:{port}")),
                ("FLYTE_PLATFORM_INSECURE", "true".to_owned()),
            ]),
            image_pull_backoff_grace_period: Duration::ZERO,
            co_pilot: CopilotConfig {
                // A node that is a laptop has few cores, and what waits for a container needs none.
                cpu: "50m".into(),
                credentials: Credentials::Environment,
                ..CopilotConfig::default()
            },
            ..K8sConfig::default()
        },
        storage,
        logs: LogsConfig {
            kubernetes_template_uri: pages::log_template(&format!("http://localhost:{port}")),
            ..LogsConfig::default()
        },
        ..PluginsConfig::default()
    }
}
