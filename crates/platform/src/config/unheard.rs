//! Keys of Go's configuration that a service takes and does nothing with.
//!
//! Files of Go's charts have them, so they are no mistake; but whoever changes one expects something of it, and finds a
//! warning in the log.

use serde_json::Value;

use super::{Problem, Shape};

/// A key whose value makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// Its path, or what all such paths begin with: `storage.cache` is also `storage.cache.max_size_mbs`.
    pub key: &'static str,
    /// What is the case instead.
    pub instead: &'static str,
}

impl Unheard {
    /// Whether it is about the key `path`.
    pub fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.key)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// A warning for each key of section `name` that was given another value than its default, although nothing hears it.
pub(super) fn given(unheard: &[Unheard], name: &str, shape: &Shape, value: &Value) -> Vec<Problem> {
    let mut found = Vec::new();
    for leaf in shape.leaves() {
        let path = format!("{name}.{leaf}");
        let Some(known) = unheard.iter().find(|known| known.covers(&path)) else {
            continue;
        };
        let given = leaf.split('.').try_fold(value, |at, part| at.get(part));
        let default = shape.at(&leaf).map(Shape::to_value);
        if given.is_some_and(|given| Some(given) != default.as_ref()) {
            found.push(Problem {
                key: path,
                message: format!("this key changes nothing: {}", known.instead),
            });
        }
    }
    found
}
