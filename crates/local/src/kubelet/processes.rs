//! Processes of earlier lives: identified by pid, start time and boot, watched by pidfd, ended by group, by descent and by
//! the pod that their environment names.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// A process, identified for good: pids are used again, but not with the same start time in the same boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    pub(crate) pid: i32,
    /// Clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub(crate) start_time: u64,
    pub(crate) boot: String,
}

impl ProcessIdentity {
    /// The identity of a process that is alive or not yet waited for.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may contain anything.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let start_time = after_name
            .split_whitespace()
            .nth(19)
            .and_then(|field| field.parse().ok());
        let start_time = start_time
            .ok_or_else(|| io::Error::other("the start time of the process is unreadable"))?;
        Ok(Self {
            pid,
            start_time,
            boot: boot()?,
        })
    }

    pub(crate) fn of_this_process() -> io::Result<Self> {
        Self::of(i32::try_from(std::process::id()).map_err(io::Error::other)?)
    }

    /// Whether the process still runs; a zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        let zombie = || {
            fs::read_to_string(format!("/proc/{}/stat", self.pid))
                .ok()
                .and_then(|stat| {
                    stat.rsplit_once(')')
                        .map(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
                })
                .unwrap_or(true)
        };
        Self::of(self.pid).is_ok_and(|found| found == *self) && !zombie()
    }

    /// Signals the process if it is still the same.
    pub(crate) fn signal(&self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_alive(), Pid::from_raw(self.pid)) {
            ignore_gone(rustix::process::kill_process(pid, signal));
        }
    }

    /// Signals its process group if the process itself still runs or its group was surely not given to another.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid)
            && boot().is_ok_and(|boot| boot == self.boot)
            && Self::of(self.pid).map_or(true, |found| found == *self)
        {
            ignore_gone(rustix::process::kill_process_group(pid, signal));
        }
    }

    /// Returns when the process has ended.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        let handle = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Opened first, compared second: from here on the handle cannot mean another process.
        if !self.is_alive() {
            return Ok(());
        }
        crate::inotify::readable(handle)?
            .readable()
            .await?
            .retain_ready();
        Ok(())
    }
}

/// The variable with the uid of the pod that a process belongs to: what left its group and lost its parents is found by it.
pub(crate) const POD_VARIABLE: &str = "FLYTE_LOCAL_POD_UID";

/// A process that runs: neither a zombie nor dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    parent: i32,
    pub(crate) group: i32,
}

/// All processes that run now and that this user may see.
pub(crate) fn running() -> Vec<Running> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (_, after_name) = stat.rsplit_once(')')?;
            let mut fields = after_name.split_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            (!state.starts_with(['Z', 'X'])).then_some(Running { pid, parent, group })
        })
        .collect()
}

/// The pids of all that descend from `ancestors`, without these.
pub(crate) fn descendants(
    processes: &[Running],
    ancestors: impl IntoIterator<Item = i32>,
) -> BTreeSet<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in processes {
        children
            .entry(process.parent)
            .or_default()
            .push(process.pid);
    }
    let mut found = BTreeSet::new();
    let mut open: Vec<i32> = ancestors.into_iter().collect();
    while let Some(pid) = open.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if found.insert(*child) {
                open.push(*child);
            }
        }
    }
    found
}

/// The pids of the processes whose environment names the pod, and of their descendants.
fn of_pod(uid: &str) -> BTreeSet<i32> {
    let mark = format!("{POD_VARIABLE}={uid}");
    let names_pod = |process: &Running| {
        let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes())
    };
    let processes = running();
    let mut found: BTreeSet<i32> = processes
        .iter()
        .filter(|process| names_pod(process))
        .map(|process| process.pid)
        .collect();
    found.extend(descendants(&processes, found.iter().copied()));
    found
}

/// How long processes may take to die once they are killed; one that waits for a device takes its time.
const DYING: Duration = Duration::from_secs(10);
/// Between checks of processes that were killed: the kernel reports the end of one, not that of all.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// What is known of processes that were killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Killed {
    AllGone,
    /// Some may die yet.
    Dying,
}

/// Kills what is found, but this process.
pub(crate) fn kill(found: &BTreeSet<i32>) -> Killed {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut left = found.iter().filter(|pid| **pid != own).peekable();
    if left.peek().is_none() {
        return Killed::AllGone;
    }
    for pid in left {
        if let Ok(process) = ProcessIdentity::of(*pid) {
            process.signal(Signal::KILL);
        }
    }
    Killed::Dying
}

/// Kills what `find` finds until it finds nothing: the dying may have started others. Blocks. Says whether all are gone.
fn kill_all(find: impl Fn() -> BTreeSet<i32>) -> bool {
    let limit = Instant::now() + DYING;
    while kill(&find()) == Killed::Dying {
        if Instant::now() >= limit {
            return false;
        }
        std::thread::sleep(CHECK_INTERVAL);
    }
    true
}

/// Ends what this process started and what was left to it, directly or not.
pub(crate) async fn end_descendants() {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let limit = Instant::now() + DYING;
    while kill(&descendants(&running(), [own])) == Killed::Dying && Instant::now() < limit {
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Ends everything that runs of a pod, its supervisor last. Blocks until all of it is gone.
pub(crate) fn end_pod(uid: &str, supervisor: Option<&ProcessIdentity>) {
    if let Some(supervisor) = supervisor.filter(|supervisor| supervisor.is_alive()) {
        // Stopped, it starts nothing more, and still is the parent of what others left behind.
        supervisor.signal(Signal::STOP);
        kill_all(|| descendants(&running(), [supervisor.pid]));
        supervisor.signal(Signal::KILL);
    }
    if !kill_all(|| of_pod(uid)) {
        tracing::warn!(pod = uid, "processes of a pod do not die");
    }
}

fn ignore_gone(result: rustix::io::Result<()>) {
    if let Err(error) = result
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(%error, "a process cannot be signalled");
    }
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_time_is_another_process() {
        let own = ProcessIdentity::of_this_process().unwrap();
        assert!(own.is_alive());
        let other = ProcessIdentity {
            start_time: own.start_time + 1,
            ..own
        };
        assert!(!other.is_alive());
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let identity = ProcessIdentity::of(i32::try_from(child.id()).unwrap()).unwrap();
        identity.signal(Signal::KILL);
        identity.ended().await.unwrap();
        child.wait().unwrap();
        assert!(!identity.is_alive());
        identity.ended().await.unwrap();
    }
}
