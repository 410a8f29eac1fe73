//! Structures that are not ours: Kubernetes' tolerations, affinities, security contexts, and the values of maps.
//!
//! Keys lose their case when files are merged (spec 07 §1.3), and a section finds its fields again whatever their case. It
//! knows no fields of these structures, whose decoders compare case: they get the keys as the files spell them. And as those
//! decoders pass over keys that they do not know, what has not come back out of the section is told.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{Problem, Shape};

/// What the files say about a section, with the keys of foreign structures as they are spelled there; where files differ, as
/// in the last one.
pub(super) fn spelled(
    shape: &Shape,
    merged: Value,
    documents: &[(PathBuf, Value)],
    section: &str,
) -> Value {
    let places: Vec<&Value> = documents
        .iter()
        .filter_map(|(_, document)| {
            section
                .split('.')
                .try_fold(document, |at, part| Some(entry(at, part)?.1))
        })
        .collect();
    of_shape(shape, merged, &places)
}

fn of_shape(shape: &Shape, merged: Value, places: &[&Value]) -> Value {
    match (shape, merged) {
        (Shape::Struct(fields), Value::Object(object)) => {
            let entries = object.into_iter().map(|(key, value)| {
                let field = fields
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(&key));
                let value = match field {
                    Some((_, shape)) => of_shape(shape, value, &below(places, &key)),
                    None => value,
                };
                (key, value)
            });
            Value::Object(entries.collect())
        }
        (Shape::Map(_), Value::Object(object)) => {
            // The keys of a map are the user's, and lose their case as in the reference.
            let entries = object.into_iter().map(|(key, value)| {
                let value = as_written(value, &below(places, &key));
                (key, value)
            });
            Value::Object(entries.collect())
        }
        (Shape::Absent, merged) => as_written(merged, places),
        (_, merged) => merged,
    }
}

fn as_written(merged: Value, places: &[&Value]) -> Value {
    let Value::Object(object) = merged else {
        return merged;
    };
    let entries = object.into_iter().map(|(key, value)| {
        let written = places.iter().rev().find_map(|place| entry(place, &key));
        let value = as_written(value, &below(places, &key));
        (written.map_or(key, |(written, _)| written.clone()), value)
    });
    Value::Object(entries.collect())
}

fn below<'a>(places: &[&'a Value], key: &str) -> Vec<&'a Value> {
    places
        .iter()
        .filter_map(|place| Some(entry(place, key)?.1))
        .collect()
}

/// The entry of this key, whatever its case.
fn entry<'a>(place: &'a Value, key: &str) -> Option<(&'a String, &'a Value)> {
    let mut entries = place.as_object()?.iter();
    entries.find(|(written, _)| written.eq_ignore_ascii_case(key))
}

/// The keys of `given` that are not in `kept`, which is what a section made of it.
pub(super) fn lost(section: &str, given: &Value, kept: &Value) -> Vec<Problem> {
    let mut found = Vec::new();
    compare(section, given, kept, &mut found);
    found
}

fn compare(path: &str, given: &Value, kept: &Value, found: &mut Vec<Problem>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given.iter().filter(|(_, value)| !is_empty(value)) {
                let path = format!("{path}.{key}");
                match kept.get(key) {
                    Some(kept) => compare(&path, value, kept, found),
                    None => found.push(Problem {
                        key: path,
                        message: unread(key, kept),
                    }),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                compare(&format!("{path}[{index}]"), given, kept, found);
            }
        }
        // A map that is written as a list of maps of one key.
        (Value::Array(given), Value::Object(_)) => {
            for given in given {
                compare(path, given, kept, found);
            }
        }
        _ => {}
    }
}

fn unread(key: &str, kept: &Map<String, Value>) -> String {
    let meant = kept.keys().find(|name| name.eq_ignore_ascii_case(key));
    match meant {
        Some(name) => format!("unknown key, nothing reads it; is {name:?} meant?"),
        None => "unknown key, nothing reads it; its case counts".to_owned(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
