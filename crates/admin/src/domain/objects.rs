//! What storage can have objects under: names of requests become keys, and events bring references of their own.

use flyte_core::reference;

use crate::error::{Error, Result};

/// The longest key of an object in bytes, on S3 as on Google's and Azure's storage.
pub(crate) const MAX_KEY: usize = 1024;

/// Bytes of the key that `uri` names, decoded as storage counts it.
///
/// # Errors
/// INVALID_ARGUMENT if it is no reference.
pub(crate) fn key_length(uri: &str) -> Result<usize> {
    Ok(reference::object(uri)?.key.len())
}

/// Checks that storage takes an object at `uri`, which was made from names of the request.
///
/// # Errors
/// INVALID_ARGUMENT with the limit.
pub(crate) fn require_key(uri: &str) -> Result<()> {
    match key_length(uri)? {
        length if length > MAX_KEY => Err(Error::Invalid(format!(
            "the names in the request make a key of {length} bytes for its data, and storage takes {MAX_KEY} at most"
        ))),
        _ => Ok(()),
    }
}

/// Why storage at `base` cannot have an object at `uri`, whatever else it allows; nothing if it can.
pub(crate) fn why_impossible(base: &str, uri: &str) -> Option<String> {
    let Ok(object) = reference::object(uri) else {
        return Some("it is not scheme://container/key".to_owned());
    };
    // Only files have no container, as has a folder that is the storage.
    if object.container.is_empty() && !base.ends_with("://") {
        return Some("it names no container".to_owned());
    }
    if object.key.is_empty() {
        return Some("it names a container and no object in it".to_owned());
    }
    (object.key.len() > MAX_KEY).then(|| {
        format!(
            "its key has {} bytes, and {MAX_KEY} are the most",
            object.key.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_as_storage_has_them() {
        for (key, fits) in [
            ("k".repeat(1024), true),
            ("k".repeat(1025), false),
            ("%20".repeat(1024), true),
            ("é".repeat(513), false),
        ] {
            let uri = format!("s3://bucket/{key}");
            assert_eq!(require_key(&uri).is_ok(), fits, "{key}");
            assert_eq!(why_impossible("s3://bucket", &uri).is_none(), fits, "{key}");
        }
    }

    #[test]
    fn a_reference_to_nothing_is_told_from_one_to_an_object() {
        for (uri, impossible) in [
            ("s3://bucket/a/b", false),
            ("s3://other/a", false),
            ("", true),
            ("+", true),
            ("bucket/a", true),
            ("s3://bucket", true),
            ("s3://bucket//", true),
            ("s3:///a", true),
            ("s3://bucket/%ff", true),
            ("file:///etc/passwd", true),
        ] {
            let found = why_impossible("s3://bucket", uri);
            assert_eq!(found.is_some(), impossible, "{uri}: {found:?}");
        }
    }
}
