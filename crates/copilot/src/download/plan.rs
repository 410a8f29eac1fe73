//! What a container finds of its inputs, decided without touching disk or store (spec 05 §17.2).
//!
//! ```text
//! LiteralMap ──plan──┬─> steps: folders to make, files to write, blobs to fetch
//!                    ├─> values: what inputs.json or inputs.yaml says
//!                    └─> inputs: what inputs.pb says, with paths where blobs were
//! ```
//!
//! Every path is below the folder of the inputs: names of variables, keys of maps and nothing else are parts of it, and
//! each is checked to be the name of one file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use flyte_idl::core::{
    Blob, BlobType, Literal, LiteralCollection, LiteralMap, Scalar, Schema, StructuredDataset,
    Union, blob_type::BlobDimensionality, literal, primitive, scalar,
};
use serde_json::{Map, Value};

use super::scalars::{self, Written};
use crate::names::{self, NotAFileName};

/// How the values are written beside the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `inputs.json`.
    Json,
    /// `inputs.yaml`.
    Yaml,
    /// Nothing but `inputs.pb`, which is there in each format.
    Proto,
}

impl Format {
    /// The name on the command line.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "JSON" => Some(Self::Json),
            "YAML" => Some(Self::Yaml),
            "PROTO" => Some(Self::Proto),
            _ => None,
        }
    }
}

/// Names of files that are ours; no variable can have them.
const OWN: [&str; 3] = ["inputs.pb", "inputs.json", "inputs.yaml"];

/// One thing to do. A folder stands before what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a folder.
    Folder(PathBuf),
    /// Write a file.
    File {
        /// Its path.
        path: PathBuf,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Fetch one object into a file.
    Fetch {
        /// Its URI, of the store or of HTTP.
        from: String,
        /// Its path.
        to: PathBuf,
    },
    /// Fetch all objects below a prefix into a folder.
    FetchAll {
        /// URI of the prefix.
        from: String,
        /// Path of the folder.
        to: PathBuf,
        /// Where the folder's path stands in the values, as a JSON pointer; null stands there if nothing was found.
        pointer: String,
    },
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What is to be done.
    pub steps: Vec<Step>,
    /// The inputs with paths instead of URIs.
    pub inputs: LiteralMap,
    /// Values by variable, sorted.
    pub values: Map<String, Value>,
}

