//! Tests of the embedded platform through its public faces.

mod cluster;
mod kubelet;
