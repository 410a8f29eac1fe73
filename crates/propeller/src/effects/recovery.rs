//! What became of a node in the execution that its own recovers (spec 04 §7.10).

use bytes::Bytes;
use flyte_idl::{
    admin::{
        ExecutionMetadata, ExecutionRecoverRequest, NodeExecution, NodeExecutionGetDataRequest,
        NodeExecutionGetRequest,
        execution_metadata::ExecutionMode,
        node_execution_closure::{OutputResult, TargetMetadata},
    },
    core::{
        LiteralMap, NodeExecutionIdentifier, WorkflowExecutionIdentifier, node_execution::Phase,
    },
    event::{DynamicWorkflowNodeMetadata, TaskNodeMetadata},
};
use prost::Message as _;
use tonic::{Code, Status};

use super::{Backend, EffectError, TransientError, WorkflowEffects, error::is_refused_for_good};
use crate::node::{
    NodeView, launch_plan,
    recovery::{self, Ended, Recovered},
};

impl WorkflowEffects {
    /// What the other execution says of a node, whose inputs and outputs are copied as far as it has succeeded.
    pub(super) async fn recover(&self, view: &NodeView<'_>) -> Result<Recovered, EffectError> {
        let runs = |checkpoint| Ok(Recovered::Runs { checkpoint });
        let Some(other) = recovery::recovers(view) else {
            return runs(String::new());
        };
        let Some(node) = self.other_node(view, other).await? else {
            return runs(String::new());
        };
        let closure = node.closure.clone().unwrap_or_default();
        let checkpoint = match &closure.target_metadata {
            Some(TargetMetadata::TaskNodeMetadata(task)) => task.checkpoint_uri.clone(),
            _ => String::new(),
        };
        match closure.phase() {
            Phase::Succeeded | Phase::Recovered => {
                let ended = self.take_over_node(view, &node).await?;
                match ended {
                    Some(ended) => Ok(Recovered::Ended(Box::new(ended))),
                    None => runs(String::new()),
                }
            }
            Phase::Skipped => runs(String::new()),
            _ if !closure.dynamic_job_spec_uri.is_empty() => {
                let (to_made, to_inputs) = (view.files.futures(), view.files.inputs());
                let (made, inputs) = tokio::join!(
                    self.copy(&closure.dynamic_job_spec_uri, &to_made),
                    self.copy(&node.input_uri, &to_inputs)
                );
                if made? && inputs? {
                    Ok(Recovered::Made)
                } else {
                    runs(checkpoint)
                }
            }
            _ => runs(checkpoint),
        }
    }

    /// The node of the other execution; none when it has none.
    async fn other_node(
        &self,
        view: &NodeView<'_>,
        other: &WorkflowExecutionIdentifier,
    ) -> Result<Option<NodeExecution>, TransientError> {
        let mut admin = self.admin.clone();
        let request = NodeExecutionGetRequest {
            id: Some(in_other(view, other)),
        };
        let call = Box::pin(admin.get_node_execution(request));
        answered(self.budget.request(Backend::Admin, call).await?)
    }

