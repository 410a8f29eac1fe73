//! Outputs that are gone from the blob store.

use flyte_idl::datacatalog::ListArtifactsRequest;
use tonic::Code;

use crate::{
    harness::{Store, World, data, refusal, task},
    on_both_databases,
};

impl World {
    /// Removes the first object of the blob store, and says where it was.
    async fn lose_one(&self) -> String {
        let key = self.keys().await.into_iter().next().unwrap();
        let uri = format!("{}/{key}", self.blobs.base());
        self.blobs.delete(&uri).await.unwrap();
        uri
    }
}

/// Propeller takes NOT_FOUND for a miss, runs the task, and puts its outputs: an artifact and a tag that is taken.
async fn a_lost_output_is_a_miss_until_the_task_has_run_again(store: Store) {
    let world = World::start(store).await;
    let id = task("lost");
    world.dataset(&id, &[]).await;
    world
        .artifact(&id, "a", &[("o0", 1), ("o1", 2)])
        .await
        .unwrap();
    world.tag(&id, "t", "a").await.unwrap();
    let location = world.lose_one().await;
    let (code, text) = refusal(world.tagged(&id, "t").await).unwrap();
    assert_eq!(code, Code::NotFound);
    assert_eq!(
        text,
        format!("the data of artifact a is lost: there is no object at {location}")
    );
    world
        .artifact(&id, "b", &[("o0", 1), ("o1", 2)])
        .await
        .unwrap();
    world.tag(&id, "t", "b").await.unwrap();
    let hit = world.tagged(&id, "t").await.unwrap();
    assert_eq!(
        (hit.id.as_str(), hit.data),
        ("b", data(&[("o0", 1), ("o1", 2)]))
    );
    // A tag whose artifact has its data stays.
    world
        .artifact(&id, "c", &[("o0", 1), ("o1", 2)])
        .await
        .unwrap();
    assert_eq!(
        refusal(world.tag(&id, "t", "c").await).unwrap().0,
        Code::AlreadyExists
    );
    assert_eq!(world.tagged(&id, "t").await.unwrap().id, "b");
}

async fn an_overwrite_brings_lost_outputs_back(store: Store) {
    let world = World::start(store).await;
    let id = task("lost");
    world.dataset(&id, &[]).await;
    world.artifact(&id, "a", &[("o0", 1)]).await.unwrap();
    world.tag(&id, "t", "a").await.unwrap();
    world.lose_one().await;
    world.overwrite(&id, "t", &[("o0", 2)]).await.unwrap();
    assert_eq!(
        world.tagged(&id, "t").await.unwrap().data,
        data(&[("o0", 2)])
    );
}

async fn one_that_is_lost_hides_no_others_from_lists(store: Store) {
    let world = World::start(store).await;
    let id = task("lost");
    world.dataset(&id, &[]).await;
    for (number, artifact) in [(1, "a"), (2, "b")] {
        world
            .artifact(&id, artifact, &[("o0", number), ("o1", number)])
            .await
            .unwrap();
    }
    world.lose_one().await;
    let request = ListArtifactsRequest {
        dataset: Some(id),
        ..ListArtifactsRequest::default()
    };
    let listed = world
        .client
        .clone()
        .list_artifacts(request)
        .await
        .unwrap()
        .into_inner();
    let [b, a] = &listed.artifacts[..] else {
        panic!("{listed:?}")
    };
    assert_eq!((a.id.as_str(), &a.data), ("a", &data(&[("o1", 1)])));
    assert_eq!(
        (b.id.as_str(), &b.data),
        ("b", &data(&[("o0", 2), ("o1", 2)]))
    );
}

/// What is there and no literal is a fault of the store's, not a miss.
async fn what_is_no_literal_is_internal(store: Store) {
    let world = World::start(store).await;
    let id = task("broken");
    world.dataset(&id, &[]).await;
    world.artifact(&id, "a", &[("o0", 1)]).await.unwrap();
    world.tag(&id, "t", "a").await.unwrap();
    let location = world.lose_one().await;
    world
        .blobs
        .put(&location, vec![0xff; 9].into())
        .await
        .unwrap();
    let (code, text) = refusal(world.tagged(&id, "t").await).unwrap();
    assert_eq!(code, Code::Internal);
    assert_eq!(
        text,
        format!("Unable to read artifact data from location {location}")
    );
    world.sql("DELETE FROM artifact_data").await;
    let (code, text) = refusal(world.tagged(&id, "t").await).unwrap();
    assert_eq!(code, Code::Internal);
    assert_eq!(text, "artifact [a] does not have any associated data");
}

on_both_databases!(
    a_lost_output_is_a_miss_until_the_task_has_run_again,
    an_overwrite_brings_lost_outputs_back,
    one_that_is_lost_hides_no_others_from_lists,
    what_is_no_literal_is_internal,
);
