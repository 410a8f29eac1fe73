//! SignalService.

use flyte_idl::{admin as wire, service::signal_service_server::SignalService};
use tonic::Request;

use super::{Api, RpcResult, respond, rpc, storing};
use crate::{
    caller::{unpack, unpack_stored},
    handlers::signals,
};

#[tonic::async_trait]
impl SignalService for Api {
    async fn get_or_create_signal(
        &self,
        request: Request<wire::SignalGetOrCreateRequest>,
    ) -> RpcResult<wire::Signal> {
        storing!(self, request => signals::get_or_create)
    }

    async fn list_signals(
        &self,
        request: Request<wire::SignalListRequest>,
    ) -> RpcResult<wire::SignalList> {
        rpc!(self, request => signals::list)
    }

    async fn set_signal(
        &self,
        request: Request<wire::SignalSetRequest>,
    ) -> RpcResult<wire::SignalSetResponse> {
        storing!(self, request => signals::set)
    }
}
