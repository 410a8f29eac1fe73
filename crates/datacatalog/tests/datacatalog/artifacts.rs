//! The life of a cache entry as propeller goes through it (spec 06 B7).

use flyte_idl::datacatalog::{
    Artifact, CreateArtifactRequest, CreateDatasetRequest, Dataset, GetArtifactRequest,
    GetDatasetRequest, Partition, get_artifact_request::QueryHandle,
};
use futures::future::{join, join_all};
use tonic::Code;

use crate::{
    harness::{Store, World, data, integer, metadata, refusal, task},
    on_both_databases,
};

async fn a_miss_a_put_a_hit_and_an_overwrite(store: Store) {
    let world = World::start(store).await;
    let mut client = world.client.clone();
    let id = task("square");
    let look_up = GetDatasetRequest {
        dataset: Some(id.clone()),
    };
    let (code, text) = refusal(client.get_dataset(look_up.clone()).await).unwrap();
    assert_eq!(code, Code::NotFound);
    assert!(
        text.starts_with("missing entity of type Dataset with identifier "),
        "{text}"
    );
    let dataset = CreateDatasetRequest {
        dataset: Some(Dataset {
            id: Some(id.clone()),
            metadata: Some(metadata("task-version", "rec1")),
            partition_keys: Vec::new(),
        }),
    };
    client.create_dataset(dataset.clone()).await.unwrap();
    let (code, text) = refusal(client.create_dataset(dataset).await).unwrap();
    assert_eq!(code, Code::AlreadyExists);
    assert_eq!(
        text,
        "value with matching already exists (duplicate key value violates unique constraint \"datasets_pkey\")"
    );
    let found = client.get_dataset(look_up).await.unwrap().into_inner();
    let found = found.dataset.unwrap();
    assert_eq!(found.metadata.unwrap(), metadata("task-version", "rec1"));
    // Propeller looks up the tag with the id that it was given.
    let known = found.id.unwrap();
    assert_eq!(known.uuid.len(), 36);

    let (code, text) = refusal(world.tagged(&known, "flyte_cached-a").await).unwrap();
    assert_eq!(code, Code::NotFound);
    assert!(
        text.starts_with("missing entity of type Tag with identifier "),
        "{text}"
    );
    let artifact = CreateArtifactRequest {
        artifact: Some(Artifact {
            id: "cff77f44".to_owned(),
            dataset: Some(id.clone()),
            data: data(&[("o1", 2), ("o0", 1)]),
            metadata: Some(metadata("exec-node", "n0")),
            ..Artifact::default()
        }),
    };
    client.create_artifact(artifact.clone()).await.unwrap();
    let (code, text) = refusal(client.create_artifact(artifact).await).unwrap();
    assert_eq!(code, Code::AlreadyExists);
    assert_eq!(
        text,
        "value with matching already exists (duplicate key value violates unique constraint \"artifacts_pkey\")"
    );
    world.tag(&id, "flyte_cached-a", "cff77f44").await.unwrap();
    let (code, text) = refusal(world.tag(&id, "flyte_cached-a", "cff77f44").await).unwrap();
    assert_eq!(code, Code::AlreadyExists);
    assert_eq!(
        text,
        "value with matching already exists (duplicate key value violates unique constraint \"tags_pkey\")"
    );

    let hit = world.tagged(&known, "flyte_cached-a").await.unwrap();
    assert_eq!(hit.id, "cff77f44");
    assert_eq!(hit.dataset.as_ref(), Some(&known));
    assert_eq!(hit.data, data(&[("o0", 1), ("o1", 2)]));
    assert_eq!(hit.metadata.unwrap(), metadata("exec-node", "n0"));
    let tag = hit.tags.first().unwrap();
    assert_eq!(
        (tag.name.as_str(), tag.artifact_id.as_str()),
        ("flyte_cached-a", "cff77f44")
    );
    assert_eq!(tag.dataset.as_ref(), Some(&known));
    assert!(hit.created_at.is_some());
    for dataset in [None, Some(id.clone())] {
        let by_id = GetArtifactRequest {
            dataset,
            query_handle: Some(QueryHandle::ArtifactId("cff77f44".to_owned())),
        };
        let found = client.get_artifact(by_id).await.unwrap().into_inner();
        assert_eq!(found.artifact.unwrap().data, data(&[("o0", 1), ("o1", 2)]));
    }

    let overwritten = world
        .overwrite(&id, "flyte_cached-a", &[("o0", 3), ("o2", 4)])
        .await;
    assert_eq!(overwritten.unwrap(), "cff77f44");
    let hit = world.tagged(&known, "flyte_cached-a").await.unwrap();
    assert_eq!(hit.data, data(&[("o0", 3), ("o2", 4)]));
    assert_eq!(hit.metadata.unwrap(), metadata("execution-name", "later"));
    // What was replaced is gone.
    assert_eq!(world.keys().await.len(), 2);
    let missing = world.overwrite(&id, "flyte_cached-b", &[("o0", 3)]).await;
    assert_eq!(refusal(missing).unwrap().0, Code::NotFound);
}

