//! The broken rules of an object: as many as a person reads, and how many more there are.
//!
//! An object of three MiB can break a million rules, and the text for each may be as long as a list of all that is allowed.
//! A refusal that had them all would take thousands of times the memory of the request.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use flyte_core::excerpt::MARK;
use serde_json::{Value, json};

use crate::cluster::api_status::StatusCause;
use crate::cluster::field_path::FieldPath;

/// Most causes that are listed.
const MOST: usize = 100;
/// Most bytes of texts of all causes that are listed, but for the first.
const MOST_BYTES: usize = 64 << 10;
/// Most bytes of one text of a cause.
const MOST_TEXT: usize = 16 << 10;

/// Collects the causes of one refusal.
#[derive(Debug, Default)]
pub(crate) struct Causes {
    listed: Vec<StatusCause>,
    bytes: usize,
    more: usize,
    /// All that were found, also those that are known.
    found: HashSet<u64>,
    count: usize,
    /// What is no cause, because it was so before.
    known: HashSet<u64>,
}

impl Causes {
    /// Collects what another walk did not find.
    pub(crate) fn beyond(other: Self) -> Self {
        Self {
            known: other.found,
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, cause: StatusCause) {
        let identity = (cause.reason, &cause.field, &cause.message);
        let identity = hash(identity);
        self.add_identified(identity, || cause);
    }

    /// Adds a cause whose texts are made only if they are listed. What has the same `identity` is the same cause.
    pub(crate) fn add(&mut self, identity: impl Hash, make: impl FnOnce() -> StatusCause) {
        self.add_identified(hash(identity), make);
    }

    fn add_identified(&mut self, identity: u64, make: impl FnOnce() -> StatusCause) {
        self.count += 1;
        self.found.insert(identity);
        if self.known.contains(&identity) {
            return;
        }
        if self.listed.len() >= MOST || self.bytes >= MOST_BYTES {
            self.more += 1;
            return;
        }
        let mut cause = make();
        cut(&mut cause.field);
        cut(&mut cause.message);
        self.bytes += cause.field.len() + cause.message.len();
        self.listed.push(cause);
    }

    /// How many were found, with those that were known.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether there is nothing to refuse.
    pub(crate) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Those that are listed.
    pub(crate) fn listed(&self) -> &[StatusCause] {
        &self.listed
    }

    /// Those that are listed, as a list of `metav1.StatusCause`.
    pub(crate) fn to_value(&self) -> Value {
        let causes = self.listed.iter().map(
            |cause| json!({ "reason": cause.reason, "message": cause.message, "field": cause.field }),
        );
        Value::Array(causes.collect())
    }

    /// How many there are besides those that are listed.
    pub(crate) fn more(&self) -> usize {
        self.more
    }

    /// Names the fields of causes anew, of those that `walk` adds.
    pub(crate) fn renamed(
        &mut self,
        walk: impl FnOnce(&mut Self),
        rename: impl Fn(&str) -> String,
    ) {
        let before = self.listed.len();
        walk(self);
        for cause in self.listed.iter_mut().skip(before) {
            cause.field = rename(&cause.field);
        }
    }
}

impl Extend<StatusCause> for Causes {
    fn extend<T: IntoIterator<Item = StatusCause>>(&mut self, causes: T) {
        for cause in causes {
            self.push(cause);
        }
    }
}

impl<const N: usize> From<[StatusCause; N]> for Causes {
    fn from(causes: [StatusCause; N]) -> Self {
        let mut collected = Self::default();
        collected.extend(causes);
        collected
    }
}

/// Fields of an object, in the bounds of causes.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    listed: Vec<String>,
    bytes: usize,
    more: usize,
}

impl Fields {
    pub(crate) fn add(&mut self, path: &FieldPath<'_>) {
        if self.listed.len() >= MOST || self.bytes >= MOST_BYTES {
            self.more += 1;
            return;
        }
        let mut field = path.to_string();
        cut(&mut field);
        self.bytes += field.len();
        self.listed.push(field);
    }

    pub(crate) fn count(&self) -> usize {
        self.listed.len() + self.more
    }

    /// A list of what `text` says of each field, and how many more there are.
    pub(crate) fn listed(&self, text: impl Fn(&str) -> String) -> String {
        let listed: Vec<String> = self.listed.iter().map(|field| text(field)).collect();
        and_more(listed.join(", "), self.more)
    }
}

/// A list that says at its end how many more there are.
pub(crate) fn and_more(mut list: String, more: usize) -> String {
    if more > 0 {
        list.push_str(&format!(", and {more} more"));
    }
    list
}

fn cut(text: &mut String) {
    if text.len() > MOST_TEXT {
        text.truncate(text.floor_char_boundary(MOST_TEXT));
        text.push(MARK);
    }
}

fn hash(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}
