//! What every service needs and none owns.
//!
//! Configuration ([`config`]), logging and tracing ([`telemetry`]), metrics ([`metrics`]), the blob store
//! ([`blob`]), SQL ([`sql`]), servers and clients ([`server`], [`client`]), long-lived tasks ([`Tasks`]) and
//! time ([`Clock`]).

pub mod blob;
pub mod cli;
pub mod client;
pub mod config;
pub mod json;
pub mod kubernetes;
pub mod metrics;
pub mod server;
pub mod sql;
pub mod sync;
pub mod telemetry;
pub mod tls;

mod backoff;
mod chain;
mod clock;
mod tasks;

pub use backoff::Backoff;
pub use chain::Chain;
pub use clock::{Clock, until};
pub use tasks::{Tasks, TasksError};
