//! Between S3's types and ours: errors, times, texts of lists.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, CopySource, ETag, EncodingType, Object, ObjectStorageClass, StreamingBlob,
    Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::arriving::Late;
use crate::s3::{BlobError, Content, Info, Page};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// S3's limit on a page.
const PAGE: i32 = 1000;

impl From<BlobError> for S3Error {
    fn from(error: BlobError) -> Self {
        let code = match &error {
            BlobError::NoBucket(_) => S3ErrorCode::NoSuchBucket,
            BlobError::NoObject(_) => S3ErrorCode::NoSuchKey,
            BlobError::NoUpload(_) => S3ErrorCode::NoSuchUpload,
            BlobError::BucketNotEmpty(_) => S3ErrorCode::BucketNotEmpty,
            BlobError::BucketName(_) => S3ErrorCode::InvalidBucketName,
            BlobError::KeyLength(_) => S3ErrorCode::KeyTooLongError,
            BlobError::Condition(_) => S3ErrorCode::PreconditionFailed,
            BlobError::Part(_) => S3ErrorCode::InvalidPart,
            BlobError::PartOrder => S3ErrorCode::InvalidPartOrder,
            BlobError::PartSize(_) => S3ErrorCode::EntityTooSmall,
            BlobError::Folder { place, source } => {
                tracing::error!(place = %place.display(), error = %source, "the blob folder cannot be used");
                let message = if source.kind() == std::io::ErrorKind::StorageFull {
                    "no space is left on the disk that holds the bucket"
                } else {
                    "the blob folder cannot be used"
                };
                return Self::with_message(S3ErrorCode::InternalError, message);
            }
        };
        Self::with_message(code, error.to_string())
    }
}

/// A body that ended early, or is not what its signature says.
pub(crate) fn broken_body(error: &(dyn std::error::Error + Send + Sync + 'static)) -> S3Error {
    if let Some(late) = Late::find(error) {
        return S3Error::with_message(S3ErrorCode::RequestTimeout, late.to_string());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    let code = if text.contains("SignatureMismatch") {
        S3ErrorCode::SignatureDoesNotMatch
    } else if text.contains("Sha256Mismatch") {
        S3ErrorCode::BadDigest
    } else {
        S3ErrorCode::IncompleteBody
    };
    S3Error::with_message(code, text)
}

pub(crate) fn etag(info: &Info) -> ETag {
    ETag::Strong(info.etag.clone())
}

pub(crate) fn time(at: jiff::Timestamp) -> Timestamp {
    let micros = u64::try_from(at.as_microsecond()).unwrap_or(0);
    (SystemTime::UNIX_EPOCH + Duration::from_micros(micros)).into()
}

/// `Content-Encoding` without that of the transfer.
pub(crate) fn own_encoding(given: Option<String>) -> Option<String> {
    let kept: Vec<String> = given?
        .split(',')
        .map(|coding| coding.trim().to_owned())
        .filter(|coding| coding != "aws-chunked" && !coding.is_empty())
        .collect();
    if kept.is_empty() {
        None
    } else {
        Some(kept.join(","))
    }
}

pub(crate) fn metadata(given: Option<s3s::dto::Metadata>) -> BTreeMap<String, String> {
    given
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect()
}

pub(crate) fn body_of(file: Content, range: Range<u64>) -> StreamingBlob {
    let parts = stream::try_unfold(
        (file, range.start, range.end),
        |(mut file, start, end)| async move {
            if start >= end {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || {
                let wanted = usize::try_from(end - start).unwrap_or(CHUNK).min(CHUNK);
                let mut buffer = vec![0; wanted];
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut buffer)?;
                Ok::<_, std::io::Error>((Bytes::from(buffer), file))
            });
            let (bytes, file) = read.await.map_err(std::io::Error::other)??;
            let next = start + bytes.len() as u64;
            Ok::<_, std::io::Error>(Some((bytes, (file, next, end))))
        },
    );
    StreamingBlob::wrap(parts)
}

/// What S3 leaves as it is when it encodes keys for XML.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b'/');

/// Texts of a list, encoded if the client asks so.
pub(crate) struct Texts(bool);

impl Texts {
    pub(crate) fn of(encoding: Option<&EncodingType>) -> Self {
        Self(encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL))
    }

    pub(crate) fn text(&self, text: &str) -> String {
        if self.0 {
            utf8_percent_encode(text, KEPT).to_string()
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn optional(&self, text: Option<&String>) -> Option<String> {
        text.map(|text| self.text(text))
    }

    pub(crate) fn objects(&self, page: &Page) -> Vec<Object> {
        let objects = page.objects.iter().map(|info| Object {
            key: Some(self.text(&info.key)),
            e_tag: Some(etag(info)),
            size: i64::try_from(info.size).ok(),
            last_modified: Some(time(info.modified)),
            storage_class: Some(ObjectStorageClass::from_static(
                ObjectStorageClass::STANDARD,
            )),
            ..Object::default()
        });
        objects.collect()
    }

    pub(crate) fn prefixes(&self, page: &Page) -> Vec<CommonPrefix> {
        page.prefixes
            .iter()
            .map(|prefix| CommonPrefix {
                prefix: Some(self.text(prefix)),
            })
            .collect()
    }

    pub(crate) fn encoding(&self) -> Option<EncodingType> {
        self.0.then(|| EncodingType::from_static(EncodingType::URL))
    }
}

pub(crate) fn limit(asked: Option<i32>) -> S3Result<(i32, usize)> {
    let limit = asked.unwrap_or(PAGE).min(PAGE);
    let number = usize::try_from(limit).map_err(|_| S3Error::new(S3ErrorCode::InvalidArgument))?;
    Ok((limit, number))
}

pub(crate) fn source(given: &CopySource) -> S3Result<(String, String)> {
    match given {
        CopySource::Bucket {
            bucket,
            key,
            version_id,
        } => {
            check_version(version_id.as_deref())?;
            Ok((bucket.to_string(), key.to_string()))
        }
        _ => Err(S3Error::with_message(
            S3ErrorCode::NotImplemented,
            "copies from access points",
        )),
    }
}

/// Buckets keep one version of an object, which S3 calls `null`.
pub(crate) fn check_version(given: Option<&str>) -> S3Result<()> {
    match given {
        None | Some("" | "null") => Ok(()),
        Some(_) => Err(S3Error::with_message(
            S3ErrorCode::InvalidArgument,
            "Invalid version id specified",
        )),
    }
}

pub(crate) fn part_number(given: i32) -> S3Result<u32> {
    const MOST: u32 = 10_000;
    u32::try_from(given)
        .ok()
        .filter(|number| (1..=MOST).contains(number))
        .ok_or_else(|| {
            S3Error::with_message(
                S3ErrorCode::InvalidArgument,
                "Part number must be an integer between 1 and 10000",
            )
        })
}
