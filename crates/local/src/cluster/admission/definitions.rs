//! CustomResourceDefinitions on their way in: their defaults, and what they must be.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::names::{DNS_1035_LABEL_RULE, DNS_SUBDOMAIN_RULE, is_dns_1035_label, is_dns_subdomain};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::cluster::object::text_at;
use crate::cluster::resource::{DEFINITIONS, Resource};
use crate::cluster::schema;

/// What a client is warned of that writes an object: rules of a definition that are not evaluated.
pub(crate) fn warnings(resource: &Resource, value: &Value) -> Vec<String> {
    if &*resource.id != DEFINITIONS {
        return Vec::new();
    }
    let versions = value.pointer("/spec/versions").and_then(Value::as_array);
    let has_rules = |version: &&Value| schema::check(version, "", &mut Causes::default());
    versions
        .into_iter()
        .flatten()
        .filter(has_rules)
        .map(|version| {
            format!(
                "version {}: rules in x-kubernetes-validations are not evaluated by the embedded Kubernetes API",
                text_at(version, "/name")
            )
        })
        .collect()
}

/// Fills in names, and the status of a definition that is in force at once.
pub(super) fn fill_defaults(object: &mut Map<String, Value>, now: &str) {
    let spec = object.entry("spec").or_insert_with(|| json!({}));
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let kind = names
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if !kind.is_empty() {
            names
                .entry("singular")
                .or_insert_with(|| kind.to_lowercase().into());
            names
                .entry("listKind")
                .or_insert_with(|| format!("{kind}List").into());
        }
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.entry("conversion")
            .or_insert_with(|| json!({ "strategy": "None" }));
    }
    let names = spec.get("names").cloned().unwrap_or_default();
    let versions = spec.get("versions").and_then(Value::as_array);
    let stored: Vec<Value> = versions
        .into_iter()
        .flatten()
        .filter(|version| version.get("storage").and_then(Value::as_bool) == Some(true))
        .filter_map(|version| version.get("name").cloned())
        .collect();
    let condition = |kind: &str, reason: &str, message: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message });
    object.insert(
        "status".to_owned(),
        json!({
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
            "acceptedNames": names,
            "storedVersions": stored,
        }),
    );
}

/// Adds a cause for each rule that a definition breaks.
pub(super) fn validate(value: &Value, causes: &mut Causes) {
    let (group, plural) = (
        text_at(value, "/spec/group"),
        text_at(value, "/spec/names/plural"),
    );
    let name = text_at(value, "/metadata/name");
    if name != format!("{plural}.{group}") {
        let rule = "must be spec.names.plural+\".\"+spec.group";
        causes.push(StatusCause::value("metadata.name", name, rule));
    }
    if group.is_empty() {
        causes.push(StatusCause::required("spec.group"));
    } else if !is_dns_subdomain(group) {
        causes.push(StatusCause::value("spec.group", group, DNS_SUBDOMAIN_RULE));
    } else if !group.contains('.') {
        let rule = "should be a domain with at least one dot";
        causes.push(StatusCause::value("spec.group", group, rule));
    }
    match text_at(value, "/spec/scope") {
        "" => causes.push(StatusCause::required("spec.scope")),
        "Cluster" | "Namespaced" => {}
        other => {
            let known = &["Cluster", "Namespaced"];
            causes.push(StatusCause::unsupported("spec.scope", other, known));
        }
    }
    for member in ["plural", "singular", "kind", "listKind"] {
        let field = format!("spec.names.{member}");
        let given = text_at(value, &format!("/spec/names/{member}"));
        if given.is_empty() {
            causes.push(StatusCause::required(field));
        } else if !is_dns_1035_label(&given.to_lowercase()) {
            causes.push(StatusCause::value(field, given, DNS_1035_LABEL_RULE));
        }
    }
    if value.pointer("/spec/preserveUnknownFields") == Some(&Value::Bool(true)) {
        let rule = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        let field = "spec.preserveUnknownFields";
        causes.push(StatusCause::value(field, "true", rule));
    }
    let versions = value.pointer("/spec/versions").and_then(Value::as_array);
    validate_versions(versions.map_or(&[], Vec::as_slice), causes);
}

fn validate_versions(versions: &[Value], causes: &mut Causes) {
    let mut names = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let name = text_at(version, "/name");
        let field = format!("spec.versions[{index}]");
        if !is_dns_1035_label(name) {
            let field = format!("{field}.name");
            causes.push(StatusCause::value(field, name, DNS_1035_LABEL_RULE));
        }
        if !names.insert(name) {
            let rule = "must contain unique version names";
            causes.push(StatusCause::value("spec.versions", name, rule));
        }
        let walk = |causes: &mut Causes| {
            schema::check(version, &field, causes);
            validate_columns(version, &field, causes);
        };
        // The schema of the only version is that of all, and Kubernetes names it so.
        let of_all = |known: &str| {
            let names = [
                (".schema.openAPIV3Schema", "spec.validation.openAPIV3Schema"),
                (".additionalPrinterColumns", "spec.additionalPrinterColumns"),
            ];
            let mut renamed = names.into_iter().filter_map(|(of_one, of_all)| {
                let rest = known.strip_prefix(&format!("{field}{of_one}"))?;
                (!rest.is_empty()).then(|| format!("{of_all}{rest}"))
            });
            renamed.next().filter(|_| versions.len() == 1)
        };
        causes.renamed(walk, |known| of_all(known).unwrap_or(known.to_owned()));
    }
    let stored = |version: &&Value| version.get("storage").and_then(Value::as_bool) == Some(true);
    let storage = versions.iter().filter(stored).count();
    if storage != 1 {
        let rule = "must have exactly one version marked as storage version";
        let count = storage.to_string();
        causes.push(StatusCause::value("spec.versions", &count, rule));
        let rule = "must have the storage version";
        causes.push(StatusCause::value("status.storedVersions", &count, rule));
    }
}

fn validate_columns(version: &Value, field: &str, causes: &mut Causes) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    let columns = version
        .get("additionalPrinterColumns")
        .and_then(Value::as_array);
    for (index, column) in columns.into_iter().flatten().enumerate() {
        let at = |member: &str| format!("{field}.additionalPrinterColumns[{index}].{member}");
        let kind = text_at(column, "/type");
        if text_at(column, "/name").is_empty() {
            causes.push(StatusCause::required(at("name")));
        }
        if kind.is_empty() {
            causes.push(StatusCause::required(at("type")));
        } else if !TYPES.contains(&kind) {
            let rule = format!("must be one of {}", TYPES.join(","));
            causes.push(StatusCause::value(at("type"), kind, &rule));
        }
        if text_at(column, "/jsonPath").is_empty() {
            causes.push(StatusCause::required(at("JSONPath")));
        }
    }
}

/// What the paths and types of a definition's objects are made of stays.
pub(super) fn guard(current: &Value, next: &Value, causes: &mut Causes) {
    for (pointer, field) in [
        ("/spec/group", "spec.group"),
        ("/spec/scope", "spec.scope"),
        ("/spec/names/kind", "spec.names.kind"),
        ("/spec/names/plural", "spec.names.plural"),
    ] {
        let given = text_at(next, pointer);
        if text_at(current, pointer) != given {
            causes.push(StatusCause::value(field, given, "field is immutable"));
        }
    }
}
