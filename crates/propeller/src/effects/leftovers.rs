//! Looking for what a workflow would leave behind.

use std::collections::HashSet;

use flyte_idl::{
    admin::{
        NodeExecutionListRequest, TaskExecutionListRequest, node_execution_closure::TargetMetadata,
    },
    core::{NodeExecutionIdentifier, TaskExecutionIdentifier},
};
use flyte_platform::metrics::Labels;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use tonic::{Code, Status};

use super::{Backend, TransientError, WorkflowEffects};
use crate::{
    cleanup::leftovers::{Clearance, LeftoverQuery, Leftovers, OpenNode, PodQuery},
    machine::{Receipt, Rejection},
    node::{WorkflowContext, launch_plan, task::observed_pod::is_finished},
};

/// How many entries one list answers with.
const PAGE: u32 = 200;
/// How many open nodes are ended at most; an execution has no more, but a wrong answer might.
const MOST_NODES: usize = 20_000;
/// Phases of nodes that have not ended.
const OPEN_NODES: &str = "value_in(phase,UNDEFINED;QUEUED;RUNNING;FAILING;DYNAMIC_RUNNING)";
/// Phases of attempts that have not ended.
const OPEN_ATTEMPTS: &str = "value_in(phase,UNDEFINED;QUEUED;INITIALIZING;WAITING_FOR_RESOURCES;RUNNING;\
                             RETRYABLE_FAILED)";

/// A node that admin holds for open, as it is listed.
struct ListedNode {
    id: NodeExecutionIdentifier,
    is_parent: bool,
    /// Name of the execution that it says to have launched.
    child: Option<String>,
}

/// One page of a list, and the token of the next.
type Page<T> = (Vec<T>, String);

impl WorkflowEffects {
    /// Lists what admin and the cluster hold for open.
    pub(super) async fn find_leftovers(
        &self,
        query: &LeftoverQuery,
    ) -> Result<Leftovers, TransientError> {
        let (nodes, pods) = tokio::try_join!(self.open_nodes(query), async {
            match &query.pods {
                Some(query) => self.open_pods(query).await,
                None => Ok(Vec::new()),
            }
        })?;
        Ok(Leftovers { nodes, pods })
    }

    /// Ends what was found.
    pub(super) async fn clear(
        &self,
        context: &WorkflowContext,
        clearance: Clearance,
        labels: &Labels<'_>,
    ) -> Result<Result<Receipt, Rejection>, TransientError> {
        let Clearance {
            children,
            cause,
            events,
        } = clearance;
        let terminated = children
            .into_iter()
            .map(|child| self.terminate_child(context, child, cause.clone()));
        futures::future::try_join_all(terminated).await?;
        self.send(events, labels).await
    }

    /// Open nodes level by level, outer ones first.
    async fn open_nodes(&self, query: &LeftoverQuery) -> Result<Vec<OpenNode>, TransientError> {
        let mut found: Vec<OpenNode> = Vec::new();
        // The level of the workflow itself has no node around it.
        let mut levels: Vec<String> = std::iter::once(String::new())
            .chain(query.parents.iter().cloned())
            .collect();
        let mut known: HashSet<String> = levels.iter().cloned().collect();
        while !levels.is_empty() {
            // All of a level at once; the budget bounds how many are under way.
            let lists = std::mem::take(&mut levels).into_iter().map(|parent| {
                self.pages(move |token| self.node_page(query, parent.clone(), token))
            });
            let nodes = futures::future::try_join_all(lists).await?;
            for ListedNode {
                id,
                is_parent,
                child,
            } in nodes.into_iter().flatten()
            {
                if is_parent && known.insert(id.node_id.clone()) {
                    levels.push(id.node_id.clone());
                }
                let attempts = self
                    .pages(|token| self.attempt_page(id.clone(), token))
                    .await?;
                // What launched an execution just before this process came may not have said so yet.
                let may_launch = !is_parent && attempts.is_empty();
                let first = || launch_plan::name_of_child(&query.execution, &id.node_id, 0);
                let child = child.or_else(|| may_launch.then(first));
                found.push(OpenNode {
                    id,
                    attempts,
                    child,
                });
            }
            if found.len() >= MOST_NODES {
                tracing::warn!(found = found.len(), "too many open nodes; ending these");
                break;
            }
        }
        Ok(found)
    }

