//! Sets of fields of an object, in the format FieldsV1 of `managedFields`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::cluster::patch::{ListKind, effective_key, list_kind};

/// A set of fields, as a tree: `f:name` is a member, `k:{…}` a list member by key, `v:…` a member of a set, `.` the thing
/// itself. This is the format FieldsV1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(BTreeMap<String, Fields>);

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn read(value: &Value) -> Self {
        let members = value.as_object().into_iter().flatten();
        Self(
            members
                .map(|(name, inner)| (name.clone(), Self::read(inner)))
                .collect(),
        )
    }

    pub(super) fn write(&self) -> Value {
        Value::Object(
            self.0
                .iter()
                .map(|(name, inner)| (name.clone(), inner.write()))
                .collect(),
        )
    }

    /// Without the fields of `other`; branches that become empty go too.
    pub(super) fn without(&self, other: &Self) -> Self {
        let mut rest = BTreeMap::new();
        for (name, inner) in &self.0 {
            match other.0.get(name) {
                None => {
                    rest.insert(name.clone(), inner.clone());
                }
                Some(taken) if !inner.is_empty() => {
                    let left = inner.without(taken);
                    if left.0.keys().any(|name| name != ".") {
                        rest.insert(name.clone(), left);
                    }
                }
                Some(_) => {}
            }
        }
        Self(rest)
    }

    pub(super) fn union(&mut self, other: Self) {
        for (name, inner) in other.0 {
            self.0.entry(name).or_default().union(inner);
        }
    }
}

/// The fields that a value sets.
pub(super) fn fields_of(value: &Value, custom: bool) -> Fields {
    let mut fields = Fields::default();
    for (name, member) in value.as_object().into_iter().flatten() {
        fields
            .0
            .insert(format!("f:{name}"), member_fields(name, member, custom));
    }
    fields
}

fn member_fields(name: &str, member: &Value, custom: bool) -> Fields {
    let mut fields = Fields::default();
    match member {
        Value::Object(members) if !members.is_empty() => return fields_of(member, custom),
        Value::Array(members) => match list_kind(name, custom) {
            ListKind::Keyed(key) => {
                let key = effective_key(key, members);
                for member in members {
                    let mut inner = fields_of(member, custom);
                    inner.0.insert(".".to_owned(), Fields::default());
                    fields.0.insert(list_key(key, member), inner);
                }
            }
            ListKind::Set => {
                for member in members {
                    fields.0.insert(format!("v:{member}"), Fields::default());
                }
            }
            ListKind::Atomic => {}
        },
        _ => {}
    }
    fields
}

fn list_key(key: &str, member: &Value) -> String {
    format!(
        "k:{}",
        json!({ key: member.get(key).unwrap_or(&Value::Null) })
    )
}

/// A step of a field path into a value.
fn step<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(name) = path.strip_prefix("f:") {
        return value.get(name);
    }
    let members = value.as_array()?;
    if let Some(key) = path.strip_prefix("k:") {
        let key: Map<String, Value> = serde_json::from_str(key).ok()?;
        return members.iter().find(|member| {
            key.iter()
                .all(|(name, wanted)| member.get(name) == Some(wanted))
        });
    }
    let wanted: Value = serde_json::from_str(path.strip_prefix("v:")?).ok()?;
    members.iter().find(|member| **member == wanted)
}

/// The fields in both sets whose values differ between two versions.
pub(super) fn different(left: &Fields, right: &Fields, before: &Value, after: &Value) -> Fields {
    let mut found = Fields::default();
    for (path, left) in &left.0 {
        let Some(right) = right.0.get(path) else {
            continue;
        };
        if path == "." {
            continue;
        }
        let (before, after) = (step(before, path), step(after, path));
        match (left.is_empty(), right.is_empty()) {
            (false, false) => {
                let null = Value::Null;
                let inner = different(left, right, before.unwrap_or(&null), after.unwrap_or(&null));
                if !inner.is_empty() {
                    found.0.insert(path.clone(), inner);
                }
            }
            (true, true) if before != after => {
                found.0.insert(path.clone(), Fields::default());
            }
            (true, true) => {}
            // One side holds members, the other an empty map or list: they differ only if the kind of value does.
            _ if std::mem::discriminant(before.unwrap_or(&Value::Null))
                != std::mem::discriminant(after.unwrap_or(&Value::Null)) =>
            {
                found.0.insert(path.clone(), Fields::default());
            }
            _ => {}
        }
    }
    found
}

/// Calls `visit` with the path of every leaf, as `.spec.containers[name="a"].image`.
pub(super) fn leaves(fields: &Fields, path: &str, visit: &mut impl FnMut(String)) {
    for (name, inner) in &fields.0 {
        let here = if let Some(member) = name.strip_prefix("f:") {
            format!("{path}.{member}")
        } else if let Some(key) = name.strip_prefix("k:") {
            let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            let key: Vec<String> = key
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("{path}[{}]", key.join(","))
        } else if let Some(value) = name.strip_prefix("v:") {
            format!("{path}[={value}]")
        } else {
            continue;
        };
        if inner.is_empty() {
            visit(here);
        } else {
            leaves(inner, &here, visit);
        }
    }
}

pub(super) fn remove(value: &mut Value, fields: &Fields) {
    for (path, inner) in &fields.0 {
        let whole = inner.is_empty() || inner.0.contains_key(".");
        if let Some(name) = path.strip_prefix("f:") {
            let Some(members) = value.as_object_mut() else {
                continue;
            };
            if whole {
                members.shift_remove(name);
            } else if let Some(member) = members.get_mut(name) {
                remove(member, inner);
            }
            continue;
        }
        let found = step(value, path).cloned();
        let (Some(members), Some(found)) = (value.as_array_mut(), found) else {
            continue;
        };
        if whole {
            members.retain(|member| *member != found);
        } else if let Some(member) = members.iter_mut().find(|member| **member == found) {
            remove(member, inner);
        }
    }
}

pub(super) fn merge(target: &mut Value, applied: &Value, custom: bool) {
    let Some(changes) = applied.as_object() else {
        applied.clone_into(target);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else {
        return;
    };
    for (name, change) in changes {
        match (change, list_kind(name, custom)) {
            (Value::Object(_), _) => {
                merge(members.entry(name).or_insert(Value::Null), change, custom);
            }
            (Value::Array(changes), ListKind::Keyed(key)) => {
                let key = effective_key(key, changes);
                let list = members
                    .entry(name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                let Some(list) = list.as_array_mut() else {
                    continue;
                };
                for change in changes {
                    match list
                        .iter_mut()
                        .find(|member| member.get(key) == change.get(key))
                    {
                        Some(member) => merge(member, change, custom),
                        None => list.push(change.clone()),
                    }
                }
            }
            (Value::Array(changes), ListKind::Set) => {
                let list = members
                    .entry(name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                let Some(list) = list.as_array_mut() else {
                    continue;
                };
                for change in changes {
                    if !list.contains(change) {
                        list.push(change.clone());
                    }
                }
            }
            _ => {
                members.insert(name.clone(), change.clone());
            }
        }
    }
}
