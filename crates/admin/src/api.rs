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
    caller::{Action, accept, accept_stored},
    error::{Error, Result},
    handlers::{
        data, descriptions, events, executions, launch_plans,
        named_entities::{self, IdList},
        node_executions, projects, task_executions, tasks, workflows,
    },
    service::Service,
    unknown::Answer,
};

pub(crate) type Reply<T> = std::result::Result<Response<T>, Status>;

/// The implementation of all services.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Arc<Service>);

pub(crate) fn reply<T: Message + Name>(result: Result<impl Into<Answer<T>>>) -> Reply<T> {
    let (message, replacement) = result.map_err(Status::from)?.into().into_parts();
    let mut response = Response::new(message);
    if let Some(replacement) = replacement {
        response.extensions_mut().insert(replacement);
    }
    Ok(response)
}

/// The answer of an RPC that this version does not have, by its full name.
fn not_built<T>(rpc: &'static str) -> Reply<T> {
    Err(Error::Unimplemented(rpc).into())
}

/// An RPC that is one call of a domain function.
macro_rules! rpc {
    ($self:ident, $request:ident => $($function:ident)::+ $(, $extra:expr)?) => {{
        let (caller, message) = accept($request);
        reply($($function)::+(&$self.0, &caller, $($extra,)? message).await)
    }};
}
pub(crate) use rpc;

/// As [`rpc`], for a message of which unknown fields are stored too.
macro_rules! storing {
    ($self:ident, $request:ident => $($function:ident)::+) => {{
        let (caller, message, unknown) = accept_stored($request);
        reply($($function)::+(&$self.0, &caller, message, &unknown).await)
    }};
}
pub(crate) use storing;

/// As [`rpc`], for a call of several steps that must not end between them.
macro_rules! uninterrupted {
    ($self:ident, $request:ident => $($function:ident)::+) => {{
        let (caller, message) = accept($request);
        let service = $self.0.clone();
        let work = async move { $($function)::+(&service, &caller, message).await };
        reply($self.0.flights.finish(work).await)
    }};
    ($self:ident, $request:ident => storing $($function:ident)::+) => {{
        let (caller, message, unknown) = accept_stored($request);
        let service = $self.0.clone();
        let work = async move { $($function)::+(&service, &caller, message, &unknown).await };
        reply($self.0.flights.finish(work).await)
    }};
}

#[tonic::async_trait]
impl AdminService for Api {
    async fn create_task(
        &self,
        request: Request<wire::TaskCreateRequest>,
    ) -> Reply<wire::TaskCreateResponse> {
        storing!(self, request => tasks::create)
    }

    async fn get_task(&self, request: Request<wire::ObjectGetRequest>) -> Reply<wire::Task> {
        rpc!(self, request => tasks::get)
    }

    async fn list_task_ids(
        &self,
        request: Request<wire::NamedEntityIdentifierListRequest>,
    ) -> Reply<wire::NamedEntityIdentifierList> {
        rpc!(self, request => named_entities::ids, IdList::Tasks)
    }

    async fn list_tasks(
        &self,
        request: Request<wire::ResourceListRequest>,
    ) -> Reply<wire::TaskList> {
        rpc!(self, request => tasks::list)
    }

    async fn create_workflow(
        &self,
        request: Request<wire::WorkflowCreateRequest>,
    ) -> Reply<wire::WorkflowCreateResponse> {
        uninterrupted!(self, request => storing workflows::create)
    }

    async fn get_workflow(
        &self,
        request: Request<wire::ObjectGetRequest>,
    ) -> Reply<wire::Workflow> {
        rpc!(self, request => workflows::get)
    }

    async fn list_workflow_ids(
        &self,
        request: Request<wire::NamedEntityIdentifierListRequest>,
    ) -> Reply<wire::NamedEntityIdentifierList> {
        rpc!(self, request => named_entities::ids, IdList::Workflows)
    }

    async fn list_workflows(
        &self,
        request: Request<wire::ResourceListRequest>,
    ) -> Reply<wire::WorkflowList> {
        rpc!(self, request => workflows::list)
    }

    async fn create_launch_plan(
        &self,
        request: Request<wire::LaunchPlanCreateRequest>,
    ) -> Reply<wire::LaunchPlanCreateResponse> {
        storing!(self, request => launch_plans::create)
    }

    async fn get_launch_plan(
        &self,
        request: Request<wire::ObjectGetRequest>,
    ) -> Reply<wire::LaunchPlan> {
        rpc!(self, request => launch_plans::get)
    }

    async fn get_active_launch_plan(
        &self,
        request: Request<wire::ActiveLaunchPlanRequest>,
    ) -> Reply<wire::LaunchPlan> {
        rpc!(self, request => launch_plans::get_active)
    }

    async fn list_active_launch_plans(
        &self,
        request: Request<wire::ActiveLaunchPlanListRequest>,
    ) -> Reply<wire::LaunchPlanList> {
        rpc!(self, request => launch_plans::list_active)
    }