    /// All pages of a list.
    async fn pages<T, F>(&self, mut page: impl FnMut(String) -> F) -> Result<Vec<T>, TransientError>
    where
        F: Future<Output = Result<Page<T>, Status>>,
    {
        let mut all = Vec::new();
        let mut token = String::new();
        loop {
            let (items, next) = match self.budget.request(Backend::Admin, page(token)).await? {
                Ok(page) => page,
                Err(status) if is_final(&status) => {
                    if status.code() != Code::NotFound {
                        tracing::warn!(%status, "admin does not say what is open");
                    }
                    return Ok(all);
                }
                Err(status) => return Err(TransientError::of_status(&status)),
            };
            let empty = items.is_empty();
            all.extend(items);
            if next.is_empty() || empty || all.len() >= MOST_NODES {
                return Ok(all);
            }
            token = next;
        }
    }

    async fn node_page(
        &self,
        query: &LeftoverQuery,
        parent: String,
        token: String,
    ) -> Result<Page<ListedNode>, Status> {
        let request = NodeExecutionListRequest {
            workflow_execution_id: Some(query.execution.to_proto()),
            unique_parent_id: parent,
            limit: PAGE,
            token,
            filters: OPEN_NODES.into(),
            ..NodeExecutionListRequest::default()
        };
        let mut admin = self.admin.clone();
        let list = admin.list_node_executions(request).await?.into_inner();
        let nodes = list.node_executions.into_iter().filter_map(|node| {
            let launched = match node.closure?.target_metadata {
                Some(TargetMetadata::WorkflowNodeMetadata(known)) => known.execution_id,
                _ => None,
            };
            Some(ListedNode {
                id: node.id?,
                is_parent: node.metadata.is_some_and(|known| known.is_parent_node),
                child: launched.map(|id| id.name),
            })
        });
        Ok((nodes.collect(), list.token))
    }

    async fn attempt_page(
        &self,
        node: NodeExecutionIdentifier,
        token: String,
    ) -> Result<Page<TaskExecutionIdentifier>, Status> {
        let request = TaskExecutionListRequest {
            node_execution_id: Some(node),
            limit: PAGE,
            token,
            filters: OPEN_ATTEMPTS.into(),
            ..TaskExecutionListRequest::default()
        };
        let mut admin = self.admin.clone();
        let list = admin.list_task_executions(request).await?.into_inner();
        let attempts = list.task_executions.into_iter();
        Ok((attempts.filter_map(|task| task.id).collect(), list.token))
    }

    /// Pods of the resource that have not ended.
    async fn open_pods(&self, query: &PodQuery) -> Result<Vec<String>, TransientError> {
        let api: Api<Pod> = Api::namespaced(self.kube.clone(), &query.namespace);
        let selector = format!("execution-id={},node-id", query.execution_label);
        let mut open = Vec::new();
        let mut parameters = ListParams::default().labels(&selector).limit(PAGE);
        loop {
            let listed = self
                .budget
                .request(Backend::Kubernetes, api.list(&parameters))
                .await?;
            let listed = match listed {
                Ok(listed) => listed,
                // The list changed too much between two pages: what is not seen now is deleted as an orphan.
                Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 410) => {
                    return Ok(open);
                }
                Err(error) => return Err(error.into()),
            };
            let next = listed.metadata.continue_.clone().unwrap_or_default();
            open.extend(
                listed
                    .into_iter()
                    .filter(|pod| !is_finished(pod) && is_owned(pod, &query.owner))
                    .map(|pod| pod.name_any()),
            );
            if next.is_empty() {
                return Ok(open);
            }
            parameters = parameters.continue_token(&next);
        }
    }
}

/// Whether asking again cannot bring another answer.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::NotFound | Code::InvalidArgument | Code::PermissionDenied | Code::Unimplemented
    )
}

fn is_owned(pod: &Pod, owner: &str) -> bool {
    pod.owner_references().iter().any(|reference| {
        reference.controller == Some(true)
            && reference.kind.eq_ignore_ascii_case("flyteworkflow")
            && reference.name == owner
    })
}
