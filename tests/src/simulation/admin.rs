//! Admin in memory, deciding with flyteadmin's own event state machines, and checking the order of events
//! (design: events form a partial order).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use flyte_admin::domain::{
    events::{node, task},
    phases,
};
use flyte_admin::records::{NodeExecution, TaskExecution};
use flyte_core::identifiers::{NodeExecutionId, TaskExecutionId};
use flyte_idl::{
    admin::{
        self, NodeExecutionEventRequest, NodeExecutionEventResponse, NodeExecutionList,
        NodeExecutionListRequest, TaskExecutionEventRequest, TaskExecutionEventResponse,
        TaskExecutionList, TaskExecutionListRequest, WorkflowExecutionEventRequest,
        WorkflowExecutionEventResponse,
    },
    core::TaskExecutionIdentifier,
    event::workflow_execution_event,
    service::admin_service_server::{AdminService, AdminServiceServer},
};
use tonic::{Request, Response, Status, service::Routes};

/// What admin knows of the one execution.
#[derive(Clone, Debug, Default)]
pub struct Records {
    phase: String,
    code: String,
    nodes: BTreeMap<String, NodeExecution>,
    /// The node around a node.
    parents: BTreeMap<String, String>,
    tasks: BTreeMap<String, TaskExecution>,
    violations: Vec<String>,
}

impl Records {
    /// Phase and error code.
    pub fn workflow(&self) -> (String, String) {
        (self.phase.clone(), self.code.clone())
    }

    /// Phase of each node.
    pub fn nodes(&self) -> BTreeMap<String, String> {
        self.nodes
            .iter()
            .map(|(id, node)| (id.clone(), node.phase.clone()))
            .collect()
    }

    /// Phase of each attempt.
    pub fn tasks(&self) -> BTreeMap<String, String> {
        self.tasks
            .iter()
            .map(|(id, task)| (id.clone(), task.phase.clone()))
            .collect()
    }

    /// Nodes and attempts that have not ended.
    pub fn open(&self) -> Vec<String> {
        let nodes = self
            .nodes
            .iter()
            .filter(|(_, node)| !phases::node_is_terminal(&node.phase))
            .map(|(id, _)| id.clone());
        let tasks = self
            .tasks
            .iter()
            .filter(|(_, task)| !phases::task_is_terminal(&task.phase))
            .map(|(id, _)| id.clone());
        nodes.chain(tasks).collect()
    }

    /// Where events came in an order that they must not come in.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    fn expect(&mut self, holds: bool, rule: &str, what: &str) {
        if !holds {
            self.violations.push(format!("{rule}: {what}"));
        }
    }
}

/// The records, shared with whoever asks.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Records>>);

impl Shared {
    pub(super) fn snapshot(&self) -> Records {
        self.with(|records| records.clone())
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Records) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The service and what it records.
pub(super) fn start() -> (Routes, Shared) {
    let shared = Shared::default();
    (
        Routes::new(AdminServiceServer::new(Memory(shared.clone()))),
        shared,
    )
}

struct Memory(Shared);

#[tonic::async_trait]
impl AdminService for Memory {
    async fn create_workflow_event(
        &self,
        request: Request<WorkflowExecutionEventRequest>,
    ) -> Result<Response<WorkflowExecutionEventResponse>, Status> {
        let event = request
            .into_inner()
            .event
            .ok_or_else(|| Status::invalid_argument("missing event"))?;
        self.0.with(|records| {
            let next = phases::workflow_name(event.phase);
            if records.phase == next {
                return Err(Status::already_exists(format!(
                    "This phase {next} was already recorded"
                )));
            }
            if phases::workflow_is_terminal(&records.phase) {
                let text = format!("{} is terminal", records.phase);
                return Err(flyte_admin::error::Error::terminal(text, &records.phase).into());
            }
            records.expect(
                !records.phase.is_empty()
                    || next == "RUNNING"
                    || next == "ABORTED"
                    || next == "FAILING",
                "RUNNING comes first",
                &next,
            );
            if phases::workflow_is_terminal(&next) {
                let open: Vec<_> = records
                    .nodes
                    .iter()
                    .filter(|(_, node)| !phases::node_is_terminal(&node.phase))
                    .map(|(id, _)| id.clone())
                    .collect();
                records.expect(
                    open.is_empty(),
                    "all nodes end before the workflow",
                    &open.join(", "),
                );
            }
            if let Some(workflow_execution_event::OutputResult::Error(error)) = &event.output_result
            {
                records.code.clone_from(&error.code);
            }
            records.phase = next;
            Ok(Response::new(WorkflowExecutionEventResponse {}))
        })
    }

