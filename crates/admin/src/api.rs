//! The gRPC services: accept, call the domain, answer.
//!
//! RPCs that this version does not have answer UNIMPLEMENTED with their name.

mod data_proxy;
mod signals;

use std::sync::Arc;

use flyte_idl::{admin, service::admin_service_server::AdminService};
use prost::{Message, Name};
use tonic::{Request, Response, Status};

use crate::{
    caller::{Action, Resource, unpack, unpack_stored},
    context::AdminContext,
    error::{Error, Result},
    handlers::{
        data, descriptions, events, executions, launch_plans,
        named_entities::{self, IdList},
        node_executions, projects, task_executions, tasks, workflows,
    },
    unknown_fields::Reply,
};

pub(crate) type RpcResult<T> = std::result::Result<Response<T>, Status>;

/// The implementation of all services.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Arc<AdminContext>);

pub(crate) fn respond<T: Message + Name>(result: Result<impl Into<Reply<T>>>) -> RpcResult<T> {
    let (message, replacement) = result.map_err(Status::from)?.into().into_parts();
    let mut response = Response::new(message);
    if let Some(replacement) = replacement {
        response.extensions_mut().insert(replacement);
    }
    Ok(response)
}

/// The answer of an RPC that this version does not have, by its full name.
fn not_built<T>(rpc: &'static str) -> RpcResult<T> {
    Err(Error::Unimplemented(rpc).into())
}

/// An RPC that is one call of a domain function.
macro_rules! rpc {
    ($self:ident, $request:ident => $($function:ident)::+ $(, $extra:expr)?) => {{
        let (caller, message) = unpack($request);
        respond($($function)::+(&$self.0, &caller, $($extra,)? message).await)
    }};
}
pub(crate) use rpc;

/// As [`rpc`], for a message of which unknown fields are stored too.
macro_rules! storing {
    ($self:ident, $request:ident => $($function:ident)::+) => {{
        let (caller, message) = unpack_stored($request);
        respond($($function)::+(&$self.0, &caller, message).await)
    }};
}
pub(crate) use storing;

/// As [`rpc`], for a call of several steps that must not end between them.
macro_rules! uninterrupted {
    ($self:ident, $request:ident => $($function:ident)::+) => {{
        let (caller, message) = unpack($request);
        let context = $self.0.clone();
        let work = async move { $($function)::+(&context, &caller, message).await };
        respond($self.0.detached.run(work).await)
    }};
    ($self:ident, $request:ident => storing $($function:ident)::+) => {{
        let (caller, message) = unpack_stored($request);
        let context = $self.0.clone();
        let work = async move { $($function)::+(&context, &caller, message).await };
        respond($self.0.detached.run(work).await)
    }};
}

#[tonic::async_trait]
impl AdminService for Api {
    async fn create_task(
        &self,
        request: Request<admin::TaskCreateRequest>,
    ) -> RpcResult<admin::TaskCreateResponse> {
        storing!(self, request => tasks::create)
    }

    async fn get_task(&self, request: Request<admin::ObjectGetRequest>) -> RpcResult<admin::Task> {
        rpc!(self, request => tasks::get)
    }

    async fn list_task_ids(
        &self,
        request: Request<admin::NamedEntityIdentifierListRequest>,
    ) -> RpcResult<admin::NamedEntityIdentifierList> {
        rpc!(self, request => named_entities::ids, IdList::Tasks)
    }

    async fn list_tasks(
        &self,
        request: Request<admin::ResourceListRequest>,
    ) -> RpcResult<admin::TaskList> {
        rpc!(self, request => tasks::list)
    }

    async fn create_workflow(
        &self,
        request: Request<admin::WorkflowCreateRequest>,
    ) -> RpcResult<admin::WorkflowCreateResponse> {
        uninterrupted!(self, request => storing workflows::create)
    }

    async fn get_workflow(
        &self,
        request: Request<admin::ObjectGetRequest>,
    ) -> RpcResult<admin::Workflow> {
        rpc!(self, request => workflows::get)
    }

