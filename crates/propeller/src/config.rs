//! Section `propeller` (spec 04 §14.1).

use flyte_platform::{
    config::{Duration, Unheard},
    kubernetes::{self, KubeClientConfig},
};
use serde::{Deserialize, Serialize};

/// Section `propeller`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PropellerConfig {
    /// Kubeconfig file; empty is in-cluster, then the usual places.
    pub kube_config: String,
    /// Address of the Kubernetes API; overrides the kubeconfig's.
    pub master: String,
    /// The pace of requests to Kubernetes.
    pub kube_client_config: KubeClientConfig,
    /// Namespace to watch; `all` for every one.
    pub limit_namespace: String,
    /// Port of metrics and health.
    pub prof_port: u16,
    /// Where metadata goes below the container.
    pub metadata_prefix: String,
    /// Where raw data goes when an execution names no place.
    pub rawoutput_prefix: String,
    /// First part of metric names.
    pub metrics_prefix: String,
    /// Labels of metrics: `project`, `domain`, `wf`, `task`, `node`, `tasktype`. The single binary has its own.
    pub metrics_keys: Vec<String>,
    /// Counts in `grpc_client_handling_seconds` how long calls of flyteadmin take.
    pub enable_grpc_latency_metrics: bool,
    /// Lets launch plan nodes run: each is an execution of its own, which flyteadmin makes. False fails them.
    pub enable_admin_launcher: bool,
    /// Rounds that may fail before a workflow is given up.
    pub max_workflow_retries: u32,
    /// Hours that finished resources are kept; at most 23, 0 keeps them.
    pub max_ttl_hours: u32,
    /// How often finished resources are looked for.
    pub gc_interval: Duration,
    /// Size of a workflow resource, in bytes, from which on the statuses of its nodes are kept in the blob store,
    /// because the API server refuses larger objects; 0 never does so. Since 0.1, not in Go.
    pub max_resource_bytes: usize,
    /// Identifies this engine to admin.
    pub cluster_id: String,
    /// How often a task extends its reservation of a cache entry, and how often one asks again that waits for somebody else's.
    pub workflow_reeval_duration: Duration,
    /// Creates the FlyteWorkflow definition at start.
    pub create_flyteworkflow_crd: bool,
    /// Limits and defaults of nodes.
    pub node_config: NodeConfig,
    /// How events carry data.
    pub event_config: EventConfig,
    /// Nodes that run a task for each element of a list.
    pub array_node_config: ArrayNodeConfig,
    /// Only workflows with these values of label `shard-key`.
    pub include_shard_key_label: Vec<String>,
    /// Not workflows with these values of label `shard-key`.
    pub exclude_shard_key_label: Vec<String>,
    /// Only workflows of these projects.
    pub include_project_label: Vec<String>,
    /// Not workflows of these projects.
    pub exclude_project_label: Vec<String>,
    /// Only workflows of these domains.
    pub include_domain_label: Vec<String>,
    /// Not workflows of these domains.
    pub exclude_domain_label: Vec<String>,
}

impl PropellerConfig {
    /// The API server that the engine talks to.
    pub fn api_server(&self) -> kubernetes::Server<'_> {
        kubernetes::Server {
            kube_config: &self.kube_config,
            master: &self.master,
            pace: &self.kube_client_config,
        }
    }
}

impl Default for PropellerConfig {
    fn default() -> Self {
        Self {
            kube_config: String::new(),
            master: String::new(),
            kube_client_config: KubeClientConfig::default(),
            limit_namespace: "all".into(),
            prof_port: 10254,
            metadata_prefix: "metadata/propeller".into(),
            rawoutput_prefix: String::new(),
            metrics_prefix: "flyte".into(),
            metrics_keys: ["project", "domain", "wf", "task"]
                .map(str::to_owned)
                .into(),
            enable_grpc_latency_metrics: false,
            enable_admin_launcher: true,
            max_workflow_retries: 10,
            max_ttl_hours: 23,
            gc_interval: Duration::minutes(30),
            max_resource_bytes: 1024 * 1024,
            cluster_id: "propeller".into(),
            workflow_reeval_duration: Duration::seconds(10),
            create_flyteworkflow_crd: false,
            node_config: NodeConfig::default(),
            event_config: EventConfig::default(),
            array_node_config: ArrayNodeConfig::default(),
            include_shard_key_label: Vec::new(),
            exclude_shard_key_label: Vec::new(),
            include_project_label: Vec::new(),
            exclude_project_label: Vec::new(),
            include_domain_label: Vec::new(),
            exclude_domain_label: Vec::new(),
        }
    }
}

impl PropellerConfig {
    /// The label selector of the workflows that this engine runs (spec 04 §2.2, §2.6).
    pub fn selector(&self) -> String {
        let unfinished = format!(
            "{} notin ({})",
            flyte_crd::TERMINATION_LABEL,
            flyte_crd::TERMINATED
        );
        self.with_shard(unfinished)
    }

