//! Removing what is left of pods that the API has no longer: processes, folders, records. In the background, because a
//! folder may hold a hundred thousand files, and the kubelet has other pods to run.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::task::JoinSet;

use crate::kubelet::processes::end_pod;
use crate::kubelet::record::{PodPaths, Record};
use crate::kubelet::temporary;

/// How many pods are removed at once; a disk does not get faster by more.
const AT_ONCE: usize = 2;

/// The pods that are to be removed. A restart forgets this queue, and finds the folders again.
#[derive(Default)]
pub(crate) struct Removals {
    waiting: VecDeque<PodPaths>,
    /// The uids in `waiting` and `running`.
    known: HashSet<String>,
    running: JoinSet<String>,
}

impl Removals {
    /// Removes a pod as soon as it is its turn.
    pub(crate) fn push(&mut self, paths: PodPaths) {
        if self.known.insert(paths.uid().to_owned()) {
            self.waiting.push_back(paths);
            self.start();
        }
    }

    fn start(&mut self) {
        while self.running.len() < AT_ONCE
            && let Some(paths) = self.waiting.pop_front()
        {
            self.running.spawn_blocking(move || {
                remove(&paths);
                paths.uid().to_owned()
            });
        }
    }

    /// Goes on when a removal ends; waits for ever when there is none.
    pub(crate) async fn go_on(&mut self) {
        match self.running.join_next().await {
            Some(Ok(uid)) => drop(self.known.remove(&uid)),
            Some(Err(error)) => tracing::error!(%error, "a pod cannot be removed"),
            None => std::future::pending().await,
        }
        self.start();
    }
}

/// The folder goes before the record, so that a record never promises what is gone.
fn remove(paths: &PodPaths) {
    let record = Record::read(paths).unwrap_or_default();
    end_pod(
        paths.uid(),
        record.as_ref().map(|record| &record.supervisor),
    );
    temporary::remove(&paths.pod());
    let removed =
        remove_folder(&paths.pod()).and_then(|()| match fs::remove_file(paths.record()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
    if let Err(error) = removed {
        tracing::warn!(%error, folder = %paths.pod().display(), "the folder of a pod cannot be removed");
    }
}

/// Removes a folder with all that is in it, also where its owner may not write. One that is not there is removed.
pub(crate) fn remove_folder(folder: &Path) -> io::Result<()> {
    let removed = match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(folder);
            fs::remove_dir_all(folder)
        }
        other => other,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lets this user into all folders below, without following links.
fn make_writable(folder: &Path) {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        // What cannot be changed is another's, and the removal will say so.
        drop(fs::set_permissions(
            &folder,
            fs::Permissions::from_mode(0o700),
        ));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(folders.map(|entry| entry.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_write_bits_goes_and_what_it_links_to_stays() {
        let root = tempfile::tempdir().unwrap();
        let (pod, other) = (root.path().join("pod"), root.path().join("other"));
        fs::create_dir_all(pod.join("a/b")).unwrap();
        fs::create_dir_all(&other).unwrap();
        fs::write(pod.join("a/b/file"), "x").unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o500)).unwrap();
        std::os::unix::fs::symlink(&other, pod.join("a/link")).unwrap();
        for folder in ["a/b", "a"] {
            fs::set_permissions(pod.join(folder), fs::Permissions::from_mode(0o500)).unwrap();
        }
        make_writable(&pod);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&pod.join("a/b")), mode(&other)), (0o700, 0o500));
        remove_folder(&pod).unwrap();
        assert!(!pod.exists() && other.exists());
        remove_folder(&pod).unwrap();
    }

    #[tokio::test]
    async fn whoever_asks_for_removals_does_not_wait_for_them() {
        let root = tempfile::tempdir().unwrap();
        let pods: Vec<PodPaths> = (0..10)
            .map(|number| PodPaths::new(root.path(), &format!("pod-{number}")))
            .collect();
        let mut removals = Removals::default();
        for pod in &pods {
            fs::create_dir_all(pod.pod().join("work")).unwrap();
            removals.push(pod.clone());
            removals.push(pod.clone());
        }
        let left = pods.iter().filter(|pod| pod.pod().exists()).count();
        assert!(
            left >= pods.len() - AT_ONCE,
            "the others wait for their queued_pod"
        );
        for _ in &pods {
            removals.go_on().await;
        }
        assert!(pods.iter().all(|pod| !pod.pod().exists()));
        assert!(removals.known.is_empty());
    }
}
