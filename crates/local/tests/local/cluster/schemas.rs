//! Schemas of custom resources, and the OpenAPI documents that clients explain kinds by.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::cluster::{cluster, code, object, raw};

/// A definition whose version has this schema.
fn definition(schema: &Value) -> CustomResourceDefinition {
    object(json!({
        "metadata": {"name": "jobs.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"kind": "Job", "plural": "jobs"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    }))
}

fn schema() -> Value {
    json!({"type": "object", "description": "A job.", "properties": {
        "spec": {"type": "object", "required": ["image"], "properties": {
            "image": {"type": "string", "minLength": 1, "description": "What runs."},
            "retries": {"type": "integer", "default": 3, "minimum": 0},
        }},
        "status": {"type": "object", "properties": {"phase": {"type": "string", "enum": ["Running", "Done"]}}},
    }})
}

async fn defined(schema: &Value) -> (Client, Api<DynamicObject>) {
    let client = cluster().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .create(&PostParams::default(), &definition(schema))
        .await
        .unwrap();
    let kind = GroupVersionKind::gvk("example.com", "v1", "Job");
    let resource = ApiResource::from_gvk_with_plural(&kind, "jobs");
    let api = Api::namespaced_with(client.clone(), "default", &resource);
    (client, api)
}

fn job(name: &str, spec: Value) -> DynamicObject {
    object(
        json!({"apiVersion": "example.com/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}),
    )
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_validated_by_their_schema() {
    let (_client, jobs) = defined(&schema()).await;
    let created = jobs
        .create(
            &PostParams::default(),
            &job("a", json!({"image": "i", "typo": 1})),
        )
        .await
        .unwrap();
    assert_eq!(created.data["spec"], json!({"image": "i", "retries": 3}));
    assert_eq!(
        jobs.get("a").await.unwrap().data["spec"],
        created.data["spec"]
    );
    let refused = jobs
        .create(&PostParams::default(), &job("b", json!({"retries": -1})))
        .await;
    let (status, message) = code(refused);
    assert_eq!(status, 422);
    assert_eq!(
        message,
        "Job.example.com \"b\" is invalid: [spec.image: Required value, spec.retries: Invalid value: -1: \
         spec.retries in body should be greater than or equal to 0]"
    );
    let merge = async |patch: Value| {
        jobs.patch("a", &PatchParams::default(), &Patch::Merge(patch))
            .await
    };
    let (status, message) = code(merge(json!({"spec": {"image": ""}})).await);
    assert_eq!(status, 422, "{message}");
    let patched = merge(json!({"spec": {"other": {"a": 1}, "retries": 5}}))
        .await
        .unwrap();
    assert_eq!(patched.data["spec"], json!({"image": "i", "retries": 5}));
    assert_eq!(patched.metadata.generation, Some(2));
    let phase = |phase: &str| Patch::Merge(json!({"status": {"phase": phase, "odd": true}}));
    let params = PatchParams::default();
    assert_eq!(
        code(jobs.patch_status("a", &params, &phase("Lost")).await).0,
        422
    );
    let done = jobs
        .patch_status("a", &params, &phase("Done"))
        .await
        .unwrap();
    assert_eq!(done.data["status"], json!({"phase": "Done"}));
    let applied = Patch::Apply(job("c", json!({"image": "i", "typo": true})));
    let applied = jobs
        .patch("c", &PatchParams::apply("me"), &applied)
        .await
        .unwrap();
    assert_eq!(applied.data["spec"], json!({"image": "i", "retries": 3}));
}

#[tokio::test]
async fn unknown_fields_are_refused_when_the_client_asks_for_that() {
    let (_client, jobs) = defined(&schema()).await;
    jobs.create(&PostParams::default(), &job("a", json!({"image": "i"})))
        .await
        .unwrap();
    let params = PatchParams {
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let typo = Patch::Merge(json!({"spec": {"imgae": "j"}}));
    let (status, message) = code(jobs.patch("a", &params, &typo).await);
    assert_eq!(status, 400);
    assert_eq!(
        message,
        "Job in version \"v1\" cannot be handled as a Job: strict decoding error: unknown field \
         \"spec.imgae\""
    );
    let known = Patch::Merge(json!({"spec": {"image": "j"}}));
    jobs.patch("a", &params, &known).await.unwrap();
}

#[tokio::test]
async fn a_definition_with_a_schema_that_cannot_be_used_is_refused() {
    let client = cluster().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (schema, message) in [
        (
            json!(null),
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        (json!({"type": "string"}), "must be object at the root"),
        (
            json!({"type": "object", "properties": {"spec": {"type": "string", "pattern": "["}}}),
            "must be a valid regular expression",
        ),
        (
            json!({"type": "object", "properties": {"spec": {"type": "integer", "default": "a"}}}),
            "properties[spec].default",
        ),
    ] {
        let (status, text) = code(
            definitions
                .create(&PostParams::default(), &definition(&schema))
                .await,
        );
        assert_eq!(status, 422, "{schema}");
        assert!(text.contains(message), "{schema}: {text}");
    }
    // Rules in CEL are kept, and whoever writes them is warned.
    let rules = json!({"type": "object", "x-kubernetes-validations": [{"rule": "true"}]});
    let body = serde_json::to_vec(&definition(&rules)).unwrap();
    let request = http::Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        .header("content-type", "application/json")
        .body(kube::client::Body::from(body))
        .unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.status(), 201);
    let warning = answer.headers()["warning"].to_str().unwrap();
    assert!(
        warning.starts_with("299 - \"version v1: rules in x-kubernetes-validations"),
        "{warning}"
    );
}

#[tokio::test]
async fn kinds_are_explained_by_their_documents() {
    let (client, _) = defined(&schema()).await;
    let (_, index) = raw(&client, "GET", "/openapi/v3", "application/json").await;
    assert!(index["paths"]["apis/example.com/v1"].is_object(), "{index}");
    let (_, document) = raw(
        &client,
        "GET",
        "/openapi/v3/apis/example.com/v1",
        "application/json",
    )
    .await;
    let job = &document["components"]["schemas"]["example.com.v1.Job"];
    assert_eq!(job["description"], "A job.");
    assert_eq!(
        job["properties"]["spec"]["properties"]["image"]["description"],
        "What runs."
    );
    let metadata = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let reference = format!("#/components/schemas/{metadata}");
    assert_eq!(job["properties"]["metadata"]["$ref"], json!(reference));
    assert!(document["components"]["schemas"][metadata]["properties"]["labels"].is_object());
    let (_, document) = raw(&client, "GET", "/openapi/v3/api/v1", "application/json").await;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let pods = schemas.values().find(|schema| {
        schema["x-kubernetes-group-version-kind"]
            == json!([{"group": "", "version": "v1", "kind": "Pod"}])
    });
    let spec = pods.unwrap()["properties"]["spec"]["$ref"]
        .as_str()
        .unwrap();
    assert_eq!(spec, "#/components/schemas/io.k8s.api.core.v1.PodSpec");
    // Every reference leads somewhere.
    let text = document.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn what_pods_cannot_have_is_refused_with_a_sentence() {
    let client = cluster().await;
    let (status, message) = raw(
        &client,
        "PATCH",
        "/api/v1/namespaces/default/pods/p/ephemeralcontainers",
        "application/json",
    )
    .await;
    assert_eq!(status, 501);
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("ephemeral containers cannot be added"),
        "{message}"
    );
}
