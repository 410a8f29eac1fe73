//! Metrics with labels: one series for each combination of values, made when it is first counted.
//!
//! The vectors of the prometheus crate hash the values one after the other without anything between them, so that node
//! `n0` without task and task `n0` without node would be one series; labels here are often empty.

use std::{
    collections::HashMap,
    fmt,
    sync::{PoisonError, RwLock},
    time::Instant,
};

use prometheus::{
    core::Desc,
    proto::{LabelPair, Metric, MetricFamily, MetricType},
};

use super::samples::Series;

/// Ends every value; it never occurs in UTF-8.
const END: u8 = 0xff;

/// All series of one metric.
pub(super) struct LabelledSeries<S> {
    description: Desc,
    /// By the values of the labels, each with [`END`] after it.
    series: RwLock<HashMap<Box<[u8]>, S>>,
}

impl<S> fmt::Debug for LabelledSeries<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LabelledSeries({})", self.description.fq_name)
    }
}

impl<S: Series> LabelledSeries<S> {
    pub(super) fn new(name: String, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Ok(Self {
            description: described(name, help, labels)?,
            series: RwLock::default(),
        })
    }

    /// Changes the series of `values`, which come in the order of the labels.
    pub(super) fn with<'a>(&self, values: impl Iterator<Item = &'a str>, change: impl FnOnce(&S)) {
        let mut key = Vec::with_capacity(96);
        for value in values {
            key.extend_from_slice(value.as_bytes());
            key.push(END);
        }
        {
            let known = self.series.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(series) = known.get(key.as_slice()) {
                return change(series);
            }
        }
        let mut known = self.series.write().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(key.into_boxed_slice()).or_default());
    }

    pub(super) fn descriptions(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        let now = Instant::now();
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let metrics = known.iter().map(|(key, series)| {
            let mut metric = series.metric(now);
            let values = key.split(|byte| *byte == END);
            let labels = self.description.variable_labels.iter().zip(values);
            metric.set_label(labels.map(|(name, value)| pair(name, value)).collect());
            metric
        });
        vec![family(&self.description, S::TYPE, metrics.collect())]
    }
}

fn pair(name: &str, value: &[u8]) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(String::from_utf8_lossy(value).into_owned());
    pair
}

/// What a registry wants to know of a metric.
pub(super) fn described(name: String, help: &str, labels: &[&str]) -> prometheus::Result<Desc> {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    Desc::new(name, help.to_owned(), labels, std::iter::empty().collect())
}

/// The series of one metric as the registry takes them.
pub(super) fn family(
    description: &Desc,
    metric_type: MetricType,
    series: Vec<Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(description.fq_name.clone());
    family.set_help(description.help.clone());
    family.set_field_type(metric_type);
    family.set_metric(series);
    family
}
