//! What is counted of statements: the operations of Go's repositories (spec 07 §3.2).

use flyte_platform::sql::Operation;

/// A table, as Go's metrics name it.
pub(super) struct Repository(&'static str);

pub(super) const DESCRIPTIONS: Repository = Repository("description_entities");
pub(super) const EXECUTION_EVENTS: Repository = Repository("execution_events");
pub(super) const EXECUTIONS: Repository = Repository("executions");
pub(super) const LAUNCH_PLANS: Repository = Repository("launch_plans");
pub(super) const NAMED_ENTITIES: Repository = Repository("named_entity");
pub(super) const NODE_EVENTS: Repository = Repository("node_execution_events");
pub(super) const NODE_EXECUTIONS: Repository = Repository("node_executions");
pub(super) const PROJECTS: Repository = Repository("project");
pub(super) const SCHEDULES: Repository = Repository("schedulable_entity");
pub(super) const SIGNALS: Repository = Repository("signals");
pub(super) const TASK_EXECUTIONS: Repository = Repository("task_executions");
pub(super) const TASKS: Repository = Repository("tasks");
pub(super) const WORKFLOWS: Repository = Repository("workflows");
/// Attributes; nothing reads or writes them yet.
const RESOURCES: Repository = Repository("resources");
/// The scheduler's; nothing reads or writes them yet.
const SNAPSHOTS: Repository = Repository("schedule_entities_snapshot");

const TABLES: [Repository; 13] = [
    DESCRIPTIONS,
    EXECUTION_EVENTS,
    EXECUTIONS,
    LAUNCH_PLANS,
    NAMED_ENTITIES,
    NODE_EVENTS,
    NODE_EXECUTIONS,
    PROJECTS,
    RESOURCES,
    SIGNALS,
    TASK_EXECUTIONS,
    TASKS,
    WORKFLOWS,
];

/// Go's operations; each repository has all of them, used or not.
const NAMES: [&str; 7] = [
    "create",
    "get",
    "update",
    "list",
    "list_identifiers",
    "delete",
    "exists",
];

impl Repository {
    const fn operation(&self, name: &'static str) -> Operation {
        Operation {
            repository: self.0,
            name,
        }
    }

    pub(super) const fn create(&self) -> Operation {
        self.operation("create")
    }

    pub(super) const fn get(&self) -> Operation {
        self.operation("get")
    }

    pub(super) const fn update(&self) -> Operation {
        self.operation("update")
    }

    pub(super) const fn list(&self) -> Operation {
        self.operation("list")
    }

    pub(super) const fn list_identifiers(&self) -> Operation {
        self.operation("list_identifiers")
    }

    pub(super) const fn delete(&self) -> Operation {
        self.operation("delete")
    }

    pub(super) const fn exists(&self) -> Operation {
        self.operation("exists")
    }

    pub(super) const fn count(&self) -> Operation {
        self.operation("count")
    }

    /// Go's name for making one version of a launch plan the active one.
    pub(super) const fn set_active(&self) -> Operation {
        self.operation("set_active")
    }
}

/// Everything that is counted, used or not: dashboards ask for the names.
pub(crate) fn all() -> impl Iterator<Item = Operation> {
    let common = TABLES
        .into_iter()
        .chain([SCHEDULES, SNAPSHOTS])
        .flat_map(|table| NAMES.map(|name| table.operation(name)));
    common
        .chain(TABLES.map(|table| table.count()))
        .chain([LAUNCH_PLANS.set_active()])
}
