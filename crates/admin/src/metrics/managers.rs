//! What Go's managers count (spec 07 §3.2), each below its own scope.
//!
//! Gauges of what is active go up and down with the events that this process takes in, as Go's do: after a restart they
//! begin at 0 and may go below.

use std::{collections::HashMap, time::Duration};

use flyte_core::identifiers::{EntityId, ExecutionId, NodeExecutionId};
use flyte_platform::{
    metrics::{
        LabelledCounter, LabelledStopWatch, Labels, MetricError, Scope, StopWatch, Summary, Unit,
        Unlabelled,
    },
    sync::Mutex,
};
use jiff::Timestamp;
use prometheus::{IntCounter, IntCounterVec, IntGauge};

use crate::{records::Execution, time};

/// Projects and domains whose executions are timed: a series of metrics each, named after them. Executions of more of
/// them are counted everywhere else.
const MOST_PROJECTS: usize = 1_000;

/// The metrics of flyteadmin's managers, a set for each.
pub(crate) struct Managers {
    pub(crate) executions: ExecutionMetrics,
    pub(crate) nodes: StepMetrics,
    pub(crate) tasks: StepMetrics,
    pub(crate) registered: RegistrationMetrics,
    /// `signal_manager:num_set`.
    pub(crate) signals_set: LabelledCounter,
}

impl Managers {
    /// `admin` and `signal` are the scopes of the two services.
    pub(super) fn register(admin: &Scope, signal: &Scope) -> Result<Self, MetricError> {
        for service in [admin, signal] {
            // Always 0, as Go's: whoever panics before it serves ends before anybody could ask.
            service.counter(
                "initialization_panic",
                "Panics before the service was ready.",
            )?;
        }
        // Always 0 as well: without a client of its cluster this program does not start.
        admin.sub("executor").sub("cluster").counter(
            "flyteclient_initialization_error",
            "Clients of clusters that could not be made.",
        )?;
        let tasks = admin.sub("task_execution_manager");
        // Always 0, as Go's, which nothing counts either.
        tasks.counter(
            "missing_task_definition",
            "Events of tasks that do not exist.",
        )?;
        Ok(Self {
            executions: ExecutionMetrics::register(admin)?,
            nodes: StepMetrics::register(&admin.sub("node_execution_manager"), &NODES)?,
            tasks: StepMetrics::register(&tasks, &TASKS)?,
            registered: RegistrationMetrics::register(admin)?,
            signals_set: signal.sub("signal_manager").labelled_counter(
                "num_set",
                "Signals that were set.",
                Unlabelled::Omit,
            )?,
        })
    }
}

/// Sizes of inputs and outputs, in bytes: those that clients read, and those that came inline with a request or an event.
pub(crate) struct DataSizes {
    inputs: Summary,
    outputs: Summary,
}

impl DataSizes {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        Ok(Self {
            inputs: scope.summary("input_size_bytes", "Bytes of inputs.")?,
            outputs: scope.summary("output_size_bytes", "Bytes of outputs.")?,
        })
    }

    /// Outputs that came inline with an event.
    pub(crate) fn outputs(&self, bytes: usize) {
        self.outputs.observe_size(bytes);
    }

    /// Inputs that came with a request.
    pub(crate) fn inputs(&self, bytes: usize) {
        self.inputs.observe_size(bytes);
    }

    /// What a client read: the sizes of the blobs, and of the outputs in the answer where no blob is known.
    pub(crate) fn read(&self, inputs: i64, outputs: i64, inline_outputs: usize) {
        let bytes = |size: i64| usize::try_from(size).unwrap_or_default();
        self.inputs(bytes(inputs));
        match bytes(outputs) {
            0 => self.outputs(inline_outputs),
            known => self.outputs(known),
        }
    }
}

