//! What Go's datacatalog left of real runs: the same requests leave the same objects, and its rows are served.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_datacatalog::config::DataCatalogConfig;
use flyte_idl::{
    core::Literal,
    datacatalog::{Artifact, ArtifactData, CreateArtifactRequest, DatasetId},
};
use prost::Message as _;
use tonic::Code;

use crate::{
    harness::{Settings, Store, World, refusal},
    on_both_databases,
};

/// An output of the recording.
struct Output {
    dataset: DatasetId,
    artifact: String,
    name: String,
    tag: String,
    key: String,
    bytes: Vec<u8>,
}

fn outputs() -> Vec<Output> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/artifacts.tsv");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| {
        let parts: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let [
            project,
            domain,
            name,
            version,
            artifact,
            output,
            tag,
            key,
            base64,
        ] = <[String; 9]>::try_from(parts).unwrap();
        Output {
            dataset: DatasetId {
                project,
                domain,
                name,
                version,
                ..DatasetId::default()
            },
            artifact,
            name: output,
            tag,
            key,
            bytes: BASE64_STANDARD.decode(base64).unwrap(),
        }
    });
    lines.collect()
}

fn settings() -> Settings {
    Settings {
        datacatalog: DataCatalogConfig {
            storage_prefix: "metadata/datacatalog".to_owned(),
            ..DataCatalogConfig::default()
        },
        ..Settings::default()
    }
}

/// Outputs by their artifacts.
fn by_artifact(outputs: Vec<Output>) -> BTreeMap<String, Vec<Output>> {
    let mut artifacts: BTreeMap<String, Vec<Output>> = BTreeMap::new();
    for output in outputs {
        artifacts
            .entry(output.artifact.clone())
            .or_default()
            .push(output);
    }
    artifacts
}

async fn the_same_requests_leave_the_same_objects(store: Store) {
    let world = World::start_with(store, &settings()).await;
    let artifacts = by_artifact(outputs());
    let mut datasets: Vec<&DatasetId> = Vec::new();
    for (id, outputs) in &artifacts {
        let first = outputs.first().unwrap();
        if !datasets.contains(&&first.dataset) {
            datasets.push(&first.dataset);
            world.dataset(&first.dataset, &[]).await;
        }
        let data = outputs.iter().map(|output| ArtifactData {
            name: output.name.clone(),
            value: Some(Literal::decode(output.bytes.as_slice()).unwrap()),
        });
        let request = CreateArtifactRequest {
            artifact: Some(Artifact {
                id: id.clone(),
                dataset: Some(first.dataset.clone()),
                data: data.collect(),
                ..Artifact::default()
            }),
        };
        world.client.clone().create_artifact(request).await.unwrap();
        world.tag(&first.dataset, &first.tag, id).await.unwrap();
    }
    let expected: BTreeMap<String, Vec<u8>> = outputs()
        .into_iter()
        .map(|output| (output.key, output.bytes))
        .collect();
    assert_eq!(
        world.keys().await,
        expected.keys().cloned().collect::<Vec<_>>()
    );
    for (key, bytes) in &expected {
        let uri = format!("{}/{key}", world.blobs.base());
        assert_eq!(world.blobs.get(&uri).await.unwrap(), bytes, "{key}");
    }
    for (id, outputs) in &artifacts {
        let first = outputs.first().unwrap();
        let hit = world.tagged(&first.dataset, &first.tag).await.unwrap();
        assert_eq!(&hit.id, id);
        let read: Vec<Vec<u8>> = hit
            .data
            .iter()
            .map(|data| data.value.as_ref().unwrap().encode_to_vec())
            .collect();
        let written: Vec<Vec<u8>> = outputs.iter().map(|output| output.bytes.clone()).collect();
        assert_eq!(read, written);
    }
}

/// As Go writes them: locations below a prefix that is no longer configured, reservations without metadata; and a row
/// that somebody edited.
async fn rows_of_the_reference_are_served(store: Store) {
    let world = World::start(store).await;
    let output = outputs().into_iter().next().unwrap();
    let uri = format!("{}/old/{}", world.blobs.base(), output.key);
    world
        .blobs
        .put(&uri, output.bytes.clone().into())
        .await
        .unwrap();
    let (empty, null, now) = match store {
        Store::Sqlite => ("x''", "NULL", "1700000000000000"),
        Store::Postgres => ("''::bytea", "NULL", "'2023-11-14 22:13:20+00'"),
    };
    let uuid = "0b0f6b0e-5d2f-4f0c-9c1d-5a0d2ec1a001";
    let DatasetId {
        project,
        domain,
        name,
        version,
        ..
    } = &output.dataset;
    let (artifact, tag) = (&output.artifact, &output.tag);
    world
        .sql(&format!(
            "INSERT INTO datasets (created_at, updated_at, project, name, domain, version, uuid, serialized_metadata)
               VALUES ({now}, {now}, '{project}', '{name}', '{domain}', '{version}', '{uuid}', {null});
             INSERT INTO artifacts (created_at, updated_at, dataset_project, dataset_name, dataset_domain, dataset_version,
                 artifact_id, dataset_uuid, serialized_metadata)
               VALUES ({now}, {now}, '{project}', '{name}', '{domain}', '{version}', '{artifact}', '{uuid}', {empty});
             INSERT INTO artifact_data (created_at, updated_at, dataset_project, dataset_name, dataset_domain,
                 dataset_version, artifact_id, name, location)
               VALUES ({now}, {now}, '{project}', '{name}', '{domain}', '{version}', '{artifact}', 'o0', '{uri}');
             INSERT INTO tags (created_at, updated_at, dataset_project, dataset_name, dataset_domain, dataset_version,
                 tag_name, artifact_id, dataset_uuid)
               VALUES ({now}, {now}, '{project}', '{name}', '{domain}', '{version}', '{tag}', '{artifact}', '{uuid}');"
        ))
        .await;
    let hit = world.tagged(&output.dataset, tag).await.unwrap();
    assert_eq!(&hit.id, artifact);
    assert_eq!(hit.dataset.unwrap().uuid, uuid);
    assert_eq!(hit.created_at.unwrap().seconds, 1_700_000_000);
    assert_eq!(hit.tags.first().unwrap().name, *tag);
    let read = hit.data.first().unwrap().value.as_ref().unwrap();
    assert_eq!(read.encode_to_vec(), output.bytes);
    let again = world
        .artifact(&output.dataset, artifact, &[("o0", 1)])
        .await;
    let (code, text) = refusal(again).unwrap();
    assert_eq!(code, Code::AlreadyExists, "{text}");
    // What replaces it is beside it, and what Go wrote goes.
    world
        .overwrite(&output.dataset, tag, &[("o0", 7)])
        .await
        .unwrap();
    assert!(!world.blobs.exists(&uri).await.unwrap());
}

on_both_databases!(
    the_same_requests_leave_the_same_objects,
    rows_of_the_reference_are_served,
);
