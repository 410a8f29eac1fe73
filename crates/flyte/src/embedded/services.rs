//! API and engine of an embedded backend, over whatever cluster, bucket and database they are given.
//!
//! `flyte start` gives them the embedded platform; the benches a node that ends pods at once. Both run the same lines.

use anyhow::Context as _;
use axum::Router;
use flyte_admin::{Admin, config::AdminConfig, targets::ExecutionTargets};
use flyte_platform::{
    Clock, Tasks,
    blob::BlobStore,
    client::AdminClientConfig,
    config::{Duration, StringMap},
    kubernetes,
    metrics::Scope,
    server,
    sql::{Database, DatabaseConfig},
};
use flyte_plugins::config::{K8sConfig, LogsConfig, PluginsConfig};
use flyte_propeller::{Engine, config::PropellerConfig};
use tonic::transport::Channel;

use crate::{
    health::{NOT_BUILT, PROPELLER},
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
    /// Admin's database; made if it is missing.
    pub database: DatabaseConfig,
    /// The source of time.
    pub clock: Clock,
    /// Where calls are counted.
    pub metrics: Scope,
}

/// API and engine, not yet running.
pub struct Services {
    backends: Backends,
    admin: Admin,
}

impl Services {
    /// Makes the cluster serve FlyteWorkflow, opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// The cluster refuses the definition, or the database cannot be used.
    pub async fn open(backends: Backends) -> anyhow::Result<Self> {
        let (database, defined) = tokio::join!(
            Database::open(&backends.database),
            define_workflows(backends.cluster.clone())
        );
        defined?;
        let database = database.context("the database of the API")?;
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
        Ok(Self { backends, admin })
    }

    /// The API's own loops and readiness.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// gRPC, REST and pages behind the common layers.
    pub fn router(&self) -> Router {
        let pages = pages::routes(self.backends.cluster.clone(), self.backends.metrics.clone())
            .fallback_service(self.admin.http());
        server::combine(self.admin.grpc(), pages)
    }

    /// Starts the API's loops.
    pub fn spawn(&self, tasks: &mut Tasks) {
        self.admin.spawn(tasks);
    }

    /// The engine, which reaches the API over `channel`; `port` is where users reach it on this machine.
    ///
    /// # Errors
    /// Metrics that are registered already.
    pub fn engine(&self, channel: Channel, port: u16) -> anyhow::Result<Engine> {
        let engine = flyte_propeller::wire(
            flyte_propeller::Dependencies {
                kube: self.backends.cluster.clone(),
                blobs: self.backends.blobs.clone(),
                admin: channel,
                clock: self.backends.clock,
                metrics: self.backends.metrics.clone(),
            },
            propeller_config(),
            plugins_config(port),
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

fn propeller_config() -> PropellerConfig {
    PropellerConfig {
        rawoutput_prefix: format!("s3://{BUCKET}/data"),
        ..PropellerConfig::default()
    }
}

fn plugins_config(port: u16) -> PluginsConfig {
    PluginsConfig {
        k8s: K8sConfig {
            default_env_vars: StringMap::from([
                ("FLYTE_PLATFORM_URL", format!("localhost:{port}")),
                ("FLYTE_PLATFORM_INSECURE", "true".to_owned()),
            ]),
            image_pull_backoff_grace_period: Duration::ZERO,
            ..K8sConfig::default()
        },
        logs: LogsConfig {
            kubernetes_template_uri: pages::log_template(&format!("http://localhost:{port}")),
            ..LogsConfig::default()
        },
        ..PluginsConfig::default()
    }
}
