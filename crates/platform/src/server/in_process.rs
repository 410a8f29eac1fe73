//! Calls that never leave the process, through the same layers as those that do.

use std::sync::Arc;

use axum::Router;
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{io::DuplexStream, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};

/// How many bytes a pipe holds before its writer waits.
const PIPE_BYTES: usize = 1024 * 1024;
/// A channel opens one connection and reopens it rarely; more waiting ones mean that nobody serves.
const WAITING_CONNECTIONS: usize = 16;

/// A channel to `router` and the future that serves it until `stop`.
///
/// The channel connects when first used, so the future may be started later.
pub fn in_process(
    router: Router,
    stop: CancellationToken,
) -> (Channel, impl Future<Output = ()> + Send + 'static) {
    let (sender, mut receiver) = mpsc::channel::<DuplexStream>(WAITING_CONNECTIONS);
    let connector = tower::service_fn(move |_: Uri| {
        let sender = sender.clone();
        async move {
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            sender
                .send(far)
                .await
                .map_err(|_| std::io::Error::other("the in-process server has stopped"))?;
            Ok::<_, std::io::Error>(TokioIo::new(near))
        }
    });
    let channel = Endpoint::from_static("http://in-process")
        .initial_stream_window_size(1024 * 1024)
        .connect_with_connector_lazy(connector);
    let server = async move {
        let builder = Arc::new(super::ConnectionLimits::default().builder());
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
                received = receiver.recv() => {
                    let Some(stream) = received else { break };
                    let (builder, router, watcher) = (builder.clone(), router.clone(), graceful.watcher());
                    connections.spawn(async move {
                        super::drive(&builder, TokioIo::new(stream), router, watcher).await;
                    });
                }
            }
        }
    };
    (channel, server)
}
