//! Inputs as files: what `flyte-copilot download` does before a raw container starts (spec 05 §17.2).
//!
//! The inputs are read, [`plan()`] decides what goes where, and the steps are carried out: folders and files first, then
//! blobs, [`FETCHES`] at a time. `inputs.pb` and `inputs.json` or `inputs.yaml` come last, so that whoever sees them sees
//! everything that they name.

mod plan;
mod scalars;

use std::{
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use flyte_idl::{
    core::{Literal, LiteralMap, Scalar, literal, scalar},
    json,
};
use flyte_platform::blob::Entry;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use serde_json::{Map, Value};

pub use plan::{Cause, Format, Plan, PlanError, Step, plan};

use crate::{
    names,
    transfer::{FETCHES, Transfer, TransferError},
    yaml,
};

/// Literals that were offloaded may hold others; deeper than this they go in a circle.
const OFFLOADED_LEVELS: usize = 16;

/// Mode of folders and of files that hold values, less the umask; as Go makes them.
const MODE: u32 = 0o777;

/// Inputs on their way into a folder.
#[derive(Clone, Debug)]
pub struct Download {
    /// URI of the inputs: a LiteralMap.
    pub from: String,
    /// The folder to fill; it is made.
    pub to: PathBuf,
    /// How values are written beside the files.
    pub format: Format,
}

/// Why inputs are not in the folder.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// They could not be read, or what they name.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// One has no place.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Literals that were offloaded lead to each other.
    #[error("offloaded inputs are nested more than {OFFLOADED_LEVELS} levels deep")]
    Offloaded,
    /// An object has a name that no file can have.
    #[error("the object {reference:?} cannot become a file")]
    Object {
        /// Where it is.
        reference: String,
        /// What is wrong with its name.
        source: names::NotAFileName,
    },
}

impl Download {
    /// Fills the folder.
    ///
    /// # Errors
    /// The first thing that went wrong; what was written until then stays.
    pub async fn run(&self, transfer: &Transfer) -> Result<(), DownloadError> {
        let mut inputs: LiteralMap = transfer.message(&self.from, "LiteralMap").await?;
        load_offloaded(transfer, &mut inputs).await?;
        let Plan {
            steps,
            inputs,
            mut values,
        } = plan(&inputs, &self.to, self.format)?;
        make_folder(&self.to)?;
        let mut blobs = Vec::new();
        for step in steps {
            match step {
                Step::Folder(path) => make_folder(&path)?,
                Step::File { path, bytes } => write_file(&path, &bytes)?,
                blob => blobs.push(blob),
            }
        }
        for pointer in fetch(transfer, blobs).await? {
            if let Some(value) = member(&mut values, &pointer) {
                *value = Value::Null;
            }
        }
        write_file(&self.to.join("inputs.pb"), &inputs.encode_to_vec())?;
        match self.format {
            Format::Json => {
                let text = json::value_to_string(&Value::Object(values));
                write_file(&self.to.join("inputs.json"), text.as_bytes())?;
            }
            Format::Yaml => {
                let text = yaml::document(&values);
                write_file(&self.to.join("inputs.yaml"), text.as_bytes())?;
            }
            Format::Proto => {}
        }
        Ok(())
    }
}

/// The value at a pointer of [`Step::FetchAll`].
fn member<'a>(values: &'a mut Map<String, Value>, pointer: &str) -> Option<&'a mut Value> {
    let pointer = pointer.strip_prefix('/')?;
    let (variable, rest) = match pointer.find('/') {
        Some(at) => pointer.split_at(at),
        None => (pointer, ""),
    };
    let variable = variable.replace("~1", "/").replace("~0", "~");
    values.get_mut(&variable)?.pointer_mut(rest)
}

