//! Requests about artifacts: how they name one, and what data they bring (spec 06 A3).

use std::collections::BTreeSet;

use bytes::Bytes;
use flyte_idl::datacatalog::{self, DatasetId, get_artifact_request, update_artifact_request};
use prost::Message as _;

use super::ids::{DatasetKey, required};
use crate::error::{Error, Result};

/// The most outputs of one artifact. Each is an object in the blob store.
pub const MOST_DATA: usize = 1_000;

/// How a request names an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handle {
    /// By its id, in a dataset or in whichever has it.
    Id {
        /// The dataset, if the request says so.
        dataset: Option<DatasetKey>,
        /// The id.
        id: String,
    },
    /// By a tag of a dataset.
    Tag {
        /// The dataset.
        dataset: DatasetKey,
        /// The tag.
        name: String,
    },
}

impl Handle {
    /// The handle of GetArtifact.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for one that is not whole.
    pub fn of_get(request: &datacatalog::GetArtifactRequest) -> Result<Self> {
        use get_artifact_request::QueryHandle;
        let dataset = request.dataset.as_ref();
        match &request.query_handle {
            Some(QueryHandle::ArtifactId(id)) => Self::by_id(dataset, id),
            Some(QueryHandle::TagName(name)) => Self::by_tag(dataset, name),
            None => Err(Error::missing("one of artifactID/tagName")),
        }
    }

    /// The handle of UpdateArtifact.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for one that is not whole.
    pub fn of_update(request: &datacatalog::UpdateArtifactRequest) -> Result<Self> {
        use update_artifact_request::QueryHandle;
        let dataset = request.dataset.as_ref();
        match &request.query_handle {
            Some(QueryHandle::ArtifactId(id)) => Self::by_id(dataset, id),
            Some(QueryHandle::TagName(name)) => Self::by_tag(dataset, name),
            None => Err(Error::missing("one of artifactID/tagName")),
        }
    }

    fn by_id(dataset: Option<&DatasetId>, id: &str) -> Result<Self> {
        let dataset = dataset
            .map(|dataset| DatasetKey::of_request(Some(dataset)))
            .transpose()?;
        let id = required("artifactID", id)?.to_owned();
        Ok(Self::Id { dataset, id })
    }

    fn by_tag(dataset: Option<&DatasetId>, name: &str) -> Result<Self> {
        let dataset = DatasetKey::of_request(dataset)?;
        let name = required("tagName", name)?.to_owned();
        Ok(Self::Tag { dataset, name })
    }

    /// The dataset that it names, if it does.
    pub fn dataset(&self) -> Option<&DatasetKey> {
        match self {
            Self::Id { dataset, .. } => dataset.as_ref(),
            Self::Tag { dataset, .. } => Some(dataset),
        }
    }
}

/// One output of a request, as the blob store gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewData {
    /// The output's name.
    pub name: String,
    /// The literal, encoded, without any envelope.
    pub literal: Bytes,
}

/// The outputs of a request.
///
/// # Errors
/// INVALID_ARGUMENT for none, too many, one without a name and two of one name.
pub fn data_of_request(data: &[datacatalog::ArtifactData]) -> Result<Vec<NewData>> {
    if data.is_empty() {
        return Err(Error::missing("artifactData"));
    }
    if data.len() > MOST_DATA {
        return Err(Error::invalid(format!(
            "{} outputs are too many for an artifact, {MOST_DATA} are the most",
            data.len()
        )));
    }
    let mut names = BTreeSet::new();
    let mut read = Vec::with_capacity(data.len());
    for output in data {
        let name = required("artifactData name", &output.name)?;
        if !names.insert(name) {
            return Err(Error::invalid(format!(
                "invalid value for artifactData, value:[{name} is there twice]"
            )));
        }
        read.push(NewData {
            name: name.to_owned(),
            literal: output
                .value
                .clone()
                .unwrap_or_default()
                .encode_to_vec()
                .into(),
        });
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use get_artifact_request::QueryHandle;

    use super::*;

    #[test]
    fn an_artifact_is_named_by_id_or_tag() {
        let id = || DatasetId {
            project: "p".to_owned(),
            domain: "d".to_owned(),
            name: "n".to_owned(),
            version: "v".to_owned(),
            ..DatasetId::default()
        };
        let by_id = |id: &str| Some(QueryHandle::ArtifactId(id.to_owned()));
        let by_tag = |name: &str| Some(QueryHandle::TagName(name.to_owned()));
        for (dataset, handle, wrong) in [
            (Some(id()), None, Some("missing one of artifactID/tagName")),
            (None, by_id("a"), None),
            (Some(id()), by_id("a"), None),
            (Some(id()), by_id(""), Some("missing artifactID")),
            (
                Some(DatasetId::default()),
                by_id("a"),
                Some("missing project"),
            ),
            (Some(id()), by_tag("t"), None),
            (None, by_tag("t"), Some("missing dataset")),
            (Some(id()), by_tag(""), Some("missing tagName")),
        ] {
            let request = datacatalog::GetArtifactRequest {
                dataset,
                query_handle: handle,
            };
            let said = Handle::of_get(&request)
                .err()
                .map(|error| error.to_string());
            assert_eq!(said.as_deref(), wrong, "{request:?}");
        }
    }

    #[test]
    fn outputs_have_names_of_their_own() {
        let data = |names: &[&str]| -> Vec<datacatalog::ArtifactData> {
            let named = names.iter().map(|name| datacatalog::ArtifactData {
                name: (*name).to_owned(),
                value: None,
            });
            named.collect()
        };
        let many = vec!["x"; MOST_DATA + 1];
        for (names, wrong) in [
            (&["a", "b"][..], None),
            (&[], Some("missing artifactData")),
            (&["a", ""], Some("missing artifactData name")),
            (
                &["a", "a"],
                Some("invalid value for artifactData, value:[a is there twice]"),
            ),
            (
                &many,
                Some("1001 outputs are too many for an artifact, 1000 are the most"),
            ),
        ] {
            let said = data_of_request(&data(names))
                .err()
                .map(|error| error.to_string());
            assert_eq!(said.as_deref(), wrong);
        }
    }
}
