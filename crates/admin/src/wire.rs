//! Putting flyteadmin together.
//!
//! ```text
//! main / flyte start --Dependencies, AdminConfig--> wire --> Admin: grpc(), http(), loops
//! ```

use std::{collections::BTreeSet, sync::Arc};

use flyte_idl::{
    admin::Version,
    descriptors::FILE_DESCRIPTOR_SET,
    service::{
        admin_service_server::AdminServiceServer,
        data_proxy_service_server::DataProxyServiceServer,
        signal_service_server::SignalServiceServer,
    },
};
use flyte_platform::{
    Clock, Tasks,
    blob::BlobStore,
    metrics::{MetricError, Scope},
    server::{BodyBudget, Health, Limits},
    sql::{self, Database, MigrationError},
};
use tokio::sync::{Notify, watch};
use tonic::{server::NamedService as _, service::Routes};

use crate::{
    api::Api,
    caller::Policy,
    closure_cache::ClosureCache,
    cluster_resources,
    config::LiveConfig,
    context::AdminContext,
    detached::DetachedTasks,
    error::{Error, Result},
    gateway::{Cors, Gateway},
    metrics::AdminMetrics,
    reconciler,
    records::{Project, ProjectState},
    repository::{migrations, projects},
    targets::ExecutionTargets,
    unknown_fields::layer,
};

/// What flyteadmin works with.
pub struct Dependencies {
    /// Where rows are.
    pub database: Database,
    /// Where closures and data are.
    pub blobs: BlobStore,
    /// The clusters that executions run on.
    pub targets: ExecutionTargets,
    /// The source of time.
    pub clock: Clock,
    /// Where it counts: the whole registry, with the labels of the process.
    pub metrics: Scope,
}

/// flyteadmin, wired. Clones are the same context.
#[derive(Clone)]
pub struct Admin {
    context: Arc<AdminContext>,
    /// Namespaces exist for all projects.
    ready: Arc<watch::Sender<bool>>,
    /// That, and the database answers.
    serving: Arc<watch::Sender<bool>>,
    health: Health,
}

/// Wires flyteadmin. Nothing runs or is read before [`Admin::migrate`] and [`Admin::spawn`].
///
/// # Errors
/// When its metrics are registered already, or `flyteadmin.metricsScope` is no beginning of a name.
pub fn wire(
    dependencies: Dependencies,
    config: impl Into<LiveConfig>,
) -> Result<Admin, MetricError> {
    let Dependencies {
        database,
        blobs,
        targets,
        clock,
        metrics,
    } = dependencies;
    let live = config.into();
    let config = live.now();
    let metrics = AdminMetrics::register(&metrics, &config)?;
    let version = Version {
        build: "unknown".to_owned(),
        version: format!("v{}", env!("CARGO_PKG_VERSION")),
        build_time: clock.now().to_string(),
    };
    let ready = Arc::new(watch::Sender::new(false));
    let serving = Arc::new(watch::Sender::new(false));
    let health = Health::new();
    for name in ["", "flyteadmin"] {
        health.report(name, serving.subscribe());
    }
    Ok(Admin {
        context: Arc::new(AdminContext {
            server: config.server.clone(),
            live,
            database: database.counted(metrics.operations.clone()),
            signal_database: database.counted(metrics.signal_operations.clone()),
            blobs: blobs.counted(metrics.storage.clone()),
            all_metrics: metrics,
            targets,
            clock,
            policy: Policy::Open,
            version,
            detached: DetachedTasks::default(),
            closures: ClosureCache::default(),
            bodies: BodyBudget::default(),
            projects_changed: Notify::new(),
        }),
        ready,
        serving,
        health,
    })
}

impl Admin {
    /// Brings the schema up to date and says how many migrations ran.
    ///
    /// # Errors
    /// The first migration that failed.
    pub async fn migrate(&self) -> Result<usize, MigrationError> {
        migrations::run(&self.context.database).await
    }