/// Why an input has no place in the folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("input {variable:?}")]
pub struct PlanError {
    /// The variable.
    pub variable: String,
    /// What is wrong with it, or with what is in it.
    pub source: Cause,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The variable, or a key in its value, would leave the folder.
    #[error(transparent)]
    Name(#[from] NotAFileName),
    /// The variable is named as a file of ours.
    #[error("it has the name of a file that is written beside the inputs")]
    Taken,
    /// There is no value at all.
    #[error("unsupported literal type [{0}]")]
    UnsupportedLiteral(&'static str),
    /// A kind of value that has no file.
    #[error("unsupported scalar type [{0}]")]
    UnsupportedScalar(String),
    /// A moment or length that the text form does not have.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// NaN or an infinity, which JSON and YAML of Go cannot say.
    #[error("{0} has no form in JSON; ask for the format PROTO, or read the file of the variable")]
    NotFinite(String),
    /// A path that is not UTF-8 cannot stand in a literal.
    #[error("the folder of the inputs is not UTF-8")]
    Folder,
}

/// Decides where each of `inputs` goes in `folder`. Literals that were offloaded must have been read before.
///
/// # Errors
/// The first variable with a value that has no place.
pub fn plan(inputs: &LiteralMap, folder: &Path, format: Format) -> Result<Plan, PlanError> {
    let mut planner = Planner {
        format,
        steps: Vec::new(),
    };
    let mut values = Map::new();
    let mut literals = BTreeMap::new();
    for (variable, literal) in &inputs.literals {
        let placed = planner.variable(variable, literal, folder);
        let (value, literal) = placed.map_err(|source| PlanError {
            variable: variable.chars().take(80).collect(),
            source,
        })?;
        values.insert(variable.clone(), value);
        literals.insert(variable.clone(), literal);
    }
    Ok(Plan {
        steps: planner.steps,
        inputs: LiteralMap { literals },
        values,
    })
}

/// Where a value goes.
#[derive(Clone)]
struct Place {
    path: PathBuf,
    pointer: String,
}

impl Place {
    fn inside(&self, name: &str) -> Result<Self, Cause> {
        Ok(Self {
            path: self.path.join(names::file_name(name)?),
            pointer: format!("{}/{}", self.pointer, escaped(name)),
        })
    }

    fn text(&self) -> Result<String, Cause> {
        self.path.to_str().map(str::to_owned).ok_or(Cause::Folder)
    }
}

/// A part of a JSON pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

struct Planner {
    format: Format,
    steps: Vec<Step>,
}

impl Planner {
    fn variable(
        &mut self,
        name: &str,
        literal: &Literal,
        folder: &Path,
    ) -> Result<(Value, Literal), Cause> {
        if OWN.contains(&name) {
            return Err(Cause::Taken);
        }
        let root = Place {
            path: folder.to_owned(),
            pointer: String::new(),
        };
        self.literal(literal, &root.inside(name)?)
    }

    fn literal(&mut self, literal: &Literal, place: &Place) -> Result<(Value, Literal), Cause> {
        let (value, rewritten) = match &literal.value {
            Some(literal::Value::Scalar(scalar)) => {
                let (value, scalar) = self.scalar(scalar, place)?;
                (value, literal::Value::Scalar(Box::new(scalar)))
            }
            Some(literal::Value::Collection(collection)) => {
                self.steps.push(Step::Folder(place.path.clone()));
                let mut values = Vec::with_capacity(collection.literals.len());
                let mut literals = Vec::with_capacity(collection.literals.len());
                for (index, item) in collection.literals.iter().enumerate() {
                    let (value, item) = self.literal(item, &place.inside(&index.to_string())?)?;
                    values.push(value);
                    literals.push(item);
                }
                (
                    Value::Array(values),
                    literal::Value::Collection(LiteralCollection { literals }),
                )
            }
            Some(literal::Value::Map(map)) => {
                self.steps.push(Step::Folder(place.path.clone()));
                let mut values = Map::new();
                let mut literals = BTreeMap::new();
                for (key, member) in &map.literals {
                    let (value, member) = self.literal(member, &place.inside(key)?)?;
                    values.insert(key.clone(), value);
                    literals.insert(key.clone(), member);
                }
                (
                    Value::Object(values),
                    literal::Value::Map(LiteralMap { literals }),
                )
            }
            Some(literal::Value::OffloadedMetadata(_)) => {
                return Err(Cause::UnsupportedLiteral("offloaded_metadata"));
            }
            None => return Err(Cause::UnsupportedLiteral("none")),
        };
        let rewritten = Literal {
            value: Some(rewritten),
            hash: literal.hash.clone(),
            metadata: literal.metadata.clone(),
        };
        Ok((value, rewritten))
    }

    fn scalar(&mut self, scalar: &Scalar, place: &Place) -> Result<(Value, Scalar), Cause> {
        let Some(value) = &scalar.value else {
            return Err(Cause::UnsupportedScalar("none".to_owned()));
        };
        let written = match value {
            scalar::Value::Primitive(primitive) => {
                if self.format != Format::Proto
                    && let Some(primitive::Value::FloatValue(number)) = primitive.value
                    && !number.is_finite()
                {
                    return Err(Cause::NotFinite(number.to_string()));
                }
                scalars::primitive(primitive)?
            }
            scalar::Value::Binary(binary) => scalars::binary(binary),
            scalar::Value::Error(error) => scalars::error(error),
            scalar::Value::Generic(fields) => scalars::structure(fields),
            scalar::Value::NoneType(_) => Written::null(),
            scalar::Value::Union(union) => return self.union(union, place),
            scalar::Value::Blob(blob) => return self.blob(blob, place),
            scalar::Value::Schema(schema) => {
                let local = self.folder(&schema.uri, place)?;
                let schema = Schema {
                    uri: local.clone(),
                    r#type: schema.r#type.clone(),
                };
                return Ok((Value::from(local), of(scalar::Value::Schema(schema))));
            }
            scalar::Value::StructuredDataset(dataset) => {
                return self.dataset(dataset, place);
            }
        };
        self.steps.push(Step::File {
            path: place.path.clone(),
            bytes: written.file,
        });
        Ok((written.value, scalar.clone()))
    }

    fn union(&mut self, union: &Union, place: &Place) -> Result<(Value, Scalar), Cause> {
        let inner = union
            .value
            .as_deref()
            .ok_or(Cause::UnsupportedLiteral("none"))?;
        let (value, inner) = self.literal(inner, place)?;
        let union = Union {
            value: Some(Box::new(inner)),
            r#type: union.r#type.clone(),
        };
        Ok((value, of(scalar::Value::Union(Box::new(union)))))
    }

    fn blob(&mut self, blob: &Blob, place: &Place) -> Result<(Value, Scalar), Cause> {
        let dimensionality = blob
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.r#type.as_ref())
            .map_or(BlobDimensionality::Single, BlobType::dimensionality);
        let local = match dimensionality {
            BlobDimensionality::Single => {
                self.steps.push(Step::Fetch {
                    from: blob.uri.clone(),
                    to: place.path.clone(),
                });
                place.text()?
            }
            BlobDimensionality::Multipart => self.folder(&blob.uri, place)?,
        };
        let blob = Blob {
            metadata: blob.metadata.clone(),
            uri: local.clone(),
        };
        Ok((Value::from(local), of(scalar::Value::Blob(blob))))
    }

    /// Go refuses all of them. One whose data are objects of a store is as good as a schema; one that is a table of a
    /// database is refused.
    fn dataset(
        &mut self,
        dataset: &StructuredDataset,
        place: &Place,
    ) -> Result<(Value, Scalar), Cause> {
        const STORES: [&str; 7] = ["s3", "gs", "abfs", "abfss", "file", "mem", "minio"];
        let scheme = dataset
            .uri
            .split_once("://")
            .map_or("", |(scheme, _)| scheme);
        if !STORES.contains(&scheme) {
            return Err(Cause::UnsupportedScalar(format!(
                "structured dataset at {:?}",
                dataset.uri.chars().take(200).collect::<String>()
            )));
        }
        let local = self.folder(&dataset.uri, place)?;
        let dataset = StructuredDataset {
            uri: local.clone(),
            metadata: dataset.metadata.clone(),
        };
        Ok((
            Value::from(local),
            of(scalar::Value::StructuredDataset(dataset)),
        ))
    }

    fn folder(&mut self, uri: &str, place: &Place) -> Result<String, Cause> {
        self.steps.push(Step::Folder(place.path.clone()));
        self.steps.push(Step::FetchAll {
            from: uri.to_owned(),
            to: place.path.clone(),
            pointer: place.pointer.clone(),
        });
        place.text()
    }
}

fn of(value: scalar::Value) -> Scalar {
    Scalar { value: Some(value) }
}
