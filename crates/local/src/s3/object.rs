//! An object as one file: bytes, description, length of the description, mark.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::s3::{Attributes, BlobError, Parts};

/// The end of every object file.
const MARK: &[u8; 8] = b"FLYTEOB1";
/// Length field and mark.
const TAIL: u64 = 4 + MARK.len() as u64;

/// What is known about an object besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The key; empty for a part of an upload.
    pub key: String,
    /// Length of the object in bytes.
    pub size: u64,
    /// ETag without quotes: the MD5 of the bytes in hex, or that of the parts' MD5s, `-` and their number.
    pub etag: String,
    /// When the object was written.
    pub modified: jiff::Timestamp,
    /// Headers that were sent with it, and are sent back: content type, user metadata and their like.
    pub attributes: Attributes,
    /// Checksums that were verified when it was written, base64 by algorithm in lower case.
    #[serde(default)]
    pub checksums: std::collections::BTreeMap<String, String>,
    /// Where its bytes are, if they came in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
}

/// An object that is being written, invisible so far.
#[derive(Debug)]
pub struct Draft {
    file: NamedTempFile,
    md5: Md5,
    size: u64,
    etag: Option<String>,
    checksums: std::collections::BTreeMap<String, String>,
    parts: Option<Parts>,
}

impl Draft {
    pub(crate) fn new(folder: &Path) -> Result<Self, BlobError> {
        let file = NamedTempFile::new_in(folder).map_err(BlobError::at(folder))?;
        Ok(Self {
            file,
            md5: Md5::new(),
            size: 0,
            etag: None,
            checksums: std::collections::BTreeMap::new(),
            parts: None,
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.md5.update(bytes);
        self.size += bytes.len() as u64;
        let place = self.file.path().to_owned();
        self.file.write_all(bytes).map_err(BlobError::at(&place))
    }

    /// Adds a range of another file.
    pub(crate) fn copy_from(
        &mut self,
        mut from: impl Read + Seek,
        range: Range<u64>,
    ) -> Result<(), BlobError> {
        const CHUNK: usize = 1 << 20;
        let place = self.file.path().to_owned();
        from.seek(SeekFrom::Start(range.start))
            .map_err(BlobError::at(&place))?;
        let mut left = range.end.saturating_sub(range.start);
        let mut buffer = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        while left > 0 {
            let wanted = usize::try_from(left)
                .unwrap_or(buffer.len())
                .min(buffer.len());
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            from.read_exact(chunk).map_err(BlobError::at(&place))?;
            left -= wanted as u64;
            let chunk = buffer.get(..wanted).unwrap_or_default();
            self.write(chunk)?;
        }
        Ok(())
    }

    /// The MD5 of what was written so far.
    #[must_use]
    pub fn md5(&self) -> [u8; 16] {
        self.md5.clone().finalize().into()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes the object one whose bytes are elsewhere; its ETag is not their MD5.
    pub(crate) fn set_parts(&mut self, parts: Parts, etag: String) {
        self.size = parts.sizes.iter().map(|(_, size)| size).sum();
        self.etag = Some(etag);
        self.parts = Some(parts);
    }

    /// Keeps checksums that were verified.
    pub(crate) fn set_checksums(&mut self, checksums: std::collections::BTreeMap<String, String>) {
        self.checksums = checksums;
    }

    /// Adds the description and brings everything to the disk; the file has no place yet.
    pub(crate) fn finish(
        mut self,
        key: &str,
        attributes: Attributes,
    ) -> Result<(NamedTempFile, Info), BlobError> {
        let md5 = hex::encode(self.md5());
        let info = Info {
            key: key.to_owned(),
            size: self.size,
            etag: self.etag.unwrap_or(md5),
            modified: jiff::Timestamp::now(),
            attributes,
            checksums: self.checksums,
            parts: self.parts,
        };
        let place = self.file.path().to_owned();
        let mut end = serde_json::to_vec(&info)
            .map_err(|error| BlobError::at(&place)(io::Error::other(error)))?;
        let length = u32::try_from(end.len())
            .map_err(|error| BlobError::at(&place)(io::Error::other(error)))?;
        end.extend_from_slice(&length.to_le_bytes());
        end.extend_from_slice(MARK);
        self.file
            .write_all(&end)
            .and_then(|()| self.file.as_file().sync_all())
            .map_err(BlobError::at(&place))?;
        Ok((self.file, info))
    }
}

/// Opens an object file and reads its description; the file stands at its first byte.
pub(crate) fn open(place: &Path) -> io::Result<(File, Info)> {
    let damaged = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is not an object: its end is damaged",
        )
    };
    let mut file = File::open(place)?;
    let length = file.metadata()?.len();
    let tail_start = length.checked_sub(TAIL).ok_or_else(damaged)?;
    file.seek(SeekFrom::Start(tail_start))?;
    let mut size = [0; 4];
    let mut mark = [0; MARK.len()];
    file.read_exact(&mut size)?;
    file.read_exact(&mut mark)?;
    if &mark != MARK {
        return Err(damaged());
    }
    let described = u32::from_le_bytes(size);
    let start = tail_start
        .checked_sub(u64::from(described))
        .ok_or_else(damaged)?;
    file.seek(SeekFrom::Start(start))?;
    let mut json = vec![0; described as usize];
    file.read_exact(&mut json)?;
    let info: Info = serde_json::from_slice(&json).map_err(|_| damaged())?;
    let own = if info.parts.is_some() { 0 } else { info.size };
    if own != start {
        return Err(damaged());
    }
    file.rewind()?;
    Ok((file, info))
}
