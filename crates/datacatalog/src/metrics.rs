//! What is counted, under Go's names (spec 06 A9), below `<datacatalog.metrics-scope>:datacatalog:`.

use std::sync::Arc;

use flyte_platform::{
    blob::BlobMetrics,
    metrics::{LabelledCounter, LabelledStopWatch, Labels, MetricError, Scope, Unit, Unlabelled},
    sql::DbError,
};
use prometheus::{IntCounter, IntGauge};

use crate::{
    error::{Error, Result},
    handlers::evictions::Removed,
};

/// Everything that datacatalog counts.
pub(crate) struct CatalogMetrics {
    pub(crate) datasets: DatasetMetrics,
    pub(crate) artifacts: ArtifactMetrics,
    pub(crate) tags: TagMetrics,
    pub(crate) reservations: ReservationMetrics,
    pub(crate) repositories: Repositories,
    pub(crate) storage: Arc<BlobMetrics>,
    pub(crate) retention: RetentionMetrics,
}

impl CatalogMetrics {
    /// Registers all of it; `metrics_scope` is `datacatalog.metrics-scope`.
    pub(crate) fn register(scope: &Scope, metrics_scope: &str) -> Result<Self, MetricError> {
        let ours = scope.sub(metrics_scope).sub("datacatalog");
        Ok(Self {
            datasets: DatasetMetrics::register(&ours.sub("dataset"))?,
            artifacts: ArtifactMetrics::register(&ours.sub("artifact"))?,
            tags: TagMetrics::register(&ours.sub("tag"))?,
            reservations: ReservationMetrics::register(&ours.sub("reservation"))?,
            repositories: Repositories::register(&ours.sub("repositories"))?,
            storage: Arc::new(BlobMetrics::register(&ours.sub("storage"))?),
            retention: RetentionMetrics::register(&ours.sub("retention"))?,
        })
    }
}

/// The labels of what belongs to a project and domain.
pub(crate) fn labels<'a>(project: &'a str, domain: &'a str) -> Labels<'a> {
    Labels {
        project,
        domain,
        ..Labels::default()
    }
}

fn counter(scope: &Scope, name: &str, help: &str) -> Result<LabelledCounter, MetricError> {
    scope.labelled_counter(name, help, Unlabelled::Emit)
}

fn duration(scope: &Scope, name: &str, help: &str) -> Result<LabelledStopWatch, MetricError> {
    scope.labelled_stop_watch(name, help, Unit::Milliseconds, Unlabelled::Emit)
}

/// What calls, or blobs, come to.
pub(crate) struct Outcomes {
    success: LabelledCounter,
    failure: LabelledCounter,
}

impl Outcomes {
    fn register(scope: &Scope, success: &str, failure: &str) -> Result<Self, MetricError> {
        Ok(Self {
            success: counter(scope, success, "What succeeded.")?,
            failure: counter(scope, failure, "What failed.")?,
        })
    }

    /// Counts one.
    pub(crate) fn count<T, E>(&self, labels: &Labels<'_>, outcome: &Result<T, E>) {
        match outcome {
            Ok(_) => self.success.inc(labels),
            Err(_) => self.failure.inc(labels),
        }
    }
}

/// Reasons that are counted by themselves.
struct Reasons {
    transformer: Option<LabelledCounter>,
    validation: LabelledCounter,
    already_exists: LabelledCounter,
    does_not_exist: Option<LabelledCounter>,
}

impl Reasons {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        Ok(Self {
            transformer: Some(counter(
                scope,
                "transformer_failed_count",
                "Rows that could not be read.",
            )?),
            does_not_exist: Some(counter(
                scope,
                "does_not_exists_count",
                "What was asked for and is not there.",
            )?),
            ..Self::of_tags(scope)?
        })
    }

    fn of_tags(scope: &Scope) -> Result<Self, MetricError> {
        Ok(Self {
            transformer: None,
            validation: counter(scope, "validation_failed_count", "Requests that are wrong.")?,
            already_exists: counter(scope, "already_exists_count", "What was there before.")?,
            does_not_exist: None,
        })
    }

    /// Counts the reason of a failure; true if it counts as a failure besides.
    fn count(&self, labels: &Labels<'_>, error: &Error) -> bool {
        match error {
            Error::Invalid(_) => {
                self.validation.inc(labels);
                false
            }
            Error::AlreadyExists { .. } => {
                self.already_exists.inc(labels);
                false
            }
            Error::NotFound { .. } | Error::LostData { .. } => match &self.does_not_exist {
                Some(counter) => {
                    counter.inc(labels);
                    false
                }
                None => true,
            },
            Error::Store(DbError::Row { .. } | DbError::Column { .. }) => {
                if let Some(counter) = &self.transformer {
                    counter.inc(labels);
                }
                true
            }
            Error::NoData(_)
            | Error::Store(_)
            | Error::Blob { .. }
            | Error::Undecodable { .. }
            | Error::Contended
            | Error::Dummy(_) => true,
        }
    }

    fn settle<T>(&self, labels: &Labels<'_>, outcomes: &Outcomes, outcome: &Result<T>) {
        match outcome {
            Ok(_) => outcomes.success.inc(labels),
            Err(error) => {
                if self.count(labels, error) {
                    outcomes.failure.inc(labels);
                }
            }
        }
    }
}

