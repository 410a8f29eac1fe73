//! Which files `--config` means (spec 07 §1.2).

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Where configuration is looked for when `--config` matches nothing.
const DEFAULT_PLACES: [&str; 2] = ["config.yaml", "/etc/flyte/config/config.yaml"];

/// The regular files that `pattern` names, sorted; the default places when it names none.
///
/// `*`, `?` and `[…]` match within one path segment. Symlinks are followed, as Kubernetes mounts need.
pub fn discover(pattern: &str) -> Vec<PathBuf> {
    let mut found = if pattern.is_empty() {
        Vec::new()
    } else {
        glob(pattern)
    };
    found.retain(|path| path.is_file());
    if found.is_empty() {
        found = DEFAULT_PLACES
            .iter()
            .map(PathBuf::from)
            .filter(|path| path.is_file())
            .collect();
    }
    found
}

/// Whether `pattern` itself names a file, so that no default place is needed.
pub(super) fn matches(pattern: &str) -> bool {
    glob(pattern).iter().any(|path| path.is_file())
}

/// The files, for people.
pub(super) fn listed(files: &[PathBuf]) -> String {
    let names: Vec<_> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    names.join(", ")
}

fn glob(pattern: &str) -> Vec<PathBuf> {
    let rooted = pattern.starts_with('/');
    let mut found = vec![PathBuf::from(if rooted { "/" } else { "" })];
    for segment in pattern.split('/').filter(|segment| !segment.is_empty()) {
        let mut next = Vec::new();
        for base in &found {
            if segment.contains(['*', '?', '[']) {
                next.extend(matching(base, segment));
            } else {
                let path = base.join(segment);
                if path.exists() {
                    next.push(path);
                }
            }
        }
        found = next;
    }
    found.sort();
    found.dedup();
    found
}

fn matching(folder: &Path, segment: &str) -> Vec<PathBuf> {
    let listed = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(entries) = std::fs::read_dir(listed) else {
        return Vec::new();
    };
    let pattern: Vec<char> = segment.chars().collect();
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            let name: Vec<char> = name.chars().collect();
            wildcard(&pattern, &name)
        })
        .map(|name| folder.join(name))
        .collect()
}

/// Shell-style match of one segment; `[a-c]` and `[^a]` classes included.
fn wildcard(pattern: &[char], name: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return name.is_empty();
    };
    match first {
        '*' => {
            (0..=name.len()).any(|skip| name.get(skip..).is_some_and(|tail| wildcard(rest, tail)))
        }
        '[' => {
            let Some(end) = rest.iter().position(|c| *c == ']') else {
                return false;
            };
            let (Some((head, tail)), Some(class), Some(after)) =
                (name.split_first(), rest.get(..end), rest.get(end + 1..))
            else {
                return false;
            };
            class_contains(class, *head) && wildcard(after, tail)
        }
        expected => name.split_first().is_some_and(|(head, tail)| {
            (*expected == '?' || expected == head) && wildcard(rest, tail)
        }),
    }
}

fn class_contains(class: &[char], wanted: char) -> bool {
    let (negated, class) = match class.split_first() {
        Some(('^' | '!', rest)) => (true, rest),
        _ => (false, class),
    };
    let mut inside = false;
    let mut rest = class;
    while let Some((low, tail)) = rest.split_first() {
        if let ['-', high, after @ ..] = tail {
            inside |= (*low..=*high).contains(&wanted);
            rest = after;
        } else {
            inside |= *low == wanted;
            rest = tail;
        }
    }
    inside != negated
}

/// What tells each file from the one that was there before.
pub(super) type Stamp = Vec<(PathBuf, Option<(u64, u64, u64, Option<SystemTime>)>)>;

/// The files that `pattern` names, each with what a change of it changes. It costs one stat call a file.
pub(super) fn stamp(pattern: &str) -> Stamp {
    discover(pattern)
        .into_iter()
        .map(|file| {
            // The target's, where the file is a link.
            let metadata = std::fs::metadata(&file).ok();
            let marks = metadata.map(|found| {
                let modified = found.modified().ok();
                (found.dev(), found.ino(), found.len(), modified)
            });
            (file, marks)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_like_the_shell() {
        for (pattern, name, expected) in [
            ("*.yaml", "001-plugins.yaml", true),
            ("*.yaml", "..data", false),
            ("0[0-4]?-*.yaml", "012-inline.yaml", true),
            ("[^0]*.yaml", "012-inline.yaml", false),
        ] {
            let (p, n): (Vec<char>, Vec<char>) =
                (pattern.chars().collect(), name.chars().collect());
            assert_eq!(wildcard(&p, &n), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_glob_finds_files_in_lexical_order_and_no_folders() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yaml", "c.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("d.yaml")).unwrap();
        let found = discover(&format!("{}/*.yaml", folder.path().display()));
        let names: Vec<_> = found
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["a.yaml", "b.yaml"]);
    }
}
