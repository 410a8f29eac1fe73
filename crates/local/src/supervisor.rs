//! The supervisor of one pod: a small process in a session of its own that starts the containers, waits for them and keeps
//! the record. It outlives the kubelet that started it.
//!
//! It is the one parent of the containers' processes, so it alone learns their exit codes. It holds a lock on the pod's
//! folder and runs nothing when there is a record already: an attempt runs once, however often it is started.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use flyte_platform::until;
use rustix::fs::FlockOperation;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::files::read_json;
use crate::kubelet::log_files;
use crate::kubelet::processes::{self, ProcessIdentity};
use crate::kubelet::record::{
    ContainerRecord, ContainerState, Health, Launch, Outcome, PodPaths, Record, Terminated,
};

mod cgroup;
mod container;
mod handler;
mod health;
mod keeping;
mod lifecycle;
mod limits;
mod log_writer;
mod memory;
mod probes;
mod stopping;

use container::{kills, message_from, message_in, read_end, start};
use health::HookEnd;
use lifecycle::Next;
use probes::{Probing, Report};
use stopping::Stopping;

/// The reason of a run that never began, such as that of a program that does not exist.
pub(crate) const CANNOT_RUN: &str = "ContainerCannotRun";

/// Runs as the supervisor of the pod whose folder is the one argument. Returns when the pod is over.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    match supervise(&PathBuf::from(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the pod's own file.
            match writeln!(io::stderr(), "the supervisor failed: {error}") {
                Ok(()) | Err(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn supervise(folder: &Path) -> io::Result<()> {
    // Out of the terminal's session: Ctrl-C is the kubelet's to decide on. It fails only for a group leader, which has a
    // group of its own already.
    match rustix::process::setsid() {
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    // Processes that a container leaves behind come to us, not to init.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let paths = PodPaths::of_pod_folder(folder)
        .ok_or_else(|| io::Error::other("not the folder of a pod"))?;
    let lock = File::create(paths.lock())?;
    // Another supervisor may have this pod: wait for its end, and run nothing after it has left a record.
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    if Record::read(&paths)?.is_some() {
        return Ok(());
    }
    let launch: Launch = read_json(&paths.launch())?
        .ok_or_else(|| io::Error::other("the pod has no launch.json"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(Supervisor::new(paths, launch)?.run())
}

/// Reports of probes that wait; more wait before they probe again.
const WAITING_REPORTS: usize = 64;
struct Supervisor {
    paths: PodPaths,
    launch: Launch,
    record: Record,
    /// When a container that waits starts again.
    restart_at: Vec<Option<Instant>>,
    /// When a container started last.
    started_at: Vec<Option<Instant>>,
    /// When sidecars are looked at again that have to end and cannot hear it yet.
    look_at: Option<Instant>,
    running: JoinSet<(usize, Terminated)>,
    /// The probes of containers that run, and what they report.
    probing: JoinSet<()>,
    probes: Vec<Option<AbortHandle>>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// `preStop` hooks that run.
    hooks: JoinSet<HookEnd>,
    /// When containers that are ended for a failed probe or hook are killed.
    kill_one_at: Vec<Option<Instant>>,
    stopping: Option<Stopping>,
    deadline: Option<Instant>,
    /// When the lengths of logs are checked next.
    trim_logs_at: Instant,
    /// When the memory of containers with a limit is read next.
    read_memory_at: Instant,
    /// When the processes of containers with a limit are looked for next.
    find_members_at: Instant,
    /// One per container.
    meters: Vec<memory::Meter>,
    /// For each container that was killed over its memory limit, the message of its termination.
    over_limit: Vec<Option<String>>,
    /// When the record is written again, if it could not be.
    rewrite_at: Option<Instant>,
    /// An end of a container is on no record before the end of the pod is: see [`Supervisor::withholds`].
    withheld: bool,
    /// The folder of records is gone, and with it everybody who might ask for this one.
    abandoned: bool,
}

impl Supervisor {
    fn new(paths: PodPaths, launch: Launch) -> io::Result<Self> {
        let containers = launch.containers.iter().map(|container| ContainerRecord {
            name: container.name.clone(),
            role: container.role,
            state: ContainerState::Waiting {
                reason: "ContainerCreating".to_owned(),
                message: String::new(),
            },
            last: None,
            restarts: 0,
            health: Health::default(),
        });
        let record = Record {
            supervisor: ProcessIdentity::of_this_process()?,
            containers: containers.collect(),
            outcome: Outcome::Running,
        };
        let deadline = launch.deadline.map(|at| {
            let left = at.saturating_sub(jiff::Timestamp::now().as_second());
            Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0))
        });
        let restart_at = vec![None; launch.containers.len()];
        let over_limit = vec![None; launch.containers.len()];
        let meters = launch.containers.iter().map(|_| memory::Meter::default());
        let meters = meters.collect();
        let kill_one_at = vec![None; launch.containers.len()];
        let probes = launch.containers.iter().map(|_| None).collect();
        Ok(Self {
            paths,
            launch,
            record,
            started_at: restart_at.clone(),
            restart_at,
            look_at: None,
            running: JoinSet::new(),
            probing: JoinSet::new(),
            probes,
            reports: mpsc::channel(WAITING_REPORTS),
            hooks: JoinSet::new(),
            kill_one_at,
            stopping: None,
            deadline,
            trim_logs_at: Instant::now() + log_files::CHECK_INTERVAL,
            read_memory_at: Instant::now() + memory::INTERVAL,
            find_members_at: Instant::now(),
            meters,
            over_limit,
            rewrite_at: None,
            withheld: false,
            abandoned: false,
        })
    }

    async fn run(mut self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        // The others must not end the supervisor before its containers.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        // Nothing starts before it is on record: else a second supervisor might start it again.
        self.write_at_last().await;
        while !self.abandoned && !self.advance() {
            let restart = self.restart_at.iter().flatten().min().copied();
            let kill = self
                .stopping
                .as_ref()
                .filter(|stopping| !stopping.killed)
                .map(|stopping| stopping.kill_at);
            let read_memory = self.limited().next().map(|_| self.read_memory_at);
            let kill_one = self.kill_one_at.iter().flatten().min().copied();
            tokio::select! {
                Some(ended) = self.running.join_next() => {
                    let (index, ended) = ended.map_err(io::Error::other)?;
                    self.ended(index, ended);
                }
                Some(report) = self.reports.1.recv() => self.note_report(report),
                Some(_) = self.probing.join_next() => {}
                Some(hook) = self.hooks.join_next() => {
                    self.hook_ended(hook.map_err(io::Error::other)?);
                }
                () = until(kill_one) => self.kill_due(),
                _ = terminate.recv() => self.stop_requested(),
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
                () = until(restart) => {}
                () = until(self.look_at) => self.look_at = None,
                () = until(read_memory) => self.enforce_memory_limits(),
                () = tokio::time::sleep_until(self.trim_logs_at) => self.trim_logs(),
                () = until(self.rewrite_at) => self.write(),
                () = until(kill) => {
                    if let Some(stopping) = &mut self.stopping {
                        stopping.killed = true;
                    }
                    self.signal_all(Signal::KILL);
                }
                () = until(self.deadline.filter(|_| self.stopping.is_none())) => {
                    let message = "Pod was active on the node longer than the specified deadline";
                    self.stop(self.launch.grace_seconds, Some(("DeadlineExceeded".to_owned(), message.to_owned())));
                }
            }
        }
        // What containers left behind, outside their groups too, ends before anybody hears that the pod is over.
        processes::end_descendants().await;
        for (folder, _) in self
            .launch
            .containers
            .iter()
            .filter_map(|launch| launch.cgroup.as_ref())
        {
            cgroup::remove(folder);
        }
        if !self.abandoned {
            let reason = self.stopping.take().and_then(|stopping| stopping.reason);
            self.record.outcome = lifecycle::end(&mut self.record.containers, reason);
            self.write_at_last().await;
        }
        Ok(())
    }

    /// Starts what is due and says whether the pod is over.
    fn advance(&mut self) -> bool {
        loop {
            if self.stopping.is_some() {
                return !self.any_running();
            }
            match lifecycle::next(&self.record.containers, |index| self.is_due(index)) {
                Next::Start(index) => self.start_container(index),
                Next::Stop => {
                    self.look_at = self.sidecars_begin();
                    if self.look_at.is_some() {
                        return false;
                    }
                    self.stop(self.launch.grace_seconds, None);
                }
                Next::Wait => return false,
                Next::Over => return true,
            }
        }
    }

    /// Whether a container that waits does not wait for its next restart.
    fn is_due(&self, index: usize) -> bool {
        let at = self.restart_at.get(index).copied();
        at.is_some_and(|at| at.is_none_or(|at| at <= Instant::now()))
    }

    fn any_running(&self) -> bool {
        self.record
            .containers
            .iter()
            .any(|container| matches!(container.state, ContainerState::Running { .. }))
    }

    /// Cuts the logs of running containers that have become too long.
    fn trim_logs(&mut self) {
        self.trim_logs_at = Instant::now() + log_files::CHECK_INTERVAL;
        for container in &self.record.containers {
            if matches!(container.state, ContainerState::Running { .. })
                && let Err(error) =
                    log_files::bound(&self.paths.log(&container.name, container.restarts))
            {
                // Standard error is the pod's own file.
                drop(writeln!(io::stderr(), "a log cannot be cut: {error}"));
            }
        }
    }

    /// Starts a container that waits. One that cannot be started has ended.
    fn start_container(&mut self, index: usize) {
        let (Some(launch), Some(record)) = (
            self.launch.containers.get(index),
            self.record.containers.get_mut(index),
        ) else {
            return;
        };
        if let Some(at) = self.restart_at.get_mut(index) {
            *at = None;
        }
        let log = self.paths.log(&launch.name, record.restarts);
        let kills_before = kills(launch);
        match start(launch, &log, self.paths.uid()) {
            Ok(started) => {
                let started_at = now();
                if let Some(at) = self.started_at.get_mut(index) {
                    *at = Some(Instant::now());
                }
                record.state = ContainerState::Running {
                    process: started.process.clone(),
                    started_at: started_at.clone(),
                };
                let launch = Arc::new(launch.clone());
                record.health = Health {
                    started: !launch.is_probed(),
                    ready: !launch.is_probed(),
                    ..record.health.clone()
                };
                if launch.is_probed() {
                    let probing = Probing {
                        launch: launch.clone(),
                        uid: self.paths.uid().to_owned(),
                        index,
                        run: record.restarts,
                        reports: self.reports.0.clone(),
                    };
                    let handle = self.probing.spawn(probing.run());
                    if let Some(slot) = self.probes.get_mut(index) {
                        *slot = Some(handle);
                    }
                }
                self.running.spawn(async move {
                    let status = started.ended().await;
                    (
                        index,
                        read_end(&launch, &log, &status, started_at, kills_before),
                    )
                });
                self.write();
            }
            Err(refused) => {
                let ended = Terminated {
                    exit_code: refused.exit_code,
                    signal: None,
                    reason: CANNOT_RUN.to_owned(),
                    message: refused.message,
                    started_at: now(),
                    finished_at: now(),
                };
                self.ended(index, ended);
            }
        }
    }

    fn ended(&mut self, index: usize, mut ended: Terminated) {
        if let Some(probing) = self.probes.get_mut(index).and_then(Option::take) {
            probing.abort();
        }
        if let Some(at) = self.kill_one_at.get_mut(index) {
            *at = None;
        }
        let stopping = self.stopping.is_some();
        let policy = self.launch.restart_policy;
        let (Some(launch), Some(record)) = (
            self.launch.containers.get(index),
            self.record.containers.get_mut(index),
        ) else {
            return;
        };
        if let Some(why) = self.over_limit.get_mut(index).and_then(Option::take) {
            "OOMKilled".clone_into(&mut ended.reason);
            ended.message = why;
        }
        if let (Some(file), true) = (&launch.message_file, ended.message.is_empty()) {
            ended.message = message_in(file);
        }
        if launch.message_from_log && ended.exit_code != 0 && ended.message.is_empty() {
            ended.message = message_from(&self.paths.log(&launch.name, record.restarts));
        }
        let restart = !stopping && lifecycle::restarts(record.role, policy, ended.exit_code);
        if restart {
            let wait = lifecycle::back_off(record.restarts);
            record.restarts += 1;
            record.last = Some(ended);
            let message = format!(
                "back-off {} s restarting failed container={}",
                wait.as_secs(),
                record.name
            );
            record.state = ContainerState::Waiting {
                reason: "CrashLoopBackOff".to_owned(),
                message,
            };
            if let Some(at) = self.restart_at.get_mut(index) {
                *at = Some(Instant::now() + wait);
            }
        } else {
            record.state = ContainerState::Terminated(ended);
        }
        self.withheld |= self.withholds();
        self.write();
    }
}

pub(crate) fn now() -> String {
    crate::cluster::time_text(jiff::Timestamp::now())
}
