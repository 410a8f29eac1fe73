//! The built programs, and what they say about themselves.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::workspace::Workspace;

/// The package whose programs only tests start.
const FOR_TESTS: &str = "flyte-local";
/// The program that is all services.
pub(super) const WHOLE: &str = "flyte";

/// All programs that users start, the one that is all services first.
pub(super) struct Programs {
    folder: PathBuf,
    pub(super) names: Vec<String>,
}

impl Programs {
    /// Those of the workspace at `root`.
    pub(super) fn of(root: &Path) -> Result<Self> {
        let workspace = Workspace::at(root)?;
        let crates = root.join("crates");
        let mut names: Vec<String> = workspace
            .targets()
            .into_iter()
            .filter(|target| {
                target.is_program
                    && target.package != FOR_TESTS
                    && target.source.starts_with(&crates)
            })
            .map(|target| target.name)
            .collect();
        names.sort_by_key(|name| (name != WHOLE, name.clone()));
        Ok(Self {
            folder: workspace.debug_folder(),
            names,
        })
    }

    /// What `program` writes to standard output with these arguments.
    pub(super) fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        // Help is as wide as the terminal or COLUMNS say: here there is neither.
        let output = Command::new(self.folder.join(program))
            .args(arguments)
            .env_remove("COLUMNS")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{program} cannot be started"))?;
        ensure!(
            output.status.success(),
            "{program} {} fails: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The sections that `program` reads.
    pub(super) fn sections(&self, program: &str) -> Result<Vec<Value>> {
        let text = self.output(program, &["config", "docs", "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("{program} config docs --json"))
    }
}
