//! `grpc.health.v1.Health` of all services behind one port (spec 01 §1.3).

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use crate::sync::Mutex;
use futures::{Stream, StreamExt as _};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as HealthService, HealthServer},
};

/// Which services are here, and whether each does its work. Clones are the same.
///
/// SERVING means doing the work (spec 01 §1.3), NOT_SERVING that a part is wanted and does not: it is not ready yet, or is
/// not built. A part that is not wanted is unknown: NOT_FOUND.
#[derive(Clone, Default)]
pub struct Health {
    services: Arc<Mutex<BTreeMap<String, State>>>,
    /// Ends the streams of those who watch.
    closed: CancellationToken,
}

#[derive(Clone)]
enum State {
    Reported(watch::Receiver<bool>),
    Missing(Arc<watch::Sender<bool>>),
}

impl State {
    fn watched(&self) -> watch::Receiver<bool> {
        match self {
            Self::Reported(ready) => ready.clone(),
            Self::Missing(never) => never.subscribe(),
        }
    }
}

impl Health {
    /// Of nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `service` serves while `ready` is true. The empty name is the process as a whole.
    pub fn report(&self, service: &str, ready: watch::Receiver<bool>) {
        self.put(service, State::Reported(ready));
    }

    /// `service` is wanted here and is not there.
    pub fn missing(&self, service: &str) {
        self.put(service, State::Missing(Arc::new(watch::Sender::new(false))));
    }

    /// Ends the streams of those who watch: the process is about to end, and would wait for them.
    pub fn close(&self) {
        self.closed.cancel();
    }

    fn put(&self, service: &str, state: State) {
        self.services.lock().insert(service.to_owned(), state);
    }

    fn of(&self, service: &str) -> Result<watch::Receiver<bool>, Status> {
        self.services
            .lock()
            .get(service)
            .map(State::watched)
            .ok_or_else(|| Status::not_found("unknown service"))
    }

    /// The gRPC service.
    pub fn service(&self) -> HealthServer<Self> {
        HealthServer::new(self.clone())
    }
}

fn answer(ready: bool) -> HealthCheckResponse {
    let status = if ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl HealthService for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let ready = self.of(&request.get_ref().service)?;
        let ready = *ready.borrow();
        Ok(Response::new(answer(ready)))
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let ready = self.of(&request.get_ref().service)?;
        let changes = WatchStream::new(ready)
            .map(|ready| Ok(answer(ready)))
            .take_until(self.closed.clone().cancelled_owned());
        Ok(Response::new(Box::pin(changes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(health: &Health, service: &str) -> Result<ServingStatus, tonic::Code> {
        let service = service.to_owned();
        health
            .check(Request::new(HealthCheckRequest { service }))
            .await
            .map(|answer| answer.get_ref().status())
            .map_err(|status| status.code())
    }

    #[tokio::test]
    async fn parts_serve_or_do_not_and_others_are_unknown() {
        let health = Health::new();
        let ready = watch::Sender::new(false);
        health.report("flyteadmin", ready.subscribe());
        health.missing("datacatalog");
        assert_eq!(
            check(&health, "flyteadmin").await,
            Ok(ServingStatus::NotServing)
        );
        ready.send_replace(true);
        assert_eq!(
            check(&health, "flyteadmin").await,
            Ok(ServingStatus::Serving)
        );
        assert_eq!(
            check(&health, "datacatalog").await,
            Ok(ServingStatus::NotServing)
        );
        assert_eq!(check(&health, "else").await, Err(tonic::Code::NotFound));
    }

    #[tokio::test]
    async fn who_watches_hears_of_changes() {
        let health = Health::new();
        let ready = watch::Sender::new(false);
        health.report("flyteadmin", ready.subscribe());
        let request = HealthCheckRequest {
            service: "flyteadmin".into(),
        };
        let mut changes = health
            .watch(Request::new(request))
            .await
            .unwrap()
            .into_inner();
        let first = changes.next().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::NotServing);
        ready.send_replace(true);
        let second = changes.next().await.unwrap().unwrap();
        assert_eq!(second.status(), ServingStatus::Serving);
        health.close();
        assert!(changes.next().await.is_none());
    }
}
