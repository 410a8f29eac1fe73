//! flyteadmin: the API services, the repository and the REST gateway (spec 01, spec 03).
//!
//! `api` is the gRPC services, `handlers` are what each RPC does, [`domain`] decides without I/O, [`repository`] stores
//! [`records`]. Arrows point down this list, and from everything to [`filters`], [`time`] and [`error`].

#![expect(
    deprecated,
    reason = "clients and rows of older versions carry deprecated fields, and both are served"
)]

pub mod caller;
pub mod cli;
pub mod config;
pub mod domain;
pub mod error;
pub mod filters;
pub mod records;
pub mod repository;
pub mod targets;
pub mod time;

mod api;
mod closure_cache;
mod cluster_resources;
mod context;
mod detached;
mod gateway;
mod handlers;
mod metrics;
mod random;
mod reconciler;
mod unknown_fields;
mod wire;

pub use wire::{Admin, Dependencies, wire};
