//! One port for gRPC, REST and pages.
//!
//! A service hands over its gRPC routes and its HTTP router; [`combine`] puts both behind the layers that no
//! handler can forget (panic to INTERNAL, request id), and [`serve`] or [`in_process()`] makes them reachable. The layers are
//! the same for gRPC, REST and in-process calls. Calls are counted by the gRPC routes themselves
//! ([`CallMetrics::around`]), where those of a REST gateway pass too.

mod body_budget;
pub(crate) mod calls;
mod connections;
mod guard;
mod health;
mod in_process;
mod limits;
mod operations;
mod progress;
mod request_id;
pub mod status;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, response::Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

pub use body_budget::{BodyBudget, HeldBytes};
pub use calls::{CallMetrics, CountedBody, Latency, methods_of};
pub use connections::ConnectionLimits;
use connections::{Listened, Spoken};
pub use guard::{AllowedHosts, Foreign, Guard, Guarded, PagesRead};
pub use health::Health;
pub use in_process::in_process;
pub use limits::{Inspect, Limits, Measured, accept_all, framed, parse_timeout};
pub use operations::{BuildInformation, ProfConfig, exposition, operations};
pub use progress::{Progress, WatchedBody, Writing};
pub use request_id::RequestId;

use crate::Chain;

/// Messages larger than this are refused with RESOURCE_EXHAUSTED unless configured otherwise (gRPC's default).
pub const DEFAULT_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// A server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else has the port, or the address is not ours.
    #[error("cannot listen on {address} for {purpose}; {}", remedy(source, flag))]
    Bind {
        /// The address that could not be listened on.
        address: SocketAddr,
        /// What the port is for, with the key that sets it.
        purpose: String,
        /// The flag or key that moves it.
        flag: String,
        /// What the system said.
        source: std::io::Error,
    },
}

fn remedy(error: &std::io::Error, flag: &str) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("is another server running there? choose another port with {flag}")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "listen on an address that this machine has".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need privileges; choose another port with {flag}")
        }
        _ => format!("choose another port with {flag}"),
    }
}

/// Binds a port, naming purpose and remedy when it is taken.
pub async fn bind(
    address: SocketAddr,
    purpose: &str,
    flag: &str,
) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Bind {
            address,
            purpose: purpose.to_owned(),
            flag: flag.to_owned(),
            source,
        })
}

/// gRPC and HTTP on one router, behind the common layers.
pub fn combine(grpc: tonic::service::Routes, http: Router) -> Router {
    let grpc = grpc.prepare().into_axum_router();
    let both = tower::service_fn(move |request: Request<Body>| {
        let target = if is_grpc(request.headers()) {
            grpc.clone()
        } else {
            http.clone()
        };
        target.oneshot(request)
    });
    Router::new()
        .fallback_service(both)
        .layer(axum::middleware::from_fn(request_id::layer))
}

fn is_grpc(headers: &http::HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/grpc"))
}

/// Accepts connections until `stop`, then lets open calls end within `grace`.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) {
    let limits = ConnectionLimits::default();
    serve_within(limits, listener, tls, router, Stopping { stop, grace }).await;
}

/// When a server ends.
#[derive(Clone, Debug)]
pub struct Stopping {
    /// It is to end.
    pub stop: CancellationToken,
    /// What open calls have from then on.
    pub grace: Duration,
}

/// As [`serve`], where connections have other limits than the default ones.
pub async fn serve_within(
    limits: ConnectionLimits,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    Stopping { stop, grace }: Stopping,
) {
    let builder = Arc::new(limits.builder());
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
            (place, accepted) = accepted => match accepted {
                Ok((stream, _peer)) => (place, stream),
                Err(error) => {
                    // Out of descriptors, mostly: waiting for one to be closed beats a busy loop.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let (builder, router, tls, watcher) = (
            builder.clone(),
            router.clone(),
            tls.clone(),
            graceful.watcher(),
        );
        connections.spawn(async move {
            let _place = place;
            match tls {
                None => connection(limits, &builder, stream, router, watcher).await,
                Some(acceptor) => match handshake(acceptor, stream).await {
                    Some(stream) => connection(limits, &builder, stream, router, watcher).await,
                    None => tracing::debug!("TLS handshake failed or timed out"),
                },
            }
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(grace) => tracing::warn!(?grace, "closing connections that outlived the grace period"),
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream))
        .await
        .ok()?
        .ok()
}

/// Serves one connection until it ends, its client says nothing, or takes nothing.
async fn connection<S>(
    limits: ConnectionLimits,
    builder: &auto::Builder<TokioExecutor>,
    stream: S,
    router: Router,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (spoken, progress) = (Spoken::default(), Progress::default());
    let stream = Progress::writing(stream, limits.write_timeout);
    let io = TokioIo::new(Listened::new(stream, spoken.clone()));
    let answers = progress.clone();
    let service = ServiceExt::<Request>::map_response(router, move |response: Response| {
        response.map(|body| answers.body(body))
    });
    let served = drive(builder, io, service, watcher);
    let silent = async {
        tokio::time::sleep(limits.header_read_timeout).await;
        if spoken.yet() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = served => {}
        () = silent => tracing::debug!("a client connected and said nothing"),
        () = progress.stalled(limits.write_timeout) => {
            tracing::debug!("a client does not take its answer");
        }
    }
}

async fn drive<I, S, B>(builder: &auto::Builder<TokioExecutor>, io: I, service: S, watcher: Watcher)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: Service<Request, Response = http::Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<axum::BoxError>> + Send + 'static,
{
    let service = TowerToHyperService::new(
        service.map_request(|request: http::Request<Incoming>| request.map(Body::new)),
    );
    let connection = builder
        .serve_connection_with_upgrades(io, service)
        .into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = %Chain(error.as_ref()), "a connection ended with an error");
    }
}

#[cfg(test)]
mod tests;
