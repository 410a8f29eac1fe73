//! Whether a dataclass fits where another is declared, by the JSON schemas that flytekit puts into the
//! metadata of STRUCT types (spec 08 A9.2).
//!
//! The reference asks a schema comparison library. What its tests and users rely on is implemented here:
//! properties of `down` must exist in `up` with the same type, `up` may have more. Unknown keywords are
//! ignored; being more permissive than the reference is harmless, being stricter breaks registrations.

use flyte_idl::json::struct_to_json;
use prost_types::Struct;
use serde_json::{Map, Value};

/// Deepest chain of nested schemas and references that is followed.
const MAX_DEPTH: usize = 1_000;

/// Whether the schemas are equal or `up` has all that `down` asks for.
pub(super) fn fits(up: &Struct, down: &Struct) -> bool {
    let (up, down) = (struct_to_json(up), struct_to_json(down));
    up == down
        || Comparison {
            up: &up,
            down: &down,
        }
        .covers(&up, &down, MAX_DEPTH, &mut Vec::new())
        .unwrap_or(false)
}

struct Comparison<'a> {
    up: &'a Value,
    down: &'a Value,
}

impl<'a> Comparison<'a> {
    /// `None` when a schema is malformed or cannot be followed.
    fn covers(
        &self,
        up: &'a Value,
        down: &'a Value,
        depth: usize,
        open: &mut Vec<(*const Value, *const Value)>,
    ) -> Option<bool> {
        let (up, down) = (resolve(self.up, up)?, resolve(self.down, down)?);
        if up == down {
            return Some(true);
        }
        // A recursive model comes back to a pair that is being compared.
        let pair = (std::ptr::from_ref(up), std::ptr::from_ref(down));
        if open.contains(&pair) {
            return Some(true);
        }
        let depth = depth.checked_sub(1)?;
        let (Value::Object(up), Value::Object(down)) = (up, down) else {
            return Some(false);
        };
        open.push(pair);
        let verdict = self.objects(up, down, depth, open);
        open.pop();
        verdict
    }

    fn objects(
        &self,
        up: &'a Map<String, Value>,
        down: &'a Map<String, Value>,
        depth: usize,
        open: &mut Vec<(*const Value, *const Value)>,
    ) -> Option<bool> {
        if let (Some(up), Some(down)) = (up.get("type"), down.get("type"))
            && types(up)? != types(down)?
        {
            return Some(false);
        }
        if let Some(wanted) = down.get("properties") {
            let given = match up.get("properties") {
                Some(given) => Some(given.as_object()?),
                None => None,
            };
            for (name, wanted) in wanted.as_object()? {
                let Some(given) = given.and_then(|given| given.get(name)) else {
                    return Some(false);
                };
                if !self.covers(given, wanted, depth, open)? {
                    return Some(false);
                }
            }
        }
        if let (Some(up), Some(down)) = (up.get("items"), down.get("items"))
            && !self.items(up, down, depth, open)?
        {
            return Some(false);
        }
        if let (Some(Value::Array(up)), Some(Value::Array(down))) =
            (up.get("enum"), down.get("enum"))
        {
            let within = |a: &[Value], b: &[Value]| a.iter().all(|value| b.contains(value));
            if !within(down, up) && !within(up, down) {
                return Some(false);
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            if let (Some(Value::Array(up)), Some(Value::Array(down))) =
                (up.get(keyword), down.get(keyword))
            {
                for up in up {
                    let mut found = false;
                    for down in down {
                        found = found || self.covers(up, down, depth, open)?;
                    }
                    if !found {
                        return Some(false);
                    }
                }
            }
        }
        Some(true)
    }

    fn items(
        &self,
        up: &'a Value,
        down: &'a Value,
        depth: usize,
        open: &mut Vec<(*const Value, *const Value)>,
    ) -> Option<bool> {
        let (Value::Array(up), Value::Array(down)) = (up, down) else {
            return self.covers(up, down, depth, open);
        };
        if up.len() < down.len() {
            return Some(false);
        }
        for (up, down) in up.iter().zip(down) {
            if !self.covers(up, down, depth, open)? {
                return Some(false);
            }
        }
        Some(true)
    }
}

/// Follows local references.
fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> Option<&'a Value> {
    for _ in 0..MAX_DEPTH {
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
            return Some(schema);
        };
        schema = root.pointer(reference.strip_prefix('#')?)?;
    }
    None
}

/// The names in `type`, sorted.
fn types(value: &Value) -> Option<Vec<&str>> {
    let mut names = match value {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names
            .iter()
            .map(Value::as_str)
            .collect::<Option<Vec<_>>>()?,
        _ => return None,
    };
    names.sort_unstable();
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(value: &Value) -> Struct {
        flyte_idl::json::json_to_struct(value.as_object().unwrap())
    }

    fn object(properties: &Value) -> Value {
        serde_json::json!({"type": "object", "title": "T", "properties": properties})
    }

    #[test]
    fn a_child_dataclass_fits_its_parent_and_not_the_other_way() {
        let parent = object(&serde_json::json!({"a": {"type": "integer"}}));
        let child = object(&serde_json::json!({"a": {"type": "integer"}, "b": {"type": "string"}}));
        assert!(fits(&schema(&child), &schema(&parent)));
        assert!(!fits(&schema(&parent), &schema(&child)));
    }

    #[test]
    fn nested_types_and_references_are_compared() {
        let of = |inner: &str| {
            serde_json::json!({
                "$defs": {"I": {"type": "object", "properties": {"x": {"type": inner}}}},
                "properties": {"i": {"$ref": "#/$defs/I"}, "l": {"items": {"type": inner}}},
            })
        };
        let mut titled = of("integer");
        titled["title"] = "other".into();
        assert!(fits(&schema(&of("integer")), &schema(&titled)));
        assert!(!fits(&schema(&of("integer")), &schema(&of("number"))));
        let untyped = object(&serde_json::json!({"a": {"title": "A"}}));
        let typed = object(&serde_json::json!({"a": {"type": "integer"}}));
        assert!(fits(&schema(&typed), &schema(&untyped)));
    }

    #[test]
    fn recursive_models_end() {
        let tree = |title: &str| {
            serde_json::json!({
                "$defs": {"T": {"title": title, "properties": {"next": {"$ref": "#/$defs/T"}}}},
                "$ref": "#/$defs/T",
            })
        };
        assert!(fits(&schema(&tree("a")), &schema(&tree("b"))));
        let circle = serde_json::json!({"$ref": "#"});
        assert!(!fits(&schema(&circle), &schema(&tree("a"))));
    }
}
