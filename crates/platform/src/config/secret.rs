//! Text that must not be seen.

use std::{fmt, sync::LazyLock};

use regex::Regex;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// What is shown instead.
const HIDDEN: &str = "***";

/// In the name of a key of a free map, such as the settings of a storage provider or variables of tasks.
const SECRET_PARTS: [&str; 14] = [
    "secret",
    "password",
    "passwd",
    "token",
    "credential",
    "access_key",
    "accesskey",
    "access-key",
    "account_key",
    "accountkey",
    "api_key",
    "apikey",
    "private",
    "authorization",
];

/// Whole names of keys that say as much: an Azure account's key and a Google service account's file.
const SECRET_ALONE: [&str; 3] = ["key", "json", "pass"];

/// Whether what stands at `key`, a name or a path of names, may be secret.
pub(super) fn may_be_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET_PARTS.iter().any(|part| key.contains(part))
        || key
            .split(['.', '[', ']', '_', '-'])
            .any(|name| name == "pass")
        || key
            .split(['.', '[', ']'])
            .any(|name| SECRET_ALONE.contains(&name))
}

/// Replaces what may be secret in a value that people see: texts under such names, passwords in URLs, and values of
/// such names within texts, as in the options of a connection. Fields that are secret by their type have been replaced
/// before.
pub(super) fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if may_be_secret(name) => {
                        if !text.is_empty() {
                            HIDDEN.clone_into(text);
                        }
                    }
                    _ => hide(member),
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(hide),
        Value::String(text) => *text = hidden(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `text` without what may be secret in it.
pub(crate) fn hidden(text: &str) -> String {
    if text.contains("PRIVATE KEY-----") {
        return HIDDEN.to_owned();
    }
    let Some(patterns) = Patterns::all() else {
        return HIDDEN.to_owned();
    };
    // `amqp://user:password@host` keeps its host alone.
    let text = patterns
        .userinfo
        .replace_all(text, format!("${{1}}{HIDDEN}@"));
    // `password='a b' sslmode=disable`, `https://host/?access_token=t&x=y`
    patterns
        .pair
        .replace_all(&text, format!("${{1}}={HIDDEN}"))
        .into_owned()
}

struct Patterns {
    /// What is before the host of a URL.
    userinfo: Regex,
    /// A parts name and its value, which libpq allows to be in quotes.
    pair: Regex,
}

impl Patterns {
    /// None if they are no patterns, which a test would show.
    fn all() -> Option<&'static Self> {
        static ALL: LazyLock<Option<Patterns>> = LazyLock::new(|| {
            let parts = SECRET_PARTS.join("|");
            let name = format!(r"[\w.\-]*(?:{parts})[\w.\-]*|(?:[\w.\-]*[_.\-])?pass");
            let value = r#"'(?:[^'\\]|\\.)*'?|"[^"]*"?|[^\s&;,]*"#;
            Some(Patterns {
                userinfo: Regex::new(r"([A-Za-z][A-Za-z0-9+.\-]*://)[^\s/?#]*@").ok()?,
                pair: Regex::new(&format!(r"(?i)\b({name})\s*=\s*(?:{value})")).ok()?,
            })
        });
        ALL.as_ref()
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
            "postgres": { "options": "sslmode=disable password=hunter2 sslpassword='a \\' b' application_name=x" },
            "azure": { "account": "a", "key": "k", "keyword": "w" },
            "google": { "json": "{}" },
            "arguments": ["--store=s3://me:word@host/p", "x?access_token=t&y=1", "SMTP_PASS=p"],
            "certificate": "-----BEGIN PRIVATE KEY-----\nabc",
        });
        hide(&mut value);
        let expected = json!({
            "stow": { "kind": "s3", "config": { "access_key_id": "***", "secret_key": "***", "endpoint": "http://host:1/a@b" } },
            "default-env-vars": { "MY_TOKEN": "***", "EMPTY_TOKEN": "", "PATH": "/bin" },
            "publishers": ["amqp://***@host/queue"],
            "secrets": { "secrets-prefix": "***", "env-prefix": "FLYTE_SECRET_" },
            "tokens": 3,
            "postgres": { "options": "sslmode=disable password=*** sslpassword=*** application_name=x" },
            "azure": { "account": "a", "key": "***", "keyword": "w" },
            "google": { "json": "***" },
            "arguments": ["--store=s3://***@host/p", "x?access_token=***&y=1", "SMTP_PASS=***"],
            "certificate": "***",
        });
        assert_eq!(value, expected);
    }
}
