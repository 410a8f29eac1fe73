//! What happens to an object on its way in: names are checked, defaults are filled in, what must not change is guarded.

use std::collections::HashSet;

use flyte_idl::text::quoted;
use serde_json::{Map, Value, json};

use crate::cluster::api_status::{ApiStatus, StatusCause};
use crate::cluster::causes::{Causes, Fields};
use crate::cluster::events;
use crate::cluster::object::{metadata_mut, read_metadata, set_metadata, text_at};
use crate::cluster::resource::{DEFINITIONS, EVENTS, NAMESPACES, PODS, Resource};

mod data;
mod definitions;
mod kinds;
mod metadata;
mod names;
mod pods;
mod selectors;
pub(crate) mod typed;

pub(crate) use definitions::warnings;
pub(crate) use names::{LABEL_VALUE_RULE, QUALIFIED_NAME_RULE, is_label_value, is_qualified_name};
pub(crate) use pods::is_gated;

/// Whether versions of the object are counted in `metadata.generation`.
fn counts_generations(resource: &Resource) -> bool {
    resource.custom || resource.is_pod() || (resource.status && !resource.group.is_empty())
}

/// Makes a client's object the one that is stored: identity (made of `random`), times, defaults, initial status. Validates the result.
pub(crate) fn admit_new(
    resource: &Resource,
    value: &mut Value,
    now: &str,
    random: u128,
) -> Result<(), ApiStatus> {
    let metadata = metadata_mut(value)
        .ok_or_else(|| ApiStatus::bad_request("the object is not a JSON object"))?;
    for member in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        metadata.shift_remove(member);
    }
    drop_empty(metadata);
    typed::write_zeros(resource, value);
    typed::write_quantities(resource, value);
    // Also of what is replaced below: its status, and when it was made.
    typed::check(&resource.id, value).map_err(|wrong| wrong.refuse(resource))?;
    let metadata = metadata_mut(value)
        .ok_or_else(|| ApiStatus::bad_request("the object is not a JSON object"))?;
    let uid = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
    metadata.insert("uid".to_owned(), uid.to_string().into());
    metadata.insert("creationTimestamp".to_owned(), now.into());
    if counts_generations(resource) {
        metadata.insert("generation".to_owned(), 1.into());
    } else {
        metadata.shift_remove("generation");
    }
    let name = text_at(value, "/metadata/name").to_owned();
    if let Some(object) = value.as_object_mut() {
        if resource.status && resource.plural != "nodes" {
            object.shift_remove("status");
        }
        match &*resource.id {
            PODS => pods::default_pod(object),
            NAMESPACES => {
                object.insert("status".to_owned(), json!({ "phase": "Active" }));
                let spec = object
                    .entry("spec")
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Some(spec) = spec.as_object_mut() {
                    spec.entry("finalizers")
                        .or_insert_with(|| json!(["kubernetes"]));
                }
            }
            "secrets" => default_secret(object),
            EVENTS => events::default_event(object),
            DEFINITIONS => definitions::fill_defaults(object, now),
            id => kinds::fill_defaults(id, object),
        }
    }
    apply_schema(resource, value);
    if &*resource.id == NAMESPACES {
        let metadata = metadata_mut(value);
        if let Some(labels) =
            metadata.map(|metadata| metadata.entry("labels").or_insert_with(|| json!({})))
            && let Some(labels) = labels.as_object_mut()
        {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
        }
    }
    let mut causes = broken_rules(resource, value)?;
    if resource.is_pod() {
        pods::guard_new(value, &mut causes);
    }
    refuse(resource, value, &causes)
}

/// Removes the fields that a kind does not have, by the schema of a custom resource or the type of a kind of Kubernetes;
/// returns their paths.
pub(crate) fn prune(resource: &Resource, value: &mut Value) -> Fields {
    let mut unknown = Fields::default();
    match &resource.schema {
        Some(schema) => {
            schema.prune(value, &mut unknown);
            typed::prune_metadata(value, &mut unknown);
        }
        None if resource.custom => {}
        None => typed::prune(&resource.id, value, &mut unknown),
    }
    unknown
}

/// Prunes an object, and fills in the defaults that the schema of a custom resource has.
fn apply_schema(resource: &Resource, value: &mut Value) {
    prune(resource, value);
    if let Some(schema) = &resource.schema {
        schema.fill_defaults(value);
    }
}