/// `execution_manager`, `user_execution_metrics` and `builder:flytepropeller`.
pub(crate) struct ExecutionMetrics {
    /// The scope of `execution_manager`, in which projects and domains have theirs.
    scope: Scope,
    active: IntGauge,
    created: IntCounter,
    terminated: LabelledCounter,
    events: IntCounter,
    pub(crate) propeller_failures: IntCounter,
    pub(crate) termination_failures: IntCounter,
    spec_size: Summary,
    closure_size: Summary,
    acceptance_delay: Summary,
    pub(crate) concurrency_check: LabelledStopWatch,
    concurrency_hits: IntCounterVec,
    durations: Mutex<HashMap<String, Option<StopWatch>>>,
    pub(crate) data: DataSizes,
    pub(crate) built: IntCounter,
    pub(crate) not_built: IntCounter,
}

fn of_execution(id: &ExecutionId) -> Labels<'_> {
    Labels {
        project: id.project.as_str(),
        domain: id.domain.as_str(),
        execution: &id.name,
        ..Labels::default()
    }
}

/// How an execution ended, as metrics count it.
pub(crate) struct ExecutionEnd<'a> {
    /// Name of its last phase.
    pub(crate) phase: &'a str,
    /// Empty unless it failed.
    pub(crate) error_kind: &'a str,
    /// Since when it counted as active.
    pub(crate) created: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
}

impl ExecutionMetrics {
    fn register(admin: &Scope) -> Result<Self, MetricError> {
        let (scope, builder) = (
            admin.sub("execution_manager"),
            admin.sub("builder").sub("flytepropeller"),
        );
        Ok(Self {
            active: scope.gauge("active_executions", "Executions under way.")?,
            created: scope.counter("executions_created", "Executions that were created.")?,
            terminated: scope.labelled_counter(
                "executions_terminated",
                "Executions that ended.",
                Unlabelled::Omit,
            )?,
            events: scope.counter("execution_events_created", "Events that were recorded.")?,
            propeller_failures: scope.counter(
                "propeller_failures",
                "Resources of executions that could not be created.",
            )?,
            termination_failures: scope.counter(
                "execution_termination_failure",
                "Terminations that did not reach the cluster.",
            )?,
            spec_size: scope.summary("spec_size_bytes", "Bytes of an execution's spec.")?,
            closure_size: scope.summary("closure_size_bytes", "Bytes of a new closure.")?,
            acceptance_delay: scope.summary(
                "acceptance_delay",
                "Seconds from the request to the resource on the cluster.",
            )?,
            concurrency_check: scope.labelled_stop_watch(
                "concurrency_check_duration",
                "Milliseconds of counting a launch plan's executions.",
                Unit::Milliseconds,
                Unlabelled::Omit,
            )?,
            concurrency_hits: scope.counters(
                "concurrency_limit_hits",
                "Executions that a launch plan's limit kept from being created.",
                &["project", "domain", "name"],
            )?,
            durations: Mutex::default(),
            data: DataSizes::register(&admin.sub("user_execution_metrics"))?,
            built: builder.counter("build_successes", "Workflow resources that were built.")?,
            not_built: builder.counter(
                "build_failures",
                "Workflow resources that could not be built.",
            )?,
            scope,
        })
    }

    /// An execution was created; `accepted` when its resource is on the cluster.
    pub(crate) fn created(&self, execution: &Execution) {
        self.active.inc();
        self.created.inc();
        self.spec_size.observe_size(execution.spec.bytes().len());
        self.closure_size
            .observe_size(execution.closure.bytes().len());
    }

    /// The resource of an execution that was asked for at `requested` is there.
    pub(crate) fn accepted(&self, requested: Option<Timestamp>, now: Timestamp) {
        if let Some(requested) = requested {
            self.acceptance_delay
                .observe(between(requested, now).as_secs_f64());
        }
    }

    /// An execution failed before the engine ever saw it.
    pub(crate) fn failed_at_once(&self) {
        self.active.dec();
    }

    /// An event was recorded.
    pub(crate) fn event(&self) {
        self.events.inc();
    }

