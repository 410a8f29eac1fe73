//! When the sessions of a pool are to be replaced before their time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Sessions are given up at most this often: while a server stays as it is, new sessions are no better, and making them costs
/// it a process each.
const PAUSE: Duration = Duration::from_secs(1);

/// Which sessions of a pool are still good. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    start: Instant,
    /// Microseconds after `start`; sessions that began before are to be closed. 0: none is.
    before: Arc<AtomicU64>,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            before: Arc::default(),
        }
    }

    /// Gives up the sessions that there are: each is closed when it would be used next.
    pub(super) fn renew(&self) {
        self.renew_at(self.start.elapsed());
    }

    /// As [`Sessions::renew`], however lately it was: later sessions are known to be better.
    pub(super) fn renew_at_once(&self) {
        self.give_up_before(self.start.elapsed());
    }

    /// Whether a session of this `age` may be used.
    pub(super) fn is_current(&self, age: Duration) -> bool {
        self.is_current_at(self.start.elapsed(), age)
    }

    fn renew_at(&self, now: Duration) {
        let before = Duration::from_micros(self.before.load(Ordering::Relaxed));
        if before.is_zero() || now >= before + PAUSE {
            self.give_up_before(now);
        }
    }

    fn give_up_before(&self, now: Duration) {
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.before.store(now.max(1), Ordering::Relaxed);
    }

    fn is_current_at(&self, now: Duration, age: Duration) -> bool {
        let before = Duration::from_micros(self.before.load(Ordering::Relaxed));
        now.saturating_sub(age) >= before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_given_up_once_in_a_while() {
        let sessions = Sessions::new();
        let at = Duration::from_millis;
        assert!(sessions.is_current_at(at(500), at(400)), "nothing is wrong");
        sessions.renew_at(at(1_000));
        for (renewed, now, age, expected) in [
            (1_000, 1_000, 100, false),
            (1_000, 1_500, 600, false),
            (1_000, 1_500, 500, true),
            // Too soon after the first time.
            (1_900, 1_950, 500, true),
            (2_000, 2_100, 500, false),
            (2_000, 2_100, 50, true),
        ] {
            sessions.renew_at(at(renewed));
            assert_eq!(
                sessions.is_current_at(at(now), at(age)),
                expected,
                "renewed at {renewed}, {age} old at {now}"
            );
        }
    }
}
