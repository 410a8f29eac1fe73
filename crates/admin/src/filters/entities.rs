//! The tables that the filter language knows, with their allow-lists (spec 01 §5.4).

/// What a column holds, which decides how filter text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, compared as text.
    Text,
    /// 32-bit integer; enum names are not understood.
    Integer,
    /// 64-bit integer.
    BigInteger,
    /// A moment in UTC, RFC 3339 in a filter.
    Time,
    /// Bytes, which are compared with the UTF-8 of a filter's text.
    Bytes,
    /// Nanoseconds, written as seconds or as a Go duration.
    Duration,
}

/// A column that may be filtered and sorted by.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the table and in requests.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// A table as the filter language sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Entity {
    /// The prefix of fields, `workflow` in `workflow.name`.
    pub prefix: &'static str,
    /// The short code in error texts.
    pub code: &'static str,
    /// Its table in the database.
    pub table: &'static str,
    /// The allow-list.
    pub columns: &'static [Column],
    /// Prefixes of other entities that filters may name.
    pub joinable: &'static [&'static str],
}

impl Entity {
    /// The allow-listed column called `name`, exactly.
    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind }
}

macro_rules! entities {
    ($($(#[$docs:meta])* $name:ident = $prefix:literal $code:literal $table:literal
        joins [$($joinable:literal),*] columns { $($column:ident: $kind:ident),* $(,)? })*) => {
        $($(#[$docs])*
        pub static $name: Entity = Entity {
            prefix: $prefix,
            code: $code,
            table: $table,
            columns: &[$(column(stringify!($column), Kind::$kind)),*],
            joinable: &[$($joinable),*],
        };)*
        pub(super) static ALL: &[&Entity] = &[$(&$name),*];
    };
}

entities! {
    /// Tasks.
    TASKS = "task" "t" "tasks" joins [] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time,
        project: Text, domain: Text, name: Text, version: Text,
        closure: Bytes, digest: Bytes, type: Text, short_description: Text,
    }
    /// Workflows.
    WORKFLOWS = "workflow" "w" "workflows" joins [] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time,
        project: Text, domain: Text, name: Text, version: Text,
        typed_interface: Bytes, remote_closure_identifier: Text, digest: Bytes, short_description: Text,
    }
    /// Launch plans.
    LAUNCH_PLANS = "launch_plan" "l" "launch_plans" joins ["workflow"] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time,
        project: Text, domain: Text, name: Text, version: Text,
        spec: Bytes, workflow_id: BigInteger, closure: Bytes, state: Integer, digest: Bytes,
        schedule_type: Text, launch_condition_type: Text,
    }
    /// Workflow executions.
    EXECUTIONS = "execution" "e" "executions"
        joins ["launch_plan", "workflow", "task", "admin_tag", "execution_tag"] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time,
        execution_project: Text, execution_domain: Text, execution_name: Text,
        launch_plan_id: BigInteger, workflow_id: BigInteger, task_id: BigInteger,
        phase: Text, closure: Bytes, spec: Bytes, started_at: Time,
        execution_created_at: Time, execution_updated_at: Time, duration: Duration, abort_cause: Text,
        mode: Integer, source_execution_id: BigInteger, parent_node_execution_id: BigInteger,
        cluster: Text, inputs_uri: Text, user_inputs_uri: Text, error_kind: Text, error_code: Text,
        user: Text, state: Integer, launch_entity: Text,
    }
    /// Node executions.
    NODE_EXECUTIONS = "node_execution" "ne" "node_executions" joins ["execution"] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time,
        execution_project: Text, execution_domain: Text, execution_name: Text, node_id: Text,
        phase: Text, input_uri: Text, closure: Bytes, started_at: Time,
        node_execution_created_at: Time, node_execution_updated_at: Time, duration: Duration,
        node_execution_metadata: Bytes, parent_id: BigInteger, parent_task_execution_id: BigInteger,
        error_kind: Text, error_code: Text, cache_status: Text,
        dynamic_workflow_remote_closure_reference: Text, internal_data: Bytes,
    }
    /// Task executions.
    TASK_EXECUTIONS = "task_execution" "te" "task_executions"
        joins ["task", "execution", "node_execution"] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time,
        project: Text, domain: Text, name: Text, version: Text,
        execution_project: Text, execution_domain: Text, execution_name: Text, node_id: Text,
        retry_attempt: BigInteger, phase: Text, phase_version: BigInteger, input_uri: Text,
        closure: Bytes, started_at: Time, task_execution_created_at: Time,
        task_execution_updated_at: Time, duration: Duration,
    }
    /// Named entities: the distinct names of a resource table with their metadata.
    NAMED_ENTITIES = "entities" "nen" "entities" joins ["named_entity_metadata"] columns {
        resource_type: Integer, project: Text, domain: Text, name: Text, description: Text,
        state: Integer,
    }
    /// Metadata of named entities.
    NAMED_ENTITY_METADATA = "named_entity_metadata" "nem" "named_entity_metadata" joins [] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time,
        resource_type: Integer, project: Text, domain: Text, name: Text, description: Text,
        state: Integer,
    }
    /// Projects.
    PROJECTS = "project" "p" "projects" joins [] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time,
        identifier: Text, name: Text, description: Text, labels: Bytes, state: Integer,
    }
    /// Signals.
    SIGNALS = "signal" "s" "signals" joins [] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time,
        execution_project: Text, execution_domain: Text, execution_name: Text, signal_id: Text,
        type: Bytes, value: Bytes,
    }
    /// The tags of an execution under their old name; `name` is a tag's key.
    ADMIN_TAGS = "admin_tag" "at" "execution_tags" joins [] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time, name: Text,
    }
    /// The link table of the old tags; never joinable.
    EXECUTION_ADMIN_TAGS = "execution_admin_tag" "eat" "execution_admin_tags" joins [] columns {}
    /// The tags of an execution.
    EXECUTION_TAGS = "execution_tag" "et" "execution_tags" joins [] columns {
        id: BigInteger, created_at: Time, updated_at: Time, deleted_at: Time,
        execution_project: Text, execution_domain: Text, execution_name: Text, key: Text, value: Text,
    }
}

/// Columns that description entities are sorted by; their filters use the resource's own columns.
pub static DESCRIPTION_ENTITIES: Entity = Entity {
    prefix: "",
    code: "",
    table: "description_entities",
    columns: &[
        column("resource_type", Kind::Integer),
        column("project", Kind::Text),
        column("domain", Kind::Text),
        column("name", Kind::Text),
        column("version", Kind::Text),
        column("id", Kind::BigInteger),
        column("created_at", Kind::Time),
        column("updated_at", Kind::Time),
        column("deleted_at", Kind::Time),
        column("short_description", Kind::Text),
        column("long_description", Kind::Bytes),
        column("link", Kind::Text),
    ],
    joinable: &[],
};
