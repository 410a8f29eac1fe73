//! Server-side apply: who owns which fields is kept in `metadata.managedFields`, from the first apply of an object on.
//! What was there before belongs to the manager `before-first-apply`, as in Kubernetes.

mod fields;

use flyte_idl::text::quoted;
use serde_json::{Value, json};

use crate::cluster::api_status::{ApiStatus, StatusCause};
use crate::cluster::causes::{Causes, and_more};
use crate::cluster::field_path::FieldPath;
use crate::cluster::object::set_metadata;
use fields::{Fields, different, fields_of, leaves, merge, remove};

/// Where `kubectl apply` of a client keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct Manager {
    name: String,
    operation: String,
    subresource: String,
    time: String,
    fields: Fields,
}

fn managers(object: &Value) -> Vec<Manager> {
    let text = |entry: &Value, member: &str| {
        entry
            .get(member)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let entries = object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    entries
        .into_iter()
        .flatten()
        .map(|entry| Manager {
            name: text(entry, "manager"),
            operation: text(entry, "operation"),
            subresource: text(entry, "subresource"),
            time: text(entry, "time"),
            fields: Fields::read(entry.get("fieldsV1").unwrap_or(&Value::Null)),
        })
        .collect()
}

fn set_managers(object: &mut Value, managers: &[Manager]) {
    let api_version = object.get("apiVersion").cloned().unwrap_or_default();
    let entries: Vec<Value> = managers
        .iter()
        .filter(|manager| !manager.fields.is_empty())
        .map(|manager| {
            let mut entry = json!({
                "manager": manager.name, "operation": manager.operation, "apiVersion": api_version, "time": manager.time,
                "fieldsType": "FieldsV1", "fieldsV1": manager.fields.write(),
            });
            if let (false, Some(map)) = (manager.subresource.is_empty(), entry.as_object_mut()) {
                map.insert("subresource".to_owned(), manager.subresource.clone().into());
            }
            entry
        })
        .collect();
    set_metadata(
        object,
        "managedFields",
        if entries.is_empty() {
            Value::Null
        } else {
            Value::Array(entries)
        },
    );
}

/// The part of an object that managers own: not its identity, not what the server writes.
fn ownable(object: &Value) -> Value {
    let mut value = object.clone();
    if let Some(members) = value.as_object_mut() {
        members.shift_remove("apiVersion");
        members.shift_remove("kind");
        if let Some(metadata) = members.get_mut("metadata").and_then(Value::as_object_mut) {
            for name in [
                "name",
                "namespace",
                "generateName",
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "managedFields",
                "selfLink",
            ] {
                metadata.shift_remove(name);
            }
            if metadata.is_empty() {
                members.shift_remove("metadata");
            }
        }
    }
    value
}

/// One server-side apply.
pub(crate) struct Apply<'a> {
    pub(crate) manager: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) force: bool,
    /// Whether the types of the object are not known, so that lists are replaced.
    pub(crate) custom: bool,
    pub(crate) now: &'a str,
}

