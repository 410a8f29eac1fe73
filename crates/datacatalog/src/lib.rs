//! The cache index service: which outputs a cached task already has (spec 06 A).
//!
//! ```text
//! dataset (a task and its cache version) -- artifact (one set of outputs) -- data.pb for each output
//!                                        \- tag (a hash of inputs) names an artifact
//!                                        \- reservation of a tag: who is making that artifact
//! ```
//!
//! [`domain`] decides without I/O, [`repository`] stores [`records`]; both use [`error`]. Commands that need the service itself
//! say so and fail.

pub mod cli;
pub mod config;
pub mod domain;
pub mod error;
pub mod records;
pub mod repository;
