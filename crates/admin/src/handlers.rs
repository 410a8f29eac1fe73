//! What each RPC does, a file per resource: request -> [`crate::domain`] -> [`crate::repository`], blob store and
//! clusters -> answer.

pub(crate) mod data;
pub(crate) mod data_proxy;
pub(crate) mod descriptions;
pub(crate) mod entities;
pub(crate) mod events;
pub(crate) mod executions;
pub(crate) mod launch_plans;
pub(crate) mod named_entities;
pub(crate) mod node_executions;
mod pages;
pub(crate) mod projects;
pub(crate) mod signals;
pub(crate) mod task_executions;
pub(crate) mod tasks;
pub(crate) mod workflows;
