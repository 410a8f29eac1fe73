//! Objects as their Kubernetes types: what a typed client could not read back is refused on its way in.
//!
//! A client reads a list as a whole: one object of a wrong type would end the list, and every watch, of everybody. A real
//! API server decodes what comes in for the same reason.

use flyte_idl::text::quoted;
use k8s_openapi::api::{
    admissionregistration::v1 as admissionregistration, apps::v1 as apps, batch::v1 as batch,
    coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    networking::v1 as networking, node::v1 as node, policy::v1 as policy, rbac::v1 as rbac,
    scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::cluster::api_status::ApiStatus;
use crate::cluster::causes::Fields;
use crate::cluster::field_path::FieldPath;
use crate::cluster::openapi::fields::Definitions;
use crate::cluster::resource::Resource;
use crate::kubelet::quantity;

/// Where an object has another type than its kind, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub(crate) struct WrongType {
    pub(crate) field: String,
    pub(crate) message: String,
}

impl WrongType {
    /// As an API server says it of a body.
    pub(crate) fn refuse(&self, resource: &Resource) -> ApiStatus {
        ApiStatus::bad_request(format!(
            "{} in version {} cannot be handled as a {}: {self}",
            resource.kind,
            quoted(&resource.version),
            resource.kind
        ))
    }
}

/// Reads `value` as a `T`. Fields that `T` does not have are left alone.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, WrongType> {
    serde_path_to_error::deserialize(value).map_err(|error| WrongType {
        field: error.path().to_string(),
        message: error.inner().to_string(),
    })
}

fn is<T: DeserializeOwned>(value: &Value) -> Result<(), WrongType> {
    read::<T>(value).map(drop)
}

/// What is left of `value` when it is read as a `T` and written again.
fn known<T: DeserializeOwned + Serialize>(value: &Value) -> Option<Value> {
    serde_json::to_value(T::deserialize(value).ok()?).ok()
}

/// The Rust type of a kind of Kubernetes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    check: fn(&Value) -> Result<(), WrongType>,
    known: fn(&Value) -> Option<Value>,
    describe: fn(&mut Definitions) -> String,
}

impl Kind {
    fn of<T: DeserializeOwned + Serialize>() -> Self {
        Self {
            check: is::<T>,
            known: known::<T>,
            describe: Definitions::add::<T>,
        }
    }

    /// Adds the fields of the type to `definitions`; returns its name there.
    pub(crate) fn describe(self, definitions: &mut Definitions) -> String {
        (self.describe)(definitions)
    }
}

/// The type of the resource with this storage name, if Kubernetes defines it.
pub(crate) fn kind(id: &str) -> Option<Kind> {
    Some(match id {
        "namespaces" => Kind::of::<core::Namespace>(),
        "pods" => Kind::of::<core::Pod>(),
        "configmaps" => Kind::of::<core::ConfigMap>(),
        "secrets" => Kind::of::<core::Secret>(),
        "services" => Kind::of::<core::Service>(),
        "endpoints" => Kind::of::<core::Endpoints>(),
        "serviceaccounts" => Kind::of::<core::ServiceAccount>(),
        "events" => Kind::of::<core::Event>(),
        "nodes" => Kind::of::<core::Node>(),
        "resourcequotas" => Kind::of::<core::ResourceQuota>(),
        "limitranges" => Kind::of::<core::LimitRange>(),
        "podtemplates" => Kind::of::<core::PodTemplate>(),
        "replicationcontrollers" => Kind::of::<core::ReplicationController>(),
        "persistentvolumeclaims" => Kind::of::<core::PersistentVolumeClaim>(),
        "persistentvolumes" => Kind::of::<core::PersistentVolume>(),
        "deployments.apps" => Kind::of::<apps::Deployment>(),
        "replicasets.apps" => Kind::of::<apps::ReplicaSet>(),
        "statefulsets.apps" => Kind::of::<apps::StatefulSet>(),
        "daemonsets.apps" => Kind::of::<apps::DaemonSet>(),
        "jobs.batch" => Kind::of::<batch::Job>(),
        "cronjobs.batch" => Kind::of::<batch::CronJob>(),
        "roles.rbac.authorization.k8s.io" => Kind::of::<rbac::Role>(),
        "rolebindings.rbac.authorization.k8s.io" => Kind::of::<rbac::RoleBinding>(),
        "clusterroles.rbac.authorization.k8s.io" => Kind::of::<rbac::ClusterRole>(),
        "clusterrolebindings.rbac.authorization.k8s.io" => Kind::of::<rbac::ClusterRoleBinding>(),
        "leases.coordination.k8s.io" => Kind::of::<coordination::Lease>(),
        "endpointslices.discovery.k8s.io" => Kind::of::<discovery::EndpointSlice>(),
        "ingresses.networking.k8s.io" => Kind::of::<networking::Ingress>(),
        "networkpolicies.networking.k8s.io" => Kind::of::<networking::NetworkPolicy>(),
        "poddisruptionbudgets.policy" => Kind::of::<policy::PodDisruptionBudget>(),
        "priorityclasses.scheduling.k8s.io" => Kind::of::<scheduling::PriorityClass>(),
        "storageclasses.storage.k8s.io" => Kind::of::<storage::StorageClass>(),
        "runtimeclasses.node.k8s.io" => Kind::of::<node::RuntimeClass>(),
        "mutatingwebhookconfigurations.admissionregistration.k8s.io" => {
            Kind::of::<admissionregistration::MutatingWebhookConfiguration>()
        }
        "validatingwebhookconfigurations.admissionregistration.k8s.io" => {
            Kind::of::<admissionregistration::ValidatingWebhookConfiguration>()
        }
        "customresourcedefinitions.apiextensions.k8s.io" => {
            Kind::of::<apiextensions::CustomResourceDefinition>()
        }
        _ => return None,
    })
}

