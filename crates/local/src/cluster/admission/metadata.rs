//! The rules of metadata, which objects of all kinds share.

use serde_json::Value;

use super::names::{
    DNS_LABEL_RULE, DNS_SUBDOMAIN_RULE, LABEL_VALUE_RULE, QUALIFIED_NAME_RULE, is_dns_label,
    is_dns_subdomain, is_finalizer, is_label_value, is_qualified_name,
};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::cluster::object::Metadata;
use crate::cluster::resource::{NAMESPACES, Resource};

/// Adds a cause for each rule that the metadata of an object break.
pub(super) fn validate(resource: &Resource, value: &Value, meta: &Metadata, causes: &mut Causes) {
    name(resource, value, meta, causes);
    for (key, text) in &meta.labels {
        label("metadata.labels", key, text, causes);
    }
    finalizers(resource, meta, causes);
    owners(value, meta, causes);
    let annotated = value.pointer("/metadata/annotations");
    annotations(annotated, "metadata.annotations", causes);
}

fn name(resource: &Resource, value: &Value, meta: &Metadata, causes: &mut Causes) {
    let rule = if resource.group == "rbac.authorization.k8s.io" {
        (meta.name.contains(['/', '%']) || matches!(meta.name.as_str(), "." | ".."))
            .then_some("may not contain '/' or '%'")
    } else if &*resource.id == NAMESPACES {
        (!is_dns_label(&meta.name)).then_some(DNS_LABEL_RULE)
    } else {
        (!is_dns_subdomain(&meta.name)).then_some(DNS_SUBDOMAIN_RULE)
    };
    if meta.name.is_empty() {
        let rule = "name or generateName is required";
        causes.push(StatusCause::missing("metadata.name", rule));
    } else if let Some(rule) = rule {
        let prefix = value
            .pointer("/metadata/generateName")
            .and_then(Value::as_str);
        if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
            causes.push(StatusCause::value("metadata.generateName", prefix, rule));
        }
        causes.push(StatusCause::value("metadata.name", &meta.name, rule));
    }
}

/// Checks one label at `field`.
pub(super) fn label(field: &str, key: &str, text: &str, causes: &mut Causes) {
    if !is_qualified_name(key) {
        causes.push(StatusCause::value(field, key, QUALIFIED_NAME_RULE));
    }
    if !is_label_value(text) {
        causes.push(StatusCause::value(field, text, LABEL_VALUE_RULE));
    }
}

fn finalizers(resource: &Resource, meta: &Metadata, causes: &mut Causes) {
    let has = |name: &str| meta.finalizers.iter().any(|finalizer| finalizer == name);
    for (index, finalizer) in meta.finalizers.iter().enumerate() {
        if !is_qualified_name(finalizer) {
            causes.push(StatusCause::value(
                "metadata.finalizers",
                finalizer,
                QUALIFIED_NAME_RULE,
            ));
        }
        if !resource.custom && !is_finalizer(finalizer) {
            causes.push(StatusCause::value(
                format!("metadata.finalizers[{index}]"),
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    if has("orphan") && has("foregroundDeletion") {
        let rule = "finalizer orphan and foregroundDeletion cannot be both set";
        causes.push(StatusCause::value("metadata.finalizers", "", rule));
    }
}

fn owners(value: &Value, meta: &Metadata, causes: &mut Causes) {
    let owners = value
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    let is_controller = |owner: &&Value| owner.get("controller") == Some(&Value::Bool(true));
    if owners.into_iter().flatten().filter(is_controller).count() > 1 {
        let rule = "Only one reference can have Controller set to true";
        causes.push(StatusCause::value("metadata.ownerReferences", "", rule));
    }
    let named = owners.into_iter().flatten();
    for (owner, named) in meta.owner_references.iter().zip(named) {
        let name = named.get("name").and_then(Value::as_str);
        let version = &owner.api_version;
        let empty = "must not be empty";
        for (member, text, rule) in [
            ("apiVersion", version.as_str(), "version must not be empty"),
            ("kind", &owner.kind, empty),
            ("name", name.unwrap_or_default(), empty),
            ("uid", &owner.uid, empty),
        ] {
            let is_broken = member == "apiVersion" && version.matches('/').count() > 1;
            if text.is_empty() || is_broken {
                let field = format!("metadata.ownerReferences.{member}");
                causes.push(StatusCause::value(field, text, rule));
            }
        }
        if version == "v1" && owner.kind == "Event" {
            let rule = "/v1, Kind=Event is disallowed from being an owner";
            causes.push(StatusCause::value(
                "metadata.ownerReferences",
                "Event",
                rule,
            ));
        }
    }
}

/// Checks the annotations at `field`.
pub(super) fn annotations(given: Option<&Value>, field: &str, causes: &mut Causes) {
    const ANNOTATION_BYTES: usize = 256 << 10;
    let Some(annotations) = given.and_then(Value::as_object) else {
        return;
    };
    for key in annotations.keys() {
        if !is_qualified_name(&key.to_lowercase()) {
            causes.push(StatusCause::value(field, key, QUALIFIED_NAME_RULE));
        }
    }
    let size: usize = annotations
        .iter()
        .map(|(key, text)| key.len() + text.as_str().map_or(0, str::len))
        .sum();
    if size > ANNOTATION_BYTES {
        causes.push(StatusCause {
            reason: "FieldValueTooLong",
            field: field.to_owned(),
            message: format!("Too long: may not be more than {ANNOTATION_BYTES} bytes"),
        });
    }
}
