-- The schema of flyteadmin on PostgreSQL, as Go Flyte 1.16 leaves it (spec 01 s19, s20).
--
-- Every id that Go knows is here, in Go's order. A section that creates a table creates its final form; the
-- sections that altered it later add only what an older database lacks, so that running them on the final form
-- changes nothing. Tables and indexes of ours are prefixed flyte_rs_ and follow at the end.

-- migration: 2019-05-22-projects
CREATE TABLE IF NOT EXISTS projects (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    identifier text NOT NULL,
    name text,
    description varchar(300),
    labels bytea,
    state integer DEFAULT 0,
    CONSTRAINT projects_pkey PRIMARY KEY (identifier)
);
CREATE INDEX IF NOT EXISTS idx_projects_deleted_at ON projects (deleted_at);
CREATE INDEX IF NOT EXISTS idx_projects_id ON projects (id);
CREATE INDEX IF NOT EXISTS idx_projects_state ON projects (state);

-- migration: 2018-05-23-tasks
CREATE TABLE IF NOT EXISTS tasks (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    project text NOT NULL,
    domain text NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    closure bytea NOT NULL,
    digest bytea,
    type text,
    short_description text,
    CONSTRAINT tasks_pkey PRIMARY KEY (project, domain, name, version)
);
CREATE INDEX IF NOT EXISTS idx_tasks_deleted_at ON tasks (deleted_at);
CREATE INDEX IF NOT EXISTS idx_tasks_id ON tasks (id);
CREATE INDEX IF NOT EXISTS task_project_domain_idx ON tasks (project, domain);
CREATE INDEX IF NOT EXISTS task_project_domain_name_idx ON tasks (project, domain, name);

-- migration: 2018-05-23-workflows
CREATE TABLE IF NOT EXISTS workflows (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    project text NOT NULL,
    domain text NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    typed_interface bytea,
    remote_closure_identifier text NOT NULL,
    digest bytea,
    short_description text,
    CONSTRAINT workflows_pkey PRIMARY KEY (project, domain, name, version)
);
CREATE INDEX IF NOT EXISTS idx_workflows_deleted_at ON workflows (deleted_at);
CREATE INDEX IF NOT EXISTS idx_workflows_id ON workflows (id);
CREATE INDEX IF NOT EXISTS workflow_project_domain_idx ON workflows (project, domain);
CREATE INDEX IF NOT EXISTS workflow_project_domain_name_idx ON workflows (project, domain, name);

-- migration: 2019-05-23-lp
CREATE TABLE IF NOT EXISTS launch_plans (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    project text NOT NULL,
    domain text NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    spec bytea NOT NULL,
    workflow_id bigint,
    closure bytea NOT NULL,
    state integer DEFAULT 0,
    digest bytea,
    schedule_type text,
    launch_condition_type varchar(32),
    CONSTRAINT launch_plans_pkey PRIMARY KEY (project, domain, name, version)
);
CREATE INDEX IF NOT EXISTS idx_launch_plans_deleted_at ON launch_plans (deleted_at);
CREATE INDEX IF NOT EXISTS idx_launch_plans_id ON launch_plans (id);
CREATE INDEX IF NOT EXISTS idx_launch_plans_launch_conditions ON launch_plans (launch_condition_type) WHERE (launch_condition_type IS NOT NULL);
CREATE INDEX IF NOT EXISTS idx_launch_plans_workflow_id ON launch_plans (workflow_id);
CREATE INDEX IF NOT EXISTS lp_project_domain_name_idx ON launch_plans (project, domain, name);

