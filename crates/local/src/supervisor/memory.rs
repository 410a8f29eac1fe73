//! Memory limits where no cgroup enforces them: what the processes of a container hold is checked every 250 ms. The kernel
//! reports nobody's growth, so that this is the one thing here that is polled.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::kubelet::processes::{Running, descendants};

/// Between two checks: an allocation of 10 GB takes about a second.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(250);

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

/// The bytes that processes hold, if that is more than `limit`. Pages that several share count once, files that are mapped
/// do not: the kernel takes those back.
pub(super) fn beyond(limit: u64, pids: &BTreeSet<i32>) -> Option<u64> {
    let sum = |held: fn(i32) -> u64| pids.iter().map(|pid| held(*pid)).sum::<u64>();
    // Cheap, and never less than what is held.
    if sum(resident) <= limit {
        return None;
    }
    Some(sum(proportional)).filter(|held| *held > limit)
}

fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kibibytes(&status, "VmRSS:")
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
        let held = vec![1_u8; 64 << 20];
        let own = BTreeSet::from([i32::try_from(std::process::id()).unwrap()]);
        assert!(beyond(32 << 20, &own).is_some_and(|bytes| bytes > 64 << 20));
        assert_eq!(beyond(1 << 40, &own), None);
        assert_eq!(
            held.iter().map(|byte| usize::from(*byte)).sum::<usize>(),
            held.len()
        );
    }
}