    async fn list_launch_plan_ids(
        &self,
        request: Request<wire::NamedEntityIdentifierListRequest>,
    ) -> Reply<wire::NamedEntityIdentifierList> {
        rpc!(self, request => named_entities::ids, IdList::LaunchPlans)
    }

    async fn list_launch_plans(
        &self,
        request: Request<wire::ResourceListRequest>,
    ) -> Reply<wire::LaunchPlanList> {
        rpc!(self, request => launch_plans::list)
    }

    async fn update_launch_plan(
        &self,
        request: Request<wire::LaunchPlanUpdateRequest>,
    ) -> Reply<wire::LaunchPlanUpdateResponse> {
        rpc!(self, request => launch_plans::update)
    }

    async fn create_execution(
        &self,
        request: Request<wire::ExecutionCreateRequest>,
    ) -> Reply<wire::ExecutionCreateResponse> {
        uninterrupted!(self, request => storing executions::create::create)
    }

    async fn relaunch_execution(
        &self,
        request: Request<wire::ExecutionRelaunchRequest>,
    ) -> Reply<wire::ExecutionCreateResponse> {
        uninterrupted!(self, request => executions::create::relaunch)
    }

    async fn get_execution(
        &self,
        request: Request<wire::WorkflowExecutionGetRequest>,
    ) -> Reply<wire::Execution> {
        rpc!(self, request => executions::get)
    }

    async fn update_execution(
        &self,
        request: Request<wire::ExecutionUpdateRequest>,
    ) -> Reply<wire::ExecutionUpdateResponse> {
        rpc!(self, request => executions::update)
    }

    async fn get_execution_data(
        &self,
        request: Request<wire::WorkflowExecutionGetDataRequest>,
    ) -> Reply<wire::WorkflowExecutionGetDataResponse> {
        rpc!(self, request => data::execution)
    }

    async fn list_executions(
        &self,
        request: Request<wire::ResourceListRequest>,
    ) -> Reply<wire::ExecutionList> {
        rpc!(self, request => executions::list)
    }

    async fn terminate_execution(
        &self,
        request: Request<wire::ExecutionTerminateRequest>,
    ) -> Reply<wire::ExecutionTerminateResponse> {
        uninterrupted!(self, request => executions::terminate::terminate)
    }

    async fn get_node_execution(
        &self,
        request: Request<wire::NodeExecutionGetRequest>,
    ) -> Reply<wire::NodeExecution> {
        rpc!(self, request => node_executions::get)
    }

    async fn get_dynamic_node_workflow(
        &self,
        request: Request<wire::GetDynamicNodeWorkflowRequest>,
    ) -> Reply<wire::DynamicNodeWorkflowResponse> {
        rpc!(self, request => node_executions::dynamic_workflow)
    }

    async fn list_node_executions(
        &self,
        request: Request<wire::NodeExecutionListRequest>,
    ) -> Reply<wire::NodeExecutionList> {
        rpc!(self, request => node_executions::list)
    }

    async fn list_node_executions_for_task(
        &self,
        request: Request<wire::NodeExecutionForTaskListRequest>,
    ) -> Reply<wire::NodeExecutionList> {
        rpc!(self, request => node_executions::list_for_task)
    }

    async fn get_node_execution_data(
        &self,
        request: Request<wire::NodeExecutionGetDataRequest>,
    ) -> Reply<wire::NodeExecutionGetDataResponse> {
        rpc!(self, request => data::node)
    }

    async fn register_project(
        &self,
        request: Request<wire::ProjectRegisterRequest>,
    ) -> Reply<wire::ProjectRegisterResponse> {
        storing!(self, request => projects::register)
    }

    async fn update_project(
        &self,
        request: Request<wire::Project>,
    ) -> Reply<wire::ProjectUpdateResponse> {
        storing!(self, request => projects::update)
    }

    async fn get_project(&self, request: Request<wire::ProjectGetRequest>) -> Reply<wire::Project> {
        rpc!(self, request => projects::get)
    }

    async fn list_projects(
        &self,
        request: Request<wire::ProjectListRequest>,
    ) -> Reply<wire::Projects> {
        rpc!(self, request => projects::list)
    }

    async fn get_domains(
        &self,
        request: Request<wire::GetDomainRequest>,
    ) -> Reply<wire::GetDomainsResponse> {
        let (caller, _message) = accept(request);
        reply(projects::domains(&self.0, &caller))
    }

    async fn create_workflow_event(
        &self,
        request: Request<wire::WorkflowExecutionEventRequest>,
    ) -> Reply<wire::WorkflowExecutionEventResponse> {
        storing!(self, request => events::workflow)
    }

    async fn create_node_event(
        &self,
        request: Request<wire::NodeExecutionEventRequest>,
    ) -> Reply<wire::NodeExecutionEventResponse> {
        storing!(self, request => events::node)
    }

    async fn create_task_event(
        &self,
        request: Request<wire::TaskExecutionEventRequest>,
    ) -> Reply<wire::TaskExecutionEventResponse> {
        storing!(self, request => events::task)
    }

    async fn get_task_execution(
        &self,
        request: Request<wire::TaskExecutionGetRequest>,
    ) -> Reply<wire::TaskExecution> {
        rpc!(self, request => task_executions::get)
    }

