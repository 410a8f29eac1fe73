//! Names under which parts of one process answer to `grpc.health.v1.Health`; admin's own is `flyteadmin`.

/// The service name under which gRPC health answers for the engine.
pub(crate) const PROPELLER: &str = "flytepropeller";
/// The cache index.
pub(crate) const DATACATALOG: &str = "datacatalog";
/// The launcher of schedules.
pub(crate) const SCHEDULER: &str = "flytescheduler";
/// The webhook that gives pods their secrets, as its Deployment is called.
pub(crate) const WEBHOOK: &str = "flyte-pod-webhook";
/// Parts that a whole backend has and this one not yet.
pub(crate) const NOT_BUILT: [&str; 2] = [SCHEDULER, WEBHOOK];
