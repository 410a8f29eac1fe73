//! One `flyte start` per data folder.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Holds the folder as long as it lives, and no longer: the system drops the lock with the process.
#[derive(Debug)]
pub(crate) struct FolderLock(
    #[expect(dead_code, reason = "the lock lives as long as the open file")] File,
);

/// The folder cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process has it.
    #[error(
        "another flyte (pid {pid}) is running on data folder {}; stop it, or choose another folder with --data-dir",
        folder.display()
    )]
    Taken {
        /// The data folder.
        folder: PathBuf,
        /// Who has it.
        pid: String,
    },
    /// It cannot be written.
    #[error("data folder {} cannot be written; choose another one with --data-dir", folder.display())]
    Folder {
        /// The data folder.
        folder: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// Takes the folder, making it if it is missing.
pub(crate) fn take(folder: &Path) -> Result<FolderLock, LockError> {
    let failed = |source| LockError::Folder {
        folder: folder.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join("flyte.lock"))
        .map_err(failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid).map_err(failed)?;
        return Err(LockError::Taken {
            folder: folder.to_owned(),
            pid: pid.trim().to_owned(),
        });
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    Ok(FolderLock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_on_the_same_folder_is_refused_naming_the_pid() {
        let folder = tempfile::tempdir().unwrap();
        let first = take(folder.path()).unwrap();
        let error = take(folder.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("pid {}", std::process::id())),
            "{error}"
        );
        drop(first);
        take(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = take(Path::new("/proc/nowhere")).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    }
}
