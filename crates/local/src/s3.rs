//! Blobs in a folder, with two faces over one store: an [`object_store::ObjectStore`] for services in this process and an
//! S3 endpoint for task processes and clients.
//!
//! ```text
//! <folder>/buckets/<bucket>/<segment>/<segment>/<last segment>%o   objects
//! <folder>/uploads/<upload id>/upload.json, part-<number>%o        multipart uploads that are not complete
//! <folder>/parts/<upload id>/upload.json, part-<number>%o          the bytes of objects that came in parts
//! <folder>/temporary/                                              what is being written
//! ```
//!
//! An object is one file: its bytes, then its description (key, ETag, headers) as JSON, the length of that and a mark. So an
//! object appears with all it has in one rename, whatever the file system. How keys become file names is in
//! [`keys`]. A write is a temporary file, fsync, rename, fsync of the folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use flyte_platform::sync::Mutex;
use serde::{Deserialize, Serialize};

use folders::NewFolders;

mod checks;
mod conditions;
mod endpoint;
mod folders;
mod keys;
mod listing;
mod messages;
mod multipart;
mod object;
mod parts;
mod service;
mod store;
mod whole;
mod wire;

pub use listing::{ListRequest, Page};
pub use multipart::Part;
pub use object::{Draft, Info};
pub use parts::{Content, Parts};
pub use service::{Credentials, S3Endpoint};
pub use store::BlobBucket;

/// Headers that an object keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without the transfer's own `aws-chunked`.
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// User metadata, by lower-case name without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
}

/// When a write is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WriteIf {
    /// Whatever is there.
    #[default]
    Always,
    /// Nothing is there.
    Absent,
    /// An object with this ETag is there.
    Matches(String),
    /// Any object is there.
    Present,
}

/// What an object must be to be deleted; a member that is none is not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteIf {
    /// Any object must be there.
    pub present: bool,
    /// Its ETag, without quotes.
    pub etag: Option<String>,
    /// Delete only if the object has this many bytes.
    pub size: Option<u64>,
    /// When it was written, in seconds since the epoch.
    pub modified: Option<i64>,
}

impl DeleteIf {
    fn check(&self, place: &Path, key: &str) -> Result<(), BlobError> {
        if *self == Self::default() {
            return Ok(());
        }
        let is = |info: &Info| {
            self.etag.as_ref().is_none_or(|etag| *etag == info.etag)
                && self.size.is_none_or(|size| size == info.size)
                && self
                    .modified
                    .is_none_or(|seconds| seconds == info.modified.as_second())
        };
        if object::open(place).is_ok_and(|(_, info)| is(&info)) {
            Ok(())
        } else {
            Err(BlobError::Condition(key.to_owned()))
        }
    }
}

/// What a blob operation failed by.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such bucket.
    #[error("there is no bucket {0:?}")]
    NoBucket(String),
    /// There is no such object.
    #[error("there is no object {0:?}")]
    NoObject(String),
    /// There is no such multipart upload.
    #[error("there is no upload {0:?}")]
    NoUpload(String),
    /// A bucket that still has objects.
    #[error("the bucket {0:?} is not empty")]
    BucketNotEmpty(String),
    /// A name that no bucket can have.
    #[error("{0:?} is not a name of a bucket: 3 to 63 letters a-z, digits, '-' and '.'")]
    BucketName(String),
    /// A key longer than S3 allows.
    #[error("the key has {0} bytes; 1 to 1024 are allowed")]
    KeyLength(usize),
    /// The condition of a write does not hold.
    #[error("the object {0:?} is not as the request expects it")]
    Condition(String),
    /// A part that was not uploaded, or is another than the request says.
    #[error("part {0} was not uploaded, or with another ETag")]
    Part(u32),
    /// Parts in the wrong order.
    #[error("the parts are not in ascending order")]
    PartOrder,
    /// A part other than the last one is too small.
    #[error("part {0} is smaller than 5 MiB and not the last one")]
    PartSize(u32),
    /// The folder cannot be read or written.
    #[error("the blob folder cannot be used at {}", place.display())]
    Folder {
        /// The file or folder.
        place: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
}

impl BlobError {
    pub(crate) fn at(place: &Path) -> impl FnOnce(io::Error) -> Self {
        let place = place.to_owned();
        move |source| Self::Folder { place, source }
    }
}

/// Blobs in a folder. Its functions block; faces run them on threads for that.
#[derive(Debug)]
pub struct BlobFolder {
    root: PathBuf,
    /// Held while an object takes its place or goes, so that conditions hold and folders do not vanish in between.
    places: Mutex<()>,
    new_folders: NewFolders,
    readers: parts::Readers,
    /// When unfinished uploads were last expired.
    expired_at: Mutex<Option<jiff::Timestamp>>,
}

