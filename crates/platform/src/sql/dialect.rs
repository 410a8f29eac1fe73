//! The kinds of database.

/// Which database statements are for, where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A file of this process.
    Sqlite,
    /// PostgreSQL 14 or newer.
    Postgres,
}
