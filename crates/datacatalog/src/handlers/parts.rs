//! What belongs to artifacts: data, partitions and tags, for a page of them at once.

use std::collections::HashMap;

use flyte_idl::{datacatalog, time};
use flyte_platform::sql::{DbError, ReadTx};

use crate::{
    records::{Artifact, ArtifactData, DatasetRef, Partition},
    repository::{artifact_data, partitions, tags},
};

/// What belongs to the artifacts of a dataset, by their ids.
#[derive(Debug, Default)]
pub(super) struct Parts {
    data: HashMap<String, Vec<ArtifactData>>,
    partitions: HashMap<String, Vec<Partition>>,
    tags: HashMap<String, Vec<String>>,
}

impl Parts {
    /// Looks them up.
    pub(super) async fn load(
        tx: &mut ReadTx,
        dataset: &DatasetRef,
        artifacts: &[String],
    ) -> Result<Self, DbError> {
        Ok(Self {
            data: by_artifact(artifact_data::of(tx, &dataset.key, artifacts).await?),
            partitions: by_artifact(partitions::of(tx, artifacts).await?),
            tags: by_artifact(tags::of(tx, dataset, artifacts).await?),
        })
    }

    /// Where the outputs of an artifact are; a second time there are none.
    pub(super) fn take_data(&mut self, artifact: &str) -> Vec<ArtifactData> {
        self.data.remove(artifact).unwrap_or_default()
    }

    /// An artifact with its outputs and what belongs to it, on the wire.
    pub(super) fn on_wire(
        &mut self,
        artifact: Artifact,
        data: Vec<datacatalog::ArtifactData>,
    ) -> datacatalog::Artifact {
        let Artifact {
            dataset,
            id,
            metadata,
            created_at,
        } = artifact;
        let dataset = dataset.to_wire();
        let partitions = self.partitions.remove(&id).unwrap_or_default();
        let tags = self.tags.remove(&id).unwrap_or_default();
        datacatalog::Artifact {
            data,
            metadata: Some(metadata),
            partitions: partitions
                .into_iter()
                .map(|Partition { key, value }| datacatalog::Partition { key, value })
                .collect(),
            tags: tags
                .into_iter()
                .map(|name| datacatalog::Tag {
                    name,
                    artifact_id: id.clone(),
                    dataset: Some(dataset.clone()),
                })
                .collect(),
            created_at: created_at.map(time::to_wire),
            dataset: Some(dataset),
            id,
        }
    }
}

fn by_artifact<T>(rows: Vec<(String, T)>) -> HashMap<String, Vec<T>> {
    let mut by_artifact: HashMap<String, Vec<T>> = HashMap::new();
    for (artifact, part) in rows {
        by_artifact.entry(artifact).or_default().push(part);
    }
    by_artifact
}
