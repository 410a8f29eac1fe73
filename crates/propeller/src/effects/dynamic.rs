//! What a dynamic task has made, compiled (spec 04 §7.6).
//!
//! What was compiled is kept beside `futures.pb`, so that whoever goes on with the node has the same workflow under the same
//! id. Two processes that compile it at once make the same: the id follows from the node and its attempt.

use std::sync::Arc;

use bytes::Bytes;
use flyte_core::{
    compiler::{self, DynamicParent, LaunchPlanInterface, Rules},
    unique_id,
};
use flyte_crd::transform;
use flyte_idl::{
    admin::ObjectGetRequest,
    core::{
        CompiledWorkflowClosure, DynamicJobSpec, ExecutionError, Identifier,
        execution_error::ErrorKind,
    },
    event::DynamicWorkflowNodeMetadata,
    text::prototext,
};
use prost::Message as _;
use tonic::Code;

use super::{Backend, EffectError, PermanentError, TransientError, WorkflowEffects, error};
use crate::node::{self, DynamicWorkflow, Entities, NodeView, WorkflowDefinition, task::Attempt};

/// Length of the version of a dynamic workflow.
const VERSION_LENGTH: usize = 10;

/// Why the workflow cannot be run, whoever compiles it.
type Unbuildable = Box<ExecutionError>;

impl WorkflowEffects {
    /// The workflow that the task of a node has made, or the user's error in it.
    pub(super) async fn compile_dynamic(
        &self,
        view: &NodeView<'_>,
    ) -> Result<Result<Arc<DynamicWorkflow>, Unbuildable>, EffectError> {
        let spec_uri = view.files.futures();
        let closure = match self.compiled_before(view).await? {
            Some(closure) => closure,
            None => match self.compile(view, &spec_uri).await? {
                Ok(closure) => closure,
                Err(unbuildable) => return Ok(Err(unbuildable)),
            },
        };
        Ok(runnable(view, closure, spec_uri).map(Arc::new))
    }

    /// What an earlier try, or an earlier process, has compiled. What cannot be read is compiled again.
    async fn compiled_before(
        &self,
        view: &NodeView<'_>,
    ) -> Result<Option<CompiledWorkflowClosure>, EffectError> {
        let bytes = self.get(&view.files.dynamic_closure()).await?;
        let closure = bytes.and_then(|bytes| self.decoded::<CompiledWorkflowClosure>(bytes).ok());
        Ok(closure.filter(|closure| closure.primary.is_some()))
    }

