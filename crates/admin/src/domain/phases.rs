//! Names of phases, and which of them are final (spec 01 §13).

use flyte_idl::core::{
    execution_error::ErrorKind, node_execution, task_execution, workflow_execution,
};

macro_rules! names {
    ($(#[$docs:meta])* $function:ident, $phase:ty) => {
        $(#[$docs])*
        pub fn $function(phase: i32) -> String {
            <$phase>::try_from(phase).map_or_else(
                |_unknown| phase.to_string(),
                |phase| phase.as_str_name().to_owned(),
            )
        }
    };
}

names!(
    /// Name of a workflow phase; a number that this version does not know stays a number.
    workflow_name,
    workflow_execution::Phase
);
names!(
    /// Name of a node phase.
    node_name,
    node_execution::Phase
);
names!(
    /// Name of a task phase.
    task_name,
    task_execution::Phase
);
names!(
    /// Name of an error kind, as column `error_kind` has it.
    error_kind_name,
    ErrorKind
);

/// Whether a workflow in this phase, by name, has ended.
pub fn workflow_is_terminal(phase: &str) -> bool {
    matches!(phase, "SUCCEEDED" | "FAILED" | "TIMED_OUT" | "ABORTED")
}

/// Whether a node in this phase, by name, has ended.
pub fn node_is_terminal(phase: &str) -> bool {
    matches!(
        phase,
        "SUCCEEDED" | "FAILED" | "TIMED_OUT" | "ABORTED" | "SKIPPED" | "RECOVERED"
    )
}

/// Whether a task attempt in this phase, by name, has ended; a retryable failure has not.
pub fn task_is_terminal(phase: &str) -> bool {
    matches!(phase, "SUCCEEDED" | "FAILED" | "ABORTED")
}