/// `dataset:`.
pub(crate) struct DatasetMetrics {
    pub(crate) create_duration: LabelledStopWatch,
    pub(crate) get_duration: LabelledStopWatch,
    pub(crate) create: Outcomes,
    pub(crate) get: Outcomes,
    pub(crate) list: Outcomes,
    reasons: Reasons,
}

impl DatasetMetrics {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        Ok(Self {
            create_duration: duration(scope, "create_duration", "Time of creations.")?,
            get_duration: duration(scope, "get_duration", "Time of look-ups.")?,
            create: Outcomes::register(scope, "create_success_count", "create_failed_count")?,
            get: Outcomes::register(scope, "get_success_count", "get_failed_count")?,
            list: Outcomes::register(scope, "list_success_count", "list_failure_count")?,
            reasons: Reasons::register(scope)?,
        })
    }

    /// Counts what a call came to.
    pub(crate) fn settle<T>(&self, labels: &Labels<'_>, of: &Outcomes, outcome: &Result<T>) {
        self.reasons.settle(labels, of, outcome);
    }
}

/// `artifact:`.
pub(crate) struct ArtifactMetrics {
    pub(crate) create_duration: LabelledStopWatch,
    pub(crate) get_duration: LabelledStopWatch,
    pub(crate) update_duration: LabelledStopWatch,
    pub(crate) create: Outcomes,
    pub(crate) get: Outcomes,
    pub(crate) list: Outcomes,
    pub(crate) update: Outcomes,
    pub(crate) create_data: Outcomes,
    pub(crate) update_data: Outcomes,
    pub(crate) delete_data: Outcomes,
    reasons: Reasons,
}

impl ArtifactMetrics {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        let outcomes = |what: &str| {
            let (success, failure) = (
                format!("{what}_success_count"),
                format!("{what}_failure_count"),
            );
            Outcomes::register(scope, &success, &failure)
        };
        Ok(Self {
            create_duration: duration(scope, "create_duration", "Time of creations.")?,
            get_duration: duration(scope, "get_duration", "Time of look-ups.")?,
            update_duration: duration(scope, "update_duration", "Time of changes.")?,
            create: outcomes("create")?,
            get: outcomes("get")?,
            list: outcomes("list")?,
            update: outcomes("update")?,
            create_data: outcomes("create_data")?,
            update_data: outcomes("update_data")?,
            delete_data: outcomes("delete_data")?,
            reasons: Reasons::register(scope)?,
        })
    }

    /// Counts what a call came to. A miss is also a failure to get, as in Go.
    pub(crate) fn settle<T>(&self, labels: &Labels<'_>, of: &Outcomes, outcome: &Result<T>) {
        self.reasons.settle(labels, of, outcome);
        if let Err(Error::NotFound { .. } | Error::LostData { .. }) = outcome {
            of.failure.inc(labels);
        }
    }
}

/// `tag:`.
pub(crate) struct TagMetrics {
    pub(crate) create_duration: LabelledStopWatch,
    create: Outcomes,
    reasons: Reasons,
}

impl TagMetrics {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        Ok(Self {
            create_duration: duration(scope, "create_duration", "Time of creations.")?,
            create: Outcomes::register(scope, "create_success_count", "create_failure_count")?,
            reasons: Reasons::of_tags(scope)?,
        })
    }

    /// Counts what a creation came to.
    pub(crate) fn settle<T>(&self, labels: &Labels<'_>, outcome: &Result<T>) {
        self.reasons.settle(labels, &self.create, outcome);
    }
}

