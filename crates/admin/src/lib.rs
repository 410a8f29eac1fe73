//! flyteadmin: the API services, the repository and the REST gateway (spec 01, spec 03).
//!
//! `api` accepts and answers, [`domain`] decides, [`repository`] stores.

#![expect(
    deprecated,
    reason = "clients and rows of older versions carry deprecated fields, and both are served"
)]

pub mod caller;
pub mod cli;
pub mod config;
pub mod domain;
pub mod error;
pub mod records;
pub mod repository;
pub mod targets;

mod api;
mod bodies;
mod closures;
mod cluster_resources;
mod flights;
mod gateway;
mod limits;
mod metrics;
mod reconciler;
mod service;
mod unknown;
mod vital_signs;
mod wire;

pub use wire::{Admin, Dependencies, wire};
