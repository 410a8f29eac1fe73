//! SQLSTATE and SQLite codes, read in this one place.

use std::error::Error;

use sqlx::error::DatabaseError;

use super::config::ACQUIRE;

/// What a statement or connection came to grief on.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A key exists already (SQLSTATE 23505).
    #[error("duplicate key value violates unique constraint \"{constraint}\"")]
    UniqueViolation {
        /// PostgreSQL's name of the constraint; on SQLite the same name for a primary key.
        constraint: String,
    },
    /// A value that the database refuses: too long, out of range, not of the column's type.
    #[error("{message}")]
    InvalidValue {
        /// The database's own words, in PostgreSQL's form.
        message: String,
    },
    /// A table or column that does not exist.
    #[error("{message}")]
    UndefinedObject {
        /// The database's own words.
        message: String,
    },
    /// Transactions got in each other's way; running the whole closure again may succeed.
    #[error("transactions collided")]
    Serialization(#[source] sqlx::Error),
    /// The database cannot be reached, is full, read-only or busy; retrying later may succeed.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// A row does not hold what the schema promises.
    #[error("column {column:?} cannot be read")]
    Column {
        /// The column's name in the statement.
        column: String,
        /// What does not fit.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A row, named by its key, does not hold what the schema promises.
    #[error("row {row} of table {table} cannot be read: {source}")]
    Row {
        /// The table's name.
        table: &'static str,
        /// `column=value` for the columns that tell rows apart.
        row: String,
        /// What does not fit.
        source: Box<DbError>,
    },
    /// The configuration does not describe a database.
    #[error("invalid database configuration: {0}")]
    Config(String),
    /// A write panicked and was rolled back.
    #[error("a write panicked")]
    Panicked,
    /// Anything else; not the caller's fault.
    #[error("a statement failed")]
    Other(#[source] sqlx::Error),
}

impl DbError {
    /// Whether the same call may succeed later without a change of input.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Serialization(_) | Self::Unavailable(_) => true,
            Self::UniqueViolation { .. }
            | Self::InvalidValue { .. }
            | Self::UndefinedObject { .. }
            | Self::Column { .. }
            | Self::Row { .. }
            | Self::Config(_)
            | Self::Panicked
            | Self::Other(_) => false,
        }
    }

    /// An error for a value that never reaches the database, in PostgreSQL's words.
    pub fn invalid_value(message: impl Into<String>) -> Self {
        Self::InvalidValue {
            message: message.into(),
        }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        // sqlx's own texts repeat their causes.
        let error = match error {
            sqlx::Error::Io(source) => return Self::Unavailable(source.into()),
            sqlx::Error::Tls(source) => return Self::Unavailable(source),
            other => other,
        };
        match &error {
            sqlx::Error::Database(database) => match classify(database.as_ref()) {
                Class::Unique(constraint) => Self::UniqueViolation { constraint },
                Class::Value => Self::InvalidValue {
                    message: database.message().to_owned(),
                },
                Class::Undefined => Self::UndefinedObject {
                    message: database.message().to_owned(),
                },
                Class::Serialization => Self::Serialization(error),
                Class::Unavailable => Self::Unavailable(database.message().to_owned().into()),
                Class::Other => Self::Other(error),
            },
            sqlx::Error::PoolTimedOut => Self::Unavailable(NoConnection.into()),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(Box::new(error))
            }
            _ => Self::Other(error),
        }
    }
}

/// Nothing came out of the pool in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "no connection within {} s: either it does not answer, or all connections are busy \
     (database.maxOpenConnections)", ACQUIRE.as_secs()
)]
struct NoConnection;

/// A server of PostgreSQL, for texts that say which one is meant. It knows no password.
#[derive(Clone, Debug, thiserror::Error)]
#[error("PostgreSQL at {host}:{port}, database {database:?}")]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
}

/// What kept a server from being reached.
#[derive(Debug, thiserror::Error)]
#[error("{server}")]
struct Away {
    server: Server,
    source: Box<dyn Error + Send + Sync>,
}

impl Server {
    /// An error of getting a connection to this server.
    pub(super) fn away(&self, error: impl Into<DbError>) -> DbError {
        match error.into() {
            DbError::Unavailable(source) => DbError::Unavailable(Box::new(Away {
                server: self.clone(),
                source,
            })),
            other => other,
        }
    }

    /// As [`Server::away`], for the first connection: what PostgreSQL says against it is about the configuration.
    pub(super) fn refused(&self, error: sqlx::Error) -> DbError {
        match &error {
            sqlx::Error::Database(said)
                if !matches!(classify(said.as_ref()), Class::Unavailable) =>
            {
                DbError::Config(format!("{self}: {}", said.message()))
            }
            _ => self.away(error),
        }
    }
}

enum Class {
    Unique(String),
    Value,
    Undefined,
    Serialization,
    Unavailable,
    Other,
}

fn classify(error: &dyn DatabaseError) -> Class {
    let code = error.code().unwrap_or_default();
    if error
        .try_downcast_ref::<sqlx::sqlite::SqliteError>()
        .is_some()
    {
        return classify_sqlite(code.parse().unwrap_or_default(), error.message());
    }
    match code.as_ref() {
        "23505" => Class::Unique(error.constraint().unwrap_or_default().to_owned()),
        "42P01" | "42703" => Class::Undefined,
        "40001" | "40P01" => Class::Serialization,
        // connection, resources, operator intervention, system
        code if ["08", "53", "57", "58"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Class::Unavailable
        }
        // data exceptions, and what is beyond PostgreSQL's limits: a key too long for its index, too many columns
        code if code.starts_with("22") || code.starts_with("54") => Class::Value,
        _ => Class::Other,
    }
}

/// Result codes: <https://www.sqlite.org/rescode.html>; the low byte is the primary one.
fn classify_sqlite(code: i32, message: &str) -> Class {
    const UNIQUE: i32 = 2067;
    const PRIMARY_KEY: i32 = 1555;
    match (code, code & 0xff) {
        (UNIQUE | PRIMARY_KEY, _) => Class::Unique(sqlite_constraint(message)),
        // TOOBIG: a value beyond SQLite's limits
        (_, 18) => Class::Value,
        // BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN
        (_, 5 | 6 | 8 | 10 | 13 | 14) => Class::Unavailable,
        (_, 1) if message.starts_with("no such") => Class::Undefined,
        // CONSTRAINT: our CHECKs state PostgreSQL's length limits
        (_, 19) if message.starts_with("CHECK constraint failed: value too long") => Class::Value,
        _ => Class::Other,
    }
}

/// `UNIQUE constraint failed: projects.identifier` names columns; PostgreSQL names `projects_pkey`.
fn sqlite_constraint(message: &str) -> String {
    let table = message
        .rsplit(": ")
        .next()
        .and_then(|columns| columns.split('.').next())
        .unwrap_or_default();
    format!("{table}_pkey")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_unique_violations_are_named_as_in_postgresql() {
        let text = "UNIQUE constraint failed: tasks.project, tasks.domain, tasks.name";
        assert_eq!(sqlite_constraint(text), "tasks_pkey");
    }
}