impl Apply<'_> {
    /// The object after `applied` has been applied to it, or the fields that others hold with other values.
    ///
    /// What `kubectl apply` of a client set last is no conflict for `kubectl apply --server-side`, which says so by its
    /// manager's name: as kube-apiserver does, it takes over the fields of the annotation that the former left.
    pub(crate) fn to(
        &self,
        current: Option<&Value>,
        applied: &Value,
    ) -> Result<Value, Box<Causes>> {
        let wanted = ownable(applied);
        let own_fields = fields_of(&wanted, self.custom);
        let mut managers = current.map(managers).unwrap_or_default();
        let mut result = if let Some(current) = current {
            if managers.is_empty() {
                managers.push(Manager {
                    name: "before-first-apply".to_owned(),
                    operation: "Update".to_owned(),
                    subresource: String::new(),
                    time: self.now.to_owned(),
                    fields: fields_of(&ownable(current), self.custom),
                });
            }
            current.clone()
        } else {
            let mut created = applied.clone();
            set_metadata(&mut created, "managedFields", Value::Null);
            created
        };
        let is_own = |manager: &Manager| {
            manager.name == self.manager
                && manager.operation == "Apply"
                && manager.subresource == self.subresource
        };
        if let Some(current) = current {
            let mut conflicts = Causes::default();
            let last_applied = self.last_applied(current);
            for manager in managers.iter_mut().filter(|manager| !is_own(manager)) {
                let taken = different(&manager.fields, &own_fields, current, &wanted);
                if taken.is_empty() {
                    continue;
                }
                let refused = if self.force {
                    Fields::default()
                } else {
                    taken.without(&last_applied)
                };
                if refused.is_empty() {
                    manager.fields = manager.fields.without(&taken);
                } else {
                    leaves(&refused, &FieldPath::root(""), &mut |path| {
                        conflicts.add((&manager.name, path.identity()), || StatusCause {
                            reason: "FieldManagerConflict",
                            field: format!(".{path}"),
                            message: format!("conflict with {}", quoted(&manager.name)),
                        });
                    });
                }
            }
            if !conflicts.is_empty() {
                return Err(Box::new(conflicts));
            }
        }
        let before = managers
            .iter()
            .find(|manager| is_own(manager))
            .map(|manager| manager.fields.clone());
        managers.retain(|manager| !is_own(manager));
        if let Some(before) = before {
            let mut abandoned = before.without(&own_fields);
            for manager in &managers {
                abandoned = abandoned.without(&manager.fields);
            }
            remove(&mut result, &abandoned);
        }
        merge(&mut result, &wanted, self.custom);
        managers.push(Manager {
            name: self.manager.to_owned(),
            operation: "Apply".to_owned(),
            subresource: self.subresource.to_owned(),
            time: self.now.to_owned(),
            fields: own_fields,
        });
        set_managers(&mut result, &managers);
        Ok(result)
    }

    /// The fields that `kubectl apply` of a client set last, if this is its apply on the server.
    fn last_applied(&self, current: &Value) -> Fields {
        if self.manager != "kubectl" {
            return Fields::default();
        }
        let annotations = current.pointer("/metadata/annotations");
        let applied = annotations
            .and_then(|annotations| annotations.get(LAST_APPLIED)?.as_str())
            // One that nests deeper than the reader takes was not made by kubectl.
            .and_then(|applied| serde_json::from_str::<Value>(applied).ok());
        let Some(mut applied) = applied.filter(Value::is_object) else {
            return Fields::default();
        };
        let mut fields = fields_of(&ownable(&applied), self.custom);
        set_metadata(&mut applied, "annotations", json!({ LAST_APPLIED: "" }));
        fields.union(fields_of(&ownable(&applied), self.custom));
        fields
    }

    /// Keeps the owners of fields after a write that was not an apply: its manager owns what it changed. Objects that
    /// nobody ever applied have no owners.
    pub(crate) fn note_update(&self, current: &Value, next: &mut Value) {
        let mut managers = managers(current);
        if managers.is_empty() {
            set_metadata(next, "managedFields", Value::Null);
            return;
        }
        let (before, after) = (ownable(current), ownable(next));
        let after_fields = fields_of(&after, self.custom);
        let changed = different(&after_fields, &after_fields, &before, &after);
        let gone = fields_of(&before, self.custom).without(&after_fields);
        for manager in &mut managers {
            manager.fields = manager.fields.without(&changed).without(&gone);
        }
        let own = managers.iter_mut().find(|manager| {
            manager.name == self.manager
                && manager.operation == "Update"
                && manager.subresource == self.subresource
        });
        match own {
            Some(own) if !changed.is_empty() => {
                own.fields.union(changed);
                self.now.clone_into(&mut own.time);
            }
            Some(_) => {}
            None => managers.push(Manager {
                name: self.manager.to_owned(),
                operation: "Update".to_owned(),
                subresource: self.subresource.to_owned(),
                time: self.now.to_owned(),
                fields: changed,
            }),
        }
        set_managers(next, &managers);
    }
}