impl BlobFolder {
    /// Opens the folder, making it if it is missing, and clears what an earlier life left half-written.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn open(root: &Path) -> Result<Self, BlobError> {
        for name in ["buckets", "uploads", "parts"] {
            let place = root.join(name);
            fs::create_dir_all(&place).map_err(BlobError::at(&place))?;
        }
        let temporary = root.join("temporary");
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BlobError::at(&temporary)(error));
            }
            _ => {}
        }
        fs::create_dir_all(&temporary).map_err(BlobError::at(&temporary))?;
        let folder = Self {
            root: root.to_owned(),
            places: Mutex::new(()),
            new_folders: NewFolders::default(),
            readers: parts::Readers::default(),
            expired_at: Mutex::new(None),
        };
        folder.restore_uploads()?;
        folder.expire_uploads(jiff::Timestamp::now());
        Ok(folder)
    }

    pub(crate) fn bucket_path(&self, bucket: &str) -> PathBuf {
        self.root.join("buckets").join(bucket)
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.places.lock()
    }

    /// The lock, with a folder that is there. It is made before the lock is taken: a key may have a thousand folders, and each
    /// costs a sync, for which the other writers need not wait.
    fn lock_with(&self, folder: &Path) -> Result<MutexGuard<'_, ()>, BlobError> {
        loop {
            self.new_folders.make(folder)?;
            let guard = self.lock();
            if folder.is_dir() {
                return Ok(guard);
            }
            // It went with the last object in it.
        }
    }

    /// Makes a bucket; says whether it is new.
    ///
    /// # Errors
    /// The name is not allowed, or the folder cannot be written.
    pub fn create_bucket(&self, bucket: &str) -> Result<bool, BlobError> {
        if !is_bucket_name(bucket) {
            return Err(BlobError::BucketName(bucket.to_owned()));
        }
        let place = self.bucket_path(bucket);
        match fs::create_dir(&place) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(BlobError::at(&place)(error)),
        }
    }

    /// The buckets and when they were made.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn buckets(&self) -> Result<Vec<(String, jiff::Timestamp)>, BlobError> {
        let place = self.root.join("buckets");
        let mut buckets = Vec::new();
        for entry in fs::read_dir(&place).map_err(BlobError::at(&place))? {
            let entry = entry.map_err(BlobError::at(&place))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let found = entry.metadata().map_err(BlobError::at(&place))?;
            // Files of others, such as those of a file manager, are no buckets.
            if !found.is_dir() || !is_bucket_name(&name) {
                continue;
            }
            let made = found.modified().map_err(BlobError::at(&place))?;
            let made = jiff::Timestamp::try_from(made).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            buckets.push((name, made));
        }
        buckets.sort();
        Ok(buckets)
    }

    /// Fails if the bucket is not there.
    ///
    /// # Errors
    /// There is no such bucket.
    pub fn check_bucket(&self, bucket: &str) -> Result<(), BlobError> {
        if is_bucket_name(bucket) && self.bucket_path(bucket).is_dir() {
            Ok(())
        } else {
            Err(BlobError::NoBucket(bucket.to_owned()))
        }
    }

    /// Removes an empty bucket.
    ///
    /// # Errors
    /// There is no such bucket, or it has objects.
    pub fn delete_bucket(&self, bucket: &str) -> Result<(), BlobError> {
        self.check_bucket(bucket)?;
        let place = self.bucket_path(bucket);
        let _guard = self.lock();
        match fs::remove_dir(&place) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                Err(BlobError::BucketNotEmpty(bucket.to_owned()))
            }
            Err(error) => Err(BlobError::at(&place)(error)),
        }
    }

    /// Begins to write an object; nothing is visible before [`Self::commit`].
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn begin(&self) -> Result<Draft, BlobError> {
        Draft::new(&self.root.join("temporary"))
    }

    /// Gives a finished draft its place. When this returns, the object is on the disk.
    ///
    /// # Errors
    /// There is no such bucket, the key is too long, the condition does not hold, or the folder cannot be written.
    pub fn commit(
        &self,
        draft: Draft,
        (bucket, key): (&str, &str),
        attributes: Attributes,
        condition: &WriteIf,
    ) -> Result<Info, BlobError> {
        self.check_bucket(bucket)?;
        check_key(key)?;
        let place = keys::object_path(&self.bucket_path(bucket), key);
        let (temporary, info) = draft.finish(key, attributes)?;
        let folder = place
            .path
            .parent()
            .map_or_else(|| self.root.clone(), Path::to_owned);
        {
            // Nothing is made for a write that is refused.
            check_condition(&place.path, key, condition)?;
            let _guard = self.lock_with(&folder)?;
            if let Err(refused) = check_condition(&place.path, key, condition) {
                keys::prune(&self.bucket_path(bucket), &place.path);
                return Err(refused);
            }
            let before = Self::parts_at(&place.path);
            for (named, name) in &place.long_names {
                if !named.exists() {
                    fs::write(named, name).map_err(BlobError::at(named))?;
                }
            }
            temporary
                .persist(&place.path)
                .map_err(|error| BlobError::at(&place.path)(error.error))?;
            if let Some(before) = before
                && info.parts.as_ref() != Some(&before)
            {
                self.remove_parts(&before);
            }
        }
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(BlobError::at(&folder))?;
        Ok(info)
    }

    /// Opens an object for reading. Its bytes are the first [`Info::size`] of the content.
    ///
    /// # Errors
    /// There is no such bucket or object, or it cannot be read.
    pub fn open_object(&self, bucket: &str, key: &str) -> Result<(Content, Info), BlobError> {
        self.check_bucket(bucket)?;
        check_key(key)?;
        let place = keys::object_path(&self.bucket_path(bucket), key).path;
        // Parts must not go between reading the description and holding them.
        let _guard = self.lock();
        match object::open(&place) {
            Ok((file, info)) => Ok((self.content(file, info.parts.as_ref()), info)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Err(BlobError::NoObject(key.to_owned()))
            }
            Err(error) => Err(BlobError::at(&place)(error)),
        }
    }

    /// What is known about an object.
    ///
    /// # Errors
    /// As [`Self::open_object`].
    pub fn head(&self, bucket: &str, key: &str) -> Result<Info, BlobError> {
        self.open_object(bucket, key).map(|(_, info)| info)
    }

    /// Removes an object; says whether it was there.
    ///
    /// # Errors
    /// There is no such bucket, or the folder cannot be written.
    pub fn delete(&self, bucket: &str, key: &str) -> Result<bool, BlobError> {
        self.delete_if(bucket, key, &DeleteIf::default())
    }

    /// Removes an object that is as the caller expects it; says whether it was there.
    ///
    /// # Errors
    /// As [`Self::delete`], and the object is another, or is not there although one is expected.
    pub fn delete_if(
        &self,
        bucket: &str,
        key: &str,
        condition: &DeleteIf,
    ) -> Result<bool, BlobError> {
        self.check_bucket(bucket)?;
        check_key(key)?;
        let bucket = self.bucket_path(bucket);
        let place = keys::object_path(&bucket, key).path;
        let _guard = self.lock();
        condition.check(&place, key)?;
        let parts = Self::parts_at(&place);
        match fs::remove_file(&place) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(BlobError::at(&place)(error)),
        }
        if let Some(parts) = parts {
            self.remove_parts(&parts);
        }
        keys::prune(&bucket, &place);
        Ok(true)
    }

    /// Copies an object, with its own attributes or others.
    ///
    /// # Errors
    /// As reading the one and writing the other.
    pub fn copy(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        attributes: Option<Attributes>,
        condition: &WriteIf,
    ) -> Result<Info, BlobError> {
        let (file, info) = self.open_object(from.0, from.1)?;
        let mut draft = self.begin()?;
        draft.copy_from(file, 0..info.size)?;
        self.commit(draft, to, attributes.unwrap_or(info.attributes), condition)
    }
}

fn check_condition(place: &Path, key: &str, condition: &WriteIf) -> Result<(), BlobError> {
    let holds = match condition {
        WriteIf::Always => true,
        WriteIf::Absent => !place.exists(),
        WriteIf::Present => place.exists(),
        WriteIf::Matches(etag) => {
            if !place.exists() {
                return Err(BlobError::NoObject(key.to_owned()));
            }
            let (_, info) = object::open(place).map_err(BlobError::at(place))?;
            info.etag == *etag
        }
    };
    if holds {
        Ok(())
    } else {
        Err(BlobError::Condition(key.to_owned()))
    }
}

/// Checks the length of a key; any text is a key.
fn check_key(key: &str) -> Result<(), BlobError> {
    const LONGEST: usize = 1024;
    if key.is_empty() || key.len() > LONGEST {
        Err(BlobError::KeyLength(key.len()))
    } else {
        Ok(())
    }
}

fn is_bucket_name(name: &str) -> bool {
    let inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    let edge = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (3..=63).contains(&name.len())
        && name.bytes().all(inner)
        && edge(name.as_bytes().first())
        && edge(name.as_bytes().last())
        && !name.contains("..")
}
