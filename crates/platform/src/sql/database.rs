//! Opening a database and running transactions on it.

use std::{
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    DatabaseConfig, DbError, Dialect, OperationMetrics, PostgresConfig, ReadTx, WriteTx,
    codes::is_ended,
    config::ACQUIRE,
    error::Server,
    sessions::Sessions,
    tx::{Connection, PostgresConnection},
    writer::Writer,
};

/// How often a write is run again after a serialization failure or deadlock.
const RETRIES: u32 = 5;

/// Readers of a SQLite file: a few, since they compete for the same cores.
const SQLITE_READERS: u32 = 4;
/// Pages that each connection keeps, in KiB (negative, as SQLite has it): what is not there is in the system's cache, once for
/// all connections.
const SQLITE_CACHE: &str = "-512";

/// An open database. Clones share its connections.
#[derive(Clone)]
pub struct Database {
    pools: Arc<Pools>,
    metrics: Option<Arc<OperationMetrics>>,
}

pub(super) enum Pools {
    Sqlite {
        readers: SqlitePool,
        writer: Writer,
    },
    Postgres {
        primary: ServerPool,
        replica: Option<ServerPool>,
    },
}

/// Connections to one server.
pub(super) struct ServerPool {
    pub(super) pool: PgPool,
    server: Server,
    sessions: Sessions,
    /// The last session that was asked took no writes.
    was_read_only: AtomicBool,
}

impl ServerPool {
    fn new(config: &DatabaseConfig, options: PgConnectOptions, server: Server) -> Self {
        let sessions = Sessions::new();
        let pool = pool_options(config, &sessions);
        Self {
            pool: pool.connect_lazy_with(options),
            server,
            sessions,
            was_read_only: AtomicBool::new(false),
        }
    }

    async fn acquire(&self) -> Result<PostgresConnection, DbError> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(PostgresConnection::new(connection, self.sessions.clone())),
            Err(error) => Err(self.server.unreached(error)),
        }
    }

    /// The error of a session that takes no writes. Later ones may: it has kept what was so when it began.
    pub(super) fn read_only(&self, reason: impl Error + Send + Sync + 'static) -> DbError {
        self.was_read_only.store(true, Ordering::Relaxed);
        self.sessions.renew();
        self.server.away(DbError::Unavailable(Box::new(reason)))
    }

    /// A session takes writes. Those that began while none did go on without, and are replaced before they are used.
    pub(super) fn takes_writes(&self) {
        if self.was_read_only.swap(false, Ordering::Relaxed) {
            self.sessions.renew_at_once();
        }
    }
}

impl Database {
    /// Opens what `config` names, as `flyte`; a missing SQLite file or PostgreSQL database is created.
    ///
    /// # Errors
    /// [`DbError::Config`] for settings that make no sense, [`DbError::Unavailable`] when nothing answers.
    pub async fn open(config: &DatabaseConfig) -> Result<Self, DbError> {
        Self::open_as(config, "flyte").await
    }

    /// As [`Database::open`], where sessions of PostgreSQL have the name `application` (`application_name` in
    /// `pg_stat_activity` and the server's log), unless `database.postgres.options` has another.
    ///
    /// # Errors
    /// As there.
    pub async fn open_as(config: &DatabaseConfig, application: &str) -> Result<Self, DbError> {
        if config.sqlite.file.as_os_str().is_empty() {
            Self::open_postgres(config, application).await
        } else {
            Self::open_sqlite(&config.sqlite.file).await
        }
    }

