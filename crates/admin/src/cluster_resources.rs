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
    error::{Error, Result},
    filters::{ListQuery, MAX_ROWS},
    handlers::projects::not_archived,
    repository::projects,
    service::Service,
};

/// Requests to API servers at once: the answer to a thousand namespaces should not be a thousand
/// connections.
const CONCURRENT: usize = 16;

/// How soon a failed first round is repeated; nothing is ready before it succeeds.
const FIRST_RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// The loop.
pub(crate) async fn run(
    service: Arc<Service>,
    ready: Arc<watch::Sender<bool>>,
    stop: CancellationToken,
) {
    let mut changes = service.live.clone();
    loop {
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            outcome = sync(&service) => outcome,
        };
        let interval = service.config().cluster_resources.refresh_interval.to_std();
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
            () = service.projects_changed.notified() => {}
            // There may be new domains, or other namespaces.
            () = changes.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One round.
pub(crate) async fn sync(service: &Service) -> Result<()> {
    let counts = &service.metrics.clusters;
    counts.rounds.inc();
    let namespaces = namespaces(service).await?;
    let mut work = Vec::new();
    for target in service.targets.all() {
        for namespace in &namespaces {
            work.push((target.clone(), namespace.clone()));
        }
    }
    let failures: Vec<String> = stream::iter(work)
        .map(|(target, namespace)| async move {
            let ensured = target.ensure_namespace(&namespace).await;
            counts.ensured(ensured.as_ref().ok().copied());
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

/// Namespaces of all projects that are not archived. The mapping gets the domain's name, as in the
/// reference.
async fn namespaces(service: &Service) -> Result<Vec<String>> {
    let mut query = ListQuery {
        predicates: not_archived().into_iter().collect(),
        limit: Some(MAX_ROWS),
        ..ListQuery::default()
    };
    let mut tx = service.database.read().await?;
    let mut projects = Vec::new();
    loop {
        let page = projects::list(&mut tx, &query).await?;
        let rows = page.len() as u64;
        projects.extend(page);
        if rows < MAX_ROWS {
            break;
        }
        query.offset += rows;
    }
    drop(tx);
    let config = service.config();
    Ok(projects
        .iter()
        .flat_map(|project| {
            config.domains.0.iter().map(|domain| {
                config
                    .namespace_mapping
                    .namespace(&project.identifier, &domain.name)
            })
        })
        .collect())
}
