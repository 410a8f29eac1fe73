//! The sections that flyteadmin reads, besides `server`.

use std::fmt;

use flyte_core::{compiler::Rules, names, quantity::Quantity};
use flyte_platform::config::{Duration, KeyedList, StringMap, text_that};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, SeqAccess, Unexpected, Visitor},
};

/// A Kubernetes quantity, or nothing.
fn quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let expected = "a Kubernetes quantity such as 500m, 2 or 4Gi";
    text_that(deserializer, expected, |text| {
        text.is_empty() || text.parse::<Quantity>().is_ok()
    })
}

/// Section `flyteadmin`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the keys of the reference's configuration"
)]
pub struct FlyteAdminConfig {
    /// Annotation key that carries a run's IAM role; empty writes none.
    pub role_name_key: String,
    /// Prefix of metric names.
    pub metrics_scope: String,
    /// Labels of workflow metrics.
    pub metrics_keys: Vec<String>,
    /// Port of `/metrics`, `/healthcheck`, `/version` and `/config`.
    pub profiler_port: u16,
    /// Key prefix of registered closures.
    pub metadata_storage_prefix: Vec<String>,
    /// Version of the event protocol that resources ask for.
    pub event_version: i32,
    /// Accepted; event rows are written in the event's own transaction.
    pub async_events_buffer_size: u32,
    /// Nodes of one execution that run at once, unless set elsewhere.
    pub max_parallelism: i32,
    /// Labels of executions, unless set elsewhere.
    pub labels: StringMap,
    /// Annotations of executions, unless set elsewhere.
    pub annotations: StringMap,
    /// Executions are interruptible unless set elsewhere.
    pub interruptible: bool,
    /// Executions overwrite the cache.
    pub overwrite_cache: bool,
    /// IAM role of executions, unless set elsewhere.
    pub assumable_iam_role: String,
    /// Service account of executions, unless set elsewhere.
    pub k8s_service_account: String,
    /// Prefix of raw outputs, unless set elsewhere.
    pub output_location_prefix: String,
    /// Keep closures out of resources.
    pub use_offloaded_workflow_closure: bool,
    /// Environment of executions, unless set elsewhere.
    pub envs: StringMap,
    /// Switches of unfinished features.
    pub feature_gates: FeatureGates,
    /// Address of the console, for links in pods.
    pub console_url: String,
    /// Keep inputs out of resources.
    pub use_offloaded_inputs: bool,
    /// Annotate resources with who launched them.
    pub inject_identity_annotations: bool,
    /// Prefix of those annotations; empty is `flyte.org`.
    pub identity_annotation_prefix: String,
    /// Which of `email`, `sub` and `id` to annotate.
    pub identity_annotation_keys: Vec<String>,
}

impl Default for FlyteAdminConfig {
    fn default() -> Self {
        Self {
            role_name_key: String::new(),
            metrics_scope: "flyte:".to_owned(),
            metrics_keys: [
                "project",
                "domain",
                "wf",
                "task",
                "phase",
                "tasktype",
                "runtime_type",
                "runtime_version",
                "app_name",
            ]
            .map(str::to_owned)
            .to_vec(),
            profiler_port: 10254,
            metadata_storage_prefix: vec!["metadata".to_owned(), "admin".to_owned()],
            event_version: 2,
            async_events_buffer_size: 100,
            max_parallelism: 25,
            labels: StringMap::default(),
            annotations: StringMap::default(),
            interruptible: false,
            overwrite_cache: false,
            assumable_iam_role: String::new(),
            k8s_service_account: String::new(),
            output_location_prefix: String::new(),
            use_offloaded_workflow_closure: false,
            envs: StringMap::default(),
            feature_gates: FeatureGates::default(),
            console_url: String::new(),
            use_offloaded_inputs: false,
            inject_identity_annotations: false,
            identity_annotation_prefix: String::new(),
            identity_annotation_keys: Vec::new(),
        }
    }
}

/// `flyteadmin.featureGates`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FeatureGates {
    /// Accept artifact queries as inputs.
    pub enable_artifacts: bool,
}

/// A domain that every project has.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct DomainConfig {
    /// Id in identifiers.
    #[serde(deserialize_with = "domain_id")]
    pub id: String,
    /// Name for people, and in namespaces of the resource loop.
    #[serde(default)]
    pub name: String,
}

fn domain_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_that(deserializer, "the id of a domain", |id| !id.is_empty())
}

