//! The blob store: Flyte's references over `object_store` (spec 07 §4).
//!
//! A reference is `scheme://container/key`. Every service reads and writes through one [`BlobStore`]; which
//! cloud, folder or memory is behind it is configuration (or, embedded, what `wire` was given).

mod config;
mod metrics;
mod reference;
mod signing;
mod streams;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{
    Attribute, Attributes, ObjectStore, ObjectStoreExt as _, PutOptions, PutPayload,
    memory::InMemory,
    path::{Path, PathPart},
    signer::Signer,
};

pub use config::{LimitsConfig, SignedUrlConfig, StorageConfig, StowConfig, UNHEARD};
use metrics::Meter;
pub use metrics::{BlobMetrics, Cached};
pub use reference::{Reference, ReferenceError};
pub use signing::{SignRequest, SignedUrl, Verb};
pub use streams::{Entry, Upload, below};

/// Why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The text is not `scheme://container/key`.
    #[error("reference {reference:?} is malformed")]
    Reference {
        /// The offending text.
        reference: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// There is nothing at this reference.
    #[error("no object at {0:?}")]
    NotFound(String),
    /// Something is already there and must not be overwritten.
    #[error("an object already exists at {0:?}")]
    AlreadyExists(String),
    /// Another container than the configured one, while `storage.enable-multicontainer` is off.
    #[error(
        "Conf container:{configured} != Passed Container:{passed}. Dynamic loading is disabled"
    )]
    ForeignContainer {
        /// `storage.container`.
        configured: String,
        /// The reference's.
        passed: String,
    },
    /// Larger than `storage.limits.maxDownloadMBs`. Clients match on this text.
    #[error(
        "limit exceeded. {size_mb:.6}mb > {limit_mb}mb. You can increase the limit by setting maxDownloadMBs."
    )]
    LimitExceeded {
        /// Size of the object in MiB.
        size_mb: f64,
        /// The limit in MiB.
        limit_mb: u64,
    },
    /// This kind of store cannot sign URLs.
    #[error("storage of scheme {0:?} cannot sign URLs")]
    CannotSign(String),
    /// The configuration names no usable store.
    #[error("{0}")]
    Configuration(String),
    /// A part of the key is longer than the store has names for.
    #[error("a part of {0:?} is too long for a name in this storage")]
    NameTooLong(String),
    /// The store failed.
    #[error("storage failed at {reference:?}")]
    Store {
        /// The URI of the blob.
        reference: String,
        /// What the store answered.
        source: object_store::Error,
    },
}

impl BlobError {
    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// Whether the store could not do it for now: it did not answer, or has no room. Another try may succeed.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Store { source, .. } if !is_missing_permission(source))
    }

    /// Why the store could not do it for now, in words for clients; none if that is not why. Paths of servers are left out.
    pub fn away(&self) -> Option<String> {
        if !self.is_away() {
            return None;
        }
        let causes =
            std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        let io = causes
            .filter_map(|error| error.downcast_ref::<std::io::Error>())
            .last();
        Some(io.map_or_else(|| "it does not answer".to_owned(), ToString::to_string))
    }

    fn store(reference: &str, source: object_store::Error) -> Self {
        match source {
            object_store::Error::NotFound { .. } => Self::NotFound(reference.to_owned()),
            object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. } => Self::AlreadyExists(reference.to_owned()),
            source if is_name_too_long(&source) => Self::NameTooLong(reference.to_owned()),
            source => Self::Store {
                reference: reference.to_owned(),
                source,
            },
        }
    }
}

/// Whether the store refused because it does not want to, rather than because it cannot for now.
fn is_missing_permission(error: &object_store::Error) -> bool {
    if matches!(
        error,
        object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. }
            | object_store::Error::NotSupported { .. }
            | object_store::Error::NotImplemented { .. }
    ) {
        return true;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                io.kind(),
                std::io::ErrorKind::PermissionDenied
                    | std::io::ErrorKind::ReadOnlyFilesystem
                    | std::io::ErrorKind::NotADirectory
                    | std::io::ErrorKind::IsADirectory
                    | std::io::ErrorKind::InvalidFilename
            );
        }
        cause = error.source();
    }
    false
}