/// Refuses fields that a kind does not have, if the client asks for that (`fieldValidation=Strict`); else they are pruned.
pub(crate) fn check_unknown_fields(
    resource: &Resource,
    value: &Value,
    validation: &str,
) -> Result<(), ApiStatus> {
    // Events are kept as those of the core group, which have other fields.
    if validation != "Strict" || resource.is_modern_event() {
        return Ok(());
    }
    let mut value = value.clone();
    typed::write_quantities(resource, &mut value);
    let unknown = prune(resource, &mut value);
    if unknown.count() == 0 {
        return Ok(());
    }
    let fields = unknown.listed(|field| format!("unknown field {}", quoted(field)));
    let (kind, version) = (&resource.kind, &resource.version);
    Err(ApiStatus::bad_request(format!(
        "{kind} in version {} cannot be handled as a {kind}: strict decoding error: {fields}",
        quoted(version)
    )))
}

/// Lists and maps of metadata without entries are not served (`omitempty` of ObjectMeta).
fn drop_empty(metadata: &mut Map<String, Value>) {
    for member in ["annotations", "finalizers", "labels", "ownerReferences"] {
        let empty = match metadata.get(member) {
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(members)) => members.is_empty(),
            _ => false,
        };
        if empty {
            metadata.shift_remove(member);
        }
    }
    // Nothing has one any more; what a client says of it is not kept.
    metadata.shift_remove("selfLink");
}

/// The parts of an object that a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but `status`, where that has a path of its own.
    Main,
    Status,
    /// `spec.finalizers` of a namespace.
    Finalize,
}

/// Makes a client's new version of an object the one that is stored. Nothing is returned when nothing changes.
pub(crate) fn admit_change(
    resource: &Resource,
    part: Part,
    current: &Value,
    mut next: Value,
) -> Result<Option<Value>, ApiStatus> {
    let name = text_at(current, "/metadata/name");
    let given_uid = text_at(&next, "/metadata/uid");
    let uid = text_at(current, "/metadata/uid");
    if !given_uid.is_empty() && given_uid != uid {
        let why = format!(
            "Precondition failed: UID in precondition: {given_uid}, UID in object meta: {uid}"
        );
        return Err(ApiStatus::conflict(
            &resource.group,
            &resource.plural,
            name,
            &why,
        ));
    }
    let given = text_at(&next, "/metadata/resourceVersion");
    if !given.is_empty() && given != "0" && given != text_at(current, "/metadata/resourceVersion") {
        return Err(ApiStatus::stale(&resource.group, &resource.plural, name));
    }
    let deleted_at = text_at(&next, "/metadata/deletionTimestamp");
    if !deleted_at.is_empty() && deleted_at != text_at(current, "/metadata/deletionTimestamp") {
        let causes = [StatusCause::immutable(
            "metadata.deletionTimestamp",
            deleted_at,
        )]
        .into();
        return refuse(resource, current, &causes).map(|()| None);
    }
    next = match part {
        Part::Main => next,
        Part::Status => with_member(current, "status", next.get("status")),
        Part::Finalize => with_member(current, "spec", next.get("spec")),
    };
    for member in [
        "uid",
        "name",
        "namespace",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "generateName",
    ] {
        let kept = current
            .pointer(&format!("/metadata/{member}"))
            .cloned()
            .unwrap_or(Value::Null);
        set_metadata(&mut next, member, kept);
    }
    if let Some(metadata) = metadata_mut(&mut next) {
        drop_empty(metadata);
    }
    if let Some(object) = next.as_object_mut() {
        if part == Part::Main && resource.status {
            match current.get("status") {
                Some(status) => object.insert("status".to_owned(), status.clone()),
                None => object.shift_remove("status"),
            };
        }
        for member in ["apiVersion", "kind"] {
            object.insert(
                member.to_owned(),
                current.get(member).cloned().unwrap_or_default(),
            );
        }
        if &*resource.id == "secrets" {
            default_secret(object);
        }
    }
    typed::write_zeros(resource, &mut next);
    typed::write_quantities(resource, &mut next);
    apply_schema(resource, &mut next);
    if next == *current {
        return Ok(None);
    }
    validate_change(resource, &next, current)?;
    if counts_generations(resource) && content_changed(resource, current, &next) {
        let generation = current
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        set_metadata(&mut next, "generation", (generation + 1).into());
    }
    Ok(Some(next))
}

/// `current` with one member taken from elsewhere.
fn with_member(current: &Value, name: &str, member: Option<&Value>) -> Value {
    let mut next = current.clone();
    if let Some(object) = next.as_object_mut() {
        match member {
            Some(member) => object.insert(name.to_owned(), member.clone()),
            None => object.shift_remove(name),
        };
    }
    next
}

