//! The one source of time.
//!
//! Decisions take `now` as a value; shells hold a [`Clock`]. A simulated clock follows tokio's paused
//! time, so that sleeping and reading the clock agree in a simulation.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The system's clock, or an epoch plus tokio's (possibly paused) time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    System,
    Simulated { epoch: Timestamp, start: Instant },
}

impl Clock {
    /// The wall clock of this machine, UTC.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `epoch` now and then advances with [`tokio::time::Instant`].
    ///
    /// Call it inside the runtime whose time it is to follow.
    pub fn simulated(epoch: Timestamp) -> Self {
        Self(Source::Simulated {
            epoch,
            start: Instant::now(),
        })
    }

    /// The present moment, UTC.
    pub fn now(&self) -> Timestamp {
        match self.0 {
            Source::System => Timestamp::now(),
            Source::Simulated { epoch, start } => {
                let elapsed =
                    SignedDuration::try_from(start.elapsed()).unwrap_or(SignedDuration::MAX);
                epoch.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
            }
        }
    }
}

/// Sleeps until `moment`; for ever if there is none, so that a `select!` can have an arm that is not always due.
pub async fn until(moment: Option<Instant>) {
    match moment {
        None => std::future::pending().await,
        Some(moment) => tokio::time::sleep_until(moment).await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_moves_with_paused_time() {
        let epoch: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::simulated(epoch);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_string(), "2026-01-01T00:01:30Z");
    }
}
