//! What single series are made of: each knows how to tell itself to Prometheus.
//!
//! A process has thousands of series that nothing was ever observed of, and a labelled metric has as many as there are
//! workflows. So a summary keeps nothing before its first observation, and eight bytes for each of a bounded number of
//! recent ones after it.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::sync::Mutex;
use prometheus::proto::{self, MetricType};

/// The quantiles that are exposed, as in flytestdlib.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// Observations older than this are not part of quantiles, as with Go's client.
pub(super) const MAX_AGE: Duration = Duration::from_mins(10);
/// Upper bounds of buckets, in seconds: the default of Go's client.
const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// One series of one metric, changed through a shared reference.
pub(super) trait Series: Default + Send + Sync + 'static {
    /// The type in Prometheus' exposition.
    const TYPE: MetricType;

    /// What the series says at `now`, without labels.
    fn metric(&self, now: Instant) -> proto::Metric;
}

/// Something that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

impl Series for Count {
    const TYPE: MetricType = MetricType::COUNTER;

    fn metric(&self, _now: Instant) -> proto::Metric {
        let mut counter = proto::Counter::default();
        #[expect(clippy::cast_precision_loss, reason = "the format has floats only")]
        counter.set_value(self.0.load(Ordering::Relaxed) as f64);
        let mut metric = proto::Metric::default();
        metric.set_counter(counter);
        metric
    }
}

/// Something that goes up and down.
#[derive(Debug, Default)]
pub(super) struct Level(AtomicI64);

impl Level {
    pub(super) fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Series for Level {
    const TYPE: MetricType = MetricType::GAUGE;

    fn metric(&self, _now: Instant) -> proto::Metric {
        #[expect(clippy::cast_precision_loss, reason = "the format has floats only")]
        let value = self.0.load(Ordering::Relaxed) as f64;
        proto::Metric::from_gauge({
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            gauge
        })
    }
}

/// Count, sum and the quantiles of at most `LIMIT` observations of the last ten minutes.
///
/// Quantiles have the seven digits of a 32-bit float; count and sum are exact.
#[derive(Debug, Default)]
pub(super) struct Samples<const LIMIT: usize>(Mutex<Observed>);

#[derive(Debug, Default)]
struct Observed {
    count: u64,
    sum: f64,
    /// What `recent` counts its seconds from.
    begin: Option<Instant>,
    /// Seconds since `begin` and value.
    recent: VecDeque<(u32, f32)>,
}

impl Observed {
    fn seconds(&self, now: Instant) -> u32 {
        let since = self.begin.map(|begin| now.duration_since(begin));
        u32::try_from(since.unwrap_or_default().as_secs()).unwrap_or(u32::MAX)
    }

    fn is_recent(at: u32, now: u32) -> bool {
        u64::from(now.saturating_sub(at)) <= MAX_AGE.as_secs()
    }
}

impl<const LIMIT: usize> Samples<LIMIT> {
    pub(super) fn observe(&self, value: f64, now: Instant) {
        let mut observed = self.lock();
        observed.begin.get_or_insert(now);
        let at = observed.seconds(now);
        observed.count += 1;
        observed.sum += value;
        while observed.recent.len() >= LIMIT
            || observed
                .recent
                .front()
                .is_some_and(|(oldest, _)| !Observed::is_recent(*oldest, at))
        {
            observed.recent.pop_front();
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "quantiles are exposed in seven digits"
        )]
        observed.recent.push_back((at, value as f32));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Observed> {
        self.0.lock()
    }

    /// The value of each quantile at `now`; not a number where nothing is recent, as Go says it.
    pub(super) fn quantiles(&self, now: Instant) -> Vec<(f64, f64)> {
        let mut recent: Vec<f32> = {
            let observed = self.lock();
            let now = observed.seconds(now);
            let recent = observed.recent.iter();
            recent
                .filter(|(at, _)| Observed::is_recent(*at, now))
                .map(|(_, value)| *value)
                .collect()
        };
        recent.sort_by(f32::total_cmp);
        QUANTILES
            .into_iter()
            .map(|quantile| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "a rank among at most some hundred"
                )]
                let rank = (quantile * recent.len() as f64).ceil() as usize;
                let value = recent.get(rank.saturating_sub(1)).copied();
                (quantile, value.map_or(f64::NAN, f64::from))
            })
            .collect()
    }
}

impl<const LIMIT: usize> Series for Samples<LIMIT> {
    const TYPE: MetricType = MetricType::SUMMARY;

    fn metric(&self, now: Instant) -> proto::Metric {
        let quantiles = self.quantiles(now).into_iter().map(|(quantile, value)| {
            let mut found = proto::Quantile::default();
            found.set_quantile(quantile);
            found.set_value(value);
            found
        });
        let mut summary = proto::Summary::default();
        summary.set_quantile(quantiles.collect());
        {
            let observed = self.lock();
            summary.set_sample_count(observed.count);
            summary.set_sample_sum(observed.sum);
        }
        let mut metric = proto::Metric::default();
        metric.set_summary(summary);
        metric
    }
}

/// Seconds in buckets.
#[derive(Debug, Default)]
pub(super) struct Buckets(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// Observations of at most the bound at the same place, and of more than the bound before it.
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Buckets {
    pub(super) fn observe(&self, seconds: f64) {
        let mut counted = self.lock();
        counted.count += 1;
        counted.sum += seconds;
        let place = BUCKETS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = counted.buckets.get_mut(place) {
            *bucket += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.0.lock()
    }
}

impl Series for Buckets {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn metric(&self, _now: Instant) -> proto::Metric {
        let counted = self.lock();
        let mut below = 0;
        let buckets = BUCKETS.iter().zip(counted.buckets).map(|(bound, count)| {
            below += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counted.count);
        histogram.set_sample_sum(counted.sum);
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_observed_lately() {
        let samples = Samples::<512>::default();
        let begin = Instant::now();
        for value in 1..=100 {
            samples.observe(f64::from(value), begin);
        }
        let quantiles = |after| samples.quantiles(begin + after);
        assert_eq!(quantiles(MAX_AGE), [(0.5, 50.0), (0.9, 90.0), (0.99, 99.0)]);
        let late = MAX_AGE + Duration::from_secs(1);
        assert!(quantiles(late).iter().all(|(_, value)| value.is_nan()));
        samples.observe(7.0, begin + late);
        assert_eq!(quantiles(late), [(0.5, 7.0), (0.9, 7.0), (0.99, 7.0)]);
    }

    #[test]
    fn a_flood_of_observations_is_counted_and_not_kept() {
        let samples = Samples::<128>::default();
        let now = Instant::now();
        for _ in 0..1_280 {
            samples.observe(1.0, now);
        }
        let observed = samples.lock();
        assert_eq!((observed.count, observed.recent.len()), (1_280, 128));
    }

    #[test]
    fn a_bucket_counts_what_is_at_most_its_bound() {
        let buckets = Buckets::default();
        for seconds in [0.001, 0.005, 0.3, 60.0] {
            buckets.observe(seconds);
        }
        let metric = buckets.metric(Instant::now());
        let counts: Vec<u64> = metric
            .get_histogram()
            .get_bucket()
            .iter()
            .map(proto::Bucket::cumulative_count)
            .collect();
        assert_eq!(counts, [2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
        assert_eq!(metric.get_histogram().get_sample_count(), 4);
    }
}
