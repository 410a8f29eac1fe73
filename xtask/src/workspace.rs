//! What cargo knows about the workspace.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Packages and targets, from `cargo metadata`.
pub(crate) struct Workspace(Value);

/// One thing that cargo builds.
pub(crate) struct Target {
    /// Name of its package.
    pub(crate) package: String,
    /// Its own name.
    pub(crate) name: String,
    /// Its root file.
    pub(crate) source: PathBuf,
    /// Whether it is a program.
    pub(crate) is_program: bool,
}

impl Workspace {
    /// The workspace at `root`.
    ///
    /// # Errors
    /// When `cargo metadata` fails.
    pub(crate) fn at(root: &Path) -> Result<Self> {
        let output = Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(root)
            .output()
            .context("cargo metadata cannot be started")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Self(serde_json::from_slice(&output.stdout)?))
    }

    /// Folders of the packages.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        array(&self.0, "packages")
            .filter_map(|package| Path::new(text(package, "manifest_path")).parent())
            .map(Path::to_owned)
            .collect()
    }

    /// All that is built.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let of_package = |package| {
            array(package, "targets").map(|target| Target {
                package: text(package, "name").to_owned(),
                name: text(target, "name").to_owned(),
                source: PathBuf::from(text(target, "src_path")),
                is_program: array(target, "kind").any(|kind| kind == "bin"),
            })
        };
        array(&self.0, "packages").flat_map(of_package).collect()
    }

    /// Where debug builds are.
    pub(crate) fn debug_folder(&self) -> PathBuf {
        Path::new(text(&self.0, "target_directory")).join("debug")
    }
}

fn array<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
