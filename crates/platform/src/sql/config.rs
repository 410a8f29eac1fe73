//! The `database` section (spec 01 §21.2).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Duration, Secret, Unheard};

/// How long a caller waits for a free connection before it is told that the database is unavailable. No key sets it.
pub(super) const ACQUIRE: std::time::Duration = std::time::Duration::from_secs(5);

/// Section `database`: where a service keeps its tables (spec 01 §21.2).
///
/// SQLite wins when `sqlite.file` is set; else PostgreSQL, where the deprecated top-level keys override
/// the members of `postgres` that they name.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DatabaseConfig {
    /// PostgreSQL, the production store.
    pub postgres: PostgresConfig,
    /// SQLite, the embedded store.
    pub sqlite: SqliteConfig,
    /// Accepted and ignored: idle connections are closed after ten minutes, whatever their number.
    pub max_idle_connections: u32,
    /// The most connections open at once, for each pool. 0 means 100.
    pub max_open_connections: u32,
    /// A connection older than this is replaced. `0s` keeps it for ever.
    pub conn_max_life_time: Duration,
    /// Accepted and ignored: no foreign keys are created (spec 01 §19).
    pub enable_foreign_key_constraint_when_migrating: bool,
    /// Deprecated alias of `postgres.host`.
    pub host: String,
    /// Deprecated alias of `postgres.port`.
    pub port: u16,
    /// Deprecated alias of `postgres.dbname`.
    pub dbname: String,
    /// Deprecated alias of `postgres.username`.
    pub username: String,
    /// Deprecated alias of `postgres.password`.
    pub password: Secret,
    /// Deprecated alias of `postgres.passwordPath`.
    pub password_path: String,
    /// Deprecated alias of `postgres.options`.
    pub options: String,
}

/// Keys of section `database` that change nothing.
pub const UNHEARD: &[Unheard] = &[
    Unheard {
        key: "database.maxIdleConnections",
        instead: "idle connections are closed after ten minutes, whatever their number",
    },
    Unheard {
        key: "database.enableForeignKeyConstraintWhenMigrating",
        instead: "no foreign keys are created",
    },
    Unheard {
        key: "database.postgres.debug",
        instead: "statements are logged at debug level whatever it says",
    },
];

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            postgres: PostgresConfig::default(),
            sqlite: SqliteConfig::default(),
            max_idle_connections: 10,
            max_open_connections: 100,
            conn_max_life_time: Duration::hours(1),
            enable_foreign_key_constraint_when_migrating: false,
            host: String::new(),
            port: 0,
            dbname: String::new(),
            username: String::new(),
            password: Secret::default(),
            password_path: String::new(),
            options: String::new(),
        }
    }
}

impl DatabaseConfig {
    /// A SQLite database in `file`, created when missing.
    pub fn sqlite(file: impl Into<PathBuf>) -> Self {
        Self {
            sqlite: SqliteConfig { file: file.into() },
            ..Self::default()
        }
    }

    /// The PostgreSQL settings after the deprecated aliases.
    pub fn effective_postgres(&self) -> PostgresConfig {
        let mut postgres = self.postgres.clone();
        let texts = [
            (&self.host, &mut postgres.host),
            (&self.dbname, &mut postgres.dbname),
            (&self.username, &mut postgres.username),
            (&self.password_path, &mut postgres.password_path),
            (&self.options, &mut postgres.options),
        ];
        for (alias, target) in texts {
            if !alias.is_empty() {
                target.clone_from(alias);
            }
        }
        if !self.password.is_empty() {
            postgres.password.clone_from(&self.password);
        }
        if self.port != 0 {
            postgres.port = self.port;
        }
        postgres
    }
}

/// `database.sqlite`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SqliteConfig {
    /// The database file, created when missing. Empty: PostgreSQL is used.
    pub file: PathBuf,
}

/// `database.postgres`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PostgresConfig {
    /// Host name or address of the primary.
    pub host: String,
    /// Host of a read replica for reads that may lag. Empty or `localhost`: the primary serves them.
    pub read_replica_host: String,
    /// TCP port of primary and replica.
    pub port: u16,
    /// Database name; created through database `postgres` when missing.
    pub dbname: String,
    /// Role to log in as.
    pub username: String,
    /// Secret of the role.
    pub password: Secret,
    /// A file with the password; wins over `password`, surrounding blanks are removed.
    pub password_path: String,
    /// Further `key=value` connection options, separated by blanks, such as `sslmode=disable`.
    pub options: String,
    /// Log statements at debug level.
    pub debug: bool,
    /// How long one statement may take; `0s` is no limit. Migrations and the making of indexes have none.
    pub statement_timeout: Duration,
    /// A connection that has been idle for longer is asked, with one round trip, whether it still is one before a statement
    /// goes over it: a restart of PostgreSQL leaves the pool full of those that are not. `0s` always asks.
    pub trust_idle_for: Duration,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            read_replica_host: "localhost".to_owned(),
            port: 30001,
            dbname: "postgres".to_owned(),
            username: "postgres".to_owned(),
            password: Secret::new("postgres"),
            password_path: String::new(),
            options: "sslmode=disable".to_owned(),
            debug: false,
            statement_timeout: Duration::seconds(60),
            trust_idle_for: Duration::milliseconds(100),
        }
    }
}
