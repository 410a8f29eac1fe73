//! Deleting finished resources whose time is over (spec 04 §2.7).

use std::sync::Arc;

use flyte_crd::{COMPLETED_TIME_LABEL, FlyteWorkflow, TERMINATED, TERMINATION_LABEL};
use flyte_platform::metrics::Labels;
use futures::StreamExt as _;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use kube::{Api, Client, ResourceExt as _, api::ListParams, core::PartialObjectMeta};

use crate::{effects::resource, metrics::EngineMetrics};

/// How many resources are deleted side by side.
const DELETIONS_AT_ONCE: usize = 16;

/// Deletes every finished resource that completed more than `ttl_hours` ago, and counts how that went.
pub(crate) async fn collect(
    client: Client,
    workflows: Api<PartialObjectMeta<FlyteWorkflow>>,
    ttl_hours: u32,
    now: Timestamp,
    metrics: Arc<EngineMetrics>,
) {
    let (garbage, labels) = (&metrics.garbage, Labels::default());
    let deletion = delete_old(client, workflows, ttl_hours, now);
    match garbage.latency.timed(&labels, deletion).await {
        Ok(()) => garbage.success.inc(&labels),
        Err(error) => {
            tracing::warn!(%error, "cannot delete finished workflows");
            garbage.failure.inc(&labels);
        }
    }
}

/// Listed once over all namespaces.
async fn delete_old(
    client: Client,
    workflows: Api<PartialObjectMeta<FlyteWorkflow>>,
    ttl_hours: u32,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let selector = format!("{TERMINATION_LABEL}={TERMINATED},{COMPLETED_TIME_LABEL}");
    let listed = workflows
        .list(&ListParams::default().labels(&selector))
        .await?;
    let old = listed.items.into_iter().filter(|found| {
        found
            .labels()
            .get(COMPLETED_TIME_LABEL)
            .is_some_and(|completed| is_over(completed, ttl_hours, now))
    });
    futures::stream::iter(old)
        .for_each_concurrent(DELETIONS_AT_ONCE, |found| {
            let client = client.clone();
            async move {
                if let Err(error) = resource::delete(&client, &found).await {
                    let name = found.name_any();
                    tracing::debug!(%error, exec_id = name, "cannot delete a finished workflow");
                }
            }
        })
        .await;
    Ok(())
}

/// Whether the hour `YYYY-MM-DD.HH` is more than `ttl_hours` before now.
fn is_over(completed: &str, ttl_hours: u32, now: Timestamp) -> bool {
    let Some((date, hour)) = completed.split_once('.') else {
        return false;
    };
    let Ok(hour) = format!("{date}T{hour}:00:00").parse::<DateTime>() else {
        return false;
    };
    let Ok(hour) = hour.to_zoned(TimeZone::UTC) else {
        return false;
    };
    now.duration_since(hour.timestamp()).as_hours() > i64::from(ttl_hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_kept_for_their_time() {
        let now: Timestamp = "2026-01-02T12:30:00Z".parse().unwrap();
        for (completed, expected) in [
            ("2026-01-02.11", false),
            ("2026-01-01.13", false),
            ("2026-01-01.12", true),
            ("2025-12-31.00", true),
            ("yesterday", false),
        ] {
            assert_eq!(is_over(completed, 23, now), expected, "{completed}");
        }
    }
}
