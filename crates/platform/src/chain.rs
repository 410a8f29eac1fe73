//! Errors with all their causes on one line.

use std::{error::Error, fmt};

/// Displays an error and its sources, separated by `: `; one whose text ends the one before is not told again.
///
/// Our errors say only their own layer; the log formats drop sources, so whoever stops an error's
/// journey logs `Chain(&error)`.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        formatter.write_str(&said)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Errors of others tell their cause in their own text.
            if !said.ends_with(&text) {
                write!(formatter, ": {text}")?;
            }
            said = text;
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    fn chain(texts: &[&'static str]) -> Option<Box<Link>> {
        let (text, rest) = texts.split_first()?;
        let source = chain(rest);
        Some(Box::new(Link { text, source }))
    }

    #[test]
    fn each_cause_is_told_once() {
        for (texts, expected) in [
            (&["a"][..], "a"),
            (&["a", "b", "c"], "a: b: c"),
            (&["a", "b: c", "c"], "a: b: c"),
            (&["a: b: c", "b: c", "c"], "a: b: c"),
        ] {
            assert_eq!(Chain(&*chain(texts).unwrap()).to_string(), expected);
        }
    }
}
