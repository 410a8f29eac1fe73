//! The schema of this service.

use flyte_platform::{
    Chain,
    sql::{Database, Dialect, MigrationError, Migrations},
};

use super::indexes::INDEXES;

/// The migrations of flyteadmin for a kind of database.
pub fn migrations(dialect: Dialect) -> Migrations {
    Migrations::parse(match dialect {
        Dialect::Postgres => {
            include_str!("../../../../migrations/postgres/admin/migrations.sql")
        }
        Dialect::Sqlite => include_str!("../../../../migrations/sqlite/admin/migrations.sql"),
    })
}

/// Brings the schema up to date, makes the indexes that are missing, and says how many migrations ran.
pub async fn run(database: &Database) -> Result<usize, MigrationError> {
    let ran = migrations(database.dialect()).run(database).await?;
    match database.ensure_indexes(INDEXES).await {
        Ok(0) => {}
        Ok(made) => tracing::info!(made, "indexes for lists are there"),
        // Everything works without them.
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "indexes for lists are missing, which makes lists slow");
        }
    }
    Ok(ran)
}
