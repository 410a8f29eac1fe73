//! Tests that cross crates: the harnesses they share, one per boundary.

pub mod simulation;
