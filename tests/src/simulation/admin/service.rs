//! The calls that an engine makes of it.

use flyte_admin::{
    domain::events::{not_found, validate},
    error::Error,
};
use flyte_core::identifiers::{ExecutionId, NodeExecutionId, NodeId, TaskExecutionId};
use flyte_idl::{
    admin::{
        self, NodeExecutionEventRequest, NodeExecutionEventResponse, NodeExecutionGetDataRequest,
        NodeExecutionGetRequest, NodeExecutionList, NodeExecutionListRequest, ObjectGetRequest,
        TaskExecutionEventRequest, TaskExecutionEventResponse, TaskExecutionGetRequest,
        TaskExecutionList, TaskExecutionListRequest, WorkflowExecutionEventRequest,
        WorkflowExecutionEventResponse, WorkflowExecutionGetRequest,
    },
    service::admin_service_server::AdminService,
};
use tonic::{Request, Response, Status};

use super::{Memory, attempt, task_execution};
use crate::simulation::made;

#[tonic::async_trait]
impl AdminService for Memory {
    async fn create_workflow_event(
        &self,
        request: Request<WorkflowExecutionEventRequest>,
    ) -> Result<Response<WorkflowExecutionEventResponse>, Status> {
        let (id, event) = validate::workflow(request.into_inner().event, u64::MAX)?;
        self.0.with(|records| {
            if records.is_neighbour(&id) {
                return Ok(());
            }
            records.on_workflow(&id, &event)
        })?;
        Ok(Response::new(WorkflowExecutionEventResponse {}))
    }

    async fn create_node_event(
        &self,
        request: Request<NodeExecutionEventRequest>,
    ) -> Result<Response<NodeExecutionEventResponse>, Status> {
        let (id, event) = validate::node(request.into_inner().event)?;
        self.0.with(|records| {
            if records.is_neighbour(&id.execution) {
                return Ok(());
            }
            records.on_node(&id, &event)
        })?;
        Ok(Response::new(NodeExecutionEventResponse {}))
    }

    async fn create_task_event(
        &self,
        request: Request<TaskExecutionEventRequest>,
    ) -> Result<Response<TaskExecutionEventResponse>, Status> {
        let (id, event) = validate::task(request.into_inner().event, u64::MAX)?;
        self.0.with(|records| {
            if records.is_neighbour(&id.node.execution) {
                return Ok(());
            }
            records.on_task(&id, &event)
        })?;
        Ok(Response::new(TaskExecutionEventResponse {}))
    }

    async fn create_execution(
        &self,
        request: Request<admin::ExecutionCreateRequest>,
    ) -> Result<Response<admin::ExecutionCreateResponse>, Status> {
        let request = request.into_inner();
        self.0.with(|records| {
            let metadata = request
                .spec
                .as_ref()
                .and_then(|spec| spec.metadata.as_ref());
            let parent = metadata.and_then(|metadata| metadata.parent_node_execution.as_ref());
            let parent = NodeExecutionId::from_proto(parent).map_err(Error::from)?;
            let is_known = records.nodes.contains_key(&parent.node.to_string());
            records.expect(is_known, "a node is queued before its child", &request.name);
            records.children.create(request)
        })?;
        Ok(Response::new(admin::ExecutionCreateResponse::default()))
    }

    async fn terminate_execution(
        &self,
        request: Request<admin::ExecutionTerminateRequest>,
    ) -> Result<Response<admin::ExecutionTerminateResponse>, Status> {
        let id = request.into_inner().id.unwrap_or_default();
        self.0
            .with(|records| records.children.terminate(&id.name))?;
        Ok(Response::new(admin::ExecutionTerminateResponse {}))
    }

    async fn list_executions(
        &self,
        request: Request<admin::ResourceListRequest>,
    ) -> Result<Response<admin::ExecutionList>, Status> {
        let filters = request.into_inner().filters;
        let executions = self.0.with(|records| records.children.list(&filters));
        Ok(Response::new(admin::ExecutionList {
            executions,
            token: String::new(),
        }))
    }

    async fn get_launch_plan(
        &self,
        request: Request<ObjectGetRequest>,
    ) -> Result<Response<admin::LaunchPlan>, Status> {
        made::launch_plan(request.into_inner().id).map(Response::new)
    }

    async fn get_execution_data(
        &self,
        request: Request<admin::WorkflowExecutionGetDataRequest>,
    ) -> Result<Response<admin::WorkflowExecutionGetDataResponse>, Status> {
        let id = request.into_inner().id.unwrap_or_default();
        let data = self.0.with(|records| records.children.data(&id.name));
        let data = data.ok_or_else(|| Status::not_found("no such execution"))?;
        Ok(Response::new(data))
    }

