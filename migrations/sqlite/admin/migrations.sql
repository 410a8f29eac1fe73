-- The schema of flyteadmin on SQLite: Go's tables and columns with `id` as the primary key and Go's key unique.
-- Times are microseconds since 1970, UTC.

-- migration: 0001-initial
CREATE TABLE description_entities (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    resource_type INTEGER NOT NULL,
    project TEXT NOT NULL,
    domain TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    short_description TEXT,
    long_description BLOB,
    link TEXT,
    UNIQUE (resource_type, project, domain, name, version)
) STRICT;

CREATE TABLE execution_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    execution_project TEXT NOT NULL,
    execution_domain TEXT NOT NULL,
    execution_name TEXT NOT NULL,
    request_id TEXT,
    occurred_at INTEGER,
    phase TEXT NOT NULL,
    UNIQUE (execution_project, execution_domain, execution_name, phase)
) STRICT;

CREATE TABLE execution_tags (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    execution_project TEXT NOT NULL CONSTRAINT "value too long for type character varying(255)" CHECK (length(execution_project) <= 255),
    execution_domain TEXT NOT NULL CONSTRAINT "value too long for type character varying(255)" CHECK (length(execution_domain) <= 255),
    execution_name TEXT NOT NULL CONSTRAINT "value too long for type character varying(255)" CHECK (length(execution_name) <= 255),
    key TEXT NOT NULL CONSTRAINT "value too long for type character varying(255)" CHECK (length(key) <= 255),
    value TEXT NOT NULL CONSTRAINT "value too long for type character varying(255)" CHECK (length(value) <= 255),
    UNIQUE (execution_project, execution_domain, execution_name, key, value)
) STRICT;
CREATE INDEX tag_key ON execution_tags (key);
CREATE INDEX tag_value ON execution_tags (value);

CREATE TABLE executions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    execution_project TEXT NOT NULL,
    execution_domain TEXT NOT NULL,
    execution_name TEXT NOT NULL,
    launch_plan_id INTEGER,
    workflow_id INTEGER,
    task_id INTEGER,
    phase TEXT,
    closure BLOB,
    spec BLOB NOT NULL,
    started_at INTEGER,
    execution_created_at INTEGER,
    execution_updated_at INTEGER,
    duration INTEGER,
    abort_cause TEXT,
    mode INTEGER,
    source_execution_id INTEGER,
    parent_node_execution_id INTEGER,
    cluster TEXT,
    inputs_uri TEXT,
    user_inputs_uri TEXT,
    error_kind TEXT,
    error_code TEXT,
    "user" TEXT,
    state INTEGER DEFAULT 0,
    launch_entity TEXT,
    UNIQUE (execution_project, execution_domain, execution_name)
) STRICT;
CREATE INDEX idx_executions_created_at ON executions (execution_created_at);
CREATE INDEX idx_executions_error_kind ON executions (error_kind);
CREATE INDEX idx_executions_launch_plan_id ON executions (launch_plan_id);
CREATE INDEX idx_executions_phase ON executions (phase);
CREATE INDEX idx_executions_state ON executions (state);
CREATE INDEX idx_executions_task_id ON executions (task_id);
CREATE INDEX idx_executions_user ON executions ("user");
CREATE INDEX idx_executions_workflow_id ON executions (workflow_id);

CREATE TABLE launch_plans (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    project TEXT NOT NULL,
    domain TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    spec BLOB NOT NULL,
    workflow_id INTEGER,
    closure BLOB NOT NULL,
    state INTEGER DEFAULT 0,
    digest BLOB,
    schedule_type TEXT,
    launch_condition_type TEXT CONSTRAINT "value too long for type character varying(32)" CHECK (length(launch_condition_type) <= 32),
    UNIQUE (project, domain, name, version)
) STRICT;
CREATE INDEX idx_launch_plans_launch_conditions ON launch_plans (launch_condition_type) WHERE (launch_condition_type IS NOT NULL);
CREATE INDEX idx_launch_plans_workflow_id ON launch_plans (workflow_id);

CREATE TABLE named_entity_metadata (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    resource_type INTEGER NOT NULL,
    project TEXT NOT NULL,
    domain TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT CONSTRAINT "value too long for type character varying(300)" CHECK (length(description) <= 300),
    state INTEGER DEFAULT 0,
    UNIQUE (resource_type, project, domain, name)
) STRICT;

