//! The patch types of Kubernetes but server-side apply: JSON merge patch (RFC 7386), JSON patch (RFC 6902) and strategic
//! merge patch, whose lists of maps are merged by key.

use std::collections::{HashMap, HashSet, VecDeque};

use json_patch::{
    AddOperation, CopyOperation, MoveOperation, PatchOperation, RemoveOperation, ReplaceOperation,
    TestOperation,
};
use serde_json::{Map, Value};

use crate::cluster::{api_status::ApiStatus, json};

/// Server-side apply.
pub(crate) const APPLY_MEDIA_TYPE: &str = "application/apply-patch+yaml";

/// A patch, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    pub(crate) fn of(content_type: &str) -> Result<Self, ApiStatus> {
        match content_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            APPLY_MEDIA_TYPE => Ok(Self::Apply),
            _ => Err(ApiStatus::unknown_patch()),
        }
    }
}

/// How the members of a list are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// Maps, matched by this member (`patchMergeKey`).
    Keyed(&'static str),
    /// Scalars without order.
    Set,
    /// Replaced as a whole.
    Atomic,
}

/// How a list is merged, by the name of its field. `inside_custom` is whether it lies in the part of a custom resource
/// whose types are not known: there every list is replaced.
pub(crate) fn list_kind(field: &str, inside_custom: bool) -> ListKind {
    match field {
        "finalizers" => ListKind::Set,
        "ownerReferences" => ListKind::Keyed("uid"),
        _ if inside_custom => ListKind::Atomic,
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "schedulingGates"
        | "containerStatuses"
        | "initContainerStatuses"
        | "webhooks" => ListKind::Keyed("name"),
        "ports" => ListKind::Keyed("containerPort"),
        "volumeMounts" => ListKind::Keyed("mountPath"),
        "volumeDevices" => ListKind::Keyed("devicePath"),
        "conditions" | "addresses" => ListKind::Keyed("type"),
        "hostAliases" => ListKind::Keyed("ip"),
        "topologySpreadConstraints" => ListKind::Keyed("topologyKey"),
        _ => ListKind::Atomic,
    }
}

/// The key by which this list's members are matched (`patchMergeKey`); the ports of a service have no `containerPort`.
pub(crate) fn effective_key(key: &'static str, members: &[Value]) -> &'static str {
    if key == "containerPort" && members.iter().all(|member| member.get(key).is_none()) {
        "port"
    } else {
        key
    }
}

/// Operations of one JSON patch, as kube-apiserver takes them.
const MAX_OPERATIONS: usize = 10_000;
/// What operations of one JSON patch may copy or move, all together, in bytes of JSON: kube-apiserver's bound of copies. A
/// few operations that copy a list into itself would otherwise double it each time.
const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// JSON patch. A `test` that does not hold, or a path that is not there, is the client's mistake (422, as in Kubernetes).
/// Nothing becomes nested deeper than `deepest`: operations can nest what no text of a request does.
pub(crate) fn json_patch(
    target: &mut Value,
    patch: Value,
    deepest: usize,
) -> Result<(), ApiStatus> {
    if !patch.is_array() {
        let message = "error decoding patch: a JSON patch is a list of operations";
        return Err(ApiStatus::bad_request(message));
    }
    let rejected = |error: &dyn std::fmt::Display| {
        let message =
            format!("the server rejected our request due to an error in our request: {error}");
        ApiStatus::new(422, "Invalid", message)
    };
    let patch: json_patch::Patch =
        serde_json::from_value(patch).map_err(|error| rejected(&error))?;
    if patch.0.len() > MAX_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            patch.0.len()
        );
        return Err(too_large(message));
    }
    let mut copied = 0;
    for (index, operation) in patch.0.iter().enumerate() {
        let (path, value) = match operation {
            PatchOperation::Add(AddOperation { path, value })
            | PatchOperation::Replace(ReplaceOperation { path, value }) => (path, Some(value)),
            PatchOperation::Copy(CopyOperation { from, path })
            | PatchOperation::Move(MoveOperation { from, path }) => {
                let value = target.pointer(from.as_str());
                copied += value.map_or(0, |value| value.to_string().len());
                if copied > MAX_COPIED_BYTES {
                    return Err(too_large(format!(
                        "operation {index} of the JSON patch: it copies more than {MAX_COPIED_BYTES} bytes, with those before it"
                    )));
                }
                (path, value)
            }
            PatchOperation::Remove(RemoveOperation { path })
            | PatchOperation::Test(TestOperation { path, .. }) => (path, None),
        };
        let depth = path.count() + value.map_or(0, json::depth_of);
        json::check_depth(depth, deepest).map_err(|error| rejected(&error))?;
        json_patch::patch(target, std::slice::from_ref(operation)).map_err(|mut error| {
            error.operation = index;
            rejected(&error)
        })?;
    }
    Ok(())
}

fn too_large(message: String) -> ApiStatus {
    ApiStatus::new(413, "RequestEntityTooLarge", message)
}

