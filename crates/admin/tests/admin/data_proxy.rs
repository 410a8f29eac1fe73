//! Links to objects that names of requests and events cannot have.

use flyte_admin::config::{AdminConfig, RemoteDataConfig, SignedUrlsConfig};
use flyte_idl::{admin, core::LiteralMap};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    events::{node_event, started, started_with},
    harness::{Store, World, config},
    on_both_databases,
};

on_both_databases!(
    an_upload_whose_key_no_storage_takes_is_refused,
    data_whose_key_no_storage_takes_is_refused,
    a_deck_that_is_in_no_store_of_ours_is_refused,
    data_that_is_in_no_store_of_ours_is_left_out,
);

async fn an_upload_whose_key_no_storage_takes_is_refused(store: Store) {
    const UPLOAD: &str = "flyteidl.service.DataProxyService/CreateUploadLocation";
    let world = World::start(store).await;
    let long = "l".repeat(1_100);
    let base = json!({"project": "flytesnacks", "domain": "development", "filename_root": "r", "filename": "f"});
    for (field, more) in [
        ("filename", json!({"filename": long})),
        ("domain", json!({"domain": long})),
        ("project", json!({"project": long, "filename": ""})),
        (
            "filename_root",
            json!({"filename_root": long, "filename": ""}),
        ),
        ("org", json!({"org": "é".repeat(550)})),
        (
            "content_md5",
            json!({"content_md5": "A".repeat(1_000), "filename_root": ""}),
        ),
    ] {
        let mut request = base.clone();
        let fields = request.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let status = world.call(UPLOAD, &request).await.unwrap_err();
        let text = status.message();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {text}");
        assert!(text.starts_with(&format!("{field} of 1")), "{text}");
        assert!(text.ends_with("storage takes 1024 at most"), "{text}");
    }
    // Shorter ones come as far as the signature, which memory cannot give.
    let status = world.call(UPLOAD, &base).await.unwrap_err();
    assert!(status.message().contains("cannot sign"), "{status}");
}

async fn data_whose_key_no_storage_takes_is_refused(store: Store) {
    let world = started(store).await;
    let long = "n".repeat(1_100);
    let outputs = json!({"literals": {"o0": {"scalar": {"primitive": {"integer": "1"}}}}});
    let event = node_event(&world, &long, "SUCCEEDED", json!({"output_data": outputs})).await;
    assert_eq!(event, "INVALID_ARGUMENT");
    let id = json!({"resource_type": "WORKFLOW", "project": "flytesnacks", "domain": "development", "name": "w", "version": long});
    let task = json!({"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": "recwf.square", "version": "rec1"});
    let inputs = json!([{"var": "n", "binding": {"scalar": {"primitive": {"integer": "1"}}}}]);
    let node = json!({"id": "n0", "task_node": {"reference_id": task}, "inputs": inputs});
    let workflow =
        json!({"id": id, "spec": {"template": {"id": id, "nodes": [node], "interface": {}}}});
    let status = world
        .get::<admin::WorkflowCreateResponse>("CreateWorkflow", &workflow)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("storage takes 1024"), "{status}");
}

fn node(id: &str) -> Value {
    json!({"node_id": id, "execution_id": {"project": "flytesnacks", "domain": "development", "name": "ev"}})
}

async fn a_deck_that_is_in_no_store_of_ours_is_refused(store: Store) {
    const PROXY: &str = "flyteidl.service.DataProxyService";
    let world = started(store).await;
    let base = world.blobs.base();
    for (number, (deck, expected)) in [
        ("+".to_owned(), Code::FailedPrecondition),
        ("file:///etc/passwd".to_owned(), Code::FailedPrecondition),
        ("s3://nowhere/x".to_owned(), Code::FailedPrecondition),
        (base.clone(), Code::FailedPrecondition),
        (format!("{base}/%ff"), Code::FailedPrecondition),
        (
            format!("{base}/{}", "l".repeat(1_100)),
            Code::FailedPrecondition,
        ),
        (format!("{base}/none"), Code::NotFound),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("n{number}");
        let event = node_event(&world, &id, "RUNNING", json!({"deck_uri": deck})).await;
        assert_eq!(event, "OK");
        let link = json!({"artifact_type": "ARTIFACT_TYPE_DECK", "node_execution_id": node(&id)});
        let url = format!("flyte://v1/flytesnacks/development/ev/{id}/d");
        for (method, request) in [
            ("CreateDownloadLink", link),
            ("GetData", json!({"flyte_url": url})),
        ] {
            let status = world
                .call(&format!("{PROXY}/{method}"), &request)
                .await
                .unwrap_err();
            assert_eq!(status.code(), expected, "{method} {deck}: {status}");
            if expected == Code::FailedPrecondition {
                let text = format!("said to be at {deck:?}, which is in no store of this");
                assert!(status.message().contains(&text), "{status}");
            }
        }
    }
}

async fn data_that_is_in_no_store_of_ours_is_left_out(store: Store) {
    let config = AdminConfig {
        remote_data: RemoteDataConfig {
            signed_urls: SignedUrlsConfig {
                enabled: true,
                ..SignedUrlsConfig::default()
            },
            ..RemoteDataConfig::default()
        },
        ..config()
    };
    let world = started_with(store, config).await;
    for (number, uri) in ["+", "file:///etc/passwd", "s3://nowhere/x"]
        .into_iter()
        .enumerate()
    {
        let id = format!("n{number}");
        let event = node_event(&world, &id, "RUNNING", json!({"input_uri": uri})).await;
        assert_eq!(event, "OK");
        let data: admin::NodeExecutionGetDataResponse = world
            .get("GetNodeExecutionData", &json!({"id": node(&id)}))
            .await
            .unwrap();
        assert_eq!(data.full_inputs, Some(LiteralMap::default()), "{uri}");
    }
}
