//! Request paths (spec 01 §2, matching).

use percent_encoding::percent_decode_str;
use tonic::Status;

/// Whether every `%` is followed by two hex digits.
pub(super) fn is_well_formed(path: &str) -> bool {
    path.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// The path without doubled slashes and dot segments, if it had any.
pub(super) fn cleaned(path: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut changed = !path.starts_with('/');
    let inner = path.trim_start_matches('/');
    changed |= path.len() - inner.len() > 1;
    let trailing = inner.ends_with('/');
    for segment in inner.split('/') {
        match segment {
            "." => changed = true,
            ".." => {
                changed = true;
                kept.pop();
            }
            "" => {}
            segment => kept.push(segment),
        }
    }
    let mut clean = format!("/{}", kept.join("/"));
    if trailing && clean != "/" {
        clean.push('/');
    }
    changed |= clean != path;
    changed.then_some(clean)
}

/// The decoded path, split at its slashes; an encoded slash adds a segment.
pub(super) fn segments(path: &str) -> Result<Vec<String>, Status> {
    let decoded = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_invalid| Status::invalid_argument("the path contains invalid UTF-8"))?;
    let inner = decoded.strip_prefix('/').unwrap_or(&decoded);
    Ok(inner.split('/').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_slashes_and_dots_are_cleaned() {
        for (path, expected) in [
            ("/api/v1/domains", None),
            ("/api/v1/executions/p/d/", None),
            ("/", None),
            ("/api//v1", Some("/api/v1")),
            ("/api/v1/../v1/domains", Some("/api/v1/domains")),
        ] {
            assert_eq!(cleaned(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn paths_are_decoded_once_and_then_split() {
        assert_eq!(segments("/a%2Fb/%252E").unwrap(), ["a", "b", "%2E"]);
        assert!(!is_well_formed("/%zz"));
        assert!(segments("/%ff").is_err());
    }
}
