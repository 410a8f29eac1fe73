//! What lists are restricted to (spec 06 A5): equal values, all of which must hold.

use flyte_idl::datacatalog::{
    FilterExpression, artifact_property_filter, dataset_property_filter, partition_property_filter,
    single_property_filter::PropertyFilter, tag_property_filter,
};

use crate::error::{Error, Result};

/// The most filters of one request; each is a condition of the statement.
const MOST: usize = 50;

/// A condition on artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactFilter {
    /// It has this partition.
    Partition {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// It has this tag.
    Tag(String),
    /// It has this id; an extension of the reference, which refuses the filter.
    Id(String),
}

/// A condition on datasets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetFilter {
    /// The field.
    pub field: DatasetField,
    /// What it equals.
    pub value: String,
}

/// A field that datasets can be listed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetField {
    /// The project.
    Project,
    /// The domain.
    Domain,
    /// The name.
    Name,
    /// The version.
    Version,
}

/// The filters of ListArtifacts.
///
/// # Errors
/// INVALID_ARGUMENT for filters on datasets, empty values, and too many.
pub fn of_artifacts(expression: Option<&FilterExpression>) -> Result<Vec<ArtifactFilter>> {
    let filters = properties(expression)?
        .into_iter()
        .map(|filter| match filter {
            Some(PropertyFilter::PartitionFilter(filter)) => match &filter.property {
                Some(partition_property_filter::Property::KeyVal(pair)) => {
                    Ok(ArtifactFilter::Partition {
                        key: value("PartitionKey", &pair.key)?,
                        value: value("PartitionValue", &pair.value)?,
                    })
                }
                None => Err(no_such_entity()),
            },
            Some(PropertyFilter::TagFilter(filter)) => match &filter.property {
                Some(tag_property_filter::Property::TagName(name)) => {
                    Ok(ArtifactFilter::Tag(value("TagName", name)?))
                }
                None => Err(no_such_entity()),
            },
            Some(PropertyFilter::ArtifactFilter(filter)) => match &filter.property {
                Some(artifact_property_filter::Property::ArtifactId(id)) => {
                    Ok(ArtifactFilter::Id(value("artifactID", id)?))
                }
                None => Err(no_such_entity()),
            },
            Some(PropertyFilter::DatasetFilter(_)) => Err(foreign("Artifact", "Dataset")),
            None => Err(no_such_entity()),
        });
    filters.collect()
}

/// The filters of ListDatasets.
///
/// # Errors
/// INVALID_ARGUMENT for filters on anything else, empty values, and too many.
pub fn of_datasets(expression: Option<&FilterExpression>) -> Result<Vec<DatasetFilter>> {
    use dataset_property_filter::Property;
    let filters = properties(expression)?
        .into_iter()
        .map(|filter| match filter {
            Some(PropertyFilter::DatasetFilter(filter)) => {
                let (field, name, text) = match &filter.property {
                    Some(Property::Project(text)) => (DatasetField::Project, "project", text),
                    Some(Property::Domain(text)) => (DatasetField::Domain, "domain", text),
                    Some(Property::Name(text)) => (DatasetField::Name, "name", text),
                    Some(Property::Version(text)) => (DatasetField::Version, "version", text),
                    // There is no column for it.
                    Some(Property::Org(_)) | None => return Err(no_such_entity()),
                };
                Ok(DatasetFilter {
                    field,
                    value: value(name, text)?,
                })
            }
            Some(PropertyFilter::TagFilter(_)) => Err(foreign("Dataset", "Tag")),
            Some(PropertyFilter::PartitionFilter(_)) => Err(foreign("Dataset", "Partition")),
            Some(PropertyFilter::ArtifactFilter(_)) => Err(foreign("Dataset", "Artifact")),
            None => Err(no_such_entity()),
        });
    filters.collect()
}

/// The properties of all filters. There is one operator, and the reference takes unknown ones for it.
fn properties(expression: Option<&FilterExpression>) -> Result<Vec<Option<&PropertyFilter>>> {
    let filters = expression.map_or(&[][..], |expression| &expression.filters);
    if filters.len() > MOST {
        return Err(Error::invalid(format!(
            "{} filters are too many, {MOST} are the most",
            filters.len()
        )));
    }
    let properties = filters.iter().map(|filter| filter.property_filter.as_ref());
    Ok(properties.collect())
}

fn value(field: &str, text: &str) -> Result<String> {
    super::ids::required(field, text).map(str::to_owned)
}

fn foreign(listed: &str, filtered: &str) -> Error {
    Error::invalid(format!(
        "{listed} cannot be filtered by {filtered} properties"
    ))
}

