//! PostgreSQL that is there and does not do it: clients are told that it is not available, and health says so too where
//! nothing can be done.

use std::sync::Arc;

use flyte_platform::{
    Tasks,
    sql::{Database, DatabaseConfig, DbError},
};
use sea_query::{Expr, Query, SelectStatement};
use serde_json::json;
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::{
    database::{become_status, count, ends},
    harness::{World, config},
};

const LIST: &str = "flyteidl.service.AdminService/ListProjects";
const REGISTER: &str = "flyteidl.service.AdminService/RegisterProject";

async fn script(database: &Database, text: &str) {
    let ran: Result<(), DbError> = database
        .write(text.to_owned(), |text, tx| {
            Box::pin(async move { tx.execute_script(text).await })
        })
        .await;
    ran.unwrap_or_else(|error| panic!("{text}: {error:?}"));
}

/// The owner of the server, in another database.
async fn outside(config: &DatabaseConfig) -> Database {
    let mut config = config.clone();
    "postgres".clone_into(&mut config.postgres.dbname);
    "postgres".clone_into(&mut config.postgres.username);
    Database::open(&config).await.unwrap()
}

/// Ends the sessions of the database called `name` that have begun until now, as a restart or a failover does. Those that begin
/// meanwhile, of whatever asks in the background, live by what holds now.
async fn end_sessions(outside: &Database, name: &str) {
    let now = count(
        outside,
        "(SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)",
    )
    .await;
    let before = format!(
        "FROM pg_stat_activity WHERE datname = '{name}' AND backend_start <= to_timestamp({now} / 1000000.0)"
    );
    ends(
        outside,
        &format!("(SELECT count(pg_terminate_backend(pid)) {before})"),
    )
    .await;
}

async fn register(world: &World, id: &str) -> Code {
    let project = json!({"project": {"id": id, "name": id}});
    code(world, REGISTER, &project).await
}

