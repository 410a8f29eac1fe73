//! What a caller can know of a statement that failed.

use std::error::Error;

use super::{
    codes::{Class, classify, is_starting},
    config::ACQUIRE,
};

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
    /// A schema, table, column, type or operator that is not there, or not as the migrations made it. No caller chooses their names, so
    /// the database is not what it was, or not yet.
    #[error("{message}")]
    UndefinedObject {
        /// The database's own words.
        message: String,
    },
    /// Transactions got in each other's way; running the whole closure again may succeed.
    #[error("transactions collided")]
    Serialization(#[source] sqlx::Error),
    /// The database cannot be reached, is full, read-only, busy or barred to this role; retrying later may succeed.
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
            Self::Serialization(_) | Self::Unavailable(_) | Self::UndefinedObject { .. } => true,
            Self::UniqueViolation { .. }
            | Self::InvalidValue { .. }
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
                Class::Unavailable => {
                    Self::Unavailable(Box::new(NotNow(database.message().to_owned())))
                }
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

/// What a database says that answers a statement, and does not run it now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotNow(String);

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
    /// An error of getting a connection to this server: no statement has been sent, so whatever it is, it is not the caller's fault.
    pub(super) fn unreached(&self, error: sqlx::Error) -> DbError {
        let source = match error {
            sqlx::Error::Database(said) => said.message().to_owned().into(),
            other => match DbError::from(other) {
                DbError::Unavailable(source) => source,
                DbError::Other(error) => error.into(),
                other => other.into(),
            },
        };
        self.away(DbError::Unavailable(source))
    }

    /// Names this server in an error that says that it is away.
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
            sqlx::Error::Database(said) if !is_starting(said.as_ref()) => {
                DbError::Config(format!("{self}: {}", said.message()))
            }
            _ => self.away(error),
        }
    }
}
