//! Ids in requests: which fields must be there, in the reference's order and words (spec 06 A3), and how long they may be.

use flyte_idl::datacatalog::DatasetId;
use uuid::Uuid;

use crate::error::{Error, Result};

/// The most bytes that all parts of one key have together. PostgreSQL takes 2,704 in an index, and no object's key in a blob
/// store has more than 1,024.
const MAX_KEY: usize = 2_000;

/// The four fields that identify a dataset; none is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatasetKey {
    project: String,
    domain: String,
    name: String,
    version: String,
}

impl DatasetKey {
    /// A key of these parts.
    ///
    /// # Errors
    /// INVALID_ARGUMENT `missing <field>` for the first that is empty.
    pub fn new(project: &str, domain: &str, name: &str, version: &str) -> Result<Self> {
        for (field, value) in [
            ("project", project),
            ("domain", domain),
            ("name", name),
            ("version", version),
        ] {
            if value.is_empty() {
                return Err(Error::missing(field));
            }
        }
        Ok(Self {
            project: project.to_owned(),
            domain: domain.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }

    /// The key of a row, whatever is in it.
    pub(crate) fn of_row(project: String, domain: String, name: String, version: String) -> Self {
        Self {
            project,
            domain,
            name,
            version,
        }
    }

    /// The key in a request. The UUID that may stand beside it does not replace it.
    ///
    /// # Errors
    /// INVALID_ARGUMENT `missing dataset`, or as [`DatasetKey::new`].
    pub fn of_request(id: Option<&DatasetId>) -> Result<Self> {
        let id = id.ok_or_else(|| Error::missing("dataset"))?;
        Self::new(&id.project, &id.domain, &id.name, &id.version)
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The id on the wire; it has no org.
    pub fn to_wire(&self, uuid: Option<Uuid>) -> DatasetId {
        DatasetId {
            project: self.project.clone(),
            domain: self.domain.clone(),
            name: self.name.clone(),
            version: self.version.clone(),
            uuid: uuid.map(|uuid| uuid.to_string()).unwrap_or_default(),
            org: String::new(),
        }
    }

    /// Checks that databases can have it, with `further` parts, as a key.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with the limit.
    pub fn require_room(&self, further: &[&str]) -> Result<()> {
        let own = [&self.project, &self.domain, &self.name, &self.version].map(String::len);
        let further = further.iter().map(|part| part.len());
        let length: usize = own.into_iter().chain(further).sum();
        if length > MAX_KEY {
            return Err(Error::invalid(format!(
                "the names in the request have {length} bytes together, and {MAX_KEY} are the most"
            )));
        }
        Ok(())
    }
}

/// The UUID of a dataset in a request; none if it is empty.
///
/// # Errors
/// INVALID_ARGUMENT for other texts.
pub fn dataset_uuid(id: &DatasetId) -> Result<Option<Uuid>> {
    if id.uuid.is_empty() {
        return Ok(None);
    }
    Uuid::try_parse(&id.uuid)
        .map(Some)
        .map_err(|_syntax| Error::invalid(format!("invalid value for UUID, value:[{}]", id.uuid)))
}

/// A text of a request that must not be empty.
///
/// # Errors
/// INVALID_ARGUMENT `missing <field>`.
pub fn required<'a>(field: &str, value: &'a str) -> Result<&'a str> {
    if value.is_empty() {
        return Err(Error::missing(field));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(parts: [&str; 4]) -> DatasetId {
        let [project, domain, name, version] = parts.map(str::to_owned);
        DatasetId {
            project,
            domain,
            name,
            version,
            ..DatasetId::default()
        }
    }

    #[test]
    fn the_first_empty_field_is_named() {
        let text = |id: Option<DatasetId>| {
            DatasetKey::of_request(id.as_ref())
                .map_or_else(|error| error.to_string(), |_| String::new())
        };
        for (request, expected) in [
            (None, "missing dataset"),
            (Some(id(["", "", "", ""])), "missing project"),
            (Some(id(["p", "", "", ""])), "missing domain"),
            (Some(id(["p", "d", "", ""])), "missing name"),
            (Some(id(["p", "d", "n", ""])), "missing version"),
            (Some(id(["p", "d", "n", "v"])), ""),
        ] {
            assert_eq!(text(request.clone()), expected, "{request:?}");
        }
        let only_uuid = DatasetId {
            uuid: Uuid::nil().to_string(),
            ..DatasetId::default()
        };
        assert_eq!(text(Some(only_uuid)), "missing project");
    }

    #[test]
    fn a_key_has_room_for_two_thousand_bytes() {
        let key = DatasetKey::new("p", "d", "n", &"v".repeat(1_000)).unwrap();
        for (further, fits) in [("x".repeat(997), true), ("x".repeat(998), false)] {
            assert_eq!(key.require_room(&[&further]).is_ok(), fits);
        }
    }

    #[test]
    fn a_uuid_is_optional_and_checked() {
        let with = |uuid: &str| DatasetId {
            uuid: uuid.to_owned(),
            ..DatasetId::default()
        };
        let uuid = "a1a2a3a4-b1b2-c1c2-d1d2-d3d4d5d6d7d8";
        assert_eq!(dataset_uuid(&with("")).unwrap(), None);
        let read = dataset_uuid(&with(&uuid.to_uppercase())).unwrap();
        assert_eq!(read.unwrap().to_string(), uuid);
        let error = dataset_uuid(&with("x")).unwrap_err();
        assert_eq!(error.to_string(), "invalid value for UUID, value:[x]");
    }
}
