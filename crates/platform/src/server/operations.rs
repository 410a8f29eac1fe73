//! What operators read: metrics, health, version, configuration (spec 07 §2.3).

use axum::{Json, Router, routing::get};
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::metrics::Scope;

/// Section `prof`: what the profiler port serves.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfConfig {
    /// Do not serve the configuration at `/config`.
    #[serde(rename = "DisableConfigEndpoint")]
    pub disable_config_endpoint: bool,
}

/// Which build this is.
#[derive(Clone, Copy, Debug)]
pub struct BuildInformation {
    /// Version of the Flyte API that is offered, as clients compare it.
    pub version: &'static str,
    /// Revision of the source.
    pub build: &'static str,
    /// When it was built, RFC 3339.
    pub time: &'static str,
}

impl BuildInformation {
    /// This build. Programs of one workspace have one version.
    pub const THIS: Self = Self {
        version: env!("CARGO_PKG_VERSION"),
        build: "unknown",
        time: "unknown",
    };
}

/// The media type of Prometheus' text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/metrics` alone, for a server that has no profiler port.
pub fn exposition(metrics: Scope) -> Router {
    let render = move || async move { ([(CONTENT_TYPE, EXPOSITION)], metrics.render()) };
    Router::new().route("/metrics", get(render))
}

/// Router of the profiler port: `/metrics`, `/healthcheck`, `/version` and, unless `configuration` is none,
/// `/config`, which is [`crate::cli::Bootstrap::shown`].
pub fn operations(metrics: Scope, build: BuildInformation, configuration: Option<Value>) -> Router {
    let version =
        json!({ "build": build.build, "version": build.version, "timestamp": build.time });
    let mut router = exposition(metrics)
        .route("/healthcheck", get(|| async { "OK" }))
        .route(
            "/version",
            get(move || async move { Json(version.clone()) }),
        );
    if let Some(configuration) = configuration {
        router = router.route(
            "/config",
            get(move || async move { Json(configuration.clone()) }),
        );
    }
    router
}
