//! The embedded platform: Kubernetes API, kubelet and S3 endpoint.

pub mod cluster;

pub use cluster::{Cluster, ClusterOptions};