/// `reservation:`.
pub(crate) struct ReservationMetrics {
    /// Taken or extended; Go counts those as held by others.
    pub(crate) acquired: LabelledCounter,
    pub(crate) released: LabelledCounter,
    /// Held by others.
    pub(crate) in_progress: LabelledCounter,
    pub(crate) acquire_failure: LabelledCounter,
    pub(crate) release_failure: LabelledCounter,
    /// What was to be released and was not held.
    pub(crate) does_not_exist: LabelledCounter,
}

impl ReservationMetrics {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        let counter = |name: &str, help: &str| scope.labelled_counter(name, help, Unlabelled::Omit);
        Ok(Self {
            acquired: counter("reservation_acquired", "Reservations taken or extended.")?,
            released: counter("reservation_released", "Reservations given back.")?,
            in_progress: counter(
                "reservation_already_in_progress",
                "Reservations that another owner holds.",
            )?,
            acquire_failure: counter(
                "acquire_reservation_failure",
                "Reservations that could not be taken or looked up.",
            )?,
            release_failure: counter(
                "release_reservation_failure",
                "Reservations that could not be given back.",
            )?,
            does_not_exist: counter(
                "reservation_does_not_exist",
                "Reservations to give back that nobody, or another owner, holds.",
            )?,
        })
    }
}

/// `repositories:`: how long transactions take, by what they are about.
pub(crate) struct Repositories {
    pub(crate) dataset: Repository,
    pub(crate) artifact: Repository,
    pub(crate) tag: Repository,
    pub(crate) reservation: Repository,
}

impl Repositories {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        Ok(Self {
            dataset: Repository::register(&scope.sub("dataset"))?,
            artifact: Repository::register(&scope.sub("artifact"))?,
            tag: Repository::register(&scope.sub("tag"))?,
            reservation: Repository::register(&scope.sub("reservation"))?,
        })
    }
}

/// The operations on one kind of row. Those that nothing does are never counted, as in Go.
pub(crate) struct Repository {
    pub(crate) create: LabelledStopWatch,
    pub(crate) delete: LabelledStopWatch,
    pub(crate) get: LabelledStopWatch,
    pub(crate) list: LabelledStopWatch,
    pub(crate) update: LabelledStopWatch,
}

impl Repository {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        let watch = |name: &str| {
            let help = "Time of transactions.";
            scope.labelled_stop_watch(name, help, Unit::Milliseconds, Unlabelled::Omit)
        };
        Ok(Self {
            create: watch("create")?,
            delete: watch("delete")?,
            get: watch("get")?,
            list: watch("list")?,
            update: watch("update")?,
        })
    }
}

/// Why entries are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// They were too old.
    Age,
    /// All together took too many bytes.
    Size,
    /// Somebody asked for it.
    Request,
}

/// `retention:`, which is ours.
pub(crate) struct RetentionMetrics {
    expired: IntCounter,
    over_size: IntCounter,
    requested: IntCounter,
    bytes: IntCounter,
    orphans: IntCounter,
    kept: IntGauge,
    pub(crate) ran: IntCounter,
    pub(crate) failed: IntCounter,
}

impl RetentionMetrics {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        Ok(Self {
            expired: scope.counter("expired_entries", "Entries removed for their age.")?,
            over_size: scope.counter("over_size_entries", "Entries removed for their bytes.")?,
            requested: scope.counter("evicted_entries", "Entries removed on request.")?,
            bytes: scope.counter("removed_bytes", "Bytes of entries that were removed.")?,
            orphans: scope.counter("orphans", "Objects without rows that were removed.")?,
            kept: scope.gauge(
                "bytes",
                "Bytes of all entries, as of the last run that asked.",
            )?,
            ran: scope.counter("run_success_count", "Runs that came to their end.")?,
            failed: scope.counter("run_failure_count", "Runs that failed.")?,
        })
    }

    /// Counts entries that were removed.
    pub(crate) fn removed(&self, reason: Reason, removed: &Removed) {
        let counter = match reason {
            Reason::Age => &self.expired,
            Reason::Size => &self.over_size,
            Reason::Request => &self.requested,
        };
        counter.inc_by(removed.entries);
        self.bytes.inc_by(removed.bytes);
    }

    /// Counts objects without rows that were removed.
    pub(crate) fn orphans(&self, count: u64) {
        self.orphans.inc_by(count);
    }

    /// Says what all entries take.
    pub(crate) fn bytes_kept(&self, bytes: u64) {
        self.kept.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
