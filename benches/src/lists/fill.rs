//! Rows for lists, made by the database itself.

use flyte_idl::{admin, core};
use flyte_platform::sql::{Database, DbError, Dialect};
use prost::Message;
use sea_query::Query;

/// Where all rows are.
pub(super) const PROJECT: &str = "flytesnacks";
/// As above.
pub(super) const DOMAIN: &str = "development";
/// The name of the workflow, task and launch plan that 9 in 10 executions are of.
pub(super) const COMMON: &str = "module.name-000";
/// The name that 1 in 10,000 executions are of.
pub(super) const RARE: &str = "module.name-777";
/// The execution that has 10,000 nodes.
pub(super) const LARGE_EXECUTION: &str = "e1";

/// Names of workflows, tasks and launch plans; each has rows / `NAMES` versions.
const NAMES: u32 = 1_000;
/// Seconds since 1970 of row 0; the next comes a second later.
const BEGIN: u32 = 1_700_000_000;

/// When row `number` was made, as a filter has it.
pub(super) fn moment(number: u32) -> String {
    jiff::Timestamp::UNIX_EPOCH
        .saturating_add(jiff::SignedDuration::from_secs(i64::from(BEGIN + number)))
        .map_or_else(|_never| String::new(), |moment| moment.to_string())
}

/// Runs statements in one transaction, however long they take.
pub(super) async fn script(database: &Database, text: String) -> Result<(), DbError> {
    database
        .write(text, |text, tx| {
            Box::pin(async move {
                if tx.dialect() == Dialect::Postgres {
                    tx.execute_script("SET LOCAL statement_timeout = 0").await?;
                }
                tx.execute_script(text).await
            })
        })
        .await
}

/// Whether an earlier run has filled it.
pub(super) async fn is_filled(database: &Database) -> Result<bool, DbError> {
    let mut any = Query::select();
    any.column("id").from("task_executions").limit(1);
    let mut tx = database.read().await?;
    Ok(tx.fetch_optional(&any).await?.is_some())
}

/// Fills every table that is listed, and lets the database look at what it has got.
pub(super) async fn run(database: &Database, rows: u32) -> Result<(), DbError> {
    let words = Words {
        dialect: database.dialect(),
        rows,
    };
    for text in [
        words.tasks(),
        words.workflows(),
        words.launch_plans(),
        words.executions(),
        words.tags(),
        words.nodes(),
        words.task_executions(),
        "ANALYZE".to_owned(),
    ] {
        script(database, text).await?;
    }
    Ok(())
}

/// How a database says things. `||` binds more tightly than `/` on one of them.
struct Words {
    dialect: Dialect,
    rows: u32,
}

impl Words {
    /// `INSERT INTO table (columns) SELECT values` for every `n` from 1 on.
    fn insert(&self, table: &str, count: u32, columns: &[(&str, &str)]) -> String {
        let numbers = match self.dialect {
            Dialect::Sqlite => format!(
                "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})"
            ),
            Dialect::Postgres => {
                format!("WITH numbers(n) AS (SELECT generate_series(1, {count}))")
            }
        };
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = columns.iter().map(|(_, value)| *value).collect();
        let moment = self.moment("");
        format!(
            "{numbers} INSERT INTO {table} (created_at, updated_at, {}) SELECT {moment}, {moment}, {} FROM numbers",
            names.join(", "),
            values.join(", "),
        )
    }

    /// When row `n` was made, and some seconds `later`.
    fn moment(&self, later: &str) -> String {
        match self.dialect {
            Dialect::Sqlite => format!("({BEGIN} + n {later}) * 1000000"),
            Dialect::Postgres => format!("to_timestamp({BEGIN} + n {later})"),
        }
    }

    fn bytes(&self, message: &impl Message) -> String {
        let hex = hex::encode(message.encode_to_vec());
        match self.dialect {
            Dialect::Sqlite => format!("x'{hex}'"),
            Dialect::Postgres => format!("'\\x{hex}'::bytea"),
        }
    }

    /// `module.name-NNN` of a number.
    fn name(&self, number: &str) -> String {
        match self.dialect {
            Dialect::Sqlite => format!("printf('module.name-%03d', {number})"),
            Dialect::Postgres => format!("'module.name-' || lpad(({number})::text, 3, '0')"),
        }
    }

