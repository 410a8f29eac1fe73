//! The FlyteWorkflow resource and the closure-to-resource transform.
//!
//! [`FlyteWorkflow`] is `flyte.lyft.com/v1alpha1`: written by admin when an execution starts, read and advanced
//! by propeller. Its JSON is Go's, byte for byte in meaning (spec 03 §4, 04 §12), so that either side may be the
//! Go one. [`transform::build`] makes the first version from a compiled closure.

mod encoding;
pub mod execution_config;
mod go_json;
pub mod gob;
mod resource;
mod spec;
pub mod status;
mod time;
pub mod transform;

pub use encoding::{GoStruct, Proto};
pub use resource::{
    COMPLETED_TIME_LABEL, FINALIZER, FlyteWorkflow, NodeDefaults, PodFinalizer, TERMINATED,
    TERMINATION_LABEL, WorkflowMeta, custom_resource_definition, labels,
};
pub use spec::{
    ArraySpec, BranchArm, BranchSpec, Connections, GateSpec, NodeKind, NodeSpec, RetryStrategy,
    SubWorkflowSpec, WorkflowNodeSpec, WorkflowSpec,
};
pub use status::{NodePhase, NodeStatus, WorkflowPhase, WorkflowStatus};
pub use time::{NanoTime, Time};
