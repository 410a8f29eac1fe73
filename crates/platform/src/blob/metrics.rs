//! What is counted of a blob store, under the names of Go's storage library (spec 07 §3.4, metastore).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::IntCounter;

use super::BlobError;
use crate::metrics::{
    LabelledCounter, LabelledHistogram, LabelledStopWatch, Labels, MetricError, Scope, StopWatch,
    Unit, Unlabelled,
};

/// `failure_type` of what Go knows no better name for.
const GENERIC: &str = "Generic";
/// `failure_type` of an object that is not there.
const NOT_FOUND: &str = "NotFound";

/// Counts of one user of a blob store, such as `flyte:admin:storage:` or `flyte:propeller:all:metastore:`.
#[derive(Debug)]
pub struct BlobMetrics {
    bad_key: LabelledCounter,
    bad_container: LabelledCounter,
    pub(super) head: Counts,
    pub(super) list: Counts,
    pub(super) read: Counts,
    pub(super) write: Counts,
    pub(super) delete: Counts,
    proto_fetch: StopWatch,
    remote_fetch: StopWatch,
    unmarshal: StopWatch,
    unmarshal_failure: IntCounter,
    cache_hit: IntCounter,
    cache_miss: IntCounter,
}

/// Counts of one operation.
#[derive(Debug)]
pub(super) struct Counts {
    milliseconds: LabelledStopWatch,
    seconds: LabelledHistogram,
    failures: LabelledCounter,
    /// Go counts reading and writing twice.
    all_failures: Option<IntCounter>,
    absence: Absence,
}

/// What an operation makes of an object that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    IsAnswer,
    IsFailure,
}

/// Where failures are counted.
struct Failures<'a> {
    /// Whose labels they have.
    scope: &'a Scope,
    name: &'a str,
}

impl Counts {
    fn register(
        scope: &Scope,
        name: &str,
        failures: Failures<'_>,
        absence: Absence,
    ) -> Result<Self, MetricError> {
        Ok(Self {
            milliseconds: scope.labelled_stop_watch(
                name,
                "Milliseconds that the store took.",
                Unit::Milliseconds,
                Unlabelled::Emit,
            )?,
            seconds: scope.labelled_histogram(
                name,
                "Seconds that the store took.",
                Unlabelled::Emit,
            )?,
            failures: failures.scope.labelled_counter(
                failures.name,
                "Requests that the store failed.",
                Unlabelled::Emit,
            )?,
            all_failures: None,
            absence,
        })
    }

    fn counted_as(mut self, all_failures: IntCounter) -> Self {
        self.all_failures = Some(all_failures);
        self
    }
}

impl BlobMetrics {
    /// Registers all of it in `scope`.
    ///
    /// # Errors
    /// When it is registered already.
    pub fn register(scope: &Scope) -> Result<Self, MetricError> {
        let typed = scope.with_labels(&["failure_type"]);
        let stop_watch = |name, help| -> Result<_, MetricError> {
            scope.stop_watch(name, help, Unit::Milliseconds)
        };
        never_counted(scope)?;
        let counts = |name, failures, absence| Counts::register(scope, name, failures, absence);
        let untyped = |name| Failures { scope, name };
        let of_type = |name| Failures {
            scope: &typed,
            name,
        };
        Ok(Self {
            bad_key: scope.labelled_counter(
                "bad_key",
                "References that are none.",
                Unlabelled::Emit,
            )?,
            bad_container: scope.labelled_counter(
                "bad_container",
                "References into containers that are not ours.",
                Unlabelled::Emit,
            )?,
            head: counts("head", untyped("head_failure"), Absence::IsAnswer)?,
            list: counts("list", untyped("list_failure"), Absence::IsFailure)?,
            read: counts("read_open", of_type("read_failure"), Absence::IsFailure)?.counted_as(
                scope.counter(
                    "read_failure_unrelated_to_cache",
                    "Objects that could not be read.",
                )?,
            ),
            write: counts("write", of_type("write_failure"), Absence::IsFailure)?.counted_as(
                scope.counter(
                    "write_failure_unrelated_to_cache",
                    "Objects that could not be written.",
                )?,
            ),
            delete: counts("delete", of_type("delete_failure"), Absence::IsAnswer)?,
            proto_fetch: stop_watch("proto_fetch", "Milliseconds of reading a message's bytes.")?,
            remote_fetch: stop_watch("remote_fetch", "Milliseconds of reading an object.")?,
            unmarshal: stop_watch("unmarshal", "Milliseconds of decoding a message.")?,
            unmarshal_failure: scope.counter("unmarshal_failure", "Messages that are none.")?,
            cache_hit: scope.counter("cache_hit", "Objects that were still in memory.")?,
            cache_miss: scope.counter("cache_miss", "Objects that had to be read.")?,
        })
    }
}