    /// An execution ended.
    pub(crate) fn ended(&self, id: &ExecutionId, end: &ExecutionEnd<'_>) {
        self.active.dec();
        self.terminated.inc(&Labels {
            phase: end.phase,
            others: &[("error_kind", end.error_kind)],
            ..of_execution(id)
        });
        if let (Some(created), Some(ended)) = (end.created, end.ended)
            && let Some(watch) = self.duration(id)
        {
            watch.observe(between(created, ended));
        }
    }

    /// A launch plan's limit kept an execution from being created.
    pub(crate) fn limit_hit(&self, plan: &EntityId) {
        self.concurrency_hits
            .with_label_values(&[
                plan.project.as_str(),
                plan.domain.as_str(),
                plan.name.as_str(),
            ])
            .inc();
    }

    /// `<project>:<domain>:workflow_execution_duration_ns`. Projects that differ only in characters which metric names
    /// cannot have share one; none beyond [`MOST_PROJECTS`].
    fn duration(&self, id: &ExecutionId) -> Option<StopWatch> {
        let scope = self.scope.sub(id.project.as_str()).sub(id.domain.as_str());
        let name = scope.full_name("");
        let mut durations = self.durations.lock();
        if let Some(known) = durations.get(&name) {
            return known.clone();
        }
        if durations.len() >= MOST_PROJECTS {
            return None;
        }
        let watch = scope.stop_watch(
            "workflow_execution_duration",
            "Nanoseconds from the creation of an execution to its end.",
            Unit::Nanoseconds,
        );
        let watch = watch
            .inspect_err(|error| tracing::debug!(%error, "executions of a project are not timed"))
            .ok();
        durations.insert(name, watch.clone());
        watch
    }
}

/// Time from `start` to `end`; none if the end comes first.
fn between(start: Timestamp, end: Timestamp) -> Duration {
    let nanoseconds = time::nanoseconds_between(start, end);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default())
}

/// `node_execution_manager` or `task_execution_manager`: the same of nodes and of attempts of tasks.
pub(crate) struct StepMetrics {
    active: IntGauge,
    created: IntCounter,
    terminated: LabelledCounter,
    events: IntCounter,
    /// Events of something whose parent does not exist.
    pub(crate) missing_parent: IntCounter,
    closure_size: Summary,
    pub(crate) data: DataSizes,
}

/// What Go calls the metrics of one kind.
struct StepNames {
    active: &'static str,
    created: &'static str,
    terminated: &'static str,
    events: &'static str,
    missing_parent: &'static str,
}

const NODES: StepNames = StepNames {
    active: "active_node_executions",
    created: "node_executions_created",
    terminated: "node_executions_terminated",
    events: "node_execution_events_created",
    missing_parent: "missing_workflow_execution",
};

const TASKS: StepNames = StepNames {
    active: "active_executions",
    created: "task_executions_created",
    terminated: "task_executions_terminated",
    events: "task_execution_events_created",
    missing_parent: "missing_node_execution",
};

impl StepMetrics {
    fn register(scope: &Scope, names: &StepNames) -> Result<Self, MetricError> {
        Ok(Self {
            active: scope.gauge(names.active, "Those that run.")?,
            created: scope.counter(names.created, "Those that were heard of.")?,
            terminated: scope.labelled_counter(
                names.terminated,
                "Those that ended.",
                Unlabelled::Omit,
            )?,
            events: scope.counter(names.events, "Events that were recorded.")?,
            missing_parent: scope.counter(
                names.missing_parent,
                "Events of something whose parent does not exist.",
            )?,
            closure_size: scope.summary("closure_size_bytes", "Bytes of a new closure.")?,
            data: DataSizes::register(scope)?,
        })
    }

    /// The first event made a closure of this many bytes.
    pub(crate) fn created(&self, closure: usize) {
        self.created.inc();
        self.closure_size.observe_size(closure);
    }