    async fn create_node_event(
        &self,
        request: Request<NodeExecutionEventRequest>,
    ) -> Result<Response<NodeExecutionEventResponse>, Status> {
        let event = request
            .into_inner()
            .event
            .ok_or_else(|| Status::invalid_argument("missing event"))?;
        let id = NodeExecutionId::from_proto(event.id.as_ref())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let key = id.node.to_string();
        self.0.with(|records| {
            let next = phases::node_name(event.phase);
            let context = node::Context::default();
            match records.nodes.get_mut(&key) {
                Some(known) => node::apply(known, &event, &context)?,
                None => {
                    let made = node::create(id, &event, &context)?;
                    records.nodes.insert(key.clone(), made);
                }
            }
            let running =
                !records.phase.is_empty() && !phases::workflow_is_terminal(&records.phase);
            records.expect(
                running,
                "nodes change while the workflow runs",
                &format!("{key} {next} in {}", records.phase),
            );
            if let Some(parent) = &event.parent_node_metadata {
                let known = records.nodes.contains_key(&parent.node_id);
                records.expect(
                    known,
                    "a parent comes before its children",
                    &format!("{key} in {}", parent.node_id),
                );
                records.parents.insert(key.clone(), parent.node_id.clone());
            }
            if next == "SUCCEEDED" || next == "FAILED" {
                let open: Vec<_> = records
                    .tasks
                    .iter()
                    .filter(|(task, record)| {
                        task.starts_with(&format!("{key}/"))
                            && !phases::task_is_terminal(&record.phase)
                    })
                    .map(|(task, _)| task.clone())
                    .collect();
                records.expect(
                    open.is_empty(),
                    "attempts end before their node",
                    &open.join(", "),
                );
            }
            Ok(Response::new(NodeExecutionEventResponse {}))
        })
    }

    async fn create_task_event(
        &self,
        request: Request<TaskExecutionEventRequest>,
    ) -> Result<Response<TaskExecutionEventResponse>, Status> {
        let event = request
            .into_inner()
            .event
            .ok_or_else(|| Status::invalid_argument("missing event"))?;
        let wire = TaskExecutionIdentifier {
            task_id: event.task_id.clone(),
            node_execution_id: event.parent_node_execution_id.clone(),
            retry_attempt: event.retry_attempt,
        };
        let id = TaskExecutionId::from_proto(Some(&wire))
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let node = wire
            .node_execution_id
            .map(|id| id.node_id)
            .unwrap_or_default();
        let key = format!("{node}/{}", event.retry_attempt);
        self.0.with(|records| {
            match records.tasks.get_mut(&key) {
                Some(known) => task::apply(known, &event)?,
                None => {
                    let made = task::create(id, &event)?;
                    records.tasks.insert(key.clone(), made);
                }
            }
            let known = records.nodes.contains_key(&node);
            records.expect(known, "a node is queued before its attempts", &key);
            Ok(Response::new(TaskExecutionEventResponse {}))
        })
    }

    async fn list_node_executions(
        &self,
        request: Request<NodeExecutionListRequest>,
    ) -> Result<Response<NodeExecutionList>, Status> {
        let request = request.into_inner();
        self.0.with(|records| {
            let around = Some(&request.unique_parent_id).filter(|id| !id.is_empty());
            if let Some(id) = around.filter(|id| !records.nodes.contains_key(*id)) {
                return Err(Status::not_found(format!("missing node execution {id}")));
            }
            let found = records
                .nodes
                .iter()
                .filter(|(id, _)| records.parents.get(*id) == around)
                .filter(|(_, node)| passes(&request.filters, &node.phase))
                .map(|(id, node)| {
                    let mut metadata = node.metadata.get().clone();
                    metadata.is_parent_node |= records.parents.values().any(|around| around == id);
                    admin::NodeExecution {
                        id: Some(node.id.to_proto()),
                        input_uri: node.input_uri.clone(),
                        closure: Some(node.closure.get().clone()),
                        metadata: Some(metadata),
                    }
                });
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
                .filter(|(task, _)| task.starts_with(&format!("{node}/")))
                .filter(|(_, task)| passes(&request.filters, &task.phase))
                .map(|(_, task)| admin::TaskExecution {
                    id: Some(task.id.to_proto()),
                    input_uri: task.input_uri.clone(),
                    closure: Some(task.closure.get().clone()),
                    is_parent: false,
                });
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
