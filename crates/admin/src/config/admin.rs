//! All sections together.

use flyte_platform::{
    blob::StorageConfig,
    config::{Config, KeyedList},
    sql::DatabaseConfig,
};

use super::{
    sections::{
        ClusterPoolsConfig, ClusterResourcesConfig, DomainsConfig, FlyteAdminConfig,
        NamespaceMappingConfig, RegistrationConfig, RemoteDataConfig, TaskResourcesConfig,
        WhitelistScopes,
    },
    server::ServerConfig,
};

/// Everything that flyteadmin is configured by.
#[derive(Clone, Debug, Default)]
pub struct AdminConfig {
    /// Section `server`.
    pub server: ServerConfig,
    /// Section `flyteadmin`.
    pub flyteadmin: FlyteAdminConfig,
    /// Section `domains`.
    pub domains: DomainsConfig,
    /// Section `registration`.
    pub registration: RegistrationConfig,
    /// Section `namespace_mapping`.
    pub namespace_mapping: NamespaceMappingConfig,
    /// Section `task_resources`.
    pub task_resources: TaskResourcesConfig,
    /// Section `task_type_whitelist`.
    pub task_type_whitelist: KeyedList<WhitelistScopes>,
    /// Section `remoteData`.
    pub remote_data: RemoteDataConfig,
    /// Section `clusterPools`.
    pub cluster_pools: ClusterPoolsConfig,
    /// Section `cluster_resources`.
    pub cluster_resources: ClusterResourcesConfig,
    /// Section `database`.
    pub database: DatabaseConfig,
    /// Section `storage`.
    pub storage: StorageConfig,
}

impl AdminConfig {
    /// Decodes the sections from a loaded configuration; problems are kept there.
    pub fn read(config: &mut Config) -> Self {
        Self {
            server: config.section("server"),
            flyteadmin: config.section("flyteadmin"),
            domains: config.section("domains"),
            registration: config.section("registration"),
            namespace_mapping: config.section("namespace_mapping"),
            task_resources: config.section("task_resources"),
            task_type_whitelist: config.section("task_type_whitelist"),
            remote_data: config.section("remoteData"),
            cluster_pools: config.section("clusterPools"),
            cluster_resources: config.section("cluster_resources"),
            database: config.section("database"),
            storage: config.section("storage"),
        }
    }
}

#[cfg(test)]
mod tests {
    use flyte_platform::config::Sources;

    use super::*;

    /// What a file with this text configures, nothing of which is worth a warning.
    fn configured(text: &str) -> AdminConfig {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin.yaml");
        std::fs::write(&file, text).unwrap();
        let mut loaded = Config::load(Sources {
            pattern: file.display().to_string(),
            ..Sources::default()
        })
        .unwrap();
        let config = AdminConfig::read(&mut loaded);
        assert_eq!(loaded.finish().unwrap(), []);
        config
    }

    #[test]
    fn nothing_configured_is_the_default() {
        assert_eq!(configured("{}").domains.0.len(), 3);
    }

    #[test]
    fn files_override_defaults_by_key() {
        let config = configured(
            "server: {httpPort: 80}\ndomains: [{id: d, name: D}]\ndatabase: {postgres: {host: db}}\n\
             task_type_whitelist: {sparkonk8s: [{project: p}]}\n\
             clusterPools: {clusterPoolAssignments: {production: {pool: gpu}}}\n",
        );
        assert_eq!(config.server.http_port, 80);
        assert_eq!(config.server.grpc.port, 8089);
        assert_eq!(config.domains.0.len(), 1);
        let postgres = config.database.effective_postgres();
        assert_eq!(postgres.host, "db");
        assert_eq!(postgres.password.expose(), "postgres");
        assert_eq!(
            config.flyteadmin.metadata_storage_prefix,
            ["metadata", "admin"]
        );
        let scopes = config.task_type_whitelist.0.get("sparkonk8s").unwrap();
        assert_eq!(scopes.0.first().unwrap().project, "p");
        let pools = &config.cluster_pools.cluster_pool_assignments.0;
        assert_eq!(pools.get("production").unwrap().pool, "gpu");
    }
}