    /// Copies inputs and outputs of a node that has succeeded; none when they are not to be had any more.
    async fn take_over_node(
        &self,
        view: &NodeView<'_>,
        node: &NodeExecution,
    ) -> Result<Option<Ended>, EffectError> {
        let mut admin = self.admin.clone();
        let request = NodeExecutionGetDataRequest {
            id: node.id.clone(),
        };
        let call = Box::pin(admin.get_node_execution_data(request));
        let Some(data) = answered(self.budget.request(Backend::Admin, call).await?)? else {
            return Ok(None);
        };
        let closure = node.closure.clone().unwrap_or_default();
        #[expect(deprecated, reason = "that is where outputs stand")]
        let (outputs_uri, outputs) = match closure.output_result {
            Some(OutputResult::OutputUri(uri)) => (Some(uri), data.full_outputs),
            Some(OutputResult::OutputData(data)) => (None, Some(data)),
            Some(OutputResult::Error(_)) | None => (None, None),
        };
        let has_outputs = outputs_uri.is_some() || outputs.is_some();
        let (to_inputs, to_outputs) = (view.files.inputs(), view.files.outputs());
        let (inputs_there, outputs_there) = tokio::join!(
            self.take_over_literals(data.full_inputs, Some(&node.input_uri), &to_inputs),
            self.take_over_literals(outputs, outputs_uri.as_deref(), &to_outputs),
        );
        if !inputs_there? || (!outputs_there? && has_outputs) {
            return Ok(None);
        }
        let has_deck = !closure.deck_uri.is_empty() && self.exists(&closure.deck_uri).await?;
        let mut ended = Ended {
            has_outputs,
            deck: if has_deck {
                closure.deck_uri
            } else {
                String::new()
            },
            dynamic: data
                .dynamic_workflow
                .map(|made| DynamicWorkflowNodeMetadata {
                    id: made.id,
                    compiled_workflow: made.compiled_workflow,
                    dynamic_job_spec_uri: made.dynamic_job_spec_uri,
                }),
            ..Ended::default()
        };
        match closure.target_metadata {
            Some(TargetMetadata::TaskNodeMetadata(task)) => {
                ended.cache = Some(TaskNodeMetadata {
                    cache_status: task.cache_status,
                    catalog_key: task.catalog_key,
                    ..TaskNodeMetadata::default()
                });
            }
            Some(TargetMetadata::WorkflowNodeMetadata(child)) => {
                ended.child = child.execution_id.map(|id| id.name);
            }
            None => {}
        }
        Ok(Some(ended))
    }

    /// Writes literals that are known, or copies them; false when there are none.
    async fn take_over_literals(
        &self,
        known: Option<LiteralMap>,
        from: Option<&str>,
        to: &str,
    ) -> Result<bool, EffectError> {
        match (known.filter(|known| !known.literals.is_empty()), from) {
            (Some(known), _) => {
                self.write(to, Bytes::from(known.encode_to_vec())).await?;
                Ok(true)
            }
            // What is larger than admin answers with is not in its answer.
            (None, Some(from)) if !from.is_empty() => self.copy(from, to).await,
            (None, _) => Ok(false),
        }
    }

    /// Has the child that a node launched in the other execution recovered under the name of the node's own child. False when
    /// there is none that has failed.
    pub(super) async fn recover_child(&self, view: &NodeView<'_>) -> Result<bool, EffectError> {
        let Some(other) = recovery::recovers(view) else {
            return Ok(false);
        };
        let node = self.other_node(view, other).await?;
        let closure = node.and_then(|node| node.closure).unwrap_or_default();
        let Some(TargetMetadata::WorkflowNodeMetadata(child)) = closure.target_metadata else {
            return Ok(false);
        };
        let request = ExecutionRecoverRequest {
            id: child.execution_id,
            name: launch_plan::child_name(view),
            metadata: Some(ExecutionMetadata {
                mode: ExecutionMode::Recovered.into(),
                parent_node_execution: Some(NodeExecutionIdentifier {
                    node_id: view.unique_id.to_owned(),
                    execution_id: Some(view.workflow.execution.to_proto()),
                }),
                ..ExecutionMetadata::default()
            }),
        };
        let mut admin = self.admin.clone();
        let call = Box::pin(admin.recover_execution(request));
        match self.budget.request(Backend::Admin, call).await? {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::AlreadyExists => Ok(true),
            // Not there, or nothing that could be recovered: it is launched anew.
            Err(status) if is_refused_for_good(&status) => {
                tracing::info!(%status, node = view.unique_id, "a child execution is not recovered but launched anew");
                Ok(false)
            }
            Err(status) => Err(TransientError::of_status(&status).into()),
        }
    }
}

fn in_other(view: &NodeView<'_>, other: &WorkflowExecutionIdentifier) -> NodeExecutionIdentifier {
    NodeExecutionIdentifier {
        node_id: view.unique_id.to_owned(),
        execution_id: Some(other.clone()),
    }
}

/// What was answered, if there is what was asked for.
fn answered<T>(answer: Result<tonic::Response<T>, Status>) -> Result<Option<T>, TransientError> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if is_refused_for_good(&status) => Ok(None),
        Err(status) => Err(TransientError::of_status(&status)),
    }
}
