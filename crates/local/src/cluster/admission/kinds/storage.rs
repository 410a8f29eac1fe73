//! Volumes, claims on them, and their classes.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Map, Value};

use super::one_of;
use crate::cluster::admission::names::{
    DNS_SUBDOMAIN_RULE, QUALIFIED_NAME_RULE, is_dns_subdomain, is_qualified_name,
};
use crate::cluster::admission::selectors;
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::cluster::object::text_at;
use crate::kubelet::quantity::millis;

const EXCLUSIVE: &str = "ReadWriteOncePod";
const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", EXCLUSIVE];

fn modes(modes: Option<&[String]>, rule: &str, causes: &mut Causes) {
    const FIELD: &str = "spec.accessModes";
    let modes = modes.unwrap_or_default();
    if modes.is_empty() {
        causes.push(StatusCause::missing(FIELD, rule));
    }
    for mode in modes {
        one_of(Some(mode), MODES, FIELD, causes);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == EXCLUSIVE) {
        let rule = "may not use ReadWriteOncePod with other access modes";
        causes.push(StatusCause::forbidden(FIELD, rule));
    }
}

fn class_name(name: Option<&str>, causes: &mut Causes) {
    if let Some(name) = name.filter(|name| !name.is_empty() && !is_dns_subdomain(name)) {
        let field = "spec.storageClassName";
        causes.push(StatusCause::value(field, name, DNS_SUBDOMAIN_RULE));
    }
}

/// Adds a cause for each rule that a claim breaks.
pub(super) fn claim(claim: &PersistentVolumeClaim, causes: &mut Causes) {
    let spec = claim.spec.clone().unwrap_or_default();
    let rule = "at least 1 access mode is required";
    modes(spec.access_modes.as_deref(), rule, causes);
    selectors::validate(spec.selector.as_ref(), "spec.selector", causes);
    class_name(spec.storage_class_name.as_deref(), causes);
    let mode = spec.volume_mode.as_deref();
    one_of(mode, &["Block", "Filesystem"], "spec.volumeMode", causes);
    let requests = spec.resources.and_then(|resources| resources.requests);
    let size = requests
        .as_ref()
        .and_then(|requests| requests.get("storage"));
    match size {
        None => causes.push(StatusCause::required("spec.resources[storage]")),
        Some(size) if millis(&size.0).is_some_and(|amount| amount <= 0) => {
            let rule = "must be greater than zero";
            causes.push(StatusCause::value("spec.resources[storage]", &size.0, rule));
        }
        Some(_) => {}
    }
}

/// What is asked for stays, but for the volume that it gets, and more room once it has one.
pub(super) fn guard_claim(current: &Value, next: &Value, causes: &mut Causes) {
    let is_bound = text_at(current, "/status/phase") == "Bound";
    let has_volume = !text_at(current, "/spec/volumeName").is_empty();
    let fixed = |claim: &Value| -> Map<String, Value> {
        let spec = claim.get("spec").and_then(Value::as_object);
        let mut spec = spec.cloned().unwrap_or_default();
        if !has_volume {
            spec.shift_remove("volumeName");
        }
        if is_bound {
            spec.shift_remove("volumeAttributesClassName");
            if let Some(resources) = spec.get_mut("resources").and_then(Value::as_object_mut) {
                resources.shift_remove("requests");
            }
        }
        spec
    };
    if fixed(current) != fixed(next) {
        let rule = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        causes.push(StatusCause::forbidden("spec", rule));
    }
}

/// The members of a volume's spec that are not where it is.
const NO_SOURCE: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn source(volume: &Value) -> Map<String, Value> {
    let spec = volume.get("spec").and_then(Value::as_object);
    let mut spec = spec.cloned().unwrap_or_default();
    spec.retain(|name, member| !NO_SOURCE.contains(&name.as_str()) && !member.is_null());
    spec
}

/// Adds a cause for each rule that a volume breaks.
pub(super) fn volume(volume: &PersistentVolume, causes: &mut Causes) {
    let spec = volume.spec.clone().unwrap_or_default();
    let source = source(&serde_json::to_value(volume).unwrap_or_default());
    modes(spec.access_modes.as_deref(), "", causes);
    class_name(spec.storage_class_name.as_deref(), causes);
    if spec
        .capacity
        .as_ref()
        .is_none_or(|capacity| !capacity.contains_key("storage"))
    {
        causes.push(StatusCause::required("spec.capacity"));
    }
    match source.len() {
        0 => causes.push(StatusCause::missing("spec", "must specify a volume type")),
        1 => {}
        _ => {
            for more in source.keys().skip(1) {
                let rule = "may not specify more than 1 volume type";
                causes.push(StatusCause::forbidden(format!("spec.{more}"), rule));
            }
        }
    }
    let policy = spec.persistent_volume_reclaim_policy.as_deref();
    let field = "spec.persistentVolumeReclaimPolicy";
    one_of(policy, &["Delete", "Recycle", "Retain"], field, causes);
    let mode = spec.volume_mode.as_deref();
    one_of(mode, &["Block", "Filesystem"], "spec.volumeMode", causes);
}

/// Where a volume is stays.
pub(super) fn guard_volume(current: &Value, next: &Value, causes: &mut Causes) {
    if source(current) != source(next) {
        let field = "spec.persistentvolumesource";
        let rule = "spec.persistentvolumesource is immutable after creation";
        causes.push(StatusCause::forbidden(field, rule));
    }
}

/// Adds a cause for each rule that a class breaks.
pub(super) fn class(class: &StorageClass, causes: &mut Causes) {
    let provisioner = class.provisioner.as_str();
    if provisioner.is_empty() {
        causes.push(StatusCause::required("provisioner"));
    } else if !is_qualified_name(&provisioner.to_lowercase()) {
        let rule = QUALIFIED_NAME_RULE;
        causes.push(StatusCause::value("provisioner", provisioner, rule));
    }
    let policy = class.reclaim_policy.as_deref();
    one_of(policy, &["Delete", "Retain"], "reclaimPolicy", causes);
    let binding = class.volume_binding_mode.as_deref();
    let known = &["Immediate", "WaitForFirstConsumer"];
    one_of(binding, known, "volumeBindingMode", causes);
}
