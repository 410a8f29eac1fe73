//! Storage references: URIs of objects, built from a base and key parts (spec 01 §15.1).
//!
//! The reference implementation joins the parts, parses the text as a relative URL and resolves it against
//! the base; what is escaped, and what becomes part of the object key, follows from URL rules. Existing
//! databases and buckets hold such URIs, so they are built here exactly alike.

/// A text that no URL can be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Reference is of an invalid format [{0}]")]
pub struct InvalidReference(pub String);

/// An object in a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// `s3`, `gs`, `abfs`, `file`, …
    pub scheme: String,
    /// The bucket or container.
    pub container: String,
    /// The key, decoded, without slashes at its ends.
    pub key: String,
}

/// The URI of an object below `base` (`s3://bucket`, with or without further path).
///
/// Each part is trimmed of slashes, all are joined by `/` and resolved: `.` and `..` collapse, double slashes
/// stay, characters that URLs cannot hold are escaped.
pub fn construct(base: &str, parts: &[&str]) -> Result<String, InvalidReference> {
    let trimmed: Vec<&str> = parts.iter().map(|part| part.trim_matches('/')).collect();
    let joined = trimmed.join("/");
    let refuse = || InvalidReference(joined.clone());
    let relative = Relative::parse(&joined).ok_or_else(refuse)?;
    let (root, base_path) = split_base(base).ok_or_else(|| InvalidReference(base.to_owned()))?;
    let mut path = base_path.trim_start_matches('/').to_owned();
    if !path.is_empty() && !path.ends_with('/') {
        path.push('/');
    }
    path.push_str(&relative.path);
    let resolved = resolve_dots(&path);
    if resolved.ends_with('/') {
        return Err(refuse());
    }
    Ok(format!("{root}/{resolved}{}", relative.tail))
}

/// The object that a URI names; query and fragment are no part of its key.
pub fn object(uri: &str) -> Result<Object, InvalidReference> {
    let refuse = || InvalidReference(uri.to_owned());
    let (scheme, rest) = uri.split_once("://").ok_or_else(refuse)?;
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (container, path) = rest.split_once('/').unwrap_or((rest, ""));
    let key = percent_decode(path).ok_or_else(refuse)?;
    let key = String::from_utf8(key).map_err(|_| refuse())?;
    Ok(Object {
        scheme: scheme.to_owned(),
        container: container.to_owned(),
        key: key.trim_matches('/').to_owned(),
    })
}

/// Whether an entity's name or version keeps its closure to itself: without `?`, `#` and dot segments, which
/// would make two versions share an object (spec 01 §15.1, defect of the reference).
pub fn is_safe_part(part: &str) -> bool {
    !part.contains(['?', '#'])
        && !part
            .split('/')
            .any(|segment| matches!(dots(segment), Some(1 | 2)))
        && !part.trim_matches('/').is_empty()
}

/// Number of dots of a segment of nothing but dots, escaped ones included.
fn dots(segment: &str) -> Option<usize> {
    let plain = segment.replace("%2e", ".").replace("%2E", ".");
    plain
        .bytes()
        .all(|byte| byte == b'.')
        .then_some(plain.len())
}

struct Relative {
    path: String,
    tail: String,
}

impl Relative {
    fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return None;
        }
        let (before_fragment, fragment) = match text.split_once('#') {
            Some((before, fragment)) => (before, Some(fragment)),
            None => (text, None),
        };
        let (path, query) = match before_fragment.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (before_fragment, None),
        };
        // A colon in the first segment would be a scheme.
        if path
            .split('/')
            .next()
            .is_some_and(|first| first.contains(':'))
        {
            return None;
        }
        let path = escape(path, b"$&+,/:;=@")?;
        let mut tail = String::new();
        if let Some(query) = query {
            tail.push('?');
            tail.push_str(query);
        }
        if let Some(fragment) = fragment.filter(|fragment| !fragment.is_empty()) {
            tail.push('#');
            tail.push_str(&escape(fragment, b"$&+,/:;=?@!()*")?);
        }
        Some(Self { path, tail })
    }
}

/// A text that already is a valid URL path stays; any other is decoded and encoded anew as a whole.
fn escape(text: &str, bare: &[u8]) -> Option<String> {
    let decoded = percent_decode(text)?;
    let valid = text
        .bytes()
        .all(|byte| is_unreserved(byte) || b"$&+,/:;=@!'()*[]%".contains(&byte));
    if valid {
        return Some(text.to_owned());
    }
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in decoded {
        if is_unreserved(byte) || bare.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(encoded)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

/// `None` when a `%` is not followed by two hex digits.
fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            decoded.push(u8::try_from(value).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

/// `scheme://container` and the path after it.
fn split_base(base: &str) -> Option<(&str, &str)> {
    let start = base.find("://")? + 3;
    let end = base
        .get(start..)?
        .find('/')
        .map_or(base.len(), |offset| start + offset);
    Some(base.split_at(end))
}

/// Removes `.` and `..` segments; `..` stops at the root.
fn resolve_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in path.split('/') {
        open = false;
        match segment {
            "." => open = true,
            ".." => {
                kept.pop();
                open = true;
            }
            other => kept.push(other),
        }
    }
    let mut resolved = kept.join("/");
    if open && !resolved.is_empty() {
        resolved.push('/');
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_with_a_path_keeps_it() {
        for (base, parts, uri) in [
            (
                "s3://b/metadata/propeller",
                &["n0", "data"][..],
                "s3://b/metadata/propeller/n0/data",
            ),
            ("s3://b/x/", &["/y/"], "s3://b/x/y"),
            ("s3://b", &["..", "..", "y"], "s3://b/y"),
            ("file:///tmp", &["a"], "file:///tmp/a"),
        ] {
            assert_eq!(construct(base, parts).as_deref(), Ok(uri));
        }
        assert!(construct("no base", &["a"]).is_err());
        assert!(construct("s3://b", &["a:b"]).is_err());
        assert!(construct("s3://b", &["a\u{1}"]).is_err());
    }

    #[test]
    fn unsafe_versions_are_recognised() {
        for (part, safe) in [
            ("v1", true),
            ("v 1", true),
            ("a.b..c", true),
            ("v?x", false),
            ("v#y", false),
            ("a/../b", false),
            ("%2e%2E", false),
            ("/", false),
            ("", false),
        ] {
            assert_eq!(is_safe_part(part), safe, "{part}");
        }
    }
}
