//! Processes of earlier lives: told apart by pid, start time and boot, watched by pidfd, ended by group.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// A process for good: pids are used again, but not with the same start time in the same boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub(crate) start_time: u64,
    pub(crate) boot: String,
}

impl Identity {
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
        let own = Identity::of_this_process().unwrap();
        assert!(own.is_alive());
        let other = Identity {
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
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        identity.signal(Signal::KILL);
        identity.ended().await.unwrap();
        child.wait().unwrap();
        assert!(!identity.is_alive());
        identity.ended().await.unwrap();
    }
}
