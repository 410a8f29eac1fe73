//! Where memory limits can be enforced by cgroups of version 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Where version 2 is mounted when it is the only one.
const MOUNT: &str = "/sys/fs/cgroup";
/// The cgroup that has those of the containers.
const NAME: &str = "flyte-pods";

/// A folder for [`crate::KubeletOptions::cgroup_root`], tried out; none where this user may not make cgroups with the memory
/// controller. It is inside this process's cgroup or beside it: a cgroup that has processes can have no controllers for its
/// children, unless it is the root.
pub async fn cgroup_root() -> Option<PathBuf> {
    let mount = Path::new(MOUNT);
    if !mount.join("cgroup.controllers").exists() {
        return None;
    }
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = mount.join(own.trim_start_matches('/'));
    let beside = own.parent().filter(|parent| parent.starts_with(mount));
    for parent in [Some(own.as_path()), beside].into_iter().flatten() {
        let root = parent.join(NAME);
        if is_usable(&root).await {
            remove_empty(&root);
            return Some(root);
        }
        // In use by another flyte, or never made.
        drop(fs::remove_dir(&root));
    }
    None
}

async fn is_usable(root: &Path) -> bool {
    let probe = root.join(format!("probe-{}", std::process::id()));
    let prepared = make(root)
        .and_then(|()| fs::write(root.join("cgroup.subtree_control"), "+memory"))
        .and_then(|()| make(&probe))
        .and_then(|()| fs::write(probe.join("memory.max"), "max"));
    let enters = match prepared {
        Ok(()) => enters(&probe).await,
        Err(_) => false,
    };
    drop(fs::remove_dir(&probe));
    enters
}

/// Removes cgroups of containers whose supervisor was killed. One with processes cannot be removed.
fn remove_empty(root: &Path) {
    let folders = fs::read_dir(root).into_iter().flatten().flatten();
    for folder in folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        drop(fs::remove_dir(folder.path()));
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Whether a process of ours may move itself there.
async fn enters(cgroup: &Path) -> bool {
    let moved = tokio::process::Command::new("/bin/sh")
        .args(["-c", "echo $$ > \"$1\"", "sh"])
        .arg(cgroup.join("cgroup.procs"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    moved.is_ok_and(|status| status.success())
}