/// The conflict of an apply, as Kubernetes words it.
pub(crate) fn conflict(conflicts: &Causes) -> ApiStatus {
    let plural = if conflicts.count() == 1 {
        "conflict"
    } else {
        "conflicts"
    };
    let told = conflicts.listed().iter();
    let lines: Vec<String> = told
        .map(|cause| format!("{}: {}", cause.message, cause.field))
        .collect();
    let message = format!(
        "Apply failed with {} {plural}: {}",
        conflicts.count(),
        and_more(lines.join(", "), conflicts.more())
    );
    let mut refusal = ApiStatus::new(409, "Conflict", message);
    refusal.details = Some(Box::new(json!({ "causes": conflicts.to_value() })));
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(manager: &str, force: bool) -> Apply<'_> {
        Apply {
            manager,
            subresource: "",
            force,
            custom: false,
            now: "2026-01-01T00:00:00Z",
        }
    }

    fn taken(manager: &str, field: &str) -> StatusCause {
        StatusCause {
            reason: "FieldManagerConflict",
            field: field.to_owned(),
            message: format!("conflict with {manager:?}"),
        }
    }

    fn without_managers(mut value: Value) -> Value {
        set_metadata(&mut value, "managedFields", Value::Null);
        value
    }

    #[test]
    fn what_a_manager_no_longer_applies_is_removed() {
        let first = by("a", false)
            .to(
                None,
                &json!({"metadata": {"name": "m"}, "data": {"x": "1", "y": "1"}}),
            )
            .unwrap();
        let second = by("b", false)
            .to(
                Some(&first),
                &json!({"metadata": {"name": "m"}, "data": {"y": "1", "z": "1"}}),
            )
            .unwrap();
        let third = by("a", false)
            .to(
                Some(&second),
                &json!({"metadata": {"name": "m"}, "data": {}}),
            )
            .unwrap();
        assert_eq!(
            without_managers(third).get("data"),
            Some(&json!({"y": "1", "z": "1"}))
        );
    }

    #[test]
    fn another_value_for_a_field_of_another_manager_is_a_conflict() {
        let first = by("a", false)
            .to(
                None,
                &json!({"metadata": {"name": "m"}, "data": {"x": "1"}}),
            )
            .unwrap();
        let other = json!({"metadata": {"name": "m"}, "data": {"x": "2"}});
        let conflicts = by("b", false).to(Some(&first), &other).unwrap_err();
        assert_eq!(conflicts.listed(), [taken("a", ".data.x")]);
        assert_eq!(
            conflict(&conflicts).message,
            "Apply failed with 1 conflict: conflict with \"a\": .data.x"
        );
        let forced = by("b", true).to(Some(&first), &other).unwrap();
        assert_eq!(forced.pointer("/data/x"), Some(&json!("2")));
        by("b", false)
            .to(
                Some(&forced),
                &json!({"metadata": {"name": "m"}, "data": {"x": "3"}}),
            )
            .unwrap();
    }

    #[test]
    fn an_object_that_nobody_applied_belongs_to_before_first_apply() {
        let created = json!({"metadata": {"name": "m"}, "data": {"x": "1"}});
        let conflicts = by("b", false)
            .to(Some(&created), &json!({"data": {"x": "2"}}))
            .unwrap_err();
        assert_eq!(conflicts.listed(), [taken("before-first-apply", ".data.x")]);
        by("b", false)
            .to(Some(&created), &json!({"data": {"x": "1", "y": "2"}}))
            .unwrap();
    }

    #[test]
    fn kubectl_takes_over_what_its_client_applied() {
        let map = |x: &str, y: &str| json!({"metadata": {"name": "m"}, "data": {"x": x, "y": y}});
        let mut created = map("1", "1");
        let last = json!({"metadata": {"name": "m"}, "data": {"x": "1"}}).to_string();
        created["metadata"]["annotations"] = json!({ LAST_APPLIED: last });
        for (case, manager, applied, refused) in [
            ("what kubectl applied", "kubectl", map("2", "1"), vec![]),
            ("what it did not", "kubectl", map("2", "2"), vec![".data.y"]),
            (
                "by another",
                "me",
                map("2", "2"),
                vec![".data.x", ".data.y"],
            ),
        ] {
            let done = by(manager, false).to(Some(&created), &applied);
            let expected: Vec<_> = refused
                .iter()
                .map(|field| taken("before-first-apply", field))
                .collect();
            match done {
                Ok(object) if refused.is_empty() => {
                    assert_eq!(object.pointer("/data/x"), Some(&json!("2")), "{case}");
                }
                Ok(_) => panic!("{case}: no conflict"),
                Err(conflicts) => assert_eq!(conflicts.listed(), expected, "{case}"),
            }
        }
    }

    #[test]
    fn containers_are_merged_by_name() {
        let first = json!({"spec": {"containers": [{"name": "a", "image": "1"}]}});
        let first = by("a", false).to(None, &first).unwrap();
        let second = by("b", false)
            .to(
                Some(&first),
                &json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
            )
            .unwrap();
        let names = json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]);
        assert_eq!(second.pointer("/spec/containers"), Some(&names));
        let third = by("a", false)
            .to(Some(&second), &json!({"spec": {}}))
            .unwrap();
        assert_eq!(
            third.pointer("/spec/containers"),
            Some(&json!([{"name": "b", "image": "2"}]))
        );
    }

    #[test]
    fn an_update_takes_the_fields_that_it_changes() {
        let first = by("a", false)
            .to(
                None,
                &json!({"metadata": {"name": "m"}, "data": {"x": "1", "y": "1"}}),
            )
            .unwrap();
        let mut updated = first.clone();
        updated["data"]["x"] = json!("2");
        by("kubectl", false).note_update(&first, &mut updated);
        let conflicts = by("a", false)
            .to(Some(&updated), &json!({"data": {"x": "1", "y": "2"}}))
            .unwrap_err();
        assert_eq!(conflicts.listed(), [taken("kubectl", ".data.x")]);
    }
}
