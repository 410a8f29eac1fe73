//! States, modes and types of entities, as columns hold them: numbers of Flyte's IDL, or Go's own words.
//!
//! A value that this version does not know was written by a newer one. It is kept as it is and written back unchanged.

use flyte_idl::admin;

macro_rules! numbers {
    ($(#[$documentation:meta])* $name:ident of $wire:ty {
        $($(#[$variant_documentation:meta])* $variant:ident = $theirs:ident,)*
    }) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_documentation])* $variant,)*
            /// A number written by a version that knows more.
            Unknown(i32),
        }

        impl $name {
            /// The number in the column and on the wire.
            pub const fn number(self) -> i32 {
                match self {
                    $(Self::$variant => <$wire>::$theirs as i32,)*
                    Self::Unknown(number) => number,
                }
            }
        }

        impl From<i32> for $name {
            fn from(number: i32) -> Self {
                match <$wire>::try_from(number) {
                    $(Ok(<$wire>::$theirs) => Self::$variant,)*
                    Err(_unknown) => Self::Unknown(number),
                }
            }
        }

        /// What column and wire mean by 0.
        impl Default for $name {
            fn default() -> Self {
                Self::from(0)
            }
        }
    };
}

numbers!(
    /// Who launched an execution, `admin.ExecutionMetadata.ExecutionMode`; column `mode`.
    ExecutionMode of admin::execution_metadata::ExecutionMode {
        /// A user launched it.
        Manual = Manual,
        /// The scheduler launched it.
        Scheduled = Scheduled,
        /// Flyte launched it for itself.
        System = System,
        /// A user launched an earlier execution again.
        Relaunch = Relaunch,
        /// A node of another execution launched it.
        ChildWorkflow = ChildWorkflow,
        /// It goes on where an earlier execution failed.
        Recovered = Recovered,
        /// An artifact launched it.
        Trigger = Trigger,
    }
);

numbers!(
    /// Whether lists show an execution, `admin.ExecutionState`; column `state`.
    ExecutionState of admin::ExecutionState {
        /// Lists show it.
        Active = ExecutionActive,
        /// Lists leave it out, unless they are asked for archived executions.
        Archived = ExecutionArchived,
    }
);

numbers!(
    /// `admin.LaunchPlanState`; column `state`. One version of a name is active at most.
    LaunchPlanState of admin::LaunchPlanState {
        /// Its schedule does not run.
        Inactive = Inactive,
        /// Its schedule runs, and it is what the name means without a version.
        Active = Active,
    }
);

numbers!(
    /// Whether lists show a name, `admin.NamedEntityState`; column `state`.
    NamedEntityState of admin::NamedEntityState {
        /// Lists show it.
        Active = NamedEntityActive,
        /// The console leaves it out.
        Archived = NamedEntityArchived,
        /// It stands for a task that was launched alone.
        SystemGenerated = SystemGenerated,
    }
);

numbers!(
    /// `admin.Project.ProjectState`; column `state`. Only active projects take new entities and executions.
    ProjectState of admin::project::ProjectState {
        /// Listed, and open for registrations and executions.
        Active = Active,
        /// Retired by a user.
        Archived = Archived,
        /// Made by Flyte.
        SystemGenerated = SystemGenerated,
        /// Retired by Flyte.
        SystemArchived = SystemArchived,
    }
);

numbers!(
    /// The unit of a fixed rate, `admin.FixedRateUnit`; column `unit`.
    RateUnit of admin::FixedRateUnit {
        /// Minutes.
        Minute = Minute,
        /// Hours.
        Hour = Hour,
        /// Days.
        Day = Day,
    }
);

macro_rules! words {
    ($(#[$documentation:meta])* $name:ident {
        $($(#[$variant_documentation:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_documentation])* $variant,)*
            /// A word written by a version that knows more.
            Unknown(String),
        }

        impl $name {
            /// The word in the column.
            pub fn word(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Unknown(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)*
                    other => Self::Unknown(other.to_owned()),
                }
            }
        }
    };
}

words!(
    /// What an execution was launched from; column `launch_entity` (spec 01 §12.2).
    LaunchEntity {
        /// A launch plan.
        LaunchPlan = "launch_plan",
        /// A task alone.
        Task = "task",
    }
);

words!(
    /// The kind of schedule that a launch plan has; column `schedule_type` (spec 01 §10.1).
    ScheduleType {
        /// The launch plan has no schedule.
        None = "NONE",
        /// A cron expression.
        Cron = "CRON",
        /// A fixed rate.
        Rate = "RATE",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_of_newer_versions_survive() {
        assert_eq!(ExecutionMode::from(42), ExecutionMode::Unknown(42));
        assert_eq!(ProjectState::from(-1).number(), -1);
        assert_eq!(LaunchEntity::from("agent").word(), "agent");
    }

    #[test]
    fn known_values_are_read_and_written_alike() {
        for number in 0..=6 {
            assert_eq!(ExecutionMode::from(number).number(), number);
            assert_eq!(NamedEntityState::from(number).number(), number);
        }
        for word in ["launch_plan", "task"] {
            assert_eq!(LaunchEntity::from(word).word(), word);
        }
        assert_eq!(ScheduleType::from("RATE"), ScheduleType::Rate);
    }
}
