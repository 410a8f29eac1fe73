//! Lists: filters, order and pages (spec 06 A5).

use flyte_idl::datacatalog::{
    Artifact, ArtifactPropertyFilter, CreateArtifactRequest, CreateDatasetRequest, Dataset,
    DatasetPropertyFilter, FilterExpression, KeyValuePair, ListArtifactsRequest,
    ListDatasetsRequest, PaginationOptions, Partition, PartitionPropertyFilter,
    SinglePropertyFilter, TagPropertyFilter, artifact_property_filter, dataset_property_filter,
    partition_property_filter, single_property_filter::PropertyFilter, tag_property_filter,
};
use tonic::Code;

use crate::{
    harness::{Settings, Store, World, data, metadata, refusal, task},
    on_both_databases,
};

const DESCENDING: i32 = 0;
const ASCENDING: i32 = 1;

fn filter(filters: Vec<PropertyFilter>) -> FilterExpression {
    let filters = filters.into_iter().map(|filter| SinglePropertyFilter {
        // An operator that nobody knows is taken for the only one.
        operator: 7,
        property_filter: Some(filter),
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

fn options(limit: u32, token: &str, sort_order: i32) -> PaginationOptions {
    PaginationOptions {
        limit,
        token: token.to_owned(),
        sort_key: 0,
        sort_order,
    }
}

async fn artifacts_by_filter_and_page(store: Store) {
    let world = World::start(store).await;
    let (id, other) = (task("listed"), task("other"));
    for id in [&id, &other] {
        world.dataset(id, &["day"]).await;
        for (name, day) in [("a", "1"), ("b", "1"), ("c", "2")] {
            let request = CreateArtifactRequest {
                artifact: Some(Artifact {
                    id: format!("{name}-{}", id.name),
                    dataset: Some(id.clone()),
                    data: data(&[("o0", 1)]),
                    partitions: vec![Partition {
                        key: "day".to_owned(),
                        value: day.to_owned(),
                    }],
                    ..Artifact::default()
                }),
            };
            world.client.clone().create_artifact(request).await.unwrap();
        }
        for name in ["t1", "t2"] {
            world
                .tag(id, name, &format!("a-{}", id.name))
                .await
                .unwrap();
        }
    }
    let list = async |filters: Vec<PropertyFilter>, pagination| {
        let request = ListArtifactsRequest {
            dataset: Some(id.clone()),
            filter: Some(filter(filters)),
            pagination,
        };
        let listed = world.client.clone().list_artifacts(request).await?;
        let listed = listed.into_inner();
        let ids: String = listed
            .artifacts
            .iter()
            .map(|artifact| {
                assert_eq!(artifact.data, data(&[("o0", 1)]));
                assert_eq!(artifact.partitions.len(), 1);
                artifact.id.chars().next().unwrap()
            })
            .collect();
        Ok::<_, tonic::Status>((ids, listed.next_token))
    };
    let newest = || Some(options(0, "", DESCENDING));
    for (case, filters, pagination, ids, token) in [
        ("all", vec![], None, "cba", "3"),
        ("no limit", vec![], newest(), "cba", "3"),
        (
            "the oldest first",
            vec![],
            Some(options(2, "", ASCENDING)),
            "ab",
            "2",
        ),
        (
            "the next page",
            vec![],
            Some(options(2, "2", ASCENDING)),
            "c",
            "3",
        ),
        (
            "behind the last",
            vec![],
            Some(options(2, "3", ASCENDING)),
            "",
            "3",
        ),
        (
            "a blank token",
            vec![],
            Some(options(1, " ", DESCENDING)),
            "c",
            "1",
        ),
        (
            "by partition",
            vec![partition("day", "1")],
            newest(),
            "ba",
            "2",
        ),
        (
            "by another key",
            vec![partition("hour", "1")],
            newest(),
            "",
            "0",
        ),
        ("by tag", vec![tag("t2")], newest(), "a", "1"),
        (
            "by two tags and a partition",
            vec![tag("t1"), tag("t2"), partition("day", "1")],
            newest(),
            "a",
            "1",
        ),
        (
            "by what no one has at once",
            vec![tag("t1"), partition("day", "2")],
            newest(),
            "",
            "0",
        ),
        (
            "by id",
            vec![artifact("b-flyte_task-listed")],
            newest(),
            "b",
            "1",
        ),
        (
            "by an id of another dataset",
            vec![artifact("b-flyte_task-other")],
            newest(),
            "",
            "0",
        ),
    ] {
        let (found, next) = list(filters, pagination).await.unwrap();
        assert_eq!((found.as_str(), next.as_str()), (ids, token), "{case}");
    }
}

async fn datasets_by_filter_and_page(store: Store) {
    use dataset_property_filter::Property;
    let world = World::start(store).await;
    for (name, keys) in [("a", &[][..]), ("b", &["x", "y"]), ("c", &[])] {
        world.dataset(&task(name), keys).await;
    }
    let by = |property| {
        vec![PropertyFilter::DatasetFilter(DatasetPropertyFilter {
            property: Some(property),
        })]
    };
    let list = async |filters: Vec<PropertyFilter>, pagination| {
        let request = ListDatasetsRequest {
            filter: Some(filter(filters)),
            pagination,
        };
        let listed = world.client.clone().list_datasets(request).await?;
        Ok::<_, tonic::Status>(listed.into_inner())
    };
    let name = || Property::Name("flyte_task-b".to_owned());
    for (case, filters, pagination, names, token) in [
        ("all", vec![], None, "cba", "3"),
        (
            "a page",
            vec![],
            Some(options(2, "1", ASCENDING)),
            "bc",
            "3",
        ),
        ("by name", by(name()), None, "b", "1"),
        (
            "by project",
            by(Property::Project("flytesnacks".to_owned())),
            None,
            "cba",
            "3",
        ),
        (
            "by domain",
            by(Property::Domain("production".to_owned())),
            None,
            "",
            "0",
        ),
        (
            "by version",
            by(Property::Version("2".to_owned())),
            None,
            "",
            "0",
        ),
    ] {
        let listed = list(filters, pagination).await.unwrap();
        let found: String = listed
            .datasets
            .iter()
            .map(|dataset| dataset.id.as_ref().unwrap().name.chars().last().unwrap())
            .collect();
        assert_eq!(
            (found.as_str(), listed.next_token.as_str()),
            (names, token),
            "{case}"
        );
    }
    let listed = list(by(name()), None).await.unwrap();
    assert_eq!(listed.datasets.first().unwrap().partition_keys, ["x", "y"]);
    let (code, text) = refusal(list(vec![tag("t")], None).await).unwrap();
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(text, "Dataset cannot be filtered by Tag properties");
}

/// Outputs come with the list: as many as a message may hold, and at least one artifact.
async fn a_page_ends_where_a_message_is_full(store: Store) {
    let mut settings = Settings::default();
    settings.application.grpc_max_recv_msg_size_mbs = 1;
    let world = World::start_with(store, &settings).await;
    let id = task("large");
    world.dataset(&id, &[]).await;
    let names: Vec<String> = (0..900).map(|number| format!("{number:0>600}")).collect();
    for artifact in ["a", "b", "c"] {
        let outputs: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        world.artifact(&id, artifact, &outputs).await.unwrap();
    }
    let mut token = String::new();
    for expected in ["a", "b", "c", ""] {
        let request = ListArtifactsRequest {
            dataset: Some(id.clone()),
            filter: None,
            pagination: Some(options(0, &token, ASCENDING)),
        };
        let listed = world
            .client
            .clone()
            .list_artifacts(request)
            .await
            .unwrap()
            .into_inner();
        let ids: String = listed
            .artifacts
            .iter()
            .map(|artifact| artifact.id.as_str())
            .collect();
        assert_eq!(ids, expected);
        token = listed.next_token;
    }
}

async fn a_page_of_datasets_does_too(store: Store) {
    let mut settings = Settings::default();
    settings.application.grpc_max_recv_msg_size_mbs = 1;
    let world = World::start_with(store, &settings).await;
    let mut client = world.client.clone();
    for number in 10..30 {
        let request = CreateDatasetRequest {
            dataset: Some(Dataset {
                id: Some(task(&number.to_string())),
                metadata: Some(metadata("k", &"v".repeat(60_000))),
                partition_keys: Vec::new(),
            }),
        };
        client.create_dataset(request).await.unwrap();
    }
    let mut token = String::new();
    for expected in [17, 3, 0] {
        let request = ListDatasetsRequest {
            filter: None,
            pagination: Some(options(0, &token, ASCENDING)),
        };
        let listed = client.list_datasets(request).await.unwrap().into_inner();
        assert_eq!(listed.datasets.len(), expected, "{token}");
        token = listed.next_token;
    }
    assert_eq!(token, "20");
}

on_both_databases!(
    artifacts_by_filter_and_page,
    datasets_by_filter_and_page,
    a_page_ends_where_a_message_is_full,
    a_page_of_datasets_does_too,
);
