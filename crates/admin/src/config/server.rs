//! Section `server`: listeners, TLS, the data proxy and the Kubernetes client.

use flyte_platform::{
    config::Duration,
    kubernetes::{self, KubeClientConfig},
    server::ConnectionLimits,
};
use serde::{Deserialize, Serialize};

/// Section `server`: listeners and the data proxy.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerConfig {
    /// Port of the HTTP gateway, and of everything when TLS is on.
    pub http_port: u16,
    /// Deprecated alias of `grpc.port`; used when that is negative.
    pub grpc_port: i32,
    /// Deprecated alias of `grpc.serverReflection`.
    pub grpc_server_reflection: bool,
    /// Path of a kubeconfig; empty uses the service account of the pod.
    #[serde(rename = "kube-config")]
    pub kube_config: String,
    /// Address of the Kubernetes API; overrides the kubeconfig's.
    pub master: String,
    /// TLS, CORS and authentication.
    pub security: SecurityConfig,
    /// The gRPC listener.
    pub grpc: GrpcConfig,
    /// Limits of signed URLs.
    pub data_proxy: DataProxyConfig,
    /// Seconds within which a client must have sent its request headers.
    pub read_header_timeout_seconds: u32,
    /// The pace of requests to Kubernetes.
    pub kube_client_config: KubeClientConfig,
    /// Seconds that open calls have to finish at shutdown.
    pub graceful_shutdown_timeout_seconds: u32,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            http_port: 8088,
            grpc_port: 0,
            grpc_server_reflection: false,
            kube_config: String::new(),
            master: String::new(),
            security: SecurityConfig::default(),
            grpc: GrpcConfig::default(),
            data_proxy: DataProxyConfig::default(),
            read_header_timeout_seconds: 32,
            kube_client_config: KubeClientConfig::default(),
            graceful_shutdown_timeout_seconds: 10,
        }
    }
}

impl ServerConfig {
    /// The API server of the one cluster: a kubeconfig, else the pod's service account (spec 03 §3.1).
    pub fn api_server(&self) -> kubernetes::Server<'_> {
        kubernetes::Server {
            kube_config: &self.kube_config,
            master: &self.master,
            pace: &self.kube_client_config,
        }
    }

    /// What connections to the ports may take.
    pub fn connection_limits(&self) -> ConnectionLimits {
        let default = ConnectionLimits::default();
        ConnectionLimits {
            header_read_timeout: match self.read_header_timeout_seconds {
                0 => default.header_read_timeout,
                seconds => std::time::Duration::from_secs(u64::from(seconds)),
            },
            max_concurrent_streams: match self.grpc.max_concurrent_streams {
                0 => default.max_concurrent_streams,
                streams => streams,
            },
            ..default
        }
    }
}

/// `server.security`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the keys of the reference's configuration"
)]
pub struct SecurityConfig {
    /// Serve TLS on `httpPort` and nothing on `grpc.port`.
    pub secure: bool,
    /// Certificate and key.
    pub ssl: SslConfig,
    /// Whether callers must show who they are.
    pub use_auth: bool,
    /// Omit the Secure attribute of cookies.
    pub insecure_cookie_header: bool,
    /// Answer cross-origin requests.
    pub allow_cors: bool,
    /// Origins that may; `*` is any.
    pub allowed_origins: Vec<String>,
    /// Request headers that cross-origin requests may carry.
    pub allowed_headers: Vec<String>,
}

impl Default for SecurityConfig {
    fn default() -> Self {
        Self {
            secure: false,
            ssl: SslConfig::default(),
            use_auth: false,
            insecure_cookie_header: false,
            allow_cors: true,
            allowed_origins: vec!["*".to_owned()],
            allowed_headers: vec!["Content-Type".to_owned(), "flyte-authorization".to_owned()],
        }
    }
}

/// `server.security.ssl`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SslConfig {
    /// PEM file of the certificate chain.
    pub certificate_file: String,
    /// PEM file of the private key.
    pub key_file: String,
}

/// `server.grpc`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GrpcConfig {
    /// Port of the gRPC listener.
    pub port: i32,
    /// Serve gRPC reflection.
    pub server_reflection: bool,
    /// The largest message in either direction, in bytes; 0 is 4 MiB in and no limit out. Pages of lists end before it, or
    /// before 4 MiB.
    pub max_message_size_bytes: usize,
    /// Count the duration of calls in the histogram `grpc_server_handling_seconds`.
    pub enable_grpc_latency_metrics: bool,
    /// The most calls at once on one connection; 0 is the server's default.
    pub max_concurrent_streams: u32,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            port: 8089,
            server_reflection: true,
            max_message_size_bytes: 0,
            enable_grpc_latency_metrics: false,
            max_concurrent_streams: 0,
        }
    }
}

/// `server.dataProxy`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DataProxyConfig {
    /// What CreateUploadLocation signs.
    pub upload: UploadConfig,
    /// What CreateDownloadLink and GetData sign.
    pub download: DownloadConfig,
}

/// `server.dataProxy.upload`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UploadConfig {
    /// The longest that an upload URL is good for, and how long it is good for unless asked; S3 and Google Cloud Storage take 7
    /// days at most, whatever it says.
    pub max_expires_in: Duration,
    /// Length of generated file names.
    pub default_file_name_length: usize,
    /// First segment of uploaded objects' keys.
    pub storage_prefix: String,
}

impl Default for UploadConfig {
    fn default() -> Self {
        Self {
            max_expires_in: Duration::hours(1),
            default_file_name_length: 20,
            storage_prefix: String::new(),
        }
    }
}

/// `server.dataProxy.download`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DownloadConfig {
    /// The longest that a download URL is good for, and how long it is good for unless asked; S3 and Google Cloud Storage take
    /// 7 days at most, whatever it says.
    pub max_expires_in: Duration,
}

impl Default for DownloadConfig {
    fn default() -> Self {
        Self {
            max_expires_in: Duration::hours(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connections_may_take_is_heard() {
        let config = ServerConfig {
            read_header_timeout_seconds: 7,
            grpc: GrpcConfig {
                max_concurrent_streams: 3,
                ..GrpcConfig::default()
            },
            ..ServerConfig::default()
        };
        let limits = config.connection_limits();
        assert_eq!(limits.header_read_timeout.as_secs(), 7);
        assert_eq!(limits.max_concurrent_streams, 3);
        let default = ServerConfig::default().connection_limits();
        assert_eq!(default, ConnectionLimits::default());
    }
}
