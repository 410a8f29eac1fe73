//! Sets of fields of an object, in the format FieldsV1 of `managedFields`.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::cluster::field_path::FieldPath;
use crate::cluster::patch::{ListKind, add_missing, effective_key, list_kind};

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

/// What field paths of one step lead to in a value.
enum Entries<'a> {
    Object(&'a Map<String, Value>),
    List(&'a [Value], Places),
    /// Neither has entries.
    Other,
}

impl<'a> Entries<'a> {
    fn new(value: &'a Value, fields: &Fields) -> Self {
        match value {
            Value::Object(members) => Self::Object(members),
            Value::Array(members) => Self::List(members, Places::new(members, fields)),
            _ => Self::Other,
        }
    }

    fn at(&self, path: &str) -> Option<&'a Value> {
        match self {
            Self::Object(members) => members.get(path.strip_prefix("f:")?),
            Self::List(members, places) => members.get(places.of(path, members)?),
            Self::Other => None,
        }
    }
}

/// Where the members of a list are, by their paths. A search for each would be the square of the list.
struct Places {
    /// The names of the keys in the paths of the members.
    keys: Vec<String>,
    keyed: HashMap<String, usize>,
    values: HashMap<String, usize>,
}

impl Places {
    /// The places of `members` for the paths in `fields`.
    fn new(members: &[Value], fields: &Fields) -> Self {
        let keys = fields.0.keys().find_map(|path| key_of(path));
        let keys: Vec<String> = keys.into_iter().flatten().map(|(name, _)| name).collect();
        let has_values = fields.0.keys().any(|path| path.starts_with("v:"));
        let mut places = Self {
            keys,
            keyed: HashMap::new(),
            values: HashMap::new(),
        };
        for (place, member) in members.iter().enumerate() {
            let named = places.keys.iter();
            let key = named.map(|name| Some((name.clone(), member.get(name)?.clone())));
            if let (false, Some(key)) = (places.keys.is_empty(), key.collect::<Option<Map<_, _>>>())
            {
                let text = Value::Object(key).to_string();
                places.keyed.entry(text).or_insert(place);
            }
            if has_values {
                places.values.entry(member.to_string()).or_insert(place);
            }
        }
        places
    }

    /// The first member that a path leads to.
    fn of(&self, path: &str, members: &[Value]) -> Option<usize> {
        if let Some(key) = key_of(path) {
            if key.keys().eq(self.keys.iter()) {
                let text = Value::Object(key).to_string();
                return self.keyed.get(&text).copied();
            }
            // Members that are told apart by others than their neighbours: a port by its number, and by its protocol too.
            return members.iter().position(|member| {
                key.iter()
                    .all(|(name, wanted)| member.get(name) == Some(wanted))
            });
        }
        let wanted: Value = serde_json::from_str(path.strip_prefix("v:")?).ok()?;
        self.values.get(&wanted.to_string()).copied()
    }
}

/// The key in a path of a list's member.
fn key_of(path: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(path.strip_prefix("k:")?).ok()
}

/// The fields in both sets whose values differ between two versions.
pub(super) fn different(left: &Fields, right: &Fields, before: &Value, after: &Value) -> Fields {
    let mut found = Fields::default();
    let (entries_before, entries_after) = (Entries::new(before, left), Entries::new(after, left));
    for (path, left) in &left.0 {
        let Some(right) = right.0.get(path) else {
            continue;
        };
        if path == "." {
            continue;
        }
        let (before, after) = (entries_before.at(path), entries_after.at(path));
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

/// Calls `visit` with the path of every leaf, as `spec.containers[name="a"].image`.
pub(super) fn leaves(
    fields: &Fields,
    path: &FieldPath<'_>,
    visit: &mut impl FnMut(&FieldPath<'_>),
) {
    for (name, inner) in &fields.0 {
        let entry;
        let here = if let Some(member) = name.strip_prefix("f:") {
            path.member(member)
        } else if let Some(key) = name.strip_prefix("k:") {
            let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            let key: Vec<String> = key
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            entry = format!("[{}]", key.join(","));
            path.entry(&entry)
        } else if let Some(value) = name.strip_prefix("v:") {
            entry = format!("[={value}]");
            path.entry(&entry)
        } else {
            continue;
        };
        if inner.is_empty() {
            visit(&here);
        } else {
            leaves(inner, &here, visit);
        }
    }
}

pub(super) fn remove(value: &mut Value, fields: &Fields) {
    let is_whole = |inner: &Fields| inner.is_empty() || inner.0.contains_key(".");
    match value {
        Value::Object(members) => members.retain(|name, member| {
            let Some(inner) = fields.0.get(&format!("f:{name}")) else {
                return true;
            };
            if is_whole(inner) {
                return false;
            }
            remove(member, inner);
            true
        }),
        Value::Array(members) => {
            // What is gone, of entries that are the same more than once too.
            let mut gone = HashSet::new();
            let entries = Places::new(members, fields);
            for (path, inner) in &fields.0 {
                let Some(place) = entries.of(path, members) else {
                    continue;
                };
                let Some(member) = members.get_mut(place) else {
                    continue;
                };
                if is_whole(inner) {
                    gone.insert(member.clone());
                } else {
                    remove(member, inner);
                }
            }
            if !gone.is_empty() {
                members.retain(|member| !gone.contains(member));
            }
        }
        _ => {}
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
                let mut places = HashMap::new();
                for (place, member) in list.iter().enumerate() {
                    places.entry(member.get(key).cloned()).or_insert(place);
                }
                for change in changes {
                    let place = *places.entry(change.get(key).cloned()).or_insert(list.len());
                    match list.get_mut(place) {
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
                add_missing(list, changes.clone());
            }
            _ => {
                members.insert(name.clone(), change.clone());
            }
        }
    }
}