    async fn list_workflow_ids(
        &self,
        request: Request<admin::NamedEntityIdentifierListRequest>,
    ) -> RpcResult<admin::NamedEntityIdentifierList> {
        rpc!(self, request => named_entities::ids, IdList::Workflows)
    }

    async fn list_workflows(
        &self,
        request: Request<admin::ResourceListRequest>,
    ) -> RpcResult<admin::WorkflowList> {
        rpc!(self, request => workflows::list)
    }

    async fn create_launch_plan(
        &self,
        request: Request<admin::LaunchPlanCreateRequest>,
    ) -> RpcResult<admin::LaunchPlanCreateResponse> {
        storing!(self, request => launch_plans::create)
    }

    async fn get_launch_plan(
        &self,
        request: Request<admin::ObjectGetRequest>,
    ) -> RpcResult<admin::LaunchPlan> {
        rpc!(self, request => launch_plans::get)
    }

    async fn get_active_launch_plan(
        &self,
        request: Request<admin::ActiveLaunchPlanRequest>,
    ) -> RpcResult<admin::LaunchPlan> {
        rpc!(self, request => launch_plans::get_active)
    }

    async fn list_active_launch_plans(
        &self,
        request: Request<admin::ActiveLaunchPlanListRequest>,
    ) -> RpcResult<admin::LaunchPlanList> {
        rpc!(self, request => launch_plans::list_active)
    }

    async fn list_launch_plan_ids(
        &self,
        request: Request<admin::NamedEntityIdentifierListRequest>,
    ) -> RpcResult<admin::NamedEntityIdentifierList> {
        rpc!(self, request => named_entities::ids, IdList::LaunchPlans)
    }

    async fn list_launch_plans(
        &self,
        request: Request<admin::ResourceListRequest>,
    ) -> RpcResult<admin::LaunchPlanList> {
        rpc!(self, request => launch_plans::list)
    }

    async fn update_launch_plan(
        &self,
        request: Request<admin::LaunchPlanUpdateRequest>,
    ) -> RpcResult<admin::LaunchPlanUpdateResponse> {
        rpc!(self, request => launch_plans::update)
    }

    async fn create_execution(
        &self,
        request: Request<admin::ExecutionCreateRequest>,
    ) -> RpcResult<admin::ExecutionCreateResponse> {
        uninterrupted!(self, request => storing executions::create::create)
    }

    async fn relaunch_execution(
        &self,
        request: Request<admin::ExecutionRelaunchRequest>,
    ) -> RpcResult<admin::ExecutionCreateResponse> {
        uninterrupted!(self, request => executions::create::relaunch)
    }

    async fn get_execution(
        &self,
        request: Request<admin::WorkflowExecutionGetRequest>,
    ) -> RpcResult<admin::Execution> {
        rpc!(self, request => executions::get)
    }

    async fn update_execution(
        &self,
        request: Request<admin::ExecutionUpdateRequest>,
    ) -> RpcResult<admin::ExecutionUpdateResponse> {
        rpc!(self, request => executions::update)
    }

    async fn get_execution_data(
        &self,
        request: Request<admin::WorkflowExecutionGetDataRequest>,
    ) -> RpcResult<admin::WorkflowExecutionGetDataResponse> {
        rpc!(self, request => data::execution)
    }

    async fn list_executions(
        &self,
        request: Request<admin::ResourceListRequest>,
    ) -> RpcResult<admin::ExecutionList> {
        rpc!(self, request => executions::list)
    }

    async fn terminate_execution(
        &self,
        request: Request<admin::ExecutionTerminateRequest>,
    ) -> RpcResult<admin::ExecutionTerminateResponse> {
        uninterrupted!(self, request => executions::terminate::terminate)
    }

    async fn get_node_execution(
        &self,
        request: Request<admin::NodeExecutionGetRequest>,
    ) -> RpcResult<admin::NodeExecution> {
        rpc!(self, request => node_executions::get)
    }

    async fn get_dynamic_node_workflow(
        &self,
        request: Request<admin::GetDynamicNodeWorkflowRequest>,
    ) -> RpcResult<admin::DynamicNodeWorkflowResponse> {
        rpc!(self, request => node_executions::dynamic_workflow)
    }

