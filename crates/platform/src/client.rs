//! gRPC clients: endpoints as Go writes them, deadlines, retries (spec 07 A.3).

mod calls;

use std::{future::Future, time::Duration};

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use tonic::{
    Code, Status,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use crate::config;

pub use calls::CountedChannel;

/// Section `admin`: how a service reaches flyteadmin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AdminClientConfig {
    /// `dns:///host:port` or `host:port`.
    pub endpoint: String,
    /// Without TLS.
    pub insecure: bool,
    /// Longest wait between two tries.
    pub max_backoff_delay: config::Duration,
    /// Deadline of one try.
    pub per_retry_timeout: config::Duration,
    /// Tries after the first.
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

/// How an idempotent call is tried again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Tries after the first; none is for ever.
    pub retries: Option<u32>,
    /// Wait before the second try; doubled each time.
    pub base: Duration,
    /// The longest wait between two tries.
    pub max: Duration,
    /// Deadline of one try.
    pub per_try: Duration,
}

impl From<&AdminClientConfig> for RetryPolicy {
    fn from(config: &AdminClientConfig) -> Self {
        Self {
            retries: Some(config.max_retries),
            base: Duration::from_millis(100),
            max: config.max_backoff_delay.to_std(),
            per_try: config.per_retry_timeout.to_std(),
        }
    }
}

impl RetryPolicy {
    /// Calls until it succeeds, fails for good, or the tries are used up. Only for idempotent calls.
    ///
    /// # Errors
    /// The last status; a try that ran out of time is DEADLINE_EXCEEDED.
    pub async fn run<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut tries = 0;
        loop {
            let outcome = tokio::time::timeout(self.per_try, call())
                .await
                .unwrap_or_else(|_| {
                    Err(Status::deadline_exceeded(format!(
                        "no answer within {:?}",
                        self.per_try
                    )))
                });
            match outcome {
                Err(status)
                    if is_transient(status.code())
                        && self.retries.is_none_or(|retries| tries < retries) =>
                {
                    tokio::time::sleep(self.wait(tries)).await;
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// The wait before try `tries + 2`: doubled, capped, and spread so that clients do not march in step.
    fn wait(&self, tries: u32) -> Duration {
        let full = self
            .base
            .saturating_mul(2_u32.saturating_pow(tries.min(16)))
            .min(self.max);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

/// Whether the same call may succeed later.
pub fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Aborted
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        retries: Some(4),
        base: Duration::from_millis(100),
        max: Duration::from_secs(8),
        per_try: Duration::from_secs(15),
    };

    #[tokio::test(start_paused = true)]
    async fn transient_failures_are_retried_and_others_are_not() {
        for (code, expected) in [
            (Code::Unavailable, 5),
            (Code::ResourceExhausted, 5),
            (Code::InvalidArgument, 1),
        ] {
            let calls = Cell::new(0);
            let outcome: Result<(), _> = POLICY
                .run(|| async {
                    calls.set(calls.get() + 1);
                    Err(Status::new(code, "no"))
                })
                .await;
            assert_eq!(outcome.unwrap_err().code(), code);
            assert_eq!(calls.get(), expected, "{code:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_a_deadline() {
        let outcome: Result<(), _> = RetryPolicy {
            retries: Some(0),
            ..POLICY
        }
        .run(std::future::pending)
        .await;
        assert_eq!(outcome.unwrap_err().code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn endpoints_are_read_as_go_writes_them() {
        for endpoint in ["dns:///localhost:30080", "flyteadmin:81", "127.0.0.1:8089"] {
            assert!(channel(endpoint, true).is_ok(), "{endpoint}");
        }
        assert!(channel("spaces are wrong", true).is_err());
    }
}