/// The reference's words for a property that it does not know, blank included.
fn no_such_entity() -> Error {
    Error::invalid("no such entity ")
}

#[cfg(test)]
mod tests {
    use flyte_idl::datacatalog::{
        ArtifactPropertyFilter, DatasetPropertyFilter, KeyValuePair, PartitionPropertyFilter,
        SinglePropertyFilter, TagPropertyFilter,
    };

    use super::*;

    fn expression(filters: Vec<Option<PropertyFilter>>) -> FilterExpression {
        let filters = filters.into_iter().map(|filter| SinglePropertyFilter {
            operator: 0,
            property_filter: filter,
        });
        FilterExpression {
            filters: filters.collect(),
        }
    }

    fn partition(key: &str, value: &str) -> PropertyFilter {
        let pair = KeyValuePair {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        PropertyFilter::PartitionFilter(PartitionPropertyFilter {
            property: Some(partition_property_filter::Property::KeyVal(pair)),
        })
    }

    fn tag(name: &str) -> PropertyFilter {
        PropertyFilter::TagFilter(TagPropertyFilter {
            property: Some(tag_property_filter::Property::TagName(name.to_owned())),
        })
    }

    fn artifact(id: &str) -> PropertyFilter {
        PropertyFilter::ArtifactFilter(ArtifactPropertyFilter {
            property: Some(artifact_property_filter::Property::ArtifactId(
                id.to_owned(),
            )),
        })
    }

    fn dataset(property: Option<dataset_property_filter::Property>) -> PropertyFilter {
        PropertyFilter::DatasetFilter(DatasetPropertyFilter { property })
    }

    #[test]
    fn artifacts_are_filtered_by_partitions_tags_and_ids() {
        let name = || {
            dataset(Some(dataset_property_filter::Property::Name(
                "n".to_owned(),
            )))
        };
        let cases = [
            (vec![], Ok(vec![])),
            (
                vec![
                    Some(partition("k", "v")),
                    Some(tag("t")),
                    Some(artifact("a")),
                ],
                Ok(vec![
                    ArtifactFilter::Partition {
                        key: "k".to_owned(),
                        value: "v".to_owned(),
                    },
                    ArtifactFilter::Tag("t".to_owned()),
                    ArtifactFilter::Id("a".to_owned()),
                ]),
            ),
            (vec![Some(partition("", "v"))], Err("missing PartitionKey")),
            (
                vec![Some(partition("k", ""))],
                Err("missing PartitionValue"),
            ),
            (vec![Some(tag(""))], Err("missing TagName")),
            (vec![Some(artifact(""))], Err("missing artifactID")),
            (
                vec![Some(name())],
                Err("Artifact cannot be filtered by Dataset properties"),
            ),
            (vec![None], Err("no such entity ")),
            (
                vec![Some(tag("t")); 51],
                Err("51 filters are too many, 50 are the most"),
            ),
        ];
        for (filters, expected) in cases {
            let expression = expression(filters);
            let read = of_artifacts(Some(&expression)).map_err(|error| error.to_string());
            assert_eq!(read, expected.map_err(str::to_owned), "{expression:?}");
        }
        assert_eq!(of_artifacts(None).unwrap(), []);
    }

    #[test]
    fn datasets_are_filtered_by_their_own_fields() {
        use dataset_property_filter::Property;
        let text = || "x".to_owned();
        let found = |field| {
            Ok(vec![DatasetFilter {
                field,
                value: text(),
            }])
        };
        let foreign = |kind: &str| Err(format!("Dataset cannot be filtered by {kind} properties"));
        for (filter, expected) in [
            (
                dataset(Some(Property::Project(text()))),
                found(DatasetField::Project),
            ),
            (
                dataset(Some(Property::Domain(text()))),
                found(DatasetField::Domain),
            ),
            (
                dataset(Some(Property::Name(text()))),
                found(DatasetField::Name),
            ),
            (
                dataset(Some(Property::Version(text()))),
                found(DatasetField::Version),
            ),
            (
                dataset(Some(Property::Version(String::new()))),
                Err("missing version".to_owned()),
            ),
            (
                dataset(Some(Property::Org(text()))),
                Err("no such entity ".to_owned()),
            ),
            (dataset(None), Err("no such entity ".to_owned())),
            (tag("t"), foreign("Tag")),
            (partition("k", "v"), foreign("Partition")),
            (artifact("a"), foreign("Artifact")),
        ] {
            let expression = expression(vec![Some(filter)]);
            let read = of_datasets(Some(&expression)).map_err(|error| error.to_string());
            assert_eq!(read, expected, "{expression:?}");
        }
    }
}
