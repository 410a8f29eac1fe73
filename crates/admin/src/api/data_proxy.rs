//! DataProxyService.

use flyte_idl::service::{
    CreateDownloadLinkRequest, CreateDownloadLinkResponse, CreateDownloadLocationRequest,
    CreateDownloadLocationResponse, CreateUploadLocationRequest, CreateUploadLocationResponse,
    GetDataRequest, GetDataResponse, data_proxy_service_server::DataProxyService,
};
use tonic::Request;

use super::{Api, RpcResult, respond, rpc};
use crate::{caller::unpack, handlers::data_proxy};

#[tonic::async_trait]
impl DataProxyService for Api {
    async fn create_upload_location(
        &self,
        request: Request<CreateUploadLocationRequest>,
    ) -> RpcResult<CreateUploadLocationResponse> {
        rpc!(self, request => data_proxy::upload_location)
    }

    async fn create_download_location(
        &self,
        request: Request<CreateDownloadLocationRequest>,
    ) -> RpcResult<CreateDownloadLocationResponse> {
        rpc!(self, request => data_proxy::download_location)
    }

    async fn create_download_link(
        &self,
        request: Request<CreateDownloadLinkRequest>,
    ) -> RpcResult<CreateDownloadLinkResponse> {
        rpc!(self, request => data_proxy::download_link)
    }

    async fn get_data(&self, request: Request<GetDataRequest>) -> RpcResult<GetDataResponse> {
        rpc!(self, request => data_proxy::get_data)
    }
}
