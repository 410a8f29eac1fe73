//! Counting the calls that go through a channel (spec 07 §3).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{
    Code,
    body::Body,
    transport::{self, Channel},
};
use tower::Service;

use crate::server::{CallMetrics, CountedBody, calls::Counted};

/// A channel whose calls are counted, each try of its own. One that nobody waits for any more counts as cancelled, one
/// that does not reach the server as unavailable.
#[derive(Clone, Debug)]
pub struct CountedChannel {
    channel: Channel,
    metrics: Arc<CallMetrics>,
}

impl CountedChannel {
    /// `channel`, counted.
    pub fn new(channel: Channel, metrics: Arc<CallMetrics>) -> Self {
        Self { channel, metrics }
    }
}

impl Service<Request<Body>> for CountedChannel {
    type Response = Response<CountedBody<Body>>;
    type Error = transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let counted = Counted::begin(self.metrics.clone(), request.uri().path());
        let answer = self.channel.call(request);
        Box::pin(async move {
            match (answer.await, counted) {
                (Ok(response), Some(counted)) => Ok(counted.follow(response)),
                (Ok(response), None) => Ok(response.map(CountedBody::uncounted)),
                (Err(error), counted) => {
                    if let Some(counted) = counted {
                        counted.ends(Code::Unavailable);
                    }
                    Err(error)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use futures::FutureExt as _;
    use tokio_util::sync::CancellationToken;
    use tonic::service::Routes;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use super::*;
    use crate::{
        metrics::Scope,
        server::{self, Latency},
    };

    fn counted(channel: Channel, scope: &Scope, latency: Latency) -> HealthClient<CountedChannel> {
        let methods = ["grpc.health.v1.Health/Check".to_owned()];
        let metrics = CallMetrics::of_client(scope, methods, latency).unwrap();
        HealthClient::new(CountedChannel::new(channel, Arc::new(metrics)))
    }

    fn of(service: &str) -> HealthCheckRequest {
        HealthCheckRequest {
            service: service.into(),
        }
    }

    #[track_caller]
    fn check(scope: &Scope, expected: &[(&str, &str, u32)]) {
        let text = scope.render();
        for (name, code, count) in expected {
            let code = match *code {
                "" => String::new(),
                code => format!("grpc_code=\"{code}\","),
            };
            let line = format!(
                "grpc_client_{name}{{{code}grpc_method=\"Check\",grpc_service=\"grpc.health.v1.Health\",grpc_type=\"unary\"}} \
                 {count}"
            );
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }

    #[tokio::test]
    async fn calls_are_counted_under_gos_names() {
        let (scope, stop) = (Scope::new("flyte:"), CancellationToken::new());
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter
            .set_service_status("known", tonic_health::ServingStatus::Serving)
            .await;
        let router = server::combine(Routes::new(health), Router::new());
        let (channel, serving) = server::in_process(router, stop.clone());
        let calls = async {
            let mut client = counted(channel, &scope, Latency::Counted);
            assert!(client.check(of("known")).await.is_ok());
            assert!(client.check(of("unknown")).await.is_err());
            // Not among the methods that are counted.
            assert!(client.watch(of("known")).await.is_ok());
            assert!(client.check(of("known")).now_or_never().is_none());
            stop.cancel();
        };
        tokio::join!(serving, calls);
        check(
            &scope,
            &[
                ("started_total", "", 3),
                ("msg_sent_total", "", 3),
                ("msg_received_total", "", 1),
                ("handled_total", "OK", 1),
                ("handled_total", "NotFound", 1),
                ("handled_total", "Canceled", 1),
                ("handling_seconds_count", "", 3),
            ],
        );
        assert!(!scope.render().contains("Watch"));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable() {
        let scope = Scope::new("");
        let (channel, serving) = server::in_process(Router::new(), CancellationToken::new());
        drop(serving);
        let mut client = counted(channel, &scope, Latency::NotCounted);
        assert!(client.check(of("known")).await.is_err());
        check(
            &scope,
            &[
                ("started_total", "", 1),
                ("handled_total", "Unavailable", 1),
            ],
        );
        assert!(!scope.render().contains("handling_seconds"));
    }
}
