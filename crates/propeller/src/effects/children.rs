//! Executions that launch plan nodes have made: launched, terminated, their outputs taken over (spec 04 §7.5).

use bytes::Bytes;
use flyte_idl::{
    admin::{
        Annotations, Envs, Execution, ExecutionCreateRequest, ExecutionMetadata, ExecutionSpec,
        ExecutionTerminateRequest, Labels, RawOutputDataConfig, ResourceListRequest,
        WorkflowExecutionGetDataRequest, WorkflowExecutionGetRequest, execution_closure,
        execution_metadata::ExecutionMode, literal_map_blob,
    },
    core::{
        ExecutionError, KeyValuePair, LiteralMap, NodeExecutionIdentifier,
        WorkflowExecutionIdentifier, execution_error::ErrorKind,
    },
};
use prost::Message as _;
use tonic::Code;

use super::{
    Backend, EffectError, Effects, PermanentError, TransientError, WorkflowEffects,
    error::is_refused_for_good,
};
use crate::node::{NodeView, WorkflowContext, launch_plan};

/// Labels that each execution has of its own: a child that took over its parent's would be found in its place.
const OWN_LABELS: &[&str] = &[
    "shard-key",
    "execution-id",
    "project",
    "domain",
    "workflow-name",
    flyte_crd::TERMINATION_LABEL,
    "completed-time",
];

impl Effects {
    /// One list of executions.
    pub(crate) async fn list_executions(
        &self,
        request: ResourceListRequest,
    ) -> Result<Vec<Execution>, TransientError> {
        let mut admin = self.admin.clone();
        let call = Box::pin(admin.list_executions(request));
        let answer = self.budget.of("").request(Backend::Admin, call).await?;
        let list = answer.map_err(|status| TransientError::of_status(&status))?;
        Ok(list.into_inner().executions)
    }