    /// An event was recorded.
    pub(crate) fn event(&self) {
        self.events.inc();
    }

    /// Counts one that has begun to run.
    pub(crate) fn running(&self) {
        self.active.inc();
    }

    /// It ended, in the phase of `labels`.
    pub(crate) fn ended(&self, labels: &Labels<'_>) {
        self.active.dec();
        self.terminated.inc(labels);
    }
}

/// What is known of a node.
pub(crate) fn of_node(id: &NodeExecutionId) -> Labels<'_> {
    Labels {
        node: id.node.as_str(),
        ..of_execution(&id.execution)
    }
}

/// `task_manager`, `workflow_manager` and `launch_plan_manager`.
pub(crate) struct RegistrationMetrics {
    task_closure: Summary,
    tasks: LabelledCounter,
    pub(crate) compilation_failures: IntCounter,
    pub(crate) interface_size: Summary,
    pub(crate) plan_spec: Summary,
    pub(crate) plan_closure: Summary,
}

impl RegistrationMetrics {
    fn register(admin: &Scope) -> Result<Self, MetricError> {
        let (tasks, workflows, plans) = (
            admin.sub("task_manager"),
            admin.sub("workflow_manager"),
            admin.sub("launch_plan_manager"),
        );
        Ok(Self {
            task_closure: tasks.summary("closure_size_bytes", "Bytes of a task's closure.")?,
            tasks: tasks.labelled_counter(
                "num_registered",
                "Tasks that were registered.",
                Unlabelled::Omit,
            )?,
            compilation_failures: workflows
                .counter("compilation_failures", "Workflows that do not compile.")?,
            interface_size: workflows.summary(
                "typed_interface_size_bytes",
                "Bytes of a workflow's interface.",
            )?,
            plan_spec: plans.summary("spec_size_bytes", "Bytes of a launch plan's spec.")?,
            plan_closure: plans
                .summary("closure_size_bytes", "Bytes of a launch plan's closure.")?,
        })
    }

    /// A task was registered with a closure of so many bytes, to run with this type and version of flytekit.
    pub(crate) fn task(&self, id: &EntityId, closure: usize, runtime: &str, version: &str) {
        self.task_closure.observe_size(closure);
        self.tasks.inc(&Labels {
            project: id.project.as_str(),
            domain: id.domain.as_str(),
            task: id.name.as_str(),
            runtime_type: runtime,
            runtime_version: version,
            ..Labels::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(metrics: &ExecutionMetrics, project: &str) {
        let id = ExecutionId::new(project, "development", "x").unwrap();
        let created = Timestamp::UNIX_EPOCH;
        let end = ExecutionEnd {
            phase: "SUCCEEDED",
            error_kind: "",
            created: Some(created),
            ended: Some(created + Duration::from_secs(2)),
        };
        metrics.ended(&id, &end);
    }

    #[test]
    fn projects_that_have_the_same_name_as_metrics_share_one() {
        let scope = Scope::new("admin");
        let metrics = ExecutionMetrics::register(&scope).unwrap();
        for project in ["a-b", "a_b", "9"] {
            ended(&metrics, project);
        }
        let text = scope.render();
        for line in [
            "admin:execution_manager:a_b:development:workflow_execution_duration_ns_count 2",
            "admin:execution_manager:a_b:development:workflow_execution_duration_ns_sum 4000000000",
            "admin:execution_manager:9:development:workflow_execution_duration_ns_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn projects_beyond_the_limit_have_no_metric_of_their_own() {
        let scope = Scope::new("admin");
        let metrics = ExecutionMetrics::register(&scope).unwrap();
        for project in 0..=MOST_PROJECTS {
            ended(&metrics, &format!("p{project}"));
        }
        let text = scope.render();
        let is_timed = |project: usize| text.contains(&format!(":p{project}:development:workflow"));
        assert!(is_timed(MOST_PROJECTS - 1) && !is_timed(MOST_PROJECTS));
    }
}