/// Folders have names of 255 bytes at most.
fn is_name_too_long(error: &object_store::Error) -> bool {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| {
        error.source()
    });
    causes
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::InvalidFilename)
}

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Length of the blob in bytes.
    pub size: u64,
    /// Entity tag without quotes and `W/`.
    pub etag: String,
    /// Base64 MD5 that the uploader declared (metadata `flyteContentMD5`); empty when unknown.
    pub content_md5: String,
}

/// What Go's configuration for a single machine gives `storage.limits.maxDownloadMBs`: outputs of any sensible size, and
/// still not all of the memory.
pub const LOCAL_DOWNLOAD_MB: u64 = 1_000;

/// A store of one container (and, when allowed, of others).
#[derive(Clone)]
pub struct BlobStore {
    inner: Arc<Inner>,
    meter: Meter,
}

struct Inner {
    scheme: String,
    container: String,
    store: Arc<dyn ObjectStore>,
    signer: Option<Arc<dyn Signer>>,
    /// Opens another container of the same kind; none when multi-container is off.
    opener: Option<config::Opener>,
    opened: tokio::sync::Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>,
    max_download_mb: u64,
}

impl std::fmt::Debug for BlobStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "BlobStore({}://{})",
            self.inner.scheme, self.inner.container
        )
    }
}

impl BlobStore {
    /// Opens what the section `storage` describes.
    ///
    /// # Errors
    /// [`BlobError::Configuration`] naming the key at fault.
    pub fn open(config: &StorageConfig) -> Result<Self, BlobError> {
        config::open(config)
    }

    /// A store over a given object store; `signer` where it can sign. Objects are read up to [`LOCAL_DOWNLOAD_MB`].
    pub fn over(
        scheme: &str,
        container: &str,
        store: Arc<dyn ObjectStore>,
        signer: Option<Arc<dyn Signer>>,
    ) -> Self {
        Self::of_inner(Inner {
            scheme: scheme.to_owned(),
            container: container.to_owned(),
            store,
            signer,
            opener: None,
            opened: tokio::sync::Mutex::default(),
            max_download_mb: LOCAL_DOWNLOAD_MB,
        })
    }

