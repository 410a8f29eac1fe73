//! The kinds of objects that the API serves: a fixed table of Kubernetes' own, and those that resource definitions add.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::cluster::schema::Schema;

/// The storage name of a resource: `plural` or `plural.group`, the same for all its versions.
pub(crate) type ResourceId = Arc<str>;

/// Whether objects of a kind live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Namespaced,
    Cluster,
}

/// One resource of one API version.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) id: ResourceId,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) scope: Scope,
    /// Whether `status` is written through its own path only.
    pub(crate) status: bool,
    /// Whether this comes from a CustomResourceDefinition.
    pub(crate) custom: bool,
    /// `additionalPrinterColumns` of a custom resource.
    pub(crate) columns: Vec<Value>,
    /// The structural schema of a custom resource. Definitions of earlier versions of this program may have none.
    pub(crate) schema: Option<Arc<Schema>>,
}

impl Resource {
    /// `group/version`, or `version` for the core group.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    pub(crate) fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether this is the `events.k8s.io` view of events, which are kept as `v1`.
    pub(crate) fn is_modern_event(&self) -> bool {
        &*self.id == EVENTS && !self.group.is_empty()
    }

    /// Whether objects of this kind do nothing without a controller that the embedded platform does not have.
    pub(crate) fn needs_controller(&self) -> bool {
        matches!(
            &*self.id,
            "replicationcontrollers"
                | "deployments.apps"
                | "replicasets.apps"
                | "statefulsets.apps"
                | "daemonsets.apps"
                | "jobs.batch"
                | "cronjobs.batch"
        )
    }

    pub(crate) fn is_pod(&self) -> bool {
        &*self.id == PODS
    }
}

/// Storage names that the code decides on.
pub(crate) const PODS: &str = "pods";
pub(crate) const NAMESPACES: &str = "namespaces";
pub(crate) const EVENTS: &str = "events";
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// Kubernetes' own kinds: group, version, plural, kind, scope and status, short names.
const BUILT_IN: &[(&str, &str, &str, &str, &str, &str)] = &[
    ("", "v1", "namespaces", "Namespace", "cs", "ns"),
    ("", "v1", "pods", "Pod", "ns", "po"),
    ("", "v1", "configmaps", "ConfigMap", "n", "cm"),
    ("", "v1", "secrets", "Secret", "n", ""),
    ("", "v1", "services", "Service", "ns", "svc"),
    ("", "v1", "endpoints", "Endpoints", "n", "ep"),
    ("", "v1", "serviceaccounts", "ServiceAccount", "n", "sa"),
    ("", "v1", "events", "Event", "n", "ev"),
    ("", "v1", "nodes", "Node", "cs", "no"),
    ("", "v1", "resourcequotas", "ResourceQuota", "ns", "quota"),
    ("", "v1", "limitranges", "LimitRange", "n", "limits"),
    ("", "v1", "podtemplates", "PodTemplate", "n", ""),
    (
        "",
        "v1",
        "replicationcontrollers",
        "ReplicationController",
        "ns",
        "rc",
    ),
    (
        "",
        "v1",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
        "ns",
        "pvc",
    ),
    (
        "",
        "v1",
        "persistentvolumes",
        "PersistentVolume",
        "cs",
        "pv",
    ),
    ("apps", "v1", "deployments", "Deployment", "ns", "deploy"),
    ("apps", "v1", "replicasets", "ReplicaSet", "ns", "rs"),
    ("apps", "v1", "statefulsets", "StatefulSet", "ns", "sts"),
    ("apps", "v1", "daemonsets", "DaemonSet", "ns", "ds"),
    ("batch", "v1", "jobs", "Job", "ns", ""),
    ("batch", "v1", "cronjobs", "CronJob", "ns", "cj"),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", "n", ""),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "rolebindings",
        "RoleBinding",
        "n",
        "",
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterroles",
        "ClusterRole",
        "c",
        "",
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        "c",
        "",
    ),
    ("coordination.k8s.io", "v1", "leases", "Lease", "n", ""),
    ("events.k8s.io", "v1", "events", "Event", "n", "ev"),
    (
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "EndpointSlice",
        "n",
        "",
    ),
    (
        "networking.k8s.io",
        "v1",
        "ingresses",
        "Ingress",
        "ns",
        "ing",
    ),
    (
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        "NetworkPolicy",
        "n",
        "netpol",
    ),
    (
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        "ns",
        "pdb",
    ),
    (
        "scheduling.k8s.io",
        "v1",
        "priorityclasses",
        "PriorityClass",
        "c",
        "pc",
    ),
    (
        "storage.k8s.io",
        "v1",
        "storageclasses",
        "StorageClass",
        "c",
        "sc",
    ),
    (
        "node.k8s.io",
        "v1",
        "runtimeclasses",
        "RuntimeClass",
        "c",
        "",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        "c",
        "",
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        "c",
        "",
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "cs",
        "crd,crds",
    ),
];

