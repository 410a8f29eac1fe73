//! One set of SQL statements on two databases.
//!
//! Statements are built with `sea-query` and run on SQLite (embedded) or PostgreSQL (production). A
//! repository function takes `&mut` [`ReadTx`] or [`WriteTx`], never a [`Database`]: a nested connection
//! cannot be written down, so the pool cannot deadlock on itself.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | times | INTEGER, microseconds since 1970 UTC | `timestamptz` |
//! | UUIDs | TEXT, lower case with hyphens | `uuid` |
//! | text | compared bytewise, LIKE case-sensitive | as the database is set up |
//! | writes | one connection, group commit | a transaction of the pool, READ COMMITTED |
//! | reads | reader pool over the WAL | pool; a read replica where the caller allows it |
//!
//! Both [`Database::write`] and the reads take a context value and a function of it, because a write may
//! run again after a serialization failure and, on SQLite, runs on the writer's task:
//!
//! ```no_run
//! # use flyte_platform::sql::{Database, DbError};
//! # use sea_query::{Alias, Query};
//! # async fn example(database: &Database) -> Result<(), DbError> {
//! database
//!     .write("recproj".to_owned(), |identifier, tx| {
//!         Box::pin(async move {
//!             let insert = Query::insert()
//!                 .into_table(Alias::new("projects"))
//!                 .columns([Alias::new("identifier")])
//!                 .values_panic([identifier.as_str().into()])
//!                 .take();
//!             tx.execute(&insert).await.map(drop)
//!         })
//!     })
//!     .await
//! # }
//! ```

mod codes;
mod config;
mod counted;
mod database;
mod dialect;
mod error;
mod health;
mod indexes;
mod listed;
mod loops;
mod migrations;
mod operations;
mod row;
mod sessions;
mod status;
mod timestamps;
mod tx;
mod values;
mod writer;

pub use config::{DatabaseConfig, PostgresConfig, SqliteConfig, UNHEARD};
pub use counted::Counted;
pub use database::{Database, Retryable};
pub use dialect::Dialect;
pub use error::DbError;
pub use indexes::Index;
pub use listed::{Listed, Table};
pub use loops::{keep_statistics, watch_health};
pub use migrations::{LOCK as MIGRATION_LOCK, Migration, MigrationError, Migrations};
pub use operations::{Operation, OperationMetrics};
pub use row::Row;
pub use timestamps::{TimestampSyntaxError, parse_timestamp};
pub use tx::{ReadTx, WriteTx};

#[cfg(test)]
mod tests;
