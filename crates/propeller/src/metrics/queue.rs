//! `main_`: workflows that were woken and have not looked yet.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use flyte_platform::metrics::{MetricError, Scope};
use flyte_platform::sync::Mutex;
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

/// The queue. Clones are the same.
#[derive(Clone, Debug)]
pub struct QueueMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    adds: IntCounter,
    /// A workflow whose effect fails is not queued again: the effect is tried again.
    _retries: IntCounter,
    depth: IntGauge,
    latency: Histogram,
    work: Histogram,
    unfinished: Gauge,
    longest: Gauge,
    /// When the rounds under way began.
    rounds: Mutex<BTreeMap<u64, Instant>>,
    next: AtomicU64,
}

/// A workflow that was woken; it leaves the queue when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    queue: QueueMetrics,
    since: Instant,
}

/// A round under way; it is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Round {
    queue: QueueMetrics,
    number: u64,
    pub(crate) began: Instant,
}

impl QueueMetrics {
    /// Registers the queue in the scope of the engine.
    ///
    /// # Errors
    /// When it is registered already.
    pub fn register(scope: &Scope) -> Result<Self, MetricError> {
        let none: [&str; 0] = [];
        Ok(Self(Arc::new(Inner {
            adds: scope.counter("main_adds", "Workflows that were woken.")?,
            _retries: scope.counter("main_retries", "Workflows that were queued again.")?,
            depth: scope.gauge(
                "main_depth",
                "Workflows that were woken and have not looked.",
            )?,
            latency: scope
                .seconds(
                    "main_queue_latency_us",
                    "Seconds from waking to looking.",
                    &none,
                )?
                .with_label_values(&none),
            work: scope
                .seconds("main_work_duration_us", "Seconds that rounds took.", &none)?
                .with_label_values(&none),
            unfinished: scope
                .float_gauges(
                    "main_unfinished_work_s",
                    "Seconds of all rounds under way.",
                    &none,
                )?
                .with_label_values(&none),
            longest: scope
                .float_gauges(
                    "main_longest_running_processor_s",
                    "Seconds of the longest round under way.",
                    &none,
                )?
                .with_label_values(&none),
            rounds: Mutex::default(),
            next: AtomicU64::new(0),
        })))
    }

    /// A workflow was woken that had nothing to do.
    pub fn woken(&self) -> Waiting {
        self.0.adds.inc();
        self.0.depth.inc();
        Waiting {
            queue: self.clone(),
            since: Instant::now(),
        }
    }

    /// A round begins.
    pub(crate) fn begins(&self) -> Round {
        let began = Instant::now();
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.with_rounds(|rounds| rounds.insert(number, began));
        Round {
            queue: self.clone(),
            number,
            began,
        }
    }

    /// Looks how long the rounds under way have taken.
    pub(crate) fn look_at_rounds(&self) {
        let now = Instant::now();
        let (sum, longest) = self.with_rounds(|rounds| {
            let seconds = rounds
                .values()
                .map(|began| now.saturating_duration_since(*began).as_secs_f64());
            seconds.fold((0.0, 0.0), |(sum, longest): (f64, f64), next| {
                (sum + next, longest.max(next))
            })
        });
        self.0.unfinished.set(sum);
        self.0.longest.set(longest);
    }

    fn with_rounds<T>(&self, use_them: impl FnOnce(&mut BTreeMap<u64, Instant>) -> T) -> T {
        use_them(&mut self.0.rounds.lock())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.queue.0.depth.dec();
        self.queue
            .0
            .latency
            .observe(self.since.elapsed().as_secs_f64());
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.queue.with_rounds(|rounds| rounds.remove(&self.number));
        self.queue
            .0
            .work
            .observe(self.began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflows_are_counted_as_they_come_and_go() {
        let scope = Scope::new("");
        let queue = QueueMetrics::register(&scope).unwrap();
        let waiting = (queue.woken(), queue.woken());
        assert_eq!(queue.0.depth.get(), 2);
        drop(waiting);
        assert_eq!((queue.0.adds.get(), queue.0.depth.get()), (2, 0));
        assert_eq!(queue.0.latency.get_sample_count(), 2);
        let round = queue.begins();
        queue.look_at_rounds();
        assert!(queue.0.longest.get() > 0.0);
        drop(round);
        queue.look_at_rounds();
        assert!(queue.0.longest.get() == 0.0 && queue.0.work.get_sample_count() == 1);
    }
}
