//! Text that must not be seen.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// What is shown instead.
const HIDDEN: &str = "***";

/// In the name of a key of a free map, such as the settings of a storage provider or variables of tasks.
const TELLING: [&str; 12] = [
    "secret",
    "password",
    "passwd",
    "token",
    "credential",
    "access_key",
    "accesskey",
    "access-key",
    "api_key",
    "apikey",
    "private",
    "authorization",
];

/// Replaces what may be secret in a value that people see: texts under telling names, and passwords in URLs. Fields that
/// are secret by their type have been replaced before.
pub(super) fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.to_lowercase();
                match member {
                    Value::String(text) if TELLING.iter().any(|part| name.contains(part)) => {
                        if !text.is_empty() {
                            HIDDEN.clone_into(text);
                        }
                    }
                    _ => hide(member),
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(hide),
        Value::String(text) => hide_in_url(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `amqp://user:password@host` keeps its host alone.
fn hide_in_url(text: &mut String) {
    let Some((scheme, rest)) = text.split_once("://") else {
        return;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if let Some((_, host)) = authority.rsplit_once('@') {
        let path = rest.strip_prefix(authority).unwrap_or_default();
        *text = format!("{scheme}://{HIDDEN}@{host}{path}");
    }
}

/// A password or key. It neither prints nor serializes; [`Secret::expose`] is the one way to it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the call that needs it and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing was configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() {
            "Secret(empty)"
        } else {
            "Secret(***)"
        })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { HIDDEN })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_be_secret_is_hidden_wherever_it_stands() {
        let mut value = json!({
            "stow": { "kind": "s3", "config": { "access_key_id": "id", "secret_key": "key", "endpoint": "http://host:1/a@b" } },
            "default-env-vars": { "MY_TOKEN": "t", "EMPTY_TOKEN": "", "PATH": "/bin" },
            "publishers": ["amqp://me:word@host/queue"],
            "secrets": { "secrets-prefix": "/etc/secrets", "env-prefix": "FLYTE_SECRET_" },
            "tokens": 3,
        });
        hide(&mut value);
        let expected = json!({
            "stow": { "kind": "s3", "config": { "access_key_id": "***", "secret_key": "***", "endpoint": "http://host:1/a@b" } },
            "default-env-vars": { "MY_TOKEN": "***", "EMPTY_TOKEN": "", "PATH": "/bin" },
            "publishers": ["amqp://***@host/queue"],
            "secrets": { "secrets-prefix": "***", "env-prefix": "FLYTE_SECRET_" },
            "tokens": 3,
        });
        assert_eq!(value, expected);
    }
}
