//! What this process uses of its machine.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// User and system time of all threads so far.
pub(crate) fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(spent.tv_sec).unwrap_or_default(),
        u32::try_from(spent.tv_nsec).unwrap_or_default(),
    )
}

/// Resident memory now, MiB.
pub(crate) fn memory() -> u64 {
    status("VmRSS:") / 1024
}

/// The most resident memory since [`forget_peak`], MiB.
pub(crate) fn peak_memory() -> u64 {
    status("VmHWM:") / 1024
}

/// Lets [`peak_memory`] begin anew (proc(5), clear_refs). Where that is not allowed, the peak is that of the process.
pub(crate) fn forget_peak() {
    drop(fs::write("/proc/self/clear_refs", "5"));
}

/// A line of /proc/self/status, KiB.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// Bytes that this process has caused to be written to disk so far (proc(5), io).
pub(crate) fn disk_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}
