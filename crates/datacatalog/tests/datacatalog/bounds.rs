//! What a client cannot make this service do, however it asks.

use axum::body::Body;
use flyte_idl::{
    core::{Literal, LiteralCollection, literal},
    datacatalog::{
        Artifact, ArtifactData, CreateArtifactRequest, CreateDatasetRequest, Dataset,
        FilterExpression, ListDatasetsRequest, SinglePropertyFilter,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Request;
use http_body_util::BodyExt as _;
use prost::Message as _;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::{
    harness::{Store, World, integer, refusal, task},
    on_both_databases,
};

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

/// Sends the bytes of a whole body.
async fn send(world: &World, path: &str, frame: Vec<u8>) -> Status {
    let request = Request::post(path.to_owned())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::from(frame))
        .unwrap();
    let router = world.catalog.grpc().prepare().into_axum_router();
    let response = router.oneshot(request).await.unwrap();
    let early = Status::from_header_map(response.headers());
    let collected = response.into_body().collect().await.unwrap();
    let late = collected.trailers().and_then(Status::from_header_map);
    early.or(late).unwrap()
}

#[tokio::test]
async fn messages_are_measured_before_they_are_read() {
    let world = World::start(Store::Sqlite).await;
    let path = "/datacatalog.DataCatalog/CreateDataset";
    let deep = (0..1_100).fold(integer(1), |inner, _| Literal {
        value: Some(literal::Value::Collection(LiteralCollection {
            literals: vec![inner],
        })),
        ..Literal::default()
    });
    let artifact = CreateArtifactRequest {
        artifact: Some(Artifact {
            id: "a".to_owned(),
            dataset: Some(task("deep")),
            data: vec![ArtifactData {
                name: "o0".to_owned(),
                value: Some(deep),
            }],
            ..Artifact::default()
        }),
    };
    let large = vec![b'x'; 4 * 1024 * 1024 + 1];
    for (case, path, frame, code, text) in [
        (
            "too large",
            path,
            frame(&large),
            Code::ResourceExhausted,
            "grpc: received message larger than max (4194305 vs. 4194304)",
        ),
        (
            "too deep",
            "/datacatalog.DataCatalog/CreateArtifact",
            frame(&artifact.encode_to_vec()),
            Code::InvalidArgument,
            "message nests deeper than 1000 levels",
        ),
        (
            "nothing of its kind",
            "/datacatalog.DataCatalog/DeleteArtifact",
            frame(&[]),
            Code::Unimplemented,
            "unknown method DeleteArtifact for service datacatalog.DataCatalog",
        ),
        (
            "of another service",
            "/flyteidl.service.AdminService/GetTask",
            frame(&[]),
            Code::Unimplemented,
            "unknown service flyteidl.service.AdminService",
        ),
    ] {
        let status = send(&world, path, frame).await;
        assert_eq!((status.code(), status.message()), (code, text), "{case}");
    }
}

async fn keys_filters_and_partitions_have_a_most(store: Store) {
    let world = World::start(store).await;
    let create = async |version: String, keys: Vec<String>| {
        let mut id = task("bounds");
        id.version = version;
        let request = CreateDatasetRequest {
            dataset: Some(Dataset {
                id: Some(id),
                metadata: None,
                partition_keys: keys,
            }),
        };
        refusal(world.client.clone().create_dataset(request).await)
    };
    let wrong = |text: &str| Some((Code::InvalidArgument, text.to_owned()));
    // The other parts have 39 bytes. Random, because PostgreSQL compresses what it can.
    let long = |length: usize| -> String {
        let mut state: u64 = 7;
        let letters = (0..length).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
        });
        letters.collect()
    };
    assert_eq!(create(long(1_961), Vec::new()).await, None);
    assert_eq!(
        create(long(1_962), Vec::new()).await,
        wrong("the names in the request have 2001 bytes together, and 2000 are the most")
    );
    let keys = |count: usize| (0..count).map(|number| number.to_string()).collect();
    assert_eq!(create("most".to_owned(), keys(100)).await, None);
    assert_eq!(
        create("more".to_owned(), keys(101)).await,
        wrong("101 partition keys are too many, 100 are the most")
    );
    let filters = ListDatasetsRequest {
        filter: Some(FilterExpression {
            filters: vec![SinglePropertyFilter::default(); 51],
        }),
        pagination: None,
    };
    assert_eq!(
        refusal(world.client.clone().list_datasets(filters).await),
        wrong("51 filters are too many, 50 are the most")
    );
}

async fn an_artifact_has_a_thousand_outputs_at_most(store: Store) {
    let world = World::start(store).await;
    let id = task("many");
    world.dataset(&id, &[]).await;
    let names: Vec<String> = (0..1_001).map(|number| format!("o{number}")).collect();
    let outputs: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    world
        .artifact(&id, "most", &outputs[..1_000])
        .await
        .unwrap();
    world.tag(&id, "t", "most").await.unwrap();
    assert_eq!(world.tagged(&id, "t").await.unwrap().data.len(), 1_000);
    let more = world.artifact(&id, "more", &outputs).await;
    let text = "1001 outputs are too many for an artifact, 1000 are the most";
    assert_eq!(
        refusal(more),
        Some((Code::InvalidArgument, text.to_owned()))
    );
}

async fn an_artifact_has_a_thousand_tags_at_most(store: Store) {
    let world = World::start(store).await;
    let id = task("tagged");
    world.dataset(&id, &[]).await;
    world.artifact(&id, "a", &[("o0", 1)]).await.unwrap();
    let tags: Vec<String> = (0..1_000).map(|number| format!("t{number}")).collect();
    stream::iter(&tags)
        .map(|tag| world.tag(&id, tag, "a"))
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
        .unwrap();
    assert_eq!(world.tagged(&id, "t7").await.unwrap().tags.len(), 1_000);
    let more = world.tag(&id, "more", "a").await;
    let text = "artifact a has 1000 tags, which are the most";
    assert_eq!(
        refusal(more),
        Some((Code::InvalidArgument, text.to_owned()))
    );
    assert_eq!(
        refusal(world.tagged(&id, "more").await).unwrap().0,
        Code::NotFound
    );
}

/// A list in a list and so on comes back as it went.
async fn deep_literals_come_back(store: Store) {
    let world = World::start(store).await;
    let id = task("deep");
    world.dataset(&id, &[]).await;
    let deep = (0..400).fold(integer(1), |inner, _| Literal {
        value: Some(literal::Value::Collection(LiteralCollection {
            literals: vec![inner],
        })),
        ..Literal::default()
    });
    let data = vec![ArtifactData {
        name: "o0".to_owned(),
        value: Some(deep),
    }];
    let request = CreateArtifactRequest {
        artifact: Some(Artifact {
            id: "a".to_owned(),
            dataset: Some(id.clone()),
            data: data.clone(),
            ..Artifact::default()
        }),
    };
    world.client.clone().create_artifact(request).await.unwrap();
    world.tag(&id, "t", "a").await.unwrap();
    assert_eq!(world.tagged(&id, "t").await.unwrap().data, data);
}

on_both_databases!(
    keys_filters_and_partitions_have_a_most,
    an_artifact_has_a_thousand_outputs_at_most,
    an_artifact_has_a_thousand_tags_at_most,
    deep_literals_come_back,
);
