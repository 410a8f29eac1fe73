//! Sections `application` and `datacatalog` (spec 06 A1, spec 07 A.6).

use flyte_platform::{
    blob::StorageConfig,
    config::{Config, Duration},
    server::{ConnectionLimits, DEFAULT_MESSAGE_BYTES},
    sql::DatabaseConfig,
};
use serde::{Deserialize, Serialize};

/// What datacatalog itself is told.
#[derive(Clone, Debug, Default)]
pub struct CatalogConfig {
    /// Section `application`.
    pub application: ApplicationConfig,
    /// Section `datacatalog`.
    pub datacatalog: DataCatalogConfig,
    /// Section `database`.
    pub database: DatabaseConfig,
    /// Section `storage`.
    pub storage: StorageConfig,
}

impl CatalogConfig {
    /// Reads its sections.
    pub fn read(config: &mut Config) -> Self {
        Self {
            application: config.section("application"),
            datacatalog: config.section("datacatalog"),
            database: config.section("database"),
            storage: config.section("storage"),
        }
    }
}

/// Section `application`: where datacatalog listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ApplicationConfig {
    /// Port of gRPC.
    pub grpc_port: u16,
    /// Whether gRPC reflection answers.
    pub grpc_server_reflection: bool,
    /// Largest message in MiB; 0 is gRPC's default of 4.
    #[serde(rename = "grpcMaxRecvMsgSizeMBs")]
    pub grpc_max_recv_msg_size_mbs: u32,
    /// Port of `/healthcheck`.
    pub http_port: u16,
    /// Accepted for compatibility; the reference never reads it.
    pub secure: bool,
    /// Seconds that a client may take to send its headers.
    pub read_header_timeout_seconds: u32,
}

impl Default for ApplicationConfig {
    fn default() -> Self {
        Self {
            grpc_port: 8081,
            grpc_server_reflection: true,
            grpc_max_recv_msg_size_mbs: 0,
            http_port: 8080,
            secure: false,
            read_header_timeout_seconds: 32,
        }
    }
}

impl ApplicationConfig {
    /// The largest message in bytes.
    pub fn message_bytes(&self) -> usize {
        match usize::try_from(self.grpc_max_recv_msg_size_mbs) {
            Ok(0) | Err(_) => DEFAULT_MESSAGE_BYTES,
            Ok(mebibytes) => mebibytes.saturating_mul(1024 * 1024),
        }
    }

    /// What connections may take.
    pub fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            header_read_timeout: std::time::Duration::from_secs(u64::from(
                self.read_header_timeout_seconds,
            )),
            ..ConnectionLimits::default()
        }
    }
}

/// Section `datacatalog`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct DataCatalogConfig {
    /// Where artifacts' data goes below the container.
    pub storage_prefix: String,
    /// First part of metric names.
    pub metrics_scope: String,
    /// Port of metrics and health.
    pub profiler_port: u16,
    /// Heartbeats that may be missed before a reservation is free again.
    pub heartbeat_grace_period_multiplier: u32,
    /// Longest time between two heartbeats that a client may ask for.
    pub max_reservation_heartbeat: Duration,
    /// What is kept of the cache.
    pub retention: RetentionConfig,
}

impl Default for DataCatalogConfig {
    fn default() -> Self {
        Self {
            storage_prefix: "metadata".into(),
            metrics_scope: "datacatalog".into(),
            profiler_port: 10254,
            heartbeat_grace_period_multiplier: 3,
            max_reservation_heartbeat: Duration::seconds(10),
            retention: RetentionConfig::default(),
        }
    }
}

/// Section `datacatalog.retention`: what is kept of the cache. Nothing is removed unless a key says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RetentionConfig {
    /// Entries that nobody has written for this long are removed; that they are read keeps none. `0s` keeps them whatever their
    /// age. Since 0.1, not in Go.
    pub max_age: Duration,
    /// Bytes that the outputs in the cache may take together, beyond which the oldest entries are removed; 0 is no limit. What
    /// outputs refer to, such as files and data frames, belongs to executions and is not counted. Since 0.1, not in Go.
    pub max_bytes: u64,
    /// Removes objects below `datacatalog.storage-prefix` that no row refers to, left by requests that were interrupted. Only
    /// where no other datacatalog with a database of its own has the same prefix of the same bucket: its objects would go. Since
    /// 0.1, not in Go.
    pub remove_orphans: bool,
    /// How old such an object must be, ten minutes at least. Since 0.1, not in Go.
    pub orphan_grace: Duration,
    /// Time between two runs; of several replicas one does each. Since 0.1, not in Go.
    pub interval: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            max_age: Duration::ZERO,
            max_bytes: 0,
            remove_orphans: false,
            orphan_grace: Duration::hours(24),
            interval: Duration::hours(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_says_what_messages_and_connections_may_take() {
        for (mebibytes, bytes) in [
            (0, 4 * 1024 * 1024),
            (1, 1024 * 1024),
            (20, 20 * 1024 * 1024),
        ] {
            let config = ApplicationConfig {
                grpc_max_recv_msg_size_mbs: mebibytes,
                read_header_timeout_seconds: 7,
                ..ApplicationConfig::default()
            };
            assert_eq!(config.message_bytes(), bytes);
            assert_eq!(config.connection_limits().header_read_timeout.as_secs(), 7);
        }
    }
}
