//! What is kept: the decisions of retention, as functions of what is known.

use jiff::{SignedDuration, Timestamp};

use super::entries::Selection;
use crate::config::RetentionConfig;

/// The least grace of objects without a row: a request that is still writing its rows has had more than its deadline by then.
const LEAST_GRACE: SignedDuration = SignedDuration::from_mins(10);

/// The least time between two runs.
const LEAST_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// What is kept, and how often that is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Entries that were written last before that go; none keeps them whatever their age.
    pub max_age: Option<SignedDuration>,
    /// Bytes that all entries may have together; none is no limit.
    pub max_bytes: Option<u64>,
    /// How old an object without a row must be to be removed; none removes none.
    pub orphan_grace: Option<SignedDuration>,
    /// The time between the beginnings of two runs.
    pub interval: SignedDuration,
}

impl Policy {
    /// The policy of the configuration. Negative times are none.
    pub fn of(config: &RetentionConfig) -> Self {
        let max_age = config.max_age.to_signed();
        let grace = config.orphan_grace.to_signed();
        Self {
            max_age: max_age.is_positive().then_some(max_age),
            max_bytes: (config.max_bytes > 0).then_some(config.max_bytes),
            orphan_grace: config.remove_orphans.then(|| grace.max(LEAST_GRACE)),
            interval: config.interval.to_signed().max(LEAST_INTERVAL),
        }
    }

    /// Whether there is nothing to do, ever.
    pub fn keeps_everything(&self) -> bool {
        self.max_age.is_none() && self.max_bytes.is_none() && self.orphan_grace.is_none()
    }

    /// Which entries are too old at `now`.
    pub fn expired(&self, now: Timestamp) -> Option<Selection> {
        let age = self.max_age?;
        Some(Selection::default().older_than(age, now))
    }
}

/// How many of the entries of these sizes, the oldest first, must go so that `excess` bytes do.
pub fn needed(sizes: impl IntoIterator<Item = u64>, excess: u64) -> usize {
    let mut left = excess;
    let mut count = 0;
    for bytes in sizes {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(bytes);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use flyte_platform::config::Duration;

    use super::*;

    #[test]
    fn nothing_is_removed_unless_it_is_asked_for() {
        let policy = Policy::of(&RetentionConfig::default());
        assert!(policy.keeps_everything());
        assert_eq!(policy.expired(Timestamp::UNIX_EPOCH), None);
        let asked = RetentionConfig {
            max_age: Duration::hours(-1),
            max_bytes: 7,
            remove_orphans: true,
            orphan_grace: Duration::ZERO,
            interval: Duration::ZERO,
        };
        let expected = Policy {
            max_age: None,
            max_bytes: Some(7),
            orphan_grace: Some(LEAST_GRACE),
            interval: LEAST_INTERVAL,
        };
        assert_eq!(Policy::of(&asked), expected);
    }

    #[test]
    fn as_many_of_the_oldest_go_as_are_needed() {
        for (sizes, excess, expected) in [
            (&[5, 5, 5][..], 0, 0),
            (&[5, 5, 5], 1, 1),
            (&[5, 5, 5], 5, 1),
            (&[5, 5, 5], 6, 2),
            (&[0, 5], 1, 2),
            (&[5], 100, 1),
        ] {
            let found = needed(sizes.iter().copied(), excess);
            assert_eq!(found, expected, "{sizes:?} {excess}");
        }
    }
}
