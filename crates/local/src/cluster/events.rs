//! The two event APIs, `v1` and `events.k8s.io/v1`, are views of the same objects; they are stored as `v1`.

use serde_json::{Map, Value, json};

/// (`v1`, `events.k8s.io/v1`)
const NAMES: [(&str, &str); 6] = [
    ("message", "note"),
    ("involvedObject", "regarding"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];
/// Same meaning, other name only on one side.
const REPORTER: (&str, &str) = ("reportingComponent", "reportingController");

/// An event of `v1` as one of `events.k8s.io/v1`.
pub(crate) fn from_core(event: Value) -> Value {
    rename(event, "events.k8s.io/v1", |name| {
        let pair = NAMES
            .iter()
            .chain([&REPORTER])
            .find(|(core, _)| *core == name);
        pair.map(|(_, new)| *new)
    })
}

/// An event of `events.k8s.io/v1` as one of `v1`.
pub(crate) fn to_core(event: Value) -> Value {
    rename(event, "v1", |name| {
        let pair = NAMES
            .iter()
            .chain([&REPORTER])
            .find(|(_, new)| *new == name);
        pair.map(|(core, _)| *core)
    })
}

/// The name that `v1` has for a field by which events of `events.k8s.io/v1` may be selected; none for other fields.
pub(crate) fn core_field(field: &str) -> Option<String> {
    match field {
        "metadata.name" | "metadata.namespace" | "reason" | "type" => Some(field.to_owned()),
        "reportingController" => Some("reportingComponent".to_owned()),
        _ => field
            .strip_prefix("regarding.")
            .map(|member| format!("involvedObject.{member}")),
    }
}

/// Members that Go's type has even when they are empty.
pub(crate) fn default_event(event: &mut Map<String, Value>) {
    for (name, empty) in [
        ("involvedObject", json!({})),
        ("source", json!({})),
        ("firstTimestamp", Value::Null),
        ("lastTimestamp", Value::Null),
        ("eventTime", Value::Null),
        ("reportingComponent", json!("")),
        ("reportingInstance", json!("")),
    ] {
        event.entry(name).or_insert(empty);
    }
}

fn rename(
    event: Value,
    api_version: &str,
    new_name: impl Fn(&str) -> Option<&'static str>,
) -> Value {
    let Value::Object(members) = event else {
        return event;
    };
    let renamed = members
        .into_iter()
        .map(|(name, member)| match name.as_str() {
            "apiVersion" => (name, api_version.into()),
            other => (
                new_name(other).map_or_else(|| other.to_owned(), str::to_owned),
                member,
            ),
        });
    Value::Object(renamed.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_reads_the_same_after_both_conversions() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "m", "reason": "r",
            "involvedObject": {"kind": "Pod"}, "source": {"component": "kubelet"}, "count": 2, "reportingComponent": "k",
        });
        let new = from_core(core.clone());
        assert_eq!(new.pointer("/note"), Some(&json!("m")));
        assert_eq!(new.pointer("/regarding/kind"), Some(&json!("Pod")));
        assert_eq!(new.pointer("/reportingController"), Some(&json!("k")));
        assert_eq!(to_core(new), core);
    }
}
