//! Sections `tasks`, `plugins.k8s`, `plugins.logs` and `plugins.echo` (spec 05 §18, 07 A.5).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelectorRequirement, PodDNSConfig, PodSecurityContext, SecurityContext,
    Toleration,
};
use serde::{Deserialize, Serialize};

use flyte_platform::{
    blob::StorageConfig,
    config::{Duration, FromLoose, KeyedList, StringMap, Unheard},
    telemetry::LoggerConfig,
};

/// Section `tasks`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct TasksConfig {
    /// Which plugins run what.
    pub task_plugins: TaskPluginsConfig,
    /// More changes within one phase fail the task.
    pub max_plugin_phase_versions: u32,
    /// When pods that a namespace has no room for are tried again.
    pub backoff: BackoffConfig,
}

impl Default for TasksConfig {
    fn default() -> Self {
        Self {
            task_plugins: TaskPluginsConfig::default(),
            max_plugin_phase_versions: 100_000,
            backoff: BackoffConfig::default(),
        }
    }
}

/// Section `tasks.backoff` (spec 05 §4.6).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct BackoffConfig {
    /// Seconds to the power of how often in a row the API server refused a pod of the namespace are waited before the
    /// next one is tried. 0 waits for nothing: a pod that exceeds a quota fails its attempt.
    pub base_second: u32,
    /// The longest wait.
    pub max_duration: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            base_second: 2,
            max_duration: Duration::seconds(20),
        }
    }
}

/// Section `tasks.task-plugins`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct TaskPluginsConfig {
    /// Plugin ids; empty enables all.
    pub enabled_plugins: Vec<String>,
    /// Task type to plugin id.
    pub default_for_task_types: StringMap,
}

/// Section `plugins.k8s`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct K8sConfig {
    /// Keeps finished pods until the engine has read them.
    pub inject_finalizer: bool,
    /// On every pod.
    pub default_annotations: StringMap,
    /// On every pod.
    pub default_labels: StringMap,
    /// In every container.
    pub default_env_vars: StringMap,
    /// Name in the container to name in the engine's own environment.
    pub default_env_vars_from_env: StringMap,
    /// ConfigMaps whose entries every container gets.
    pub default_env_from_configmaps: Vec<String>,
    /// Secrets whose entries every container gets.
    pub default_env_from_secrets: Vec<String>,
    /// Tolerations of every pod.
    pub default_tolerations: Vec<Toleration>,
    /// Node selector of every pod.
    pub default_node_selector: StringMap,
    /// Affinity of pods that have none.
    pub default_affinity: Option<Affinity>,
    /// Scheduler of pods that name none.
    pub scheduler_name: String,
    /// Tolerations of interruptible pods.
    pub interruptible_tolerations: Vec<Toleration>,
    /// Node selector of interruptible pods.
    pub interruptible_node_selector: StringMap,
    /// Requirement on nodes of interruptible pods.
    pub interruptible_node_selector_requirement: Option<NodeSelectorRequirement>,
    /// Requirement on nodes of other pods.
    pub non_interruptible_node_selector_requirement: Option<NodeSelectorRequirement>,
    /// Tolerations by resource name.
    pub resource_tolerations: KeyedList<Tolerations>,
    /// Deletes pods of finished tasks.
    pub delete_resource_on_finalize: bool,
    /// How long a container may fail to be created.
    pub create_container_error_grace_period: Duration,
    /// How long a container's configuration may be unusable.
    pub create_container_config_error_grace_period: Duration,
    /// How long an image may not be pulled.
    pub image_pull_backoff_grace_period: Duration,
    /// Pull policy of containers built from a template; empty leaves it to the cluster.
    pub image_pull_policy: String,
    /// How long a pod may be pending; 0 is for ever.
    pub pod_pending_timeout: Duration,
    /// Resource name of accelerators.
    pub gpu_resource_name: String,
    /// Node label with the kind of accelerator.
    pub gpu_device_node_label: String,
    /// Node label with the size of its partition.
    pub gpu_partition_size_node_label: String,
    /// Requirement on nodes for accelerators that are not partitioned.
    pub gpu_unpartitioned_node_selector_requirement: Option<NodeSelectorRequirement>,
    /// Toleration for accelerators that are not partitioned.
    pub gpu_unpartitioned_toleration: Option<Toleration>,
    /// Security context of pods that have none.
    pub default_pod_security_context: Option<PodSecurityContext>,
    /// Security context of primary containers that have none.
    pub default_security_context: Option<SecurityContext>,
    /// Host networking of every pod, when set.
    pub enable_host_networking_pod: Option<bool>,
    /// DNS of pods that have none.
    pub default_pod_dns_config: Option<PodDNSConfig>,
    /// PodTemplate of tasks that name none.
    pub default_pod_template_name: String,
    /// Extended resources for which pods get a toleration.
    pub add_tolerations_for_extended_resources: Vec<String>,
    /// Watches what the cluster says about pods (`events.k8s.io`) and sends it as reasons of the task, each with its
    /// own time; the older single reason is left out.
    pub send_object_events: bool,
    /// What brings raw containers their inputs and takes their outputs away.
    #[serde(rename = "co-pilot")]
    pub co_pilot: CopilotConfig,
}

