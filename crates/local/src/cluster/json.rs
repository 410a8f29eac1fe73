//! Reading JSON of any client: nesting is bounded before anything recurses.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::field_path::FieldPath;

impl Cluster {
    /// Parses a client's JSON. The error is for the client.
    pub(crate) fn parse_json(&self, body: &[u8]) -> Result<Value, String> {
        check_depth(depth(body), self.options().json_depth)?;
        parse(body).map_err(|error| error.to_string())
    }
}

/// The first member of a document that an object in it has twice. The nesting of the document is known to be bounded.
pub(crate) fn doubled(json: &[u8]) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    let mut found = None;
    let walk = Members {
        path: FieldPath::root(""),
        found: &mut found,
    };
    // A document that is none is refused by whoever reads it.
    walk.deserialize(&mut reader).ok()?;
    found
}

/// Reads a value at `path` and keeps nothing of it but a doubled member.
struct Members<'a> {
    path: FieldPath<'a>,
    found: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            let item = Members {
                path: self.path.item(index),
                found: &mut *self.found,
            };
            if items.next_element_seed(item)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = self.path.member(&name);
            if names.contains(&name) && self.found.is_none() {
                *self.found = Some(path.to_string());
            }
            members.next_value_seed(Members {
                path,
                found: &mut *self.found,
            })?;
            names.insert(name);
        }
        Ok(())
    }
}

/// Refuses a document that is nested deeper than `limit`.
pub(crate) fn check_depth(depth: usize, limit: usize) -> Result<(), String> {
    if depth > limit {
        return Err(format!(
            "the document is nested {depth} levels deep, the limit is {limit}"
        ));
    }
    Ok(())
}

/// Parses JSON whose nesting is known to be bounded.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    let value = T::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// How deep a value is nested, counted without recursion.
pub(crate) fn depth_of(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, around)) = open.pop() {
        let depth = around + 1;
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth))),
            Value::Object(members) => open.extend(members.values().map(|member| (member, depth))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => continue,
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The deepest nesting of a document, counted without recursion. Brackets in texts do not count.
pub(crate) fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json {
        match (in_text, *byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_where_they_nest() {
        for (json, expected) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a": [{"b": []}], "c": {}}"#, 4),
            (r#"{"a": "[[[[", "b": "\\\"[[["}"#, 1),
            ("]]][", 1),
        ] {
            assert_eq!(depth(json.as_bytes()), expected, "{json}");
            if let Ok(value) = parse::<Value>(json.as_bytes()) {
                assert_eq!(depth_of(&value), expected, "{json}");
            }
        }
    }
}
