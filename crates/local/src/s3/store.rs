//! The face for services of this process: a bucket of the folder as an [`ObjectStore`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResult,
    GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::s3::{
    Attributes, BlobError, BlobFolder, Content, Draft, Info, ListRequest, Part, WriteIf,
};

const NAME: &str = "BlobFolder";
const PAGE: usize = 1000;

/// One bucket of a [`BlobFolder`], for services of this process. What it writes, the S3 endpoint serves.
#[derive(Debug, Clone)]
pub struct BlobBucket {
    folder: Arc<BlobFolder>,
    bucket: String,
}

impl BlobBucket {
    /// A bucket, which has to exist when it is used.
    #[must_use]
    pub fn new(folder: Arc<BlobFolder>, bucket: impl Into<String>) -> Self {
        Self {
            folder,
            bucket: bucket.into(),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        location: &str,
        work: impl FnOnce(&BlobFolder, &str) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T> {
        let (folder, bucket) = (self.folder.clone(), self.bucket.clone());
        let done = tokio::task::spawn_blocking(move || work(&folder, &bucket)).await?;
        done.map_err(|error| store_error(error, location))
    }

    fn pages(&self, prefix: Option<&Path>, after: &str) -> BoxStream<'static, Result<ObjectMeta>> {
        let bucket = self.clone();
        let prefix = below(prefix);
        let pages = stream::try_unfold(Some(after.to_owned()), move |after| {
            let (bucket, prefix) = (bucket.clone(), prefix.clone());
            async move {
                let Some(after) = after else {
                    return Ok::<_, Error>(None);
                };
                let request = ListRequest {
                    prefix: prefix.clone(),
                    delimiter: String::new(),
                    after,
                    limit: PAGE,
                };
                let page = bucket
                    .blocking(&prefix, move |folder, bucket| folder.list(bucket, &request))
                    .await?;
                Ok(Some((
                    stream::iter(
                        page.objects
                            .into_iter()
                            .filter_map(|info| meta_if_nameable(&info))
                            .map(Ok),
                    ),
                    page.next,
                )))
            }
        });
        pages.try_flatten().boxed()
    }
}

impl fmt::Display for BlobBucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{NAME}({})", self.bucket)
    }
}

/// The beginning of all keys in a folder; `object_store` knows only whole parts.
fn below(prefix: Option<&Path>) -> String {
    match prefix.map(AsRef::<str>::as_ref) {
        None | Some("") => String::new(),
        Some(prefix) => format!("{prefix}/"),
    }
}

fn store_error(error: BlobError, location: &str) -> Error {
    let path = location.to_owned();
    match error {
        BlobError::NoObject(_) | BlobError::NoBucket(_) | BlobError::NoUpload(_) => {
            Error::NotFound {
                path,
                source: Box::new(error),
            }
        }
        BlobError::Condition(_) => Error::Precondition {
            path,
            source: Box::new(error),
        },
        other => Error::Generic {
            store: NAME,
            source: Box::new(other),
        },
    }
}

fn meta(info: &Info, location: Path) -> ObjectMeta {
    let micros = u64::try_from(info.modified.as_microsecond()).unwrap_or(0);
    let modified = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(micros);
    ObjectMeta {
        location,
        last_modified: modified.into(),
        size: info.size,
        e_tag: Some(quoted(&info.etag)),
        version: None,
    }
}

