//! ConfigMaps and Secrets: their keys become names of files and of variables.

use serde_json::Value;

use super::names::{DATA_KEY_RULE, is_data_key};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each key that is no name of a file.
pub(super) fn validate(object: &Value, causes: &mut Causes) {
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
            let rule = "duplicate of key present in binaryData";
            causes.push(StatusCause::value(format!("data[{key}]"), key, rule));
        }
    }
    if object.get("kind").and_then(Value::as_str) == Some("Secret") {
        secret(object, causes);
    }
}

/// The keys that secrets of a type have.
fn needed_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    }
}

fn secret(object: &Value, causes: &mut Causes) {
    let kind = object
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let get = |key: &str| object.get("data")?.get(key)?.as_str();
    for key in needed_keys(kind) {
        match get(key) {
            None => causes.push(StatusCause::required(format!("data[{key}]"))),
            Some(text) if key.starts_with(".docker") && !is_json(text) => {
                let rule = "must be a JSON document";
                let field = format!("data[{key}]");
                causes.push(StatusCause::value(
                    field,
                    "<secret contents redacted>",
                    rule,
                ));
            }
            Some(_) => {}
        }
    }
    match kind {
        "kubernetes.io/basic-auth" if get("username").is_none() && get("password").is_none() => {
            causes.push(StatusCause::required("data[username]"));
            causes.push(StatusCause::required("data[password]"));
        }
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            let annotations = object.pointer("/metadata/annotations");
            let account = annotations.and_then(|annotations| annotations.get(ACCOUNT)?.as_str());
            if account.is_none_or(str::is_empty) {
                let field = format!("metadata.annotations[{ACCOUNT}]");
                causes.push(StatusCause::required(field));
            }
        }
        _ => {}
    }
}

fn is_json(base64_text: &str) -> bool {
    use base64::Engine;
    let bytes = base64::prelude::BASE64_STANDARD.decode(base64_text);
    bytes.is_ok_and(|bytes| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok())
}

/// Adds a cause for each change of what is immutable.
pub(super) fn guard(current: &Value, next: &Value, causes: &mut Causes) {
    if current.get("immutable").and_then(Value::as_bool) == Some(true) {
        for member in ["immutable", "data", "binaryData"] {
            if current.get(member) != next.get(member) {
                let rule = "field is immutable when `immutable` is set";
                causes.push(StatusCause::forbidden(member, rule));
            }
        }
    }
    if current.get("type") != next.get("type") {
        let kind = next.get("type").and_then(Value::as_str).unwrap_or_default();
        causes.push(StatusCause::value("type", kind, "field is immutable"));
    }
}
