//! The cache index service: which outputs a cached task already has (spec 06 A).
//!
//! ```text
//! dataset (a task and its cache version) -- artifact (one set of outputs) -- data.pb for each output
//!                                        \- tag (a hash of inputs) names an artifact
//!                                        \- reservation of a tag: who is making that artifact
//! ```
//!
//! `api` is the gRPC service, `handlers` are what each RPC does, [`domain`] decides without I/O, [`repository`] stores
//! [`records`]. Arrows point down this list, and from everything to [`error`].

pub mod cli;
pub mod config;
pub mod domain;
pub mod error;
pub mod records;
pub mod repository;

mod api;
mod context;
mod handlers;
mod metrics;
mod wire;

pub use wire::{DataCatalog, Dependencies, wire};
