//! Rows and statements (spec 06 A6).
//!
//! Functions take a transaction, never a pool, and return records. Whoever changes or removes an artifact, or names one, locks its
//! row first; [`entries`] removes whole artifacts.

pub mod artifact_data;
pub mod artifacts;
pub mod datasets;
pub mod entries;
pub mod partitions;
pub mod reservations;
pub mod schema;
pub mod tags;
pub mod turns;

mod columns;
