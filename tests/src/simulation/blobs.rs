//! A blob store in memory with faults at every write.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use flyte_idl::core::LiteralMap;
use futures::{TryStreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    memory::InMemory, path::Path,
};
use prost::Message as _;

use super::faults::Faults;

pub(super) struct FaultyStore {
    inner: Arc<InMemory>,
    faults: Faults,
}

impl FaultyStore {
    pub(super) fn new(inner: Arc<InMemory>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FaultyStore")
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FaultyStore")
    }
}

/// Deletes all objects of folders of this name.
pub(super) async fn lose(objects: &InMemory, folder: &str) {
    let listed: Vec<ObjectMeta> = objects.list(None).try_collect().await.unwrap_or_default();
    for found in listed {
        if found.location.parts().any(|part| part.as_ref() == folder) {
            drop(objects.delete(&found.location).await);
        }
    }
}

/// Writes these objects.
pub(super) async fn put(objects: &InMemory, blobs: BTreeMap<String, Vec<u8>>) {
    for (key, bytes) in blobs {
        objects
            .put(&Path::from(key), PutPayload::from(bytes))
            .await
            .expect("memory takes every object");
    }
}

/// All objects, by key.
pub(super) async fn all(objects: &InMemory) -> BTreeMap<String, Vec<u8>> {
    let listed: Vec<ObjectMeta> = objects.list(None).try_collect().await.unwrap_or_default();
    let mut found = BTreeMap::new();
    for object in listed {
        let bytes = objects.get(&object.location).await;
        let bytes = bytes.expect("what is listed is there").bytes().await;
        let bytes = bytes.expect("memory can be read");
        found.insert(object.location.to_string(), bytes.to_vec());
    }
    found
}

/// All inputs and outputs of nodes.
pub(super) async fn literals(objects: &InMemory) -> BTreeMap<String, LiteralMap> {
    let listed: Vec<ObjectMeta> = objects.list(None).try_collect().await.unwrap_or_default();
    let mut found = BTreeMap::new();
    for object in listed {
        let name = object.location.filename().unwrap_or_default();
        if name != "inputs.pb" && name != "outputs.pb" {
            continue;
        }
        let read = objects.get(&object.location).await;
        let bytes = match read {
            Ok(read) => read.bytes().await.unwrap_or_default(),
            Err(_) => continue,
        };
        let literals = LiteralMap::decode(bytes).expect("inputs and outputs are maps of literals");
        found.insert(object.location.to_string(), literals);
    }
    found
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let write = self.inner.put_opts(location, payload, options);
        let refusal = || {
            Err(object_store::Error::Generic {
                store: "simulation",
                source: "a fault of the simulation".into(),
            })
        };
        self.faults
            .effect(format!("write {location}"), write, refusal)
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.faults.pause().await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
