//! Where a walk through an object is, written out only for whom it has to be told.
//!
//! A walk visits as many places as there are bytes in a document, and each place may lie below names of any length: a text
//! for each would cost the square of the document.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A place in an object, as Kubernetes writes it: `spec.containers[0].image`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldPath<'a> {
    around: Option<&'a FieldPath<'a>>,
    step: Step<'a>,
    identity: u64,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    /// A text that says where a walk begins; empty for the object as a whole.
    Root(&'a str),
    Member(&'a str),
    Item(usize),
    Entry(&'a str),
}

impl<'a> FieldPath<'a> {
    /// Where a walk begins: empty for an object as a whole.
    pub(crate) fn root(text: &'a str) -> Self {
        Self {
            around: None,
            step: Step::Root(text),
            identity: hash((0_u8, text)),
        }
    }

    /// A member of the object here.
    pub(crate) fn member(&'a self, name: &'a str) -> Self {
        Self {
            around: Some(self),
            step: Step::Member(name),
            identity: hash((self.identity, name)),
        }
    }

    /// An item of the list here.
    pub(crate) fn item(&'a self, index: usize) -> Self {
        Self {
            around: Some(self),
            step: Step::Item(index),
            identity: hash((self.identity, index)),
        }
    }

    /// An entry of the list here, told by `text` with its brackets: `[name="a"]`.
    pub(crate) fn entry(&'a self, text: &'a str) -> Self {
        Self {
            around: Some(self),
            step: Step::Entry(text),
            identity: hash((self.identity, text, 0_u8)),
        }
    }

    /// A number that stands for the place: the same in each walk.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }
}

fn hash(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outward = std::iter::successors(Some(self), |path| path.around);
        let steps: Vec<Step<'_>> = outward.map(|path| path.step).collect();
        let mut is_empty = true;
        for step in steps.into_iter().rev() {
            match step {
                Step::Root(text) | Step::Entry(text) => formatter.write_str(text)?,
                Step::Member(name) if is_empty => formatter.write_str(name)?,
                Step::Member(name) => write!(formatter, ".{name}")?,
                Step::Item(index) => write!(formatter, "[{index}]")?,
            }
            is_empty &= matches!(step, Step::Root(""));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_kubernetes_writes_it() {
        let object = FieldPath::root("");
        let version = FieldPath::root("spec.versions[0]");
        let (spec, schema) = (object.member("spec"), version.member("schema"));
        let list = spec.member("list");
        for (path, text) in [
            (object, ""),
            (spec, "spec"),
            (list.item(3), "spec.list[3]"),
            (list.item(3).member("a"), "spec.list[3].a"),
            (schema, "spec.versions[0].schema"),
            (object.item(1), "[1]"),
            (list.entry("[name=\"a\"]"), "spec.list[name=\"a\"]"),
        ] {
            assert_eq!(path.to_string(), text);
        }
        assert_eq!(list.item(3).identity(), list.item(3).identity());
        assert_ne!(list.item(3).identity(), list.item(4).identity());
    }
}
