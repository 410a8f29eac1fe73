//! What Go's cluster-resource loop counts (spec 07 §3.2), as far as there is something to count without templates.

use flyte_platform::metrics::{MetricError, Scope};
use prometheus::IntCounter;

use crate::targets::Ensured;

/// `flyte:clusterresource:`.
pub(crate) struct ClusterMetrics {
    /// Rounds that began.
    pub(crate) rounds: IntCounter,
    created: IntCounter,
    existed: IntCounter,
    create_errors: IntCounter,
    added: IntCounter,
    add_errors: IntCounter,
    sync_errors: IntCounter,
}

impl ClusterMetrics {
    pub(super) fn register(scope: &Scope) -> Result<Self, MetricError> {
        // Always 0: a panic of the loop ends the program, which names it in its log.
        scope.counter("panics", "Rounds that panicked.")?;
        // As in the managers' scope: without clients nothing starts.
        scope.counter(
            "flyteclient_initialization_error",
            "Clients of clusters that could not be made.",
        )?;
        Ok(Self {
            rounds: scope.counter("k8s_resource_syncs", "Rounds that began.")?,
            created: scope.counter("k8s_resources_created", "Resources that were created.")?,
            existed: scope.counter("applied_template_exists", "Resources that were there.")?,
            create_errors: scope.counter(
                "k8s_resource_create_errors",
                "Resources that could not be created.",
            )?,
            added: scope.counter("resources_added", "Namespaces that are complete.")?,
            add_errors: scope
                .counter("resource_add_errors", "Namespaces that are not complete.")?,
            sync_errors: scope.counter("sync_errors", "Failures of rounds.")?,
        })
    }

    /// One namespace of one cluster was looked at. It is the only resource of its own.
    pub(crate) fn ensured(&self, outcome: Option<Ensured>) {
        match outcome {
            Some(Ensured::Created) => self.created.inc(),
            Some(Ensured::Existed) => self.existed.inc(),
            None => {
                self.create_errors.inc();
                self.add_errors.inc();
                self.sync_errors.inc();
                return;
            }
        }
        self.added.inc();
    }
}
