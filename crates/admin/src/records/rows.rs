//! Row numbers: column `id` of each table, which other tables refer to. Those of one table do not pass for another's.
//!
//! The databases count from 1; Go writes 0 for "no row" where a column cannot be NULL.

use std::{fmt, num::NonZeroI64};

/// A row number of one table.
pub trait RowNumber: Copy + Sized {
    /// The row that a column names; none for 0.
    fn new(number: i64) -> Option<Self>;

    /// Column `id` of the row, at least 1.
    fn number(self) -> i64;
}

macro_rules! rows {
    ($($(#[$documentation:meta])* $name:ident,)*) => {$(
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroI64);

        impl RowNumber for $name {
            fn new(number: i64) -> Option<Self> {
                NonZeroI64::new(number).map(Self)
            }

            fn number(self) -> i64 {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    )*};
}

rows!(
    /// A row of table `tasks`.
    TaskRow,
    /// A row of table `workflows`.
    WorkflowRow,
    /// A row of table `launch_plans`.
    LaunchPlanRow,
    /// A row of table `executions`.
    ExecutionRow,
    /// A row of table `node_executions`.
    NodeExecutionRow,
    /// A row of table `task_executions`.
    TaskExecutionRow,
);

/// What a column that cannot be NULL holds for `row`: 0 for none.
pub fn or_zero<R: RowNumber>(row: Option<R>) -> i64 {
    row.map_or(0, R::number)
}
