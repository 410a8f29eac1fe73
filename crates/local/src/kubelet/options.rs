//! Settings of a kubelet.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::Now;
use crate::kubelet::Amount;

/// How a supervisor is started: the folder of its pod is added as the last argument.
#[derive(Debug, Clone)]
pub struct SupervisorCommand {
    /// The program; its main calls [`crate::supervisor::main`].
    pub program: PathBuf,
    /// Arguments before the folder, such as a hidden subcommand.
    pub arguments: Vec<OsString>,
}

/// Settings of a [`Kubelet`](super::Kubelet).
#[derive(Clone)]
pub struct KubeletOptions {
    /// Name of the Node object.
    pub node_name: String,
    /// Cores and memory that pods may request together.
    pub capacity: Amount,
    /// Where the folders of pods are. One kubelet at a time.
    pub folder: PathBuf,
    /// Programs that images have at a path of their own, and what is run for them here: a program and its first arguments.
    pub programs: BTreeMap<String, Vec<String>>,
    /// How supervisors are started.
    pub supervisor: SupervisorCommand,
    /// Whether pods that are on no node are put on this one; off where a scheduler does that.
    pub schedules: bool,
    /// The `bin` folder of the Python environment; it comes first on PATH.
    pub python_bin: Option<PathBuf>,
    /// PATH of the processes.
    pub path: String,
    /// Further environment of every container, such as endpoint and keys of the blob store. A container's own wins.
    pub environment: Vec<(String, String)>,
    /// A cgroup v2 folder in which memory limits are enforced, where that is possible.
    pub cgroup_root: Option<PathBuf>,
    /// How long pods have to end when the kubelet stops; their own grace period if that is shorter.
    pub shutdown_grace: Duration,
    /// How often the node says that it is alive. A real cluster's node controller wants to hear it every 10 s; the embedded
    /// one has no such controller.
    pub heartbeat: Option<Duration>,
    /// The port of 127.0.0.1 where an API server asks for the logs of pods, by HTTPS; none where the API has them from the
    /// kubelet itself.
    pub port: Option<u16>,
    /// What the kubelet takes the time from.
    pub now: Now,
}

impl std::fmt::Debug for KubeletOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("KubeletOptions")
            .field("node_name", &self.node_name)
            .field("capacity", &self.capacity)
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// The `bin` folder of a Python interpreter, where its scripts are.
#[must_use]
pub fn python_bin(python: &Path) -> Option<PathBuf> {
    python
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(Path::to_owned)
}
