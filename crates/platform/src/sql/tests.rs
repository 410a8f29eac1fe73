//! SQLite's side; the tests of the services run both.

use sea_query::{Expr, ExprTrait as _, LikeExpr, Query, SelectStatement};
use tempfile::TempDir;

use super::{Database, DatabaseConfig, DbError, Migrations, Operation, OperationMetrics};
use crate::metrics::Scope;

async fn database() -> (Database, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig::sqlite(folder.path().join("test.db"));
    let database = Database::open(&config).await.unwrap();
    let migrations = Migrations::parse(
        "commentary\n-- migration: one\nCREATE TABLE things (name TEXT UNIQUE, at INTEGER) STRICT;\n\
         -- rollback\nDROP TABLE things;\n",
    );
    assert_eq!(migrations.run(&database).await.unwrap(), 1);
    assert_eq!(migrations.run(&database).await.unwrap(), 0);
    (database, folder)
}

async fn insert(database: &Database, name: &str) -> Result<(), DbError> {
    database
        .write(name.to_owned(), |name, tx| {
            Box::pin(async move {
                let insert = Query::insert()
                    .into_table("things")
                    .columns(["name", "at"])
                    .values_panic([
                        Expr::val(name.as_str()),
                        Expr::val(jiff::Timestamp::UNIX_EPOCH),
                    ])
                    .take();
                tx.execute(&insert).await?;
                assert_ne!(name, "panic", "as asked for");
                Ok(())
            })
        })
        .await
}

fn names(condition: Expr) -> SelectStatement {
    Query::select()
        .column("name")
        .from("things")
        .and_where(condition)
        .take()
}

async fn count(database: &Database, condition: Expr) -> usize {
    let mut tx = database.read().await.unwrap();
    tx.fetch_all(&names(condition)).await.unwrap().len()
}

#[tokio::test]
async fn writes_that_are_committed_together_fail_apart() {
    let (database, _folder) = database().await;
    let writes = ["a", "b", "a", "panic", "c"].map(|name| insert(&database, name));
    let outcomes = futures::future::join_all(writes).await;
    let shown: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(()) => "written".to_owned(),
            Err(error) => error.to_string(),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "written",
            "written",
            "duplicate key value violates unique constraint \"things_pkey\"",
            "a write panicked",
            "written",
        ]
    );
    assert_eq!(count(&database, Expr::val(true)).await, 3);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_interrupt_its_write() {
    let (database, _folder) = database().await;
    {
        let write = insert(&database, "left");
        futures::pin_mut!(write);
        // Polled once: the write is queued, its caller is gone.
        assert!(futures::poll!(write.as_mut()).is_pending());
    }
    insert(&database, "later").await.unwrap();
    assert_eq!(count(&database, Expr::col("name").eq("left")).await, 1);
}

#[tokio::test]
async fn what_was_queued_before_closing_is_written() {
    let (database, folder) = database().await;
    let write = insert(&database, "last");
    futures::pin_mut!(write);
    assert!(futures::poll!(write.as_mut()).is_pending());
    database.close().await;
    write.await.unwrap();
    assert!(insert(&database, "too late").await.is_err());
    let config = DatabaseConfig::sqlite(folder.path().join("test.db"));
    let again = Database::open(&config).await.unwrap();
    assert_eq!(count(&again, Expr::col("name").eq("last")).await, 1);
}

#[tokio::test]
async fn like_tells_upper_from_lower_case() {
    let (database, _folder) = database().await;
    insert(&database, "Name_1").await.unwrap();
    let like =
        |pattern: &str| Expr::col("name").like(LikeExpr::new(pattern.to_owned()).escape('\\'));
    assert_eq!(count(&database, like("%Name%")).await, 1);
    assert_eq!(count(&database, like("%name%")).await, 0);
    assert_eq!(count(&database, like("Name\\_1")).await, 1);
}

#[tokio::test]
async fn text_that_postgresql_cannot_store_is_refused() {
    let (database, _folder) = database().await;
    let error = insert(&database, "a\0b").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid byte sequence for encoding \"UTF8\": 0x00"
    );
}

#[tokio::test]
async fn operations_are_counted_by_who_asked_and_errors_by_kind() {
    const CREATE: Operation = Operation {
        repository: "things",
        name: "create",
    };
    const GET: Operation = Operation {
        repository: "things",
        name: "get",
    };
    let (database, _folder) = database().await;
    let scope = Scope::new("admin");
    let metrics = OperationMetrics::register(&scope, [CREATE, GET]).unwrap();
    let counting = database.counted(metrics.into());
    for name in ["a", "a"] {
        let insert = Query::insert()
            .into_table("things")
            .columns(["name"])
            .values_panic([Expr::val(name)])
            .take();
        let written: Result<u64, DbError> = counting
            .write(insert, |insert, tx| {
                Box::pin(async move { tx.of(CREATE).execute(insert).await })
            })
            .await;
        drop(written);
    }
    // Others who use the same writer are not counted.
    insert(&database, "b").await.unwrap();
    let mut tx = counting.read().await.unwrap();
    for name in ["a", "nobody"] {
        let select = names(Expr::col("name").eq(name));
        tx.of(GET).fetch_expected(&select).await.unwrap();
    }
    let unknown = Query::select().column("name").from("nothing").take();
    assert!(tx.of(GET).fetch_all(&unknown).await.is_err());
    let text = scope.render();
    for line in [
        "admin:database:things:create_ms_count 2",
        "admin:database:things:get_ms_count 3",
        "admin:errors:already_exists 1",
        "admin:errors:not_found 1",
        "admin:errors:undefined_table 1",
        "admin:errors:postgres_error 0",
        "admin:errors:gorm_error 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
    }
}
