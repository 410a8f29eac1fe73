//! Codes and texts of requests that are wrong, and of entities that are not there.

use flyte_idl::datacatalog::{
    AddTagRequest, Artifact, CreateArtifactRequest, CreateDatasetRequest, Dataset, DatasetId,
    GetArtifactRequest, GetDatasetRequest, ListArtifactsRequest, PaginationOptions, Partition, Tag,
    UpdateArtifactRequest, get_artifact_request, update_artifact_request,
};
use tonic::Code;

use crate::{
    harness::{Store, World, data, refusal, task},
    on_both_databases,
};

/// A refused request and what is said of it; of NOT_FOUND the beginning.
type Case = (&'static str, Option<(Code, String)>, Code, &'static str);

fn check(cases: Vec<Case>) {
    for (case, refusal, code, text) in cases {
        let (said, told) = refusal.unwrap_or_else(|| panic!("{case} is accepted"));
        assert_eq!(said, code, "{case}: {told}");
        let fits = if code == Code::NotFound {
            told.starts_with(text)
        } else {
            told == text
        };
        assert!(fits, "{case}: {told:?}");
    }
}

async fn datasets(store: Store) {
    let world = World::start(store).await;
    world.dataset(&task("there"), &[]).await;
    let client = || world.client.clone();
    let create = async |id: Option<DatasetId>, keys: &[&str]| {
        let request = CreateDatasetRequest {
            dataset: Some(Dataset {
                id,
                metadata: None,
                partition_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            }),
        };
        refusal(client().create_dataset(request).await)
    };
    let get = async |id: Option<DatasetId>| {
        refusal(
            client()
                .get_dataset(GetDatasetRequest { dataset: id })
                .await,
        )
    };
    let with = |change: fn(&mut DatasetId)| {
        let mut id = task("there");
        change(&mut id);
        Some(id)
    };
    let wrong = Code::InvalidArgument;
    let empty = CreateDatasetRequest { dataset: None };
    check(vec![
        (
            "no dataset",
            refusal(client().create_dataset(empty).await),
            wrong,
            "missing dataset",
        ),
        ("no id", create(None, &[]).await, wrong, "missing dataset"),
        (
            "no project",
            create(with(|id| id.project.clear()), &[]).await,
            wrong,
            "missing project",
        ),
        (
            "no domain",
            create(with(|id| id.domain.clear()), &[]).await,
            wrong,
            "missing domain",
        ),
        (
            "no name",
            create(with(|id| id.name.clear()), &[]).await,
            wrong,
            "missing name",
        ),
        (
            "both wrong",
            create(with(|id| id.version.clear()), &["a", "a"]).await,
            wrong,
            "missing version, invalid value for partitionKey, value:[Keys are not unique, occurrence count: map[a:2]]",
        ),
        (
            "a UUID that is none",
            create(with(|id| id.uuid = "x".to_owned()), &[]).await,
            wrong,
            "invalid value for UUID, value:[x]",
        ),
        (
            "a NUL",
            create(with(|id| id.version = "a\0b".to_owned()), &[]).await,
            wrong,
            "failed database operation with invalid byte sequence for encoding \"UTF8\": 0x00",
        ),
        (
            "another UUID",
            get(with(|id| {
                id.uuid = "a1a2a3a4-b1b2-c1c2-d1d2-d3d4d5d6d7d8".to_owned();
            }))
            .await,
            Code::NotFound,
            "missing entity of type Dataset with identifier ",
        ),
        ("no id to get", get(None).await, wrong, "missing dataset"),
        (
            "another version",
            get(with(|id| id.version = "2".to_owned())).await,
            Code::NotFound,
            "missing entity of type Dataset with identifier ",
        ),
    ]);
}