impl Default for K8sConfig {
    fn default() -> Self {
        Self {
            inject_finalizer: false,
            default_annotations: StringMap::from([(
                "cluster-autoscaler.kubernetes.io/safe-to-evict",
                "false".to_owned(),
            )]),
            default_labels: StringMap::default(),
            default_env_vars: StringMap::default(),
            default_env_vars_from_env: StringMap::default(),
            default_env_from_configmaps: Vec::new(),
            default_env_from_secrets: Vec::new(),
            default_tolerations: Vec::new(),
            default_node_selector: StringMap::default(),
            default_affinity: None,
            scheduler_name: String::new(),
            interruptible_tolerations: Vec::new(),
            interruptible_node_selector: StringMap::default(),
            interruptible_node_selector_requirement: None,
            non_interruptible_node_selector_requirement: None,
            resource_tolerations: KeyedList::default(),
            delete_resource_on_finalize: false,
            create_container_error_grace_period: Duration::minutes(3),
            create_container_config_error_grace_period: Duration::ZERO,
            image_pull_backoff_grace_period: Duration::minutes(3),
            image_pull_policy: String::new(),
            pod_pending_timeout: Duration::ZERO,
            gpu_resource_name: "nvidia.com/gpu".into(),
            gpu_device_node_label: "k8s.amazonaws.com/accelerator".into(),
            gpu_partition_size_node_label: "k8s.amazonaws.com/gpu-partition-size".into(),
            gpu_unpartitioned_node_selector_requirement: None,
            gpu_unpartitioned_toleration: None,
            default_pod_security_context: None,
            default_security_context: None,
            enable_host_networking_pod: None,
            default_pod_dns_config: None,
            default_pod_template_name: String::new(),
            add_tolerations_for_extended_resources: Vec::new(),
            send_object_events: false,
            co_pilot: CopilotConfig::default(),
        }
    }
}

/// Section `plugins.k8s.co-pilot` (spec 05 §7).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct CopilotConfig {
    /// What the names of its containers begin with.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Where a container finds its inputs, when the task does not say.
    pub default_input_path: String,
    /// Where a container leaves its outputs, when the task does not say.
    pub default_output_path: String,
    /// Name of the volume with the inputs.
    pub input_vol_name: String,
    /// Name of the volume with the outputs.
    pub output_vol_name: String,
    /// Cores of each of its containers, as request and limit.
    pub cpu: String,
    /// Memory of each of its containers, as request and limit.
    pub memory: String,
    /// Accepted for compatibility.
    pub storage: String,
    /// How long outputs may be under way, which is also the grace period of such pods.
    pub timeout: Duration,
    /// Accepted for compatibility.
    pub start_timeout: Duration,
    /// How it gets the keys of the store: `arguments` as from Go's propeller, or `environment`, which keeps them out of
    /// lists of processes and needs an image of ours. Keys are in the pod's spec in either case; an identity of the
    /// workload (`auth-type: iam`) needs none.
    pub credentials: Credentials,
}

impl Default for CopilotConfig {
    fn default() -> Self {
        Self {
            name: "flyte-copilot-".into(),
            image: "cr.flyte.org/flyteorg/flytecopilot:v0.0.15".into(),
            default_input_path: "/var/flyte/inputs".into(),
            default_output_path: "/var/flyte/outputs".into(),
            input_vol_name: "flyte-inputs".into(),
            output_vol_name: "flyte-outputs".into(),
            cpu: "500m".into(),
            memory: "128Mi".into(),
            storage: String::new(),
            timeout: Duration::hours(1),
            start_timeout: Duration::ZERO,
            credentials: Credentials::Arguments,
        }
    }
}

