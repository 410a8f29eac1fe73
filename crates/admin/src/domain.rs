//! The rules of flyteadmin: decisions over messages and records, without any I/O.

pub mod events;
pub mod task_resources;

mod cron;
pub(crate) mod diff;
pub(crate) mod executions;
pub(crate) mod expiry;
pub(crate) mod flyte_url;
pub(crate) mod ids;
pub(crate) mod launch_plans;
pub(crate) mod objects;
pub(crate) mod projects;
pub(crate) mod signals;
pub(crate) mod tasks;
pub(crate) mod workflows;
