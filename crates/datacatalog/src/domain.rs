//! Rules without I/O.

pub mod artifacts;
pub mod entries;
pub mod filters;
pub mod ids;
pub mod locations;
pub mod metadata;
pub mod pages;
pub mod partitions;
pub mod reservations;
pub mod retention;