    async fn list_task_executions(
        &self,
        request: Request<wire::TaskExecutionListRequest>,
    ) -> Reply<wire::TaskExecutionList> {
        rpc!(self, request => task_executions::list)
    }

    async fn get_task_execution_data(
        &self,
        request: Request<wire::TaskExecutionGetDataRequest>,
    ) -> Reply<wire::TaskExecutionGetDataResponse> {
        rpc!(self, request => data::task)
    }

    async fn list_named_entities(
        &self,
        request: Request<wire::NamedEntityListRequest>,
    ) -> Reply<wire::NamedEntityList> {
        rpc!(self, request => named_entities::list)
    }

    async fn get_named_entity(
        &self,
        request: Request<wire::NamedEntityGetRequest>,
    ) -> Reply<wire::NamedEntity> {
        rpc!(self, request => named_entities::get)
    }

    async fn update_named_entity(
        &self,
        request: Request<wire::NamedEntityUpdateRequest>,
    ) -> Reply<wire::NamedEntityUpdateResponse> {
        rpc!(self, request => named_entities::update)
    }

    async fn get_version(
        &self,
        request: Request<wire::GetVersionRequest>,
    ) -> Reply<wire::GetVersionResponse> {
        let (caller, _message) = accept(request);
        reply(
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
    ) -> Reply<wire::DescriptionEntity> {
        rpc!(self, request => descriptions::get)
    }

    async fn list_description_entities(
        &self,
        request: Request<wire::DescriptionEntityListRequest>,
    ) -> Reply<wire::DescriptionEntityList> {
        rpc!(self, request => descriptions::list)
    }

    async fn recover_execution(
        &self,
        _request: Request<wire::ExecutionRecoverRequest>,
    ) -> Reply<wire::ExecutionCreateResponse> {
        not_built("flyteidl.service.AdminService/RecoverExecution")
    }

    async fn update_project_domain_attributes(
        &self,
        _request: Request<wire::ProjectDomainAttributesUpdateRequest>,
    ) -> Reply<wire::ProjectDomainAttributesUpdateResponse> {
        not_built("flyteidl.service.AdminService/UpdateProjectDomainAttributes")
    }

    async fn get_project_domain_attributes(
        &self,
        _request: Request<wire::ProjectDomainAttributesGetRequest>,
    ) -> Reply<wire::ProjectDomainAttributesGetResponse> {
        not_built("flyteidl.service.AdminService/GetProjectDomainAttributes")
    }

    async fn delete_project_domain_attributes(
        &self,
        _request: Request<wire::ProjectDomainAttributesDeleteRequest>,
    ) -> Reply<wire::ProjectDomainAttributesDeleteResponse> {
        not_built("flyteidl.service.AdminService/DeleteProjectDomainAttributes")
    }

    async fn update_project_attributes(
        &self,
        _request: Request<wire::ProjectAttributesUpdateRequest>,
    ) -> Reply<wire::ProjectAttributesUpdateResponse> {
        not_built("flyteidl.service.AdminService/UpdateProjectAttributes")
    }

    async fn get_project_attributes(
        &self,
        _request: Request<wire::ProjectAttributesGetRequest>,
    ) -> Reply<wire::ProjectAttributesGetResponse> {
        not_built("flyteidl.service.AdminService/GetProjectAttributes")
    }

    async fn delete_project_attributes(
        &self,
        _request: Request<wire::ProjectAttributesDeleteRequest>,
    ) -> Reply<wire::ProjectAttributesDeleteResponse> {
        not_built("flyteidl.service.AdminService/DeleteProjectAttributes")
    }

    async fn update_workflow_attributes(
        &self,
        _request: Request<wire::WorkflowAttributesUpdateRequest>,
    ) -> Reply<wire::WorkflowAttributesUpdateResponse> {
        not_built("flyteidl.service.AdminService/UpdateWorkflowAttributes")
    }

    async fn get_workflow_attributes(
        &self,
        _request: Request<wire::WorkflowAttributesGetRequest>,
    ) -> Reply<wire::WorkflowAttributesGetResponse> {
        not_built("flyteidl.service.AdminService/GetWorkflowAttributes")
    }

    async fn delete_workflow_attributes(
        &self,
        _request: Request<wire::WorkflowAttributesDeleteRequest>,
    ) -> Reply<wire::WorkflowAttributesDeleteResponse> {
        not_built("flyteidl.service.AdminService/DeleteWorkflowAttributes")
    }

    async fn list_matchable_attributes(
        &self,
        _request: Request<wire::ListMatchableAttributesRequest>,
    ) -> Reply<wire::ListMatchableAttributesResponse> {
        not_built("flyteidl.service.AdminService/ListMatchableAttributes")
    }

    async fn get_execution_metrics(
        &self,
        _request: Request<wire::WorkflowExecutionGetMetricsRequest>,
    ) -> Reply<wire::WorkflowExecutionGetMetricsResponse> {
        not_built("flyteidl.service.AdminService/GetExecutionMetrics")
    }
}
