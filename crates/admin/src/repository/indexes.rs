//! Indexes for lists, besides Go's (docs/operations.md, "Indexes").

use flyte_platform::sql::Index;

/// What the lists of the console and of flytectl go by: newest first within a project and domain, by state (every list of
/// executions has one, by default those that are not archived), by phase and user, and the versions of a name.
pub const INDEXES: &[Index] = &[
    Index {
        name: "flyte_rs_executions_state",
        on: "executions (execution_project, execution_domain, state, created_at DESC, id)",
    },
    // NULL first, in words by which SQLite too sorts.
    Index {
        name: "flyte_rs_executions_started",
        on: "executions (execution_project, execution_domain, (started_at IS NULL) DESC, started_at DESC, id)",
    },
    Index {
        name: "flyte_rs_executions_phase",
        on: "executions (execution_project, execution_domain, phase, created_at DESC, id)",
    },
    Index {
        name: "flyte_rs_executions_user",
        on: "executions (execution_project, execution_domain, \"user\", created_at DESC, id)",
    },
    Index {
        name: "flyte_rs_executions_duration",
        on: "executions (execution_project, execution_domain, duration, id)",
    },
    // Those of one version of something, newest first: SQLite knows of no value how common it is.
    Index {
        name: "flyte_rs_executions_workflow",
        on: "executions (workflow_id, created_at DESC, id)",
    },
    Index {
        name: "flyte_rs_executions_launch_plan",
        on: "executions (launch_plan_id, created_at DESC, id)",
    },
    Index {
        name: "flyte_rs_executions_task",
        on: "executions (task_id, created_at DESC, id)",
    },
    // Filters on what executions are of name it without project and domain.
    Index {
        name: "flyte_rs_tasks_name",
        on: "tasks (name)",
    },
    Index {
        name: "flyte_rs_workflows_name",
        on: "workflows (name)",
    },
    Index {
        name: "flyte_rs_launch_plans_name",
        on: "launch_plans (name)",
    },
    Index {
        name: "flyte_rs_tasks_created",
        on: "tasks (project, domain, created_at DESC, id)",
    },
    Index {
        name: "flyte_rs_tasks_name_created",
        on: "tasks (project, domain, name, created_at DESC, id)",
    },
    Index {
        name: "flyte_rs_workflows_created",
        on: "workflows (project, domain, created_at DESC, id)",
    },
    Index {
        name: "flyte_rs_workflows_name_created",
        on: "workflows (project, domain, name, created_at DESC, id)",
    },
    Index {
        name: "flyte_rs_launch_plans_created",
        on: "launch_plans (project, domain, created_at DESC, id)",
    },
    Index {
        name: "flyte_rs_launch_plans_name_created",
        on: "launch_plans (project, domain, name, created_at DESC, id)",
    },
    Index {
        name: "flyte_rs_launch_plans_active",
        on: "launch_plans (project, domain, state, created_at DESC, id)",
    },
];