    async fn list_node_executions(
        &self,
        request: Request<admin::NodeExecutionListRequest>,
    ) -> RpcResult<admin::NodeExecutionList> {
        rpc!(self, request => node_executions::list)
    }

    async fn list_node_executions_for_task(
        &self,
        request: Request<admin::NodeExecutionForTaskListRequest>,
    ) -> RpcResult<admin::NodeExecutionList> {
        rpc!(self, request => node_executions::list_for_task)
    }

    async fn get_node_execution_data(
        &self,
        request: Request<admin::NodeExecutionGetDataRequest>,
    ) -> RpcResult<admin::NodeExecutionGetDataResponse> {
        rpc!(self, request => data::node)
    }

    async fn register_project(
        &self,
        request: Request<admin::ProjectRegisterRequest>,
    ) -> RpcResult<admin::ProjectRegisterResponse> {
        storing!(self, request => projects::register)
    }

    async fn update_project(
        &self,
        request: Request<admin::Project>,
    ) -> RpcResult<admin::ProjectUpdateResponse> {
        storing!(self, request => projects::update)
    }

    async fn get_project(
        &self,
        request: Request<admin::ProjectGetRequest>,
    ) -> RpcResult<admin::Project> {
        rpc!(self, request => projects::get)
    }

    async fn list_projects(
        &self,
        request: Request<admin::ProjectListRequest>,
    ) -> RpcResult<admin::Projects> {
        rpc!(self, request => projects::list)
    }

    async fn get_domains(
        &self,
        request: Request<admin::GetDomainRequest>,
    ) -> RpcResult<admin::GetDomainsResponse> {
        let (caller, _message) = unpack(request);
        respond(projects::domains(&self.0, &caller))
    }

    async fn create_workflow_event(
        &self,
        request: Request<admin::WorkflowExecutionEventRequest>,
    ) -> RpcResult<admin::WorkflowExecutionEventResponse> {
        storing!(self, request => events::workflow)
    }

    async fn create_node_event(
        &self,
        request: Request<admin::NodeExecutionEventRequest>,
    ) -> RpcResult<admin::NodeExecutionEventResponse> {
        storing!(self, request => events::node)
    }

    async fn create_task_event(
        &self,
        request: Request<admin::TaskExecutionEventRequest>,
    ) -> RpcResult<admin::TaskExecutionEventResponse> {
        storing!(self, request => events::task)
    }

    async fn get_task_execution(
        &self,
        request: Request<admin::TaskExecutionGetRequest>,
    ) -> RpcResult<admin::TaskExecution> {
        rpc!(self, request => task_executions::get)
    }

    async fn list_task_executions(
        &self,
        request: Request<admin::TaskExecutionListRequest>,
    ) -> RpcResult<admin::TaskExecutionList> {
        rpc!(self, request => task_executions::list)
    }

    async fn get_task_execution_data(
        &self,
        request: Request<admin::TaskExecutionGetDataRequest>,
    ) -> RpcResult<admin::TaskExecutionGetDataResponse> {
        rpc!(self, request => data::task)
    }

    async fn list_named_entities(
        &self,
        request: Request<admin::NamedEntityListRequest>,
    ) -> RpcResult<admin::NamedEntityList> {
        rpc!(self, request => named_entities::list)
    }

    async fn get_named_entity(
        &self,
        request: Request<admin::NamedEntityGetRequest>,
    ) -> RpcResult<admin::NamedEntity> {
        rpc!(self, request => named_entities::get)
    }

    async fn update_named_entity(
        &self,
        request: Request<admin::NamedEntityUpdateRequest>,
    ) -> RpcResult<admin::NamedEntityUpdateResponse> {
        rpc!(self, request => named_entities::update)
    }

    async fn get_version(
        &self,
        request: Request<admin::GetVersionRequest>,
    ) -> RpcResult<admin::GetVersionResponse> {
        let (caller, _message) = unpack(request);
        respond(
            self.0
                .allow(&caller, Action::Read, Resource::Platform)
                .map(|()| admin::GetVersionResponse {
                    control_plane_version: Some(self.0.version.clone()),
                }),
        )
    }

