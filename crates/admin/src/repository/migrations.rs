//! The schema of this service.

use flyte_platform::sql::{Database, Dialect, MigrationError, Migrations};

/// The migrations of flyteadmin for a kind of database.
pub fn migrations(dialect: Dialect) -> Migrations {
    Migrations::parse(match dialect {
        Dialect::Postgres => {
            include_str!("../../../../migrations/postgres/admin/migrations.sql")
        }
        Dialect::Sqlite => include_str!("../../../../migrations/sqlite/admin/migrations.sql"),
    })
}

/// Brings the schema up to date and says how many migrations ran.
pub async fn run(database: &Database) -> Result<usize, MigrationError> {
    migrations(database.dialect()).run(database).await
}
