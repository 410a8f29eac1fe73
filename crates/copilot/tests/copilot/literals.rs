//! What the tests share: literals, a store in memory, and folders on both sides of a container.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use flyte_copilot::{
    Transfer,
    download::{Download, DownloadError, Format},
    sidecar::{Upload, UploadError},
};
use flyte_core::literals;
use flyte_idl::core::{
    Blob, BlobMetadata, BlobType, Literal, LiteralMap, LiteralType, SimpleType, TypedInterface,
    Variable, VariableMap, blob_type::BlobDimensionality, literal_type::Type, scalar,
};
use flyte_platform::{Chain, blob::BlobStore};
use prost::Message as _;

/// A store in memory, and the folders of a pod.
pub(crate) struct Pod {
    pub(crate) store: BlobStore,
    pub(crate) transfer: Transfer,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) const INPUTS: &str = "mem://container/meta/inputs.pb";
pub(crate) const OUTPUTS: &str = "mem://container/meta/outputs.pb";
pub(crate) const RAW: &str = "mem://container/raw";

impl Pod {
    pub(crate) fn new() -> Self {
        let store = BlobStore::in_memory();
        Self {
            transfer: Transfer::new(store.clone()),
            store,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn inputs(&self) -> std::path::PathBuf {
        self.folder.path().join("inputs")
    }

    pub(crate) fn outputs(&self) -> std::path::PathBuf {
        let outputs = self.folder.path().join("outputs");
        fs::create_dir_all(&outputs).unwrap();
        outputs
    }

    pub(crate) async fn put(&self, reference: &str, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.store.put(reference, bytes).await.unwrap();
    }

    pub(crate) async fn download(
        &self,
        inputs: &LiteralMap,
        format: Format,
    ) -> Result<(), DownloadError> {
        self.put(INPUTS, &inputs.encode_to_vec()).await;
        let download = Download {
            from: INPUTS.to_owned(),
            to: self.inputs(),
            format,
        };
        download.run(&self.transfer).await
    }

    pub(crate) async fn upload(
        &self,
        outputs: &[(&str, LiteralType)],
    ) -> Result<LiteralMap, UploadError> {
        let upload = Upload {
            from: self.folder.path().join("outputs"),
            raw: RAW.to_owned(),
            outputs: OUTPUTS.to_owned(),
            interface: interface(outputs),
        };
        upload.run(&self.transfer).await?;
        let written = self.store.get(OUTPUTS).await.unwrap();
        Ok(LiteralMap::decode(written).unwrap())
    }
}

/// The files below a folder, with what is in them.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

pub(crate) fn map<const N: usize>(literals: [(&str, Literal); N]) -> LiteralMap {
    LiteralMap {
        literals: literals
            .into_iter()
            .map(|(name, literal)| (name.to_owned(), literal))
            .collect(),
    }
}

pub(crate) fn blob(uri: &str, dimensionality: BlobDimensionality) -> Literal {
    literals::scalar(scalar::Value::Blob(Blob {
        metadata: Some(BlobMetadata {
            r#type: Some(BlobType {
                format: String::new(),
                dimensionality: dimensionality.into(),
            }),
        }),
        uri: uri.to_owned(),
    }))
}

pub(crate) fn simple(simple: SimpleType) -> LiteralType {
    of(Type::Simple(simple.into()))
}

pub(crate) fn of(r#type: Type) -> LiteralType {
    LiteralType {
        r#type: Some(r#type),
        ..LiteralType::default()
    }
}

pub(crate) fn interface(outputs: &[(&str, LiteralType)]) -> TypedInterface {
    let variables = outputs.iter().map(|(name, literal_type)| {
        let variable = Variable {
            r#type: Some(literal_type.clone()),
            ..Variable::default()
        };
        ((*name).to_owned(), variable)
    });
    TypedInterface {
        inputs: None,
        outputs: Some(VariableMap {
            variables: variables.collect(),
        }),
    }
}

/// An error with its causes.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    Chain(error).to_string()
}
