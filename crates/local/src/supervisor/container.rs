//! Starting one container as a process, and reading how it ended.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::Signal;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::kubelet::processes::{POD_VARIABLE, ProcessIdentity};
use crate::kubelet::record::{ContainerLaunch, Mount, Terminated};
use crate::supervisor::cgroup;
use crate::supervisor::log_writer::LogWriter;

/// A container that runs.
pub(crate) struct Started {
    child: Child,
    pub(crate) process: ProcessIdentity,
    output: pipe::Receiver,
    log: LogWriter,
}

impl Started {
    /// Waits for the end of the container and writes its log until then. What its main process left behind in its group
    /// ends with it, as in a container.
    pub(crate) async fn ended(mut self) -> io::Result<ExitStatus> {
        let mut open = true;
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                more = self.log.copy(&self.output), if open => open = more,
            }
        };
        self.process.signal_group(Signal::KILL);
        self.log.drain(&self.output);
        status
    }
}

/// A container that could not be started.
#[derive(Debug)]
pub(crate) struct StartFailure {
    pub(crate) exit_code: i32,
    pub(crate) message: String,
}

/// Starts a container of pod `uid` in a process group of its own, its output going to `log`.
pub(crate) fn start(
    launch: &ContainerLaunch,
    log: &Path,
    uid: &str,
) -> Result<Started, StartFailure> {
    let failed = |what: &str, error: &io::Error| StartFailure {
        exit_code: 128,
        message: format!("{what}: {error}"),
    };
    let unwritable = |error: &io::Error| {
        failed(
            &format!("the log {} cannot be written", log.display()),
            error,
        )
    };
    let log = LogWriter::create(log).map_err(|error| unwritable(&error))?;
    let (input, output) = pipe::pipe().map_err(|error| unwritable(&error))?;
    let input = input
        .into_blocking_fd()
        .map_err(|error| unwritable(&error))?;
    let second = input.try_clone().map_err(|error| unwritable(&error))?;
    if let Some(file) = &launch.message_file {
        // What the run before wrote is not what this one says.
        fs::write(file, "").map_err(|error| unwritable(&error))?;
    }
    let (program, arguments) = command_line(launch);
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env_clear()
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .env(POD_VARIABLE, uid)
        .current_dir(&launch.working_directory)
        .stdin(Stdio::null())
        .stdout(input)
        .stderr(second)
        .process_group(0);
    let child = command
        .spawn()
        .map_err(|error| cannot_run(&program, launch, &error))?;
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .unwrap_or(0);
    let process = ProcessIdentity::of(pid)
        .map_err(|error| failed("the process cannot be identified", &error))?;
    Ok(Started {
        child,
        process,
        output,
        log,
    })
}