/// Section `domains`.
#[derive(Clone, Debug, Serialize)]
#[serde(into = "Vec<DomainConfig>")]
pub struct DomainsConfig(pub Vec<DomainConfig>);

impl<'de> Deserialize<'de> for DomainsConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenDomains)
    }
}

struct GivenDomains;

impl<'de> Visitor<'de> for GivenDomains {
    type Value = DomainsConfig;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of sections with the keys id and name")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<DomainsConfig, A::Error> {
        let mut domains = Vec::new();
        while let Some(domain) = items.next_element()? {
            domains.push(domain);
        }
        Ok(DomainsConfig(domains))
    }

    /// When no file has the section, the loader hands over an empty map.
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<DomainsConfig, A::Error> {
        match entries.next_key::<String>()? {
            None => Ok(DomainsConfig::default()),
            Some(_) => Err(A::Error::invalid_type(Unexpected::Map, &self)),
        }
    }
}

impl From<DomainsConfig> for Vec<DomainConfig> {
    fn from(domains: DomainsConfig) -> Self {
        domains.0
    }
}

impl Default for DomainsConfig {
    fn default() -> Self {
        Self(
            ["development", "staging", "production"]
                .map(|domain| DomainConfig {
                    id: domain.to_owned(),
                    name: domain.to_owned(),
                })
                .to_vec(),
        )
    }
}

/// Section `registration`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RegistrationConfig {
    /// The most nodes of a workflow; 0 is no limit.
    pub max_workflow_nodes: usize,
    /// The most labels of an execution; 0 is no limit.
    pub max_label_entries: usize,
    /// The most annotations of an execution; 0 is no limit.
    pub max_annotation_entries: usize,
    /// The largest closure of a workflow, as a Kubernetes quantity; empty is no limit.
    #[serde(deserialize_with = "quantity")]
    pub workflow_size_limit: String,
    /// What to do with workflows that the compiler of Go Flyte lets pass although they cannot work: `strict` refuses
    /// them, `reference` registers them (docs/compatibility.md).
    pub compiler_rules: CompilerRules,
}

/// `registration.compilerRules`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CompilerRules {
    /// They are refused (spec 08 A18).
    #[default]
    Strict,
    /// They are registered, as by Go Flyte.
    Reference,
}

impl From<CompilerRules> for Rules {
    fn from(rules: CompilerRules) -> Self {
        match rules {
            CompilerRules::Strict => Self::Strict,
            CompilerRules::Reference => Self::Reference,
        }
    }
}

impl Default for RegistrationConfig {
    fn default() -> Self {
        Self {
            max_workflow_nodes: 100,
            max_label_entries: 0,
            max_annotation_entries: 0,
            workflow_size_limit: String::new(),
            compiler_rules: CompilerRules::default(),
        }
    }
}

/// Section `namespace_mapping`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct NamespaceMappingConfig {
    /// Text in which `{{ project }}` and `{{ domain }}` are replaced (spec 03 §3.6).
    #[serde(deserialize_with = "namespace_template")]
    pub template: String,
    /// Deprecated and ignored.
    pub mapping: String,
}

impl Default for NamespaceMappingConfig {
    fn default() -> Self {
        Self {
            template: "{{ project }}-{{ domain }}".to_owned(),
            mapping: String::new(),
        }
    }
}

impl NamespaceMappingConfig {
    /// The namespace of a project and domain.
    pub fn namespace(&self, project: &str, domain: &str) -> String {
        filled_in(&self.template, project, domain)
    }
}

fn filled_in(template: &str, project: &str, domain: &str) -> String {
    template
        .replace("{{ project }}", project)
        .replace("{{ domain }}", domain)
}

/// A template that makes a name that Kubernetes takes, at least of a short project and domain.
fn namespace_template<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let expected = "a template that makes a Kubernetes namespace (lower case letters, digits and hyphens) when exactly \
                    \"{{ project }}\" and \"{{ domain }}\" in it are replaced, such as \"{{ project }}-{{ domain }}\"";
    text_that(deserializer, expected, |template| {
        names::rfc1123_label(&filled_in(template, "p", "d")).is_empty()
    })
}

/// Section `task_resources`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct TaskResourcesConfig {
    /// What a container gets that asks for nothing.
    pub defaults: ResourceSetConfig,
    /// What a container may ask for at most.
    pub limits: ResourceSetConfig,
}

