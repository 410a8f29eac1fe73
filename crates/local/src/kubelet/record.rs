//! What kubelet and supervisor exchange, in files: the launch that the kubelet orders, the record that the
//! supervisor keeps, and the order to stop. A record is replaced atomically (temporary file, fsync, rename), so that a reader
//! sees a whole one, and it outlives both processes.
//!
//! ```text
//! <folder>/pods/<uid>/launch.json        what to run; mode 0600, it holds secrets
//! <folder>/pods/<uid>/lock               held by the one supervisor of the pod
//! <folder>/pods/<uid>/stop.json          grace period and reason, read at SIGTERM; without it the node shuts down
//! <folder>/pods/<uid>/logs/<container>/<run>.log
//! <folder>/pods/<uid>/work/<container>/  working directory
//! <folder>/pods/<uid>/logs/<container>/<run>.times
//! <folder>/pods/<uid>/messages/<container>   what the container finds at its terminationMessagePath
//! <folder>/pods/<uid>/volumes/<volume>/
//! <folder>/records/<uid>.json            the record; one watch on this folder sees all pods
//! ```

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::read_json;
use crate::kubelet::processes::ProcessIdentity;

/// The paths of the files of a pod.
#[derive(Debug, Clone)]
pub(crate) struct PodPaths {
    root: PathBuf,
    uid: String,
}

impl PodPaths {
    pub(crate) fn new(root: &Path, uid: &str) -> Self {
        Self {
            root: root.to_owned(),
            uid: uid.to_owned(),
        }
    }

    /// The paths of the pod that a supervisor was started for.
    pub(crate) fn of_pod_folder(folder: &Path) -> Option<Self> {
        let uid = folder.file_name()?.to_str()?.to_owned();
        Some(Self {
            root: folder.parent()?.parent()?.to_owned(),
            uid,
        })
    }

    pub(crate) fn records(root: &Path) -> PathBuf {
        root.join("records")
    }

    pub(crate) fn pods(root: &Path) -> PathBuf {
        root.join("pods")
    }

    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    pub(crate) fn pod(&self) -> PathBuf {
        Self::pods(&self.root).join(&self.uid)
    }

    pub(crate) fn record(&self) -> PathBuf {
        Self::records(&self.root).join(format!("{}.json", self.uid))
    }

    pub(crate) fn launch(&self) -> PathBuf {
        self.pod().join("launch.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.pod().join("lock")
    }

    pub(crate) fn stop(&self) -> PathBuf {
        self.pod().join("stop.json")
    }

    pub(crate) fn log(&self, container: &str, run: u32) -> PathBuf {
        self.pod()
            .join("logs")
            .join(container)
            .join(format!("{run}.log"))
    }

    pub(crate) fn work(&self, container: &str) -> PathBuf {
        self.pod().join("work").join(container)
    }

    pub(crate) fn message(&self, container: &str) -> PathBuf {
        self.pod().join("messages").join(container)
    }

    pub(crate) fn volume(&self, volume: &str) -> PathBuf {
        self.pod().join("volumes").join(volume)
    }
}

/// What role a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: starts in its turn and runs beside the rest.
    Sidecar,
    Main,
}

/// `spec.restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// A folder or file that is to appear elsewhere for one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) from: PathBuf,
    pub(crate) at: PathBuf,
    pub(crate) read_only: bool,
}

/// One container, with everything resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerLaunch {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) command: Vec<String>,
    /// The whole environment.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) working_directory: PathBuf,
    pub(crate) mounts: Vec<Mount>,
    /// The program and arguments that give a process a mount namespace of its own.
    pub(crate) mount_with: Vec<String>,
    /// The container's own cgroup and its memory limit in bytes, where cgroups allow.
    pub(crate) cgroup: Option<(PathBuf, u64)>,
    /// The memory limit in bytes, for where no cgroup enforces it.
    #[serde(default)]
    pub(crate) memory_limit: Option<u64>,
    /// Whether the end of the log becomes the message of a failure (`terminationMessagePolicy`).
    pub(crate) message_from_log: bool,
    /// The file that the container finds at its `terminationMessagePath`, if it has one.
    #[serde(default)]
    pub(crate) message_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) probes: Probes,
    #[serde(default)]
    pub(crate) hooks: Hooks,
}

/// How a request is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scheme {
    #[default]
    Http,
    /// Over TLS. The certificate is not verified, as a kubelet does not.
    Https,
}

/// What a probe or hook does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Handler {
    /// Runs a command in the container's folder and environment.
    Exec(Vec<String>),
    /// Makes a GET request; a status from 200 to 399 is good. An empty host is this machine.
    Http {
        #[serde(default)]
        scheme: Scheme,
        host: String,
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    /// Asks a gRPC server of this machine for the health of a service (`grpc.health.v1`).
    Grpc { port: u16, service: String },
    /// Connects. An empty host is this machine.
    Tcp { host: String, port: u16 },
    /// Waits so many seconds.
    Sleep(u64),
}