/// Checks that an object of the resource with this storage name can be read by a typed client: all of it for kinds of
/// Kubernetes, metadata for others.
pub(crate) fn check(id: &str, value: &Value) -> Result<(), WrongType> {
    let Some(kind) = kind(id) else {
        return metadata(value);
    };
    (kind.check)(value)?;
    if has_quantities(id) {
        quantities(value, &mut String::new())?;
    }
    Ok(())
}

/// Removes the fields that the kind of Kubernetes with this storage name does not have; adds their paths. An object that is of
/// another type than its kind stays as it is: it is refused by [`check`].
pub(crate) fn prune(id: &str, value: &mut Value, unknown: &mut Fields) {
    if let Some(known) = kind(id).and_then(|kind| (kind.known)(value)) {
        remove_unknown(value, &known, &FieldPath::root(""), unknown);
    }
}

/// A member without a value says nothing: it stays, whether it is known or not.
fn remove_unknown(value: &mut Value, known: &Value, path: &FieldPath<'_>, unknown: &mut Fields) {
    match (value, known) {
        (Value::Object(members), Value::Object(known)) => members.retain(|name, member| {
            let here = path.member(name);
            match known.get(name) {
                Some(known) => remove_unknown(member, known, &here, unknown),
                None if member.is_null() => {}
                None => {
                    unknown.add(&here);
                    return false;
                }
            }
            true
        }),
        (Value::Array(items), Value::Array(known)) => {
            for (index, (item, known)) in items.iter_mut().zip(known).enumerate() {
                remove_unknown(item, known, &path.item(index), unknown);
            }
        }
        _ => {}
    }
}

/// Checks the metadata of an object of any kind.
fn metadata(value: &Value) -> Result<(), WrongType> {
    let metadata = value.get("metadata").unwrap_or(&Value::Null);
    if metadata.is_null() {
        return Ok(());
    }
    is::<ObjectMeta>(metadata).map_err(|wrong| WrongType {
        field: format!("metadata.{}", wrong.field),
        ..wrong
    })
}

/// Members that hold one quantity, and those that hold a map of them, in all kinds that [`has_quantities`].
const QUANTITY: [&str; 2] = ["sizeLimit", "divisor"];
const QUANTITIES: [&str; 12] = [
    "limits",
    "requests",
    "hard",
    "used",
    "capacity",
    "allocatable",
    "overhead",
    "default",
    "defaultRequest",
    "max",
    "min",
    "maxLimitRequestRatio",
];

fn has_quantities(id: &str) -> bool {
    matches!(
        id,
        "pods"
            | "podtemplates"
            | "replicationcontrollers"
            | "nodes"
            | "resourcequotas"
            | "limitranges"
            | "persistentvolumeclaims"
            | "persistentvolumes"
            | "deployments.apps"
            | "replicasets.apps"
            | "statefulsets.apps"
            | "daemonsets.apps"
            | "jobs.batch"
            | "cronjobs.batch"
    )
}

/// Removes the members that metadata of no object have; adds their paths.
pub(crate) fn prune_metadata(object: &mut Value, unknown: &mut Fields) {
    if let Some(metadata) = object.get_mut("metadata")
        && let Some(known) = known::<ObjectMeta>(metadata)
    {
        remove_unknown(metadata, &known, &FieldPath::root("metadata"), unknown);
    }
}

/// Members that hold a map of texts. A null in them is an empty text, as Go reads it.
const TEXTS: [&str; 7] = [
    "labels",
    "annotations",
    "matchLabels",
    "nodeSelector",
    "selector",
    "data",
    "stringData",
];

/// Writes nulls in maps of texts and of quantities as the values that they are read as.
pub(crate) fn write_zeros(resource: &Resource, value: &mut Value) {
    let has_quantities = !resource.custom && has_quantities(&resource.id);
    for (name, member) in value.as_object_mut().into_iter().flatten() {
        if name == "metadata" || !resource.custom {
            zeros(name, member, has_quantities);
        }
    }
}

