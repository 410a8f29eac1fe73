//! The configuration as the command line names it.

use clap::ArgMatches;
use flyte_platform::{
    blob::{self, StorageConfig},
    cli::{Bootstrap, Sections},
    config::{KeyedList, Reload},
    server::ProfConfig,
    sql::{self, DatabaseConfig},
    telemetry::{LoggerConfig, OtelConfig},
};
use serde_json::Value;

use super::outcome::Outcome;
use crate::config::{
    AdminConfig, ClusterPoolsConfig, ClusterResourcesConfig, DomainsConfig, FlyteAdminConfig,
    NamespaceMappingConfig, RegistrationConfig, RemoteDataConfig, ServerConfig,
    TaskResourcesConfig, UNHEARD, WhitelistScopes,
};

/// The sections that flyteadmin reads.
pub fn sections() -> Sections {
    Sections::new()
        .with::<ServerConfig>("server")
        .with::<FlyteAdminConfig>("flyteadmin")
        .with::<DomainsConfig>("domains")
        .with::<RegistrationConfig>("registration")
        .with::<NamespaceMappingConfig>("namespace_mapping")
        .with::<TaskResourcesConfig>("task_resources")
        .with::<KeyedList<WhitelistScopes>>("task_type_whitelist")
        .with::<RemoteDataConfig>("remoteData")
        .with::<ClusterPoolsConfig>("clusterPools")
        .with::<ClusterResourcesConfig>("cluster_resources")
        .with::<DatabaseConfig>("database")
        .with::<StorageConfig>("storage")
        .with::<LoggerConfig>("logger")
        .with::<OtelConfig>("otel")
        .with::<ProfConfig>("prof")
        .unheard(UNHEARD)
        .unheard(blob::UNHEARD)
        .unheard(sql::UNHEARD)
}

/// Everything that the configuration says.
pub(crate) struct Loaded {
    pub(crate) admin: AdminConfig,
    pub(crate) logger: LoggerConfig,
    pub(crate) otel: OtelConfig,
    /// The user's folder.
    pub(crate) home: Option<String>,
    /// What `/config` shows, if it is there.
    pub(crate) shown: Option<Value>,
    /// Follows the files it was read from.
    pub(crate) reload: Reload,
}

/// Reads it, and tells the operator what changes nothing.
///
/// # Errors
/// Whatever cannot be read.
pub(super) fn load(matches: &ArgMatches) -> Outcome<Loaded> {
    let Bootstrap {
        mut config,
        shown,
        reload,
    } = sections().bootstrap(matches)?;
    let mut loaded = Loaded {
        admin: AdminConfig::read(&mut config),
        logger: config.section("logger"),
        otel: config.section("otel"),
        home: config.variable("HOME").map(str::to_owned),
        shown,
        reload,
    };
    for warning in config.finish()? {
        say(&format!("Warning: {}: {}", warning.key, warning.message));
    }
    if let Some(master) = matches
        .get_one::<String>("master")
        .filter(|text| !text.is_empty())
    {
        loaded.admin.server.master.clone_from(master);
    }
    Ok(loaded)
}

/// A line for the operator; there may be no log yet.
pub(super) fn say(line: &str) {
    use std::io::Write as _;
    // There is nowhere to report that stderr is closed.
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}
