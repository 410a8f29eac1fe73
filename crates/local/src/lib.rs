//! The embedded platform: Kubernetes API, kubelet and S3 endpoint.

pub mod cluster;
mod inotify;
pub mod kubelet;
pub mod supervisor;

pub use cluster::{Cluster, ClusterOptions};
pub use kubelet::{Kubelet, KubeletOptions};
