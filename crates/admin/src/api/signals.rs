//! SignalService.

use flyte_idl::{admin as wire, service::signal_service_server::SignalService};
use tonic::Request;

use super::{Api, Reply, reply, rpc, storing};
use crate::{
    caller::{accept, accept_stored},
    handlers::signals,
};

#[tonic::async_trait]
impl SignalService for Api {
    async fn get_or_create_signal(
        &self,
        request: Request<wire::SignalGetOrCreateRequest>,
    ) -> Reply<wire::Signal> {
        storing!(self, request => signals::get_or_create)
    }

    async fn list_signals(
        &self,
        request: Request<wire::SignalListRequest>,
    ) -> Reply<wire::SignalList> {
        rpc!(self, request => signals::list)
    }

    async fn set_signal(
        &self,
        request: Request<wire::SignalSetRequest>,
    ) -> Reply<wire::SignalSetResponse> {
        storing!(self, request => signals::set)
    }
}
