//! Admin in memory, deciding with flyteadmin's own event state machines, and checking the order of events
//! (design: Events).

mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flyte_admin::{
    domain::events::{check_cluster, node, not_found, task, validate, workflow},
    error::Error,
    records::{Execution, NodeExecution, NodePhase, TaskExecution, WorkflowPhase},
};
use flyte_core::identifiers::{ExecutionId, NodeExecutionId, TaskExecutionId};
use flyte_idl::{
    admin,
    core::{ExecutionError, node_execution},
    datacatalog::data_catalog_server::DataCatalogServer,
    event::{
        NodeExecutionEvent, TaskExecutionEvent, TaskExecutionMetadata, WorkflowExecutionEvent,
        task_execution_metadata::InstanceClass,
    },
    service::{
        admin_service_server::AdminServiceServer, signal_service_server::SignalServiceServer,
    },
};
use flyte_platform::sync::Mutex;
use tonic::service::Routes;

use super::{catalog::Catalog, children::Children, signals::Signals};

/// An attempt: its node, its number, its task.
type Attempt = (String, u32, String);

/// What admin knows of the one execution.
#[derive(Clone, Debug)]
pub struct Records {
    execution: Execution,
    nodes: BTreeMap<String, NodeExecution>,
    /// The node around a node.
    parents: BTreeMap<String, String>,
    tasks: BTreeMap<Attempt, TaskExecution>,
    /// Executions that its launch plan nodes have made.
    children: Children,
    violations: Vec<String>,
    /// The workflow was begun before anybody kept records: what an event takes for known is known.
    adopts: bool,
    /// There are other executions, of which nothing is recorded.
    neighbours: bool,
    /// Nodes of the execution that this one recovers.
    other: Vec<admin::NodeExecution>,
    /// Who reported events.
    producers: BTreeSet<String>,
}

impl Records {
    fn new(id: ExecutionId) -> Self {
        Self {
            execution: Execution::new(id),
            nodes: BTreeMap::new(),
            parents: BTreeMap::new(),
            tasks: BTreeMap::new(),
            children: Children::default(),
            violations: Vec::new(),
            adopts: false,
            neighbours: false,
            other: Vec::new(),
            producers: BTreeSet::new(),
        }
    }

    /// Engines that reported events, as they name themselves.
    pub fn producers(&self) -> &BTreeSet<String> {
        &self.producers
    }

    /// Phase and error code.
    pub fn workflow(&self) -> (String, String) {
        let code = self.execution.error_code.clone();
        (self.execution.phase.to_string(), code.unwrap_or_default())
    }

    /// Phase of each node.
    pub fn nodes(&self) -> BTreeMap<String, String> {
        self.nodes
            .iter()
            .map(|(id, node)| (id.clone(), node.phase.to_string()))
            .collect()
    }

