//! Tests that cross crates: the harnesses they share, one per boundary.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a harness that fails says where"
)]

pub mod simulation;
pub mod truth;
