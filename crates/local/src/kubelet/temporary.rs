//! The folder for temporary files of a pod, `TMPDIR`: private, gone with the pod, and short. Programs put unix sockets there,
//! whose paths have at most 107 bytes (`multiprocessing.Manager`, torch, Ray with some 70 of its own), so it cannot be inside
//! the data folder. A link in the pod's folder says where it is.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::kubelet::removal::remove_folder;

/// The link in the pod's folder.
const LINK: &str = "tmp";
/// What the names of such folders begin with.
const PREFIX: &str = "fl-";
/// The longest folder to put one into.
const LONGEST_BASE: usize = 16;

/// Makes the folder of pod `uid` and returns its path. Where no folder for temporary files is short, it is inside the pod's.
pub(crate) fn make(pod_folder: &Path, uid: &str) -> io::Result<PathBuf> {
    let link = pod_folder.join(LINK);
    if let Some(known) = of(pod_folder) {
        return Ok(known);
    }
    let name: String = uid
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(12)
        .collect();
    let bases = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    for base in bases
        .iter()
        .filter(|base| base.as_os_str().len() <= LONGEST_BASE)
    {
        let folder = base.join(format!("{PREFIX}{name}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        let is_there = match made {
            Ok(()) => true,
            // An earlier life made it and could not say so.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_private(&folder),
            Err(_) => false,
        };
        if is_there {
            match symlink(&folder, &link) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => return Ok(folder),
            }
        }
    }
    fs::create_dir_all(&link)?;
    Ok(link)
}

/// Removes the folder, if it is not inside the pod's.
pub(crate) fn remove(pod_folder: &Path) {
    if let Some(folder) = of(pod_folder)
        && let Err(error) = remove_folder(&folder)
    {
        tracing::warn!(%error, folder = %folder.display(), "the temporary files of a pod cannot be removed");
    }
}

/// The folder that the pod's link names, if it is one of ours.
fn of(pod_folder: &Path) -> Option<PathBuf> {
    let folder = fs::read_link(pod_folder.join(LINK)).ok()?;
    let named = folder.file_name()?.to_str()?.starts_with(PREFIX);
    (named && folder.is_absolute() && is_private(&folder)).then_some(folder)
}

/// Whether it is a folder, no link, of this user alone.
fn is_private(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|found| {
        found.is_dir()
            && found.uid() == rustix::process::geteuid().as_raw()
            && found.permissions().mode() & 0o777 == 0o700
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_short_private_and_found_again() {
        let pod = tempfile::tempdir().unwrap();
        let uid = uuid::Uuid::new_v4().to_string();
        let folder = make(pod.path(), &uid).unwrap();
        assert!(folder.as_os_str().len() <= LONGEST_BASE + 1 + PREFIX.len() + 12);
        assert!(is_private(&folder));
        assert_eq!(make(pod.path(), &uid).unwrap(), folder);
        fs::write(folder.join("file"), "x").unwrap();
        remove(pod.path());
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_that_somebody_else_prepared_is_not_taken() {
        let pod = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let uid = uuid::Uuid::new_v4().to_string();
        let folder = make(pod.path(), &uid).unwrap();
        fs::remove_dir(&folder).unwrap();
        symlink(elsewhere.path(), &folder).unwrap();
        assert_eq!(of(pod.path()), None);
        remove(pod.path());
        assert!(elsewhere.path().exists());
        fs::remove_file(&folder).unwrap();
    }
}
