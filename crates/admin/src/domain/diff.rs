//! What differs between two registrations of one version, for people (spec 08 A12).

use flyte_idl::json::{self, Codec};
use prost::{Message, Name};
use serde_json::Value;

/// Blocks `pointer:`, `- old`, `+ new`, sorted by pointer, over the messages' JSON. List elements that only
/// one side has are not listed, as in the reference.
pub(crate) fn text<M: Message + Name>(old: &M, new: &M) -> String {
    let value = |message: &M| json::to_value(Codec::Jsonpb, message).unwrap_or_default();
    let mut blocks = Vec::new();
    compare("", &value(old), &value(new), &mut blocks);
    blocks.sort();
    blocks.join("\n")
}

fn compare(pointer: &str, old: &Value, new: &Value, blocks: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let below = format!("{pointer}/{key}");
                match new.get(key) {
                    Some(other) => compare(&below, value, other, blocks),
                    None => blocks.push(block(&below, &value.to_string(), "<nil>")),
                }
            }
            for (key, value) in new {
                if !old.contains_key(key) {
                    blocks.push(block(
                        &format!("{pointer}/{key}"),
                        "<nil>",
                        &value.to_string(),
                    ));
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{pointer}/{index}"), old, new, blocks);
            }
        }
        (old, new) if old == new => {}
        (old, new) => blocks.push(block(pointer, &shown(old), &shown(new))),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn block(pointer: &str, old: &str, new: &str) -> String {
    format!("{pointer}:\n\t- {old} \n\t+ {new}")
}

#[cfg(test)]
mod tests {
    use flyte_idl::core::{Container, KeyValuePair};

    use super::*;

    #[test]
    fn replaced_added_and_removed_values_are_listed_by_pointer() {
        let old = Container {
            image: "a".to_owned(),
            args: vec!["x".to_owned()],
            ..Container::default()
        };
        let new = Container {
            image: "b".to_owned(),
            args: vec!["x".to_owned(), "y".to_owned()],
            env: vec![KeyValuePair::default()],
            ..Container::default()
        };
        assert_eq!(
            text(&old, &new),
            "/env:\n\t- <nil> \n\t+ [{}]\n/image:\n\t- a \n\t+ b"
        );
    }
}
