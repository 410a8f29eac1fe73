//! The ports of a platform: what stands before each, and until when it serves.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleError;
use axum::extract::Request;
use flyte_platform::server::{
    AllowedHosts, ConnectionLimits, Guard, PagesRead, Stopping, serve_within,
};
use http::StatusCode;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};

use crate::access::{Access, Authenticated};
use crate::arriving::Within;
use crate::cluster::{ApiStatus, Cluster, error_response};
use crate::s3::{BlobFolder, Credentials, S3Endpoint};

/// How long requests may go on after the end was asked for; watches and followed logs would never end themselves.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// What is the same for all ports of a platform.
pub(super) struct Ports {
    limits: ConnectionLimits,
    hosts: AllowedHosts,
    stop: CancellationToken,
}

impl Ports {
    pub(super) fn new(limits: ConnectionLimits, host: &str) -> Self {
        Self {
            limits,
            hosts: AllowedHosts::new(host),
            stop: CancellationToken::new(),
        }
    }

    /// Ends what is served.
    pub(super) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    fn stopping(&self) -> Stopping {
        Stopping {
            stop: self.stop.clone(),
            grace: LAST_REQUESTS,
        }
    }

    /// Serves the Kubernetes API by TLS to programs with its token.
    pub(super) fn kubernetes(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        cluster: &Cluster,
        access: &Access,
    ) -> impl Future<Output = ()> + Send + use<> {
        let programs_only = Guard::new(self.hosts.clone(), PagesRead::Nothing, |foreign| {
            error_response(&ApiStatus::foreign(&foreign.to_string()))
        });
        let api = Authenticated::new(cluster.service().aside(), &access.token);
        let api = programs_only.layer(api);
        // As long as an answer may wait for its client.
        let whole = Within::Whole(self.limits.write_timeout);
        let api = api.map_request(move |request: Request| request.map(|body| whole.bound(body)));
        serve_within(
            self.limits,
            listener,
            Some(TlsAcceptor::from(tls)),
            Router::new().fallback_service(api),
            self.stopping(),
        )
    }

    /// Serves the kubelet's port by TLS. Whoever reaches it may read logs, as they may at the port of Flyte's API.
    pub(super) fn kubelet(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        endpoint: Router,
    ) -> impl Future<Output = ()> + Send + use<> {
        let programs_only = Guard::plain(self.hosts.clone(), PagesRead::Nothing);
        serve_within(
            self.limits,
            listener,
            Some(TlsAcceptor::from(tls)),
            endpoint.layer(programs_only),
            self.stopping(),
        )
    }

    /// Serves the buckets.
    pub(super) fn s3(
        &self,
        listener: TcpListener,
        blobs: &Arc<BlobFolder>,
        credentials: &Credentials,
    ) -> impl Future<Output = ()> + Send + use<> {
        let pages_too = Guard::new(self.hosts.clone(), PagesRead::Everything, |foreign| {
            S3Endpoint::denied(&foreign.to_string())
        });
        let endpoint = pages_too.layer(S3Endpoint::new(blobs.clone(), credentials));
        let piece = Within::Piece(self.limits.write_timeout);
        let endpoint =
            endpoint.map_request(move |request: Request| request.map(|body| piece.bound(body)));
        let endpoint = HandleError::new(endpoint, async |error: s3s::HttpError| {
            tracing::warn!(?error, "a request to S3 could not be answered");
            StatusCode::INTERNAL_SERVER_ERROR
        });
        serve_within(
            self.limits,
            listener,
            None,
            Router::new().fallback_service(endpoint),
            self.stopping(),
        )
    }
}
