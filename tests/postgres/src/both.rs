//! Tests that run on SQLite and on PostgreSQL.

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// A file of its own.
    Sqlite,
    /// A database of its own on the server of the tests ([`crate::database`]).
    Postgres,
}

/// Each of these functions, which take a [`Store`], as two tests.
#[macro_export]
macro_rules! on_both_databases {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        mod sqlite {
            $($(#[$meta])* #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::Store::Sqlite).await; })*
        }
        mod postgres {
            $($(#[$meta])* #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::Store::Postgres).await; })*
        }
    };
}