    async fn get_description_entity(
        &self,
        request: Request<admin::ObjectGetRequest>,
    ) -> RpcResult<admin::DescriptionEntity> {
        rpc!(self, request => descriptions::get)
    }

    async fn list_description_entities(
        &self,
        request: Request<admin::DescriptionEntityListRequest>,
    ) -> RpcResult<admin::DescriptionEntityList> {
        rpc!(self, request => descriptions::list)
    }

    async fn recover_execution(
        &self,
        _request: Request<admin::ExecutionRecoverRequest>,
    ) -> RpcResult<admin::ExecutionCreateResponse> {
        not_built("flyteidl.service.AdminService/RecoverExecution")
    }

    async fn update_project_domain_attributes(
        &self,
        _request: Request<admin::ProjectDomainAttributesUpdateRequest>,
    ) -> RpcResult<admin::ProjectDomainAttributesUpdateResponse> {
        not_built("flyteidl.service.AdminService/UpdateProjectDomainAttributes")
    }

    async fn get_project_domain_attributes(
        &self,
        _request: Request<admin::ProjectDomainAttributesGetRequest>,
    ) -> RpcResult<admin::ProjectDomainAttributesGetResponse> {
        not_built("flyteidl.service.AdminService/GetProjectDomainAttributes")
    }

    async fn delete_project_domain_attributes(
        &self,
        _request: Request<admin::ProjectDomainAttributesDeleteRequest>,
    ) -> RpcResult<admin::ProjectDomainAttributesDeleteResponse> {
        not_built("flyteidl.service.AdminService/DeleteProjectDomainAttributes")
    }

    async fn update_project_attributes(
        &self,
        _request: Request<admin::ProjectAttributesUpdateRequest>,
    ) -> RpcResult<admin::ProjectAttributesUpdateResponse> {
        not_built("flyteidl.service.AdminService/UpdateProjectAttributes")
    }

    async fn get_project_attributes(
        &self,
        _request: Request<admin::ProjectAttributesGetRequest>,
    ) -> RpcResult<admin::ProjectAttributesGetResponse> {
        not_built("flyteidl.service.AdminService/GetProjectAttributes")
    }

    async fn delete_project_attributes(
        &self,
        _request: Request<admin::ProjectAttributesDeleteRequest>,
    ) -> RpcResult<admin::ProjectAttributesDeleteResponse> {
        not_built("flyteidl.service.AdminService/DeleteProjectAttributes")
    }

    async fn update_workflow_attributes(
        &self,
        _request: Request<admin::WorkflowAttributesUpdateRequest>,
    ) -> RpcResult<admin::WorkflowAttributesUpdateResponse> {
        not_built("flyteidl.service.AdminService/UpdateWorkflowAttributes")
    }

    async fn get_workflow_attributes(
        &self,
        _request: Request<admin::WorkflowAttributesGetRequest>,
    ) -> RpcResult<admin::WorkflowAttributesGetResponse> {
        not_built("flyteidl.service.AdminService/GetWorkflowAttributes")
    }

    async fn delete_workflow_attributes(
        &self,
        _request: Request<admin::WorkflowAttributesDeleteRequest>,
    ) -> RpcResult<admin::WorkflowAttributesDeleteResponse> {
        not_built("flyteidl.service.AdminService/DeleteWorkflowAttributes")
    }

    async fn list_matchable_attributes(
        &self,
        _request: Request<admin::ListMatchableAttributesRequest>,
    ) -> RpcResult<admin::ListMatchableAttributesResponse> {
        not_built("flyteidl.service.AdminService/ListMatchableAttributes")
    }

    async fn get_execution_metrics(
        &self,
        _request: Request<admin::WorkflowExecutionGetMetricsRequest>,
    ) -> RpcResult<admin::WorkflowExecutionGetMetricsResponse> {
        not_built("flyteidl.service.AdminService/GetExecutionMetrics")
    }
}