    /// The versions of all names, in the order in which registrations bring them.
    fn entity(&self, table: &str, further: &[(&str, &str)]) -> String {
        let project = format!("'{PROJECT}'");
        let domain = format!("'{DOMAIN}'");
        let name = self.name(&format!("n % {NAMES}"));
        let version = format!("'v' || (n / {NAMES})");
        let digest = self.bytes(&());
        let mut columns = vec![
            ("project", project.as_str()),
            ("domain", domain.as_str()),
            ("name", name.as_str()),
            ("version", version.as_str()),
            ("digest", digest.as_str()),
        ];
        columns.extend(further);
        self.insert(table, self.rows, &columns)
    }

    fn tasks(&self) -> String {
        let closure = self.bytes(&admin::TaskClosure {
            compiled_task: Some(core::CompiledTask {
                template: Some(core::TaskTemplate {
                    r#type: "python-task".to_owned(),
                    interface: Some(core::TypedInterface::default()),
                    ..core::TaskTemplate::default()
                }),
            }),
            ..admin::TaskClosure::default()
        });
        let further = [
            ("closure", closure.as_str()),
            ("type", "'python-task'"),
            ("short_description", "''"),
        ];
        self.entity("tasks", &further)
    }

    fn workflows(&self) -> String {
        let interface = self.bytes(&core::TypedInterface::default());
        let further = [
            ("typed_interface", interface.as_str()),
            ("remote_closure_identifier", "'s3://bucket/closure/' || n"),
            ("short_description", "''"),
        ];
        self.entity("workflows", &further)
    }

    /// The last version of each name is active, one name in ten by a schedule.
    fn launch_plans(&self) -> String {
        let spec = self.bytes(&admin::LaunchPlanSpec {
            entity_metadata: Some(admin::LaunchPlanMetadata::default()),
            ..admin::LaunchPlanSpec::default()
        });
        let closure = self.bytes(&admin::LaunchPlanClosure::default());
        let active = format!(
            "CASE WHEN n > {} THEN 1 ELSE 0 END",
            self.rows.saturating_sub(NAMES)
        );
        let further = [
            ("spec", spec.as_str()),
            ("closure", closure.as_str()),
            ("workflow_id", "n"),
            ("state", active.as_str()),
            (
                "schedule_type",
                "CASE WHEN n % 10 = 0 THEN 'CRON' ELSE 'NONE' END",
            ),
            (
                "launch_condition_type",
                "CASE WHEN n % 10 = 0 THEN 'SCHED' END",
            ),
        ];
        self.entity("launch_plans", &further)
    }

    fn executions(&self) -> String {
        let spec = self.bytes(&admin::ExecutionSpec {
            launch_plan: Some(core::Identifier {
                resource_type: core::ResourceType::LaunchPlan.into(),
                project: PROJECT.to_owned(),
                domain: DOMAIN.to_owned(),
                name: COMMON.to_owned(),
                version: "v0".to_owned(),
                ..core::Identifier::default()
            }),
            metadata: Some(admin::ExecutionMetadata {
                principal: "somebody@example.com".to_owned(),
                ..admin::ExecutionMetadata::default()
            }),
            ..admin::ExecutionSpec::default()
        });
        let closure = self.bytes(&admin::ExecutionClosure {
            phase: core::workflow_execution::Phase::Succeeded.into(),
            created_at: Some(prost_types::Timestamp::default()),
            workflow_id: Some(core::Identifier {
                resource_type: core::ResourceType::Workflow.into(),
                name: COMMON.to_owned(),
                ..core::Identifier::default()
            }),
            ..admin::ExecutionClosure::default()
        });
        let started = self.moment("+ 1");
        let started = format!("CASE WHEN n % 5000 = 7 THEN NULL ELSE {started} END");
        let moment = self.moment("");
        // Nine in ten are of some version of the common name, one in 10,000 of the rare one.
        let of = format!(
            "CASE WHEN n % 10000 = 9 THEN {NAMES} * (n % {versions}) + 777 WHEN n % 10 < 9 THEN {NAMES} * (1 + n % {versions})
             ELSE 1 + n % {NAMES} END",
            versions = (self.rows / NAMES).saturating_sub(1).max(1),
        );
        let task = format!("CASE WHEN n % 100 = 0 THEN {NAMES} ELSE 0 END");
        let long =
            "CASE WHEN n % 10000 = 5 THEN 4000 ELSE n % 600 END * CAST(1000000000 AS bigint)";
        let columns = [
            ("execution_project", format!("'{PROJECT}'")),
            ("execution_domain", format!("'{DOMAIN}'")),
            ("execution_name", "'e' || n".to_owned()),
            ("launch_plan_id", of.clone()),
            ("workflow_id", of),
            ("task_id", task),
            (
                "phase",
                "CASE WHEN n % 10000 = 0 THEN 'RUNNING' WHEN n % 10 = 0 THEN 'FAILED' ELSE 'SUCCEEDED' END".to_owned(),
            ),
            ("closure", closure),
            ("spec", spec),
            ("started_at", started),
            ("execution_created_at", moment.clone()),
            ("execution_updated_at", moment),
            ("duration", long.to_owned()),
            ("abort_cause", "''".to_owned()),
            ("mode", "0".to_owned()),
            ("source_execution_id", "0".to_owned()),
            ("parent_node_execution_id", "0".to_owned()),
            ("cluster", "''".to_owned()),
            ("inputs_uri", "''".to_owned()),
            ("user_inputs_uri", "''".to_owned()),
            (
                "\"user\"",
                "CASE WHEN n % 10000 = 1 THEN 'rare' ELSE 'user-' || (n % 50) END".to_owned(),
            ),
            (
                "state",
                "CASE WHEN n % 1000 = 3 THEN 1 ELSE 0 END".to_owned(),
            ),
            ("launch_entity", "'launch_plan'".to_owned()),
        ];
        let columns = columns
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        self.insert("executions", self.rows, &columns)
    }

