//! Outputs from files: what `flyte-copilot sidecar` does once the container has ended (spec 05 §17.3).
//!
//! All outputs are looked at before anything is sent, so that a missing one is told in seconds and not after hours of
//! uploading its neighbour. `outputs.pb` is written last: where it is, everything that it names is too.

mod folder;
mod value;

use std::{collections::BTreeMap, fs, io::Read as _, path::PathBuf};

use flyte_core::literals;
use flyte_idl::core::{
    Blob, BlobMetadata, BlobType, Literal, LiteralMap, SimpleType, TypedInterface,
    blob_type::BlobDimensionality, scalar,
};
use flyte_platform::blob;
use futures::TryStreamExt as _;

pub use folder::FolderError;
pub use value::{LARGEST, ValueError, literal};

use crate::{
    names::{self, NotAFileName},
    transfer::{Transfer, TransferError, UPLOADS},
};
use folder::{Found, Outputs};
use value::Kind;

/// A container that fails writes why into this file, instead of outputs.
pub const ERROR_FILE: &str = "_ERROR";
/// Largest such file, in bytes.
const LARGEST_ERROR: u64 = 1024 * 1024;

/// Outputs on their way out of a folder.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The folder that the container wrote.
    pub from: PathBuf,
    /// URI below which files and folders go.
    pub raw: String,
    /// URI of the outputs: a LiteralMap.
    pub outputs: String,
    /// Types of the outputs.
    pub interface: TypedInterface,
}

