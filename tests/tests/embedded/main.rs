//! API, engine and cluster as `flyte start` wires them, over TCP and files, without a node.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails says where"
)]

mod backend;
mod cache_index;
mod depth;
