//! All Flyte services in one process, or any one of them by subcommand.

mod cache;
pub mod cli;
pub mod embedded;
mod health;
mod lock;
mod pages;
mod python;
mod standalone;

#[cfg(test)]
mod keys;
