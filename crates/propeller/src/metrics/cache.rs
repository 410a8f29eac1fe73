//! What the cache was asked for, under Go's names (spec 06 B9).

use flyte_platform::metrics::{LabelledCounter, MetricError, Scope, Unlabelled};

/// Look-ups, writes and reservations.
#[derive(Debug)]
pub struct CacheMetrics {
    pub(crate) hits: LabelledCounter,
    pub(crate) misses: LabelledCounter,
    pub(crate) get_failures: LabelledCounter,
    pub(crate) puts: LabelledCounter,
    pub(crate) put_failures: LabelledCounter,
    pub(crate) reserved: LabelledCounter,
    pub(crate) reserve_failures: LabelledCounter,
    pub(crate) released: LabelledCounter,
    pub(crate) release_failures: LabelledCounter,
}

impl CacheMetrics {
    pub(super) fn register(scope: &Scope) -> Result<Self, MetricError> {
        let counter = |name, help| scope.labelled_counter(name, help, Unlabelled::Omit);
        Ok(Self {
            hits: counter("discovery_hit_count", "Tasks whose outputs were there.")?,
            misses: counter(
                "discovery_miss_count",
                "Tasks whose outputs were not there.",
            )?,
            get_failures: counter("discovery_get_failure_count", "Look-ups that failed.")?,
            puts: counter("discovery_put_success_count", "Outputs that were cached.")?,
            put_failures: counter(
                "discovery_put_failure_count",
                "Outputs that could not be cached.",
            )?,
            reserved: counter(
                "reservation_get_success_count",
                "Answers to who has reserved an entry.",
            )?,
            reserve_failures: counter(
                "reservation_get_failure_count",
                "Reservations that failed.",
            )?,
            released: counter(
                "reservation_release_success_count",
                "Reservations released.",
            )?,
            release_failures: counter(
                "reservation_release_failure_count",
                "Reservations left to expire.",
            )?,
        })
    }
}
