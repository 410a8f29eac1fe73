//! Keys of flyteadmin do what docs/reference says: each is set in a file, as an operator would, and what comes of it is looked
//! at beside what comes of the default. Those that have tests of their own elsewhere are not repeated here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::body::Body;
use flyte_admin::config::{AdminConfig, DomainConfig, DomainsConfig};
use flyte_idl::admin;
use flyte_platform::{
    Tasks,
    blob::BlobStore,
    config::{Config, Sources},
    sql::DbError,
};
use http::Request;
use object_store::memory::InMemory;
use sea_query::{Expr, Query};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    events::{self, node_event},
    harness::{Store, World},
    seed,
};

type Settings<'a> = &'a [(&'static str, Value)];

/// The configuration when a file gives these keys these values.
fn configured(settings: Settings<'_>) -> AdminConfig {
    let mut tree = Map::new();
    for (key, value) in settings {
        let (before, last) = key.rsplit_once('.').unwrap();
        let mut place = &mut tree;
        for part in before.split('.') {
            let inner = place.entry(part).or_insert_with(|| json!({}));
            place = inner.as_object_mut().unwrap();
        }
        place.insert(last.to_owned(), value.clone());
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.yaml");
    std::fs::write(&file, Value::Object(tree).to_string()).unwrap();
    let mut config = Config::load(Sources {
        pattern: file.display().to_string(),
        ..Sources::default()
    })
    .unwrap();
    let read = AdminConfig::read(&mut config);
    assert_eq!(config.finish().unwrap(), [], "{settings:?}");
    read
}

async fn world(settings: Settings<'_>) -> World {
    World::start_with(Store::Sqlite, configured(settings)).await
}

/// A bucket that can sign.
fn bucket() -> BlobStore {
    let signer = BlobStore::s3_signer("http://127.0.0.1:9000", "bucket", "id", "secret").unwrap();
    BlobStore::over("s3", "bucket", Arc::new(InMemory::new()), Some(signer))
}

/// The request for an execution that has two labels, two annotations and somebody who runs it.
fn execution() -> Value {
    json!({
        "project": "flytesnacks", "domain": "development", "name": "e1",
        "spec": {
            "launch_plan": {
                "resource_type": "LAUNCH_PLAN", "project": "flytesnacks", "domain": "development",
                "name": "recwf.sub", "version": "rec1",
            },
            "metadata": {},
            "labels": {"values": {"a": "1", "b": "2"}},
            "annotations": {"values": {"c": "1", "d": "2"}},
        },
        "inputs": {"literals": {"n": {"scalar": {"primitive": {"integer": "3"}}}}},
    })
}

async fn launch(world: &World, request: &Value) -> Result<Value, tonic::Status> {
    seed::entities(world).await;
    let _: admin::ExecutionCreateResponse = world.get("CreateExecution", request).await?;
    let namespace = "flytesnacks-development";
    Ok(world.cluster.workflow(namespace, "e1").await.unwrap())
}

/// A key, what it is given, and what the resource of an execution has at a pointer then and not without it.
struct Row {
    key: &'static str,
    value: Value,
    /// Set with and without it.
    beside: Vec<(&'static str, Value)>,
    pointer: &'static str,
    expected: Value,
}

fn row(key: &'static str, value: Value, pointer: &'static str, expected: Value) -> Row {
    Row {
        key,
        value,
        beside: Vec::new(),
        pointer,
        expected,
    }
}

impl Row {
    fn beside(mut self, key: &'static str, value: Value) -> Self {
        self.beside.push((key, value));
        self
    }
}

fn rows() -> Vec<Row> {
    let of_somebody = "/metadata/annotations/flyte.org~1user-sub";
    vec![
        row(
            "flyteadmin.roleNameKey",
            json!("iam.example/role"),
            "/metadata/annotations/iam.example~1role",
            json!("r"),
        )
        .beside("flyteadmin.assumableIamRole", json!("r")),
        row(
            "flyteadmin.assumableIamRole",
            json!("r"),
            "/securityContext/run_as/iam_role",
            json!("r"),
        ),
        row(
            "flyteadmin.k8sServiceAccount",
            json!("s"),
            "/serviceAccountName",
            json!("s"),
        ),
        row(
            "flyteadmin.outputLocationPrefix",
            json!("s3://x"),
            "/rawOutputDataConfig/output_location_prefix",
            json!("s3://x"),
        ),
        row(
            "flyteadmin.useOffloadedWorkflowClosure",
            json!(true),
            "/spec",
            Value::Null,
        ),
        row(
            "flyteadmin.useOffloadedInputs",
            json!(true),
            "/inputs",
            Value::Null,
        ),
        row(
            "flyteadmin.interruptible",
            json!(true),
            "/executionConfig/Interruptible",
            json!(true),
        ),
        row(
            "flyteadmin.overwriteCache",
            json!(true),
            "/executionConfig/OverwriteCache",
            json!(true),
        ),
        row(
            "flyteadmin.maxParallelism",
            json!(7),
            "/executionConfig/MaxParallelism",
            json!(7),
        ),
        row(
            "flyteadmin.envs",
            json!([{"A": "b"}]),
            "/executionConfig/EnvironmentVariables/A",
            json!("b"),
        ),
        row(
            "flyteadmin.consoleUrl",
            json!("https://c"),
            "/consoleUrl",
            json!("https://c"),
        ),
        row(
            "flyteadmin.eventVersion",
            json!(1),
            "/workflowMeta/eventVersion",
            json!(1),
        ),
        row(
            "flyteadmin.injectIdentityAnnotations",
            json!(true),
            of_somebody,
            json!("me"),
        )
        .beside("flyteadmin.identityAnnotationKeys", json!(["sub"])),
        row(
            "flyteadmin.identityAnnotationKeys",
            json!(["sub"]),
            of_somebody,
            json!("me"),
        )
        .beside("flyteadmin.injectIdentityAnnotations", json!(true)),
        row(
            "flyteadmin.identityAnnotationPrefix",
            json!("example.com"),
            "/metadata/annotations/example.com~1user-sub",
            json!("me"),
        )
        .beside("flyteadmin.injectIdentityAnnotations", json!(true))
        .beside("flyteadmin.identityAnnotationKeys", json!(["sub"])),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_is_seen_in_the_resource() {
    for Row {
        key,
        value,
        beside,
        pointer,
        expected,
    } in rows()
    {
        let mut request = execution();
        if pointer.ends_with("user-sub") {
            request["spec"]["security_context"] = json!({"run_as": {"execution_identity": "me"}});
        }
        let mut settings = beside.clone();
        settings.push((key, value));
        let at = |resource: &Value| resource.pointer(pointer).cloned().unwrap_or_default();
        let found = launch(&world(&settings).await, &request).await.unwrap();
        assert_eq!(at(&found), expected, "{key}: {found}");
        let found = launch(&world(&beside).await, &request).await.unwrap();
        assert_ne!(at(&found), expected, "{key} is what it is without the key");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_are_those_of_ids_of_domains() {
    let domain = DomainConfig {
        id: "qa".to_owned(),
        name: "Quality Assurance".to_owned(),
    };
    let config = AdminConfig {
        domains: DomainsConfig(vec![domain]),
        ..AdminConfig::default()
    };
    let world = World::start_with(Store::Sqlite, config).await;
    assert_eq!(world.cluster.namespaces().await, ["flytesnacks-qa"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_limit_refuses_what_is_beyond_it() {
    for (key, most) in [
        ("registration.maxLabelEntries", json!(1)),
        ("registration.maxAnnotationEntries", json!(1)),
    ] {
        let status = launch(&world(&[(key, most)]).await, &execution())
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{key}: {status}");
        launch(&world(&[(key, json!(2))]).await, &execution())
            .await
            .unwrap_or_else(|status| panic!("{key}: {status}"));
    }
    let id = json!({"resource_type": "WORKFLOW", "project": "flytesnacks", "domain": "development", "name": "w", "version": "v"});
    let task = json!({"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": "recwf.square", "version": "rec1"});
    let inputs = json!([{"var": "n", "binding": {"scalar": {"primitive": {"integer": "1"}}}}]);
    let nodes = json!([
        {"id": "n0", "task_node": {"reference_id": task}, "inputs": inputs},
        {"id": "n1", "task_node": {"reference_id": task}, "inputs": inputs},
    ]);
    let workflow =
        json!({"id": id, "spec": {"template": {"id": id, "nodes": nodes, "interface": {}}}});
    for (key, refusing, taking) in [
        ("registration.maxWorkflowNodes", json!(1), json!(2)),
        ("registration.workflowSizeLimit", json!("100"), json!("1Mi")),
    ] {
        for (value, expected) in [(refusing, Some(Code::InvalidArgument)), (taking, None)] {
            let world = world(&[(key, value.clone())]).await;
            seed::entities(&world).await;
            let answer: Result<admin::WorkflowCreateResponse, _> =
                world.get("CreateWorkflow", &workflow).await;
            let code = answer.as_ref().err().map(tonic::Status::code);
            assert_eq!(code, expected, "{key} is {value}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_of_cross_origin_requests() {
    for (settings, method, origin, header, expected) in [
        (vec![], "GET", "https://b", "", (200, true)),
        (
            vec![("server.security.allowCors", json!(false))],
            "GET",
            "https://b",
            "",
            (200, false),
        ),
        (
            vec![("server.security.allowedOrigins", json!(["https://a"]))],
            "GET",
            "https://b",
            "",
            (200, false),
        ),
        (
            vec![("server.security.allowedOrigins", json!(["https://a"]))],
            "GET",
            "https://a",
            "",
            (200, true),
        ),
        (vec![], "OPTIONS", "https://b", "x-mine", (403, false)),
        (
            vec![("server.security.allowedHeaders", json!(["X-Mine"]))],
            "OPTIONS",
            "https://b",
            "x-mine",
            (200, true),
        ),
    ] {
        let world = world(&settings).await;
        let request = Request::builder()
            .method(method)
            .uri("/api/v1/projects")
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", header)
            .body(Body::empty())
            .unwrap();
        let response = world.http(request).await;
        let headers = response.headers();
        let seen = (
            response.status().as_u16(),
            headers.contains_key("access-control-allow-origin"),
        );
        assert_eq!(seen, expected, "{settings:?} {method} {origin} {header}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_of_metrics_and_reflection() {
    for (settings, text, expected) in [
        (vec![], "\nflyte:", true),
        (
            vec![("flyteadmin.metricsScope", json!("mine:"))],
            "\nmine:",
            true,
        ),
        (
            vec![("flyteadmin.metricsScope", json!("mine:"))],
            "\nflyte:",
            false,
        ),
        (vec![], "grpc_server_handling_seconds", false),
        (
            vec![("server.grpc.enableGrpcLatencyMetrics", json!(true))],
            "grpc_server_handling_seconds",
            true,
        ),
    ] {
        let world = world(&settings).await;
        world
            .call("flyteidl.service.AdminService/GetVersion", &json!({}))
            .await
            .unwrap();
        let shown = world.metrics.render();
        assert_eq!(shown.contains(text), expected, "{settings:?}: {text}");
    }
    let off = ("server.grpc.serverReflection", json!(false));
    let old = |value: bool| ("server.grpcServerReflection", json!(value));
    for (settings, expected) in [
        (vec![], true),
        (vec![off.clone()], false),
        (vec![off.clone(), old(false)], false),
        (vec![off.clone(), old(true)], true),
    ] {
        let world = world(&settings).await;
        let rpc = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        // Field 7 of the request asks for the list of services.
        let list_services = vec![0, 0, 0, 0, 2, 0x3a, 0];
        let answer = world.call_frame(rpc, list_services).await;
        let served = answer
            .as_ref()
            .err()
            .is_none_or(|status| status.code() != Code::Unimplemented);
        assert_eq!(served, expected, "{settings:?}: {answer:?}");
    }
}

/// The parameters of a signed URL.
fn parameters(url: &str) -> BTreeMap<String, String> {
    let (_, query) = url.split_once('?').unwrap();
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_of_uploads_and_downloads() {
    const PROXY: &str = "flyteidl.service.DataProxyService";
    let upload = json!({"project": "flytesnacks", "domain": "development", "content_md5": "1B2M2Y8AsgTpgAmY7PhCfg=="});
    for (settings, seconds, length, prefix) in [
        (vec![], "3600", 20, "s3://bucket/flytesnacks/"),
        (
            vec![("server.dataProxy.upload.maxExpiresIn", json!("10m"))],
            "600",
            20,
            "s3://bucket/flytesnacks/",
        ),
        // S3 takes 7 days.
        (
            vec![("server.dataProxy.upload.maxExpiresIn", json!("2760h"))],
            "604800",
            20,
            "s3://bucket/flytesnacks/",
        ),
        (
            vec![("server.dataProxy.upload.defaultFileNameLength", json!(7))],
            "3600",
            7,
            "s3://bucket/flytesnacks/",
        ),
        (
            vec![("server.dataProxy.upload.storagePrefix", json!("mine"))],
            "3600",
            20,
            "s3://bucket/mine/flytesnacks/",
        ),
    ] {
        let config = configured(&settings);
        let world = World::start_over(Store::Sqlite, config, bucket()).await;
        let rpc = format!("{PROXY}/CreateUploadLocation");
        let answer = world.call(&rpc, &upload).await.unwrap();
        let answer = serde_json::to_value(answer).unwrap();
        let native = answer["nativeUrl"].as_str().unwrap();
        assert!(native.starts_with(prefix), "{settings:?}: {native}");
        let name = native.rsplit('/').next().unwrap();
        assert_eq!(name.len(), length, "{settings:?}: {native}");
        let signed = parameters(answer["signedUrl"].as_str().unwrap());
        assert_eq!(signed["X-Amz-Expires"], seconds, "{settings:?}");
    }
    for (settings, seconds) in [
        (vec![], "3600"),
        (
            vec![("server.dataProxy.download.maxExpiresIn", json!("10m"))],
            "600",
        ),
        (
            vec![("server.dataProxy.download.maxExpiresIn", json!("2760h"))],
            "604800",
        ),
    ] {
        let config = configured(&settings);
        let world = World::start_over(Store::Sqlite, config, bucket()).await;
        let rpc = format!("{PROXY}/CreateDownloadLocation");
        let request = json!({"native_url": "s3://bucket/x"});
        let answer = world.call(&rpc, &request).await.unwrap();
        let answer = serde_json::to_value(answer).unwrap();
        let signed = parameters(answer["signedUrl"].as_str().unwrap());
        assert_eq!(signed["X-Amz-Expires"], seconds, "{settings:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_no_store_takes_is_not_signed() {
    const PROXY: &str = "flyteidl.service.DataProxyService";
    let settings = [
        ("server.dataProxy.upload.maxExpiresIn", json!("2760h")),
        ("server.dataProxy.download.maxExpiresIn", json!("2760h")),
    ];
    let world = World::start_over(Store::Sqlite, configured(&settings), bucket()).await;
    for (rpc, mut request) in [
        (
            "CreateUploadLocation",
            json!({"project": "flytesnacks", "domain": "development", "filename_root": "r", "filename": "f"}),
        ),
        (
            "CreateDownloadLocation",
            json!({"native_url": "s3://bucket/x"}),
        ),
    ] {
        for (asked, refused) in [("604800s", false), ("604801s", true), ("9936000s", true)] {
            request["expires_in"] = json!(asked);
            let answer = world.call(&format!("{PROXY}/{rpc}"), &request).await;
            let Err(status) = answer else {
                assert!(!refused, "{rpc}: {asked}");
                continue;
            };
            assert!(refused, "{rpc}: {status}");
            assert_eq!(status.code(), Code::InvalidArgument, "{rpc}");
            assert!(
                status
                    .message()
                    .ends_with("cannot exceed max allowed expiration [168h0m0s]"),
                "{rpc}: {status}"
            );
        }
    }
}

/// A project of which nobody has told this admin is found by the next round, long before the minute that is the default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_resources_are_refreshed_as_often_as_is_said() {
    let world = world(&[("cluster_resources.refreshInterval", json!("100ms"))]).await;
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    world.admin.spawn(&mut tasks);
    let mut ready = world.admin.readiness();
    ready.wait_for(|ready| *ready).await.unwrap();
    let insert = Query::insert()
        .into_table("projects")
        .columns(["identifier", "name", "state"])
        .values_panic([Expr::val("elsewhere"), Expr::val("Elsewhere"), Expr::val(0)])
        .take();
    world
        .database
        .write::<_, _, _, DbError>(insert, |insert, tx| {
            Box::pin(async move { tx.execute(insert).await })
        })
        .await
        .unwrap();
    let made = world.cluster.made("elsewhere-development");
    tokio::time::timeout(Duration::from_secs(45), made)
        .await
        .expect("no round has come");
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_of_remote_data() {
    let aws = ("remoteData.scheme", json!("aws"));
    let signed = ("remoteData.signedUrls.enabled", json!(true));
    for (settings, inputs, seconds) in [
        (vec![], 1, None),
        (vec![aws.clone(), signed.clone()], 1, Some("60")),
        (
            vec![
                aws.clone(),
                signed.clone(),
                ("remoteData.maxSizeInBytes", json!(1)),
            ],
            0,
            Some("60"),
        ),
        (
            vec![signed, ("remoteData.signedUrls.durationMinutes", json!(7))],
            1,
            Some("420"),
        ),
    ] {
        let config = configured(&settings);
        let world = World::start_over(Store::Sqlite, config, bucket()).await;
        launch(&world, &execution()).await.unwrap();
        let id = json!({"id": {"project": "flytesnacks", "domain": "development", "name": "e1"}});
        let data: admin::WorkflowExecutionGetDataResponse =
            world.get("GetExecutionData", &id).await.unwrap();
        let found = data.full_inputs.unwrap_or_default().literals.len();
        assert_eq!(found, inputs, "{settings:?}");
        #[expect(deprecated, reason = "clients of today still read it")]
        let url = data.inputs.unwrap_or_default().url;
        let lasts = (!url.is_empty()).then(|| parameters(&url)["X-Amz-Expires"].clone());
        assert_eq!(lasts.as_deref(), seconds, "{settings:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inline_data_of_events_go_where_the_key_says() {
    for (settings, stays) in [
        (vec![], false),
        (
            vec![("remoteData.inlineEventDataPolicy", json!("StoreInline"))],
            true,
        ),
    ] {
        let world = world(&settings).await;
        events::launch(&world).await;
        let outputs = json!({"literals": {"o0": {"scalar": {"primitive": {"integer": "1"}}}}});
        let event = node_event(&world, "n0", "SUCCEEDED", json!({"output_data": outputs})).await;
        assert_eq!(event, "OK");
        let id = json!({"id": {"node_id": "n0", "execution_id": {"project": "flytesnacks", "domain": "development", "name": "ev"}}});
        let node: admin::NodeExecution = world.get("GetNodeExecution", &id).await.unwrap();
        use admin::node_execution_closure::OutputResult;
        #[expect(deprecated, reason = "events of today still bring data")]
        let inline = matches!(
            node.closure.unwrap().output_result,
            Some(OutputResult::OutputData(_))
        );
        assert_eq!(inline, stays, "{settings:?}");
    }
}
