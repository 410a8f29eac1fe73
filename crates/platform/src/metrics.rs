//! Prometheus metrics under Go's names (spec 07 §3).
//!
//! A name is its scopes joined by `:` plus the metric's own name, e.g. `flyte:propeller:all:round:...`. Each
//! module registers a struct of its metrics once, at wiring; a [`Scope`] is passed down, there is no global.

mod labelled;
mod labels;
mod samples;
mod series;
mod summary;

use prometheus::{
    CounterVec, Encoder as _, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use labelled::{
    LabelledCounter, LabelledGauge, LabelledHistogram, LabelledStopWatch, Unlabelled,
};
pub use labels::{LabelKeys, Labels};
pub use summary::{StopWatch, Summary, Unit};

/// A registry, the prefix under which the next metrics are registered, and the labels that labelled ones get.
#[derive(Clone, Debug)]
pub struct Scope {
    registry: Registry,
    prefix: String,
    keys: LabelKeys,
}

/// A metric that cannot be registered: a name used twice, or not a name.
#[derive(Debug, thiserror::Error)]
#[error("metric {name:?} cannot be registered")]
pub struct MetricError {
    name: String,
    source: prometheus::Error,
}

impl Scope {
    /// A fresh registry; `prefix` such as `flyte:`.
    pub fn new(prefix: &str) -> Self {
        Self {
            registry: Registry::new(),
            prefix: joined("", prefix),
            keys: LabelKeys::default(),
        }
    }

    /// The same registry and prefix; labelled metrics get these labels, which are the same in the whole process.
    #[must_use]
    pub fn labelled_by(mut self, keys: LabelKeys) -> Self {
        self.keys = keys;
        self
    }

    /// The same registry and prefix; labelled metrics get `additional` labels beside those of the process.
    #[must_use]
    pub fn with_labels(&self, additional: &[&str]) -> Self {
        self.clone().labelled_by(self.keys.and(additional))
    }

    fn label_keys(&self) -> &LabelKeys {
        &self.keys
    }

    /// The same registry, one scope deeper. A scope that ends in `:` is not doubled.
    #[must_use]
    pub fn sub(&self, scope: &str) -> Self {
        Self {
            registry: self.registry.clone(),
            prefix: joined(&self.prefix, scope),
            keys: self.keys.clone(),
        }
    }

    /// The same registry without any prefix, for names that other tools fix (`grpc_server_handled_total`).
    #[must_use]
    pub fn bare(&self) -> Self {
        Self {
            registry: self.registry.clone(),
            prefix: String::new(),
            keys: self.keys.clone(),
        }
    }

    /// The full name that `name` gets in this scope.
    pub fn full_name(&self, name: &str) -> String {
        sanitized(&format!("{}{name}", self.prefix))
    }

    /// The whole registry in Prometheus text format.
    pub fn render(&self) -> String {
        let mut buffer = Vec::new();
        // Encoding into memory fails only for metrics that were never registered.
        if TextEncoder::new()
            .encode(&self.registry.gather(), &mut buffer)
            .is_err()
        {
            return String::new();
        }
        String::from_utf8(buffer).unwrap_or_default()
    }

    /// A counter.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricError> {
        self.register(name, |full| IntCounter::with_opts(Opts::new(full, help)))
    }

    /// A counter per label values.
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricError> {
        self.register(name, |full| {
            IntCounterVec::new(Opts::new(full, help), labels)
        })
    }

    /// A counter of fractions (seconds, say) per label values.
    pub fn float_counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<CounterVec, MetricError> {
        self.register(name, |full| CounterVec::new(Opts::new(full, help), labels))
    }

    /// A gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricError> {
        self.register(name, |full| IntGauge::with_opts(Opts::new(full, help)))
    }

    /// A gauge per label values.
    pub fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, MetricError> {
        self.register(name, |full| IntGaugeVec::new(Opts::new(full, help), labels))
    }

    /// A gauge of fractions per label values.
    pub fn float_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, MetricError> {
        self.register(name, |full| GaugeVec::new(Opts::new(full, help), labels))
    }

    /// A histogram in seconds per label values, in the default buckets of Go's client, from 5 ms to 10 s.
    pub fn seconds(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, MetricError> {
        self.register(name, |full| {
            HistogramVec::new(HistogramOpts::new(full, help), labels)
        })
    }

    /// A summary with the quantiles of the last ten minutes.
    pub fn summary(&self, name: &str, help: &str) -> Result<Summary, MetricError> {
        self.register(name, |full| Summary::new(full, help))
    }

    /// A stop watch: the summary `<name>_<unit>`.
    pub fn stop_watch(&self, name: &str, help: &str, unit: Unit) -> Result<StopWatch, MetricError> {
        let summary = self.summary(&format!("{name}_{}", unit.suffix()), help)?;
        Ok(StopWatch::over(summary, unit))
    }

    /// A counter with the labels of the process; its unlabelled is `<name>_unlabeled`.
    pub fn labelled_counter(
        &self,
        name: &str,
        help: &str,
        unlabelled: Unlabelled,
    ) -> Result<LabelledCounter, MetricError> {
        LabelledCounter::register(self, name, help, unlabelled)
    }

    /// A gauge with the labels of the process; its unlabelled is `<name>_unlabeled`.
    pub fn labelled_gauge(
        &self,
        name: &str,
        help: &str,
        unlabelled: Unlabelled,
    ) -> Result<LabelledGauge, MetricError> {
        LabelledGauge::register(self, name, help, unlabelled)
    }

    /// The stop watch `<name>_<unit>` with the labels of the process; its unlabelled is `<name>_unlabeled_<unit>`.
    pub fn labelled_stop_watch(
        &self,
        name: &str,
        help: &str,
        unit: Unit,
        unlabelled: Unlabelled,
    ) -> Result<LabelledStopWatch, MetricError> {
        LabelledStopWatch::register(self, name, help, unit, unlabelled)
    }

    /// A histogram of seconds with the labels of the process; its unlabelled is `<name>_unlabeled`.
    pub fn labelled_histogram(
        &self,
        name: &str,
        help: &str,
        unlabelled: Unlabelled,
    ) -> Result<LabelledHistogram, MetricError> {
        LabelledHistogram::register(self, name, help, unlabelled)
    }

    fn register<M>(
        &self,
        name: &str,
        make: impl FnOnce(String) -> prometheus::Result<M>,
    ) -> Result<M, MetricError>
    where
        M: prometheus::core::Collector + Clone + 'static,
    {
        let name = self.full_name(name);
        make(name.clone())
            .and_then(|metric| {
                self.registry
                    .register(Box::new(metric.clone()))
                    .map(|()| metric)
            })
            .map_err(|source| MetricError { name, source })
    }
}

