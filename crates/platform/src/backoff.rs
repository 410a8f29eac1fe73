//! How long to wait before something is tried again.

use std::{
    hash::{Hash as _, Hasher as _},
    time::Duration,
};

/// Exponential back-off: each wait is twice the one before, up to the longest, and spread so that those who began
/// together do not march in step.
///
/// ```
/// # use std::time::Duration;
/// let backoff = flyte_platform::Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// let wait = backoff.wait(3, 7);
/// assert!(wait >= Duration::from_millis(200) && wait <= Duration::from_millis(400));
/// assert_eq!(wait, backoff.wait(3, 7), "the same for the same seed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// The first wait and the longest one, before they are spread.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The wait after so many tries, from 1 on: between half of it and all of it, as `seed` decides. Whoever has no
    /// seed of its own takes a random one.
    pub fn wait(&self, tries: u32, seed: u64) -> Duration {
        let doubled = 2_u32.saturating_pow(tries.saturating_sub(1).min(31));
        let whole = self.first.saturating_mul(doubled).min(self.longest);
        let mut hasher = fnv::FnvHasher::default();
        (seed, tries).hash(&mut hasher);
        let share = 512 + u32::try_from(hasher.finish() >> 7 & 511).unwrap_or(0);
        whole / 1_024 * (share + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ_between_seeds() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        for (tries, whole) in [(1, 100), (2, 200), (4, 800), (7, 5_000), (400, 5_000)] {
            for seed in 0..100 {
                let wait = backoff.wait(tries, seed).as_millis();
                assert!(
                    wait >= whole / 2 - 1 && wait <= whole,
                    "{tries} tries: {wait} ms"
                );
            }
        }
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|seed| backoff.wait(5, seed)).collect();
        assert!(waits.len() > 50, "{}", waits.len());
    }
}
