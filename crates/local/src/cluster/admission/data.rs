//! ConfigMaps and Secrets: their keys become names of files and of variables.

use serde_json::Value;

use super::names::{DATA_KEY_RULE, is_data_key};
use crate::cluster::api_status::StatusCause;

/// Adds a cause for each key that is no name of a file.
pub(super) fn validate(object: &Value, causes: &mut Vec<StatusCause>) {
    for member in ["data", "binaryData"] {
        let data = object.get(member).and_then(Value::as_object);
        for key in data.into_iter().flatten().map(|(key, _)| key) {
            if !is_data_key(key) {
                causes.push(StatusCause::value(
                    format!("{member}[{key}]"),
                    key,
                    DATA_KEY_RULE,
                ));
            }
        }
    }
    let binary = object.get("binaryData").and_then(Value::as_object);
    let texts = object.get("data").and_then(Value::as_object);
    for key in binary.into_iter().flatten().map(|(key, _)| key) {
        if texts.is_some_and(|texts| texts.contains_key(key)) {
            let rule = "duplicate of key present in data";
            causes.push(StatusCause::value(format!("binaryData[{key}]"), key, rule));
        }
    }
}