    /// Every second execution has the common tag, one in 10,000 the rare one.
    fn tags(&self) -> String {
        let columns = [
            ("execution_project", format!("'{PROJECT}'")),
            ("execution_domain", format!("'{DOMAIN}'")),
            ("execution_name", "'e' || (2 * n)".to_owned()),
            (
                "key",
                "CASE WHEN n % 5000 = 0 THEN 'rare' ELSE 'common' END".to_owned(),
            ),
            ("value", "''".to_owned()),
        ];
        let columns = columns
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        self.insert("execution_tags", self.rows / 2, &columns)
    }

    /// The large execution has 10,000 nodes, of which every tenth is in the first one; each other has ten.
    fn nodes(&self) -> String {
        let closure = self.bytes(&admin::NodeExecutionClosure {
            phase: core::node_execution::Phase::Succeeded.into(),
            ..admin::NodeExecutionClosure::default()
        });
        let metadata = self.bytes(&admin::NodeExecutionMetaData::default());
        let internal = self.bytes(&());
        let moment = self.moment("");
        let columns = [
            ("execution_project", format!("'{PROJECT}'")),
            ("execution_domain", format!("'{DOMAIN}'")),
            ("execution_name", Self::of_node()),
            ("node_id", Self::node().to_owned()),
            ("phase", "'SUCCEEDED'".to_owned()),
            ("input_uri", "'s3://bucket/inputs/' || n".to_owned()),
            ("closure", closure),
            ("started_at", moment.clone()),
            ("node_execution_created_at", moment.clone()),
            ("node_execution_updated_at", moment),
            ("duration", "1000000000".to_owned()),
            ("node_execution_metadata", metadata),
            (
                "parent_id",
                "CASE WHEN n BETWEEN 2 AND 10000 AND n % 10 = 0 THEN 1 END".to_owned(),
            ),
            ("dynamic_workflow_remote_closure_reference", "''".to_owned()),
            ("internal_data", internal),
        ];
        let columns = columns
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        self.insert("node_executions", self.rows, &columns)
    }

    fn of_node() -> String {
        format!("CASE WHEN n <= 10000 THEN '{LARGE_EXECUTION}' ELSE 'e' || (n / 10) END")
    }

    fn node() -> &'static str {
        "CASE WHEN n <= 10000 THEN 'n' || (n - 1) ELSE 'n' || (n % 10) END"
    }

    fn task_executions(&self) -> String {
        let closure = self.bytes(&admin::TaskExecutionClosure::default());
        let moment = self.moment("");
        let columns = [
            ("project", format!("'{PROJECT}'")),
            ("domain", format!("'{DOMAIN}'")),
            ("name", format!("'{COMMON}'")),
            ("version", "'v1'".to_owned()),
            ("execution_project", format!("'{PROJECT}'")),
            ("execution_domain", format!("'{DOMAIN}'")),
            ("execution_name", Self::of_node()),
            ("node_id", Self::node().to_owned()),
            ("retry_attempt", "0".to_owned()),
            ("phase", "'SUCCEEDED'".to_owned()),
            ("phase_version", "0".to_owned()),
            ("input_uri", "''".to_owned()),
            ("closure", closure),
            ("started_at", moment.clone()),
            ("task_execution_created_at", moment.clone()),
            ("task_execution_updated_at", moment),
            ("duration", "1000000000".to_owned()),
        ];
        let columns = columns
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        self.insert("task_executions", self.rows, &columns)
    }
}
