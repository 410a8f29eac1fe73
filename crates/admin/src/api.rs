//! The gRPC services: accept, call the domain, answer.
//!
//! RPCs that this version does not have answer UNIMPLEMENTED with their name.

mod data_proxy;
mod signals;

use std::sync::Arc;

use flyte_idl::{admin as wire, service::admin_service_server::AdminService};
use prost::{Message, Name};
use tonic::{Request, Response, Status};

use crate::{
    caller::{Action, unpack, unpack_stored},
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
        request: Request<wire::TaskCreateRequest>,
    ) -> RpcResult<wire::TaskCreateResponse> {
        storing!(self, request => tasks::create)
    }

    async fn get_task(&self, request: Request<wire::ObjectGetRequest>) -> RpcResult<wire::Task> {
        rpc!(self, request => tasks::get)
    }

    async fn list_task_ids(
        &self,
        request: Request<wire::NamedEntityIdentifierListRequest>,
    ) -> RpcResult<wire::NamedEntityIdentifierList> {
        rpc!(self, request => named_entities::ids, IdList::Tasks)
    }

    async fn list_tasks(
        &self,
        request: Request<wire::ResourceListRequest>,
    ) -> RpcResult<wire::TaskList> {
        rpc!(self, request => tasks::list)
    }

    async fn create_workflow(
        &self,
        request: Request<wire::WorkflowCreateRequest>,
    ) -> RpcResult<wire::WorkflowCreateResponse> {
        uninterrupted!(self, request => storing workflows::create)
    }

    async fn get_workflow(
        &self,
        request: Request<wire::ObjectGetRequest>,
    ) -> RpcResult<wire::Workflow> {
        rpc!(self, request => workflows::get)
    }

    async fn list_workflow_ids(
        &self,
        request: Request<wire::NamedEntityIdentifierListRequest>,
    ) -> RpcResult<wire::NamedEntityIdentifierList> {
        rpc!(self, request => named_entities::ids, IdList::Workflows)
    }

    async fn list_workflows(
        &self,
        request: Request<wire::ResourceListRequest>,
    ) -> RpcResult<wire::WorkflowList> {
        rpc!(self, request => workflows::list)
    }

    async fn create_launch_plan(
        &self,
        request: Request<wire::LaunchPlanCreateRequest>,
    ) -> RpcResult<wire::LaunchPlanCreateResponse> {
        storing!(self, request => launch_plans::create)
    }

    async fn get_launch_plan(
        &self,
        request: Request<wire::ObjectGetRequest>,
    ) -> RpcResult<wire::LaunchPlan> {
        rpc!(self, request => launch_plans::get)
    }

    async fn get_active_launch_plan(
        &self,
        request: Request<wire::ActiveLaunchPlanRequest>,
    ) -> RpcResult<wire::LaunchPlan> {
        rpc!(self, request => launch_plans::get_active)
    }

    async fn list_active_launch_plans(
        &self,
        request: Request<wire::ActiveLaunchPlanListRequest>,
    ) -> RpcResult<wire::LaunchPlanList> {
        rpc!(self, request => launch_plans::list_active)
    }

    async fn list_launch_plan_ids(
        &self,
        request: Request<wire::NamedEntityIdentifierListRequest>,
    ) -> RpcResult<wire::NamedEntityIdentifierList> {
        rpc!(self, request => named_entities::ids, IdList::LaunchPlans)
    }

    async fn list_launch_plans(
        &self,
        request: Request<wire::ResourceListRequest>,
    ) -> RpcResult<wire::LaunchPlanList> {
        rpc!(self, request => launch_plans::list)
    }

    async fn update_launch_plan(
        &self,
        request: Request<wire::LaunchPlanUpdateRequest>,
    ) -> RpcResult<wire::LaunchPlanUpdateResponse> {
        rpc!(self, request => launch_plans::update)
    }

    async fn create_execution(
        &self,
        request: Request<wire::ExecutionCreateRequest>,
    ) -> RpcResult<wire::ExecutionCreateResponse> {
        uninterrupted!(self, request => storing executions::create::create)
    }

    async fn relaunch_execution(
        &self,
        request: Request<wire::ExecutionRelaunchRequest>,
    ) -> RpcResult<wire::ExecutionCreateResponse> {
        uninterrupted!(self, request => executions::create::relaunch)
    }

    async fn get_execution(
        &self,
        request: Request<wire::WorkflowExecutionGetRequest>,
    ) -> RpcResult<wire::Execution> {
        rpc!(self, request => executions::get)
    }

    async fn update_execution(
        &self,
        request: Request<wire::ExecutionUpdateRequest>,
    ) -> RpcResult<wire::ExecutionUpdateResponse> {
        rpc!(self, request => executions::update)
    }

    async fn get_execution_data(
        &self,
        request: Request<wire::WorkflowExecutionGetDataRequest>,
    ) -> RpcResult<wire::WorkflowExecutionGetDataResponse> {
        rpc!(self, request => data::execution)
    }

    async fn list_executions(
        &self,
        request: Request<wire::ResourceListRequest>,
    ) -> RpcResult<wire::ExecutionList> {
        rpc!(self, request => executions::list)
    }

    async fn terminate_execution(
        &self,
        request: Request<wire::ExecutionTerminateRequest>,
    ) -> RpcResult<wire::ExecutionTerminateResponse> {
        uninterrupted!(self, request => executions::terminate::terminate)
    }

    async fn get_node_execution(
        &self,
        request: Request<wire::NodeExecutionGetRequest>,
    ) -> RpcResult<wire::NodeExecution> {
        rpc!(self, request => node_executions::get)
    }

    async fn get_dynamic_node_workflow(
        &self,
        request: Request<wire::GetDynamicNodeWorkflowRequest>,
    ) -> RpcResult<wire::DynamicNodeWorkflowResponse> {
        rpc!(self, request => node_executions::dynamic_workflow)
    }

    async fn list_node_executions(
        &self,
        request: Request<wire::NodeExecutionListRequest>,
    ) -> RpcResult<wire::NodeExecutionList> {
        rpc!(self, request => node_executions::list)
    }

    async fn list_node_executions_for_task(
        &self,
        request: Request<wire::NodeExecutionForTaskListRequest>,
    ) -> RpcResult<wire::NodeExecutionList> {
        rpc!(self, request => node_executions::list_for_task)
    }

    async fn get_node_execution_data(
        &self,
        request: Request<wire::NodeExecutionGetDataRequest>,
    ) -> RpcResult<wire::NodeExecutionGetDataResponse> {
        rpc!(self, request => data::node)
    }

    async fn register_project(
        &self,
        request: Request<wire::ProjectRegisterRequest>,
    ) -> RpcResult<wire::ProjectRegisterResponse> {
        storing!(self, request => projects::register)
    }

    async fn update_project(
        &self,
        request: Request<wire::Project>,
    ) -> RpcResult<wire::ProjectUpdateResponse> {
        storing!(self, request => projects::update)
    }

    async fn get_project(
        &self,
        request: Request<wire::ProjectGetRequest>,
    ) -> RpcResult<wire::Project> {
        rpc!(self, request => projects::get)
    }

    async fn list_projects(
        &self,
        request: Request<wire::ProjectListRequest>,
    ) -> RpcResult<wire::Projects> {
        rpc!(self, request => projects::list)
    }

    async fn get_domains(
        &self,
        request: Request<wire::GetDomainRequest>,
    ) -> RpcResult<wire::GetDomainsResponse> {
        let (caller, _message) = unpack(request);
        respond(projects::domains(&self.0, &caller))
    }

    async fn create_workflow_event(
        &self,
        request: Request<wire::WorkflowExecutionEventRequest>,
    ) -> RpcResult<wire::WorkflowExecutionEventResponse> {
        storing!(self, request => events::workflow)
    }

    async fn create_node_event(
        &self,
        request: Request<wire::NodeExecutionEventRequest>,
    ) -> RpcResult<wire::NodeExecutionEventResponse> {
        storing!(self, request => events::node)
    }

    async fn create_task_event(
        &self,
        request: Request<wire::TaskExecutionEventRequest>,
    ) -> RpcResult<wire::TaskExecutionEventResponse> {
        storing!(self, request => events::task)
    }

    async fn get_task_execution(
        &self,
        request: Request<wire::TaskExecutionGetRequest>,
    ) -> RpcResult<wire::TaskExecution> {
        rpc!(self, request => task_executions::get)
    }

    async fn list_task_executions(
        &self,
        request: Request<wire::TaskExecutionListRequest>,
    ) -> RpcResult<wire::TaskExecutionList> {
        rpc!(self, request => task_executions::list)
    }

    async fn get_task_execution_data(
        &self,
        request: Request<wire::TaskExecutionGetDataRequest>,
    ) -> RpcResult<wire::TaskExecutionGetDataResponse> {
        rpc!(self, request => data::task)
    }

    async fn list_named_entities(
        &self,
        request: Request<wire::NamedEntityListRequest>,
    ) -> RpcResult<wire::NamedEntityList> {
        rpc!(self, request => named_entities::list)
    }

    async fn get_named_entity(
        &self,
        request: Request<wire::NamedEntityGetRequest>,
    ) -> RpcResult<wire::NamedEntity> {
        rpc!(self, request => named_entities::get)
    }

    async fn update_named_entity(
        &self,
        request: Request<wire::NamedEntityUpdateRequest>,
    ) -> RpcResult<wire::NamedEntityUpdateResponse> {
        rpc!(self, request => named_entities::update)
    }

    async fn get_version(
        &self,
        request: Request<wire::GetVersionRequest>,
    ) -> RpcResult<wire::GetVersionResponse> {
        let (caller, _message) = unpack(request);
        respond(
            self.0
                .allow(&caller, Action::Read, ("", ""))
                .map(|()| wire::GetVersionResponse {
                    control_plane_version: Some(self.0.version.clone()),
                }),
        )
    }

    async fn get_description_entity(
        &self,
        request: Request<wire::ObjectGetRequest>,
    ) -> RpcResult<wire::DescriptionEntity> {
        rpc!(self, request => descriptions::get)
    }

    async fn list_description_entities(
        &self,
        request: Request<wire::DescriptionEntityListRequest>,
    ) -> RpcResult<wire::DescriptionEntityList> {
        rpc!(self, request => descriptions::list)
    }

    async fn recover_execution(
        &self,
        _request: Request<wire::ExecutionRecoverRequest>,
    ) -> RpcResult<wire::ExecutionCreateResponse> {
        not_built("flyteidl.service.AdminService/RecoverExecution")
    }

    async fn update_project_domain_attributes(
        &self,
        _request: Request<wire::ProjectDomainAttributesUpdateRequest>,
    ) -> RpcResult<wire::ProjectDomainAttributesUpdateResponse> {
        not_built("flyteidl.service.AdminService/UpdateProjectDomainAttributes")
    }

    async fn get_project_domain_attributes(
        &self,
        _request: Request<wire::ProjectDomainAttributesGetRequest>,
    ) -> RpcResult<wire::ProjectDomainAttributesGetResponse> {
        not_built("flyteidl.service.AdminService/GetProjectDomainAttributes")
    }

    async fn delete_project_domain_attributes(
        &self,
        _request: Request<wire::ProjectDomainAttributesDeleteRequest>,
    ) -> RpcResult<wire::ProjectDomainAttributesDeleteResponse> {
        not_built("flyteidl.service.AdminService/DeleteProjectDomainAttributes")
    }

    async fn update_project_attributes(
        &self,
        _request: Request<wire::ProjectAttributesUpdateRequest>,
    ) -> RpcResult<wire::ProjectAttributesUpdateResponse> {
        not_built("flyteidl.service.AdminService/UpdateProjectAttributes")
    }

    async fn get_project_attributes(
        &self,
        _request: Request<wire::ProjectAttributesGetRequest>,
    ) -> RpcResult<wire::ProjectAttributesGetResponse> {
        not_built("flyteidl.service.AdminService/GetProjectAttributes")
    }

    async fn delete_project_attributes(
        &self,
        _request: Request<wire::ProjectAttributesDeleteRequest>,
    ) -> RpcResult<wire::ProjectAttributesDeleteResponse> {
        not_built("flyteidl.service.AdminService/DeleteProjectAttributes")
    }

    async fn update_workflow_attributes(
        &self,
        _request: Request<wire::WorkflowAttributesUpdateRequest>,
    ) -> RpcResult<wire::WorkflowAttributesUpdateResponse> {
        not_built("flyteidl.service.AdminService/UpdateWorkflowAttributes")
    }

    async fn get_workflow_attributes(
        &self,
        _request: Request<wire::WorkflowAttributesGetRequest>,
    ) -> RpcResult<wire::WorkflowAttributesGetResponse> {
        not_built("flyteidl.service.AdminService/GetWorkflowAttributes")
    }

    async fn delete_workflow_attributes(
        &self,
        _request: Request<wire::WorkflowAttributesDeleteRequest>,
    ) -> RpcResult<wire::WorkflowAttributesDeleteResponse> {
        not_built("flyteidl.service.AdminService/DeleteWorkflowAttributes")
    }

    async fn list_matchable_attributes(
        &self,
        _request: Request<wire::ListMatchableAttributesRequest>,
    ) -> RpcResult<wire::ListMatchableAttributesResponse> {
        not_built("flyteidl.service.AdminService/ListMatchableAttributes")
    }

    async fn get_execution_metrics(
        &self,
        _request: Request<wire::WorkflowExecutionGetMetricsRequest>,
    ) -> RpcResult<wire::WorkflowExecutionGetMetricsResponse> {
        not_built("flyteidl.service.AdminService/GetExecutionMetrics")
    }
}