fn content_changed(resource: &Resource, current: &Value, next: &Value) -> bool {
    let content = |value: &Value| {
        let members = value.as_object().into_iter().flatten();
        let counted = members
            .filter(|(name, _)| *name != "metadata" && !(resource.status && *name == "status"));
        counted
            .map(|(name, member)| (name.clone(), member.clone()))
            .collect::<Map<String, Value>>()
    };
    content(current) != content(next)
}

/// Adds a cause for each change of what must stay.
fn guard(
    resource: &Resource,
    current: &Value,
    next: &Value,
    causes: &mut Causes,
) -> Result<(), ApiStatus> {
    let (before, after) = (read_metadata(current)?, read_metadata(next)?);
    if before.deletion_timestamp.is_some() {
        let known: HashSet<&String> = before.finalizers.iter().collect();
        let new: Vec<&String> = after
            .finalizers
            .iter()
            .filter(|finalizer| !known.contains(finalizer))
            .collect();
        if !new.is_empty() {
            let rule = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                new.iter()
                    .map(|finalizer| quoted(finalizer).to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            causes.push(StatusCause::forbidden("metadata.finalizers", &rule));
        }
    }
    if resource.is_pod() {
        pods::guard_spec(current, next, causes);
    }
    kinds::guard(resource, current, next, causes);
    if matches!(&*resource.id, "configmaps" | "secrets") {
        data::guard(current, next, causes);
    }
    if &*resource.id == DEFINITIONS {
        definitions::guard(current, next, causes);
    }
    Ok(())
}

/// Refuses a new version that is of another type than its kind, changes what must stay, or breaks a rule. A rule that the
/// version before broke already may stay broken: else nothing could be changed any more about an object that an earlier
/// program took, not even a finalizer.
fn validate_change(resource: &Resource, next: &Value, current: &Value) -> Result<(), ApiStatus> {
    typed::check(&resource.id, next).map_err(|wrong| wrong.refuse(resource))?;
    let mut causes = broken_rules(resource, next)?;
    if !causes.is_empty() {
        let known = broken_rules(resource, current).unwrap_or_default();
        causes = Causes::beyond(known);
        break_rules(resource, next, &mut causes)?;
    }
    guard(resource, current, next, &mut causes)?;
    refuse(resource, next, &causes)
}

/// Refuses an object for its causes, if there are any.
fn refuse(resource: &Resource, value: &Value, causes: &Causes) -> Result<(), ApiStatus> {
    if causes.is_empty() {
        return Ok(());
    }
    let name = text_at(value, "/metadata/name");
    Err(ApiStatus::invalid(
        &resource.group,
        &resource.kind,
        name,
        causes,
    ))
}

/// The rules that an object of the right type breaks.
fn broken_rules(resource: &Resource, value: &Value) -> Result<Causes, ApiStatus> {
    let mut causes = Causes::default();
    break_rules(resource, value, &mut causes)?;
    Ok(causes)
}

/// Adds a cause for each rule that an object of the right type breaks.
fn break_rules(resource: &Resource, value: &Value, causes: &mut Causes) -> Result<(), ApiStatus> {
    let meta = read_metadata(value)?;
    metadata::validate(resource, value, &meta, causes);
    match &*resource.id {
        PODS => pods::validate(value, causes).map_err(|wrong| wrong.refuse(resource))?,
        "configmaps" | "secrets" => data::validate(value, causes),
        DEFINITIONS => definitions::validate(value, causes),
        _ => {
            kinds::validate(resource, value, causes).map_err(|wrong| wrong.refuse(resource))?;
        }
    }
    if let Some(schema) = &resource.schema {
        schema.validate(value, causes);
    }
    Ok(())
}

/// `stringData` is what people write; `data` is what is kept.
fn default_secret(object: &mut Map<String, Value>) {
    use base64::Engine;
    if let Some(Value::Object(texts)) = object.shift_remove("stringData") {
        let data = object.entry("data").or_insert_with(|| json!({}));
        if let Some(data) = data.as_object_mut() {
            let mut wrong = Map::new();
            for (key, text) in texts {
                match text {
                    Value::String(text) => {
                        let text = base64::prelude::BASE64_STANDARD.encode(text);
                        data.insert(key, text.into());
                    }
                    other => drop(wrong.insert(key, other)),
                }
            }
            // What is no text stays, to be refused by its name.
            if !wrong.is_empty() {
                object.insert("stringData".to_owned(), Value::Object(wrong));
            }
        }
    }
    object.entry("type").or_insert_with(|| "Opaque".into());
}