/// Fetches all blobs; returns the pointers of folders below whose prefix nothing was found.
async fn fetch(transfer: &Transfer, blobs: Vec<Step>) -> Result<Vec<String>, DownloadError> {
    let mut empty = Vec::new();
    let mut single = Vec::new();
    for blob in blobs {
        match blob {
            Step::Fetch { from, to } => single.push((from, to)),
            Step::FetchAll { from, to, pointer } => {
                if fetch_all(transfer, &from, &to).await? == 0 {
                    empty.push(pointer);
                }
            }
            Step::Folder(_) | Step::File { .. } => {}
        }
    }
    futures::stream::iter(single.into_iter().map(Ok))
        .try_for_each_concurrent(FETCHES, async |(from, to): (String, PathBuf)| {
            transfer.fetch(&from, &to).await
        })
        .await?;
    Ok(empty)
}

/// Fetches what is below a prefix into a folder; returns how many objects that were.
async fn fetch_all(transfer: &Transfer, from: &str, to: &Path) -> Result<usize, DownloadError> {
    let found = objects(transfer.entries(from).await?);
    let mut fetches = found
        .map(async |entry| {
            let entry = entry?;
            let path = names::below(to, &entry.name).map_err(|source| DownloadError::Object {
                reference: entry.reference.clone(),
                source,
            })?;
            if let Some(folder) = path.parent() {
                make_folder(folder)?;
            }
            transfer.fetch(&entry.reference, &path).await?;
            Ok::<(), DownloadError>(())
        })
        .buffer_unordered(FETCHES)
        .boxed_local();
    let mut count = 0;
    while fetches.try_next().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Objects without those that stand for folders: consoles of clouds make an empty object `a/` for a folder `a`, which comes
/// as `a` right before the first `a/b`.
fn objects(
    entries: impl Stream<Item = Result<Entry, TransferError>>,
) -> impl Stream<Item = Result<Entry, TransferError>> {
    let entries = Box::pin(entries.peekable());
    futures::stream::unfold(entries, |mut entries| async move {
        loop {
            let entry = match entries.as_mut().next().await? {
                Ok(entry) if entry.size == 0 => entry,
                other => return Some((other, entries)),
            };
            let next = entries.as_mut().peek().await;
            let is_folder = next.is_some_and(|next| {
                next.as_ref().is_ok_and(|next| {
                    next.name
                        .strip_prefix(&entry.name)
                        .is_some_and(|rest| rest.starts_with('/'))
                })
            });
            if !is_folder {
                return Some((Ok(entry), entries));
            }
        }
    })
}

/// Puts literals that the engine keeps beside the inputs, because they are large, where they belong.
async fn load_offloaded(transfer: &Transfer, inputs: &mut LiteralMap) -> Result<(), DownloadError> {
    for _ in 0..OFFLOADED_LEVELS {
        let mut found = Vec::new();
        for literal in inputs.literals.values_mut() {
            offloaded(literal, &mut found);
        }
        if found.is_empty() {
            return Ok(());
        }
        futures::stream::iter(found.into_iter().map(Ok))
            .try_for_each_concurrent(FETCHES, async |(uri, place): (String, &mut Literal)| {
                *place = transfer.message(&uri, "Literal").await?;
                Ok::<(), TransferError>(())
            })
            .await?;
    }
    Err(DownloadError::Offloaded)
}

/// All literals that stand elsewhere, with where.
fn offloaded<'a>(literal: &'a mut Literal, found: &mut Vec<(String, &'a mut Literal)>) {
    if let Some(literal::Value::OffloadedMetadata(metadata)) = &literal.value {
        found.push((metadata.uri.clone(), literal));
        return;
    }
    match &mut literal.value {
        Some(literal::Value::Collection(collection)) => {
            for item in &mut collection.literals {
                offloaded(item, found);
            }
        }
        Some(literal::Value::Map(map)) => {
            for member in map.literals.values_mut() {
                offloaded(member, found);
            }
        }
        Some(literal::Value::Scalar(scalar)) => {
            if let Scalar {
                value: Some(scalar::Value::Union(union)),
            } = scalar.as_mut()
                && let Some(inner) = &mut union.value
            {
                offloaded(inner, found);
            }
        }
        Some(literal::Value::OffloadedMetadata(_)) | None => {}
    }
}

fn make_folder(path: &Path) -> Result<(), TransferError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(MODE)
        .create(path)
        .map_err(|source| TransferError::file(path, source))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), TransferError> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|source| TransferError::file(path, source))
}