async fn code(world: &World, rpc: &str, request: &serde_json::Value) -> Code {
    let answer = world.call(rpc, request).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Codes of <https://www.postgresql.org/docs/current/errcodes-appendix.html>, of each class that a server can raise, and what a
/// client is told.
const SQLSTATES: &[(&str, &str, Code)] = &[
    ("01000", "warning", Code::Internal),
    ("02000", "no_data", Code::Internal),
    ("03000", "sql_statement_not_yet_complete", Code::Internal),
    ("08000", "connection_exception", Code::Unavailable),
    ("08006", "connection_failure", Code::Unavailable),
    ("08P01", "protocol_violation", Code::Unavailable),
    ("09000", "triggered_action_exception", Code::Internal),
    ("0A000", "feature_not_supported", Code::Internal),
    ("0B000", "invalid_transaction_initiation", Code::Internal),
    ("0F001", "invalid_locator_specification", Code::Internal),
    ("0L000", "invalid_grantor", Code::Internal),
    ("0P000", "invalid_role_specification", Code::Internal),
    (
        "0Z002",
        "stacked_diagnostics_accessed_without_active_handler",
        Code::Internal,
    ),
    ("20000", "case_not_found", Code::Internal),
    ("21000", "cardinality_violation", Code::Internal),
    (
        "22001",
        "string_data_right_truncation",
        Code::InvalidArgument,
    ),
    ("22003", "numeric_value_out_of_range", Code::InvalidArgument),
    (
        "22021",
        "character_not_in_repertoire",
        Code::InvalidArgument,
    ),
    (
        "22P02",
        "invalid_text_representation",
        Code::InvalidArgument,
    ),
    ("23502", "not_null_violation", Code::Internal),
    ("23503", "foreign_key_violation", Code::Internal),
    ("23505", "unique_violation", Code::AlreadyExists),
    ("23514", "check_violation", Code::Internal),
    ("24000", "invalid_cursor_state", Code::Internal),
    ("25001", "active_sql_transaction", Code::Internal),
    ("25006", "read_only_sql_transaction", Code::Unavailable),
    ("25P02", "in_failed_sql_transaction", Code::Internal),
    (
        "25P03",
        "idle_in_transaction_session_timeout",
        Code::Unavailable,
    ),
    ("25P04", "transaction_timeout", Code::Unavailable),
    ("26000", "invalid_sql_statement_name", Code::Unavailable),
    ("27000", "triggered_data_change_violation", Code::Internal),
    (
        "28000",
        "invalid_authorization_specification",
        Code::Unavailable,
    ),
    ("28P01", "invalid_password", Code::Unavailable),
    ("2BP01", "dependent_objects_still_exist", Code::Internal),
    ("2D000", "invalid_transaction_termination", Code::Internal),
    (
        "2F003",
        "prohibited_sql_statement_attempted",
        Code::Internal,
    ),
    ("34000", "invalid_cursor_name", Code::Internal),
    ("38000", "external_routine_exception", Code::Internal),
    (
        "39000",
        "external_routine_invocation_exception",
        Code::Internal,
    ),
    ("3B001", "invalid_savepoint_specification", Code::Internal),
    ("3D000", "invalid_catalog_name", Code::Unavailable),
    ("3F000", "invalid_schema_name", Code::Unavailable),
    ("40000", "transaction_rollback", Code::Aborted),
    ("40001", "serialization_failure", Code::Aborted),
    (
        "40002",
        "transaction_integrity_constraint_violation",
        Code::Internal,
    ),
    ("40003", "statement_completion_unknown", Code::Unavailable),
    ("40P01", "deadlock_detected", Code::Aborted),
    ("42501", "insufficient_privilege", Code::Unavailable),
    ("42601", "syntax_error", Code::Internal),
    ("42703", "undefined_column", Code::Unavailable),
    ("42704", "undefined_object", Code::Unavailable),
    ("42803", "grouping_error", Code::Internal),
    ("42804", "datatype_mismatch", Code::Unavailable),
    ("42883", "undefined_function", Code::Unavailable),
    ("42P01", "undefined_table", Code::Unavailable),
    ("42P05", "duplicate_prepared_statement", Code::Unavailable),
    ("44000", "with_check_option_violation", Code::Internal),
    ("53100", "disk_full", Code::Unavailable),
    ("53200", "out_of_memory", Code::Unavailable),
    ("53300", "too_many_connections", Code::Unavailable),
    ("53400", "configuration_limit_exceeded", Code::Unavailable),
    ("54000", "program_limit_exceeded", Code::InvalidArgument),
    ("54001", "statement_too_complex", Code::InvalidArgument),
    (
        "55000",
        "object_not_in_prerequisite_state",
        Code::Unavailable,
    ),
    ("55006", "object_in_use", Code::Unavailable),
    ("55P03", "lock_not_available", Code::Unavailable),
    ("57014", "query_canceled", Code::Unavailable),
    ("57P01", "admin_shutdown", Code::Unavailable),
    ("57P02", "crash_shutdown", Code::Unavailable),
    ("57P03", "cannot_connect_now", Code::Unavailable),
    ("57P04", "database_dropped", Code::Unavailable),
    ("57P05", "idle_session_timeout", Code::Unavailable),
    ("58000", "system_error", Code::Unavailable),
    ("58030", "io_error", Code::Unavailable),
    ("58P01", "undefined_file", Code::Unavailable),
    ("72000", "snapshot_too_old", Code::Unavailable),
    ("F0000", "config_file_error", Code::Unavailable),
    ("HV000", "fdw_error", Code::Internal),
    (
        "HV00N",
        "fdw_unable_to_establish_connection",
        Code::Unavailable,
    ),
    ("P0001", "raise_exception", Code::Internal),
    ("XX000", "internal_error", Code::Unavailable),
    ("XX001", "data_corrupted", Code::Unavailable),
    ("XX002", "index_corrupted", Code::Unavailable),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sqlstate_is_the_clients_fault_ours_or_not_now() {
    let database = flyte_postgres::database();
    let world = World::start_on(&database, config()).await;
    for (sqlstate, name, expected) in SQLSTATES {
        script(
            &world.database,
            &format!(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN RAISE EXCEPTION 'as asked for' USING ERRCODE = '{sqlstate}'; END $$;
                 CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON projects FOR EACH ROW EXECUTE FUNCTION refuse()"
            ),
        )
        .await;
        assert_eq!(
            register(&world, "refused").await,
            *expected,
            "{sqlstate} {name}"
        );
        // Whatever it was, it is over, and the session as good as before.
        assert_eq!(code(&world, LIST, &json!({})).await, Code::Ok, "{sqlstate}");
    }
    // What PostgreSQL has answered is counted as its answer, whatever clients are told.
    let metrics = world.metrics.render();
    let counted = |name: &str| -> usize {
        let line = metrics
            .lines()
            .find(|line| !line.starts_with('#') && line.contains(&format!("errors:{name} ")));
        let (_, number) = line.unwrap().rsplit_once(' ').unwrap();
        number.parse().unwrap()
    };
    assert_eq!(counted("gorm_error"), 0);
    assert!(counted("postgres_error") > SQLSTATES.len() / 2);
    script(&world.database, "DROP TRIGGER refuse ON projects").await;
    assert_eq!(register(&world, "taken").await, Code::Ok);
}

/// A world on a database that belongs to a role without other rights, and its server's owner.
async fn of_a_role() -> (World, DatabaseConfig, Database) {
    let mut config = flyte_postgres::database();
    // A session that has been ended is found out.
    config.postgres.trust_idle_for = flyte_platform::config::Duration::ZERO;
    let name = config.postgres.dbname.clone();
    Database::open(&config).await.unwrap().close().await;
    let outside = outside(&config).await;
    let text =
        format!("CREATE ROLE \"{name}\" LOGIN; ALTER DATABASE \"{name}\" OWNER TO \"{name}\"");
    script(&outside, &text).await;
    config.postgres.username = name;
    let world = World::start_on(&config, crate::harness::config()).await;
    (world, config, outside)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_that_the_database_does_not_do_its_work() {
    let (world, config, outside) = of_a_role().await;
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    let service = "flyteadmin".to_owned();
    let watch = world.health().watch(HealthCheckRequest { service }).await;
    let mut changes = watch.unwrap().into_inner();
    world.admin.spawn(&mut tasks);
    become_status(&mut changes, ServingStatus::Serving).await;
    let name = config.postgres.dbname.as_str();
    for (number, (what, breaks, mends, reads)) in [
        (
            "read-only",
            "ALTER DATABASE NAME SET default_transaction_read_only = on",
            // Sessions that began before go on to be read-only.
            "ALTER DATABASE NAME RESET default_transaction_read_only",
            Code::Ok,
        ),
        (
            "the role may not log in",
            "ALTER ROLE NAME NOLOGIN",
            "ALTER ROLE NAME LOGIN",
            Code::Unavailable,
        ),
        (
            "the database may not be used",
            "ALTER DATABASE NAME ALLOW_CONNECTIONS false",
            "ALTER DATABASE NAME ALLOW_CONNECTIONS true",
            Code::Unavailable,
        ),
        (
            "the role may not use the database",
            "REVOKE CONNECT ON DATABASE NAME FROM PUBLIC, NAME",
            "GRANT CONNECT ON DATABASE NAME TO NAME",
            Code::Unavailable,
        ),
        (
            "the role has no connection left",
            "ALTER ROLE NAME CONNECTION LIMIT 0",
            "ALTER ROLE NAME CONNECTION LIMIT -1",
            Code::Unavailable,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let quoted = format!("\"{name}\"");
        script(&outside, &breaks.replace("NAME", &quoted)).await;
        end_sessions(&outside, name).await;
        assert_eq!(register(&world, "later").await, Code::Unavailable, "{what}");
        assert_eq!(code(&world, LIST, &json!({})).await, reads, "{what}");
        become_status(&mut changes, ServingStatus::NotServing).await;
        script(&outside, &mends.replace("NAME", &quoted)).await;
        become_status(&mut changes, ServingStatus::Serving).await;
        let id = format!("later{number}");
        assert_eq!(register(&world, &id).await, Code::Ok, "{what}");
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_for_a_while_is_not_now() {
    let (world, config, outside) = of_a_role().await;
    let name = format!("\"{}\"", config.postgres.dbname);
    script(
        &outside,
        &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
    )
    .await;
    end_sessions(&outside, &config.postgres.dbname).await;
    script(
        &outside,
        &format!("ALTER DATABASE {name} RENAME TO \"elsewhere\""),
    )
    .await;
    assert_eq!(register(&world, "later").await, Code::Unavailable);
    assert_eq!(code(&world, LIST, &json!({})).await, Code::Unavailable);
    let back = format!(
        "ALTER DATABASE \"elsewhere\" RENAME TO {name}; ALTER DATABASE {name} ALLOW_CONNECTIONS true"
    );
    script(&outside, &back).await;
    assert_eq!(register(&world, "later").await, Code::Ok);
}

/// As many as the pool has.
const SESSIONS: usize = 8;

fn descriptions() -> SelectStatement {
    Query::select()
        .columns(["identifier", "description"])
        .from("projects")
        .take()
}

/// Reads with each session of the pool, each of which prepares the statement.
async fn read_with_all(database: &Database) {
    let opened = (0..SESSIONS).map(|_| database.read());
    for tx in &mut futures::future::try_join_all(opened).await.unwrap() {
        let rows = tx.fetch_all(&descriptions()).await.unwrap();
        assert_eq!(rows.len(), 1);
    }
}

/// Writes with each session of the pool what depends on a read of the same transaction.
async fn write_with_all(database: &Database) {
    let together = Arc::new(Barrier::new(SESSIONS));
    let writes = (0..SESSIONS).map(|number| {
        database.write((number, together.clone()), |(number, together), tx| {
            Box::pin(async move {
                let insert = Query::insert()
                    .into_table("executions_names")
                    .columns(["name"])
                    .values_panic([Expr::val(format!("n{number}"))])
                    .take();
                tx.execute(&insert).await?;
                together.wait().await;
                tx.fetch_all(&descriptions()).await.map(drop)
            })
        })
    });
    let written: Result<Vec<()>, DbError> = futures::future::try_join_all(writes).await;
    written.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_changes_its_type_under_running_sessions() {
    let world = World::start_on(&flyte_postgres::database(), config()).await;
    let database = &world.database;
    script(database, "CREATE TABLE executions_names (name text)").await;
    for kind in ["varchar", "text"] {
        read_with_all(database).await;
        script(
            database,
            &format!("ALTER TABLE projects ALTER COLUMN description TYPE {kind}"),
        )
        .await;
        read_with_all(database).await;
    }
    script(
        database,
        "ALTER TABLE projects ALTER COLUMN description TYPE varchar",
    )
    .await;
    write_with_all(database).await;
    // Nothing of what failed was kept.
    let written = "(SELECT count(*) FROM executions_names)";
    assert_eq!(
        usize::try_from(count(database, written).await),
        Ok(SESSIONS)
    );
    assert_eq!(code(&world, LIST, &json!({})).await, Code::Ok);
}

/// What else a session remembers, with one session: the first request may find out that it is no longer so, and is told to
/// come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_remembers_does_not_outlive_its_truth() {
    for (what, change, first) in [
        (
            "statements that a pooler has thrown away",
            "DEALLOCATE ALL",
            Code::Ok,
        ),
        (
            "a schema that only later sessions see",
            "CREATE SCHEMA moved; ALTER TABLE projects SET SCHEMA moved;
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, moved', current_database()); END $$",
            Code::Unavailable,
        ),
        (
            "a session that may read only, as no later one does",
            "SET default_transaction_read_only = on",
            Code::Unavailable,
        ),
        (
            "statements of another client of the pooler",
            "DO $$ BEGIN FOR n IN 1..500 LOOP
               BEGIN EXECUTE 'PREPARE sqlx_s_' || n || ' AS SELECT 1';
               EXCEPTION WHEN duplicate_prepared_statement THEN NULL; END;
             END LOOP; END $$",
            Code::Unavailable,
        ),
    ] {
        let database = DatabaseConfig {
            max_open_connections: 1,
            ..flyte_postgres::database()
        };
        let world = World::start_on(&database, config()).await;
        assert_eq!(register(&world, "before").await, Code::Ok, "{what}");
        script(&world.database, change).await;
        let update = json!({"id": "before", "name": "after"});
        let rpc = "flyteidl.service.AdminService/UpdateProject";
        assert_eq!(code(&world, rpc, &update).await, first, "{what}");
        assert_eq!(code(&world, rpc, &update).await, Code::Ok, "{what}");
        assert_eq!(register(&world, "later").await, Code::Ok, "{what}");
        assert_eq!(code(&world, LIST, &json!({})).await, Code::Ok, "{what}");
    }
}
