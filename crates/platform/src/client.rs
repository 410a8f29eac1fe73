//! gRPC clients: endpoints as Go writes them (spec 07 A.3). Who calls decides what is tried again.

mod calls;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::config::{self, Unheard};

pub use calls::CountedChannel;

/// Keys of section `admin` that change nothing.
pub const UNHEARD: &[Unheard] = &[
    Unheard {
        key: "admin.maxRetries",
        instead: "a flyteadmin that does not answer is waited for, a day at most",
    },
    Unheard {
        key: "admin.maxBackoffDelay",
        instead: "tries are five seconds apart at most",
    },
    Unheard {
        key: "admin.maxMessageSizeBytes",
        instead: "answers of flyteadmin may have 64 MiB",
    },
];

/// Section `admin`: how a service reaches flyteadmin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AdminClientConfig {
    /// `dns:///host:port` or `host:port`.
    pub endpoint: String,
    /// Without TLS.
    pub insecure: bool,
    /// Accepted; tries are five seconds apart at most.
    pub max_backoff_delay: config::Duration,
    /// Deadline of one try.
    pub per_retry_timeout: config::Duration,
    /// Accepted; one that does not answer is waited for.
    pub max_retries: u32,
    /// Largest message in bytes; 0 is gRPC's default.
    pub max_message_size_bytes: usize,
}

impl Default for AdminClientConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            insecure: false,
            max_backoff_delay: config::Duration::seconds(8),
            per_retry_timeout: config::Duration::seconds(15),
            max_retries: 4,
            max_message_size_bytes: 0,
        }
    }
}

/// The endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("endpoint {endpoint:?} is not usable; write it like dns:///flyteadmin:81")]
pub struct EndpointError {
    endpoint: String,
    source: tonic::transport::Error,
}

/// A channel that connects when first used and reconnects by itself.
///
/// # Errors
/// When the endpoint is no address.
pub fn channel(endpoint: &str, insecure: bool) -> Result<Channel, EndpointError> {
    crate::tls::install_crypto_provider();
    let host = endpoint
        .trim_start_matches("dns:///")
        .trim_start_matches("http://")
        .trim_start_matches("https://");
    let scheme = if insecure { "http" } else { "https" };
    let wrong = |source| EndpointError {
        endpoint: endpoint.to_owned(),
        source,
    };
    let mut built = Endpoint::try_from(format!("{scheme}://{host}"))
        .map_err(wrong)?
        .connect_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .http2_keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    if !insecure {
        built = built
            .tls_config(ClientTlsConfig::new().with_native_roots())
            .map_err(wrong)?;
    }
    Ok(built.connect_lazy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn endpoints_are_read_as_go_writes_them() {
        for endpoint in ["dns:///localhost:30080", "flyteadmin:81", "127.0.0.1:8089"] {
            assert!(channel(endpoint, true).is_ok(), "{endpoint}");
        }
        assert!(channel("spaces are wrong", true).is_err());
    }
}
