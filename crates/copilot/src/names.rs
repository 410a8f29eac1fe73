//! Names that come from interfaces and data, as names of files.

use std::path::{Path, PathBuf};

/// Longest name of a file, in bytes (Linux's `NAME_MAX`).
const LONGEST: usize = 255;

/// A name that would lead out of its folder, or that no file can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be the name of a file: {why}")]
pub struct NotAFileName {
    name: String,
    why: &'static str,
}

/// Checks that `name` is one file name: nothing that leads elsewhere, nothing longer than files have.
///
/// # Errors
/// [`NotAFileName`], with the beginning of a long name.
pub fn file_name(name: &str) -> Result<&str, NotAFileName> {
    let why = match name {
        "" => "it is empty",
        "." | ".." => "it names a folder that is there already",
        _ if name.contains('/') => "it contains a slash",
        _ if name.contains('\0') => "it contains a NUL byte",
        _ if name.len() > LONGEST => "it is longer than 255 bytes",
        _ => return Ok(name),
    };
    Err(NotAFileName {
        name: name.chars().take(80).collect(),
        why,
    })
}

/// `folder` and a relative path of names below it, each of which is checked.
///
/// # Errors
/// The first part that is no name of a file.
pub(crate) fn below(folder: &Path, relative: &str) -> Result<PathBuf, NotAFileName> {
    relative
        .split('/')
        .try_fold(folder.to_owned(), |path, part| {
            Ok(path.join(file_name(part)?))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_folder() {
        let long = "x".repeat(255);
        for good in ["x", "a.b", "..a", "...", "a b", "ü", "-", long.as_str()] {
            assert_eq!(file_name(good), Ok(good));
        }
        let long = "x".repeat(300);
        for bad in [
            "", ".", "..", "../x", "/", "/etc", "a/b", "a/", "\0", "a\0b", &long,
        ] {
            assert!(file_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_relative_path_stays_below_its_folder() {
        let folder = Path::new("/in/x");
        assert_eq!(below(folder, "a/b"), Ok(PathBuf::from("/in/x/a/b")));
        for bad in ["", "..", "a/../../b", "/a", "a//b", "a/./b", "a/\0"] {
            assert!(below(folder, bad).is_err(), "{bad:?}");
        }
    }
}
