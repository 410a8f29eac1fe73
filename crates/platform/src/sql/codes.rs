//! SQLSTATE and SQLite codes, read in this one place.
//!
//! A code says either something about the request (a key is taken, a value does not fit) or about the database: it is read-only,
//! locked, out of space, its schema or the rights of the role are being changed. The latter is no answer to the request, whose
//! client asks again.

use sqlx::{error::DatabaseError, postgres::PgDatabaseError, sqlite::SqliteError};

/// What a code means to the caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The constraint whose key exists.
    Unique(String),
    /// A value that the database refuses.
    Value,
    /// The schema is not ours.
    Undefined,
    /// The transaction was rolled back for another one.
    Serialization,
    /// Not now.
    Unavailable,
    /// Anything else.
    Other,
}

/// What is wrong with a session, rather than with the statement that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// Its prepared statements: the schema has changed since, or a pooler has put another session behind the connection.
    Statements,
    /// What it was given when it began: `ALTER DATABASE` and `ALTER ROLE` (`default_transaction_read_only`, `search_path`) are
    /// for later sessions, and a name may be that of another server by now.
    Settings,
}

/// What the code of `error` means.
pub(super) fn classify(error: &dyn DatabaseError) -> Class {
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<SqliteError>().is_some() {
        return classify_sqlite(code.parse().unwrap_or_default(), error.message());
    }
    match code.as_ref() {
        "23505" => Class::Unique(error.constraint().unwrap_or_default().to_owned()),
        "0A000" if is_replanned(error) => Class::Unavailable,
        code => classify_sqlstate(code),
    }
}

/// PostgreSQL's appendix A, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn classify_sqlstate(code: &str) -> Class {
    match code {
        // serialization_failure, deadlock_detected; transaction_rollback of the standard
        "40000" | "40001" | "40P01" => Class::Serialization,
        // invalid_schema_name; undefined_table, _column, _object, _function (operators are functions); datatype_mismatch
        "3F000" | "42P01" | "42703" | "42704" | "42883" | "42804" => Class::Undefined,
        // Of the session: read_only_sql_transaction, idle_in_transaction_session_timeout, transaction_timeout. Prepared
        // statements that are not there, or somebody else's: invalid_sql_statement_name, duplicate_prepared_statement. Of the
        // database: invalid_catalog_name (made or dropped), insufficient_privilege, statement_completion_unknown,
        // snapshot_too_old, fdw_unable_to_establish_connection.
        "25006" | "25P03" | "25P04" | "26000" | "42P05" | "3D000" | "42501" | "40003" | "72000"
        | "HV00N" => Class::Unavailable,
        _ => match code.get(..2).unwrap_or_default() {
            // connection, authorization, resources, prerequisites (lock_not_available), operator intervention, system,
            // the server's configuration, and what PostgreSQL did not expect of itself
            "08" | "28" | "53" | "55" | "57" | "58" | "F0" | "XX" => Class::Unavailable,
            // data exceptions, and what is beyond PostgreSQL's limits: a key too long for its index, too many columns
            "22" | "54" => Class::Value,
            _ => Class::Other,
        },
    }
}

/// Whether the server is on its way up or down, or full: what else it says against a first connection is about the
/// configuration.
pub(super) fn is_starting(error: &dyn DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    matches!(code.get(..2).unwrap_or_default(), "08" | "53" | "57" | "58")
}

/// Whether PostgreSQL has ended the session with this answer.
pub(super) fn is_ended(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(said) => {
            let code = said.code().unwrap_or_default();
            // admin_shutdown, crash_shutdown, idle_session_timeout
            code.starts_with("08") || matches!(code.as_ref(), "57P01" | "57P02" | "57P05")
        }
        _ => false,
    }
}

/// What `error` says about the session that it came from.
pub(super) fn stale(error: &sqlx::Error) -> Option<Stale> {
    let said = error.as_database_error()?;
    let code = said.code()?;
    match code.as_ref() {
        "0A000" if is_replanned(said) => Some(Stale::Statements),
        // The last is internal_error: `cache lookup failed` for a type or function that has been made anew.
        "26000" | "42P05" | "XX000" => Some(Stale::Statements),
        "25006" | "3F000" | "42P01" | "42704" | "42883" => Some(Stale::Settings),
        _ => None,
    }
}

/// `cached plan must not change result type`. Its code is that of any feature that is not there, and its text is in the server's
/// language; the place in PostgreSQL that it comes from is not.
fn is_replanned(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .and_then(PgDatabaseError::routine)
        == Some("RevalidateCachedQuery")
}

/// Result codes: <https://www.sqlite.org/rescode.html>; the low byte is the primary one.
fn classify_sqlite(code: i32, message: &str) -> Class {
    const UNIQUE: i32 = 2067;
    const PRIMARY_KEY: i32 = 1555;
    match (code, code & 0xff) {
        (UNIQUE | PRIMARY_KEY, _) => Class::Unique(sqlite_constraint(message)),
        // TOOBIG: a value beyond SQLite's limits
        (_, 18) => Class::Value,
        // PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL (locks), SCHEMA, NOTADB
        (_, 3 | 5..=11 | 13..=15 | 17 | 26) => Class::Unavailable,
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
