//! The rules of flyteadmin.

pub mod events;
pub mod lists;
pub mod task_resources;
pub mod time;

mod cron;
pub(crate) mod data;
pub(crate) mod data_proxy;
pub(crate) mod descriptions;
mod diff;
pub(crate) mod entities;
pub(crate) mod executions;
pub(crate) mod intake;
mod launch_plan_rules;
pub(crate) mod launch_plans;
pub(crate) mod named_entities;
pub(crate) mod nodes;
pub(crate) mod projects;
pub(crate) mod signals;
pub(crate) mod task_executions;
pub(crate) mod tasks;
pub(crate) mod workflows;