-- migration: 2019-05-23-executions
CREATE TABLE IF NOT EXISTS executions (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    execution_project text NOT NULL,
    execution_domain text NOT NULL,
    execution_name text NOT NULL,
    launch_plan_id bigint,
    workflow_id bigint,
    task_id bigint,
    phase text,
    closure bytea,
    spec bytea NOT NULL,
    started_at timestamptz,
    execution_created_at timestamptz,
    execution_updated_at timestamptz,
    duration bigint,
    abort_cause text,
    mode integer,
    source_execution_id bigint,
    parent_node_execution_id bigint,
    cluster text,
    inputs_uri text,
    user_inputs_uri text,
    error_kind text,
    error_code text,
    "user" text,
    state integer DEFAULT 0,
    launch_entity text,
    CONSTRAINT executions_pkey PRIMARY KEY (execution_project, execution_domain, execution_name)
);
CREATE INDEX IF NOT EXISTS idx_executions_created_at ON executions (execution_created_at);
CREATE INDEX IF NOT EXISTS idx_executions_deleted_at ON executions (deleted_at);
CREATE INDEX IF NOT EXISTS idx_executions_error_kind ON executions (error_kind);
CREATE INDEX IF NOT EXISTS idx_executions_id ON executions (id);
CREATE INDEX IF NOT EXISTS idx_executions_launch_plan_id ON executions (launch_plan_id);
CREATE INDEX IF NOT EXISTS idx_executions_phase ON executions (phase);
CREATE INDEX IF NOT EXISTS idx_executions_state ON executions (state);
CREATE INDEX IF NOT EXISTS idx_executions_task_id ON executions (task_id);
CREATE INDEX IF NOT EXISTS idx_executions_user ON executions ("user");
CREATE INDEX IF NOT EXISTS idx_executions_workflow_id ON executions (workflow_id);

-- migration: 2019-01-29-executions-events
CREATE TABLE IF NOT EXISTS execution_events (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    execution_project text NOT NULL,
    execution_domain text NOT NULL,
    execution_name text NOT NULL,
    request_id text,
    occurred_at timestamptz,
    phase text NOT NULL,
    CONSTRAINT execution_events_pkey PRIMARY KEY (execution_project, execution_domain, execution_name, phase)
);
CREATE INDEX IF NOT EXISTS idx_execution_events_deleted_at ON execution_events (deleted_at);
CREATE INDEX IF NOT EXISTS idx_execution_events_id ON execution_events (id);

-- migration: 2019-04-17-node-executions
CREATE TABLE IF NOT EXISTS node_executions (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    execution_project text NOT NULL,
    execution_domain text NOT NULL,
    execution_name text NOT NULL,
    node_id text NOT NULL,
    phase text,
    input_uri text,
    closure bytea,
    started_at timestamptz,
    node_execution_created_at timestamptz,
    node_execution_updated_at timestamptz,
    duration bigint,
    parent_task_execution_id bigint,
    dynamic_workflow_remote_closure_reference text,
    internal_data bytea,
    node_execution_metadata bytea,
    parent_id bigint,
    error_kind text,
    error_code text,
    cache_status text,
    CONSTRAINT node_executions_pkey PRIMARY KEY (execution_project, execution_domain, execution_name, node_id)
);
CREATE INDEX IF NOT EXISTS idx_node_executions_deleted_at ON node_executions (deleted_at);
CREATE INDEX IF NOT EXISTS idx_node_executions_error_kind ON node_executions (error_kind);
CREATE INDEX IF NOT EXISTS idx_node_executions_id ON node_executions (id);
CREATE INDEX IF NOT EXISTS idx_node_executions_node_id ON node_executions (node_id);
CREATE INDEX IF NOT EXISTS idx_node_executions_parent_id ON node_executions (parent_id);
CREATE INDEX IF NOT EXISTS idx_node_executions_parent_task_execution_id ON node_executions (parent_task_execution_id);

-- migration: 2019-01-29-node-executions-events
CREATE TABLE IF NOT EXISTS node_execution_events (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    execution_project text NOT NULL,
    execution_domain text NOT NULL,
    execution_name text NOT NULL,
    node_id text NOT NULL,
    request_id text,
    occurred_at timestamptz,
    phase text NOT NULL,
    CONSTRAINT node_execution_events_pkey PRIMARY KEY (execution_project, execution_domain, execution_name, node_id, phase)
);
CREATE INDEX IF NOT EXISTS idx_node_execution_events_deleted_at ON node_execution_events (deleted_at);
CREATE INDEX IF NOT EXISTS idx_node_execution_events_id ON node_execution_events (id);
CREATE INDEX IF NOT EXISTS idx_node_execution_events_node_id ON node_execution_events (node_id);

