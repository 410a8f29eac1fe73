//! JSON files that are replaced as a whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Reads a JSON file; none if it is not there.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(file: &Path) -> io::Result<Option<T>> {
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file as a whole: it is the old one or the new one, also after a crash.
pub(crate) fn write_json<T: Serialize>(file: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    let folder = file
        .parent()
        .ok_or_else(|| io::Error::other("a record needs a folder"))?;
    let mut name = OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    let temporary = folder.join(name);
    let mut written = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    written.write_all(&bytes)?;
    written.sync_all()?;
    fs::rename(&temporary, file)?;
    File::open(folder)?.sync_all()
}
