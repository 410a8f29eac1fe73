//! What is counted, under the names that Go's dashboards ask for (spec 07 §3.2 and §12.1).

mod clusters;
mod endpoints;
mod managers;

use std::sync::Arc;

use flyte_platform::{
    blob::BlobMetrics,
    metrics::{MetricError, Scope},
    server::{CallMetrics, Latency, methods_of},
    sql::OperationMetrics,
};

use crate::{config::AdminConfig, repository};
use clusters::ClusterMetrics;
pub(crate) use managers::{ExecutionEnd, Managers, StepMetrics, of_node};

/// Services whose methods are counted as gRPC calls.
const SERVICES: [&str; 3] = [
    "flyteidl.service.AdminService",
    "flyteidl.service.DataProxyService",
    "flyteidl.service.SignalService",
];

/// Everything that flyteadmin counts.
pub(crate) struct AdminMetrics {
    pub(crate) calls: Arc<CallMetrics>,
    /// Of the repository.
    pub(crate) operations: Arc<OperationMetrics>,
    /// Of the repository as the service of signals uses it: Go has a second one for it.
    pub(crate) signal_operations: Arc<OperationMetrics>,
    pub(crate) managers: Managers,
    pub(crate) storage: Arc<BlobMetrics>,
    pub(crate) clusters: ClusterMetrics,
}

impl AdminMetrics {
    /// Registers all of it, below `flyteadmin.metricsScope`, and counts of calls below nothing.
    pub(crate) fn register(scope: &Scope, config: &AdminConfig) -> Result<Self, MetricError> {
        let all = scope.sub(&config.flyteadmin.metrics_scope);
        let ours = all.sub("admin");
        let (admin, signal) = (ours.sub("admin"), ours.sub("signal"));
        let latency = if config.server.grpc.enable_grpc_latency_metrics {
            Latency::Counted
        } else {
            Latency::NotCounted
        };
        let calls = CallMetrics::register(scope, methods_of(&SERVICES), latency)?
            .with_endpoints(&admin, endpoints::ADMIN)?
            .with_endpoints(&signal, endpoints::SIGNAL)?;
        Ok(Self {
            calls: Arc::new(calls),
            operations: operations(&admin)?,
            signal_operations: operations(&signal)?,
            managers: Managers::register(&admin, &signal)?,
            clusters: ClusterMetrics::register(&all.sub("clusterresource"))?,
            storage: Arc::new(BlobMetrics::register(&ours.sub("storage"))?),
        })
    }
}

fn operations(scope: &Scope) -> Result<Arc<OperationMetrics>, MetricError> {
    OperationMetrics::register(scope, repository::operations::all()).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_dashboards() {
        let scope = Scope::new("");
        assert!(AdminMetrics::register(&scope, &AdminConfig::default()).is_ok());
        let text = scope.render();
        for name in [
            "flyte:admin:admin:create_task:codes:FailedPrecondition 0",
            "flyte:admin:admin:create_task:errors 0",
            "flyte:admin:admin:create_task:success 0",
            "flyte:admin:admin:create_task:duration_ms_count 0",
            "flyte:admin:admin:create_task:duration_ms{quantile=\"0.99\"} NaN",
            "flyte:admin:signal:get_signal:codes:OK 0",
        ] {
            assert!(text.contains(name), "{name}");
        }
    }
}