-- migration: 2019-03-16-task-executions
CREATE TABLE IF NOT EXISTS task_executions (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    project text NOT NULL,
    domain text NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    execution_project text NOT NULL,
    execution_domain text NOT NULL,
    execution_name text NOT NULL,
    node_id text NOT NULL,
    retry_attempt bigint NOT NULL,
    phase text,
    phase_version bigint,
    input_uri text,
    closure bytea,
    started_at timestamptz,
    task_execution_created_at timestamptz,
    task_execution_updated_at timestamptz,
    duration bigint,
    CONSTRAINT task_executions_pkey PRIMARY KEY (project, domain, name, version, execution_project, execution_domain, execution_name, node_id, retry_attempt)
);
CREATE INDEX IF NOT EXISTS idx_task_executions_deleted_at ON task_executions (deleted_at);
CREATE INDEX IF NOT EXISTS idx_task_executions_exec ON task_executions (execution_project, execution_domain, execution_name, node_id);
CREATE INDEX IF NOT EXISTS idx_task_executions_id ON task_executions (id);
CREATE INDEX IF NOT EXISTS idx_task_executions_node_id ON task_executions (node_id);

-- migration: 2019-04-17-node-executions-backfill
ALTER TABLE node_executions ADD COLUMN IF NOT EXISTS parent_task_execution_id bigint;
UPDATE node_executions SET parent_task_execution_id = NULL WHERE parent_task_execution_id = 0;

-- migration: 2019-09-27-executions
ALTER TABLE executions ADD COLUMN IF NOT EXISTS cluster text;

-- migration: 2019-10-09-project-description
ALTER TABLE projects ADD COLUMN IF NOT EXISTS description varchar(300);

-- migration: 2019-10-15-offload-inputs
ALTER TABLE executions ADD COLUMN IF NOT EXISTS inputs_uri text;
ALTER TABLE executions ADD COLUMN IF NOT EXISTS user_inputs_uri text;

-- migration: 2019-11-05-named-entity-metadata
CREATE TABLE IF NOT EXISTS named_entity_metadata (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    resource_type integer NOT NULL,
    project text NOT NULL,
    domain text NOT NULL,
    name text NOT NULL,
    description varchar(300),
    state integer DEFAULT 0,
    CONSTRAINT named_entity_metadata_pkey PRIMARY KEY (resource_type, project, domain, name)
);
CREATE INDEX IF NOT EXISTS idx_named_entity_metadata_deleted_at ON named_entity_metadata (deleted_at);
CREATE INDEX IF NOT EXISTS idx_named_entity_metadata_id ON named_entity_metadata (id);
CREATE INDEX IF NOT EXISTS named_entity_metadata_type_project_domain_name_idx ON named_entity_metadata (resource_type, project, domain, name);