    async fn compile(
        &self,
        view: &NodeView<'_>,
        spec_uri: &str,
    ) -> Result<Result<CompiledWorkflowClosure, Unbuildable>, EffectError> {
        let Some(bytes) = self.get(spec_uri).await? else {
            let message = format!("[{spec_uri}] does not exist any more");
            return Err(PermanentError::new(ErrorKind::System, "CausedByError", message).into());
        };
        let spec = match self.decoded::<DynamicJobSpec>(bytes) {
            Ok(spec) => spec,
            Err(why) => return Ok(refused(format!("[{spec_uri}]: {why}"))),
        };
        let attempt = Attempt::of(*view).map_err(PermanentError)?;
        let parent = DynamicParent {
            execution: &view.workflow.execution,
            node_id: &view.spec.id,
            attempt: view.status.attempts,
            event_version: 1,
            task: attempt.template,
        };
        let made = compiler::DynamicWorkflow::new(spec, &parent, version(view));
        let needed = match compiler::requirements(&made.template, &made.sub_workflows) {
            Ok(needed) => needed,
            Err(errors) => {
                return Ok(refused(compiler::requirements_failure(&errors)));
            }
        };
        let plans = self.launch_plans(needed.launch_plans).await?;
        let plans = match plans.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(plans) => plans,
            Err(unbuildable) => return Ok(Err(unbuildable)),
        };
        // As long as the task pleases: not on a thread that others wait for.
        let compiled = tokio::task::spawn_blocking(move || {
            let tasks = made.compiled_tasks().map_err(|errors| errors.to_string())?;
            let rules = Rules::Reference;
            compiler::compile_workflow(made.template, made.sub_workflows, tasks, &plans, rules)
                .map_err(|errors| errors.to_string())
        });
        let compiled = compiled.await.map_err(|failed| {
            let message =
                format!("the compiler panicked, which is a mistake in flytepropeller: {failed}");
            PermanentError::new(ErrorKind::System, "InternalError", message)
        })?;
        let closure = match compiled {
            Ok(closure) => closure,
            Err(errors) => return Ok(refused(errors)),
        };
        let bytes = Bytes::from(closure.encode_to_vec());
        self.write(&view.files.dynamic_closure(), bytes).await?;
        Ok(Ok(closure))
    }

    /// The launch plans that the workflow launches, as the compiler sees them; the budget bounds how many are asked for at once.
    async fn launch_plans(
        &self,
        ids: Vec<Identifier>,
    ) -> Result<Vec<Result<LaunchPlanInterface, Unbuildable>>, EffectError> {
        let plans = ids.into_iter().map(|id| self.launch_plan(id));
        futures::future::try_join_all(plans).await
    }

    async fn launch_plan(
        &self,
        id: Identifier,
    ) -> Result<Result<LaunchPlanInterface, Unbuildable>, EffectError> {
        let mut admin = self.admin.clone();
        let request = ObjectGetRequest {
            id: Some(id.clone()),
        };
        let call = Box::pin(admin.get_launch_plan(request));
        match self.budget.request(Backend::Admin, call).await? {
            Ok(plan) => {
                let closure = plan.into_inner().closure.unwrap_or_default();
                Ok(Ok(LaunchPlanInterface {
                    id,
                    expected_inputs: closure.expected_inputs,
                    expected_outputs: closure.expected_outputs,
                }))
            }
            Err(status) if error::is_refused_for_good(&status) => {
                let why = match status.code() {
                    Code::NotFound => "does not exist".to_owned(),
                    code => format!("cannot be had: {code:?}: {}", status.message()),
                };
                let plan = prototext(&id);
                Ok(refused(format!("launch plan [{plan}] {why}")))
            }
            Err(status) => Err(TransientError::of_status(&status).into()),
        }
    }
}

/// Ten letters and digits that are the workflow's version, as the reference draws them at random.
fn version(view: &NodeView<'_>) -> String {
    let execution = &view.workflow.execution;
    let of = format!(
        "{}:{}:{}:{}:{}",
        execution.project, execution.domain, execution.name, view.unique_id, view.status.attempts
    );
    let mut version = unique_id::base32(&unique_id::fnv1a_128(of.as_bytes()).to_be_bytes());
    version.truncate(VERSION_LENGTH);
    version
}

fn runnable(
    view: &NodeView<'_>,
    closure: CompiledWorkflowClosure,
    spec_uri: String,
) -> Result<DynamicWorkflow, Unbuildable> {
    let graph = match transform::graph(&closure) {
        Ok(graph) => graph,
        Err(error) => return refused(error.to_string()),
    };
    let sub_workflows = graph.sub_workflows.into_iter();
    let primary = closure.primary.as_ref();
    let id = primary
        .and_then(|primary| primary.template.as_ref()?.id.clone())
        .unwrap_or_default();
    tracing::debug!(
        node = view.unique_id,
        workflow = prototext(&id),
        "a dynamic task made a workflow"
    );
    Ok(DynamicWorkflow {
        definition: WorkflowDefinition {
            spec: Arc::new(graph.spec),
            entities: Arc::new(Entities {
                tasks: graph.tasks,
                sub_workflows: sub_workflows
                    .map(|(key, spec)| (key, Arc::new(spec)))
                    .collect(),
            }),
        },
        reported: DynamicWorkflowNodeMetadata {
            id: Some(id),
            compiled_workflow: Some(closure),
            dynamic_job_spec_uri: spec_uri,
        },
    })
}

fn refused<T>(message: String) -> Result<T, Unbuildable> {
    Err(Box::new(node::unbuildable(message)))
}
