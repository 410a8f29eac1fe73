//! Rows and statements (spec 01 §19).
//!
//! Functions take a transaction, never a pool, and return records. Values are written as Go writes them:
//! absent integers as 0, absent text as empty, absent pointers as NULL, because SQL filters distinguish NULL from
//! zero (spec 01 §19, value conventions).

pub mod descriptions;
pub mod events;
pub mod executions;
pub mod indexes;
pub mod launch_plans;
pub mod migrations;
pub mod named_entities;
pub mod node_executions;
pub mod projects;
pub mod schedules;
pub mod signals;
pub mod task_executions;
pub mod tasks;
pub mod workflows;

mod columns;
mod names;
pub(crate) mod operations;
mod query;
mod resolve;

pub use names::Names;
