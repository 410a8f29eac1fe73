//! What may be chosen of an embedded backend, and what is the same for all.

use std::{path::PathBuf, time::Duration};

use flyte_local::collection::{Age, Retention};

/// The hidden subcommand of this program that supervises one pod.
pub(crate) const SUPERVISOR: &str = "supervise-pod";
/// The S3 keys that Flyte's tutorials use; docs/embedded.md says what they open and to whom.
pub(super) const ACCESS_KEY: &str = "minio";
/// The secret of [`ACCESS_KEY`].
pub(super) const SECRET_KEY: &str = "miniostorage";
/// How long open calls and pods have when the process is asked to end.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How long the embedded platform may take to stop: its node gives up on pods 5 s after [`GRACE`], and leaves them to the next
/// start.
pub(super) const PLATFORM_GRACE: Duration = Duration::from_secs(20);

/// How often the node tells a real API server that it is alive; Kubernetes takes one for lost after 40 s.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) host: String,
    pub(crate) http_port: u16,
    pub(crate) s3_port: u16,
    pub(crate) kubernetes_port: u16,
    /// Of an API server instead of the embedded one.
    pub(crate) kubeconfig: Option<String>,
    pub(crate) python: String,
    pub(crate) node_cpu: Option<String>,
    pub(crate) node_memory: Option<String>,
    pub(crate) retention: Retention,
    /// How long entries of the cache are kept.
    pub(crate) cache_retention: Age,
    pub(crate) verbosity: u8,
}
