//! Random programs as flytekit writes them.
//!
//! flytekit says less than the templates of a workflow can, and says some of it in one way only: nodes are numbered in the
//! order of their calls, an optional input that is left out is bound to nothing, a failure handler takes all inputs of its
//! workflow, conditions compare promises. [`write()`] makes of a program the nearest one that flytekit can say, its source,
//! and what remains unsaid is an [`Unwritable`].

mod shape;
mod source;

use std::fmt;

use super::program::Program;

/// A program in Python.
#[derive(Clone, Debug)]
pub struct Written {
    /// What flytekit registers for it: the program whose end must be that of the source.
    pub program: Program,
    /// Definitions of its tasks and workflows, for a module that has the names of `tests/python/truth_tasks.py`.
    pub source: String,
    /// The function of the workflow that is run.
    pub workflow: String,
    /// Its inputs, an expression.
    pub inputs: String,
}

/// Why a program cannot be written with flytekit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unwritable {
    /// A dataclass that travels as a protobuf struct: flytekit decides for all of a process how dataclasses travel.
    Structure,
    /// A condition that compares two constants: Python would compare them.
    Constants,
    /// A sub-workflow in a branch in a branch: flytekit does not register it with the workflow around them.
    Hidden,
    /// A branch whose conditions look at two places of one output: flytekit gives both operands the same name.
    Operands,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Structure => "a dataclass as a protobuf struct",
            Self::Constants => "a condition of two constants",
            Self::Hidden => "a sub-workflow in a branch in a branch",
            Self::Operands => "two places of one output in the conditions of a branch",
        })
    }
}

/// The program in Python; names of its tasks and workflows begin with `prefix`.
///
/// # Errors
/// What of it flytekit cannot say.
pub fn write(program: &Program, prefix: &str) -> Result<Written, Unwritable> {
    let program = shape::shape(program)?;
    Ok(Written {
        source: source::source(&program, prefix),
        workflow: source::workflow_name(prefix, 0),
        inputs: source::inputs(&program),
        program,
    })
}

#[cfg(test)]
mod tests;
