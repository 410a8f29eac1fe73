//! PostgreSQL servers for tests and benches: Debian's package, started in a folder on a free port.
//!
//! A server refuses to run as root, so then it runs as user `postgres` (`setpriv`, util-linux). It ends with the thread
//! that started it, however that ends.

mod both;

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use flyte_platform::sql::DatabaseConfig;

pub use both::Store;

/// Longer than this and it does not start any more.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two looks whether it accepts connections; it tells nobody.
const LOOK: Duration = Duration::from_millis(20);
/// The names of the folders of [`database`], before the process id.
const FOLDER: &str = "flyte-tests-postgres-";

/// What a server owes to those whose transactions it has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// They are on disk, as with the settings that the package ships.
    Disk,
    /// Nothing: the server ends with its data.
    None,
}

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    server: Child,
    port: u16,
}

impl Postgres {
    /// Starts one in `folder`, which is made; one that is there already is started with what it has.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start within half a minute.
    pub fn start(folder: &Path, durability: Durability) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        if rustix::process::geteuid().is_root() {
            succeed(Command::new("chown").arg("postgres:postgres").arg(folder))?;
        }
        let path = folder.display().to_string();
        if !folder.join("PG_VERSION").exists() {
            succeed(
                program("initdb")?
                    .args(["-D", &path, "-U", "postgres", "--auth=trust"])
                    .args(["-E", "UTF8", "--locale=C"]),
            )?;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let number = port.to_string();
        let mut server = program("postgres")?;
        server
            .args(["-D", &path, "-k", &path, "-p", &number])
            .args(["-c", "listen_addresses=127.0.0.1"]);
        if durability == Durability::None {
            server.args(["-c", "fsync=off", "-c", "max_connections=400"]);
        }
        let started = Self {
            server: server.spawn()?,
            port,
        };
        let deadline = Instant::now() + READY_WITHIN;
        while !program("pg_isready")?
            .args(["-h", "127.0.0.1", "-p", &number])
            .status()?
            .success()
        {
            if Instant::now() >= deadline {
                return Err(io::Error::other(format!(
                    "PostgreSQL in {path} is not ready within {READY_WITHIN:?}"
                )));
            }
            std::thread::sleep(LOOK);
        }
        Ok(started)
    }

    /// Whether there is a PostgreSQL to start.
    pub fn is_installed() -> bool {
        programs().is_some()
    }

    /// A database of it; it is made when it is opened.
    pub fn database(&self, name: &str) -> DatabaseConfig {
        database_at(self.port, name)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT is its fast shutdown; it has nothing worth keeping.
        if let Some(pid) = i32::try_from(self.server.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap_or_default();
        }
        drop(self.server.wait());
    }
}

/// A database that nobody else uses, on one server for the whole process, which is started when it is first asked for;
/// it is made when it is opened.
#[expect(
    clippy::expect_used,
    reason = "a test that has no database fails and says why"
)]
pub fn database() -> DatabaseConfig {
    static PORT: OnceLock<u16> = OnceLock::new();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let port = *PORT.get_or_init(|| {
        let (started, port) = mpsc::sync_channel(1);
        // A thread that never ends but with the process, because the server ends with it.
        std::thread::spawn(move || {
            let server = Postgres::start(&own_folder(), Durability::None);
            let told = started.send(
                server
                    .as_ref()
                    .map(|server| server.port)
                    .map_err(io::Error::to_string),
            );
            if told.is_ok() && server.is_ok() {
                loop {
                    std::thread::park();
                }
            }
        });
        port.recv()
            .expect("the thread tells")
            .expect("PostgreSQL starts; `make test` installs it")
    });
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    DatabaseConfig {
        max_open_connections: 8,
        ..database_at(port, &format!("Flyte test {number}"))
    }
}

fn database_at(port: u16, name: &str) -> DatabaseConfig {
    let mut config = DatabaseConfig::default();
    "127.0.0.1".clone_into(&mut config.postgres.host);
    config.postgres.port = port;
    name.clone_into(&mut config.postgres.dbname);
    config
}

/// The folder of this process; what earlier processes left is removed.
fn own_folder() -> PathBuf {
    let base = std::env::temp_dir();
    for entry in std::fs::read_dir(&base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(process) = name.strip_prefix(FOLDER)
            && !Path::new("/proc").join(process).exists()
        {
            // Another process may be removing it at the same time.
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    base.join(format!("{FOLDER}{}", std::process::id()))
}

/// Debian keeps the programs outside the path, in a folder per version; the newest.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|path| path.join("postgres").exists())
        .collect();
    versions.sort();
    versions.pop()
}

/// A program of PostgreSQL, as user postgres if this is root, which ends with the thread that starts it.
fn program(name: &str) -> io::Result<Command> {
    let programs =
        programs().ok_or_else(|| io::Error::other("package postgresql is not installed"))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command
        .arg(programs.join(name))
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

fn succeed(command: &mut Command) -> io::Result<()> {
    let ended = command.status()?;
    if ended.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{command:?} failed: {ended}")))
    }
}
