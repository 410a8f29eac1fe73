//! `scheme://container/key`.

use std::{fmt, str::FromStr};

/// A parsed reference (spec 07 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `s3`, `gs`, `abfs`, `file`, `mem`.
    pub scheme: String,
    /// Bucket (S3, GCS) or container (Azure).
    pub container: String,
    /// The object's key, percent-decoded, without leading or trailing `/`.
    pub key: String,
}

/// Why a text is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No `://`.
    #[error("there is no scheme; expected scheme://container/key")]
    NoScheme,
    /// Nothing between `://` and `/`.
    #[error("there is no container; expected scheme://container/key")]
    NoContainer,
    /// Nothing after the container, where an object is meant.
    #[error("it names a container and no object in it")]
    NoKey,
    /// A percent escape that is not UTF-8.
    #[error("the key is not UTF-8 after percent-decoding")]
    NotUtf8,
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(ReferenceError::NoScheme)?;
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (container, key) = rest.split_once('/').unwrap_or((rest, ""));
        // A file has no host: file:///a/b is the object "a/b".
        if container.is_empty() && scheme != "file" {
            return Err(ReferenceError::NoContainer);
        }
        let key = percent_encoding::percent_decode_str(key)
            .decode_utf8()
            .map_err(|_| ReferenceError::NotUtf8)?;
        Ok(Self {
            scheme: scheme.to_owned(),
            container: container.to_owned(),
            key: key.trim_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}://{}/{}",
            self.scheme, self.container, self.key
        )
    }
}
