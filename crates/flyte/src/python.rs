//! The Python environment that tasks run in.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

/// The environment is not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PythonError {
    /// No such program.
    #[error("no Python at {0:?}; name one with --python, such as --python .venv/bin/python")]
    NotFound(String),
    /// It is there, but has no flytekit.
    #[error("{python} has no flytekit, which tasks need; run `{python} -m pip install flytekit`, or name another Python with --python", python = .0.display())]
    NoFlytekit(PathBuf),
}

/// A Python with flytekit.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    /// The folder of its programs; first on the PATH of tasks.
    pub(crate) bin: PathBuf,
}

/// Finds the interpreter that `wanted` names, a path or a program on `path`, and sees that it has flytekit,
/// without importing it.
pub(crate) async fn find(wanted: &str, path: &str) -> Result<Python, PythonError> {
    let missing = || PythonError::NotFound(wanted.to_owned());
    let program = if wanted.contains('/') {
        let program = Path::new(wanted);
        // A venv's python is a link to the system's: its folder is what counts, so the link is not followed.
        std::path::absolute(program)
            .ok()
            .filter(|program| program.is_file())
            .ok_or_else(missing)?
    } else {
        path.split(':')
            .map(|folder| Path::new(folder).join(wanted))
            .find(|program| program.is_file())
            .ok_or_else(missing)?
    };
    let found = tokio::process::Command::new(&program)
        .args([
            "-c",
            "import importlib.util, sys; sys.exit(importlib.util.find_spec('flytekit') is None)",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await
        .map_err(|_| missing())?;
    if !found.success() {
        return Err(PythonError::NoFlytekit(program));
    }
    let bin = program
        .parent()
        .map(Path::to_path_buf)
        .ok_or_else(missing)?;
    Ok(Python { bin })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_python_and_one_without_flytekit_say_what_to_do() {
        let error = find("/nowhere/python", "").await.unwrap_err();
        assert!(error.to_string().contains("--python"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let fake = folder.path().join("python3");
        std::fs::write(&fake, "#!/bin/sh\nexit 1\n").unwrap();
        let mut permissions = std::fs::metadata(&fake).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        std::fs::set_permissions(&fake, permissions).unwrap();
        let error = find("python3", folder.path().to_str().unwrap())
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("pip install flytekit"),
            "{error}"
        );
    }
}
