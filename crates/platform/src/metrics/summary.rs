//! Summaries and stop watches without labels. Go's dashboards ask for quantiles (spec 07 §12), and the prometheus crate
//! has only histograms.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{
    samples::{Samples, Series},
    series::{described, family},
};

/// Of more observations than these the oldest are left out: enough for the last percent, in four kilobytes.
const SAMPLES: usize = 512;

/// Count, sum and quantiles of the last ten minutes.
///
/// It takes no memory for observations before the first, and at most four kilobytes.
#[derive(Clone, Debug)]
pub struct Summary(Arc<SingleSeries<Samples<SAMPLES>>>);

/// A metric without labels: there from the start, with nothing counted.
#[derive(Debug)]
pub(super) struct SingleSeries<S> {
    description: Desc,
    pub(super) series: S,
}

impl<S: Series> SingleSeries<S> {
    pub(super) fn new(name: String, help: &str) -> prometheus::Result<Self> {
        Ok(Self {
            description: described(name, help, &[])?,
            series: S::default(),
        })
    }

    pub(super) fn descriptions(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        let metrics = vec![self.series.metric(Instant::now())];
        vec![family(&self.description, S::TYPE, metrics)]
    }
}

impl Summary {
    pub(super) fn new(name: String, help: &str) -> prometheus::Result<Self> {
        Ok(Self(Arc::new(SingleSeries::new(name, help)?)))
    }

    /// Counts one observation.
    pub fn observe(&self, value: f64) {
        self.0.series.observe(value, Instant::now());
    }

    /// Counts a size in bytes.
    #[expect(
        clippy::cast_precision_loss,
        reason = "sizes beyond 2^53 bytes do not occur"
    )]
    pub fn observe_size(&self, bytes: usize) {
        self.observe(bytes as f64);
    }
}

impl Collector for Summary {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

/// What a stop watch counts in; its name ends in it (spec 07 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `_ns`
    Nanoseconds,
    /// `_us`
    Microseconds,
    /// `_ms`
    Milliseconds,
    /// `_s`
    Seconds,
}

impl Unit {
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
        }
    }

    /// Whole units in `time`; what is left over is dropped, as Go does.
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 104 days of nanoseconds"
    )]
    pub(super) fn whole(self, time: Duration) -> f64 {
        let units = match self {
            Self::Nanoseconds => time.as_nanos(),
            Self::Microseconds => time.as_micros(),
            Self::Milliseconds => time.as_millis(),
            Self::Seconds => u128::from(time.as_secs()),
        };
        units as f64
    }
}

/// A summary of how long something took, in whole units (spec 07 §3).
#[derive(Clone, Debug)]
pub struct StopWatch {
    summary: Summary,
    unit: Unit,
}

impl StopWatch {
    pub(super) fn over(summary: Summary, unit: Unit) -> Self {
        Self { summary, unit }
    }

    /// Counts one that took `time`.
    pub fn observe(&self, time: Duration) {
        self.summary.observe(self.unit.whole(time));
    }

    /// Waits for `work` and counts how long it took, whatever came of it. Work that nobody waits for any more is not
    /// counted.
    pub async fn timed<T>(&self, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let outcome = work.await;
        self.observe(start.elapsed());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_watch_counts_whole_units() {
        let time = Duration::new(2, 999_999_999);
        for (unit, whole) in [
            (Unit::Nanoseconds, 2_999_999_999.0),
            (Unit::Microseconds, 2_999_999.0),
            (Unit::Milliseconds, 2_999.0),
            (Unit::Seconds, 2.0),
        ] {
            assert!((unit.whole(time) - whole).abs() < f64::EPSILON, "{unit:?}");
        }
    }
}