    async fn get_execution(
        &self,
        request: Request<WorkflowExecutionGetRequest>,
    ) -> Result<Response<admin::Execution>, Status> {
        let id = ExecutionId::from_proto(request.into_inner().id.as_ref()).map_err(Error::from)?;
        self.0.with(|records| {
            if let Some(child) = records.children.get(&id.name)? {
                return Ok(Response::new(child));
            }
            if id != records.execution.id {
                return Err(not_found::execution(&id).into());
            }
            Ok(Response::new(records.execution.clone().into()))
        })
    }

    async fn get_node_execution(
        &self,
        request: Request<NodeExecutionGetRequest>,
    ) -> Result<Response<admin::NodeExecution>, Status> {
        let wanted = request.into_inner().id;
        let id = NodeExecutionId::from_proto(wanted.as_ref()).map_err(Error::from)?;
        self.0.with(|records| {
            if let Some(other) = records.other.iter().find(|node| node.id == wanted) {
                return Ok(Response::new(other.clone()));
            }
            let key = id.node.to_string();
            let node = records.nodes.get(&key);
            let node = node.filter(|node| node.id == id);
            let node = node.ok_or_else(|| not_found::node(&id))?;
            Ok(Response::new(admin::NodeExecution {
                id: Some(node.id.to_proto()),
                input_uri: node.input_uri.clone(),
                closure: Some(node.closure.get().clone()),
                metadata: Some(node.metadata.get().clone()),
            }))
        })
    }

    /// Nothing but where data are, as of data that are too large.
    async fn get_node_execution_data(
        &self,
        _: Request<NodeExecutionGetDataRequest>,
    ) -> Result<Response<admin::NodeExecutionGetDataResponse>, Status> {
        Ok(Response::new(admin::NodeExecutionGetDataResponse::default()))
    }

    async fn get_task_execution(
        &self,
        request: Request<TaskExecutionGetRequest>,
    ) -> Result<Response<admin::TaskExecution>, Status> {
        let id =
            TaskExecutionId::from_proto(request.into_inner().id.as_ref()).map_err(Error::from)?;
        self.0.with(|records| {
            let task = records.tasks.get(&attempt(&id));
            let task = task.filter(|task| task.id == id);
            let task = task.ok_or_else(|| not_found::task(&id))?;
            Ok(Response::new(task_execution(task)))
        })
    }

    async fn list_node_executions(
        &self,
        request: Request<NodeExecutionListRequest>,
    ) -> Result<Response<NodeExecutionList>, Status> {
        let request = request.into_inner();
        self.0.with(|records| {
            let around = Some(&request.unique_parent_id).filter(|id| !id.is_empty());
            if let Some(node) = around.filter(|id| !records.nodes.contains_key(*id)) {
                let node = NodeExecutionId {
                    execution: records.execution.id.clone(),
                    node: NodeId::new(node.as_str()).map_err(Error::from)?,
                };
                return Err(not_found::node(&node).into());
            }
            let found = records
                .nodes
                .iter()
                .filter(|(id, _)| records.parents.get(*id) == around)
                .filter(|(_, node)| passes(&request.filters, node.phase.name()))
                .map(|(id, node)| records.node(id, node));
            let (node_executions, token) = page(found, &request.token, request.limit)?;
            Ok(Response::new(NodeExecutionList {
                node_executions,
                token,
            }))
        })
    }

    async fn list_task_executions(
        &self,
        request: Request<TaskExecutionListRequest>,
    ) -> Result<Response<TaskExecutionList>, Status> {
        let request = request.into_inner();
        let node = request.node_execution_id.unwrap_or_default().node_id;
        self.0.with(|records| {
            let found = records
                .tasks
                .iter()
                .filter(|((of, ..), _)| *of == node)
                .filter(|(_, task)| passes(&request.filters, task.phase.name()))
                .map(|(_, task)| task_execution(task));
            let (task_executions, token) = page(found, &request.token, request.limit)?;
            Ok(Response::new(TaskExecutionList {
                task_executions,
                token,
            }))
        })
    }
}

/// The one filter that the engine asks with: `value_in(phase,A;B)`.
fn passes(filters: &str, phase: &str) -> bool {
    filters
        .strip_prefix("value_in(phase,")
        .and_then(|rest| rest.strip_suffix(')'))
        .is_none_or(|phases| phases.split(';').any(|wanted| wanted == phase))
}

/// A page that begins at the offset of `token`, and the token of the next.
fn page<T>(
    all: impl Iterator<Item = T>,
    token: &str,
    limit: u32,
) -> Result<(Vec<T>, String), Status> {
    let offset = match token {
        "" => 0,
        text => text
            .parse()
            .map_err(|_| Status::invalid_argument(format!("invalid pagination token {text}")))?,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let items: Vec<_> = all.skip(offset).take(limit).collect();
    let next = if items.len() == limit {
        (offset + limit).to_string()
    } else {
        String::new()
    };
    Ok((items, next))
}
