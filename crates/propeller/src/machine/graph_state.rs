//! Where a graph stands; how it goes from one state to another is in `graph_end`.

use flyte_idl::core::ExecutionError;

/// Where a graph stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum GraphState {
    /// Its nodes run.
    Running,
    /// It failed because of this; its active nodes are being aborted.
    Aborting(ExecutionError),
    /// It failed because of this; its failure node runs.
    FailureNode(ExecutionError),
    /// What is around it is aborted, and so are its active nodes.
    Stopping,
    /// It has ended.
    Ended(Result<(), ExecutionError>),
}