/// How copilot gets the keys of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Credentials {
    /// On its command line.
    Arguments,
    /// In variables, in the form of their names that passes through a shell and that Go does not read.
    Environment,
}

/// Keys of section `plugins.k8s` that change nothing.
pub const UNHEARD: &[Unheard] = &[
    Unheard {
        key: "plugins.k8s.co-pilot.storage",
        instead: "volumes are as large as the resource storage of the task's node says",
    },
    Unheard {
        key: "plugins.k8s.co-pilot.start-timeout",
        instead: "the container is waited for without a limit; its pod's deadline is one",
    },
];

/// A list of tolerations as a value of a map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tolerations(pub Vec<Toleration>);

impl FromLoose for Tolerations {
    fn from_loose(value: serde_json::Value) -> Result<Self, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
}

/// Section `plugins.logs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LogsConfig {
    /// Links to CloudWatch.
    pub cloudwatch_enabled: bool,
    /// AWS region of the log group.
    pub cloudwatch_region: String,
    /// Its log group.
    pub cloudwatch_log_group: String,
    /// Template instead of the usual link.
    pub cloudwatch_template_uri: String,
    /// Links to Kubernetes logs.
    pub kubernetes_enabled: bool,
    /// Base URL of a dashboard, when there is no template.
    pub kubernetes_url: String,
    /// Template of the link.
    pub kubernetes_template_uri: String,
    /// Links to Stackdriver.
    pub stackdriver_enabled: bool,
    /// Google Cloud project that has the logs.
    pub gcp_project: String,
    /// Its resource name.
    pub stackdriver_logresourcename: String,
    /// Template instead of the usual link.
    pub stackdriver_template_uri: String,
    /// Links of the installation's own, beside those of the backends above.
    pub templates: Vec<LogTemplate>,
    /// Links that a task asks for by `link_type`, by that name.
    pub dynamic_log_links: KeyedList<DynamicLink>,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            cloudwatch_enabled: false,
            cloudwatch_region: String::new(),
            cloudwatch_log_group: String::new(),
            cloudwatch_template_uri: String::new(),
            kubernetes_enabled: true,
            kubernetes_url: String::new(),
            kubernetes_template_uri:
                "http://localhost:30082/#!/log/{{ .namespace }}/{{ .podName }}/pod?namespace={{ .namespace }}".into(),
            stackdriver_enabled: false,
            gcp_project: String::new(),
            stackdriver_logresourcename: String::new(),
            stackdriver_template_uri: String::new(),
            templates: Vec::new(),
            dynamic_log_links: KeyedList::default(),
        }
    }
}

/// One link to logs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogTemplate {
    /// Name by which a task's `link_type` asks for the dynamic URIs.
    pub name: String,
    /// What people see.
    pub display_name: String,
    /// One link each.
    pub template_uris: Vec<String>,
    /// One link each, when asked for.
    pub dynamic_template_uris: Vec<String>,
    /// 0 unknown, 1 CSV, 2 JSON.
    pub message_format: i32,
    /// Shown before the task runs.
    pub show_while_pending: bool,
    /// Hidden once it ended.
    pub hide_once_finished: bool,
}

/// A link that tasks ask for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DynamicLink {
    /// What people see.
    pub display_name: String,
    /// One link each.
    pub template_uris: Vec<String>,
}

impl FromLoose for DynamicLink {
    fn from_loose(value: serde_json::Value) -> Result<Self, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
}

/// Section `plugins.echo`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct EchoConfig {
    /// How long an echo task runs.
    pub sleep_duration: Duration,
}

/// Everything that plugins are configured by.
#[derive(Clone, Debug, Default)]
pub struct PluginsConfig {
    /// Section `tasks`.
    pub tasks: TasksConfig,
    /// Section `plugins.k8s`.
    pub k8s: K8sConfig,
    /// Section `plugins.logs`.
    pub logs: LogsConfig,
    /// Section `plugins.echo`.
    pub echo: EchoConfig,
    /// What `default-env-vars-from-env` found in the process.
    pub environment: BTreeMap<String, String>,
    /// Section `storage`, for copilot.
    pub storage: StorageConfig,
    /// Section `logger`, for copilot.
    pub logger: LoggerConfig,
    /// Namespace that the engine itself runs in, where PodTemplates for all are (`POD_NAMESPACE`); empty is `flyte`.
    pub own_namespace: String,
}