fn zeros(name: &str, value: &mut Value, has_quantities: bool) {
    let zero = match name {
        name if TEXTS.contains(&name) => "",
        name if has_quantities && QUANTITIES.contains(&name) => "0",
        _ => {
            match value {
                Value::Object(members) => {
                    for (name, member) in members {
                        zeros(name, member, has_quantities);
                    }
                }
                Value::Array(items) => {
                    for item in items {
                        zeros("", item, has_quantities);
                    }
                }
                _ => {}
            }
            return;
        }
    };
    for member in value.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if member.is_null() {
            *member = zero.into();
        } else {
            // `selector` and `data` are of other types in some kinds.
            zeros("", member, has_quantities);
        }
    }
}

/// Writes numbers that stand for quantities, as in `cpu: 2`, as the texts that they are read as: the one type that
/// Kubernetes reads from both.
pub(crate) fn write_quantities(resource: &Resource, value: &mut Value) {
    if !resource.custom && has_quantities(&resource.id) {
        for (name, member) in value.as_object_mut().into_iter().flatten() {
            if name != "metadata" {
                write_numbers(member);
            }
        }
    }
}

fn write_numbers(value: &mut Value) {
    let as_text = |value: &mut Value| {
        if let Value::Number(number) = value {
            *value = Value::String(number.to_string());
        }
    };
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if QUANTITY.contains(&name.as_str()) {
                    as_text(member);
                } else if QUANTITIES.contains(&name.as_str())
                    && let Value::Object(amounts) = member
                {
                    amounts.values_mut().for_each(as_text);
                } else {
                    write_numbers(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(write_numbers),
        _ => {}
    }
}

/// Finds texts that stand for quantities and are none.
fn quantities(value: &Value, path: &mut String) -> Result<(), WrongType> {
    const RULE: &str = "quantities must match the regular expression \
                        '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let is_quantity = |value: &Value, path: &str| match value {
        Value::String(text)
            if text.contains(char::is_whitespace) || quantity::millis(text).is_none() =>
        {
            Err(WrongType {
                field: path.to_owned(),
                message: format!("unable to parse quantity {}: {RULE}", quoted(text)),
            })
        }
        _ => Ok(()),
    };
    let length = path.len();
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter().filter(|(name, _)| *name != "metadata") {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                if QUANTITY.contains(&name.as_str()) {
                    is_quantity(member, path)?;
                } else if QUANTITIES.contains(&name.as_str()) {
                    for (resource, amount) in member.as_object().into_iter().flatten() {
                        is_quantity(amount, &format!("{path}.{resource}"))?;
                    }
                } else {
                    quantities(member, path)?;
                }
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                quantities(item, path)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::resource::Registry;

    #[test]
    fn every_kind_of_kubernetes_has_its_type() {
        // Kinds without a type would have only their metadata checked.
        for resource in Registry::built_in().all() {
            let wrong = json!({"metadata": {}, "kind": 7, "apiVersion": 7});
            assert!(check(&resource.id, &wrong).is_err(), "{}", resource.id);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (id, value, field) in [
            (
                "pods",
                json!({"spec": {"containers": [{"name": "a", "env": [{"name": "PORT", "value": 8080}]}]}}),
                "spec.containers[0].env[0].value",
            ),
            (
                "pods",
                json!({"metadata": {"labels": {"a": 1}}}),
                "metadata.labels.a",
            ),
            (
                "pods",
                json!({"spec": {"nodeSelector": {"gpu": true}}}),
                "spec.nodeSelector.gpu",
            ),
            (
                "pods",
                json!({"spec": {"hostNetwork": "yes"}}),
                "spec.hostNetwork",
            ),
            (
                "pods",
                json!({"status": {"startTime": "yesterday"}}),
                "status.startTime",
            ),
            (
                "pods",
                json!({"spec": {"containers": [{"resources": {"limits": {"memory": "4 GB"}}}]}}),
                "spec.containers[0].resources.limits.memory",
            ),
            ("configmaps", json!({"data": {"a": 1}}), "data.a"),
            ("secrets", json!({"data": {"a": "not base64!"}}), "data.a"),
            (
                "things.example.org",
                json!({"metadata": {"annotations": {"a": 1}}}),
                "metadata.annotations.a",
            ),
        ] {
            let wrong = check(id, &value).unwrap_err();
            assert_eq!(wrong.field, field, "{wrong}");
        }
    }

    #[test]
    fn what_kubernetes_reads_leniently_is_read() {
        for value in [
            json!({"spec": {"containers": null, "nodeName": null, "unknown": {"a": [1]}}}),
            json!({"metadata": {"creationTimestamp": null, "labels": null}}),
            json!({}),
        ] {
            check("pods", &value).unwrap();
        }
        let mut pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": 2, "memory": 1e9}}}]}});
        let resource = Registry::built_in().find("", "v1", "pods").unwrap();
        write_quantities(&resource, &mut pod);
        check("pods", &pod).unwrap();
        assert_eq!(
            pod["spec"]["containers"][0]["resources"]["requests"]["cpu"],
            json!("2")
        );
    }
}
