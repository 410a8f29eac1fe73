//! Copilot over a store in memory or a folder, and as a process.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says where"
)]

mod bucket;
mod download;
mod generated;
mod literals;
mod process;
mod sidecar;
