//! The cache index service: which outputs a cached task already has (spec 06 A).
//!
//! Built so far are its configuration ([`config`]) and its command line ([`cli`]); commands that need the service
//! itself say so and fail. Until then a discoverable task runs as with Go's `catalog-cache.type: noop`.

pub mod cli;
pub mod config;
