//! Kinds that a CustomResourceDefinition makes.

use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::cluster::{cluster, code, define_workflows, raw, workflow, workflows};

#[tokio::test]
async fn a_workflow_keeps_unknown_fields_and_its_status_is_an_ordinary_part() {
    let client = cluster().await;
    let api = workflows(&client, "default");
    assert_eq!(
        code(api.list(&ListParams::default()).await).0,
        404,
        "the kind is not served before it is defined"
    );
    define_workflows(&client).await;
    let spec = json!({"nodes": {"start-node": {"id": "start-node", "odd": [1, {"x": null}]}}});
    let created = api
        .create(&PostParams::default(), &workflow("w", &spec))
        .await
        .unwrap();
    assert_eq!(created.data["spec"], spec);
    let version = created.resource_version().unwrap();
    let patch = json!({"metadata": {"resourceVersion": version, "labels": {"termination-status": "terminated"}}, "status": {"phase": 1}});
    let patched = api
        .patch("w", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    assert_eq!(patched.data["status"]["phase"], json!(1));
    assert_eq!(patched.metadata.generation, Some(2));
    assert_eq!(
        raw(
            &client,
            "GET",
            "/apis/flyte.lyft.com/v1alpha1/namespaces/default/flyteworkflows/w/status",
            "*/*"
        )
        .await
        .0,
        404
    );
    let strategic = api
        .patch("w", &PatchParams::default(), &Patch::Strategic(json!({})))
        .await;
    assert_eq!(code(strategic).0, 415);
    let mut unversioned = patched.clone();
    unversioned.metadata.resource_version = None;
    assert_eq!(
        code(api.replace("w", &PostParams::default(), &unversioned).await).0,
        422
    );
}

#[tokio::test]
async fn deleting_a_definition_deletes_its_objects() {
    let client = cluster().await;
    define_workflows(&client).await;
    let api = workflows(&client, "default");
    api.create(&PostParams::default(), &workflow("w", &json!({})))
        .await
        .unwrap();
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .delete("flyteworkflows.flyte.lyft.com", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(code(api.get("w").await).0, 404);
    assert!(
        definitions
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}
