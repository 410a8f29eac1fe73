//! When pods that a namespace has no room for are tried again (spec 05 §4.6). Pure.

use flyte_plugins::{config::BackoffConfig, quota::Amounts};
use jiff::{SignedDuration, Timestamp};

/// Waits are never shorter, whatever `max-duration` says.
const SHORTEST: SignedDuration = SignedDuration::from_millis(100);

/// What is known of a namespace in which the API server refused a pod. One in which it did not has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaBackoff {
    /// How often in a row waiting was of no use.
    exponent: u32,
    next_eligible: Timestamp,
    /// Of these, pods were refused that asked for no more than this.
    ceilings: Amounts,
}

/// What the API server said to a pod that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The pod was tried although others waited.
    pub while_blocked: bool,
    /// What it asked for and there was too little of; empty when it was not a quota that refused it.
    pub scarce: Amounts,
}

impl QuotaBackoff {
    /// Nothing stands in the way of the next pod.
    pub fn new(now: Timestamp) -> Self {
        Self {
            exponent: 0,
            next_eligible: now,
            ceilings: Amounts::new(),
        }
    }

    /// Whether pods that do not ask for less than those that were refused have to wait.
    pub fn is_blocked(&self, now: Timestamp) -> bool {
        now <= self.next_eligible
    }

    /// Whether a pod asks for less than those that were refused.
    pub fn is_eligible(&self, demands: &Amounts) -> bool {
        self.ceilings
            .iter()
            .all(|(name, ceiling)| demands.get(name).is_none_or(|demand| demand < ceiling))
    }

    /// Until when pods have to wait.
    pub fn next_eligible(&self) -> Timestamp {
        self.next_eligible
    }

    /// A pod was created: there is room again, of whatever it may be.
    pub fn created(&mut self, now: Timestamp) {
        *self = Self::new(now);
    }

    /// A pod was refused.
    pub fn refused(&mut self, refusal: &Refusal, config: BackoffConfig, now: Timestamp) {
        if !refusal.while_blocked {
            let longest = config.max_duration.to_signed();
            let seconds = u64::from(config.base_second).saturating_pow(self.exponent);
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            let mut wait = SignedDuration::from_secs(seconds);
            if wait > longest {
                wait = longest;
            } else {
                self.exponent = self.exponent.saturating_add(1);
            }
            self.next_eligible = now.saturating_add(wait.max(SHORTEST)).unwrap_or(now);
        }
        for (name, amount) in &refusal.scarce {
            let ceiling = self.ceilings.entry(name.clone()).or_insert(*amount);
            *ceiling = (*ceiling).min(*amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use flyte_platform::config::Duration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + seconds).unwrap()
    }

    fn amounts(pairs: &[(&str, i128)]) -> Amounts {
        pairs
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), *amount))
            .collect()
    }

    fn refusal(while_blocked: bool, scarce: &[(&str, i128)]) -> Refusal {
        Refusal {
            while_blocked,
            scarce: amounts(scarce),
        }
    }

    /// What happens at a second, and what is to be seen then: exponent, end of the wait, ceilings.
    enum Deed {
        Created,
        Refused(Refusal),
    }

    #[test]
    fn waits_grow_until_a_pod_is_created() {
        use Deed::{Created, Refused};
        let mut backoff = QuotaBackoff::new(at(0));
        assert!(backoff.is_blocked(at(0)) && !backoff.is_blocked(at(1)));
        for (second, deed, exponent, until, ceilings) in [
            (
                1,
                Refused(refusal(false, &[("cpu", 8)])),
                1,
                2,
                &[("cpu", 8)][..],
            ),
            (
                2,
                Refused(refusal(true, &[("cpu", 4)])),
                1,
                2,
                &[("cpu", 4)],
            ),
            (
                3,
                Refused(refusal(false, &[("cpu", 6)])),
                2,
                5,
                &[("cpu", 4)],
            ),
            (
                6,
                Refused(refusal(false, &[("memory", 9)])),
                3,
                10,
                &[("cpu", 4), ("memory", 9)],
            ),
            // 8 and 16 seconds are the next, 20 the most.
            (
                11,
                Refused(refusal(false, &[])),
                4,
                19,
                &[("cpu", 4), ("memory", 9)],
            ),
            (
                20,
                Refused(refusal(false, &[])),
                5,
                36,
                &[("cpu", 4), ("memory", 9)],
            ),
            (
                40,
                Refused(refusal(false, &[])),
                5,
                60,
                &[("cpu", 4), ("memory", 9)],
            ),
            (
                61,
                Refused(refusal(false, &[])),
                5,
                81,
                &[("cpu", 4), ("memory", 9)],
            ),
            (62, Created, 0, 62, &[]),
            (
                63,
                Refused(refusal(false, &[("cpu", 7)])),
                1,
                64,
                &[("cpu", 7)],
            ),
        ] {
            match deed {
                Created => backoff.created(at(second)),
                Refused(refusal) => {
                    backoff.refused(&refusal, BackoffConfig::default(), at(second));
                }
            }
            let expected = QuotaBackoff {
                exponent,
                next_eligible: at(until),
                ceilings: amounts(ceilings),
            };
            assert_eq!(backoff, expected, "second {second}");
        }
    }

    #[test]
    fn a_pod_is_eligible_when_it_asks_for_less_of_everything_scarce() {
        for (ceilings, demands, expected) in [
            (&[][..], &[("cpu", 5)][..], true),
            (&[("cpu", 7)], &[("cpu", 5)], true),
            (&[("cpu", 7)], &[("cpu", 7)], false),
            (&[("cpu", 7)], &[("memory", 9)], true),
            (
                &[("cpu", 7), ("memory", 32)],
                &[("cpu", 6), ("memory", 33)],
                false,
            ),
            (
                &[("cpu", 7), ("memory", 32)],
                &[("cpu", 7), ("memory", 31)],
                false,
            ),
            (
                &[("cpu", 8), ("memory", 34)],
                &[("cpu", 7), ("memory", 32)],
                true,
            ),
        ] {
            let backoff = QuotaBackoff {
                ceilings: amounts(ceilings),
                ..QuotaBackoff::new(at(0))
            };
            assert_eq!(
                backoff.is_eligible(&amounts(demands)),
                expected,
                "{ceilings:?} {demands:?}"
            );
        }
    }

    #[test]
    fn waits_stay_within_what_is_configured() {
        let config = |base_second, max_duration| BackoffConfig {
            base_second,
            max_duration,
        };
        for (case, config, exponent, milliseconds) in [
            ("saturates", config(2, Duration::minutes(10)), 10, 600_000),
            ("grows", config(2, Duration::minutes(10)), 9, 512_000),
            (
                "no number is too large",
                config(u32::MAX, Duration::hours(1)),
                40,
                3_600_000,
            ),
            ("one stays one", config(1, Duration::hours(1)), 40, 1_000),
            ("never at once", config(2, Duration::ZERO), 0, 100),
        ] {
            let mut backoff = QuotaBackoff {
                exponent,
                ..QuotaBackoff::new(at(0))
            };
            backoff.refused(&refusal(false, &[]), config, at(0));
            let wait = backoff.next_eligible().duration_since(at(0));
            assert_eq!(wait.as_millis(), milliseconds, "{case}");
        }
    }
}
