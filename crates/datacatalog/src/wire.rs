//! Putting datacatalog together.
//!
//! ```text
//! main / flyte start --Dependencies, CatalogConfig--> wire --> DataCatalog: grpc(), http(), loops
//! ```

use std::{collections::BTreeSet, sync::Arc};

use axum::{Router, routing::get};
use flyte_idl::{
    datacatalog::data_catalog_server::DataCatalogServer, descriptors::FILE_DESCRIPTOR_SET,
};
use flyte_platform::{
    Clock, Tasks,
    blob::BlobStore,
    metrics::{MetricError, Scope},
    server::{BodyBudget, Health, Limits, accept_all},
    sql::{self, Database, DbError},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{server::NamedService as _, service::Routes};

use crate::{
    api::Api,
    config::{ApplicationConfig, DataCatalogConfig},
    context::CatalogContext,
    domain::{locations::Folder, reservations::Terms, retention::Policy},
    error::Result,
    management,
    metrics::CatalogMetrics,
    repository::schema,
    retention::{self, Run},
};

/// What datacatalog works with.
pub struct Dependencies {
    /// Where rows are; Go shares flyteadmin's database.
    pub database: Database,
    /// Where outputs are.
    pub blobs: BlobStore,
    /// The source of time.
    pub clock: Clock,
    /// Where it counts: the whole registry, with the labels of the process.
    pub metrics: Scope,
}

/// datacatalog, wired. Clones are the same context.
#[derive(Clone)]
pub struct DataCatalog {
    context: Arc<CatalogContext>,
    /// The database answers.
    serving: Arc<watch::Sender<bool>>,
    health: Health,
}

/// Wires datacatalog. Nothing runs or is read before [`DataCatalog::migrate`] and [`DataCatalog::spawn`].
///
/// # Errors
/// When its metrics are registered already, or `datacatalog.metrics-scope` is no beginning of a name.
pub fn wire(
    dependencies: Dependencies,
    application: &ApplicationConfig,
    config: &DataCatalogConfig,
) -> Result<DataCatalog, MetricError> {
    let Dependencies {
        database,
        blobs,
        clock,
        metrics,
    } = dependencies;
    let metrics = CatalogMetrics::register(&metrics, &config.metrics_scope)?;
    let serving = Arc::new(watch::Sender::new(false));
    let health = Health::new();
    health.report("", serving.subscribe());
    let context = CatalogContext {
        database,
        folder: Folder {
            base: blobs.base(),
            prefix: config.storage_prefix.clone(),
        },
        blobs: blobs.counted(metrics.storage.clone()),
        terms: Terms::of(config),
        policy: Policy::of(&config.retention),
        clock,
        metrics,
        bodies: BodyBudget::default(),
        message_bytes: application.message_bytes(),
        reflection: application.grpc_server_reflection,
    };
    Ok(DataCatalog {
        context: Arc::new(context),
        serving,
        health,
    })
}

impl DataCatalog {
    /// Makes what the database lacks and says how many things that was.
    ///
    /// # Errors
    /// The database's.
    pub async fn migrate(&self) -> Result<usize, DbError> {
        schema::complete(&self.context.database).await
    }

    /// Makes the tables that are ours, where Go's datacatalog has made its own.
    ///
    /// # Errors
    /// The database's, such as that its role may not make tables: then `datacatalog migrate run` has to, as one that may.
    pub async fn complete_own_tables(&self) -> Result<(), DbError> {
        schema::complete_own(&self.context.database).await
    }

    /// The gRPC services with their layers: DataCatalog, health and, if configured, reflection.
    pub fn grpc(&self) -> Routes {
        let context = &self.context;
        let routes = routes(Some(context.clone()), context.reflection);
        let limits = limits(context.message_bytes, context.bodies.clone());
        behind(limits, routes.add_service(self.health.service()))
    }

    /// Everything that is not gRPC: `/healthcheck` and [`DataCatalog::management`].
    pub fn http(&self) -> Router {
        http().merge(self.management())
    }

    /// Entries and evictions ([`management`]).
    pub fn management(&self) -> Router {
        management::routes(self.context.clone())
    }

    /// Applies `datacatalog.retention` once and now; [`DataCatalog::spawn`] does so whenever it is due.
    ///
    /// # Errors
    /// The database's and the blob store's; what was removed until then is gone.
    pub async fn retain(&self) -> Result<Run> {
        retention::once(&self.context, &CancellationToken::new()).await
    }

    /// Health: `""` serves while the database answers.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// True while the database answers.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.serving.subscribe()
    }

    /// Starts the loops that look after the database and what is kept in it.
    pub fn spawn(&self, tasks: &mut Tasks) {
        let (health, stop) = (self.health.clone(), tasks.stop_token());
        tasks.spawn_infallible("datacatalog: watches of health", async move {
            stop.cancelled().await;
            health.close();
        });
        let (database, stop) = (self.context.database.clone(), tasks.stop_token());
        tasks.spawn_infallible(
            "datacatalog: statistics of the database",
            sql::keep_statistics(database, stop),
        );
        tasks.spawn_infallible(
            "datacatalog: retention",
            retention::run(self.context.clone(), tasks.stop_token()),
        );
        let (database, stop) = (self.context.database.clone(), tasks.stop_token());
        let serving = self.serving.clone();
        tasks.spawn_infallible("datacatalog: health", async move {
            // Its tables are there before anybody is served.
            let migrated = watch::Sender::new(true);
            sql::watch_health(database, migrated.subscribe(), serving, stop).await;
        });
    }
}

/// The services of `serve-dummy`: the same API with nothing behind it, and no health.
pub(crate) fn dummy(application: &ApplicationConfig) -> (Routes, Router) {
    let routes = routes(None, application.grpc_server_reflection);
    let limits = limits(application.message_bytes(), BodyBudget::default());
    (behind(limits, routes), http())
}

fn http() -> Router {
    Router::new().route("/healthcheck", get(|| async {}))
}

fn routes(context: Option<Arc<CatalogContext>>, reflection: bool) -> Routes {
    // Size is limited by the layer, with Go's text.
    let service = DataCatalogServer::new(Api(context)).max_decoding_message_size(usize::MAX);
    let routes = Routes::new(service);
    if !reflection {
        return routes;
    }
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "gRPC reflection is off");
            routes
        }
    }
}

fn limits(message_bytes: usize, bodies: BodyBudget) -> Limits {
    Limits {
        message_bytes,
        services: Arc::new(BTreeSet::from([DataCatalogServer::<Api>::NAME.to_owned()])),
        bodies,
        inspect: accept_all,
    }
}

fn behind(limits: Limits, routes: Routes) -> Routes {
    Routes::from(limits.around(routes.prepare().into_axum_router()))
}
