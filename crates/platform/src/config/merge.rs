//! How several files become one tree (spec 07 §1.3, exact rules).

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::Problem;

/// YAML to JSON; integer and boolean keys become their text, tags are dropped.
pub(super) fn to_json(value: serde_norway::Value) -> Result<Value, String> {
    use serde_norway::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => Value::Bool(flag),
        Yaml::Number(number) => {
            if let Some(integer) = number.as_i64() {
                integer.into()
            } else if let Some(integer) = number.as_u64() {
                integer.into()
            } else {
                number
                    .as_f64()
                    .and_then(serde_json::Number::from_f64)
                    .map_or(Value::Null, Value::Number)
            }
        }
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => {
            Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(entries) => {
            let mut object = Map::new();
            for (key, value) in entries {
                let key = match key {
                    Yaml::String(text) => text,
                    Yaml::Number(number) => number.to_string(),
                    Yaml::Bool(flag) => flag.to_string(),
                    other => return Err(format!("a key must be text, found {other:?}")),
                };
                object.insert(key, to_json(value)?);
            }
            Value::Object(object)
        }
        Yaml::Tagged(tagged) => to_json(tagged.value)?,
    })
}

/// Whether a document says something at a dotted path; case does not count.
pub(super) fn holds(document: &Value, path: &str) -> bool {
    let mut at = document;
    for part in path.split('.') {
        let Value::Object(object) = at else {
            return false;
        };
        let Some((_, inner)) = object
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(part))
        else {
            return false;
        };
        at = inner;
    }
    true
}

/// Merges documents in order. Dot-less keys are lower-cased; keys with a dot keep their case.
pub(super) fn merge(documents: &[(PathBuf, Value)]) -> (Value, Vec<Problem>) {
    let mut tree = Map::new();
    let mut warnings = Vec::new();
    for (file, document) in documents {
        match document {
            Value::Object(object) => {
                let mut path = Vec::new();
                merge_object(
                    &mut tree,
                    object,
                    &mut path,
                    &file.display().to_string(),
                    &mut warnings,
                );
            }
            Value::Null => {}
            _ => warnings.push(Problem {
                key: file.display().to_string(),
                message: "is not a map of sections; ignored".into(),
            }),
        }
    }
    (drop_nulls(Value::Object(tree)), warnings)
}

fn merge_object(
    into: &mut Map<String, Value>,
    from: &Map<String, Value>,
    path: &mut Vec<String>,
    file: &str,
    warnings: &mut Vec<Problem>,
) {
    for (key, value) in from {
        // A key with a dot is a literal key (an annotation, say), never a path.
        let key = if key.contains('.') {
            key.clone()
        } else {
            key.to_lowercase()
        };
        path.push(key.clone());
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                merge_object(old, new, path, file, warnings);
            }
            (Some(Value::Object(old)), _) if !old.is_empty() => warnings.push(Problem {
                key: path.join("."),
                message: format!(
                    "{file} holds a value where an earlier file holds a map; the map stays"
                ),
            }),
            (_, Value::Object(new)) => {
                let mut fresh = Map::new();
                merge_object(&mut fresh, new, path, file, warnings);
                into.insert(key, Value::Object(fresh));
            }
            (_, other) => {
                // Lists keep the case of everything inside them (§1.3 restoration).
                into.insert(key, other.clone());
            }
        }
        path.pop();
    }
}

fn drop_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, drop_nulls(value)))
                .collect(),
        ),
        other => other,
    }
}
