//! CustomResourceDefinitions on their way in: their defaults, and what they must be.

use serde_json::{Map, Value, json};

use crate::cluster::api_status::StatusCause;
use crate::cluster::object::text_at;
use crate::cluster::resource::{DEFINITIONS, Resource};
use crate::cluster::schema;

/// What a client is warned of that writes an object: rules of a definition that are not evaluated.
pub(crate) fn warnings(resource: &Resource, value: &Value) -> Vec<String> {
    if &*resource.id != DEFINITIONS {
        return Vec::new();
    }
    let versions = value.pointer("/spec/versions").and_then(Value::as_array);
    let has_rules = |version: &&Value| schema::check(version, "", &mut Vec::new());
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
        names
            .entry("singular")
            .or_insert_with(|| kind.to_lowercase().into());
        names
            .entry("listKind")
            .or_insert_with(|| format!("{kind}List").into());
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
pub(super) fn validate(value: &Value, causes: &mut Vec<StatusCause>) {
    for (pointer, field) in [
        ("/spec/group", "spec.group"),
        ("/spec/names/plural", "spec.names.plural"),
        ("/spec/names/kind", "spec.names.kind"),
        ("/spec/scope", "spec.scope"),
    ] {
        if text_at(value, pointer).is_empty() {
            causes.push(StatusCause::required(field));
        }
    }
    let expected = format!(
        "{}.{}",
        text_at(value, "/spec/names/plural"),
        text_at(value, "/spec/group")
    );
    let name = text_at(value, "/metadata/name");
    if name != expected {
        causes.push(StatusCause::value(
            "metadata.name",
            name,
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    let versions = value.pointer("/spec/versions").and_then(Value::as_array);
    for (index, version) in versions.into_iter().flatten().enumerate() {
        schema::check(version, &format!("spec.versions[{index}]"), causes);
    }
    let storage = versions
        .into_iter()
        .flatten()
        .filter(|version| version.get("storage").and_then(Value::as_bool) == Some(true))
        .count();
    if storage != 1 {
        causes.push(StatusCause::value(
            "spec.versions",
            &storage.to_string(),
            "must have exactly one version marked as storage version",
        ));
    }
}
