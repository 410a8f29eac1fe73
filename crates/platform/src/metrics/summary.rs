//! Summaries: quantiles of what was observed lately. Go's dashboards ask for them (spec 07 §12), and the prometheus crate
//! has only histograms.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{
    core::{Collector, Desc},
    proto::{self, MetricFamily, MetricType},
};

/// The quantiles that are told, as in flytestdlib.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// Observations older than this are not part of quantiles, as with Go's client.
const MAX_AGE: Duration = Duration::from_mins(10);
/// Of more than these, the oldest are left out: enough for the last percent, and a bounded kilobyte or so.
const MAX_SAMPLES: usize = 512;

/// Count, sum and quantiles of observations.
#[derive(Clone, Debug)]
pub struct Summary(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    description: Desc,
    observed: Mutex<Observed>,
}

#[derive(Debug, Default)]
struct Observed {
    count: u64,
    sum: f64,
    recent: VecDeque<(Instant, f64)>,
}

impl Summary {
    pub(super) fn new(name: String, help: &str) -> prometheus::Result<Self> {
        let description = Desc::new(
            name,
            help.to_owned(),
            Vec::new(),
            std::iter::empty().collect(),
        )?;
        Ok(Self(Arc::new(Inner {
            description,
            observed: Mutex::default(),
        })))
    }

    /// Counts one observation.
    pub fn observe(&self, value: f64) {
        self.observe_at(value, Instant::now());
    }

    fn observe_at(&self, value: f64, now: Instant) {
        let mut observed = self.lock();
        observed.count += 1;
        observed.sum += value;
        if observed.recent.len() == MAX_SAMPLES {
            observed.recent.pop_front();
        }
        observed.recent.push_back((now, value));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Observed> {
        self.0
            .observed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of each quantile at `now`; not a number where nothing is recent, as Go says it.
    fn quantiles_at(&self, now: Instant) -> Vec<(f64, f64)> {
        let mut recent: Vec<f64> = self
            .lock()
            .recent
            .iter()
            .filter(|(at, _)| now.duration_since(*at) <= MAX_AGE)
            .map(|(_, value)| *value)
            .collect();
        recent.sort_by(f64::total_cmp);
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
                (quantile, value.unwrap_or(f64::NAN))
            })
            .collect()
    }
}

impl Collector for Summary {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let quantiles = self
            .quantiles_at(Instant::now())
            .into_iter()
            .map(|(quantile, value)| {
                let mut told = proto::Quantile::default();
                told.set_quantile(quantile);
                told.set_value(value);
                told
            })
            .collect();
        let mut summary = proto::Summary::default();
        {
            let observed = self.lock();
            summary.set_sample_count(observed.count);
            summary.set_sample_sum(observed.sum);
        }
        summary.set_quantile(quantiles);
        let mut metric = proto::Metric::default();
        metric.set_summary(summary);
        let mut family = MetricFamily::default();
        family.set_name(self.0.description.fq_name.clone());
        family.set_help(self.0.description.help.clone());
        family.set_field_type(MetricType::SUMMARY);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_observed_lately() {
        let summary = Summary::new("x".into(), "X.").unwrap();
        let begin = Instant::now();
        for value in 1..=100 {
            summary.observe_at(f64::from(value), begin);
        }
        let told = |after| summary.quantiles_at(begin + after);
        assert_eq!(told(MAX_AGE), [(0.5, 50.0), (0.9, 90.0), (0.99, 99.0)]);
        let late = MAX_AGE + Duration::from_secs(1);
        assert!(told(late).iter().all(|(_, value)| value.is_nan()));
        summary.observe_at(7.0, begin + late);
        assert_eq!(told(late), [(0.5, 7.0), (0.9, 7.0), (0.99, 7.0)]);
    }

    #[test]
    fn a_flood_of_observations_is_counted_and_not_kept() {
        let summary = Summary::new("x".into(), "X.").unwrap();
        for _ in 0..10 * MAX_SAMPLES {
            summary.observe(1.0);
        }
        let observed = summary.lock();
        assert_eq!(
            (observed.count, observed.recent.len()),
            (5_120, MAX_SAMPLES)
        );
    }
}
