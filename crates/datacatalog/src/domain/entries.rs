//! Entries of the cache, as operators speak of them: artifacts by where they are from, what names them, and their age.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use flyte_core::catalog::DATASET_PREFIX as TASK;

/// What propeller puts behind the cache version of a task: two hashes of its interface, as a pattern of LIKE (spec 06 B2).
const HASHES: &str = "-________-________";

/// Which entries; a field that is missing fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    /// The project of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Its domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The name of the dataset: [`TASK`] and the name of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version of the dataset, or the cache version that it begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A tag, which is the hash of inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Those that were written last before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_before: Option<Timestamp>,
}

impl Selection {
    /// Whether every entry fits, whatever it is and however old.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// The same, as far as it is older than `age` at `now`.
    #[must_use]
    pub fn older_than(mut self, age: SignedDuration, now: Timestamp) -> Self {
        let before = now.saturating_sub(age).unwrap_or(now);
        self.written_before = Some(
            self.written_before
                .map_or(before, |given| given.min(before)),
        );
        self
    }

    /// The same without fields that are empty, as a query without a value has them.
    #[must_use]
    pub fn without_blanks(mut self) -> Self {
        for field in [
            &mut self.project,
            &mut self.domain,
            &mut self.name,
            &mut self.version,
            &mut self.tag,
        ] {
            field.take_if(|value| value.is_empty());
        }
        self
    }
}

/// The pattern of LIKE, with `\` for escapes, that versions fit which begin with this cache version.
pub fn versions_of(cache_version: &str) -> String {
    let mut pattern = String::with_capacity(cache_version.len() + HASHES.len());
    for character in cache_version.trim_matches(' ').chars() {
        if matches!(character, '\\' | '%' | '_') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern + HASHES
}

/// Where a page of entries ends: entries are listed by when they were written last, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// When the last entry of the page was written.
    pub written_at: Timestamp,
    /// Its artifact's id.
    pub artifact: String,
}

impl Position {
    /// The text that clients bring back for the next page.
    pub fn token(&self) -> String {
        format!("{}:{}", self.written_at.as_microsecond(), self.artifact)
    }

    /// The position of a token; none for an empty one.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a text that is no token.
    pub fn of_token(token: &str) -> Result<Option<Self>> {
        if token.is_empty() {
            return Ok(None);
        }
        let read = || {
            let (microseconds, artifact) = token.split_once(':')?;
            let written_at = Timestamp::from_microsecond(microseconds.parse().ok()?).ok()?;
            Some(Self {
                written_at,
                artifact: artifact.to_owned(),
            })
        };
        let position = read();
        position
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("Invalid token value: {token}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_pattern_of_a_version_takes_nothing_for_a_wildcard() {
        for (version, pattern) in [
            ("1.0", "1.0-________-________"),
            (" 1.0 ", "1.0-________-________"),
            ("a_b%c\\", "a\\_b\\%c\\\\-________-________"),
        ] {
            assert_eq!(versions_of(version), pattern, "{version}");
        }
    }

    #[test]
    fn the_earlier_of_two_moments_counts() {
        let given = |second: Option<i64>| Selection {
            written_before: second.map(at),
            ..Selection::default()
        };
        for (before, age, expected) in [(None, 10, 90), (Some(50), 10, 50), (Some(95), 10, 90)] {
            let selection = given(before).older_than(SignedDuration::from_secs(age), at(100));
            assert_eq!(selection, given(Some(expected)));
            assert!(!selection.is_everything());
        }
        let blank = Selection {
            project: Some(String::new()),
            ..Selection::default()
        };
        assert!(!blank.is_everything());
        assert!(blank.without_blanks().is_everything());
    }

    #[test]
    fn a_token_is_read_back_and_others_are_refused() {
        let position = Position {
            written_at: Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(),
            artifact: "a:b".to_owned(),
        };
        let read = Position::of_token(&position.token()).unwrap();
        assert_eq!(read, Some(position));
        assert_eq!(Position::of_token("").unwrap(), None);
        for token in ["x", "x:y", "99999999999999999999:y"] {
            let error = Position::of_token(token).unwrap_err();
            assert_eq!(error.to_string(), format!("Invalid token value: {token}"));
        }
    }
}
