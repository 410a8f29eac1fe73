//! Pure domain logic of Flyte, without I/O and without async.
//!
//! Identifiers and their errors, name rules, generated names, storage layout, quantities and durations in
//! Go's and Kubernetes' text forms, digests, what errors show of types and values, the type system, the workflow compiler, and the validation of
//! launch plans and execution inputs. Every function here is deterministic: same input, same output.

pub mod catalog;
pub mod compiler;
pub mod digest;
pub mod duration;
pub mod excerpt;
pub mod identifiers;
pub mod inputs;
pub mod launch_plans;
pub mod layout;
pub mod literals;
pub mod names;
pub mod promise;
pub mod quantity;
pub mod reference;
pub mod single_task;
pub mod types;
pub mod unique_id;
