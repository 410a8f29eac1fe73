//! Errors with all their causes on one line.

use std::{error::Error, fmt};

/// Displays an error and its sources, separated by `: `.
///
/// Our errors say only their own layer; the log formats drop sources, so whoever stops an error's
/// journey logs `Chain(&error)`.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(formatter, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
