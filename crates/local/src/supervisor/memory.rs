//! Memory limits where no cgroup enforces them: what the processes of a container hold is read now and then. The kernel
//! tells nobody that a process grew, so that this is the one thing here that is polled. Every pod pays for it, so the
//! cheap question is asked often and the expensive ones rarely ([`Meter`]).

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use crate::kubelet::processes::{Running, descendants};

/// Between two readings: an allocation of 10 GB takes about a second.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);
/// Which processes belong to a container is found by reading all of the machine, so new ones are noticed this late.
pub(super) const MEMBERS_INTERVAL: Duration = Duration::from_secs(1);
/// What processes hold alone and what they share is known from a walk through their page tables, during which they cannot
/// map memory; without cause it is repeated this rarely.
const SHARES_INTERVAL: Duration = Duration::from_secs(2);

/// The processes of a container: its group, and what descends from it. Of the one container that runs, also what was left to
/// the supervisor `own`.
pub(super) fn of_container(
    processes: &[Running],
    container: i32,
    own: Option<i32>,
) -> BTreeSet<i32> {
    let mut found = descendants(processes, [container].into_iter().chain(own));
    let group = processes
        .iter()
        .filter(|process| process.group == container);
    found.extend(group.map(|process| process.pid));
    found
}

/// Reads what the processes of one container hold.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The processes, by pid.
    pub(super) members: BTreeSet<i32>,
    last: Option<Shares>,
}

/// A walk through page tables, and what was resident then.
#[derive(Clone, Copy, Debug)]
struct Shares {
    at: Instant,
    resident: u64,
    held: u64,
}

impl Meter {
    /// The bytes that the processes hold, if that is more than `limit`. Pages that several share count once, files that
    /// are mapped do not: the kernel takes those back.
    pub(super) fn beyond(&mut self, limit: u64, now: Instant) -> Option<u64> {
        let sum = |held: fn(i32) -> u64| self.members.iter().map(|pid| held(*pid)).sum::<u64>();
        // Never much less than what is held.
        let resident = sum(resident);
        let needless = self.last.is_some_and(|last| {
            now < last.at + SHARES_INTERVAL
                && last.held + resident.saturating_sub(last.resident) <= limit
        });
        if resident <= limit || needless {
            return None;
        }
        let held = sum(proportional);
        self.last = Some(Shares {
            at: now,
            resident,
            held,
        });
        (held > limit).then_some(held)
    }
}

/// `statm` counts pages, and unlike `status` the kernel writes it without effort.
fn resident(pid: i32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split_whitespace().nth(1);
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}

fn proportional(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    kibibytes(&rollup, "Pss_Anon:") + kibibytes(&rollup, "Pss_Shmem:")
}

fn kibibytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0) * 1024
}

/// Bytes as people read them.
pub(super) fn text(bytes: u64) -> String {
    crate::kubelet::quantity::bytes_text(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_holds_is_seen() {
        let now = Instant::now();
        let held = vec![1_u8; 64 << 20];
        let mut own = Meter {
            members: BTreeSet::from([i32::try_from(std::process::id()).unwrap()]),
            last: None,
        };
        assert!(
            own.beyond(32 << 20, now)
                .is_some_and(|bytes| bytes > 64 << 20)
        );
        assert_eq!(own.beyond(1 << 40, now), None);
        // What grows after a walk is counted before the next.
        let limit = own.last.unwrap().held + (32 << 20);
        assert_eq!(own.beyond(limit, now), None);
        let more = vec![1_u8; 64 << 20];
        assert!(own.beyond(limit, now).is_some());
        assert_eq!(
            held.iter()
                .chain(&more)
                .map(|byte| usize::from(*byte))
                .sum::<usize>(),
            held.len() + more.len()
        );
    }
}
