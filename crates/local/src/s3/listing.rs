//! Lists: keys in the order of their bytes, found by walking folders, each read once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::s3::{BlobError, BlobFolder, Info, keys, object};

/// What a list asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys that begin so.
    pub prefix: String,
    /// Keys that have this after the prefix are listed as one common prefix, up to it. Empty: none.
    pub delimiter: String,
    /// Only keys and common prefixes after this one.
    pub after: String,
    /// At most so many keys and common prefixes together.
    pub limit: usize,
}

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects, in order of their keys.
    pub objects: Vec<Info>,
    /// The common prefixes, in order.
    pub prefixes: Vec<String>,
    /// Where the next page begins (its `after`), if there is more.
    pub next: Option<String>,
}

impl BlobFolder {
    /// Lists objects of a bucket.
    ///
    /// # Errors
    /// There is no such bucket, or it cannot be read.
    pub fn list(&self, bucket: &str, request: &ListRequest) -> Result<Page, BlobError> {
        self.check_bucket(bucket)?;
        let mut walk = Walk::new(
            &self.bucket_path(bucket),
            request.prefix.clone(),
            request.after.clone(),
        )?;
        let mut page = Page::default();
        let mut last = String::new();
        while let Some((key, place)) = walk.next_key()? {
            let common = common_prefix(&key, request);
            let token = common.as_ref().unwrap_or(&key);
            // A page may have ended with this prefix.
            if common.is_some() && *token <= request.after {
                walk.skip(token);
                continue;
            }
            if page.objects.len() + page.prefixes.len() >= request.limit {
                page.next = Some(last);
                break;
            }
            token.clone_into(&mut last);
            match common {
                Some(prefix) => {
                    walk.skip(&prefix);
                    page.prefixes.push(prefix);
                }
                None => match object::open(&place) {
                    Ok((_, info)) => page.objects.push(Info { key, ..info }),
                    // Deleted since its folder was read, or no object of ours.
                    Err(error) if is_foreign(&error) => {}
                    Err(error) => return Err(BlobError::at(&place)(error)),
                },
            }
        }
        Ok(page)
    }
}

/// Whether a file is none of ours, or none any more.
fn is_foreign(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::NotADirectory
    )
}

fn common_prefix(key: &str, request: &ListRequest) -> Option<String> {
    if request.delimiter.is_empty() {
        return None;
    }
    let rest = key.strip_prefix(&request.prefix)?;
    let end = rest.find(&request.delimiter)?;
    let length = request.prefix.len() + end + request.delimiter.len();
    key.get(..length).map(str::to_owned)
}

/// An entry of a folder: an object's key, or the beginning, up to `/`, of all keys in a folder. In this form the order of
/// entries is the order of the keys below them.
struct Entry {
    key: String,
    place: PathBuf,
    is_folder: bool,
}

struct Walk {
    prefix: String,
    after: String,
    /// For each open folder, what is left of it, last first.
    open: Vec<Vec<Entry>>,
    skipped: Option<String>,
}

impl Walk {
    fn new(bucket: &Path, prefix: String, after: String) -> Result<Self, BlobError> {
        let mut walk = Self {
            prefix,
            after,
            open: Vec::new(),
            skipped: None,
        };
        walk.enter(bucket, "")?;
        Ok(walk)
    }

    /// Passes over all keys that begin so.
    fn skip(&mut self, prefix: &str) {
        self.skipped = Some(prefix.to_owned());
    }

    fn enter(&mut self, folder: &Path, start: &str) -> Result<(), BlobError> {
        let mut entries = Vec::new();
        let found = match fs::read_dir(folder) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(BlobError::at(folder)(error)),
        };
        for entry in found {
            let entry = entry.map_err(BlobError::at(folder))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let place = entry.path();
            let (encoded, is_folder) = match name.strip_suffix(keys::OBJECT_MARK) {
                Some(encoded) => (encoded, false),
                None => (name.as_str(), true),
            };
            // Files that others put there, and names that no key has, are not listed.
            let kind = entry.file_type().map_err(BlobError::at(&place))?;
            let is_ours = kind.is_dir() == is_folder
                && (keys::is_hashed(encoded) || keys::encode(&keys::decode(encoded)) == encoded);
            if name == keys::NAME_FILE || !is_ours {
                continue;
            }
            let part = match (keys::is_hashed(encoded), is_folder) {
                (false, _) => keys::decode(encoded),
                (true, true) => match fs::read_to_string(place.join(keys::NAME_FILE)) {
                    Ok(part) => part,
                    Err(error) if is_foreign(&error) => continue,
                    Err(error) => return Err(BlobError::at(&place)(error)),
                },
                (true, false) => match object::open(&place) {
                    Ok((_, info)) => info.key.rsplit('/').next().unwrap_or_default().to_owned(),
                    Err(error) if is_foreign(&error) => continue,
                    Err(error) => return Err(BlobError::at(&place)(error)),
                },
            };
            let key = if is_folder {
                format!("{start}{part}/")
            } else {
                format!("{start}{part}")
            };
            if self.may_hold(&key, is_folder) {
                entries.push(Entry {
                    key,
                    place,
                    is_folder,
                });
            }
        }
        entries.sort_by(|one, other| other.key.cmp(&one.key));
        self.open.push(entries);
        Ok(())
    }

    /// Whether the entry is, or may contain, what is wanted.
    fn may_hold(&self, key: &str, is_folder: bool) -> bool {
        if is_folder {
            let towards_prefix = key.starts_with(&self.prefix) || self.prefix.starts_with(key);
            // Keys in the folder all begin with `key`: all are before `after` unless that begins so too.
            towards_prefix && (*key > *self.after || self.after.starts_with(key))
        } else {
            key.starts_with(&self.prefix) && *key > *self.after
        }
    }

    fn next_key(&mut self) -> Result<Option<(String, PathBuf)>, BlobError> {
        while let Some(entries) = self.open.last_mut() {
            let Some(entry) = entries.pop() else {
                self.open.pop();
                continue;
            };
            if self
                .skipped
                .as_ref()
                .is_some_and(|skipped| entry.key.starts_with(skipped))
            {
                continue;
            }
            if entry.is_folder {
                self.enter(&entry.place, &entry.key)?;
            } else {
                return Ok(Some((entry.key, entry.place)));
            }
        }
        Ok(None)
    }
}
