//! Rust files that no target reaches.
//!
//! From the root file of every target (`cargo metadata`) the `mod name;` lines are followed; what lies in the
//! packages' folders and was not reached is an orphan. Only declarations at the level of a file are followed:
//! a module file declared inside an inline module is reported, and belongs elsewhere.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// All orphans below the packages of the workspace at `root`, sorted.
///
/// # Errors
/// When `cargo metadata` fails, or a file cannot be read.
pub(crate) fn find(root: &Path) -> Result<Vec<PathBuf>> {
    let workspace = Workspace::at(root)?;
    let roots = workspace
        .targets()
        .into_iter()
        .map(|target| target.source)
        .collect();
    orphans(roots, &workspace.folders())
}

fn orphans(roots: Vec<PathBuf>, folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let reached = reached(roots)?;
    let mut present = BTreeSet::new();
    for folder in folders {
        collect(folder, &mut present)?;
    }
    Ok(present.difference(&reached).cloned().collect())
}

/// Every file that a root reads, directly or through others.
fn reached(roots: Vec<PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let mut reached = BTreeSet::new();
    // A root's children lie beside it, another file's in the folder of its name.
    let mut queue: VecDeque<(PathBuf, PathBuf)> = roots
        .into_iter()
        .map(|file| (file.clone(), file.with_file_name("")))
        .collect();
    while let Some((file, folder)) = queue.pop_front() {
        if !reached.insert(file.clone()) {
            continue;
        }
        let source = fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        for module in declared(&source) {
            let target = match module.path {
                Some(path) => file.with_file_name(path),
                None => folder.join(format!("{}.rs", module.name)),
            };
            if target.exists() {
                let children = target.with_extension("");
                queue.push_back((target, children));
            }
        }
    }
    Ok(reached)
}

#[derive(Debug, PartialEq, Eq)]
struct Module<'a> {
    name: &'a str,
    path: Option<&'a str>,
}

/// The `mod name;` lines of a source, each with its `#[path]` if it has one.
fn declared(source: &str) -> Vec<Module<'_>> {
    let mut modules = Vec::new();
    let mut path = None;
    for line in source.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split('"').next();
            continue;
        }
        if line.starts_with("#[") || line.starts_with("//") || line.is_empty() {
            continue;
        }
        let path = path.take();
        let item = match line.strip_prefix("pub") {
            Some(rest) => rest
                .strip_prefix('(')
                .and_then(|rest| rest.split_once(')'))
                .map_or(rest, |(_, rest)| rest)
                .trim_start(),
            None => line,
        };
        let name = item
            .strip_prefix("mod ")
            .and_then(|rest| rest.split_once(';'))
            .map(|(name, _)| name.trim());
        modules.extend(name.map(|name| Module { name, path }));
    }
    modules
}

fn collect(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() {
            if !hidden && entry.file_name() != "target" {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.insert(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_lines_are_found_with_visibility_and_path() {
        let source = "//! mod not_this;\n#[cfg(test)]\nmod tests;\npub mod a;\npub(crate) mod b;\n\
                      #[path = \"other.rs\"]\nmod c;\nmod inline {\n}\nlet modulo = 1;\n";
        let names: Vec<_> = declared(source)
            .into_iter()
            .map(|module| (module.name, module.path))
            .collect();
        assert_eq!(
            names,
            [
                ("tests", None),
                ("a", None),
                ("b", None),
                ("c", Some("other.rs")),
            ]
        );
    }

    #[test]
    fn a_file_that_no_module_line_names_is_an_orphan() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, source: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, source).unwrap();
            path
        };
        let root = file("src/lib.rs", "mod one;\n");
        file("src/one.rs", "mod two;\n");
        file("src/one/two.rs", "");
        let orphan = file("src/one/forgotten.rs", "");
        let found = orphans(vec![root], &[folder.path().to_owned()]).unwrap();
        assert_eq!(found, [orphan]);
    }
}
