//! Uploads in parts: each part is a file of its own until the upload is completed or aborted.

use std::fs;
use std::io;
use std::path::PathBuf;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::files::{read_json, write_json};
use crate::s3::parts::file_name;
use crate::s3::{
    Attributes, BlobError, BlobFolder, Draft, Info, Parts, WriteIf, check_key, keys, object,
};

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// 1 to 10,000.
    pub number: u32,
    /// ETag without quotes.
    pub etag: String,
}

/// An upload that is not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) attributes: Attributes,
    pub(crate) begun: jiff::Timestamp,
}

/// S3's limit: all parts but the last have at least so many bytes.
const SMALLEST_PART: u64 = 5 << 20;

/// The number of the part that a file of this name is.
fn part_number(name: &str) -> Option<u32> {
    name.strip_prefix("part-")?
        .strip_suffix(keys::OBJECT_MARK)?
        .parse()
        .ok()
}

impl BlobFolder {
    fn upload_folder(&self, upload: &str) -> Result<PathBuf, BlobError> {
        // Ids are ours; anything else must not become a path.
        if upload.len() == 32 && upload.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(self.uploads().join(upload))
        } else {
            Err(BlobError::NoUpload(upload.to_owned()))
        }
    }

    /// Begins an upload and returns its id.
    ///
    /// # Errors
    /// There is no such bucket, the key is too long, or the folder cannot be written.
    pub fn begin_upload(
        &self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
    ) -> Result<String, BlobError> {
        self.check_bucket(bucket)?;
        check_key(key)?;
        self.expire_uploads(jiff::Timestamp::now());
        let id = uuid::Uuid::new_v4().simple().to_string();
        let folder = self.upload_folder(&id)?;
        let begun = jiff::Timestamp::now();
        let upload = Upload {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            attributes,
            begun,
        };
        fs::create_dir(&folder).map_err(BlobError::at(&folder))?;
        write_json(&folder.join("upload.json"), &upload).map_err(BlobError::at(&folder))?;
        Ok(id)
    }

    /// The upload of this id, if it is of this bucket and key.
    pub(crate) fn upload(
        &self,
        (bucket, key): (&str, &str),
        id: &str,
    ) -> Result<Upload, BlobError> {
        let file = self.upload_folder(id)?.join("upload.json");
        let upload: Option<Upload> = read_json(&file).map_err(BlobError::at(&file))?;
        upload
            .filter(|upload| upload.bucket == bucket && upload.key == key)
            .ok_or_else(|| BlobError::NoUpload(id.to_owned()))
    }

    /// Keeps a draft as a part of an upload; an earlier part of this number is replaced.
    ///
    /// # Errors
    /// There is no such upload, or the folder cannot be written.
    pub fn commit_part(
        &self,
        draft: Draft,
        of: (&str, &str),
        id: &str,
        number: u32,
    ) -> Result<Info, BlobError> {
        self.upload(of, id)?;
        let place = self.part_path(id, number)?;
        let (temporary, info) = draft.finish("", Attributes::default())?;
        match temporary.persist(&place) {
            Ok(_) => Ok(info),
            // Completed or aborted meanwhile.
            Err(error) if error.error.kind() == io::ErrorKind::NotFound => {
                Err(BlobError::NoUpload(id.to_owned()))
            }
            Err(error) => Err(BlobError::at(&place)(error.error)),
        }
    }

    fn part_path(&self, id: &str, number: u32) -> Result<PathBuf, BlobError> {
        Ok(self.upload_folder(id)?.join(file_name(number)))
    }

    /// The parts that were uploaded, by number.
    ///
    /// # Errors
    /// There is no such upload, or it cannot be read.
    pub fn parts(&self, of: (&str, &str), id: &str) -> Result<Vec<(u32, Info)>, BlobError> {
        self.upload(of, id)?;
        let folder = self.upload_folder(id)?;
        let mut parts = Vec::new();
        for entry in fs::read_dir(&folder).map_err(BlobError::at(&folder))? {
            let entry = entry.map_err(BlobError::at(&folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(number) = part_number(&name) {
                let (_, info) =
                    object::open(&entry.path()).map_err(BlobError::at(&entry.path()))?;
                parts.push((number, info));
            }
        }
        parts.sort_by_key(|(number, _)| *number);
        Ok(parts)
    }

    /// Makes the parts the object. Their bytes stay where they are, however many there are. May be repeated.
    ///
    /// # Errors
    /// There is no such upload or part, parts are out of order or too small, the condition does not hold, or the folder
    /// cannot be written.
    pub fn complete_upload(
        &self,
        of: (&str, &str),
        id: &str,
        parts: &[Part],
        condition: &WriteIf,
    ) -> Result<Info, BlobError> {
        let upload = match self.upload(of, id) {
            Err(BlobError::NoUpload(_)) => return self.completed(of, id, parts),
            other => other?,
        };
        if !parts.is_sorted_by(|one, other| one.number < other.number) {
            return Err(BlobError::PartOrder);
        }
        let mut digest = Md5::new();
        let mut sizes = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let place = self.part_path(id, part.number)?;
            let (_, info) = match object::open(&place) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(BlobError::Part(part.number));
                }
                Err(error) => return Err(BlobError::at(&place)(error)),
            };
            if info.etag != part.etag {
                return Err(BlobError::Part(part.number));
            }
            if info.size < SMALLEST_PART && index + 1 < parts.len() {
                return Err(BlobError::PartSize(part.number));
            }
            digest.update(hex::decode(&info.etag).unwrap_or_default());
            sizes.push((part.number, info.size));
        }
        let etag = format!("{}-{}", hex::encode(digest.finalize()), parts.len());
        let mut draft = self.begin()?;
        let upload_id = id.to_owned();
        let kept = Parts {
            upload: upload_id,
            sizes,
        };
        draft.set_parts(kept, etag);
        // Whoever completes it at the same time finds no upload, and then the object.
        let (here, there) = (self.upload_folder(id)?, self.parts_folder(id));
        match fs::rename(&here, &there) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.completed(of, id, parts);
            }
            other => other.map_err(BlobError::at(&there))?,
        }
        let committed = self.commit(draft, of, upload.attributes, condition);
        if committed.is_err() {
            fs::rename(&there, &here).map_err(BlobError::at(&here))?;
            return committed;
        }
        self.drop_other_parts(id, parts);
        committed
    }

    /// The object that an upload became: a client that lost the answer asks again.
    fn completed(
        &self,
        (bucket, key): (&str, &str),
        id: &str,
        parts: &[Part],
    ) -> Result<Info, BlobError> {
        let no_upload = || BlobError::NoUpload(id.to_owned());
        let info = self.head(bucket, key).map_err(|_| no_upload())?;
        let known = info.parts.as_ref().filter(|known| {
            let numbers = known.sizes.iter().map(|(number, _)| *number);
            known.upload == id && numbers.eq(parts.iter().map(|part| part.number))
        });
        known
            .is_some()
            .then_some(info.clone())
            .ok_or_else(no_upload)
    }

    /// Removes parts that were uploaded and are not of the object.
    fn drop_other_parts(&self, id: &str, parts: &[Part]) {
        let folder = self.parts_folder(id);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let number = part_number(&entry.file_name().to_string_lossy());
            let is_other = |number: u32| parts.iter().all(|part| part.number != number);
            if number.is_some_and(is_other)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(%error, file = %entry.path().display(), "a part that nobody wants stays");
            }
        }
    }

    /// Forgets uploads that nobody went on with for a week. Does so at most once an hour.
    pub(crate) fn expire_uploads(&self, now: jiff::Timestamp) {
        const OLD: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);
        const INTERVAL: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
        {
            let mut expired_at = self.expired_at.lock();
            if expired_at.is_some_and(|at| now.duration_since(at) < INTERVAL) {
                return;
            }
            *expired_at = Some(now);
        }
        for entry in fs::read_dir(self.uploads()).into_iter().flatten().flatten() {
            // A part that comes changes its folder.
            let changed = entry.metadata().and_then(|found| found.modified());
            let changed = changed
                .ok()
                .and_then(|at| jiff::Timestamp::try_from(at).ok());
            if changed.is_some_and(|at| now.duration_since(at) > OLD)
                && self
                    .upload_folder(&entry.file_name().to_string_lossy())
                    .is_ok()
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(%error, folder = %entry.path().display(), "an old upload stays");
            }
        }
    }

    /// Forgets an upload and its parts.
    ///
    /// # Errors
    /// There is no such upload, or the folder cannot be written.
    pub fn abort_upload(&self, of: (&str, &str), id: &str) -> Result<(), BlobError> {
        self.upload(of, id)?;
        let folder = self.upload_folder(id)?;
        fs::remove_dir_all(&folder).map_err(BlobError::at(&folder))
    }

    /// The uploads of a bucket that are not complete: id and upload, by key.
    pub(crate) fn pending_uploads(&self, bucket: &str) -> Result<Vec<(String, Upload)>, BlobError> {
        self.check_bucket(bucket)?;
        let folder = self.uploads();
        let mut uploads = Vec::new();
        for entry in fs::read_dir(&folder).map_err(BlobError::at(&folder))? {
            let entry = entry.map_err(BlobError::at(&folder))?;
            let file = entry.path().join("upload.json");
            // What is no upload was put there by others.
            let upload: Option<Upload> = read_json(&file).unwrap_or(None);
            if let Some(upload) = upload.filter(|upload| upload.bucket == bucket) {
                uploads.push((entry.file_name().to_string_lossy().into_owned(), upload));
            }
        }
        uploads.sort_by(|one, other| (&one.1.key, &one.0).cmp(&(&other.1.key, &other.0)));
        Ok(uploads)
    }
}