impl Default for TaskResourcesConfig {
    fn default() -> Self {
        Self {
            defaults: ResourceSetConfig {
                cpu: "2".to_owned(),
                memory: "200Mi".to_owned(),
                ..ResourceSetConfig::default()
            },
            limits: ResourceSetConfig {
                cpu: "2".to_owned(),
                memory: "1Gi".to_owned(),
                gpu: "1".to_owned(),
                ..ResourceSetConfig::default()
            },
        }
    }
}

/// Quantities of resources; empty is none.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceSetConfig {
    /// CPU, as a Kubernetes quantity of cores (`500m`); empty means not set.
    #[serde(deserialize_with = "quantity")]
    pub cpu: String,
    /// Number of GPUs, as a Kubernetes quantity; empty means not set.
    #[serde(deserialize_with = "quantity")]
    pub gpu: String,
    /// Bytes of memory.
    #[serde(deserialize_with = "quantity")]
    pub memory: String,
    /// Bytes of scratch disk.
    #[serde(deserialize_with = "quantity")]
    pub ephemeral_storage: String,
    /// Accepted and ignored.
    pub storage: String,
}

/// Where a task type may be registered: an empty project is all, an empty domain all of the project.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct WhitelistScope {
    /// Project, or empty.
    pub project: String,
    /// Domain, or empty.
    pub domain: String,
}

/// Where a task type may be registered: any of these.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct WhitelistScopes(pub Vec<WhitelistScope>);

impl flyte_platform::config::FromLoose for WhitelistScopes {
    fn from_loose(value: serde_json::Value) -> Result<Self, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

/// Section `remoteData`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RemoteDataConfig {
    /// `none`, `local`, `aws` or `gcp`; with the first two, data is always returned inline.
    pub scheme: String,
    /// Accepted; the storage section knows its region.
    pub region: String,
    /// Signed URLs of inputs and outputs.
    #[serde(rename = "signedUrls")]
    pub signed_urls: SignedUrlsConfig,
    /// The largest inputs or outputs that are returned or accepted inline, in bytes.
    pub max_size_in_bytes: u64,
    /// `Offload` or `StoreInline`, or 0 or 1: where inline data of events goes.
    #[serde(deserialize_with = "inline_policy")]
    pub inline_event_data_policy: String,
}

impl Default for RemoteDataConfig {
    fn default() -> Self {
        Self {
            scheme: "none".to_owned(),
            region: String::new(),
            signed_urls: SignedUrlsConfig::default(),
            max_size_in_bytes: 2 * 1024 * 1024,
            inline_event_data_policy: "Offload".to_owned(),
        }
    }
}

fn inline_policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_that(deserializer, "Offload or StoreInline", |text| {
        ["offload", "storeinline", "0", "1"].contains(&text.to_ascii_lowercase().as_str())
    })
}

impl RemoteDataConfig {
    /// Whether inline data of events stays in the database.
    pub fn stores_inline(&self) -> bool {
        matches!(
            self.inline_event_data_policy.to_ascii_lowercase().as_str(),
            "storeinline" | "1"
        )
    }
}

/// `remoteData.signedUrls`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SignedUrlsConfig {
    /// Return signed URLs.
    pub enabled: bool,
    /// How long they are good for, in minutes.
    pub duration_minutes: u32,
    /// Accepted; the storage section's credentials sign.
    pub signing_principal: String,
}

/// Section `clusterPools`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterPoolsConfig {
    /// Pool of each domain.
    pub cluster_pool_assignments: KeyedList<PoolAssignment>,
}

/// The pool of a domain.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PoolAssignment {
    /// Name of the pool.
    pub pool: String,
}

impl flyte_platform::config::FromLoose for PoolAssignment {
    fn from_loose(value: serde_json::Value) -> Result<Self, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

/// Section `cluster_resources`: what every project and domain gets on every cluster.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterResourcesConfig {
    /// Folder of templates; the built-in one makes the namespace.
    pub template_path: String,
    /// Pause between rounds.
    pub refresh_interval: Duration,
}

impl Default for ClusterResourcesConfig {
    fn default() -> Self {
        Self {
            template_path: String::new(),
            refresh_interval: Duration::minutes(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_replaces_exactly_the_spaced_placeholders() {
        let mapping = NamespaceMappingConfig {
            template: "{{ project }}-{{domain}}-{{ domain }}".to_owned(),
            ..NamespaceMappingConfig::default()
        };
        assert_eq!(mapping.namespace("p", "d"), "p-{{domain}}-d");
    }
}