CREATE TABLE node_execution_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    execution_project TEXT NOT NULL,
    execution_domain TEXT NOT NULL,
    execution_name TEXT NOT NULL,
    node_id TEXT NOT NULL,
    request_id TEXT,
    occurred_at INTEGER,
    phase TEXT NOT NULL,
    UNIQUE (execution_project, execution_domain, execution_name, node_id, phase)
) STRICT;
CREATE INDEX idx_node_execution_events_node_id ON node_execution_events (node_id);

CREATE TABLE node_executions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    execution_project TEXT NOT NULL,
    execution_domain TEXT NOT NULL,
    execution_name TEXT NOT NULL,
    node_id TEXT NOT NULL,
    phase TEXT,
    input_uri TEXT,
    closure BLOB,
    started_at INTEGER,
    node_execution_created_at INTEGER,
    node_execution_updated_at INTEGER,
    duration INTEGER,
    parent_task_execution_id INTEGER,
    dynamic_workflow_remote_closure_reference TEXT,
    internal_data BLOB,
    node_execution_metadata BLOB,
    parent_id INTEGER,
    error_kind TEXT,
    error_code TEXT,
    cache_status TEXT,
    UNIQUE (execution_project, execution_domain, execution_name, node_id)
) STRICT;
CREATE INDEX idx_node_executions_error_kind ON node_executions (error_kind);
CREATE INDEX idx_node_executions_node_id ON node_executions (node_id);
CREATE INDEX idx_node_executions_parent_id ON node_executions (parent_id);
CREATE INDEX idx_node_executions_parent_task_execution_id ON node_executions (parent_task_execution_id);

CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    identifier TEXT NOT NULL,
    name TEXT,
    description TEXT CONSTRAINT "value too long for type character varying(300)" CHECK (length(description) <= 300),
    labels BLOB,
    state INTEGER DEFAULT 0,
    UNIQUE (identifier)
) STRICT;
CREATE INDEX idx_projects_state ON projects (state);

CREATE TABLE resources (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    project TEXT,
    domain TEXT,
    workflow TEXT,
    launch_plan TEXT,
    resource_type TEXT,
    priority INTEGER,
    attributes BLOB
) STRICT;
CREATE UNIQUE INDEX resource_idx ON resources (project, domain, workflow, launch_plan, resource_type);

CREATE TABLE schedulable_entities (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    project TEXT NOT NULL,
    domain TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    cron_expression TEXT,
    fixed_rate_value INTEGER,
    unit INTEGER,
    kickoff_time_input_arg TEXT,
    active INTEGER,
    UNIQUE (project, domain, name, version)
) STRICT;

CREATE TABLE schedule_entities_snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    snapshot BLOB
) STRICT;

CREATE TABLE signals (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    execution_project TEXT NOT NULL,
    execution_domain TEXT NOT NULL,
    execution_name TEXT NOT NULL,
    signal_id TEXT NOT NULL,
    type BLOB NOT NULL,
    value BLOB,
    UNIQUE (execution_project, execution_domain, execution_name, signal_id)
) STRICT;
CREATE INDEX idx_signals_signal_id ON signals (signal_id);

CREATE TABLE task_executions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    project TEXT NOT NULL,
    domain TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    execution_project TEXT NOT NULL,
    execution_domain TEXT NOT NULL,
    execution_name TEXT NOT NULL,
    node_id TEXT NOT NULL,
    retry_attempt INTEGER NOT NULL,
    phase TEXT,
    phase_version INTEGER,
    input_uri TEXT,
    closure BLOB,
    started_at INTEGER,
    task_execution_created_at INTEGER,
    task_execution_updated_at INTEGER,
    duration INTEGER,
    UNIQUE (project, domain, name, version, execution_project, execution_domain, execution_name, node_id, retry_attempt)
) STRICT;
CREATE INDEX idx_task_executions_exec ON task_executions (execution_project, execution_domain, execution_name, node_id);
CREATE INDEX idx_task_executions_node_id ON task_executions (node_id);

CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    project TEXT NOT NULL,
    domain TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    closure BLOB NOT NULL,
    digest BLOB,
    type TEXT,
    short_description TEXT,
    UNIQUE (project, domain, name, version)
) STRICT;

CREATE TABLE workflows (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    project TEXT NOT NULL,
    domain TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    typed_interface BLOB,
    remote_closure_identifier TEXT NOT NULL,
    digest BLOB,
    short_description TEXT,
    UNIQUE (project, domain, name, version)
) STRICT;

