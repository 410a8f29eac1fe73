//! SignalService.

use flyte_idl::{admin, service::signal_service_server::SignalService};
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
        request: Request<admin::SignalGetOrCreateRequest>,
    ) -> RpcResult<admin::Signal> {
        storing!(self, request => signals::get_or_create)
    }

    async fn list_signals(
        &self,
        request: Request<admin::SignalListRequest>,
    ) -> RpcResult<admin::SignalList> {
        rpc!(self, request => signals::list)
    }

    async fn set_signal(
        &self,
        request: Request<admin::SignalSetRequest>,
    ) -> RpcResult<admin::SignalSetResponse> {
        storing!(self, request => signals::set)
    }
}