/// Names that dashboards ask for and that stay 0: nothing is copied within a store here, and what is kept in memory is
/// kept without fail. Go never counts `copy:overall` either.
fn never_counted(scope: &Scope) -> Result<(), MetricError> {
    let copy = scope.sub("copy");
    for name in ["overall", "length"] {
        copy.labelled_stop_watch(
            name,
            "Milliseconds of copies within the store.",
            Unit::Milliseconds,
            Unlabelled::Emit,
        )?;
    }
    for name in [
        "read_failure_unrelated_to_cache",
        "write_failure_unrelated_to_cache",
    ] {
        copy.counter(name, "Copies that failed.")?;
    }
    scope.counter(
        "cache_write_err",
        "Objects that could not be kept in memory.",
    )?;
    Ok(())
}

/// Whether something that is kept in memory was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// The blob was in the cache.
    Hit,
    /// It had to be read.
    Miss,
}

/// Whose requests are counted: labels of what a store is used for.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    metrics: Option<Arc<BlobMetrics>>,
    of: Arc<Owner>,
}

#[derive(Debug, Default)]
struct Owner {
    project: String,
    domain: String,
    workflow: String,
}

impl Meter {
    pub(super) fn over(metrics: Arc<BlobMetrics>) -> Self {
        Self {
            metrics: Some(metrics),
            of: Arc::default(),
        }
    }

    pub(super) fn of(&self, project: &str, domain: &str, workflow: &str) -> Self {
        Self {
            metrics: self.metrics.clone(),
            of: Arc::new(Owner {
                project: project.to_owned(),
                domain: domain.to_owned(),
                workflow: workflow.to_owned(),
            }),
        }
    }

    fn labels<'a>(&'a self, others: &'a [(&'a str, &'a str)]) -> Labels<'a> {
        Labels {
            project: &self.of.project,
            domain: &self.of.domain,
            workflow: &self.of.workflow,
            others,
            ..Labels::default()
        }
    }

    /// A reference that leads nowhere.
    pub(super) fn misdirected(&self, error: &BlobError) {
        let Some(metrics) = &self.metrics else {
            return;
        };
        let counter = match error {
            BlobError::Reference { .. } => &metrics.bad_key,
            BlobError::ForeignContainer { .. } => &metrics.bad_container,
            _ => return,
        };
        counter.inc(&self.labels(&[]));
    }

    /// Runs one request to the store.
    pub(super) async fn request<T>(
        &self,
        which: fn(&BlobMetrics) -> &Counts,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let Some(counts) = self.metrics.as_deref().map(which) else {
            return request.await;
        };
        let start = Instant::now();
        let outcome = request.await;
        let (took, labels) = (start.elapsed(), self.labels(&[]));
        counts.milliseconds.observe(&labels, took);
        counts.seconds.observe(&labels, took);
        if let Err(error) = &outcome {
            self.failed(counts, error);
        }
        outcome
    }

    fn failed(&self, counts: &Counts, error: &object_store::Error) {
        let absent = matches!(error, object_store::Error::NotFound { .. });
        if absent && counts.absence == Absence::IsAnswer {
            return;
        }
        let kind = if absent { NOT_FOUND } else { GENERIC };
        counts.failures.inc(&self.labels(&[("failure_type", kind)]));
        if let Some(all) = &counts.all_failures {
            all.inc();
        }
    }

    /// The bytes of an object arrived.
    pub(super) fn fetched(&self, took: Duration) {
        if let Some(metrics) = &self.metrics {
            metrics.proto_fetch.observe(took);
            metrics.remote_fetch.observe(took);
        }
    }

    pub(super) fn cached(&self, cached: Cached) {
        if let Some(metrics) = &self.metrics {
            match cached {
                Cached::Hit => metrics.cache_hit.inc(),
                Cached::Miss => metrics.cache_miss.inc(),
            }
        }
    }

    pub(super) fn decoded<T, E>(&self, decode: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let Some(metrics) = &self.metrics else {
            return decode();
        };
        let start = Instant::now();
        let outcome = decode();
        metrics.unmarshal.observe(start.elapsed());
        if outcome.is_err() {
            metrics.unmarshal_failure.inc();
        }
        outcome
    }
}
