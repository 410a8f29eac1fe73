//! Rows and statements (spec 06 A6).
//!
//! Functions take a transaction, never a pool, and return records. Nothing but [`reservations`] and [`artifacts`] changes a
//! row, and only reservations and an artifact's outputs are removed.

pub mod artifact_data;
pub mod artifacts;
pub mod datasets;
pub mod partitions;
pub mod reservations;
pub mod schema;
pub mod tags;

mod columns;
