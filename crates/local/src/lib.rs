//! The embedded platform: what a Flyte backend needs around it, in one process.
//!
//! - [`cluster`]: a Kubernetes API, in memory in front of a store, given to `kube::Client` without a socket;
//! - [`kubelet`]: runs pods as processes, each under a [`supervisor`] that outlives it;
//! - [`s3`]: buckets in a folder, with an S3 endpoint over them;
//! - [`collection`]: removes from the buckets what executions left and nobody needs;
//! - [`platform`]: all of these together over one data folder.

mod access;
mod arriving;
pub mod cluster;
pub mod collection;
mod files;
mod inotify;
pub mod kubelet;
pub mod platform;
pub mod s3;
pub mod supervisor;

pub use access::AccessError;
pub use cluster::{Cluster, ClusterOptions};
pub use kubelet::{Kubelet, KubeletOptions};
pub use platform::{LocalPlatform, PlatformOptions};
