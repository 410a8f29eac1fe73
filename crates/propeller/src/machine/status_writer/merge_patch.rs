//! JSON merge patches (RFC 7386): the difference between two statuses, and what becomes of one. Pure.

use serde_json::{Map, Value};

/// The merge patch that turns `old` into `new`; none when they are equal. Members that only others write are in
/// neither and so survive.
pub(crate) fn difference(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let patch = members(old, new, None);
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) if old == new => None,
        (_, new) => Some(new.clone()),
    }
}

/// As [`difference`] for the members of two objects, `except` for one, which is told apart elsewhere.
pub(crate) fn members(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    except: Option<&str>,
) -> Map<String, Value> {
    let mut patch = Map::new();
    let counts = |key: &str| Some(key) != except;
    for key in old
        .keys()
        .filter(|key| counts(key) && !new.contains_key(*key))
    {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new.iter().filter(|(key, _)| counts(key)) {
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
    patch
}

/// By how many bytes the encoded target grows with a patch. Costs what the patch does, not what the target does.
pub(crate) fn growth(target: &Value, patch: &Value) -> i64 {
    let (Value::Object(target), Value::Object(patch)) = (target, patch) else {
        return merged_length(patch) - encoded_length(target);
    };
    let mut bytes = 0;
    let mut count = length(target.len());
    let before = commas(count);
    for (key, change) in patch {
        let name = text_length(key) + 1;
        match (target.get(key), change.is_null()) {
            (None, true) => {}
            (None, false) => {
                bytes += name + merged_length(change);
                count += 1;
            }
            (Some(known), true) => {
                bytes -= name + encoded_length(known);
                count -= 1;
            }
            (Some(known), false) => bytes += growth(known, change),
        }
    }
    bytes + commas(count) - before
}

/// How long a value is when it is encoded, in bytes.
pub(crate) fn encoded_length(value: &Value) -> i64 {
    let mut counted = Counted(0);
    // Counting does not fail, and every value can be encoded.
    drop(serde_json::to_writer(&mut counted, value));
    counted.0
}

/// How long that is which a patch makes of nothing.
fn merged_length(patch: &Value) -> i64 {
    let Value::Object(members) = patch else {
        return encoded_length(patch);
    };
    let kept = members.iter().filter(|(_, value)| !value.is_null());
    let mut count = 0;
    let mut bytes = 2;
    for (key, value) in kept {
        count += 1;
        bytes += text_length(key) + 1 + merged_length(value);
    }
    bytes + commas(count)
}

fn text_length(text: &str) -> i64 {
    let mut counted = Counted(0);
    drop(serde_json::to_writer(&mut counted, text));
    counted.0
}

fn commas(members: i64) -> i64 {
    (members - 1).max(0)
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

struct Counted(i64);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += length(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flyte_platform::json::merge;
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

    #[test]
    fn a_patch_merges_as_in_the_rfc_and_its_growth_is_exact() {
        // Appendix A of RFC 7386.
        for (target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
            (
                json!({"ä\n":"x"}),
                json!({"ä\n":"\t","z":{"y":null,"x":[]}}),
                json!({"ä\n":"\t","z":{"x":[]}}),
            ),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, expected, "{target} with {patch}");
            let before = encoded_length(&target);
            assert_eq!(before, length(target.to_string().len()));
            assert_eq!(
                before + growth(&target, &patch),
                length(merged.to_string().len()),
                "{target} with {patch}"
            );
        }
    }
}
