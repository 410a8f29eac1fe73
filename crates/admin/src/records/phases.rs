//! Phases and their like, as columns hold them: names of Flyte's IDL.
//!
//! A name that this version does not know was written by a newer one. It is kept as it is and written back unchanged.

use std::fmt;

use flyte_idl::core::{
    CatalogCacheStatus, execution_error, node_execution, task_execution, workflow_execution,
};

macro_rules! names {
    ($(#[$documentation:meta])* $name:ident of $wire:ty {
        $($(#[$variant_documentation:meta])* $variant:ident = $theirs:ident,)*
    }) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_documentation])* $variant,)*
            /// The name, or on the wire the number, that a version wrote which knows more.
            Unknown(String),
        }

        impl $name {
            /// The name in the column.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => <$wire>::$theirs.as_str_name(),)*
                    Self::Unknown(name) => name,
                }
            }
        }

        impl From<$wire> for $name {
            fn from(known: $wire) -> Self {
                match known {
                    $(<$wire>::$theirs => Self::$variant,)*
                }
            }
        }

        /// From a number on the wire.
        impl From<i32> for $name {
            fn from(number: i32) -> Self {
                <$wire>::try_from(number)
                    .map_or_else(|_unknown| Self::Unknown(number.to_string()), Self::from)
            }
        }

        /// From a name in the column.
        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                <$wire>::from_str_name(name)
                    .map_or_else(|| Self::Unknown(name.to_owned()), Self::from)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}

names!(
    /// Phases of a workflow execution, `core.WorkflowExecution.Phase` (spec 01 §13.1).
    WorkflowPhase of workflow_execution::Phase {
        /// The row exists; the engine has not reported anything.
        Undefined = Undefined,
        /// The engine has accepted it.
        Queued = Queued,
        /// Nodes are running.
        Running = Running,
        /// The end node is done; outputs are being written.
        Succeeding = Succeeding,
        /// Done.
        Succeeded = Succeeded,
        /// A node failed; the others are being aborted.
        Failing = Failing,
        /// Failed.
        Failed = Failed,
        /// Terminated.
        Aborted = Aborted,
        /// Took too long.
        TimedOut = TimedOut,
        /// Termination was requested; the resource is to be deleted.
        Aborting = Aborting,
    }
);

impl WorkflowPhase {
    /// Whether nothing more will happen; a phase that is not known counts as under way.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::TimedOut | Self::Aborted
        )
    }
}

names!(
    /// Phases of a node execution, `core.NodeExecution.Phase` (spec 01 §13.2).
    NodePhase of node_execution::Phase {
        /// Nothing has been reported.
        Undefined = Undefined,
        /// Its inputs are written.
        Queued = Queued,
        /// Its handler is at work.
        Running = Running,
        /// Done.
        Succeeded = Succeeded,
        /// Failed for good; being cleaned up.
        Failing = Failing,
        /// Failed.
        Failed = Failed,
        /// Terminated.
        Aborted = Aborted,
        /// Will not run: its branch was not taken.
        Skipped = Skipped,
        /// Took too long.
        TimedOut = TimedOut,
        /// The workflow that a dynamic task made is running.
        DynamicRunning = DynamicRunning,
        /// Outputs were taken from a recovered execution.
        Recovered = Recovered,
    }
);

impl NodePhase {
    /// Whether nothing more will happen; a phase that is not known counts as under way.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Succeeded
                | Self::Failed
                | Self::TimedOut
                | Self::Aborted
                | Self::Skipped
                | Self::Recovered
        )
    }
}

names!(
    /// Phases of a task execution, `core.TaskExecution.Phase` (spec 01 §13.3).
    TaskPhase of task_execution::Phase {
        /// Nothing has been reported.
        Undefined = Undefined,
        /// Handed to the backend.
        Queued = Queued,
        /// Running.
        Running = Running,
        /// Done.
        Succeeded = Succeeded,
        /// Terminated.
        Aborted = Aborted,
        /// Failed for good.
        Failed = Failed,
        /// The backend is preparing it.
        Initializing = Initializing,
        /// The backend has no resources for it now.
        WaitingForResources = WaitingForResources,
        /// This attempt failed; the next one may succeed.
        RetryableFailed = RetryableFailed,
    }
);

impl TaskPhase {
    /// Whether nothing more will happen. A retryable failure is not an end in the reference, and neither is a phase
    /// that is not known.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Aborted)
    }
}

names!(
    /// Who is to blame for an error, `core.ExecutionError.ErrorKind`; column `error_kind`.
    ErrorKind of execution_error::ErrorKind {
        /// Nobody has said.
        Unspecified = Unknown,
        /// The user's code.
        User = User,
        /// The platform.
        System = System,
    }
);

names!(
    /// What the catalog had for a task node, `core.CatalogCacheStatus`; column `cache_status`.
    CacheStatus of CatalogCacheStatus {
        /// The task is not cached.
        Disabled = CacheDisabled,
        /// Nothing was there.
        Miss = CacheMiss,
        /// Its outputs were taken from the catalog.
        Hit = CacheHit,
        /// Its outputs were put there.
        Populated = CachePopulated,
        /// The catalog could not be asked.
        LookupFailure = CacheLookupFailure,
        /// Its outputs could not be put there.
        PutFailure = CachePutFailure,
        /// The execution overwrites the catalog.
        Skipped = CacheSkipped,
        /// The entry was removed.
        Evicted = CacheEvicted,
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_newer_versions_survive() {
        assert_eq!(
            WorkflowPhase::from("PAUSED"),
            WorkflowPhase::Unknown("PAUSED".to_owned())
        );
        assert_eq!(WorkflowPhase::from("PAUSED").name(), "PAUSED");
        assert_eq!(NodePhase::from(77).name(), "77");
        assert_eq!(TaskPhase::from("").name(), "");
        assert!(!TaskPhase::from("PAUSED").is_terminal());
    }

    #[test]
    fn every_known_name_is_read_and_written_alike() {
        for number in 0..=10 {
            let (workflow, node, task) = (
                WorkflowPhase::from(number),
                NodePhase::from(number),
                TaskPhase::from(number),
            );
            assert_eq!(WorkflowPhase::from(workflow.name()), workflow);
            assert_eq!(NodePhase::from(node.name()), node);
            assert_eq!(TaskPhase::from(task.name()), task);
        }
        assert_eq!(ErrorKind::from(0).name(), "UNKNOWN");
        assert_eq!(CacheStatus::from(7).name(), "CACHE_EVICTED");
    }
}
