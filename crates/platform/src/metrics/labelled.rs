//! Go's "labeled" metrics: the process-wide labels, and beside them the same without labels (spec 07 §3).
//!
//! With labels, a metric appears when it is first counted; the same without labels is there from the start.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{
    MetricError, Scope,
    labels::{LabelKeys, Labels},
    samples::{Buckets, Count, Level, Samples, Series},
    series::LabelledSeries,
    summary::{SingleSeries, Unit},
};

/// Samples of one series with labels, of which there may be thousands: a kilobyte each.
const SAMPLES_OF_A_SERIES: usize = 128;
/// Samples of a series without labels.
const SAMPLES_WITHOUT_LABELS: usize = 512;

/// Whether the same is also counted without labels, as `<name>_unlabeled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlabelled {
    /// With labels only.
    Omit,
    /// Also without labels.
    Emit,
}

/// Makes the shared parts collectors; a foreign trait cannot be implemented for an `Arc` of ours.
#[derive(Debug)]
struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Series> Collector for Shared<LabelledSeries<S>> {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

impl<S: Series> Collector for Shared<SingleSeries<S>> {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

/// A metric with labels and perhaps the same without; `T` differs from `S` only in how much it keeps.
#[derive(Debug)]
struct Labelled<S, T> {
    keys: LabelKeys,
    series: Shared<LabelledSeries<S>>,
    unlabelled: Option<Shared<SingleSeries<T>>>,
}

impl<S, T> Clone for Labelled<S, T> {
    fn clone(&self) -> Self {
        Self {
            keys: self.keys.clone(),
            series: self.series.clone(),
            unlabelled: self.unlabelled.clone(),
        }
    }
}

impl<S: Series, T: Series> Labelled<S, T> {
    /// `suffix` is the unit's, with its underscore, or empty.
    fn register(
        scope: &Scope,
        name: &str,
        suffix: &str,
        help: &str,
        unlabelled: Unlabelled,
    ) -> Result<Self, MetricError> {
        let keys = scope.label_keys().clone();
        let names: Vec<&str> = keys.names().collect();
        let series = scope.register(&format!("{name}{suffix}"), |full| {
            LabelledSeries::new(full, help, &names).map(|labelled| Shared(Arc::new(labelled)))
        })?;
        let unlabelled = match unlabelled {
            Unlabelled::Omit => None,
            Unlabelled::Emit => Some(
                scope.register(&format!("{name}_unlabeled{suffix}"), |full| {
                    SingleSeries::new(full, help).map(|single| Shared(Arc::new(single)))
                })?,
            ),
        };
        Ok(Self {
            keys,
            series,
            unlabelled,
        })
    }

    fn change(&self, labels: &Labels<'_>, series: impl FnOnce(&S), unlabelled: impl FnOnce(&T)) {
        self.series.0.with(self.keys.values(labels), series);
        if let Some(single) = &self.unlabelled {
            unlabelled(&single.0.series);
        }
    }
}

/// A counter with labels.
#[derive(Clone, Debug)]
pub struct LabelledCounter(Labelled<Count, Count>);

impl LabelledCounter {
    pub(super) fn register(
        scope: &Scope,
        name: &str,
        help: &str,
        unlabelled: Unlabelled,
    ) -> Result<Self, MetricError> {
        Labelled::register(scope, name, "", help, unlabelled).map(Self)
    }

    /// Adds 1 to the series of these labels.
    pub fn inc(&self, labels: &Labels<'_>) {
        self.add(labels, 1);
    }

    /// Counts `more`.
    pub fn add(&self, labels: &Labels<'_>, more: u64) {
        self.0.change(
            labels,
            |series| series.add(more),
            |unlabelled| unlabelled.add(more),
        );
    }
}

/// A gauge with labels.
#[derive(Clone, Debug)]
pub struct LabelledGauge(Labelled<Level, Level>);

impl LabelledGauge {
    pub(super) fn register(
        scope: &Scope,
        name: &str,
        help: &str,
        unlabelled: Unlabelled,
    ) -> Result<Self, MetricError> {
        Labelled::register(scope, name, "", help, unlabelled).map(Self)
    }

    /// Adds 1 to the series of these labels.
    pub fn inc(&self, labels: &Labels<'_>) {
        self.add(labels, 1);
    }

    /// Takes 1 from the series of these labels.
    pub fn dec(&self, labels: &Labels<'_>) {
        self.add(labels, -1);
    }

    /// `more` more.
    pub fn add(&self, labels: &Labels<'_>, more: i64) {
        self.0.change(
            labels,
            |series| series.add(more),
            |unlabelled| unlabelled.add(more),
        );
    }

    /// From now on `value`. The series without labels, as in Go, has the value that was set last, whatever the labels.
    pub fn set(&self, labels: &Labels<'_>, value: i64) {
        self.0.change(
            labels,
            |series| series.set(value),
            |unlabelled| unlabelled.set(value),
        );
    }
}

/// A stop watch with labels: a summary in whole units. A series keeps at most a kilobyte, the one without labels four.
#[derive(Clone, Debug)]
pub struct LabelledStopWatch {
    watched: Labelled<Samples<SAMPLES_OF_A_SERIES>, Samples<SAMPLES_WITHOUT_LABELS>>,
    unit: Unit,
}

impl LabelledStopWatch {
    pub(super) fn register(
        scope: &Scope,
        name: &str,
        help: &str,
        unit: Unit,
        unlabelled: Unlabelled,
    ) -> Result<Self, MetricError> {
        let suffix = format!("_{}", unit.suffix());
        Ok(Self {
            watched: Labelled::register(scope, name, &suffix, help, unlabelled)?,
            unit,
        })
    }

    /// Counts one that took `time`.
    pub fn observe(&self, labels: &Labels<'_>, time: Duration) {
        let (value, now) = (self.unit.whole(time), Instant::now());
        self.watched.change(
            labels,
            |series| series.observe(value, now),
            |unlabelled| unlabelled.observe(value, now),
        );
    }

    /// Waits for `work` and counts how long it took, whatever came of it.
    pub async fn timed<T>(&self, labels: &Labels<'_>, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let outcome = work.await;
        self.observe(labels, start.elapsed());
        outcome
    }
}

/// A histogram of seconds with labels, in the default buckets of Go's client, from 5 ms to 10 s.
#[derive(Clone, Debug)]
pub struct LabelledHistogram(Labelled<Buckets, Buckets>);

impl LabelledHistogram {
    pub(super) fn register(
        scope: &Scope,
        name: &str,
        help: &str,
        unlabelled: Unlabelled,
    ) -> Result<Self, MetricError> {
        Labelled::register(scope, name, "", help, unlabelled).map(Self)
    }

    /// Counts one that took `time`.
    pub fn observe(&self, labels: &Labels<'_>, time: Duration) {
        let seconds = time.as_secs_f64();
        self.0.change(
            labels,
            |series| series.observe(seconds),
            |unlabelled| unlabelled.observe(seconds),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNACKS: Labels<'static> = Labels {
        project: "flytesnacks",
        domain: "development",
        workflow: "",
        node: "",
        task: "",
        task_type: "",
        launch_plan: "",
        execution: "",
        phase: "",
        runtime_type: "",
        runtime_version: "",
        others: &[],
    };

    fn scope() -> Scope {
        Scope::new("flyte:").labelled_by(LabelKeys::new(["project", "domain", "wf", "node"]))
    }

    #[test]
    fn with_labels_it_appears_when_it_is_first_counted_and_without_from_the_start() {
        let scope = scope();
        let aborted = scope
            .labelled_counter("aborted", "Aborted.", Unlabelled::Emit)
            .unwrap();
        let before = scope.render();
        assert!(before.contains("flyte:aborted_unlabeled 0\n"), "{before}");
        assert!(!before.contains("flyte:aborted{"), "{before}");
        aborted.inc(&SNACKS);
        aborted.add(&SNACKS, 2);
        let after = scope.render();
        assert!(after.contains("flyte:aborted_unlabeled 3\n"), "{after}");
        assert!(
            after.contains(
                "flyte:aborted{domain=\"development\",node=\"\",project=\"flytesnacks\",wf=\"\"} 3\n"
            ),
            "{after}"
        );
    }

    #[test]
    fn a_stop_watch_has_its_unit_at_the_end_of_both_names() {
        let scope = scope();
        let round = scope
            .labelled_stop_watch(
                "round_time",
                "Rounds.",
                Unit::Milliseconds,
                Unlabelled::Emit,
            )
            .unwrap();
        round.observe(&SNACKS, Duration::from_micros(2_999));
        let text = scope.render();
        for line in [
            "# TYPE flyte:round_time_ms summary",
            "flyte:round_time_ms{domain=\"development\",node=\"\",project=\"flytesnacks\",wf=\"\",quantile=\"0.99\"} 2",
            "flyte:round_time_ms_sum{domain=\"development\",node=\"\",project=\"flytesnacks\",wf=\"\"} 2",
            "flyte:round_time_unlabeled_ms{quantile=\"0.5\"} 2",
            "flyte:round_time_unlabeled_ms_count 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }

    #[test]
    fn equal_values_of_other_labels_are_another_series() {
        let scope = scope();
        let nodes = scope
            .labelled_gauge("nodes", "Nodes.", Unlabelled::Omit)
            .unwrap();
        nodes.inc(&Labels {
            workflow: "n0",
            ..SNACKS
        });
        nodes.set(
            &Labels {
                node: "n0",
                ..SNACKS
            },
            7,
        );
        let text = scope.render();
        assert!(
            text.contains("node=\"\",project=\"flytesnacks\",wf=\"n0\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("node=\"n0\",project=\"flytesnacks\",wf=\"\"} 7"),
            "{text}"
        );
    }

    #[test]
    fn additional_labels_are_those_of_one_metric() {
        let scope = scope();
        let errors = scope
            .with_labels(&["phase", "error_code"])
            .labelled_counter("task_pod_errors", "Pods.", Unlabelled::Omit)
            .unwrap();
        errors.inc(&Labels {
            phase: "FAILED",
            others: &[("error_code", "say \"no\"\n")],
            ..SNACKS
        });
        let text = scope.render();
        assert!(
            text.contains(
                "flyte:task_pod_errors{domain=\"development\",error_code=\"say \\\"no\\\"\\n\",node=\"\",phase=\"FAILED\",\
                 project=\"flytesnacks\",wf=\"\"} 1"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_histogram_has_gos_buckets() {
        let scope = scope();
        let head = scope
            .labelled_histogram("head", "Heads.", Unlabelled::Emit)
            .unwrap();
        head.observe(&SNACKS, Duration::from_millis(7));
        let text = scope.render();
        for line in [
            "flyte:head_bucket{domain=\"development\",node=\"\",project=\"flytesnacks\",wf=\"\",le=\"0.01\"} 1",
            "flyte:head_unlabeled_bucket{le=\"0.005\"} 0",
            "flyte:head_unlabeled_bucket{le=\"+Inf\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_label_that_is_no_name_is_an_error_and_no_panic() {
        let scope = Scope::new("flyte:").labelled_by(LabelKeys::new(["no-name"]));
        let made = scope.labelled_counter("x", "X.", Unlabelled::Omit);
        assert!(made.is_err());
    }
}
