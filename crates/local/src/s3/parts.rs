//! Objects that were uploaded in parts stay in parts: completing an upload moves its folder and writes a description, however
//! many gigabytes the parts have. Nothing is copied.
//!
//! ```text
//! <folder>/parts/<upload id>/upload.json, part-<number>%o
//! ```
//!
//! The description of the object names the folder. Readers hold it: parts of an object that is replaced or removed go when
//! nobody reads them any more.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

use flyte_platform::sync::Mutex;
use serde::{Deserialize, Serialize};

use crate::files::read_json;
use crate::s3::multipart::Upload;
use crate::s3::{BlobError, BlobFolder, keys, object};

/// Where the bytes of an object are that has none of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The id of the upload, and the name of the folder.
    pub upload: String,
    /// Number and bytes of each part, in order.
    pub sizes: Vec<(u32, u64)>,
}

impl Parts {
    /// Where the part of this place, from 1, is in the object.
    pub(crate) fn range(&self, place: usize) -> Option<std::ops::Range<u64>> {
        let before = self.sizes.get(..place.checked_sub(1)?)?;
        let start = before.iter().map(|(_, size)| size).sum();
        let (_, size) = self.sizes.get(place - 1)?;
        Some(start..start + size)
    }
}

/// The name of the file of a part.
pub(crate) fn file_name(number: u32) -> String {
    format!("part-{number:05}{}", keys::OBJECT_MARK)
}

/// Who reads which folders of parts, and which of these are to go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<HashMap<PathBuf, Held>>>);

#[derive(Debug, Default)]
struct Held {
    readers: usize,
    removed: bool,
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Held>> {
        self.0.lock()
    }

    fn hold(&self, folder: PathBuf) -> Lease {
        self.lock().entry(folder.clone()).or_default().readers += 1;
        Lease {
            readers: self.clone(),
            folder,
        }
    }

    /// Removes the folder now, or when its last reader is done.
    fn remove(&self, folder: &Path) {
        if let Some(held) = self.lock().get_mut(folder) {
            held.removed = true;
            return;
        }
        remove_folder(folder);
    }
}

fn remove_folder(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %folder.display(), "the parts of a removed object stay");
        }
        _ => {}
    }
}

/// Somebody reads a folder of parts.
#[derive(Debug)]
struct Lease {
    readers: Readers,
    folder: PathBuf,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut all = self.readers.lock();
        let Some(held) = all.get_mut(&self.folder) else {
            return;
        };
        held.readers -= 1;
        if held.readers == 0 {
            let removed = held.removed;
            all.remove(&self.folder);
            drop(all);
            if removed {
                remove_folder(&self.folder);
            }
        }
    }
}

/// The bytes of an object.
#[derive(Debug)]
pub struct Content(Kind);

#[derive(Debug)]
enum Kind {
    /// They begin the object's own file.
    Own(File),
    Parts(PartsReader),
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Own(file) => file.read(buffer),
            Kind::Parts(parts) => parts.read(buffer),
        }
    }
}

impl Seek for Content {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match &mut self.0 {
            Kind::Own(file) => file.seek(to),
            Kind::Parts(parts) => parts.seek(to),
        }
    }
}

/// Reads parts one after the other; one of them is open.
#[derive(Debug)]
struct PartsReader {
    lease: Lease,
    sizes: Vec<(u32, u64)>,
    position: u64,
    /// The index of a part, and its file, which stands where `position` is.
    open: Option<(usize, File)>,
}

impl PartsReader {
    /// The part that `position` is in, and where in it.
    fn place(&self) -> Option<(usize, u64)> {
        let mut start = 0;
        for (index, (_, size)) in self.sizes.iter().enumerate() {
            if self.position < start + size {
                return Some((index, self.position - start));
            }
            start += size;
        }
        None
    }
}

impl Read for PartsReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((index, offset)) = self.place() else {
            return Ok(0);
        };
        let Some((number, size)) = self.sizes.get(index).copied() else {
            return Ok(0);
        };
        let mut file = match self.open.take() {
            Some((open, file)) if open == index => file,
            _ => {
                let mut file = File::open(self.lease.folder.join(file_name(number)))?;
                file.seek(SeekFrom::Start(offset))?;
                file
            }
        };
        // Behind its bytes, a part has a description.
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = file.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        self.position += count as u64;
        self.open = Some((index, file));
        Ok(count)
    }
}

impl Seek for PartsReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let total: u64 = self.sizes.iter().map(|(_, size)| size).sum();
        let (from, by) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(by) => (self.position, by),
            SeekFrom::End(by) => (total, by),
        };
        self.position = from.checked_add_signed(by).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a seek before the beginning")
        })?;
        self.open = None;
        Ok(self.position)
    }
}

impl BlobFolder {
    pub(crate) fn parts_folder(&self, upload: &str) -> PathBuf {
        self.root.join("parts").join(upload)
    }

    /// The bytes of an object whose file was opened just now, under the lock of places.
    pub(crate) fn content(&self, file: File, parts: Option<&Parts>) -> Content {
        Content(match parts {
            None => Kind::Own(file),
            Some(parts) => Kind::Parts(PartsReader {
                lease: self.readers.hold(self.parts_folder(&parts.upload)),
                sizes: parts.sizes.clone(),
                position: 0,
                open: None,
            }),
        })
    }

    /// The parts of the object that is at a place, if it is in parts.
    pub(crate) fn parts_at(place: &Path) -> Option<Parts> {
        object::open(place).ok()?.1.parts
    }

    /// Removes parts that no object names any more.
    pub(crate) fn remove_parts(&self, parts: &Parts) {
        self.readers.remove(&self.parts_folder(&parts.upload));
    }

    /// Gives uploads back that a crash took between the move of their folder and the description of the object.
    pub(crate) fn restore_uploads(&self) -> Result<(), BlobError> {
        let folder = self.root.join("parts");
        for entry in fs::read_dir(&folder).map_err(BlobError::at(&folder))? {
            let entry = entry.map_err(BlobError::at(&folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let upload: Option<Upload> =
                read_json(&entry.path().join("upload.json")).unwrap_or(None);
            let Some(upload) = upload else {
                continue;
            };
            let place = keys::object_path(&self.bucket_path(&upload.bucket), &upload.key).path;
            let is_named = Self::parts_at(&place).is_some_and(|parts| parts.upload == name);
            if !is_named {
                let back = self.uploads().join(&name);
                fs::rename(entry.path(), &back).map_err(BlobError::at(&back))?;
            }
        }
        Ok(())
    }
}
