//! What every project and domain gets on every cluster (spec 03 §6): with the built-in template, its
//! namespace.
//!
//! A round runs at start, before readiness, whenever a project is registered, and at the configured
//! interval. Failures of one cluster or namespace do not stop the others, and are tried again next time.

use std::sync::Arc;

use flyte_platform::Chain;
use futures::{StreamExt as _, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    context::AdminContext,
    domain::projects::not_archived,
    error::{Error, Result},
    filters::{ListQuery, MAX_ROWS},
    repository::projects,
};

/// Requests to API servers at once: the answer to a thousand namespaces should not be a thousand
/// connections.
const CONCURRENT: usize = 16;

/// How soon a failed first round is repeated; nothing is ready before it succeeds.
const FIRST_RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Applies the templates to every namespace of every cluster, again after each refresh interval, until told to stop.
pub(crate) async fn run(
    context: Arc<AdminContext>,
    ready: Arc<watch::Sender<bool>>,
    stop: CancellationToken,
) {
    let mut changes = context.live.clone();
    loop {
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            outcome = sync(&context) => outcome,
        };
        let interval = context.config().cluster_resources.refresh_interval.to_std();
        let pause = match outcome {
            Ok(()) => {
                ready.send_replace(true);
                interval
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "cluster resources are not in sync");
                if *ready.borrow() {
                    interval
                } else {
                    FIRST_RETRY
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = context.projects_changed.notified() => {}
            // There may be new domains, or other namespaces.
            () = changes.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Applies the templates to every namespace of every cluster once.
pub(crate) async fn sync(context: &AdminContext) -> Result<()> {
    let metrics = &context.all_metrics.clusters;
    metrics.rounds.inc();
    let namespaces = namespaces(context).await?;
    let mut work = Vec::new();
    for target in context.targets.all() {
        for namespace in &namespaces {
            work.push((target.clone(), namespace.clone()));
        }
    }
    let failures: Vec<String> = stream::iter(work)
        .map(|(target, namespace)| async move {
            let ensured = target.ensure_namespace(&namespace).await;
            metrics.ensured(ensured.as_ref().ok().copied());
            ensured.map_err(|error| format!("namespace {namespace}: {}", Chain(&error)))
        })
        .buffer_unordered(CONCURRENT)
        .filter_map(|outcome| async move { outcome.err() })
        .collect()
        .await;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Internal(failures.join(", ")))
    }
}

/// Namespaces of all projects that are not archived. The mapping gets the domain's id, as that of executions does; the
/// reference gives it the name (spec 03 BUG-11).
async fn namespaces(context: &AdminContext) -> Result<Vec<String>> {
    let mut query = ListQuery {
        predicates: not_archived().into_iter().collect(),
        limit: Some(MAX_ROWS),
        ..ListQuery::default()
    };
    let mut tx = context.database.read().await?;
    let mut projects = Vec::new();
    loop {
        let page = projects::list(&mut tx, &query).await?;
        let rows = page.len() as u64;
        projects.extend(page.into_vec());
        if rows < MAX_ROWS {
            break;
        }
        query.offset += rows;
    }
    drop(tx);
    let config = context.config();
    Ok(projects
        .iter()
        .flat_map(|project| {
            config.domains.0.iter().map(|domain| {
                config
                    .namespace_mapping
                    .namespace(&project.identifier, &domain.id)
            })
        })
        .collect())
}
