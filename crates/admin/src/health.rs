//! `grpc.health.v1.Health` (spec 01 §1.3).

use std::pin::Pin;

use futures::Stream;
use tokio::sync::watch;
use tokio_stream::{StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health as HealthService,
};

/// Answers for `""` and `flyteadmin`.
pub(crate) struct Health {
    pub(crate) ready: watch::Receiver<bool>,
}

fn answer(ready: bool) -> HealthCheckResponse {
    let status = if ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    HealthCheckResponse {
        status: status as i32,
    }
}

fn require(service: &str) -> Result<(), Status> {
    if matches!(service, "" | "flyteadmin") {
        Ok(())
    } else {
        Err(Status::not_found("unknown service"))
    }
}

#[tonic::async_trait]
impl HealthService for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        require(&request.get_ref().service)?;
        let ready = *self.ready.borrow();
        Ok(Response::new(answer(ready)))
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        require(&request.get_ref().service)?;
        let changes = WatchStream::new(self.ready.clone()).map(|ready| Ok(answer(ready)));
        Ok(Response::new(Box::pin(changes)))
    }
}
