//! The gRPC service: accept, call the handler, answer.

use std::sync::Arc;

use flyte_idl::datacatalog::{
    AddTagRequest, AddTagResponse, CreateArtifactRequest, CreateArtifactResponse,
    CreateDatasetRequest, CreateDatasetResponse, GetArtifactRequest, GetArtifactResponse,
    GetDatasetRequest, GetDatasetResponse, GetOrExtendReservationRequest,
    GetOrExtendReservationResponse, ListArtifactsRequest, ListArtifactsResponse,
    ListDatasetsRequest, ListDatasetsResponse, ReleaseReservationRequest,
    ReleaseReservationResponse, UpdateArtifactRequest, UpdateArtifactResponse,
    data_catalog_server::DataCatalog,
};
use tonic::{Request, Response, Status};

use crate::{
    context::CatalogContext,
    error::Error,
    handlers::{artifacts, datasets, reservations, tags},
};

type RpcResult<T> = Result<Response<T>, Status>;

/// The service; without context it is that of `serve-dummy`, which answers nothing.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Option<Arc<CatalogContext>>);

/// An RPC that is one call of a handler.
macro_rules! rpc {
    ($self:ident, $request:ident, $name:literal => $($handler:ident)::+) => {{
        let context = $self.0.as_ref().ok_or(Error::Dummy($name))?;
        let answer = $($handler)::+(context, $request.into_inner()).await?;
        Ok(Response::new(answer))
    }};
}

#[tonic::async_trait]
impl DataCatalog for Api {
    async fn create_dataset(
        &self,
        request: Request<CreateDatasetRequest>,
    ) -> RpcResult<CreateDatasetResponse> {
        rpc!(self, request, "CreateDataset" => datasets::create)
    }

    async fn get_dataset(
        &self,
        request: Request<GetDatasetRequest>,
    ) -> RpcResult<GetDatasetResponse> {
        rpc!(self, request, "GetDataset" => datasets::get)
    }

    async fn create_artifact(
        &self,
        request: Request<CreateArtifactRequest>,
    ) -> RpcResult<CreateArtifactResponse> {
        rpc!(self, request, "CreateArtifact" => artifacts::change::create)
    }

    async fn get_artifact(
        &self,
        request: Request<GetArtifactRequest>,
    ) -> RpcResult<GetArtifactResponse> {
        rpc!(self, request, "GetArtifact" => artifacts::get)
    }

    async fn add_tag(&self, request: Request<AddTagRequest>) -> RpcResult<AddTagResponse> {
        rpc!(self, request, "AddTag" => tags::add)
    }

    async fn list_artifacts(
        &self,
        request: Request<ListArtifactsRequest>,
    ) -> RpcResult<ListArtifactsResponse> {
        rpc!(self, request, "ListArtifacts" => artifacts::list)
    }

    async fn list_datasets(
        &self,
        request: Request<ListDatasetsRequest>,
    ) -> RpcResult<ListDatasetsResponse> {
        rpc!(self, request, "ListDatasets" => datasets::list)
    }

    async fn update_artifact(
        &self,
        request: Request<UpdateArtifactRequest>,
    ) -> RpcResult<UpdateArtifactResponse> {
        rpc!(self, request, "UpdateArtifact" => artifacts::change::update)
    }

    async fn get_or_extend_reservation(
        &self,
        request: Request<GetOrExtendReservationRequest>,
    ) -> RpcResult<GetOrExtendReservationResponse> {
        rpc!(self, request, "GetOrExtendReservation" => reservations::get_or_extend)
    }

    async fn release_reservation(
        &self,
        request: Request<ReleaseReservationRequest>,
    ) -> RpcResult<ReleaseReservationResponse> {
        rpc!(self, request, "ReleaseReservation" => reservations::release)
    }
}
