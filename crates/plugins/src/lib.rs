//! Task plugins: task template to pod and back to a phase (spec 05).
//!
//! Everything here is a decision: [`pod::build`] turns a task and its [`TaskContext`] into a pod, [`status::phase`]
//! reads a pod back into a [`PhaseInfo`]. The engine creates, watches and deletes the objects.

pub mod config;
mod context;
mod logs;
mod phase;
pub mod pod;
pub mod quota;
mod registry;
pub mod secrets;
pub mod status;
pub mod template;

pub use context::TaskContext;
pub use logs::task_logs;
pub use phase::{AdditionalReason, PhaseInfo, TaskInfo};
pub use registry::{Plugin, PluginsError, Registry, UnsupportedTaskType};