    /// What the workflow's end says: where its outputs are, if it has any.
    pub fn output_uri(&self) -> Option<String> {
        match &self.execution.closure.get().output_result {
            #[expect(deprecated, reason = "that is where a reference to outputs stands")]
            Some(admin::execution_closure::OutputResult::Outputs(blob)) => match &blob.data {
                Some(admin::literal_map_blob::Data::Uri(uri)) => Some(uri.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// What was told of elements of arrays: index, attempt and phase.
    pub fn elements(&self) -> Vec<(u32, u32, String)> {
        let metadata = self
            .tasks
            .values()
            .filter_map(|task| task.closure.get().metadata.clone());
        let resources = metadata.flat_map(|metadata| metadata.external_resources);
        let told = resources.map(|told| {
            let phase = told.phase().as_str_name().to_owned();
            (told.index, told.retry_attempt, phase)
        });
        told.collect()
    }

    /// The code of the error of each node that has one.
    pub fn errors(&self) -> BTreeMap<String, String> {
        self.of_errors(|error| error.code.clone())
    }

    /// The text of the error of each node that has one.
    pub fn error_messages(&self) -> BTreeMap<String, String> {
        self.of_errors(|error| error.message.clone())
    }

    fn of_errors(&self, what: impl Fn(&ExecutionError) -> String) -> BTreeMap<String, String> {
        let nodes = self.nodes.iter();
        nodes
            .filter_map(|(id, node)| match &node.closure.get().output_result {
                Some(admin::node_execution_closure::OutputResult::Error(error)) => {
                    Some((id.clone(), what(error)))
                }
                _ => None,
            })
            .collect()
    }

    /// Where each node says that its outputs are.
    pub fn output_uris(&self) -> BTreeMap<String, String> {
        let nodes = self.nodes.iter();
        nodes
            .filter_map(|(id, node)| match &node.closure.get().output_result {
                #[expect(deprecated, reason = "that is where a reference to outputs stands")]
                Some(admin::node_execution_closure::OutputResult::OutputUri(uri)) => {
                    Some((id.clone(), uri.clone()))
                }
                _ => None,
            })
            .collect()
    }

    /// Phase of each attempt, by node and number.
    pub fn tasks(&self) -> BTreeMap<String, String> {
        self.tasks
            .iter()
            .map(|((node, attempt, _), task)| (format!("{node}/{attempt}"), task.phase.to_string()))
            .collect()
    }

    /// What was said about each attempt, by node and number.
    pub fn reasons(&self) -> BTreeMap<String, Vec<String>> {
        self.tasks
            .iter()
            .map(|((node, attempt, _), task)| {
                let reasons = task.closure.get().reasons.iter();
                let messages = reasons.map(|reason| reason.message.clone()).collect();
                (format!("{node}/{attempt}"), messages)
            })
            .collect()
    }

    /// How many attempts were on machines that can be taken away.
    pub fn interruptible(&self) -> usize {
        let classes = self
            .tasks
            .values()
            .filter_map(|task| task.closure.get().metadata.as_ref())
            .map(TaskExecutionMetadata::instance_class);
        classes
            .filter(|class| *class == InstanceClass::Interruptible)
            .count()
    }

    /// Nodes and attempts whose outputs came with an event instead of a reference to them.
    #[expect(deprecated, reason = "inline events are what is looked for")]
    pub fn with_data(&self) -> Vec<String> {
        let nodes = self.nodes.iter().filter(|(_, node)| {
            matches!(
                node.closure.get().output_result,
                Some(admin::node_execution_closure::OutputResult::OutputData(_))
            )
        });
        let tasks = self.tasks.iter().filter(|(_, task)| {
            matches!(
                task.closure.get().output_result,
                Some(admin::task_execution_closure::OutputResult::OutputData(_))
            )
        });
        nodes
            .map(|(id, _)| id.clone())
            .chain(tasks.map(|((node, attempt, _), _)| format!("{node}/{attempt}")))
            .collect()
    }

    /// Phase of each execution that a launch plan node has made, by name, when this was recorded.
    pub fn children(&self) -> BTreeMap<String, String> {
        self.children.phases()
    }

    /// Nodes and attempts that have not ended.
    pub fn open(&self) -> Vec<String> {
        let nodes = self
            .nodes
            .iter()
            .filter(|(_, node)| !node.phase.is_terminal())
            .map(|(id, _)| id.clone());
        nodes.chain(self.open_attempts(|_| true)).collect()
    }

    fn open_attempts(&self, of: impl Fn(&str) -> bool) -> Vec<String> {
        self.tasks
            .iter()
            .filter(|((node, ..), task)| of(node) && !task.phase.is_terminal())
            .map(|((node, attempt, _), _)| format!("{node}/{attempt}"))
            .collect()
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
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Records>>);

impl Shared {
    pub(super) fn snapshot(&self) -> Records {
        self.with(|records| {
            let mut records = records.clone();
            records.children.stop();
            records
        })
    }

    /// This execution recovers another one, which ended like this.
    pub(super) fn recovers(&self, other: &Records) {
        let nodes = other.nodes.iter();
        let nodes = nodes.map(|(name, node)| other.node(name, node)).collect();
        self.with(|records| records.other = nodes);
    }

    /// What is said of other executions is taken, and nobody asks what it was.
    pub(super) fn admits_neighbours(&self) {
        self.with(|records| records.neighbours = true);
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Records) -> T) -> T {
        use_it(&mut self.0.lock())
    }
}

/// The service for one execution, which nobody creates, beside a cache, and what it records.
pub(super) fn start(execution: ExecutionId, catalog: &Catalog) -> (Routes, Shared) {
    serve(Records::new(execution), catalog)
}

/// As [`start`], for an execution that runs and of whose nodes others were told.
pub(super) fn resume(execution: ExecutionId, catalog: &Catalog) -> (Routes, Shared) {
    let mut records = Records::new(execution);
    records.execution.phase = WorkflowPhase::Running;
    records.adopts = true;
    serve(records, catalog)
}

fn serve(records: Records, catalog: &Catalog) -> (Routes, Shared) {
    let shared = Shared(Arc::new(Mutex::new(records)));
    let routes = Routes::new(AdminServiceServer::new(Memory(shared.clone())))
        .add_service(SignalServiceServer::new(Signals::default()))
        .add_service(DataCatalogServer::new(catalog.clone()));
    (routes, shared)
}

/// An admin in memory that knows the execution `id`, of which nothing has been reported yet.
pub fn in_memory(id: ExecutionId) -> Routes {
    start(id, &Catalog::default()).0
}

struct Memory(Shared);

impl Records {
    fn is_neighbour(&self, id: &ExecutionId) -> bool {
        self.neighbours && *id != self.execution.id
    }

    fn require(
        &mut self,
        id: &ExecutionId,
        missing: fn(&ExecutionId) -> Error,
        producer: &str,
    ) -> Result<(), Error> {
        if *id != self.execution.id {
            return Err(missing(id));
        }
        self.producers.insert(producer.to_owned());
        check_cluster(&self.execution.cluster, producer)
    }

    fn on_workflow(
        &mut self,
        id: &ExecutionId,
        event: &WorkflowExecutionEvent,
    ) -> Result<(), Error> {
        if *id != self.execution.id {
            return Err(not_found::execution(id));
        }
        self.producers.insert(event.producer_id.clone());
        let before = self.execution.phase.clone();
        workflow::apply(&mut self.execution, event)?;
        let next = self.execution.phase.clone();
        self.expect(
            before != WorkflowPhase::Undefined
                || matches!(
                    next,
                    WorkflowPhase::Running | WorkflowPhase::Aborted | WorkflowPhase::Failing
                ),
            "RUNNING comes first",
            next.name(),
        );
        if next.is_terminal() {
            let open: Vec<_> = self
                .nodes
                .iter()
                .filter(|(_, node)| !node.phase.is_terminal())
                .map(|(id, _)| id.clone())
                .collect();
            self.expect(
                open.is_empty(),
                "all nodes end before the workflow",
                &open.join(", "),
            );
        }
        Ok(())
    }

    fn on_node(&mut self, id: &NodeExecutionId, event: &NodeExecutionEvent) -> Result<(), Error> {
        self.require(
            &id.execution,
            not_found::execution_of_node,
            &event.producer_id,
        )?;
        let key = id.node.to_string();
        let resolved = node::Resolved::default();
        if let Some(known) = self.nodes.get_mut(&key) {
            node::check(known, event)?;
            if let Some(child) = validate::child(event)?
                && !self.children.knows(&child.name)
            {
                return Err(not_found::execution(&child));
            }
            node::apply(known, event, &resolved)?;
        } else {
            if let Some(parent) = validate::parent_task(event)?
                && !self.tasks.contains_key(&attempt(&parent))
            {
                return Err(not_found::task(&parent));
            }
            if let Some(parent) = validate::parent_node(id, event)? {
                let around = parent.node.to_string();
                if !self.nodes.contains_key(&around) && !self.adopts {
                    return Err(not_found::node(&parent));
                }
                self.parents.insert(key.clone(), around);
            }
            let made = node::create(id.clone(), event, &resolved)?;
            self.nodes.insert(key.clone(), made);
        }
        let next = NodePhase::from(event.phase);
        let phase = self.execution.phase.clone();
        self.expect(
            phase != WorkflowPhase::Undefined && !phase.is_terminal(),
            "nodes change while the workflow runs",
            &format!("{key} {next} in {phase}"),
        );
        if matches!(next, NodePhase::Succeeded | NodePhase::Failed) {
            let open = self.open_attempts(|node| node == key);
            self.expect(
                open.is_empty(),
                "attempts end before their node",
                &open.join(", "),
            );
        }
        Ok(())
    }

    fn on_task(&mut self, id: &TaskExecutionId, event: &TaskExecutionEvent) -> Result<(), Error> {
        self.require(&id.node.execution, not_found::execution, &event.producer_id)?;
        if let Some(known) = self.tasks.get_mut(&attempt(id)) {
            return task::apply(known, event);
        }
        let node = id.node.node.to_string();
        if !self.nodes.contains_key(&node) && self.adopts {
            let running = NodeExecutionEvent {
                phase: node_execution::Phase::Running.into(),
                occurred_at: event.occurred_at,
                ..NodeExecutionEvent::default()
            };
            let made = node::create(id.node.clone(), &running, &node::Resolved::default())?;
            self.nodes.insert(node, made);
        } else if !self.nodes.contains_key(&node) {
            self.expect(false, "a node is queued before its attempts", &node);
            return Err(not_found::node_of_task(&id.node));
        }
        let made = task::create(id.clone(), event)?;
        self.tasks.insert(attempt(id), made);
        Ok(())
    }

    /// A node that another names as the one around it is a parent.
    fn node(&self, id: &str, node: &NodeExecution) -> admin::NodeExecution {
        let mut metadata = node.metadata.get().clone();
        if !metadata.is_dynamic {
            metadata.is_parent_node |= self.parents.values().any(|around| around == id);
        }
        admin::NodeExecution {
            id: Some(node.id.to_proto()),
            input_uri: node.input_uri.clone(),
            closure: Some(node.closure.get().clone()),
            metadata: Some(metadata),
        }
    }
}

fn attempt(id: &TaskExecutionId) -> Attempt {
    (
        id.node.node.to_string(),
        id.retry_attempt,
        id.task.to_string(),
    )
}

fn task_execution(task: &TaskExecution) -> admin::TaskExecution {
    admin::TaskExecution {
        id: Some(task.id.to_proto()),
        input_uri: task.input_uri.clone(),
        closure: Some(task.closure.get().clone()),
        is_parent: false,
    }
}
