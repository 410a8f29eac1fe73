//! Folders that are there and may be gone after a crash: one is only as durable as its entry in the one above.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use flyte_platform::sync::Mutex;

use crate::s3::BlobError;

/// The folders that were made and whose entries are not known to be on the disk.
#[derive(Debug, Default)]
pub(crate) struct NewFolders(Mutex<HashSet<PathBuf>>);

impl NewFolders {
    /// Makes a folder and those above it that are missing. When this returns, their entries are on the disk; also those that
    /// another writer makes at this time, or could not sync.
    ///
    /// # Errors
    /// A folder cannot be made or synced.
    pub(crate) fn make(&self, folder: &Path) -> Result<(), BlobError> {
        loop {
            let new = self.missing(folder);
            match make_and_sync(&new) {
                // One of them went with the last object in it.
                Err((_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err((place, error)) => return Err(BlobError::at(place)(error)),
                Ok(()) => {
                    let mut known = self.0.lock();
                    for folder in new {
                        known.remove(folder);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The folders that are to be made or synced, the deepest first. They are known as new until that is done.
    fn missing<'a>(&self, folder: &'a Path) -> Vec<&'a Path> {
        let mut known = self.0.lock();
        let new: Vec<&Path> = folder
            .ancestors()
            .take_while(|folder| known.contains(*folder) || !folder.exists())
            .collect();
        known.extend(new.iter().map(|folder| folder.to_path_buf()));
        new
    }
}

fn make_and_sync<'a>(new: &[&'a Path]) -> Result<(), (&'a Path, io::Error)> {
    for folder in new.iter().rev() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => made.map_err(|error| (*folder, error))?,
        }
    }
    for above in new.iter().rev().filter_map(|folder| folder.parent()) {
        let synced = File::open(above).and_then(|above| above.sync_all());
        synced.map_err(|error| (above, error))?;
    }
    Ok(())
}