fn cannot_run(program: &str, launch: &ContainerLaunch, error: &io::Error) -> StartFailure {
    let folder = launch.working_directory.display();
    let (exit_code, message) = match error.kind() {
        _ if !launch.working_directory.is_dir() => (
            128,
            format!(
                "the working directory {folder} of container {:?} does not exist",
                launch.name
            ),
        ),
        io::ErrorKind::NotFound => (
            127,
            format!(
                "the program {program:?} of container {:?} does not exist on this machine: pods run here as processes, \
                 without their image; install it, or give the Python environment that has it",
                launch.name
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            126,
            format!(
                "the program {program:?} of container {:?} may not be executed: check its mode",
                launch.name
            ),
        ),
        _ => (
            128,
            format!(
                "the program {program:?} of container {:?} cannot be started: {error}",
                launch.name
            ),
        ),
    };
    StartFailure { exit_code, message }
}

/// The program and its arguments; with mounts or a cgroup, a shell sets those up first and becomes the program.
pub(super) fn command_line(launch: &ContainerLaunch) -> (String, Vec<String>) {
    let mut command = launch.command.iter().cloned();
    if launch.mounts.is_empty() && launch.cgroup.is_none() {
        let program = command.next().unwrap_or_default();
        return (program, command.collect());
    }
    let mut script = String::from("set -e\n");
    if let Some((folder, limit)) = &launch.cgroup
        && cgroup::make(folder, *limit).is_ok()
    {
        // Without the cgroup the supervisor checks the memory itself.
        script.push_str(&format!(
            "echo $$ > {} || :\n",
            quoted(&folder.join("cgroup.procs"))
        ));
    }
    for Mount {
        from,
        at,
        read_only,
    } in &launch.mounts
    {
        let options = read_only.then(|| read_only_options(from));
        let (from, at) = (quoted(from), quoted(at));
        script.push_str(&format!(
            "if [ -d {from} ]; then mkdir -p {at}; elif ! [ -e {at} ]; then mkdir -p \"$(dirname {at})\"; : > {at}; fi\n\
             mount --bind {from} {at}\n"
        ));
        if let Some(options) = options {
            script.push_str(&format!("mount -o {options} {at}\n"));
        }
    }
    script.push_str("set +e\nexec \"$@\"\n");
    let shell = ["/bin/sh", "-c", &script, "sh"]
        .map(str::to_owned)
        .into_iter()
        .chain(command);
    if launch.mounts.is_empty() {
        let mut shell = shell;
        let program = shell.next().unwrap_or_default();
        return (program, shell.collect());
    }
    let mut namespace = launch.mount_with.iter().cloned().chain(shell);
    let program = namespace.next().unwrap_or_default();
    (program, namespace.collect())
}

/// The options that make a bind mount read-only. Those of the file system stay: who is root in a user namespace alone may not
/// take them away.
fn read_only_options(from: &Path) -> String {
    use rustix::fs::StatVfsMountFlags as Flags;
    let flags = rustix::fs::statvfs(from).map_or(Flags::empty(), |found| found.f_flag);
    let kept = [
        (Flags::NOSUID, "nosuid"),
        (Flags::NODEV, "nodev"),
        (Flags::NOEXEC, "noexec"),
        (Flags::NOATIME, "noatime"),
        (Flags::NODIRATIME, "nodiratime"),
        (Flags::RELATIME, "relatime"),
    ];
    let kept = kept
        .iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, name)| *name);
    ["remount", "bind", "ro"]
        .into_iter()
        .chain(kept)
        .collect::<Vec<_>>()
        .join(",")
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// How a container ended; `kills_before` is what [`kills`] said when it began.
pub(crate) fn read_end(
    launch: &ContainerLaunch,
    log: &Path,
    status: &io::Result<ExitStatus>,
    started_at: String,
    kills_before: u64,
) -> Terminated {
    const SIGNALLED: i32 = 128;
    let (exit_code, signal) = match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => (code, None),
            (None, Some(signal)) => (SIGNALLED + signal, Some(signal)),
            (None, None) => (255, None),
        },
        Err(error) => {
            tracing::warn!(%error, log = %log.display(), "the end of a process cannot be read");
            (255, None)
        }
    };
    let reason = match exit_code {
        0 => "Completed",
        _ if kills(launch) > kills_before => "OOMKilled",
        _ => "Error",
    };
    Terminated {
        exit_code,
        signal,
        reason: reason.to_owned(),
        message: String::new(),
        started_at,
        finished_at: crate::supervisor::now(),
    }
}

/// How many processes of a container the kernel has killed for its memory limit, in all its runs.
pub(super) fn kills(launch: &ContainerLaunch) -> u64 {
    let folder = launch.cgroup.as_ref().map(|(folder, _)| folder);
    folder.map_or(0, |folder| cgroup::kills(folder))
}

/// What a container wrote at its `terminationMessagePath`: at most 4096 bytes, as a kubelet takes.
pub(crate) fn message_in(file: &Path) -> String {
    const BYTES: u64 = 4096;
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(BYTES).read_to_end(&mut bytes));
    // Removed or replaced by the container: then it says nothing.
    drop(read);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of a log as a termination message: at most 80 lines and 2048 bytes, as a kubelet takes.
pub(crate) fn message_from(log: &Path) -> String {
    const BYTES: u64 = 2048;
    const LINES: usize = 80;
    let tail = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut tail = Vec::new();
        file.take(BYTES).read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = tail().unwrap_or_default();
    // A character that the limit cut through is left out.
    let start = tail
        .iter()
        .position(|byte| byte & 0b1100_0000 != 0b1000_0000)
        .unwrap_or(tail.len());
    let text = String::from_utf8_lossy(tail.get(start..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines
        .get(lines.len().saturating_sub(LINES)..)
        .unwrap_or_default()
        .concat()
}
