//! The data sidecar for raw containers.
