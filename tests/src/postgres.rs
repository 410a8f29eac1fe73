//! A PostgreSQL of this process alone.
//!
//! It is Debian's package, started in a temporary folder on a free port when it is first asked for, and it ends with
//! the process. It refuses to run as root, so then it runs as user `postgres` (`setpriv`, util-linux).

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use flyte_platform::sql::DatabaseConfig;

/// Longer than this and it does not start any more.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The folders' names before the process id.
const FOLDER: &str = "flyte-tests-postgres-";

/// A database that nobody else uses; it is made when it is opened.
pub fn database() -> DatabaseConfig {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut config = DatabaseConfig::default();
    "127.0.0.1".clone_into(&mut config.postgres.host);
    config.postgres.port = port();
    config.postgres.dbname = format!("Flyte test {number}");
    config.max_open_connections = 8;
    config
}

fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let folder = folder();
        let path = folder.display().to_string();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port is free")
            .port()
            .to_string();
        let made = command("initdb")
            .args(["-D", &path, "-U", "postgres", "--auth=trust"])
            .args(["-E", "UTF8", "--locale=C"])
            .status();
        assert!(made.is_ok_and(|made| made.success()), "initdb in {path}");
        let mut server = command("postgres");
        server
            .args(["-D", &path, "-k", &path, "-p", &port])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "fsync=off", "-c", "max_connections=400"]);
        // The server dies with the thread that started it: one that never ends but with the process.
        std::thread::spawn(move || {
            let ended = server.spawn().and_then(|mut server| server.wait());
            panic!("PostgreSQL ended: {ended:?}");
        });
        let deadline = Instant::now() + READY_WITHIN;
        let accepts = || {
            let ready = command("pg_isready")
                .args(["-h", "127.0.0.1", "-p", &port])
                .status();
            ready.is_ok_and(|ready| ready.success())
        };
        while !accepts() {
            assert!(Instant::now() < deadline, "PostgreSQL did not start");
        }
        port.parse().expect("a port is a number")
    })
}

/// A folder that user postgres may write to; what earlier processes left is removed.
fn folder() -> PathBuf {
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
    let folder = base.join(format!("{FOLDER}{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    if rustix::process::geteuid().is_root() {
        let owned = Command::new("chown")
            .arg("postgres:postgres")
            .arg(&folder)
            .status();
        assert!(owned.is_ok_and(|owned| owned.success()), "chown");
    }
    folder
}

/// A PostgreSQL program, as user postgres if this is root, that ends with the thread that starts it.
fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command
        .arg(programs().join(program))
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Debian keeps the server outside the path, in a folder per version.
fn programs() -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("package postgresql is installed")
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|path| path.join("postgres").exists())
        .collect();
    versions.sort();
    versions.pop().expect("package postgresql is installed")
}