    /// The label selector of their pods, which bear the labels of their workflow.
    pub fn pod_selector(&self) -> String {
        self.with_shard("execution-id,node-id".into())
    }

    fn with_shard(&self, first: String) -> String {
        let mut terms = vec![first];
        for (label, operator, values) in [
            ("shard-key", "in", &self.include_shard_key_label),
            ("shard-key", "notin", &self.exclude_shard_key_label),
            ("project", "in", &self.include_project_label),
            ("project", "notin", &self.exclude_project_label),
            ("domain", "in", &self.include_domain_label),
            ("domain", "notin", &self.exclude_domain_label),
        ] {
            if !values.is_empty() {
                terms.push(format!("{label} {operator} ({})", values.join(",")));
            }
        }
        terms.join(",")
    }
}

/// Section `propeller.node-config`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct NodeConfig {
    /// For nodes that name none.
    pub default_deadlines: DefaultDeadlines,
    /// Attempts lost to the system before a node fails.
    pub max_node_retries_system_failures: u32,
    /// From which failure on an attempt is not interruptible; negative counts from the last.
    pub interruptible_failure_threshold: i32,
    /// Attempts of nodes that name none.
    pub default_max_attempts: u32,
    /// Counts all failures alike.
    pub ignore_retry_cause: bool,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            default_deadlines: DefaultDeadlines::default(),
            max_node_retries_system_failures: 3,
            interruptible_failure_threshold: -1,
            default_max_attempts: 1,
            ignore_retry_cause: false,
        }
    }
}

/// Section `propeller.node-config.default-deadlines`; zero is none.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct DefaultDeadlines {
    /// Longest time of one attempt.
    pub node_execution_deadline: Duration,
    /// Longest time from being queued.
    pub node_active_deadline: Duration,
}

/// Section `catalog-cache`: where outputs of tasks are cached (spec 06 B1).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct CatalogConfig {
    /// `datacatalog`, or `noop` for no cache.
    pub r#type: CatalogType,
    /// `dns:///host:port` or `host:port`.
    pub endpoint: String,
    /// Without TLS.
    pub insecure: bool,
    /// Older entries are not used, and replaced; zero is any age.
    pub max_cache_age: Duration,
    /// How often a write is tried that is not answered.
    pub max_retries: u32,
    /// Milliseconds before its second try; each further wait is twice as long.
    pub base_scalar: u32,
    /// Accepted; waits are spread by half.
    pub backoff_jitter: String,
    /// Accepted; not used yet.
    pub use_admin_auth: bool,
    /// Accepted; who calls decides what is tried again.
    pub default_service_config: String,
}

impl Default for CatalogConfig {
    fn default() -> Self {
        Self {
            r#type: CatalogType::Noop,
            endpoint: String::new(),
            insecure: false,
            max_cache_age: Duration::default(),
            max_retries: 5,
            base_scalar: 100,
            backoff_jitter: "0.1".into(),
            use_admin_auth: false,
            default_service_config: String::new(),
        }
    }
}

/// Keys of section `catalog-cache` that change nothing.
pub const UNHEARD: &[Unheard] = &[
    Unheard {
        key: "catalog-cache.backoff-jitter",
        instead: "waits between tries are spread by half",
    },
    Unheard {
        key: "catalog-cache.use-admin-auth",
        instead: "datacatalog is called without a token",
    },
    Unheard {
        key: "catalog-cache.default-service-config",
        instead: "a write is tried `max-retries` times, everything else as effects are",
    },
];

/// What caches the outputs of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatalogType {
    /// Nothing.
    #[default]
    #[serde(alias = "")]
    Noop,
    /// The service of this name.
    Datacatalog,
}

/// Section `propeller.array-node-config`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ArrayNodeConfig {
    /// How many elements run at once where the node does not say.
    pub default_parallelism_behavior: ParallelismBehavior,
}

/// How many elements of an array node run at once where the node does not say (spec 04 §7.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParallelismBehavior {
    /// All of them.
    #[default]
    Unlimited,
    /// As many as the execution may run tasks at once.
    Workflow,
    /// As many as the execution may run tasks at once; all of them where the node says 0.
    Hybrid,
}

/// Section `propeller.event-config`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct EventConfig {
    /// How inputs and outputs stand in events.
    pub raw_output_policy: RawOutputPolicy,
    /// Sends an event with references once more when admin finds it too large with data.
    pub fallback_to_output_reference: bool,
}

/// How inputs and outputs stand in events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawOutputPolicy {
    /// As URIs.
    #[default]
    Reference,
    /// As they are.
    Inline,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selector_leaves_finished_workflows_and_other_shards_out() {
        let config = PropellerConfig {
            include_shard_key_label: vec!["1".into(), "2".into()],
            exclude_project_label: vec!["p".into()],
            ..PropellerConfig::default()
        };
        assert_eq!(
            config.selector(),
            "termination-status notin (terminated),shard-key in (1,2),project notin (p)"
        );
        assert_eq!(
            config.pod_selector(),
            "execution-id,node-id,shard-key in (1,2),project notin (p)"
        );
    }
}