/// Keys that `object_store` cannot name, such as `a//b`, are left out of its lists.
fn meta_if_nameable(info: &Info) -> Option<ObjectMeta> {
    let location = Path::parse(&info.key).ok()?;
    Some(meta(info, location))
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn to_attributes(given: &object_store::Attributes) -> Attributes {
    let mut attributes = Attributes::default();
    for (name, value) in given {
        let value = value.as_ref().to_owned();
        match name {
            Attribute::ContentType => attributes.content_type = Some(value),
            Attribute::ContentEncoding => attributes.content_encoding = Some(value),
            Attribute::ContentDisposition => attributes.content_disposition = Some(value),
            Attribute::ContentLanguage => attributes.content_language = Some(value),
            Attribute::CacheControl => attributes.cache_control = Some(value),
            Attribute::Metadata(name) => {
                attributes.metadata.insert(name.to_ascii_lowercase(), value);
            }
            // There is one class.
            _ => {}
        }
    }
    attributes
}

fn from_attributes(kept: &Attributes) -> object_store::Attributes {
    let mut attributes = object_store::Attributes::new();
    let known = [
        (Attribute::ContentType, &kept.content_type),
        (Attribute::ContentEncoding, &kept.content_encoding),
        (Attribute::ContentDisposition, &kept.content_disposition),
        (Attribute::ContentLanguage, &kept.content_language),
        (Attribute::CacheControl, &kept.cache_control),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            attributes.insert(name, AttributeValue::from(value.clone()));
        }
    }
    for (name, value) in &kept.metadata {
        attributes.insert(
            Attribute::Metadata(name.clone().into()),
            AttributeValue::from(value.clone()),
        );
    }
    attributes
}

fn write(draft: &mut Draft, payload: &PutPayload) -> Result<(), BlobError> {
    payload.iter().try_for_each(|bytes| draft.write(bytes))
}

fn range_of(asked: Option<GetRange>, size: u64) -> Result<Range<u64>> {
    let refused = |text: String| Error::Generic {
        store: NAME,
        source: text.into(),
    };
    match asked {
        None => Ok(0..size),
        Some(GetRange::Bounded(range)) if range.start >= range.end => Err(refused(format!(
            "the range {}..{} is empty",
            range.start, range.end
        ))),
        Some(GetRange::Bounded(range)) if range.start < size => {
            Ok(range.start..range.end.min(size))
        }
        Some(GetRange::Offset(start)) if start < size => Ok(start..size),
        Some(GetRange::Suffix(length)) => Ok(size.saturating_sub(length)..size),
        Some(GetRange::Bounded(Range { start, .. }) | GetRange::Offset(start)) => Err(refused(
            format!("the range starts at {start}, the object has {size} bytes"),
        )),
    }
}