/// Strategic merge patch with its directives `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…` and
/// `$setElementOrder/…`.
pub(crate) fn strategic(target: &mut Value, patch: Value) -> Result<(), ApiStatus> {
    let Value::Object(mut patch) = patch else {
        *target = patch;
        return Ok(());
    };
    match patch
        .shift_remove("$patch")
        .as_ref()
        .map(|directive| directive.as_str().unwrap_or_default())
    {
        None | Some("merge") => {}
        Some("replace") => {
            *target = Value::Object(patch);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(unknown_directive(other)),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else {
        return Ok(());
    };
    if let Some(kept) = patch.shift_remove("$retainKeys") {
        let kept: HashSet<&str> = kept
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        members.retain(|name, _| kept.contains(name.as_str()));
    }
    const ORDER: &str = "$setElementOrder/";
    let mut orders = Vec::new();
    for (name, order) in &patch {
        if let (Some(field), Some(order)) = (name.strip_prefix(ORDER), order.as_array()) {
            let before = members.get(field).and_then(Value::as_array);
            let before = before.map(Vec::as_slice).unwrap_or_default();
            let orders_of_field = Orders::new(before, order, list_kind(field, false));
            orders.push((field.to_owned(), orders_of_field));
        }
    }
    // Removed all at once: each member that is taken out alone moves those behind it.
    let mut gone = HashSet::new();
    for (name, change) in patch {
        if name.starts_with(ORDER) {
            continue;
        }
        if is_removal(&change) {
            gone.insert(name);
            continue;
        }
        if let Some(field) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let gone: HashSet<&Value> = change.as_array().into_iter().flatten().collect();
            if let Some(list) = members.get_mut(field).and_then(Value::as_array_mut) {
                list.retain(|member| !gone.contains(member));
            }
        } else {
            strategic_member(members, name, change)?;
        }
    }
    if !gone.is_empty() {
        members.retain(|name, _| !gone.contains(name));
    }
    for (field, orders) in orders {
        if let Some(list) = members.get_mut(&field).and_then(Value::as_array_mut) {
            arrange(list, orders);
        }
    }
    Ok(())
}

/// Whether a change takes away what it is for.
fn is_removal(change: &Value) -> bool {
    change.is_null() || change.get("$patch").and_then(Value::as_str) == Some("delete")
}

fn strategic_member(
    members: &mut Map<String, Value>,
    name: String,
    change: Value,
) -> Result<(), ApiStatus> {
    match change {
        Value::Array(changes) => match (list_kind(&name, false), members.get_mut(&name)) {
            (ListKind::Keyed(key), found) => {
                let mut list = match found {
                    Some(Value::Array(list)) => std::mem::take(list),
                    _ => Vec::new(),
                };
                let key = effective_key(key, &changes);
                let orders = Orders::new(&list, &changes, ListKind::Keyed(key));
                merge_keyed(&mut list, changes, key)?;
                arrange(&mut list, orders);
                members.insert(name, Value::Array(list));
            }
            (ListKind::Set, Some(Value::Array(list))) => {
                let orders = Orders::new(list, &changes, ListKind::Set);
                add_missing(list, changes);
                arrange(list, orders);
            }
            (ListKind::Set | ListKind::Atomic, _) => {
                members.insert(name, Value::Array(changes));
            }
        },
        Value::Object(change) => {
            let member = members.entry(name).or_insert(Value::Null);
            strategic(member, Value::Object(change))?;
        }
        scalar => {
            members.insert(name, scalar);
        }
    }
    Ok(())
}

fn merge_keyed(list: &mut Vec<Value>, changes: Vec<Value>, key: &str) -> Result<(), ApiStatus> {
    if changes
        .iter()
        .any(|change| change.get("$patch").and_then(Value::as_str) == Some("replace"))
    {
        *list = changes
            .into_iter()
            .filter(|change| change.get("$patch").is_none())
            .collect();
        return Ok(());
    }
    // The places of the members by what they are merged by, and nothing at those that are deleted.
    let mut members: Vec<Option<Value>> = std::mem::take(list).into_iter().map(Some).collect();
    let mut places: HashMap<Value, VecDeque<usize>> = HashMap::new();
    for (place, member) in members.iter().enumerate() {
        if let Some(identity) = member.as_ref().and_then(|member| member.get(key)) {
            let same = places.entry(identity.clone()).or_default();
            same.push_back(place);
        }
    }
    for change in changes {
        let Some(identity) = change.get(key).cloned() else {
            return Err(ApiStatus::bad_request(format!(
                "map: {change} does not contain declared merge key: {key}"
            )));
        };
        let same = places.entry(identity).or_default();
        if is_removal(&change) {
            let deleted = same
                .pop_front()
                .and_then(|place| members.get_mut(place)?.take());
            drop(deleted);
            continue;
        }
        let found = same.front().and_then(|place| members.get_mut(*place));
        if let Some(Some(member)) = found {
            strategic(member, change)?;
        } else {
            let mut member = Value::Null;
            strategic(&mut member, change)?;
            same.push_back(members.len());
            members.push(Some(member));
        }
    }
    *list = members.into_iter().flatten().collect();
    Ok(())
}

/// Adds to a list without order what is not in it yet.
pub(crate) fn add_missing(list: &mut Vec<Value>, changes: Vec<Value>) {
    let mut known: HashSet<Value> = list.iter().cloned().collect();
    for change in changes {
        if known.insert(change.clone()) {
            list.push(change);
        }
    }
}

/// Where the members of a list were, and where a patch wants those that it names.
struct Orders {
    kind: ListKind,
    before: HashMap<String, usize>,
    wanted: HashMap<String, usize>,
}

impl Orders {
    fn new(before: &[Value], wanted: &[Value], kind: ListKind) -> Self {
        let places = |list: &[Value]| {
            let named = list.iter().enumerate().rev();
            named
                .filter_map(|(place, member)| Some((identity(member, kind)?, place)))
                .collect()
        };
        Self {
            kind,
            before: places(before),
            wanted: places(wanted),
        }
    }
}

/// What tells a member of a list from others; none if it has no key.
fn identity(member: &Value, kind: ListKind) -> Option<String> {
    match kind {
        ListKind::Keyed(key) => member.get(key).map(Value::to_string),
        ListKind::Set | ListKind::Atomic => Some(member.to_string()),
    }
}

/// Puts a merged list in order, as Kubernetes does (`apimachinery/pkg/util/strategicpatch`): those that the patch names are in
/// its order, the others in the one they were in, and one of the others stands before the first of the named that was behind
/// it. So what is new comes before what the patch does not name.
fn arrange(list: &mut Vec<Value>, orders: Orders) {
    let mut named = Vec::new();
    let mut others = VecDeque::new();
    for member in std::mem::take(list) {
        let identity = identity(&member, orders.kind);
        let place = |places: &HashMap<String, usize>| places.get(identity.as_ref()?).copied();
        let before = place(&orders.before);
        match place(&orders.wanted) {
            Some(wanted) => named.push((wanted, before, member)),
            None => others.push_back((before, member)),
        }
    }
    named.sort_by_key(|(wanted, ..)| *wanted);
    for (_, before, member) in named {
        let is_first = |other: Option<usize>| matches!((other, before), (Some(other), Some(named)) if other < named);
        while let Some((_, other)) = others.pop_front_if(|(other, _)| is_first(*other)) {
            list.push(other);
        }
        list.push(member);
    }
    list.extend(others.into_iter().map(|(_, member)| member));
}

fn unknown_directive(given: &str) -> ApiStatus {
    ApiStatus::bad_request(format!(
        "unknown directive $patch: {given:?}; it is one of merge, replace, delete"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_strategic_patch_merges_lists_by_key() {
        let pod = || json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}], "t": [1]}});
        for (case, patch, expected) in [
            (
                "a member is changed in place",
                json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
                json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}], "t": [1]}}),
            ),
            (
                "a member is added",
                json!({"spec": {"containers": [{"name": "c"}]}}),
                json!({"spec": {"containers": [{"name": "c"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}], "t": [1]}}),
            ),
            (
                "a member is added behind one that is changed",
                json!({"spec": {"containers": [{"name": "a", "image": "2"}, {"name": "c"}]}}),
                json!({"spec": {"containers": [{"name": "a", "image": "2"}, {"name": "c"}, {"name": "b", "image": "1"}], "t": [1]}}),
            ),
            (
                "a member is added at a place",
                json!({"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}], "containers": [{"name": "c"}]}}),
                json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}, {"name": "c"}], "t": [1]}}),
            ),
            (
                "the order is set of some",
                json!({"spec": {"$setElementOrder/containers": [{"name": "b"}]}}),
                json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}], "t": [1]}}),
            ),
            (
                "a member is deleted",
                json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
                json!({"spec": {"containers": [{"name": "b", "image": "1"}], "t": [1]}}),
            ),
            (
                "other lists are replaced",
                json!({"spec": {"t": [2]}}),
                json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}], "t": [2]}}),
            ),
            (
                "a map is replaced",
                json!({"spec": {"$patch": "replace", "t": []}}),
                json!({"spec": {"t": []}}),
            ),
            (
                "the order is set",
                json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "t": null}}),
                json!({"spec": {"containers": [{"name": "b", "image": "1"}, {"name": "a", "image": "1"}]}}),
            ),
        ] {
            let mut target = pod();
            strategic(&mut target, patch).unwrap();
            assert_eq!(target, expected, "{case}");
        }
    }

    #[test]
    fn finalizers_are_a_set() {
        let mut target = json!({"metadata": {"finalizers": ["a", "b"]}});
        strategic(&mut target, json!({"metadata": {"finalizers": ["c", "a"]}})).unwrap();
        strategic(
            &mut target,
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}),
        )
        .unwrap();
        assert_eq!(target, json!({"metadata": {"finalizers": ["c", "a"]}}));
    }

    #[test]
    fn a_list_without_its_key_is_a_bad_request() {
        let mut target = json!({"spec": {"containers": []}});
        let refusal = strategic(
            &mut target,
            json!({"spec": {"containers": [{"image": "x"}]}}),
        )
        .unwrap_err();
        assert_eq!(refusal.code, 400);
    }
}