/// The resources served now, by (group, version, plural).
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    served: BTreeMap<(String, String, String), Arc<Resource>>,
}

impl Registry {
    pub(crate) fn built_in() -> Self {
        let mut served = BTreeMap::new();
        for (group, version, plural, kind, flags, short) in BUILT_IN {
            // The two event APIs are two views of the same objects.
            let id = if group.is_empty() || *plural == EVENTS {
                (*plural).to_owned()
            } else {
                format!("{plural}.{group}")
            };
            let resource = Resource {
                id: id.into(),
                group: (*group).to_owned(),
                version: (*version).to_owned(),
                plural: (*plural).to_owned(),
                singular: kind.to_lowercase(),
                kind: (*kind).to_owned(),
                list_kind: format!("{kind}List"),
                short_names: short
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect(),
                categories: if matches!(*plural, "pods" | "services" | "deployments" | "jobs") {
                    vec!["all".to_owned()]
                } else {
                    Vec::new()
                },
                scope: if flags.contains('n') {
                    Scope::Namespaced
                } else {
                    Scope::Cluster
                },
                status: flags.contains('s') && *flags != "c",
                custom: false,
                columns: Vec::new(),
                schema: None,
            };
            served.insert(
                (
                    resource.group.clone(),
                    resource.version.clone(),
                    resource.plural.clone(),
                ),
                Arc::new(resource),
            );
        }
        Self { served }
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.served
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
            .cloned()
    }

    /// The storage name of a kind, as owner references name it. Flyte writes the kind in lower case
    /// (recorded/resources/pods.jsonl), so letter case is ignored.
    pub(crate) fn id_of_kind(&self, api_version: &str, kind: &str) -> Option<ResourceId> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.served
            .values()
            .find(|resource| resource.group == group && resource.kind.eq_ignore_ascii_case(kind))
            .map(|resource| resource.id.clone())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.served.values()
    }

    /// The groups and their versions, in the order of discovery: core first.
    pub(crate) fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for resource in self.served.values() {
            let versions = groups.entry(resource.group.clone()).or_default();
            if !versions.contains(&resource.version) {
                versions.push(resource.version.clone());
            }
        }
        groups
    }

    /// Serves what a CustomResourceDefinition declares; an earlier declaration of the same name is replaced.
    pub(crate) fn define(&mut self, definition: &Value) {
        let Some(name) = definition.pointer("/metadata/name").and_then(Value::as_str) else {
            return;
        };
        self.undefine(name);
        let spec = definition.get("spec").unwrap_or(&Value::Null);
        let text = |pointer: &str| {
            spec.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let texts = |pointer: &str| -> Vec<String> {
            let list = spec.pointer(pointer).and_then(Value::as_array);
            list.into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        let kind = text("/names/kind");
        for version in spec
            .get("versions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if version.get("served").and_then(Value::as_bool) != Some(true) {
                continue;
            }
            let or =
                |given: String, otherwise: String| if given.is_empty() { otherwise } else { given };
            let resource = Resource {
                id: name.into(),
                group: text("/group"),
                version: version
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
                plural: text("/names/plural"),
                singular: or(text("/names/singular"), kind.to_lowercase()),
                list_kind: or(text("/names/listKind"), format!("{kind}List")),
                kind: kind.clone(),
                short_names: texts("/names/shortNames"),
                categories: texts("/names/categories"),
                scope: if text("/scope") == "Cluster" {
                    Scope::Cluster
                } else {
                    Scope::Namespaced
                },
                status: version.pointer("/subresources/status").is_some(),
                custom: true,
                columns: version
                    .get("additionalPrinterColumns")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default(),
                schema: Schema::of_version(version).map(Arc::new),
            };
            let key = (
                resource.group.clone(),
                resource.version.clone(),
                resource.plural.clone(),
            );
            self.served.insert(key, Arc::new(resource));
        }
    }

    /// Serves a custom resource no longer.
    pub(crate) fn undefine(&mut self, name: &str) {
        self.served
            .retain(|_, resource| !(resource.custom && &*resource.id == name));
    }
}
