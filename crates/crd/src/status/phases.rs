//! Go's numeric phases, in one place. A number that we do not know is kept as it is.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! phases {
    ($(#[$documentation:meta])* $name:ident { $($(#[$variant_documentation:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_documentation])* $variant,)*
            /// A number written by a version that knows more.
            Unknown(i64),
        }

        impl $name {
            /// The number in the resource.
            pub fn number(self) -> i64 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Unknown(number) => number,
                }
            }
        }

        impl From<i64> for $name {
            fn from(number: i64) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_i64(self.number())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                i64::deserialize(deserializer).map(Self::from)
            }
        }
    };
}

phases!(
    /// Phases of a workflow (spec 04 §4.1).
    WorkflowPhase {
        /// Created by admin, not yet seen.
        #[default]
        Ready = 0,
        /// Nodes are running.
        Running = 1,
        /// The end node is done; outputs are being written.
        Succeeding = 2,
        /// Done.
        Success = 3,
        /// A node failed; the others are being aborted.
        Failing = 4,
        /// Failed.
        Failed = 5,
        /// Terminated.
        Aborted = 6,
        /// The failure node is running.
        HandlingFailureNode = 7,
    }
);

impl WorkflowPhase {
    /// Whether nothing more will happen.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Aborted)
    }
}

phases!(
    /// Phases of a node (spec 04 §6.1).
    NodePhase {
        /// Nothing has happened.
        #[default]
        NotYetStarted = 0,
        /// Its inputs are written.
        Queued = 1,
        /// Its handler is at work.
        Running = 2,
        /// Failed for good; being cleaned up.
        Failing = 3,
        /// Succeeded; being cleaned up.
        Succeeding = 4,
        /// Succeeded.
        Succeeded = 5,
        /// Failed.
        Failed = 6,
        /// Will not run.
        Skipped = 7,
        /// An attempt failed; another will be made.
        RetryableFailure = 8,
        /// Took too long; being cleaned up.
        TimingOut = 9,
        /// Took too long.
        TimedOut = 10,
        /// The workflow that a dynamic task made is running.
        DynamicRunning = 11,
        /// Outputs were taken from a recovered execution.
        Recovered = 12,
    }
);

impl NodePhase {
    /// Whether nothing more will happen to the node.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Skipped | Self::TimedOut | Self::Recovered
        )
    }

    /// Whether the node has begun and not ended; a phase that is not known counts as such.
    pub fn is_active(self) -> bool {
        self != Self::NotYetStarted && !self.is_terminal()
    }
}

phases!(
    /// Phases of a task, as plugins report them (spec 04 §7.1.2).
    TaskPhase {
        /// Not looked at.
        #[default]
        Undefined = 0,
        /// Not ready to start.
        NotReady = 1,
        /// No resources for it now.
        WaitingForResources = 2,
        /// Handed to the backend.
        Queued = 3,
        /// The backend is preparing it.
        Initializing = 4,
        /// Running.
        Running = 5,
        /// Succeeded.
        Success = 6,
        /// Failed; another attempt may succeed.
        RetryableFailure = 7,
        /// Failed for good.
        PermanentFailure = 8,
        /// Somebody else computes the same.
        WaitingForCache = 9,
        /// Terminated.
        Aborted = 10,
    }
);

impl TaskPhase {
    /// Whether the attempt has ended.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Success | Self::RetryableFailure | Self::PermanentFailure | Self::Aborted
        )
    }
}

phases!(
    /// Phases of a branch.
    BranchPhase {
        /// Not decided.
        #[default]
        NotYetEvaluated = 0,
        /// Decided.
        Success = 1,
        /// No arm could be chosen.
        Error = 2,
    }
);

phases!(
    /// Phases of a sub-workflow or launch plan node.
    WorkflowNodePhase {
        /// Not started.
        #[default]
        Undefined = 0,
        /// Under way.
        Executing = 1,
        /// Being aborted.
        Failing = 2,
    }
);

phases!(
    /// Phases of the dynamic part of a task (spec 04 §7.6).
    DynamicPhase {
        /// The task itself.
        #[default]
        None = 0,
        /// The made workflow runs.
        Executing = 1,
        /// The made workflow is being aborted.
        Failing = 2,
        /// The task made a workflow; it is being cleaned up.
        ParentFinalizing = 3,
        /// The task was cleaned up; the workflow is to be built.
        ParentFinalized = 4,
    }
);

phases!(
    /// Phases of a gate.
    GatePhase {
        /// Not looked at.
        #[default]
        Undefined = 0,
        /// Waiting.
        Executing = 1,
    }
);

phases!(
    /// Phases of an array node (spec 04 §7.7).
    ArrayPhase {
        /// Not started.
        #[default]
        None = 0,
        /// Elements are running.
        Executing = 1,
        /// Too many failed; the others are being aborted.
        Failing = 2,
        /// Outputs are being gathered.
        Succeeding = 3,
    }
);