/// A probe, with its defaults filled in (Kubernetes API reference, Probe v1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    pub(crate) handler: Handler,
    pub(crate) initial_delay_seconds: u32,
    pub(crate) period_seconds: u32,
    pub(crate) timeout_seconds: u32,
    pub(crate) success_threshold: u32,
    pub(crate) failure_threshold: u32,
    /// `terminationGracePeriodSeconds` of the probe, instead of the pod's.
    pub(crate) grace_seconds: Option<u64>,
}

/// The probes of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probes {
    pub(crate) startup: Option<Probe>,
    pub(crate) readiness: Option<Probe>,
    pub(crate) liveness: Option<Probe>,
}

/// The lifecycle hooks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hooks {
    pub(crate) post_start: Option<Handler>,
    pub(crate) pre_stop: Option<Handler>,
}

impl ContainerLaunch {
    /// Whether anything runs beside the container.
    pub(crate) fn is_probed(&self) -> bool {
        self.probes != Probes::default() || self.hooks.post_start.is_some()
    }
}

/// A pod to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) containers: Vec<ContainerLaunch>,
    pub(crate) restart_policy: RestartPolicy,
    /// When the pod is over whatever it does: seconds since the epoch.
    pub(crate) deadline: Option<i64>,
    /// Seconds between SIGTERM and SIGKILL when the pod ends on its own account.
    pub(crate) grace_seconds: u64,
    /// The same when the node shuts down; supervisors of versions before this find none.
    #[serde(default)]
    pub(crate) shutdown_grace_seconds: Option<u64>,
}

/// The request to a supervisor to stop its pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopRequest {
    /// Seconds between SIGTERM and SIGKILL.
    pub(crate) grace_seconds: u64,
    /// `status.reason` of the pod then, and its message; none for a pod that is deleted.
    pub(crate) reason: Option<(String, String)>,
}

impl StopRequest {
    /// The pod is deleted.
    pub(crate) fn deleted(grace_seconds: u64) -> Self {
        Self {
            grace_seconds,
            reason: None,
        }
    }

    /// The node shuts down. The engine tries the task again: it is no failure of its own (spec 05 §9.5).
    pub(crate) fn node_shutdown(grace_seconds: u64) -> Self {
        let message = "Pod was terminated in response to imminent node shutdown.";
        Self {
            grace_seconds,
            reason: Some(("Shutdown".to_owned(), message.to_owned())),
        }
    }
}

/// The end of one run of a container (`ContainerStateTerminated`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terminated {
    pub(crate) exit_code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// RFC 3339.
    pub(crate) started_at: String,
    /// RFC 3339.
    pub(crate) finished_at: String,
}

/// The state of a container, as `ContainerState` of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ContainerState {
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        process: ProcessIdentity,
        started_at: String,
    },
    // Supervisors of versions before this name wrote `Ended`.
    #[serde(alias = "Ended")]
    Terminated(Terminated),
}

/// One container in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) state: ContainerState,
    /// The end of the run before this one.
    pub(crate) last: Option<Terminated>,
    pub(crate) restarts: u32,
    #[serde(default)]
    pub(crate) health: Health,
}

/// What hooks and probes say of a container that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// `postStart` ended and the startup probe succeeded, if there are any.
    pub(crate) started: bool,
    /// The readiness probe succeeds, if there is one.
    pub(crate) ready: bool,
    /// Attempts of probes and hooks that failed in all runs, and containers ended for them.
    pub(crate) failures: u32,
    /// Reason and message of the last few of them, for their events.
    pub(crate) last_failures: Vec<(String, String)>,
}

impl Health {
    /// Notes an attempt that failed, for its event.
    pub(crate) fn fail(&mut self, reason: &str, message: String) {
        const KEPT: usize = 4;
        self.failures = self.failures.saturating_add(1);
        self.last_failures.push((reason.to_owned(), message));
        let more = self.last_failures.len().saturating_sub(KEPT);
        self.last_failures.drain(..more);
    }
}

impl Default for Health {
    /// That of a container without probes.
    fn default() -> Self {
        Self {
            started: true,
            ready: true,
            failures: 0,
            last_failures: Vec::new(),
        }
    }
}

impl ContainerRecord {
    /// Whether the container has started once; restarts after that hold up nobody.
    pub(crate) fn has_started(&self) -> bool {
        self.restarts > 0
            || match self.state {
                ContainerState::Waiting { .. } => false,
                ContainerState::Running { .. } => self.health.started,
                ContainerState::Terminated(_) => true,
            }
    }
}

/// How far a pod is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Running,
    Succeeded,
    /// With `status.reason` and its message, if there is one of the whole pod.
    Failed(Option<(String, String)>),
}

/// What the supervisor knows, kept in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) supervisor: ProcessIdentity,
    pub(crate) containers: Vec<ContainerRecord>,
    pub(crate) outcome: Outcome,
}

impl Record {
    pub(crate) fn is_over(&self) -> bool {
        self.outcome != Outcome::Running
    }

    /// Reads a record; none if the pod has none.
    pub(crate) fn read(paths: &PodPaths) -> io::Result<Option<Self>> {
        read_json(&paths.record())
    }
}
