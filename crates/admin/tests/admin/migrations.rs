//! The schema: Go's on PostgreSQL, and made once however many start at once.

use std::path::Path;

use flyte_platform::sql::Database;
use sea_query::{Alias, Expr, ExprTrait as _, Query};

use crate::harness::{Store, World, database_config};

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

async fn texts(database: &Database, query: sea_query::SelectStatement) -> Vec<String> {
    let mut tx = database.read().await.unwrap();
    let rows = tx.fetch_all(&query).await.unwrap();
    rows.iter().map(|row| row.text("value").unwrap()).collect()
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values
}

fn catalog(table: &'static str, value: &'static str) -> sea_query::SelectStatement {
    Query::select()
        .expr_as(Expr::cust(value), Alias::new("value"))
        .from(Alias::new(table))
        .take()
}

#[tokio::test]
async fn postgresql_gets_the_columns_of_the_reference() {
    let world = World::start(Store::Postgres).await;
    let mut query = catalog(
        "information_schema_columns",
        "table_name || ' ' || column_name || ' ' || data_type || ' ' || coalesce(character_maximum_length::text, '') || ' ' || is_nullable || ' ' || coalesce(column_default, '')",
    );
    query = query
        .from_clear()
        .from((Alias::new("information_schema"), Alias::new("columns")))
        .to_owned();
    query.and_where(Expr::col(Alias::new("table_schema")).eq("public"));
    let ours = sorted(texts(&world.database, query).await);
    let expected = golden("postgres-columns.tsv")
        .into_iter()
        .map(|column| {
            let part = |index: usize| column.get(index).cloned().unwrap_or_default();
            format!(
                "{} {} {} {} {} {}",
                part(0),
                part(2),
                part(3),
                part(4),
                part(5),
                part(6)
            )
        })
        .collect();
    assert_eq!(ours, sorted(expected));
}

#[tokio::test]
async fn postgresql_gets_the_indexes_and_migration_ids_of_the_reference() {
    let world = World::start(Store::Postgres).await;
    let mut query = catalog("pg_indexes", "indexdef");
    query.and_where(Expr::col(Alias::new("schemaname")).eq("public"));
    let ours: Vec<String> = texts(&world.database, query).await;
    let ours = ours
        .into_iter()
        .filter(|definition| !definition.contains("flyte_rs_"))
        .collect();
    let expected = golden("postgres-indexes.tsv")
        .into_iter()
        .map(|index| index[2].clone())
        .collect();
    assert_eq!(sorted(ours), sorted(expected));
    let ids = texts(&world.database, catalog("migrations", "id")).await;
    let expected = golden("postgres-migrations.tsv")
        .into_iter()
        .map(|line| line[0].clone())
        .collect();
    assert_eq!(sorted(ids), sorted(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_together_migrate_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = database_config(Store::Postgres, folder.path());
    let starts = (0..4).map(|_| async {
        let database = Database::open(&config).await.unwrap();
        flyte_admin::repository::migrations::run(&database)
            .await
            .unwrap()
    });
    let ran: Vec<usize> = futures::future::join_all(starts).await;
    assert_eq!(ran.iter().sum::<usize>(), 66, "{ran:?}");
}

#[tokio::test]
async fn an_older_database_gets_what_it_lacks() {
    let world = World::start(Store::Postgres).await;
    world
        .database
        .write((), |(), tx| {
            Box::pin(async move {
                tx.execute_script(
                    "ALTER TABLE executions DROP COLUMN launch_entity;
                     ALTER TABLE node_executions ALTER COLUMN parent_id TYPE integer;
                     DROP TABLE execution_tags;
                     DELETE FROM migrations WHERE id IN ('2022-12-09-execution-launch-type',
                        'pg-2023-05-02-fix-parentid-type-phase-1', 'pg-2023-05-02-fix-parentid-type-phase-2',
                        'pg-noop-2023-03-31-noop-nodeexecution', '2023-08-04-admin-tags',
                        '2023-08-04-execution-admin-tags', '2024-06-06-execution-tags',
                        '2024-06-06-drop-execution_admin-tags', '2024-06-06-drop-admin-tags');",
                )
                .await
            })
        })
        .await
        .unwrap();
    assert_eq!(world.admin.migrate().await.unwrap(), 9);
    let mut query = catalog("columns", "data_type");
    query = query
        .from_clear()
        .from((Alias::new("information_schema"), Alias::new("columns")))
        .to_owned();
    query
        .and_where(Expr::col(Alias::new("table_name")).eq("node_executions"))
        .and_where(Expr::col(Alias::new("column_name")).eq("parent_id"));
    assert_eq!(texts(&world.database, query).await, ["bigint"]);
    assert_eq!(world.admin.migrate().await.unwrap(), 0);
}
