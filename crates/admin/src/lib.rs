//! flyteadmin: the API services, the repository and the REST gateway (spec 01, spec 03).
//!
//! `api` accepts and answers, [`domain`] decides, [`repository`] stores.

pub mod domain;
pub mod error;
pub mod records;
pub mod repository;
