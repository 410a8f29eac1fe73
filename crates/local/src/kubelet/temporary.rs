//! The folder for temporary files of a pod, `TMPDIR`: private, gone with the pod, and short. Programs put unix sockets there,
//! whose paths have at most 107 bytes (`multiprocessing.Manager`, torch, Ray with some 70 of its own), so it cannot be inside
//! the data folder. A link in the pod's folder says where it is, and a link in it says whose it is: a data folder may be
//! removed without its pods.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::kubelet::removal::remove_folder;

/// The link in the pod's folder.
const LINK: &str = "tmp";
/// The link to the pod's folder.
const OWNER: &str = ".pod";
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
    for base in bases() {
        let folder = base.join(format!("{PREFIX}{name}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        let is_there = match made {
            Ok(()) => true,
            // An earlier life made it and could not say so.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_private(&folder),
            Err(_) => false,
        };
        if is_there {
            let owner = symlink(std::path::absolute(pod_folder)?, folder.join(OWNER));
            match owner {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            match symlink(&folder, &link) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => return Ok(folder),
            }
        }
    }
    fs::create_dir_all(&link)?;
    Ok(link)
}

/// The folders to put one into.
fn bases() -> impl Iterator<Item = PathBuf> {
    let bases = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    bases
        .into_iter()
        .filter(|base| base.as_os_str().len() <= LONGEST_BASE)
}

/// Removes the folders whose pods are gone with all that knew of them, of any node of this user. It blocks.
pub(crate) fn remove_left_behind() {
    for base in bases().collect::<BTreeSet<_>>() {
        for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
            let folder = entry.path();
            let named = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(PREFIX));
            if named
                && is_private(&folder)
                && has_lost_its_pod(&folder)
                && let Err(error) = remove_folder(&folder)
            {
                tracing::warn!(%error, folder = %folder.display(), "the temporary files of a lost pod cannot be removed");
            }
        }
    }
}

/// Whether the folder says whose it is and that is not there. The pod's folder is made before, and removed after it.
fn has_lost_its_pod(folder: &Path) -> bool {
    fs::read_link(folder.join(OWNER)).is_ok_and(|pod| {
        pod.is_absolute()
            && fs::symlink_metadata(&pod)
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    })
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
    fn a_folder_goes_once_its_pod_was_removed_behind_its_back() {
        let (lost, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let uid = || uuid::Uuid::new_v4().to_string();
        let of_lost = make(lost.path(), &uid()).unwrap();
        fs::write(of_lost.join("file"), "x").unwrap();
        let of_kept = make(kept.path(), &uid()).unwrap();
        let of_nobody = of_kept.with_file_name(format!("{PREFIX}{}", &uid()[..8]));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&of_nobody)
            .unwrap();
        lost.close().unwrap();
        remove_left_behind();
        assert!(!of_lost.exists());
        assert!(of_kept.exists() && of_nobody.exists());
        fs::remove_dir(of_nobody).unwrap();
        remove(kept.path());
        assert!(!of_kept.exists());
    }

    #[test]
    fn a_folder_that_somebody_else_prepared_is_not_taken() {
        let pod = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let uid = uuid::Uuid::new_v4().to_string();
        let folder = make(pod.path(), &uid).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        symlink(elsewhere.path(), &folder).unwrap();
        assert_eq!(of(pod.path()), None);
        remove(pod.path());
        assert!(elsewhere.path().exists());
        fs::remove_file(&folder).unwrap();
    }
}
