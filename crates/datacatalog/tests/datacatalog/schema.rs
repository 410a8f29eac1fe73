//! The schema: Go's on PostgreSQL, and made once however many start at once.

use std::path::Path;

use flyte_datacatalog::repository::schema;
use flyte_platform::sql::Database;
use sea_query::{Expr, ExprTrait as _, Query, SelectStatement};

use crate::{
    harness::{Store, World, database_config},
    on_both_databases,
};

/// Tables, columns and indexes of the file.
const EVERYTHING_NEW: usize = 17;

fn golden(file: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(file);
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values
}

async fn texts(database: &Database, query: SelectStatement) -> Vec<String> {
    let mut tx = database.read().await.unwrap();
    let rows = tx.fetch_all(&query).await.unwrap();
    sorted(rows.iter().map(|row| row.text("value").unwrap()).collect())
}

fn select(value: &'static str) -> SelectStatement {
    Query::select().expr_as(Expr::cust(value), "value").take()
}

/// Without what is ours.
fn of_go(mut definitions: Vec<String>) -> Vec<String> {
    definitions.retain(|definition| !definition.contains("flyte_rs_"));
    definitions
}

async fn columns(database: &Database) -> Vec<String> {
    let mut query = select(
        "table_name || ' ' || ordinal_position || ' ' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')",
    );
    query
        .from(("information_schema", "columns"))
        .and_where(Expr::col("table_schema").eq("public"));
    of_go(texts(database, query).await)
}

async fn indexes(database: &Database) -> Vec<String> {
    let mut query = select("indexdef");
    query
        .from("pg_indexes")
        .and_where(Expr::col("schemaname").eq("public"));
    of_go(texts(database, query).await)
}

async fn constraints(database: &Database) -> Vec<String> {
    let mut query =
        select("conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)");
    query.from("pg_constraint").and_where(Expr::cust(
        "connamespace = 'public'::regnamespace AND contype <> 'n'",
    ));
    of_go(texts(database, query).await)
}

#[tokio::test]
async fn postgresql_gets_the_schema_of_the_reference() {
    let world = World::start(Store::Postgres).await;
    let part = |line: &[String], index: usize| line.get(index).cloned().unwrap_or_default();
    let expected = golden("postgres-columns.tsv").into_iter().map(|line| {
        let parts = [0, 1, 2, 3, 5, 6].map(|index| part(&line, index));
        parts.join(" ")
    });
    assert_eq!(columns(&world.database).await, sorted(expected.collect()));
    let expected = golden("postgres-indexes.tsv")
        .into_iter()
        .map(|line| part(&line, 2));
    assert_eq!(indexes(&world.database).await, sorted(expected.collect()));
    let expected = golden("postgres-constraints.tsv")
        .into_iter()
        .map(|line| line.join(" "));
    assert_eq!(
        constraints(&world.database).await,
        sorted(expected.collect())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_together_make_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = database_config(Store::Postgres, folder.path());
    let starts = (0..4).map(|_| async {
        let database = Database::open(&config).await.unwrap();
        schema::complete(&database).await.unwrap()
    });
    let made: Vec<usize> = futures::future::join_all(starts).await;
    assert_eq!(made.iter().sum::<usize>(), EVERYTHING_NEW, "{made:?}");
}

#[tokio::test]
async fn an_older_database_gets_what_it_lacks_and_keeps_what_it_has() {
    let world = World::start(Store::Postgres).await;
    let before = (
        columns(&world.database).await.len(),
        indexes(&world.database).await.len(),
    );
    world
        .sql(
            // An older gorm named the constraint otherwise; somebody made an index under another definition.
            "ALTER TABLE datasets RENAME CONSTRAINT uni_datasets_uuid TO datasets_uuid_key;
             DROP INDEX dataset_name_idx; CREATE INDEX dataset_name_idx ON datasets (name, version);
             ALTER TABLE tags DROP COLUMN dataset_uuid;
             ALTER TABLE reservations DROP COLUMN serialized_metadata;
             DROP TABLE artifact_data;",
        )
        .await;
    // The column of tags had two indexes, which went with it.
    assert_eq!(world.catalog.migrate().await.unwrap(), 5);
    assert_eq!(columns(&world.database).await.len(), before.0);
    let indexes = indexes(&world.database).await;
    assert_eq!(indexes.len(), before.1);
    for kept in ["UNIQUE INDEX datasets_uuid_key", "(name, version)"] {
        assert!(indexes.iter().any(|index| index.contains(kept)), "{kept}");
    }
    assert_eq!(world.catalog.migrate().await.unwrap(), 0);
}

/// Where Go's datacatalog has migrated and this serves.
async fn what_is_ours_is_made_where_the_rest_is_there(store: Store) {
    let world = World::start(store).await;
    world
        .sql("DROP TABLE flyte_rs_artifact_sizes; DROP TABLE flyte_rs_retention; DROP TABLE reservations")
        .await;
    for _ in 0..2 {
        world.catalog.complete_own_tables().await.unwrap();
    }
    assert_eq!(world.catalog.migrate().await.unwrap(), 1, "Go's own table");
}

async fn tables_that_were_dropped_to_empty_the_cache_come_back(store: Store) {
    let world = World::start(store).await;
    assert_eq!(world.catalog.migrate().await.unwrap(), 0);
    for table in [
        "datasets",
        "partition_keys",
        "artifacts",
        "artifact_data",
        "tags",
        "partitions",
        "reservations",
        "flyte_rs_artifact_sizes",
        "flyte_rs_retention",
    ] {
        world.sql(&format!("DROP TABLE {table}")).await;
    }
    assert_eq!(world.catalog.migrate().await.unwrap(), EVERYTHING_NEW);
}

on_both_databases!(
    what_is_ours_is_made_where_the_rest_is_there,
    tables_that_were_dropped_to_empty_the_cache_come_back,
);

#[tokio::test]
async fn sessions_have_the_name_of_their_service() {
    let folder = tempfile::tempdir().unwrap();
    let plain = database_config(Store::Postgres, folder.path());
    let mut named = plain.clone();
    named.postgres.options += " application_name=mine";
    for (config, expected) in [(&plain, "datacatalog"), (&named, "mine")] {
        let database = Database::open_as(config, "datacatalog").await.unwrap();
        let setting = select("current_setting('application_name')");
        assert_eq!(texts(&database, setting).await, [expected]);
    }
}
