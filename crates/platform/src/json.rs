//! Values of JSON.

use serde_json::{Map, Value};

/// Applies a merge patch (RFC 7386), in place: `null` removes a member, everything but an object replaces. Members keep
/// their order.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else {
        return;
    };
    // All at once: each member that is taken out alone moves those behind it.
    if patch.values().any(Value::is_null) {
        members.retain(|name, _| !patch.get(name).is_some_and(Value::is_null));
    }
    for (name, change) in patch {
        if !change.is_null() {
            merge(members.entry(name.as_str()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_removed_leaves_the_others_in_their_order() {
        let mut target = json!({ "a": 1, "b": 2, "c": { "d": [1], "e": 3 }, "f": 4 });
        merge(
            &mut target,
            &json!({ "a": null, "c": { "d": [2] }, "g": { "h": null } }),
        );
        assert_eq!(
            target.to_string(),
            r#"{"b":2,"c":{"d":[2],"e":3},"f":4,"g":{}}"#
        );
    }
}
