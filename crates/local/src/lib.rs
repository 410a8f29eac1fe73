//! The embedded platform: Kubernetes API, kubelet and S3 endpoint.
