//! How keys become file names.
//!
//! A key is split at `/`. Each part becomes one name: `%` and control characters are percent-encoded, a part of dots alone
//! has its dots encoded, an empty part is `%e`, and a part whose name would be long becomes its beginning, `%h` and its
//! SHA-256. The name of an object ends in `%o`, that of a folder does not, so that `a` and `a/b` both have a place. A `%`
//! that is not followed by two hex digits is in no encoded part, so these marks are unambiguous. A folder with a hashed
//! name has its part in a file `%n`; an object's own description has its key.
//!
//! So no part can be `.` or `..`, no name is too long for the file system, and nothing leaves the bucket's folder.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Names longer than this are hashed; file systems allow 255 bytes.
const LONGEST_NAME: usize = 200;
/// How much of a hashed name stays readable.
const KEPT_OF_LONG_NAME: usize = 120;

pub(crate) const OBJECT_MARK: &str = "%o";
pub(crate) const NAME_FILE: &str = "%n";

/// The place of an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ObjectPlace {
    pub(crate) path: PathBuf,
    /// The files that hold the parts behind hashed folder names, and those parts.
    pub(crate) long_names: Vec<(PathBuf, String)>,
}

/// The place of a key in the folder of its bucket.
pub(crate) fn object_path(bucket: &Path, key: &str) -> ObjectPlace {
    let mut path = bucket.to_owned();
    let mut long_names = Vec::new();
    let (folders, last) = match key.rsplit_once('/') {
        Some((folders, last)) => (Some(folders), last),
        None => (None, key),
    };
    for part in folders.into_iter().flat_map(|folders| folders.split('/')) {
        let name = encode(part);
        path.push(&name);
        if is_hashed(&name) {
            long_names.push((path.join(NAME_FILE), part.to_owned()));
        }
    }
    path.push(encode(last) + OBJECT_MARK);
    ObjectPlace { path, long_names }
}

/// The file name of one part of a key.
pub(crate) fn encode(part: &str) -> String {
    if part.is_empty() {
        return "%e".to_owned();
    }
    let only_dots = part.bytes().all(|byte| byte == b'.');
    let mut name = String::with_capacity(part.len());
    for character in part.chars() {
        match character {
            '%' => name.push_str("%25"),
            '.' if only_dots => name.push_str("%2E"),
            control if control.is_ascii_control() => {
                name.push_str(&format!("%{:02X}", u32::from(control)));
            }
            other => name.push(other),
        }
    }
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let kept = part
        .char_indices()
        .map(|(index, _)| index)
        .take_while(|index| *index <= KEPT_OF_LONG_NAME / 3)
        .last();
    let beginning = encode(
        part.get(..kept.unwrap_or(0))
            .filter(|text| !text.is_empty())
            .unwrap_or("x"),
    );
    format!(
        "{beginning}%h{}",
        hex::encode(Sha256::digest(part.as_bytes()))
    )
}

pub(crate) fn is_hashed(name: &str) -> bool {
    name.contains("%h")
}

/// The part of a key behind a name that is not hashed.
pub(crate) fn decode(name: &str) -> String {
    if name == "%e" {
        return String::new();
    }
    percent_encoding::percent_decode_str(name)
        .decode_utf8_lossy()
        .into_owned()
}

/// Removes the folders above `place` that are empty now, up to the bucket's own.
pub(crate) fn prune(bucket: &Path, place: &Path) {
    let mut folder = place.parent();
    while let Some(here) = folder.filter(|here| *here != bucket) {
        if fs::remove_dir(here).is_err() {
            // Only the file that holds the folder's name may be left.
            let mut entries = fs::read_dir(here).into_iter().flatten().flatten();
            let (first, second) = (entries.next(), entries.next());
            let only_name =
                first.is_some_and(|entry| entry.file_name() == NAME_FILE) && second.is_none();
            if !only_name
                || fs::remove_file(here.join(NAME_FILE)).is_err()
                || fs::remove_dir(here).is_err()
            {
                return;
            }
        }
        folder = here.parent();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_have_safe_and_different_places() {
        let bucket = Path::new("/b");
        for (key, expected) in [
            ("a", "/b/a%o"),
            ("a/b", "/b/a/b%o"),
            ("a/", "/b/a/%e%o"),
            ("/a", "/b/%e/a%o"),
            ("a//b", "/b/a/%e/b%o"),
            ("../x", "/b/%2E%2E/x%o"),
            ("./.", "/b/%2E/%2E%o"),
            ("a%o", "/b/a%25o%o"),
            ("..a", "/b/..a%o"),
            ("日本/é\u{7}", "/b/日本/é%07%o"),
        ] {
            assert_eq!(
                object_path(bucket, key).path,
                Path::new(expected),
                "{key:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_place_never_leaves_its_bucket(key in "[./a%é\u{0}-]{1,40}|(\\PC|/){1,300}") {
            let place = object_path(Path::new("/b"), &key).path;
            prop_assert!(place.starts_with("/b"));
            for part in place.components() {
                prop_assert!(matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_)));
                prop_assert!(part.as_os_str().len() <= 255);
            }
        }

        #[test]
        fn a_name_tells_its_part(part in "[^/]{0,60}") {
            let name = encode(&part);
            prop_assert!(is_hashed(&name) || decode(&name) == part);
        }
    }
}
