//! DataProxyService.

use flyte_idl::service::{
    CreateDownloadLinkRequest, CreateDownloadLinkResponse, CreateDownloadLocationRequest,
    CreateDownloadLocationResponse, CreateUploadLocationRequest, CreateUploadLocationResponse,
    GetDataRequest, GetDataResponse, data_proxy_service_server::DataProxyService,
};
use tonic::Request;

use super::{Api, Reply, reply, rpc};
use crate::{caller::accept, handlers::data_proxy};

#[tonic::async_trait]
impl DataProxyService for Api {
    async fn create_upload_location(
        &self,
        request: Request<CreateUploadLocationRequest>,
    ) -> Reply<CreateUploadLocationResponse> {
        rpc!(self, request => data_proxy::upload_location)
    }

    async fn create_download_location(
        &self,
        request: Request<CreateDownloadLocationRequest>,
    ) -> Reply<CreateDownloadLocationResponse> {
        rpc!(self, request => data_proxy::download_location)
    }

    async fn create_download_link(
        &self,
        request: Request<CreateDownloadLinkRequest>,
    ) -> Reply<CreateDownloadLinkResponse> {
        rpc!(self, request => data_proxy::download_link)
    }

    async fn get_data(&self, request: Request<GetDataRequest>) -> Reply<GetDataResponse> {
        rpc!(self, request => data_proxy::get_data)
    }
}