fn joined(prefix: &str, scope: &str) -> String {
    match scope {
        "" => prefix.to_owned(),
        _ if scope.ends_with(':') => format!("{prefix}{scope}"),
        _ => format!("{prefix}{scope}:"),
    }
}

/// Characters outside `[A-Za-z0-9_:]` are dropped, `-` becomes `_`, leading digits are dropped.
fn sanitized(name: &str) -> String {
    name.chars()
        .map(|c| if c == '-' { '_' } else { c })
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ':')
        .skip_while(char::is_ascii_digit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_and_cleaned_as_go_does() {
        let scope = Scope::new("flyte:").sub("admin").sub("execution-manager");
        assert_eq!(
            scope.full_name("active executions"),
            "flyte:admin:execution_manager:activeexecutions"
        );
        assert_eq!(Scope::new("9lives").full_name("x"), "lives:x");
    }

    #[test]
    fn a_name_cannot_be_registered_twice() {
        let scope = Scope::new("flyte");
        scope.counter("rounds", "Rounds.").unwrap().inc();
        let error = scope.counter("rounds", "Rounds.").unwrap_err();
        assert_eq!(
            error.to_string(),
            "metric \"flyte:rounds\" cannot be registered"
        );
        assert!(scope.render().contains("flyte:rounds 1"));
    }
}
