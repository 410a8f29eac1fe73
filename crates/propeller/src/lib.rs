//! The engine that drives FlyteWorkflow resources (spec 04).
//!
//! [`machine::Machine`] is one workflow as a state machine without I/O; [`node`] holds its decisions, one file per
//! kind of node; [`effects`] is where they meet blobs, pods and admin; [`cleanup`] ends what is left behind. [`wire`]
//! puts machines, watches and clients together into an [`engine::Engine`].

pub mod cleanup;
pub mod cli;
pub mod config;
pub mod effects;
pub mod engine;
pub mod events;
mod key;
pub mod machine;
pub mod metrics;
pub mod node;

pub use engine::{CatalogService, Dependencies, Engine, EngineError, WireError, wire};