/// Why there are no outputs.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The container says so.
    #[error("User Error: {0}")]
    User(String),
    /// It says so at too much length.
    #[error("{ERROR_FILE} has {0} bytes, more than {LARGEST_ERROR}")]
    LongUserError(u64),
    /// It says so by a folder.
    #[error("{ERROR_FILE} is a folder; it must be a file that says what went wrong")]
    UserErrorFolder,
    /// It did not write them.
    #[error("outputs {names:?} are not in {}: the container did not write them", folder.display())]
    Missing {
        /// All that are missing.
        names: Vec<String>,
        /// Where they should be.
        folder: PathBuf,
    },
    /// An output has a name that no file can have.
    #[error(transparent)]
    Name(#[from] NotAFileName),
    /// A file cannot be taken.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A folder where a value should be.
    #[error("output {0:?} is a folder, and its type wants a file with a value")]
    NotAValue(String),
    /// A file that does not say what its type wants.
    #[error("output {name:?} of type {simple}")]
    Value {
        /// The output.
        name: String,
        /// Its type, as far as files can have it.
        simple: &'static str,
        /// What is wrong.
        source: ValueError,
    },
    /// An output is of a type that files do not have.
    #[error("output {name:?}")]
    Type {
        /// The output.
        name: String,
        /// What is wrong.
        source: ValueError,
    },
    /// Files could not be sent.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

/// An output that was looked at.
enum Ready {
    Value(Box<Literal>),
    File(PathBuf),
    Folder(PathBuf),
}

impl Upload {
    /// Whether there is anything to wait for.
    pub fn has_outputs(&self) -> bool {
        let outputs = self.interface.outputs.as_ref();
        outputs.is_some_and(|outputs| !outputs.variables.is_empty())
    }

    /// Takes the outputs away.
    ///
    /// # Errors
    /// The first thing that went wrong; then there is no `outputs.pb`.
    pub async fn run(&self, transfer: &Transfer) -> Result<(), UploadError> {
        let outputs = Outputs::at(&self.from)?;
        if let Some(outputs) = &outputs {
            user_error(outputs)?;
        }
        let ready = self.ready(outputs.as_ref())?;
        let mut literals = BTreeMap::new();
        let mut files: Vec<Result<_, UploadError>> = Vec::new();
        let mut folders = Vec::new();
        for (name, ready) in ready {
            let to = blob::below(&self.raw, &name);
            let literal = match ready {
                Ready::Value(literal) => *literal,
                Ready::File(path) => {
                    files.push(Ok((path, to.clone())));
                    blob_literal(to, BlobDimensionality::Single)
                }
                Ready::Folder(path) => {
                    folders.push((path, to.clone()));
                    blob_literal(to, BlobDimensionality::Multipart)
                }
            };
            literals.insert(name, literal);
        }
        let below = folders.into_iter().flat_map(|(folder, to)| {
            let walk = outputs
                .iter()
                .flat_map(move |outputs| outputs.walk(folder.clone()));
            walk.map(move |found| {
                let (path, name) = found?;
                let to = blob::below(&to, &name);
                Ok((path, to))
            })
        });
        futures::stream::iter(files.into_iter().chain(below))
            .try_for_each_concurrent(UPLOADS, async |(path, to): (PathBuf, String)| {
                Ok(transfer.send(&path, &to).await?)
            })
            .await?;
        transfer
            .put_message(&self.outputs, &LiteralMap { literals })
            .await?;
        Ok(())
    }

    /// All outputs, values read and files found.
    fn ready(&self, folder: Option<&Outputs>) -> Result<BTreeMap<String, Ready>, UploadError> {
        let mut ready = BTreeMap::new();
        let mut missing = Vec::new();
        let declared = self.interface.outputs.iter().flat_map(|map| &map.variables);
        for (name, variable) in declared {
            names::file_name(name)?;
            let literal_type = variable.r#type.clone().unwrap_or_default();
            let kind = value::kind(&literal_type).map_err(|source| UploadError::Type {
                name: name.clone(),
                source,
            })?;
            let found = folder.map_or(Ok(None), |folder| folder.find(name))?;
            let output = match (kind, found) {
                (_, None) => {
                    missing.push(name.clone());
                    continue;
                }
                (Kind::Blob, Some(Found::File { path, .. })) => Ready::File(path),
                (Kind::Blob, Some(Found::Folder(path))) => Ready::Folder(path),
                (Kind::Simple(_), Some(Found::Folder(_))) => {
                    return Err(UploadError::NotAValue(name.clone()));
                }
                (Kind::Simple(simple), Some(Found::File { path, size })) => {
                    Ready::Value(Box::new(read_value(name, simple, (path, size))?))
                }
            };
            ready.insert(name.clone(), output);
        }
        if missing.is_empty() {
            Ok(ready)
        } else {
            Err(UploadError::Missing {
                names: missing,
                folder: self.from.clone(),
            })
        }
    }
}

fn read_value(
    name: &str,
    simple: SimpleType,
    (path, size): (PathBuf, u64),
) -> Result<Literal, UploadError> {
    let wrong = |source| UploadError::Value {
        name: name.to_owned(),
        simple: simple.as_str_name(),
        source,
    };
    if size > LARGEST {
        return Err(wrong(ValueError::TooLarge(size)));
    }
    let bytes = read(&path, LARGEST)?;
    literal(simple, &bytes).map_err(wrong)
}

/// At most `limit` bytes of a file.
fn read(path: &PathBuf, limit: u64) -> Result<Vec<u8>, FolderError> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|source| FolderError::Io {
            path: path.clone(),
            source,
        })?;
    Ok(bytes)
}

/// Whether the container says that it failed.
fn user_error(outputs: &Outputs) -> Result<(), UploadError> {
    match outputs.get(ERROR_FILE)? {
        None => Ok(()),
        Some(Found::Folder(_)) => Err(UploadError::UserErrorFolder),
        Some(Found::File { size, .. }) if size > LARGEST_ERROR => {
            Err(UploadError::LongUserError(size))
        }
        Some(Found::File { path, .. }) => {
            let bytes = read(&path, LARGEST_ERROR)?;
            Err(UploadError::User(
                String::from_utf8_lossy(&bytes).into_owned(),
            ))
        }
    }
}

fn blob_literal(uri: String, dimensionality: BlobDimensionality) -> Literal {
    literals::scalar(scalar::Value::Blob(Blob {
        metadata: Some(BlobMetadata {
            r#type: Some(BlobType {
                format: String::new(),
                dimensionality: dimensionality.into(),
            }),
        }),
        uri,
    }))
}