#[async_trait]
impl ObjectStore for BlobBucket {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let key = location.to_string();
        let attributes = to_attributes(&options.attributes);
        let create = matches!(options.mode, PutMode::Create);
        let condition = match options.mode {
            PutMode::Overwrite => WriteIf::Always,
            PutMode::Create => WriteIf::Absent,
            PutMode::Update(version) => WriteIf::Matches(
                version
                    .e_tag
                    .unwrap_or_default()
                    .trim_matches('"')
                    .to_owned(),
            ),
        };
        let written = self
            .blocking(location.as_ref(), move |folder, bucket| {
                let mut draft = folder.begin()?;
                write(&mut draft, &payload)?;
                folder.commit(draft, (bucket, &key), attributes, &condition)
            })
            .await;
        match written {
            Ok(info) => Ok(PutResult {
                e_tag: Some(quoted(&info.etag)),
                version: None,
                extensions: object_store::Extensions::default(),
            }),
            Err(Error::Precondition { path, source }) if create => {
                Err(Error::AlreadyExists { path, source })
            }
            Err(error) => Err(error),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let key = location.to_string();
        let attributes = to_attributes(&options.attributes);
        let id = self
            .blocking(location.as_ref(), move |folder, bucket| {
                folder.begin_upload(bucket, &key, attributes)
            })
            .await?;
        Ok(Box::new(Upload {
            bucket: self.clone(),
            key: location.to_string(),
            id,
            next: 1,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let key = location.to_string();
        let (file, info) = self
            .blocking(location.as_ref(), move |folder, bucket| {
                folder.open_object(bucket, &key)
            })
            .await?;
        let meta = meta(&info, location.clone());
        options.check_preconditions(&meta)?;
        let range = range_of(options.range, info.size)?;
        let payload = if options.head {
            GetResultPayload::Stream(stream::empty().boxed())
        } else {
            GetResultPayload::Stream(bytes_of(file, range.clone()))
        };
        let attributes = from_attributes(&info.attributes);
        Ok(GetResult {
            payload,
            meta,
            range,
            attributes,
            extensions: object_store::Extensions::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        const AT_ONCE: usize = 8;
        let bucket = self.clone();
        locations
            .map(move |location| {
                let bucket = bucket.clone();
                async move {
                    let location = location?;
                    let key = location.to_string();
                    // As in S3, deleting what is not there is done.
                    bucket
                        .blocking(location.as_ref(), move |folder, name| {
                            folder.delete(name, &key)
                        })
                        .await?;
                    Ok(location)
                }
            })
            .buffered(AT_ONCE)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, "")
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, offset.as_ref())
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = below(prefix);
        let mut result = ListResult {
            common_prefixes: Vec::new(),
            objects: Vec::new(),
            extensions: object_store::Extensions::default(),
        };
        let mut after = String::new();
        loop {
            let request = ListRequest {
                prefix: prefix.clone(),
                delimiter: "/".to_owned(),
                after,
                limit: PAGE,
            };
            let page = self
                .blocking(&prefix, move |folder, bucket| folder.list(bucket, &request))
                .await?;
            result.objects.extend(
                page.objects
                    .into_iter()
                    .filter_map(|info| meta_if_nameable(&info)),
            );
            result.common_prefixes.extend(
                page.prefixes
                    .iter()
                    .filter_map(|prefix| Path::parse(prefix).ok()),
            );
            match page.next {
                Some(next) => after = next,
                None => return Ok(result),
            }
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let condition = match options.mode {
            CopyMode::Overwrite => WriteIf::Always,
            CopyMode::Create => WriteIf::Absent,
        };
        let (source, target) = (from.to_string(), to.to_string());
        let copied = self
            .blocking(from.as_ref(), move |folder, bucket| {
                folder.copy((bucket, &source), (bucket, &target), None, &condition)
            })
            .await;
        match copied {
            Ok(_) => Ok(()),
            Err(Error::Precondition { source, .. }) => Err(Error::AlreadyExists {
                path: to.to_string(),
                source,
            }),
            Err(error) => Err(error),
        }
    }
}

fn bytes_of(file: Content, range: Range<u64>) -> BoxStream<'static, Result<bytes::Bytes>> {
    const CHUNK: usize = 1 << 20;
    stream::try_unfold((file, range.start), move |(mut file, start)| async move {
        if start >= range.end {
            return Ok(None);
        }
        let end = range.end;
        let read = tokio::task::spawn_blocking(move || {
            use std::io::{Read, Seek, SeekFrom};
            let mut buffer = vec![0; usize::try_from(end - start).unwrap_or(CHUNK).min(CHUNK)];
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut buffer)?;
            Ok::<_, std::io::Error>((bytes::Bytes::from(buffer), file))
        });
        let (bytes, file) = read.await?.map_err(|source| Error::Generic {
            store: NAME,
            source: Box::new(source),
        })?;
        let next = start + bytes.len() as u64;
        Ok(Some((bytes, (file, next))))
    })
    .boxed()
}

#[derive(Debug)]
struct Upload {
    bucket: BlobBucket,
    key: String,
    id: String,
    next: u32,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let number = self.next;
        self.next += 1;
        let (bucket, key, id) = (self.bucket.clone(), self.key.clone(), self.id.clone());
        Box::pin(async move {
            let place = key.clone();
            bucket
                .blocking(&place, move |folder, bucket| {
                    let mut draft = folder.begin()?;
                    write(&mut draft, &data)?;
                    folder.commit_part(draft, (bucket, &key), &id, number)
                })
                .await?;
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (key, id) = (self.key.clone(), self.id.clone());
        let info = self
            .bucket
            .blocking(&self.key, move |folder, bucket| {
                let parts = folder.parts((bucket, &key), &id)?;
                let parts: Vec<Part> = parts
                    .into_iter()
                    .map(|(number, info)| Part {
                        number,
                        etag: info.etag,
                    })
                    .collect();
                folder.complete_upload((bucket, &key), &id, &parts, &WriteIf::Always)
            })
            .await?;
        Ok(PutResult {
            e_tag: Some(quoted(&info.etag)),
            version: None,
            extensions: object_store::Extensions::default(),
        })
    }

    async fn abort(&mut self) -> Result<()> {
        let (key, id) = (self.key.clone(), self.id.clone());
        self.bucket
            .blocking(&self.key, move |folder, bucket| {
                folder.abort_upload((bucket, &key), &id)
            })
            .await
    }
}