async fn artifacts(store: Store) {
    let world = World::start(store).await;
    let id = task("there");
    world.dataset(&id, &[]).await;
    let client = || world.client.clone();
    let create = async |artifact: Option<Artifact>| {
        let request = CreateArtifactRequest { artifact };
        refusal(client().create_artifact(request).await)
    };
    let whole = || Artifact {
        id: "a".to_owned(),
        dataset: Some(id.clone()),
        data: data(&[("o0", 1)]),
        ..Artifact::default()
    };
    let with = |change: fn(&mut Artifact)| {
        let mut artifact = whole();
        change(&mut artifact);
        Some(artifact)
    };
    let get = async |handle| {
        let request = GetArtifactRequest {
            dataset: Some(id.clone()),
            query_handle: handle,
        };
        refusal(client().get_artifact(request).await)
    };
    let update = async |handle, outputs: &[(&str, i64)]| {
        let request = UpdateArtifactRequest {
            dataset: Some(id.clone()),
            query_handle: handle,
            data: data(outputs),
            metadata: None,
        };
        refusal(client().update_artifact(request).await)
    };
    let list = async |dataset, pagination| {
        let request = ListArtifactsRequest {
            dataset,
            filter: None,
            pagination,
        };
        refusal(client().list_artifacts(request).await)
    };
    let wrong = Code::InvalidArgument;
    let text = || "x".to_owned();
    use get_artifact_request::QueryHandle as Get;
    use update_artifact_request::QueryHandle as Update;
    check(vec![
        ("no artifact", create(None).await, wrong, "missing artifact"),
        (
            "no dataset",
            create(with(|artifact| artifact.dataset = None)).await,
            wrong,
            "missing dataset",
        ),
        (
            "no id",
            create(with(|artifact| artifact.id.clear())).await,
            wrong,
            "missing artifactID",
        ),
        (
            "no data",
            create(with(|artifact| artifact.data.clear())).await,
            wrong,
            "missing artifactData",
        ),
        (
            "another dataset",
            create(with(|artifact| artifact.dataset = Some(task("away")))).await,
            Code::NotFound,
            "missing entity of type Dataset with identifier ",
        ),
        (
            "partitions that the dataset has not",
            create(with(|artifact| {
                artifact.partitions = vec![Partition::default()];
            }))
            .await,
            wrong,
            "Partition key mismatch, dataset keys: [], artifact Partitions: []",
        ),
        (
            "no handle",
            get(None).await,
            wrong,
            "missing one of artifactID/tagName",
        ),
        (
            "an empty id",
            get(Some(Get::ArtifactId(String::new()))).await,
            wrong,
            "missing artifactID",
        ),
        (
            "an empty tag",
            get(Some(Get::TagName(String::new()))).await,
            wrong,
            "missing tagName",
        ),
        (
            "another id",
            get(Some(Get::ArtifactId(text()))).await,
            Code::NotFound,
            "missing entity of type Artifact with identifier ",
        ),
        (
            "another tag",
            get(Some(Get::TagName(text()))).await,
            Code::NotFound,
            "missing entity of type Tag with identifier ",
        ),
        (
            "no handle to update",
            update(None, &[("o0", 1)]).await,
            wrong,
            "missing one of artifactID/tagName",
        ),
        (
            "no data to update",
            update(Some(Update::TagName(text())), &[]).await,
            wrong,
            "missing artifactData",
        ),
        (
            "another tag to update",
            update(Some(Update::TagName(text())), &[("o0", 1)]).await,
            Code::NotFound,
            "missing entity of type Tag with identifier ",
        ),
        (
            "another id to update",
            update(Some(Update::ArtifactId(text())), &[("o0", 1)]).await,
            Code::NotFound,
            "missing entity of type Artifact with identifier ",
        ),
        (
            "no dataset to list",
            list(None, None).await,
            wrong,
            "missing dataset",
        ),
        (
            "another dataset to list",
            list(Some(task("away")), None).await,
            Code::NotFound,
            "missing entity of type Dataset with identifier ",
        ),
        (
            "a token that is none",
            list(
                Some(id.clone()),
                Some(PaginationOptions {
                    token: text(),
                    ..PaginationOptions::default()
                }),
            )
            .await,
            wrong,
            "Invalid token value: x",
        ),
    ]);
    assert_eq!(world.keys().await, Vec::<String>::new());
}

async fn tags(store: Store) {
    let world = World::start(store).await;
    let id = task("there");
    world.dataset(&id, &[]).await;
    world.dataset(&task("other"), &[]).await;
    world.artifact(&id, "a", &[("o0", 1)]).await.unwrap();
    let add = async |tag: Option<Tag>| {
        let request = AddTagRequest { tag };
        refusal(world.client.clone().add_tag(request).await)
    };
    let tag = |name: &str, artifact: &str, dataset: Option<DatasetId>| {
        Some(Tag {
            name: name.to_owned(),
            artifact_id: artifact.to_owned(),
            dataset,
        })
    };
    let (there, other) = (Some(id.clone()), Some(task("other")));
    let wrong = Code::InvalidArgument;
    check(vec![
        ("no tag", add(None).await, wrong, "missing tag"),
        (
            "no dataset",
            add(tag("t", "a", None)).await,
            wrong,
            "missing dataset",
        ),
        (
            "no name",
            add(tag("", "a", there.clone())).await,
            wrong,
            "missing tagName",
        ),
        (
            "no artifact",
            add(tag("t", "", there.clone())).await,
            wrong,
            "missing artifactID",
        ),
        (
            "another dataset",
            add(tag("t", "a", Some(task("away")))).await,
            Code::NotFound,
            "missing entity of type Dataset with identifier ",
        ),
        (
            "an artifact of another dataset",
            add(tag("t", "a", other)).await,
            Code::NotFound,
            "missing entity of type Artifact with identifier ",
        ),
    ]);
}

/// Propeller asks again after UNAVAILABLE.
async fn a_database_that_is_away_is_unavailable(store: Store) {
    let world = World::start(store).await;
    let id = task("away");
    world.dataset(&id, &[]).await;
    world.artifact(&id, "a", &[("o0", 1)]).await.unwrap();
    world.database.close().await;
    for (case, refused) in [
        ("a read", refusal(world.tagged(&id, "t").await)),
        (
            "a creation",
            refusal(world.artifact(&id, "b", &[("o0", 1)]).await),
        ),
        ("a tag", refusal(world.tag(&id, "t", "a").await)),
        (
            "an overwrite",
            refusal(world.overwrite(&id, "t", &[("o0", 2)]).await),
        ),
    ] {
        let (code, text) = refused.unwrap();
        assert_eq!(code, Code::Unavailable, "{case}: {text}");
    }
}

on_both_databases!(
    datasets,
    artifacts,
    tags,
    a_database_that_is_away_is_unavailable,
);