-- migration: 2020-01-10-resource
CREATE TABLE IF NOT EXISTS resources (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    project text,
    domain text,
    workflow text,
    launch_plan text,
    resource_type text,
    priority integer,
    attributes bytea,
    CONSTRAINT resources_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX IF NOT EXISTS resource_idx ON resources (project, domain, workflow, launch_plan, resource_type);

-- migration: 2020-03-17-task-type
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS type text;

-- migration: 2020-04-03-named-entity-state
ALTER TABLE named_entity_metadata ADD COLUMN IF NOT EXISTS state integer DEFAULT 0;

-- migration: 2020-04-03-named-entity-state-default
UPDATE named_entity_metadata SET state = 0;

-- migration: 2020-04-03-workflow-state
ALTER TABLE workflows DROP COLUMN IF EXISTS state;

-- migration: 2020-04-29-executions
ALTER TABLE executions ADD COLUMN IF NOT EXISTS error_kind text;
CREATE INDEX IF NOT EXISTS idx_executions_error_kind ON executions (error_kind);
ALTER TABLE executions ADD COLUMN IF NOT EXISTS error_code text;
ALTER TABLE node_executions ADD COLUMN IF NOT EXISTS error_kind text;
CREATE INDEX IF NOT EXISTS idx_node_executions_error_kind ON node_executions (error_kind);
ALTER TABLE node_executions ADD COLUMN IF NOT EXISTS error_code text;
ALTER TABLE node_executions ADD COLUMN IF NOT EXISTS parent_task_execution_id bigint;
CREATE INDEX IF NOT EXISTS idx_node_executions_parent_task_execution_id ON node_executions (parent_task_execution_id);

-- migration: 2020-04-14-task-type
ALTER TABLE executions ADD COLUMN IF NOT EXISTS task_id bigint;
CREATE INDEX IF NOT EXISTS idx_executions_task_id ON executions (task_id);

-- migration: 2020-07-27-cachestatus
ALTER TABLE node_executions ADD COLUMN IF NOT EXISTS cache_status text;

-- migration: 2020-07-31-node-execution
ALTER TABLE node_executions ADD COLUMN IF NOT EXISTS parent_id bigint;
CREATE INDEX IF NOT EXISTS idx_node_executions_parent_id ON node_executions (parent_id);
ALTER TABLE node_executions ADD COLUMN IF NOT EXISTS node_execution_metadata bytea;

-- migration: 2020-08-17-labels-addition
ALTER TABLE projects ADD COLUMN IF NOT EXISTS labels bytea;

-- migration: 2020-09-01-task-exec-idx
CREATE INDEX IF NOT EXISTS idx_task_executions_exec ON task_executions (execution_project, execution_domain, execution_name, node_id);

-- migration: 2020-11-03-project-state-addition
ALTER TABLE projects ADD COLUMN IF NOT EXISTS state integer DEFAULT 0;
CREATE INDEX IF NOT EXISTS idx_projects_state ON projects (state);

-- migration: 2020-11-03-project-state-default
UPDATE projects SET state = 0;

-- migration: 2021-01-22-execution-user
ALTER TABLE executions ADD COLUMN IF NOT EXISTS "user" text;
CREATE INDEX IF NOT EXISTS idx_executions_user ON executions ("user");

-- migration: 2021-04-19-node-execution_dynamic-workflow
ALTER TABLE node_executions ADD COLUMN IF NOT EXISTS dynamic_workflow_remote_closure_reference text;

-- migration: 2021-07-22-schedulable_entities
CREATE TABLE IF NOT EXISTS schedulable_entities (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    project text NOT NULL,
    domain text NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    cron_expression text,
    fixed_rate_value bigint,
    unit integer,
    kickoff_time_input_arg text,
    active boolean,
    CONSTRAINT schedulable_entities_pkey PRIMARY KEY (project, domain, name, version)
);
CREATE INDEX IF NOT EXISTS idx_schedulable_entities_deleted_at ON schedulable_entities (deleted_at);
CREATE INDEX IF NOT EXISTS idx_schedulable_entities_id ON schedulable_entities (id);

-- migration: 2021-08-05-schedulable_entities_snapshot
CREATE TABLE IF NOT EXISTS schedule_entities_snapshots (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    snapshot bytea,
    CONSTRAINT schedule_entities_snapshots_pkey PRIMARY KEY (id)
);
CREATE INDEX IF NOT EXISTS idx_schedule_entities_snapshots_deleted_at ON schedule_entities_snapshots (deleted_at);
CREATE INDEX IF NOT EXISTS idx_schedule_entities_snapshots_id ON schedule_entities_snapshots (id);

-- migration: 2022-01-11-id-to-bigint
ALTER TABLE execution_events ALTER COLUMN id TYPE bigint;
ALTER TABLE executions ALTER COLUMN id TYPE bigint;
ALTER TABLE launch_plans ALTER COLUMN id TYPE bigint;
ALTER TABLE named_entity_metadata ALTER COLUMN id TYPE bigint;
ALTER TABLE node_execution_events ALTER COLUMN id TYPE bigint;
ALTER TABLE node_executions ALTER COLUMN id TYPE bigint;
ALTER TABLE projects ALTER COLUMN id TYPE bigint;
ALTER TABLE resources ALTER COLUMN id TYPE bigint;
ALTER TABLE schedulable_entities ALTER COLUMN id TYPE bigint;
ALTER TABLE schedule_entities_snapshots ALTER COLUMN id TYPE bigint;
ALTER TABLE task_executions ALTER COLUMN id TYPE bigint;
ALTER TABLE tasks ALTER COLUMN id TYPE bigint;
ALTER TABLE workflows ALTER COLUMN id TYPE bigint;

-- migration: 2022-01-11-execution-state
ALTER TABLE executions ADD COLUMN IF NOT EXISTS state integer DEFAULT 0;
CREATE INDEX IF NOT EXISTS idx_executions_state ON executions (state);

-- migration: 2022-03-29-node-execution-internal-data
ALTER TABLE node_executions ADD COLUMN IF NOT EXISTS internal_data bytea;

-- migration: 2022-04-04-execution-created-at-index
CREATE INDEX IF NOT EXISTS idx_executions_created_at ON executions (execution_created_at);

-- migration: 2022-09-13-description-entities
CREATE TABLE IF NOT EXISTS description_entities (
    resource_type integer NOT NULL,
    project text NOT NULL,
    domain text NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    short_description text,
    long_description bytea,
    link text,
    CONSTRAINT description_entities_pkey PRIMARY KEY (resource_type, project, domain, name, version)
);
CREATE INDEX IF NOT EXISTS description_entity_project_domain_name_version_idx ON description_entities (resource_type, project, domain, name, version);
CREATE INDEX IF NOT EXISTS idx_description_entities_deleted_at ON description_entities (deleted_at);
CREATE INDEX IF NOT EXISTS idx_description_entities_id ON description_entities (id);

-- migration: 2020-09-13-task-short_description
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS short_description text;

-- migration: 2020-09-13-workflow-short_description
ALTER TABLE workflows ADD COLUMN IF NOT EXISTS short_description text;

-- migration: 2022-04-11-signals
CREATE TABLE IF NOT EXISTS signals (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    execution_project text NOT NULL,
    execution_domain text NOT NULL,
    execution_name text NOT NULL,
    signal_id text NOT NULL,
    type bytea NOT NULL,
    value bytea,
    CONSTRAINT signals_pkey PRIMARY KEY (execution_project, execution_domain, execution_name, signal_id)
);
CREATE INDEX IF NOT EXISTS idx_signals_deleted_at ON signals (deleted_at);
CREATE INDEX IF NOT EXISTS idx_signals_id ON signals (id);
CREATE INDEX IF NOT EXISTS idx_signals_signal_id ON signals (signal_id);

-- migration: 2022-12-09-execution-launch-type
ALTER TABLE executions ADD COLUMN IF NOT EXISTS launch_entity text;

-- migration: pg-noop-2023-03-31-noop-project-3
ALTER TABLE projects ALTER COLUMN id SET NOT NULL;

-- migration: pg-noop-2023-03-31-noop-task-2
ALTER TABLE tasks ALTER COLUMN id SET NOT NULL;

-- migration: pg-noop-2023-03-31-noop-workflow
ALTER TABLE workflows ALTER COLUMN id SET NOT NULL;

-- migration: pg-noop-2023-03-31-noop-launchplan
ALTER TABLE launch_plans ALTER COLUMN id SET NOT NULL;
ALTER TABLE launch_plans ADD COLUMN IF NOT EXISTS schedule_type text;
CREATE INDEX IF NOT EXISTS idx_launch_plans_workflow_id ON launch_plans (workflow_id);

-- migration: pg-noop-2023-03-31-noop-namedentitymetadata
ALTER TABLE named_entity_metadata ALTER COLUMN id SET NOT NULL;

-- migration: pg-noop-2023-03-31-noop-execution
ALTER TABLE executions ALTER COLUMN id SET NOT NULL;
ALTER TABLE executions ADD COLUMN IF NOT EXISTS source_execution_id bigint;
ALTER TABLE executions ADD COLUMN IF NOT EXISTS parent_node_execution_id bigint;
ALTER TABLE executions ADD COLUMN IF NOT EXISTS mode integer;
ALTER TABLE executions ADD COLUMN IF NOT EXISTS abort_cause text;

-- migration: pg-noop-2023-03-31-noop-taskexecution
ALTER TABLE task_executions ALTER COLUMN id SET NOT NULL;

-- migration: pg-2023-05-02-fix-parentid-type-phase-1
DO $$
BEGIN
    IF (SELECT data_type FROM information_schema.columns
        WHERE table_schema = current_schema() AND table_name = 'node_executions' AND column_name = 'parent_id') <> 'bigint' THEN
        ALTER TABLE node_executions ADD COLUMN IF NOT EXISTS new_parent_id bigint;
        CREATE OR REPLACE FUNCTION flyte_copy_parent_id() RETURNS trigger LANGUAGE plpgsql AS $copy$
        BEGIN
            NEW.new_parent_id := NEW.parent_id;
            RETURN NEW;
        END $copy$;
        DROP TRIGGER IF EXISTS flyte_copy_parent_id ON node_executions;
        CREATE TRIGGER flyte_copy_parent_id BEFORE INSERT OR UPDATE ON node_executions
            FOR EACH ROW EXECUTE FUNCTION flyte_copy_parent_id();
        UPDATE node_executions SET new_parent_id = parent_id WHERE parent_id IS NOT NULL AND new_parent_id IS NULL;
        CREATE INDEX IF NOT EXISTS idx_node_executions_new_parent_id ON node_executions (new_parent_id);
    END IF;
END $$;

-- migration: pg-2023-05-02-fix-parentid-type-phase-2
DO $$
BEGIN
    IF (SELECT data_type FROM information_schema.columns
        WHERE table_schema = current_schema() AND table_name = 'node_executions' AND column_name = 'parent_id') <> 'bigint' THEN
        LOCK TABLE node_executions IN EXCLUSIVE MODE;
        DROP TRIGGER IF EXISTS flyte_copy_parent_id ON node_executions;
        DROP FUNCTION IF EXISTS flyte_copy_parent_id();
        -- Rows written between the phases by a process that did not know the trigger.
        UPDATE node_executions SET new_parent_id = parent_id WHERE parent_id IS DISTINCT FROM new_parent_id;
        ALTER TABLE node_executions DROP COLUMN parent_id;
        ALTER TABLE node_executions RENAME COLUMN new_parent_id TO parent_id;
        ALTER INDEX idx_node_executions_new_parent_id RENAME TO idx_node_executions_parent_id;
    END IF;
END $$;

-- migration: pg-noop-2023-03-31-noop-nodeexecution
ALTER TABLE node_executions ALTER COLUMN id SET NOT NULL;
CREATE INDEX IF NOT EXISTS idx_node_executions_parent_id ON node_executions (parent_id);

-- migration: pg-noop-2023-03-31-noop-execution-event
ALTER TABLE execution_events ALTER COLUMN id SET NOT NULL;

-- migration: pg-noop-2023-03-31-noop-node-execution-event
ALTER TABLE node_execution_events ALTER COLUMN id SET NOT NULL;

-- migration: pg-noop-2023-03-31-noop-description-entity-2
ALTER TABLE description_entities ALTER COLUMN id SET NOT NULL;

-- migration: pg-noop-2023-03-31-noop-signal
ALTER TABLE signals ALTER COLUMN id SET NOT NULL;

-- migration: pg-noop-2023-03-31-noop-resource
ALTER TABLE resources ALTER COLUMN id SET NOT NULL;

-- migration: pg-noop-2023-03-31-noop-schedulable_entities
ALTER TABLE schedulable_entities ALTER COLUMN id SET NOT NULL;

-- migration: pg-noop-2023-03-31-noop-schedulable_entities-snapshot
ALTER TABLE schedule_entities_snapshots ALTER COLUMN id SET NOT NULL;

-- migration: 2023-06-19-id-sequence-to-bigint
ALTER SEQUENCE execution_events_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE executions_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE launch_plans_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE named_entity_metadata_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE node_execution_events_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE node_executions_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE projects_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE resources_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE schedulable_entities_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE schedule_entities_snapshots_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE task_executions_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE tasks_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE workflows_id_seq AS bigint NO MAXVALUE;
ALTER SEQUENCE description_entities_id_seq AS bigint NO MAXVALUE;

-- migration: 2023-08-04-admin-tags
CREATE TABLE IF NOT EXISTS admin_tags (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    name varchar(255) UNIQUE,
    PRIMARY KEY (id)
);

-- migration: 2023-08-04-execution-admin-tags
CREATE TABLE IF NOT EXISTS execution_admin_tags (
    execution_project varchar(255) NOT NULL,
    execution_domain varchar(255) NOT NULL,
    execution_name varchar(255) NOT NULL,
    admin_tag_id bigint NOT NULL,
    PRIMARY KEY (execution_project, execution_domain, execution_name, admin_tag_id)
);

-- migration: pg-continue-2024-02-launchplan
ALTER TABLE launch_plans ADD COLUMN IF NOT EXISTS launch_condition_type varchar(32);
CREATE INDEX IF NOT EXISTS idx_launch_plans_launch_conditions ON launch_plans (launch_condition_type) WHERE (launch_condition_type IS NOT NULL);

-- migration: 2024-06-06-execution-tags
CREATE TABLE IF NOT EXISTS execution_tags (
    id bigserial NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    execution_project varchar(255) NOT NULL,
    execution_domain varchar(255) NOT NULL,
    execution_name varchar(255) NOT NULL,
    key varchar(255) NOT NULL,
    value varchar(255) NOT NULL,
    CONSTRAINT execution_tags_pkey PRIMARY KEY (execution_project, execution_domain, execution_name, key, value)
);
CREATE INDEX IF NOT EXISTS idx_execution_tags_deleted_at ON execution_tags (deleted_at);
CREATE INDEX IF NOT EXISTS idx_execution_tags_id ON execution_tags (id);
CREATE INDEX IF NOT EXISTS tag_key ON execution_tags (key);
CREATE INDEX IF NOT EXISTS tag_value ON execution_tags (value);
INSERT INTO execution_tags (created_at, updated_at, execution_project, execution_domain, execution_name, key, value)
SELECT admin_tags.created_at, admin_tags.updated_at, link.execution_project, link.execution_domain, link.execution_name,
    admin_tags.name, ''
FROM execution_admin_tags AS link JOIN admin_tags ON admin_tags.id = link.admin_tag_id
ON CONFLICT DO NOTHING;

-- migration: 2024-06-06-drop-execution_admin-tags
DROP TABLE IF EXISTS execution_admin_tags;

-- migration: 2024-06-06-drop-admin-tags
DROP TABLE IF EXISTS admin_tags;

-- migration: 2024-08-08-remove-input-uri-for-start-nodes
UPDATE node_executions SET input_uri = '' WHERE node_id = 'start-node' AND input_uri <> '';
-- rollback
-- Nothing to undo: the text is not needed.

-- migration: 2025-05-29-add-index-executions-phase
CREATE INDEX IF NOT EXISTS idx_executions_phase ON executions (phase);
-- rollback
DROP INDEX IF EXISTS idx_executions_phase;

