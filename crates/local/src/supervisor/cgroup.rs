//! The cgroup (version 2) of a container with a memory limit. Its runs have it one after the other, and it goes with the pod.

use std::fs;
use std::io;
use std::path::Path;

/// Makes the cgroup, or sets the limit in bytes of the one that an earlier run has left.
pub(super) fn make(folder: &Path, limit: u64) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // All processes of the container end, as in a cluster, and not only the largest one.
    fs::write(folder.join("memory.oom.group"), "1")?;
    fs::write(folder.join("memory.max"), limit.to_string())
}

/// How many of its processes the kernel has killed for the limit since it was made; 0 where there is none.
pub(super) fn kills(folder: &Path) -> u64 {
    let events = fs::read_to_string(folder.join("memory.events")).unwrap_or_default();
    let count = events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    count
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// Removes it after the last of its processes. What the kernel does not let go stays, and goes when the next kubelet starts.
pub(super) fn remove(folder: &Path) {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(%error, folder = %folder.display(), "the cgroup of a container stays");
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_as_the_kernel_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kills(folder.path()), 0);
        for (events, expected) in [
            (
                "low 0\nhigh 0\nmax 31\noom 1\noom_kill 2\noom_group_kill 1\n",
                2,
            ),
            (
                "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
                0,
            ),
            ("", 0),
        ] {
            fs::write(folder.path().join("memory.events"), events).unwrap();
            assert_eq!(kills(folder.path()), expected, "{events:?}");
        }
    }
}
