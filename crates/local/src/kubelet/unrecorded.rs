//! Pods that have ended while their supervisors cannot write so, on a full disk for example: a kubelet that shuts down does not
//! wait for those.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::kubelet::record::{ContainerState, Record};

/// How long a supervisor may take to write the record of a pod of which nothing runs. It takes longer only if it cannot.
const RECORD_WITHIN: Duration = Duration::from_secs(5);

/// Ends when nothing of a pod has run for a while, and no record of that came, which would have ended the wait for this.
pub(super) async fn end_without_record(record: Arc<Record>) {
    for container in &record.containers {
        if let ContainerState::Running { process, .. } = &container.state
            && let Err(error) = process.ended().await
        {
            tracing::warn!(%error, pid = process.pid, "the end of a container cannot be noticed");
            return std::future::pending().await;
        }
    }
    tokio::time::sleep(RECORD_WITHIN).await;
}

/// Pending while there is nothing to wait for.
pub(super) async fn until_ended(future: &mut Option<BoxFuture<'static, ()>>) {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
