//! The engine that drives FlyteWorkflow resources (spec 04).
//!
//! [`machine::Machine`] is one workflow as a state machine without I/O; [`node`] holds its decisions, one file per
//! kind of node. [`wire`] puts machines, watches and clients together into an [`engine::Engine`].

pub mod backoff;
pub mod cli;
pub mod condition;
pub mod config;
pub mod engine;
pub mod events;
mod guard;
pub mod machine;
pub mod metrics;
pub mod node;
pub mod patch;
pub mod resolve;
pub mod sighting;
pub mod sweep;
pub mod world;

pub use engine::{Dependencies, Engine, EngineError, WireError, wire};