    /// Inserts projects that do not exist, each with a name and, unless given, `<name> description`
    /// (spec 01 §20, seeding). Existing ones stay as they are.
    ///
    /// # Errors
    /// The database's.
    pub async fn seed_projects(&self, seeds: &[(String, String)]) -> Result<()> {
        let projects: Vec<Project> = seeds
            .iter()
            .map(|(name, description)| Project {
                identifier: name.clone(),
                name: name.clone(),
                description: if description.is_empty() {
                    format!("{name} description")
                } else {
                    description.clone()
                },
                labels: None,
                state: ProjectState::Active,
            })
            .collect();
        let now = self.context.clock.now();
        self.context
            .database
            .write((projects, now), |(seeds, now), tx| {
                Box::pin(async move {
                    for project in seeds {
                        projects::seed(tx, project, *now).await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .await?;
        self.context.projects_changed.notify_one();
        Ok(())
    }

    /// The gRPC services with their layers, counted: AdminService, DataProxyService, SignalService, health and, if
    /// configured, reflection. Identity and auth metadata are not served while authentication is off.
    pub fn grpc(&self) -> Routes {
        let api = Api(self.context.clone());
        let limit = self.context.message_bytes();
        // Size is limited by the layer, with Go's text; answers are limited only if so configured.
        let answers = match self.context.server.grpc.max_message_size_bytes {
            0 => usize::MAX,
            bytes => bytes,
        };
        let mut routes = Routes::new(
            AdminServiceServer::new(api.clone())
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(answers),
        )
        .add_service(
            DataProxyServiceServer::new(api.clone())
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(answers),
        )
        .add_service(
            SignalServiceServer::new(api)
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(answers),
        )
        .add_service(self.health.service());
        let grpc = &self.context.server.grpc;
        if grpc.server_reflection || self.context.server.grpc_server_reflection {
            let builder = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            };
            match (builder().build_v1(), builder().build_v1alpha()) {
                (Ok(v1), Ok(v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(%error, "gRPC reflection is off");
                }
            }
        }
        let limits = Limits {
            bodies: self.context.bodies.clone(),
            message_bytes: limit,
            services: Arc::new(BTreeSet::from(
                [
                    AdminServiceServer::<Api>::NAME,
                    DataProxyServiceServer::<Api>::NAME,
                    SignalServiceServer::<Api>::NAME,
                ]
                .map(str::to_owned),
            )),
            inspect: layer::inspect,
        };
        let router = routes
            .prepare()
            .into_axum_router()
            .layer(axum::middleware::from_fn(layer::replace));
        let router = limits.around(router);
        self.context
            .all_metrics
            .calls
            .clone()
            .around(Routes::from(router))
    }

    /// Health: `""` and `flyteadmin` serve while this is ready and its database answers. Who runs other services behind the same port adds them.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Everything that is not gRPC: the REST gateway and `/healthcheck`.
    pub fn http(&self) -> axum::Router {
        let cors = Cors::of_config(&self.context.server.security);
        let grpc = self.grpc().into_axum_router();
        let bodies = self.context.bodies.clone();
        Gateway::new(grpc, cors, self.context.message_bytes(), bodies).into_router()
    }

    /// Becomes true when namespaces exist for all projects and stays so, whatever becomes of the database.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Starts the cluster-resource loop and the reconciler, and makes the end of the process wait for requests that run
    /// on without their clients.
    pub fn spawn(&self, tasks: &mut Tasks) {
        self.spawn_loops(tasks);
        self.spawn_cluster_resources(tasks);
    }

    /// As [`Admin::spawn`], where somebody else makes the namespaces: admin is ready without them.
    pub fn spawn_without_namespaces(&self, tasks: &mut Tasks) {
        self.ready.send_replace(true);
        self.spawn_loops(tasks);
    }

    fn spawn_loops(&self, tasks: &mut Tasks) {
        let (context, stop) = (self.context.clone(), tasks.stop_token());
        let health = self.health.clone();
        tasks.spawn_infallible("requests under way", async move {
            stop.cancelled().await;
            health.close();
            context.detached.drain().await;
        });
        let (database, stop) = (self.context.database.clone(), tasks.stop_token());
        let (ready, serving) = (self.ready.subscribe(), self.serving.clone());
        let (statistics, stopped) = (self.context.database.clone(), tasks.stop_token());
        tasks.spawn_infallible(
            "statistics of the database",
            sql::keep_statistics(statistics, stopped),
        );
        tasks.spawn_infallible("health", sql::watch_health(database, ready, serving, stop));
        tasks.spawn_infallible(
            "execution reconciler",
            reconciler::run(self.context.clone(), tasks.stop_token()),
        );
    }

    /// Starts the cluster-resource loop alone.
    pub fn spawn_cluster_resources(&self, tasks: &mut Tasks) {
        let stop = tasks.stop_token();
        tasks.spawn_infallible(
            "cluster resources",
            cluster_resources::run(self.context.clone(), self.ready.clone(), stop),
        );
    }

    /// One round of the cluster-resource loop (`flyteadmin clusterresource sync`).
    ///
    /// # Errors
    /// All failures of the round in one text.
    pub async fn sync_cluster_resources(&self) -> Result<()> {
        cluster_resources::sync(&self.context).await
    }

    /// Runs the reconciler's pass over reservations and terminations that nothing has touched for `age`.
    ///
    /// # Errors
    /// The database's.
    pub async fn reconcile(&self, age: std::time::Duration) -> Result<usize> {
        reconciler::pass(&self.context, age, &mut reconciler::Cursor::default()).await
    }
}