    async fn open_sqlite(file: &Path) -> Result<Self, DbError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .busy_timeout(Duration::from_secs(10))
            .pragma("case_sensitive_like", "ON")
            .pragma("cache_size", SQLITE_CACHE);
        let writer = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .connect()
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .connect_lazy_with(options.read_only(true));
        Ok(Self::over(Pools::Sqlite {
            readers,
            writer: Writer::start(writer),
        }))
    }

    async fn open_postgres(config: &DatabaseConfig, application: &str) -> Result<Self, DbError> {
        let postgres = config.effective_postgres();
        let options = postgres_options(&postgres, application).await?;
        let server = |host: &str| Server {
            host: host.to_owned(),
            port: postgres.port,
            database: postgres.dbname.clone(),
        };
        let primary = server(&postgres.host);
        match options.connect().await {
            Ok(connection) => connection.close().await?,
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("3D000") => {
                create_database(&options, &postgres.dbname)
                    .await
                    .map_err(|error| primary.refused(error))?;
            }
            Err(error) => return Err(primary.refused(error)),
        }
        let replica = replica_host(&postgres)
            .map(|host| ServerPool::new(config, options.clone().host(host), server(host)));
        Ok(Self::over(Pools::Postgres {
            primary: ServerPool::new(config, options, primary),
            replica,
        }))
    }

    /// The same database, whose operations are counted ([`ReadTx::of`]).
    #[must_use]
    pub fn counted(&self, metrics: Arc<OperationMetrics>) -> Self {
        Self {
            pools: self.pools.clone(),
            metrics: Some(metrics),
        }
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }

    fn over(pools: Pools) -> Self {
        Self {
            pools: Arc::new(pools),
            metrics: None,
        }
    }

    fn reading(&self, connection: Connection) -> ReadTx {
        ReadTx {
            connection,
            metrics: self.metrics.clone(),
        }
    }

    /// Which database this is.
    pub fn dialect(&self) -> Dialect {
        match *self.pools {
            Pools::Sqlite { .. } => Dialect::Sqlite,
            Pools::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// The error of a question that this database has not answered `within` a time.
    pub fn silent(&self, within: Duration) -> DbError {
        let silent =
            DbError::Unavailable(format!("no answer within {} s", within.as_secs()).into());
        match &*self.pools {
            Pools::Sqlite { .. } => silent,
            Pools::Postgres { primary, .. } => primary.server.away(silent),
        }
    }

    /// Reads what has been committed.
    pub async fn read(&self) -> Result<ReadTx, DbError> {
        Ok(self.reading(match &*self.pools {
            Pools::Sqlite { readers, .. } => Connection::SqliteReader(readers.acquire().await?),
            Pools::Postgres { primary, .. } => Connection::Postgres(primary.acquire().await?),
        }))
    }

    /// Reads from a replica where there is one: what it shows may lag behind.
    pub async fn read_lagging(&self) -> Result<ReadTx, DbError> {
        match &*self.pools {
            Pools::Postgres {
                replica: Some(replica),
                ..
            } => Ok(self.reading(Connection::Postgres(replica.acquire().await?))),
            Pools::Postgres { .. } | Pools::Sqlite { .. } => self.read().await,
        }
    }

    /// Runs `work` in a transaction and commits it if it returns `Ok`.
    ///
    /// `work` gets `context` by reference, may be run again after a serialization failure, and must
    /// therefore have no effect but through the transaction. Nothing but SQL is awaited inside.
    ///
    /// # Errors
    /// What `work` returned, or what kept the transaction from beginning or being committed.
    pub async fn write<C, F, T, E>(&self, context: C, work: F) -> Result<T, E>
    where
        C: Send + Sync + 'static,
        F: for<'a> Fn(&'a C, &'a mut WriteTx) -> BoxFuture<'a, Result<T, E>>
            + Send
            + Sync
            + 'static,
        T: Send + 'static,
        E: From<DbError> + Retryable + Send + 'static,
    {
        let pool = match &*self.pools {
            Pools::Sqlite { writer, .. } => {
                return writer.write(self.metrics.clone(), context, work).await;
            }
            Pools::Postgres { primary, .. } => primary,
        };
        let mut attempt = 0;
        loop {
            let outcome = try_write(self, pool, &context, &work).await;
            match outcome {
                Err(error) if attempt < RETRIES && error.collided() => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    /// Closes the connections; writes that were accepted are finished first.
    pub async fn close(&self) {
        match &*self.pools {
            Pools::Sqlite { readers, writer } => {
                writer.stop().await;
                readers.close().await;
            }
            Pools::Postgres { primary, replica } => {
                primary.pool.close().await;
                if let Some(replica) = replica {
                    replica.pool.close().await;
                }
            }
        }
    }
}

/// An error that knows whether its transaction collided with another one.
pub trait Retryable {
    /// True only for a serialization failure or a deadlock.
    fn collided(&self) -> bool;
}

impl Retryable for DbError {
    fn collided(&self) -> bool {
        matches!(self, Self::Serialization(_))
    }
}

async fn try_write<C, F, T, E>(
    database: &Database,
    pool: &ServerPool,
    context: &C,
    work: &F,
) -> Result<T, E>
where
    F: for<'a> Fn(&'a C, &'a mut WriteTx) -> BoxFuture<'a, Result<T, E>>,
    E: From<DbError>,
{
    let connection = begin(pool).await?;
    let mut tx = WriteTx(database.reading(Connection::Postgres(connection)));
    let mut again = true;
    loop {
        let outcome = work(context, &mut tx).await;
        let Connection::Postgres(connection) = &mut tx.0.connection else {
            return outcome;
        };
        let error = match outcome {
            Ok(value) => {
                let committed = connection.control("COMMIT", false).await;
                committed.map_err(DbError::from)?;
                return Ok(value);
            }
            Err(error) => error,
        };
        // A connection that cannot roll back is closed, which does.
        if let Err(failed) = connection.control("ROLLBACK", false).await {
            tracing::debug!(error = %failed, "cannot roll back; the connection is closed");
            return Err(error);
        }
        if !again || !connection.forget().await {
            return Err(error);
        }
        // Nothing has been written, and the same statements are prepared anew on the same connection: the next of the pool
        // may remember as much that is no longer so.
        again = false;
        let begun = connection.control("BEGIN", true).await;
        begun.map_err(|error| pool.server.away(error))?;
    }
}

/// A connection in a transaction. Nothing has been written when `BEGIN` fails, so one that turns out to be dead makes way
/// for the next.
async fn begin(pool: &ServerPool) -> Result<PostgresConnection, DbError> {
    let mut attempt = 0;
    loop {
        let mut connection = pool.acquire().await?;
        match connection.control("BEGIN", true).await {
            Err(error) if attempt < RETRIES && is_ended(&error) => attempt += 1,
            outcome => {
                return outcome
                    .map(|()| connection)
                    .map_err(|error| pool.server.away(error));
            }
        }
    }
}

/// What every session is told, and whether PostgreSQL must accept it.
fn session_limits(config: &PostgresConfig) -> Vec<(String, bool)> {
    let milliseconds = config.statement_timeout.to_std().as_millis();
    vec![
        (format!("SET statement_timeout = {milliseconds}"), true),
        // Not on every system; without it an abandoned statement runs until its timeout.
        (
            "SET client_connection_check_interval = '1s'".to_owned(),
            false,
        ),
    ]
}

/// Lets the statements of a session take as long as they do.
pub(super) async fn without_timeout(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection
        .execute("SET statement_timeout = 0")
        .await
        .map(drop)
}

async fn limit_session(
    connection: &mut PgConnection,
    limits: &[(String, bool)],
) -> Result<(), sqlx::Error> {
    for (statement, required) in limits {
        let set = connection
            .execute(sqlx::AssertSqlSafe(statement.clone()))
            .await;
        match set {
            Err(error) if *required => return Err(error),
            Err(error) => tracing::debug!(%error, statement, "PostgreSQL does not take a setting"),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// What a pool keeps, and what it asks of connections.
fn pool_options(config: &DatabaseConfig, sessions: &Sessions) -> PgPoolOptions {
    let postgres = config.effective_postgres();
    PgPoolOptions::new()
        .max_connections(match config.max_open_connections {
            0 => 100,
            limit => limit,
        })
        .acquire_timeout(ACQUIRE)
        .max_lifetime(
            (!config.conn_max_life_time.is_zero()).then(|| config.conn_max_life_time.to_std()),
        )
        .test_before_acquire(false)
        .before_acquire({
            // Under load nobody is asked.
            let trusted = postgres.trust_idle_for.to_std();
            let sessions = sessions.clone();
            move |connection, meta| {
                let current = sessions.is_current(meta.age);
                Box::pin(async move {
                    Ok(current && (meta.idle_for < trusted || connection.ping().await.is_ok()))
                })
            }
        })
        .after_connect({
            let limits = session_limits(&postgres);
            move |connection, _meta| {
                let limits = limits.clone();
                Box::pin(async move { limit_session(connection, &limits).await })
            }
        })
}

/// Where reads that may lag go, if that is not the primary.
fn replica_host(postgres: &PostgresConfig) -> Option<&str> {
    let host = postgres.read_replica_host.as_str();
    (!matches!(host, "" | "localhost") && host != postgres.host).then_some(host)
}

async fn postgres_options(
    config: &PostgresConfig,
    application: &str,
) -> Result<PgConnectOptions, DbError> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&config.host)
        .port(config.port)
        .username(&config.username)
        .database(&config.dbname)
        .application_name(application)
        .ssl_mode(PgSslMode::Disable);
    let password = if config.password_path.is_empty() {
        config.password.expose().to_owned()
    } else {
        let path = &config.password_path;
        let text = tokio::fs::read_to_string(path).await.map_err(|error| {
            DbError::Config(format!("database.postgres.passwordPath {path:?}: {error}"))
        })?;
        text.trim().to_owned()
    };
    if password.is_empty() {
        // Go ignores the options then (spec 01 §21.2).
        return Ok(options);
    }
    options = options.password(&password);
    for (index, option) in config.options.split_whitespace().enumerate() {
        // Values may be secret, and a value with a blank in it is cut in two.
        let invalid = |why: &str| {
            let number = index + 1;
            DbError::Config(format!(
                "database.postgres.options: the text number {number} of those between blanks {why}"
            ))
        };
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| invalid("is not key=value"))?;
        options = match key {
            "sslmode" => options.ssl_mode(value.parse().map_err(|_unknown| {
                invalid(
                    "has no mode of SSL (disable, allow, prefer, require, verify-ca, verify-full)",
                )
            })?),
            "sslrootcert" => options.ssl_root_cert(value),
            "sslcert" => options.ssl_client_cert(value),
            "sslkey" => options.ssl_client_key(value),
            "application_name" => options.application_name(value),
            // The reference puts the options behind its own settings, and the later one counts.
            "password" => options.password(value),
            key => options.options([(key, value)]),
        };
    }
    Ok(options)
}

/// `CREATE DATABASE` through database `postgres`; losing the race to another process is fine.
async fn create_database(options: &PgConnectOptions, name: &str) -> Result<(), sqlx::Error> {
    let mut connection: PgConnection = options.clone().database("postgres").connect().await?;
    let statement = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
    match sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
    {
        Ok(_) => {}
        // duplicate_database, or the unique violation that two simultaneous creations end in
        Err(sqlx::Error::Database(error))
            if matches!(error.code().as_deref(), Some("42P04" | "23505")) => {}
        Err(error) => return Err(error),
    }
    connection.close().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, Sources};

    /// Section `database` of a file.
    fn configured(text: &str) -> DatabaseConfig {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut config = Config::load(Sources {
            pattern: file.path().display().to_string(),
            ..Sources::default()
        })
        .unwrap();
        config.section("database")
    }

    #[tokio::test]
    async fn each_key_of_a_connection_is_heard() {
        for (text, expected) in [
            ("{}", ("localhost", 30001, "postgres", Some("postgres"))),
            (
                "database: {postgres: {host: h, port: 1, username: u, dbname: d}}",
                ("h", 1, "u", Some("d")),
            ),
            (
                "database: {host: h, port: 1, username: u, dbname: d}",
                ("h", 1, "u", Some("d")),
            ),
        ] {
            let postgres = configured(text).effective_postgres();
            let options = postgres_options(&postgres, "service").await.unwrap();
            let found = (
                options.get_host(),
                options.get_port(),
                options.get_username(),
                options.get_database(),
            );
            assert_eq!(found, expected, "{text}");
        }
        for text in [
            "database: {passwordPath: /nowhere}",
            "database: {postgres: {passwordPath: /nowhere}}",
        ] {
            let postgres = configured(text).effective_postgres();
            let error = postgres_options(&postgres, "service")
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains("/nowhere"), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn each_key_of_the_pools_is_heard() {
        for (text, connections, lifetime, replica) in [
            ("{}", 100, Some(3_600), None),
            (
                "database: {maxOpenConnections: 7, connMaxLifeTime: 60s}",
                7,
                Some(60),
                None,
            ),
            ("database: {connMaxLifeTime: 0s}", 100, None, None),
            (
                "database: {postgres: {readReplicaHost: r}}",
                100,
                Some(3_600),
                Some("r"),
            ),
            (
                "database: {postgres: {host: r, readReplicaHost: r}}",
                100,
                Some(3_600),
                None,
            ),
        ] {
            let config = configured(text);
            let postgres = config.effective_postgres();
            let options = pool_options(&config, &Sessions::new());
            assert_eq!(options.get_max_connections(), connections, "{text}");
            let lifetime = lifetime.map(Duration::from_secs);
            assert_eq!(options.get_max_lifetime(), lifetime, "{text}");
            assert_eq!(replica_host(&postgres), replica, "{text}");
        }
    }
}