    /// One execution, whole; none when there is none.
    pub(crate) async fn get_execution(
        &self,
        id: WorkflowExecutionIdentifier,
    ) -> Result<Option<Execution>, TransientError> {
        let mut admin = self.admin.clone();
        let request = WorkflowExecutionGetRequest { id: Some(id) };
        let call = Box::pin(admin.get_execution(request));
        let answer = self.budget.of("").request(Backend::Admin, call).await?;
        match answer {
            Ok(execution) => Ok(Some(execution.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(TransientError::of_status(&status)),
        }
    }
}

impl WorkflowEffects {
    /// Has the child execution of a node made. One that is there already is the one that an earlier try made.
    pub(super) async fn launch_child(
        &self,
        view: &NodeView<'_>,
        inputs: LiteralMap,
    ) -> Result<Result<(), Box<ExecutionError>>, EffectError> {
        let Some(plan) = launch_plan::of(view.spec) else {
            let message = format!("node [{}] names no launch plan", view.spec.id);
            let code = "BadSpecificationError";
            return Err(PermanentError::new(ErrorKind::System, code, message).into());
        };
        if self.recover_child(view).await? {
            return Ok(Ok(()));
        }
        let context = view.workflow;
        let parent = NodeExecutionIdentifier {
            node_id: view.unique_id.to_owned(),
            execution_id: Some(context.execution.to_proto()),
        };
        let request = ExecutionCreateRequest {
            project: context.execution.project.to_string(),
            domain: context.execution.domain.to_string(),
            name: launch_plan::child_name(view),
            inputs: Some(inputs),
            spec: Some(ExecutionSpec {
                launch_plan: Some(plan.clone()),
                metadata: Some(ExecutionMetadata {
                    mode: ExecutionMode::ChildWorkflow.into(),
                    nesting: 1,
                    parent_node_execution: Some(parent),
                    ..ExecutionMetadata::default()
                }),
                ..inherited(context)
            }),
            ..ExecutionCreateRequest::default()
        };
        let mut admin = self.admin.clone();
        let call = Box::pin(admin.create_execution(request));
        let answer = self.budget.request(Backend::Admin, call).await?;
        let Err(status) = answer else {
            return Ok(Ok(()));
        };
        match status.code() {
            Code::AlreadyExists => Ok(Ok(())),
            _ if is_refused_for_good(&status) => {
                let message = format!(
                    "failed to launch workflow [{}], caused by: {:?}: {}",
                    plan.name,
                    status.code(),
                    status.message()
                );
                Ok(Err(Box::new(ExecutionError {
                    code: "RuntimeExecutionError".into(),
                    message,
                    kind: ErrorKind::User.into(),
                    ..ExecutionError::default()
                })))
            }
            _ => Err(TransientError::of_status(&status).into()),
        }
    }

    /// Has an execution of this name terminated. Whatever admin says for good is an answer: there is nothing to
    /// terminate, or nothing that may be.
    pub(super) async fn terminate_child(
        &self,
        parent: &WorkflowContext,
        name: String,
        cause: String,
    ) -> Result<(), TransientError> {
        let request = ExecutionTerminateRequest {
            id: Some(sibling(parent, name)),
            cause,
        };
        let mut admin = self.admin.clone();
        let call = Box::pin(admin.terminate_execution(request));
        match self.budget.request(Backend::Admin, call).await? {
            Ok(_) => Ok(()),
            Err(status) if is_refused_for_good(&status) => {
                // Not launched, or over.
                if !matches!(status.code(), Code::NotFound | Code::FailedPrecondition) {
                    tracing::warn!(%status, "a child execution is not terminated");
                }
                Ok(())
            }
            Err(status) => Err(TransientError::of_status(&status)),
        }
    }

    /// Writes the outputs of a node's child; false when it has none.
    pub(super) async fn copy_child_outputs(
        &self,
        view: &NodeView<'_>,
        to: &str,
    ) -> Result<bool, EffectError> {
        let id = sibling(view.workflow, launch_plan::child_name(view));
        let mut admin = self.admin.clone();
        let request = WorkflowExecutionGetDataRequest {
            id: Some(id.clone()),
        };
        let call = Box::pin(admin.get_execution_data(request));
        let data = self.budget.request(Backend::Admin, call).await?;
        let data = data.map_err(|status| TransientError::of_status(&status))?;
        let found = data.into_inner().full_outputs.unwrap_or_default();
        if !found.literals.is_empty() {
            let bytes = Bytes::from(found.encode_to_vec());
            return self.write(to, bytes).await.map(|()| true);
        }
        // Admin does not read what is larger than it may answer with, and says where it is.
        let request = WorkflowExecutionGetRequest { id: Some(id) };
        let mut admin = self.admin.clone();
        let call = Box::pin(admin.get_execution(request));
        let execution = self.budget.request(Backend::Admin, call).await?;
        let execution = execution.map_err(|status| TransientError::of_status(&status))?;
        let closure = execution.into_inner().closure.unwrap_or_default();
        match closure.output_result {
            #[expect(deprecated, reason = "that is where a reference to outputs stands")]
            Some(execution_closure::OutputResult::Outputs(blob)) => match blob.data {
                Some(literal_map_blob::Data::Uri(uri)) => self.copy(&uri, to).await,
                _ => Ok(false),
            },
            _ => Ok(false),
        }
    }
}

/// An execution beside the parent.
fn sibling(parent: &WorkflowContext, name: String) -> WorkflowExecutionIdentifier {
    WorkflowExecutionIdentifier {
        name,
        ..parent.execution.to_proto()
    }
}

/// What a child takes over from the execution that launches it.
fn inherited(context: &WorkflowContext) -> ExecutionSpec {
    let config = &context.execution_config;
    let labels = context.labels.iter();
    let prefix = &context.raw_output_prefix;
    let is_default = *prefix == context.settings.propeller.rawoutput_prefix;
    ExecutionSpec {
        labels: Some(Labels {
            values: labels
                .filter(|(key, _)| !OWN_LABELS.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        }),
        annotations: Some(Annotations {
            values: context.annotations.clone().into_iter().collect(),
        }),
        security_context: Some(context.security_context.clone()),
        max_parallelism: i32::try_from(config.max_parallelism).unwrap_or(i32::MAX),
        raw_output_data_config: (!is_default).then(|| RawOutputDataConfig {
            output_location_prefix: prefix.clone(),
        }),
        interruptible: config.interruptible,
        overwrite_cache: config.overwrite_cache,
        envs: Some(Envs {
            values: context
                .environment
                .iter()
                .map(|(key, value)| KeyValuePair {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
        }),
        ..ExecutionSpec::default()
    }
}