    fn of_inner(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
            meter: Meter::default(),
        }
    }

    /// The same store, whose requests are counted.
    #[must_use]
    pub fn counted(&self, metrics: Arc<BlobMetrics>) -> Self {
        Self {
            inner: self.inner.clone(),
            meter: Meter::over(metrics),
        }
    }

    /// The same store, whose requests are counted with these labels; what is not known is empty.
    #[must_use]
    pub fn used_by(&self, project: &str, domain: &str, workflow: &str) -> Self {
        Self {
            inner: self.inner.clone(),
            meter: self.meter.of(project, domain, workflow),
        }
    }

    /// Counts that something of the store was looked for in memory first.
    pub fn count_cached(&self, cached: Cached) {
        self.meter.cached(cached);
    }

    /// Decodes what was read, and counts how long that took and whether it failed.
    pub fn decoded<T, E>(&self, decode: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.meter.decoded(decode)
    }

    /// Signs URLs of an S3 endpoint by key, for stores that are reached otherwise in process.
    ///
    /// # Errors
    /// When the endpoint is not a URL.
    #[cfg(feature = "s3")]
    pub fn s3_signer(
        endpoint: &str,
        container: &str,
        access_key: &str,
        secret_key: &str,
    ) -> Result<Arc<dyn Signer>, BlobError> {
        config::s3_signer(endpoint, container, access_key, secret_key)
    }

    /// A store in memory, for tests and simulation.
    pub fn in_memory() -> Self {
        Self::over("mem", "container", Arc::new(InMemory::new()), None)
    }

    /// `scheme://container`, under which metadata prefixes are built.
    pub fn base(&self) -> String {
        format!("{}://{}", self.inner.scheme, self.inner.container)
    }

    /// Reads an object, at most `storage.limits.maxDownloadMBs`.
    pub async fn get(&self, reference: &str) -> Result<Bytes, BlobError> {
        self.get_at_most(reference, self.inner.max_download_mb)
            .await
    }

    /// Reads an object of at most `limit_mb` MiB; 0 is no limit.
    pub async fn get_at_most(&self, reference: &str, limit_mb: u64) -> Result<Bytes, BlobError> {
        let (store, path) = self.locate(reference).await?;
        let result = self
            .meter
            .request(|metrics| &metrics.read, store.get(&path))
            .await
            .map_err(|error| BlobError::store(reference, error))?;
        let size = result.meta.size;
        if limit_mb > 0 && size > limit_mb * 1024 * 1024 {
            #[expect(
                clippy::cast_precision_loss,
                reason = "shown to a person with six digits"
            )]
            let size_mb = size as f64 / (1024.0 * 1024.0);
            return Err(BlobError::LimitExceeded { size_mb, limit_mb });
        }
        let start = Instant::now();
        let bytes = result.bytes().await;
        self.meter.fetched(start.elapsed());
        bytes.map_err(|error| BlobError::store(reference, error))
    }

    /// Whether an object of this many bytes is over `storage.limits.maxDownloadMBs`.
    pub fn exceeds_limit(&self, bytes: u64) -> bool {
        let limit = self.inner.max_download_mb;
        limit > 0 && bytes > limit * 1024 * 1024
    }

    /// Writes an object, replacing what was there.
    pub async fn put(&self, reference: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.put_with(reference, bytes, PutOptions::default()).await
    }

    /// Writes an object with user metadata.
    pub async fn put_with_metadata(
        &self,
        reference: &str,
        bytes: Bytes,
        metadata: &[(&str, &str)],
    ) -> Result<(), BlobError> {
        let mut attributes = Attributes::new();
        for (name, value) in metadata {
            attributes.insert(
                Attribute::Metadata((*name).to_owned().into()),
                (*value).to_owned().into(),
            );
        }
        self.put_with(
            reference,
            bytes,
            PutOptions {
                attributes,
                ..PutOptions::default()
            },
        )
        .await
    }

    /// Writes an object unless there is one.
    ///
    /// # Errors
    /// [`BlobError::AlreadyExists`].
    pub async fn put_if_absent(&self, reference: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.put_with(reference, bytes, object_store::PutMode::Create.into())
            .await
    }

    async fn put_with(
        &self,
        reference: &str,
        bytes: Bytes,
        options: PutOptions,
    ) -> Result<(), BlobError> {
        let (store, path) = self.locate(reference).await?;
        let put = store.put_opts(&path, PutPayload::from_bytes(bytes), options);
        self.meter
            .request(|metrics| &metrics.write, put)
            .await
            .map(drop)
            .map_err(|error| BlobError::store(reference, error))
    }

    /// What is known of the object; none when there is none.
    pub async fn head(&self, reference: &str) -> Result<Option<Head>, BlobError> {
        let (store, path) = self.locate(reference).await?;
        let options = object_store::GetOptions {
            head: true,
            ..Default::default()
        };
        let head = store.get_opts(&path, options);
        let found = match self.meter.request(|metrics| &metrics.head, head).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(BlobError::store(reference, error)),
        };
        let etag = found.meta.e_tag.unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let content_md5 = found
            .attributes
            .iter()
            .find_map(|(name, value)| match name {
                Attribute::Metadata(name) if name.eq_ignore_ascii_case("flyteContentMD5") => {
                    Some(value.to_string())
                }
                _ => None,
            })
            .unwrap_or_default();
        Ok(Some(Head {
            size: found.meta.size,
            etag,
            content_md5,
        }))
    }

    /// Whether there is an object.
    pub async fn exists(&self, reference: &str) -> Result<bool, BlobError> {
        Ok(self.head(reference).await?.is_some())
    }

    /// Removes an object; a missing one is fine.
    pub async fn delete(&self, reference: &str) -> Result<(), BlobError> {
        let (store, path) = self.locate(reference).await?;
        let delete = store.delete(&path);
        match self.meter.request(|metrics| &metrics.delete, delete).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::store(reference, error)),
        }
    }

    /// References of at most `limit` objects below `prefix`, in no particular order.
    pub async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<String>, BlobError> {
        let parsed = Self::parse(prefix)?;
        let (store, path) = self.locate(prefix).await?;
        let root = format!("{}://{}", parsed.scheme, parsed.container);
        let list = store
            .list(Some(&path))
            .take(limit)
            .map_ok(|meta| format!("{root}/{}", percent_decoded(meta.location.as_ref())))
            .try_collect();
        self.meter
            .request(|metrics| &metrics.list, list)
            .await
            .map_err(|error| BlobError::store(prefix, error))
    }

    /// A URL that lets its bearer read or write one object for a while (spec 07 §4.4).
    ///
    /// # Errors
    /// [`BlobError::CannotSign`] for folders and memory; [`BlobError::ForeignContainer`] for another container.
    pub async fn sign(
        &self,
        reference: &str,
        request: &SignRequest,
    ) -> Result<SignedUrl, BlobError> {
        let parsed = Self::parse(reference)?;
        if parsed.key.is_empty() {
            // The URL of a container lists it.
            return Err(BlobError::Reference {
                reference: reference.to_owned(),
                source: ReferenceError::NoKey,
            });
        }
        let Some(signer) = &self.inner.signer else {
            return Err(BlobError::CannotSign(self.inner.scheme.clone()));
        };
        if parsed.container != self.inner.container {
            return Err(BlobError::ForeignContainer {
                configured: self.inner.container.clone(),
                passed: parsed.container,
            });
        }
        signing::sign(
            signer.as_ref(),
            &self.inner.scheme,
            &store_path(&parsed.key),
            request,
        )
        .await
        .map_err(|error| BlobError::store(reference, error))
    }

    /// The key of the object that a reference names, as the store has it: two references are of one object when their
    /// containers and these keys are the same.
    ///
    /// # Errors
    /// [`BlobError::Reference`].
    pub fn key_of(reference: &str) -> Result<String, BlobError> {
        Ok(store_path(&Self::parse(reference)?.key).as_ref().to_owned())
    }

    fn parse(reference: &str) -> Result<Reference, BlobError> {
        reference
            .parse::<Reference>()
            .map_err(|source| BlobError::Reference {
                reference: reference.to_owned(),
                source,
            })
    }

    async fn locate(&self, reference: &str) -> Result<(Arc<dyn ObjectStore>, Path), BlobError> {
        self.find(reference)
            .await
            .inspect_err(|error| self.meter.misdirected(error))
    }

    async fn find(&self, reference: &str) -> Result<(Arc<dyn ObjectStore>, Path), BlobError> {
        let parsed = Self::parse(reference)?;
        let path = store_path(&parsed.key);
        if parsed.container == self.inner.container {
            return Ok((self.inner.store.clone(), path));
        }
        let Some(opener) = &self.inner.opener else {
            return Err(BlobError::ForeignContainer {
                configured: self.inner.container.clone(),
                passed: parsed.container,
            });
        };
        let mut opened = self.inner.opened.lock().await;
        if let Some(store) = opened.get(&parsed.container) {
            return Ok((store.clone(), path));
        }
        let store = opener(&parsed.container)?;
        opened.insert(parsed.container, store.clone());
        Ok((store, path))
    }
}

/// The key as `object_store` wants it: a part that it cannot express is percent-encoded. Parts stay that are empty, as in
/// `a//b`: whoever has the reference reads and writes the object by other means too, and there that is another key than `a/b`.
fn store_path(key: &str) -> Path {
    key.split('/').fold(Path::ROOT, |path, part| {
        path.join(PathPart::parse(part).unwrap_or_else(|_| PathPart::from(part)))
    })
}

fn percent_decoded(location: &str) -> String {
    percent_encoding::percent_decode_str(location)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
