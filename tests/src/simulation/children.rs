//! Executions that launch plan nodes have made, in memory: what becomes of one says the name of its launch plan.
//!
//! | launch plan | the execution |
//! |---|---|
//! | `ok` | succeeds after less than a second; its outputs are its inputs |
//! | `fail` | fails after as long |
//! | `archived` | as `ok`, and lists leave it out |
//! | `removed` | nobody knows of it any more |
//! | `unreadable` | as `stay`; lists leave it out, and asking for it alone is an error |
//! | `stay` | runs until it is terminated |
//! | `refused` | is not made |

use std::{collections::BTreeMap, time::Duration};

use flyte_idl::{
    admin::{
        self, Execution, ExecutionClosure, ExecutionCreateRequest, ExecutionSpec, execution_closure,
    },
    core::{
        ExecutionError, LiteralMap, WorkflowExecutionIdentifier, execution_error::ErrorKind,
        workflow_execution::Phase,
    },
};
use tokio::time::Instant;
use tonic::{Code, Status};

/// How long an execution takes that ends by itself.
const TAKES: Duration = Duration::from_millis(800);

/// All of them, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Children(BTreeMap<String, Child>);

#[derive(Clone, Debug)]
struct Child {
    id: WorkflowExecutionIdentifier,
    spec: ExecutionSpec,
    inputs: LiteralMap,
    made_at: Instant,
    terminated: bool,
    /// Where it stood when this was recorded, in time that is no more.
    recorded: Option<Phase>,
}

impl Child {
    fn plan(&self) -> &str {
        let plan = self.spec.launch_plan.as_ref();
        plan.map_or("", |plan| plan.name.as_str())
    }

    fn phase(&self) -> Phase {
        if let Some(phase) = self.recorded {
            return phase;
        }
        match self.plan() {
            _ if self.terminated => Phase::Aborted,
            "ok" | "archived" if self.made_at.elapsed() >= TAKES => Phase::Succeeded,
            "fail" if self.made_at.elapsed() >= TAKES => Phase::Failed,
            _ => Phase::Running,
        }
    }

    fn execution(&self) -> Execution {
        let phase = self.phase();
        let error = (phase == Phase::Failed).then(|| {
            execution_closure::OutputResult::Error(ExecutionError {
                code: "OfChild".into(),
                message: "as its name says".into(),
                kind: ErrorKind::User.into(),
                ..ExecutionError::default()
            })
        });
        Execution {
            id: Some(self.id.clone()),
            spec: Some(self.spec.clone()),
            closure: Some(ExecutionClosure {
                phase: phase.into(),
                output_result: error,
                ..ExecutionClosure::default()
            }),
        }
    }
}

fn is_over(phase: Phase) -> bool {
    matches!(phase, Phase::Succeeded | Phase::Failed | Phase::Aborted)
}

impl Children {
    pub(super) fn create(&mut self, request: ExecutionCreateRequest) -> Result<(), Status> {
        let id = WorkflowExecutionIdentifier {
            project: request.project,
            domain: request.domain,
            name: request.name.clone(),
            ..WorkflowExecutionIdentifier::default()
        };
        let child = Child {
            id,
            spec: request.spec.unwrap_or_default(),
            inputs: request.inputs.unwrap_or_default(),
            made_at: Instant::now(),
            terminated: false,
            recorded: None,
        };
        if child.plan() == "refused" {
            return Err(Status::invalid_argument("it is not wanted"));
        }
        if self.0.contains_key(&request.name) {
            return Err(Status::already_exists("it is there"));
        }
        self.0.insert(request.name, child);
        Ok(())
    }

    pub(super) fn terminate(&mut self, name: &str) -> Result<(), Status> {
        let child = self.0.get_mut(name);
        let child = child.ok_or_else(|| Status::not_found("no such execution"))?;
        if is_over(child.phase()) {
            return Err(Status::new(Code::FailedPrecondition, "it has ended"));
        }
        child.terminated = true;
        Ok(())
    }

    /// With the beginnings of errors, as flyteadmin does. As the engine asks: `value_in(execution_name,a;b)`.
    pub(super) fn list(&self, filters: &str) -> Vec<Execution> {
        let names = filters
            .strip_prefix("value_in(execution_name,")
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap_or_default();
        let children = names.split(';').filter_map(|name| self.0.get(name));
        let children =
            children.filter(|child| !matches!(child.plan(), "archived" | "removed" | "unreadable"));
        let mut found: Vec<_> = children.map(Child::execution).collect();
        for execution in &mut found {
            if let Some(execution_closure::OutputResult::Error(error)) = execution
                .closure
                .as_mut()
                .and_then(|closure| closure.output_result.as_mut())
            {
                error.message.truncate(4);
            }
        }
        found
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Execution>, Status> {
        let child = self.0.get(name).filter(|child| child.plan() != "removed");
        if child.is_some_and(|child| child.plan() == "unreadable") {
            return Err(Status::internal("its row cannot be read"));
        }
        Ok(child.map(Child::execution))
    }

    pub(super) fn data(&self, name: &str) -> Option<admin::WorkflowExecutionGetDataResponse> {
        let child = self.0.get(name)?;
        Some(admin::WorkflowExecutionGetDataResponse {
            full_inputs: Some(child.inputs.clone()),
            full_outputs: (child.phase() == Phase::Succeeded).then(|| child.inputs.clone()),
            ..admin::WorkflowExecutionGetDataResponse::default()
        })
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Nothing happens to them any more.
    pub(super) fn stop(&mut self) {
        for child in self.0.values_mut() {
            child.recorded = Some(child.phase());
        }
    }

    /// Where each stands now.
    pub(super) fn phases(&self) -> BTreeMap<String, String> {
        let children = self.0.iter();
        children
            .map(|(name, child)| (name.clone(), child.phase().as_str_name().to_owned()))
            .collect()
    }
}
