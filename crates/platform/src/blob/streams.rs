//! Objects that are read and written piece by piece, so that their size does not matter.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart, path::Path};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{BlobError, BlobStore, metrics::Meter};

/// What a reference cannot say as it is: it would end the key, or be decoded.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#');

/// Parts of one object under way beside the one that is being filled.
const PARTS_UNDER_WAY: usize = 1;

/// One object below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key below the prefix, such as `a/b.csv`.
    pub name: String,
    /// What reads it.
    pub reference: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written last, in whole seconds.
    pub modified: Timestamp,
}

/// The reference of the object `name` below `prefix`, whatever characters the name has.
pub fn below(prefix: &str, name: &str) -> String {
    let prefix = prefix.trim_end_matches('/');
    format!("{prefix}/{}", utf8_percent_encode(name, ENCODED))
}

impl BlobStore {
    /// Reads an object piece by piece, of whatever size.
    ///
    /// # Errors
    /// Those of [`BlobStore::get`], of the request and of each piece.
    pub async fn read(
        &self,
        reference: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, BlobError>>, BlobError> {
        let (store, path) = self.locate(reference).await?;
        let found = self
            .meter
            .request(|metrics| &metrics.read, store.get(&path))
            .await
            .map_err(|error| BlobError::store(reference, error))?;
        let reference = reference.to_owned();
        Ok(found
            .into_stream()
            .map_err(move |error| BlobError::store(&reference, error))
            .boxed())
    }

    /// All objects below `prefix`, in the order of the store, a page at a time.
    ///
    /// # Errors
    /// Those of the store, as the items that could not be listed.
    pub async fn entries(
        &self,
        prefix: &str,
    ) -> Result<impl Stream<Item = Result<Entry, BlobError>> + Send + use<>, BlobError> {
        let (store, path) = self.locate(prefix).await?;
        let prefix = prefix.trim_end_matches('/').to_owned();
        Ok(store.list(Some(&path)).map(move |found| {
            let found = found.map_err(|error| BlobError::store(&prefix, error))?;
            let name = found.location.as_ref();
            let name = name
                .strip_prefix(path.as_ref())
                .unwrap_or(name)
                .trim_start_matches('/')
                .to_owned();
            Ok(Entry {
                reference: below(&prefix, &name),
                name,
                size: found.size,
                modified: Timestamp::from_second(found.last_modified.timestamp())
                    .unwrap_or(Timestamp::MAX),
            })
        }))
    }

    /// Begins to write an object piece by piece. What is shorter than `part` bytes is one request; what is longer is sent
    /// in parts of that size, two of which are in memory at a time.
    ///
    /// # Errors
    /// Those of [`BlobStore::put`] that are known before anything is sent.
    pub async fn upload(&self, reference: &str, part: usize) -> Result<Upload, BlobError> {
        let (store, path) = self.locate(reference).await?;
        Ok(Upload {
            store,
            path,
            reference: reference.to_owned(),
            part,
            state: State::Short(BytesMut::new()),
            meter: self.meter.clone(),
        })
    }
}

/// An object that is being written; it is there once [`Upload::finish`] has returned.
pub struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    reference: String,
    part: usize,
    state: State,
    meter: Meter,
}

enum State {
    Short(BytesMut),
    Parts(WriteMultipart),
}

impl Upload {
    /// Adds a piece.
    ///
    /// # Errors
    /// The store's; then [`Upload::abort`] is what is left to do.
    pub async fn put(&mut self, piece: Bytes) -> Result<(), BlobError> {
        if let State::Short(held) = &mut self.state {
            if held.len() + piece.len() < self.part {
                held.extend_from_slice(&piece);
                return Ok(());
            }
            let begun = self.store.put_multipart(&self.path);
            let begun = self
                .meter
                .request(|metrics| &metrics.write, begun)
                .await
                .map_err(|error| BlobError::store(&self.reference, error))?;
            let mut parts = WriteMultipart::new_with_chunk_size(begun, self.part);
            parts.put(std::mem::take(held).freeze());
            self.state = State::Parts(parts);
        }
        if let State::Parts(parts) = &mut self.state {
            parts
                .wait_for_capacity(PARTS_UNDER_WAY)
                .await
                .map_err(|error| BlobError::store(&self.reference, error))?;
            parts.put(piece);
        }
        Ok(())
    }

    /// Makes the object appear.
    ///
    /// # Errors
    /// The store's; nothing is there then, or what was there before.
    pub async fn finish(self) -> Result<(), BlobError> {
        let done = match self.state {
            State::Short(held) => {
                let put = self
                    .store
                    .put(&self.path, PutPayload::from_bytes(held.freeze()));
                self.meter
                    .request(|metrics| &metrics.write, put)
                    .await
                    .map(drop)
            }
            State::Parts(parts) => {
                let finish = parts.finish();
                self.meter
                    .request(|metrics| &metrics.write, finish)
                    .await
                    .map(drop)
            }
        };
        done.map_err(|error| BlobError::store(&self.reference, error))
    }

    /// Gives up; parts that were sent are thrown away where the store is able to.
    pub async fn abort(self) {
        if let State::Parts(parts) = self.state
            && let Err(error) = parts.abort().await
        {
            tracing::warn!(reference = self.reference, %error, "parts of an upload that was given up may stay in the store");
        }
    }
}
