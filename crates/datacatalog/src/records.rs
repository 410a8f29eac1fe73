//! What rows hold, as the handlers see it.

use flyte_idl::datacatalog::{self, Metadata};
use flyte_platform::sql::DbError;
use jiff::Timestamp;
use prost::Message as _;
use uuid::Uuid;

use crate::domain::ids::DatasetKey;

/// What rows refer to a dataset by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetRef {
    /// Its key.
    pub key: DatasetKey,
    /// What partition keys, partitions, artifacts and tags refer to it by. Rows that were edited may lack it.
    pub uuid: Option<Uuid>,
}

impl DatasetRef {
    /// Its id on the wire.
    pub fn to_wire(&self) -> datacatalog::DatasetId {
        self.key.to_wire(self.uuid)
    }
}

/// A dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Which one.
    pub id: DatasetRef,
    /// What its creator says of it.
    pub metadata: Metadata,
}

/// An artifact without what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// The dataset that it is in.
    pub dataset: DatasetRef,
    /// Its id, a UUID by custom.
    pub id: String,
    /// What its creator says of it.
    pub metadata: Metadata,
    /// When it was created.
    pub created_at: Option<Timestamp>,
}

impl Artifact {
    /// Its key.
    pub fn key(&self) -> ArtifactKey {
        ArtifactKey {
            dataset: self.dataset.key.clone(),
            id: self.id.clone(),
        }
    }
}

/// Which artifact: its id within a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArtifactKey {
    /// The dataset.
    pub dataset: DatasetKey,
    /// The id, a UUID by custom.
    pub id: String,
}

/// Where one output of an artifact is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactData {
    /// The output's name.
    pub name: String,
    /// The URI of the blob, which is never computed again.
    pub location: String,
}

/// A value of a partition key that an artifact has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Who holds a tag of a dataset, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The owner's own name for itself.
    pub owner: String,
    /// From then on others may have it.
    pub expires_at: Timestamp,
}

/// Metadata as column `serialized_metadata` has it. Zero bytes are written for none: Go fails on NULL.
pub fn encode_metadata(metadata: &Metadata) -> Vec<u8> {
    metadata.encode_to_vec()
}

/// Metadata of a row; NULL is none.
///
/// # Errors
/// [`DbError::Column`] for bytes that are no message.
pub fn decode_metadata(bytes: &[u8]) -> Result<Metadata, DbError> {
    Metadata::decode(bytes).map_err(|error| DbError::Column {
        column: "serialized_metadata".to_owned(),
        source: error.into(),
    })
}
