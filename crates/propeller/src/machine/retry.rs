//! Whether and when an effect that failed is tried again. Pure.
//!
//! What a backend refuses is tried `propeller.max-workflow-retries` times more, as Go counts its rounds (spec 04 §3.3);
//! one that does not answer is waited for. Nothing is held meanwhile, and what waits can be aborted and can time out.

use std::{
    fmt,
    hash::{Hash as _, Hasher as _},
    time::Duration,
};

use flyte_idl::core::ExecutionError;
use flyte_platform::Backoff;
use jiff::{SignedDuration, Timestamp};

use crate::{
    effects::{Answered, TransientError},
    node::system,
};

/// Waits between tries that are refused.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// Waits for a backend that does not answer: shorter, so that work goes on soon after it is back.
const NO_ANSWER: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// A backend that does not answer is waited for no longer than this.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);
/// From which try on a user is told; what is over before was not worth it.
const SHOWN_FROM: u32 = 3;

/// An effect that has failed and is tried again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Retry {
    /// What was tried, in the infinitive.
    purpose: &'static str,
    /// When it failed first.
    pub(super) since: Timestamp,
    tries: u32,
    refusals: u32,
    /// It is not tried before.
    pub(super) not_before: Timestamp,
    error: TransientError,
}

/// How long tries go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy<'a> {
    /// How often a refused effect is tried again.
    pub(super) most_refusals: u32,
    /// Whose effect it is; spreads the waits of several apart.
    pub(super) subject: &'a str,
}

impl Retry {
    /// The next try of an effect that has failed; `previous` is how it went before.
    ///
    /// # Errors
    /// What node or workflow fails with when there is no other try.
    pub(super) fn next(
        previous: Option<Self>,
        purpose: &'static str,
        error: TransientError,
        policy: Policy<'_>,
        now: Timestamp,
    ) -> Result<Self, Box<ExecutionError>> {
        let previous = previous.filter(|previous| previous.purpose == purpose);
        let (since, tries, refusals) = previous.map_or((now, 0, 0), |previous| {
            (previous.since, previous.tries, previous.refusals)
        });
        let is_refused = error.answered == Answered::Refused;
        let (tries, refusals) = (tries + 1, refusals + u32::from(is_refused));
        let backoff = if is_refused { REFUSED } else { NO_ANSWER };
        let mut seed = fnv::FnvHasher::default();
        policy.subject.hash(&mut seed);
        let wait = backoff.wait(tries, seed.finish()).max(error.retry_after);
        let retry = Self {
            purpose,
            since,
            tries,
            refusals,
            not_before: now.saturating_add(wait).unwrap_or(now),
            error,
        };
        let elapsed = now.duration_since(since);
        if refusals <= policy.most_refusals && elapsed <= LONGEST {
            return Ok(retry);
        }
        let message = format!(
            "{retry}; given up after {tries} tries in {} s, {refusals} of them refused \
             (propeller.max-workflow-retries is {})",
            elapsed.as_secs(),
            policy.most_refusals
        );
        Err(Box::new(system("RuntimeExecutionError", message)))
    }

    /// Whether a user is to read about it now: once it has lasted, and then more and more seldom.
    pub(super) fn is_shown(&self) -> bool {
        self.tries == SHOWN_FROM || (self.tries > SHOWN_FROM && self.tries.is_power_of_two())
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match self.error.answered {
            Answered::Refused => "refuses",
            Answered::NoAnswer => "is not available",
        };
        write!(
            formatter,
            "cannot {}: {} {said}: {}",
            self.purpose, self.error.backend, self.error.message
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Backend;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn failing(answered: Answered) -> TransientError {
        TransientError {
            backend: Backend::Kubernetes,
            answered,
            message: "m".into(),
            retry_after: Duration::ZERO,
        }
    }

    /// Tries until it is given up, or so often.
    fn tries(answered: Answered, most: u32) -> (u32, i64, Option<Box<ExecutionError>>) {
        let policy = Policy {
            most_refusals: 10,
            subject: "n0",
        };
        let (mut previous, mut now) = (None, at(0));
        for tried in 0..most {
            match Retry::next(previous, "create the pod", failing(answered), policy, now) {
                Ok(retry) => {
                    assert!(retry.not_before > now);
                    now = retry.not_before;
                    previous = Some(retry);
                }
                Err(error) => return (tried, now.duration_since(at(0)).as_secs(), Some(error)),
            }
        }
        (most, now.duration_since(at(0)).as_secs(), None)
    }

    #[test]
    fn what_is_refused_is_given_up_and_who_is_away_is_waited_for() {
        let (tried, seconds, error) = tries(Answered::Refused, 100);
        assert_eq!(tried, 10);
        assert!((30..120).contains(&seconds), "{seconds}");
        let error = error.unwrap();
        assert_eq!(error.code, "RuntimeExecutionError");
        let begin = "cannot create the pod: the Kubernetes API refuses: m; given up after 11 tries";
        assert!(error.message.starts_with(begin), "{}", error.message);

        let (tried, seconds, error) = tries(Answered::NoAnswer, 1_000);
        assert_eq!((tried, error), (1_000, None));
        assert!(
            seconds < 5_000,
            "no wait is longer than five seconds: {seconds}"
        );
        let (_, seconds, error) = tries(Answered::NoAnswer, 100_000);
        assert!(
            error.is_some() && (86_400..86_410).contains(&seconds),
            "{seconds}"
        );
    }

    #[test]
    fn a_turn_that_comes_later_is_waited_for() {
        let policy = Policy {
            most_refusals: 10,
            subject: "n0",
        };
        for (seconds, waited) in [(0, 0), (60, 60)] {
            let mut error = failing(Answered::Refused);
            error.retry_after = Duration::from_secs(seconds);
            let retry = Retry::next(None, "a", error, policy, at(0)).unwrap();
            assert_eq!(retry.not_before.duration_since(at(0)).as_secs(), waited);
        }
    }

    #[test]
    fn another_effect_is_counted_anew() {
        let policy = Policy {
            most_refusals: 0,
            subject: "n0",
        };
        let first = failing(Answered::NoAnswer);
        let first = Retry::next(None, "a", first, policy, at(0)).unwrap();
        let second = failing(Answered::NoAnswer);
        let second = Retry::next(Some(first), "b", second, policy, at(60)).unwrap();
        assert_eq!((second.since, second.tries), (at(60), 1));
    }
}