async fn partitions_belong_to_an_artifact(store: Store) {
    let world = World::start(store).await;
    let mut client = world.client.clone();
    let id = task("partitioned");
    world.dataset(&id, &["region", "day"]).await;
    let look_up = GetDatasetRequest {
        dataset: Some(id.clone()),
    };
    let found = client.get_dataset(look_up).await.unwrap().into_inner();
    assert_eq!(found.dataset.unwrap().partition_keys, ["day", "region"]);
    let partition = |key: &str, value: &str| Partition {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let artifact = |partitions| CreateArtifactRequest {
        artifact: Some(Artifact {
            id: "a".to_owned(),
            dataset: Some(id.clone()),
            data: data(&[("o0", 1)]),
            partitions,
            ..Artifact::default()
        }),
    };
    let twice = vec![partition("day", "1"), partition("day", "2")];
    let (code, text) = refusal(client.create_artifact(artifact(twice)).await).unwrap();
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(
        text,
        "Artifact partition assignment does not match dataset partition keys: [day region]"
    );
    // Nothing is written for what is refused.
    assert_eq!(world.keys().await, Vec::<String>::new());
    let both = vec![partition("region", "eu"), partition("day", "1")];
    client.create_artifact(artifact(both)).await.unwrap();
    let request = GetArtifactRequest {
        dataset: Some(id),
        query_handle: Some(QueryHandle::ArtifactId("a".to_owned())),
    };
    let found = client.get_artifact(request).await.unwrap().into_inner();
    assert_eq!(
        found.artifact.unwrap().partitions,
        [partition("day", "1"), partition("region", "eu")]
    );
}

/// Many executions of one task at once: each has its artifact, and one of them the tag.
async fn puts_at_once_leave_one_tag(store: Store) {
    let world = World::start(store).await;
    let id = task("at-once");
    let puts = (0..8).map(|number| {
        let (world, id) = (&world, &id);
        async move {
            let dataset = CreateDatasetRequest {
                dataset: Some(Dataset {
                    id: Some(id.clone()),
                    ..Dataset::default()
                }),
            };
            let made = world.client.clone().create_dataset(dataset).await.is_ok();
            let artifact = format!("artifact-{number}");
            world
                .artifact(id, &artifact, &[("o0", number)])
                .await
                .unwrap();
            let tagged = world.tag(id, "t", &artifact).await;
            (made, number, refusal(tagged))
        }
    });
    let puts = join_all(puts).await;
    let count = |of: &dyn Fn(bool, bool) -> bool| {
        puts.iter()
            .filter(|(made, _, refusal)| of(*made, refusal.is_none()))
            .count()
    };
    assert_eq!((count(&|made, _| made), count(&|_, tagged| tagged)), (1, 1));
    let (_, winner, _) = puts
        .iter()
        .find(|(_, _, refusal)| refusal.is_none())
        .unwrap();
    for (_, _, refusal) in &puts {
        let code = refusal.as_ref().map(|(code, _)| *code);
        assert!(
            matches!(code, None | Some(Code::AlreadyExists)),
            "{refusal:?}"
        );
    }
    let hit = world.tagged(&id, "t").await.unwrap();
    assert_eq!(hit.data, data(&[("o0", *winner)]));
}

/// Of artifacts created at once under one id, one is there, with its own data.
async fn creations_of_one_id_do_not_mix(store: Store) {
    let world = World::start(store).await;
    let id = task("one-id");
    world.dataset(&id, &[]).await;
    let creations = (0..8).map(|number| {
        let (world, id) = (&world, &id);
        async move {
            let outputs = [("o0", number), ("o1", number)];
            let created = world.artifact(id, "same", &outputs).await;
            (number, refusal(created))
        }
    });
    let creations = join_all(creations).await;
    let made: Vec<i64> = creations
        .iter()
        .filter(|(_, refusal)| refusal.is_none())
        .map(|(number, _)| *number)
        .collect();
    let [winner] = made[..] else {
        panic!("{creations:?}")
    };
    world.tag(&id, "t", "same").await.unwrap();
    let hit = world.tagged(&id, "t").await.unwrap();
    assert_eq!(hit.data, data(&[("o0", winner), ("o1", winner)]));
}

/// Whoever reads while outputs are replaced sees the outputs of one version.
async fn readers_see_one_version(store: Store) {
    const VERSIONS: i64 = 20;
    let world = World::start(store).await;
    let id = task("versions");
    world.dataset(&id, &[]).await;
    world
        .artifact(&id, "a", &[("o0", 0), ("o1", 0)])
        .await
        .unwrap();
    world.tag(&id, "t", "a").await.unwrap();
    let writer = async {
        for version in 1..=VERSIONS {
            let outputs = [("o0", version), ("o1", version)];
            world.overwrite(&id, "t", &outputs).await.unwrap();
        }
    };
    let reader = async {
        loop {
            let hit = match world.tagged(&id, "t").await {
                Ok(hit) => hit,
                // Twice in a row the outputs were replaced between rows and objects: run the task, says the answer.
                Err(status) => {
                    assert_eq!(status.code(), Code::NotFound, "{status:?}");
                    continue;
                }
            };
            let values: Vec<_> = hit
                .data
                .iter()
                .map(|data| data.value.clone().unwrap())
                .collect();
            assert_eq!(values.len(), 2);
            assert_eq!(values.first(), values.last());
            if values.first() == Some(&integer(VERSIONS)) {
                return;
            }
        }
    };
    join(writer, reader).await;
    // And nothing of the earlier ones is left.
    assert_eq!(world.keys().await.len(), 2);
}

/// An object that is there already is somebody's: of an interrupted creation, or of an artifact with the same path.
async fn objects_are_never_written_over(store: Store) {
    let world = World::start(store).await;
    let id = task("clash");
    world.dataset(&id, &[]).await;
    // Paths of both artifacts are the same, as Go makes them.
    for (number, artifact) in [(1, "a"), (2, "a/"), (3, "/a")] {
        world
            .artifact(&id, artifact, &[("o0", number)])
            .await
            .unwrap();
        world
            .tag(&id, &format!("t{number}"), artifact)
            .await
            .unwrap();
    }
    for number in 1..=3 {
        let hit = world.tagged(&id, &format!("t{number}")).await.unwrap();
        assert_eq!(hit.data, data(&[("o0", number)]));
    }
    assert_eq!(world.keys().await.len(), 3);
}

async fn no_id_leaves_its_folder(store: Store) {
    let world = World::start(store).await;
    for (number, part) in ["..", "../..", "a/../../..", "%2e%2e", "?", "#", "/", "."]
        .iter()
        .enumerate()
    {
        let mut id = task("folder");
        id.version = format!("1.0-{number}");
        world.dataset(&id, &[]).await;
        world.artifact(&id, part, &[(part, 1)]).await.unwrap();
        world.tag(&id, part, part).await.unwrap();
        let hit = world.tagged(&id, part).await.unwrap();
        assert_eq!(hit.data, data(&[(part, 1)]), "{part}");
        id.version = (*part).to_owned();
        world.dataset(&id, &[]).await;
        world.artifact(&id, "a", &[("o0", 1)]).await.unwrap();
    }
    for key in world.keys().await {
        assert!(
            key.starts_with("metadata/flytesnacks/development/flyte_task-folder/")
                && key.ends_with("/data.pb")
                && key.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{key}"
        );
    }
}

on_both_databases!(
    a_miss_a_put_a_hit_and_an_overwrite,
    partitions_belong_to_an_artifact,
    puts_at_once_leave_one_tag,
    creations_of_one_id_do_not_mix,
    readers_see_one_version,
    objects_are_never_written_over,
    no_id_leaves_its_folder,
);
