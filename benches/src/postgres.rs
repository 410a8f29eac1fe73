//! A PostgreSQL of this run alone, where Debian's package is installed.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use flyte_platform::sql::DatabaseConfig;

/// Longer than this and it does not start any more.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A server with the settings that the package ships: what it acknowledges is on disk.
pub(crate) struct Postgres {
    server: Child,
    port: u16,
}

impl Postgres {
    /// Starts one in `folder`, which is made; none where PostgreSQL is not installed.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Option<Self>> {
        let Some(programs) = programs() else {
            return Ok(None);
        };
        std::fs::create_dir_all(folder)?;
        if rustix::process::geteuid().is_root() {
            let owner = Command::new("chown")
                .arg("postgres:postgres")
                .arg(folder)
                .status()?;
            anyhow::ensure!(owner.success(), "chown of {} failed", folder.display());
        }
        let text = folder.display().to_string();
        let made = command(&programs.join("initdb"))
            .args([
                "-D",
                &text,
                "-U",
                "postgres",
                "--auth=trust",
                "-E",
                "UTF8",
                "--locale=C",
            ])
            .status()?;
        anyhow::ensure!(made.success(), "initdb in {text} failed");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let server = command(&programs.join("postgres"))
            .args(["-D", &text, "-k", &text, "-p", &port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .spawn()
            .context("postgres cannot be started")?;
        let started = Self { server, port };
        let deadline = Instant::now() + READY_WITHIN;
        while !command(&programs.join("pg_isready"))
            .args(["-h", "127.0.0.1", "-p", &port.to_string()])
            .status()?
            .success()
        {
            anyhow::ensure!(
                Instant::now() < deadline,
                "PostgreSQL is not ready within {READY_WITHIN:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Some(started))
    }

    /// A database of it, made when it is opened.
    pub(crate) fn database(&self, name: &str) -> DatabaseConfig {
        let mut config = DatabaseConfig::default();
        "127.0.0.1".clone_into(&mut config.postgres.host);
        config.postgres.port = self.port;
        name.clone_into(&mut config.postgres.dbname);
        config
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

/// A program of PostgreSQL, as user postgres if this is root, which ends with this process.
fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command
        .arg(program)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
