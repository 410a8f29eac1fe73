//! The cache index service: which outputs a cached task already has (spec 06 A).
//!
//! ```text
//! dataset (a task and its cache version) -- artifact (one set of outputs) -- data.pb for each output
//!                                        \- tag (a hash of inputs) names an artifact
//!                                        \- reservation of a tag: who is making that artifact
//! ```
//!
//! `api` is the gRPC service, [`management`] what operators have beside it, `retention` removes what is not kept; `handlers` are what each RPC does, [`domain`] decides without I/O, [`repository`] stores
//! [`records`]. Arrows point down this list, and from everything to [`error`].

pub mod cli;
pub mod config;
pub mod domain;
pub mod error;
pub mod management;
pub mod records;
pub mod repository;

mod api;
mod context;
mod handlers;
mod metrics;
mod retention;
mod wire;

pub use retention::Run;
pub use wire::{DataCatalog, Dependencies, wire};
