//! Sections `application` and `datacatalog` (spec 06 A1, spec 07 A.6).

use flyte_platform::config::Duration;
use serde::{Deserialize, Serialize};

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
}

impl Default for DataCatalogConfig {
    fn default() -> Self {
        Self {
            storage_prefix: "metadata".into(),
            metrics_scope: "datacatalog".into(),
            profiler_port: 10254,
            heartbeat_grace_period_multiplier: 3,
            max_reservation_heartbeat: Duration::seconds(10),
        }
    }
}
