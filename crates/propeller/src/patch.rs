//! The difference between two statuses as a JSON merge patch (RFC 7386). Pure.

use serde_json::{Map, Value};

/// The merge patch that turns `old` into `new`; none when they are equal. Members that only others write are in
/// neither and so survive.
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in new {
                match old.get(key) {
                    None => {
                        patch.insert(key.clone(), value.clone());
                    }
                    Some(known) => {
                        if let Some(inner) = difference(known, value) {
                            patch.insert(key.clone(), inner);
                        }
                    }
                }
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) if old == new => None,
        (_, new) => Some(new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changed_is_in_the_patch() {
        for (old, new, expected) in [
            (json!({ "a": 1 }), json!({ "a": 1 }), None),
            (
                json!({ "a": 1, "b": 2 }),
                json!({ "a": 1 }),
                Some(json!({ "b": null })),
            ),
            (
                json!({ "n": { "n0": { "phase": 1 } } }),
                json!({ "n": { "n0": { "phase": 2 }, "n1": {} } }),
                Some(json!({ "n": { "n0": { "phase": 2 }, "n1": {} } })),
            ),
            (
                json!({ "l": [1, 2] }),
                json!({ "l": [1] }),
                Some(json!({ "l": [1] })),
            ),
        ] {
            assert_eq!(difference(&old, &new), expected);
        }
    }
}
