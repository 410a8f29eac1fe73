//! The REST gateway: raw requests and their recorded answers.

use axum::body::Body;
use flyte_idl::{descriptors, json};
use http::Request;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::{
    harness::{Store, World, recorded, text},
    on_both_databases, seed,
};

on_both_databases!(
    raw_requests_are_answered_as_by_the_reference,
    the_three_codecs_write_what_the_reference_writes
);

/// Requests that this version answers otherwise, by note, with the reason.
const DEVIATIONS: &[(&str, &str)] = &[
    (
        "key of a path variable",
        "the query cannot override the path",
    ),
    ("bad utf-8 in path", "a client's mistake is 400"),
    ("bad utf-8 in query", "a client's mistake is 400"),
    ("panic", "no request panics"),
    ("expires 10s", "the store of the tests cannot sign"),
    ("depth bad", "answered before the RPC is found missing"),
    ("PUT id mismatch in launch plan", "a wrong type is refused"),
    ("GetTask with resource type", "a wrong type is refused"),
];

/// Paths of RPCs that this version does not have.
fn is_missing(path: &str) -> bool {
    path.contains("attributes") || path.contains("/metrics/")
}

fn request(case: &Value) -> Request<Body> {
    let mut request = Request::builder()
        .method(text(case, "method"))
        .uri(text(case, "path"));
    for header in case["headers"].as_array().unwrap() {
        request = request.header(header[0].as_str().unwrap(), header[1].as_str().unwrap());
    }
    let body = match case["body_base64"].as_str() {
        Some(base64) => seed::decode(base64),
        None => text(case, "body").as_bytes().to_vec(),
    };
    request.body(Body::from(body)).unwrap()
}

async fn raw_requests_are_answered_as_by_the_reference(store: Store) {
    let world = World::start(store).await;
    // The fixtures of the recording: entities api.* of version v1 in domain staging.
    for case in recorded("compiler-errors.jsonl") {
        if text(&case, "note") == "fixture" {
            world
                .call(text(&case, "rpc"), &case["request"])
                .await
                .unwrap();
        }
    }
    let mut wrong = Vec::new();
    for case in recorded("rest-requests.jsonl") {
        let note = text(&case, "note");
        let path = text(&case, "path");
        // http refuses to write this one down; a socket test would be needed.
        if note == "bad percent in path"
            || is_missing(path)
            || DEVIATIONS.iter().any(|(known, _)| *known == note)
        {
            continue;
        }
        let response = world.http(request(&case)).await;
        let expected = case["status"].as_u64().unwrap();
        let header = |name: &str| {
            case["response_headers"]
                .as_array()
                .unwrap()
                .iter()
                .find(|header| header[0] == name)
                .and_then(|header| header[1].as_str())
                .map(str::to_owned)
        };
        let mut problems = Vec::new();
        if u64::from(response.status().as_u16()) != expected {
            problems.push(format!("status {} not {}", expected, response.status()));
        }
        for name in [
            "Content-Type",
            "Grpc-Metadata-Content-Type",
            "Location",
            "Access-Control-Allow-Origin",
            "Access-Control-Allow-Headers",
            "Access-Control-Allow-Methods",
            "Access-Control-Allow-Credentials",
        ] {
            let ours = response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned());
            if ours != header(name) && expected != 307 {
                problems.push(format!("{name} {:?} not {ours:?}", header(name)));
            }
        }
        // JSON positions and Go's wording of them are not promised (spec 01 §3).
        let body = String::from_utf8_lossy(response.body()).into_owned();
        let theirs = text(&case, "response");
        let about_json = theirs.contains("proto: (line") || theirs.contains("proto: syntax error");
        if expected >= 400 && !theirs.is_empty() && !about_json && body != theirs {
            problems.push(format!("body {theirs:?} not {body:?}"));
        }
        // A body that was cut is no JSON; a list of names was filtered after its page was taken.
        if expected == 200
            && let Ok(theirs) = serde_json::from_str(theirs)
            && !path.contains("/named_entities/")
        {
            let theirs: Value = redacted(path, theirs);
            let ours = serde_json::from_str(&body).map(|value| redacted(path, value));
            if ours.as_ref().ok() != Some(&theirs) {
                problems.push(format!("body {theirs} not {body}"));
            }
        }
        if !problems.is_empty() {
            wrong.push(format!(
                "{note} {} {path}: {}",
                text(&case, "method"),
                problems.join("; ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The message of an answer, by what follows `/api/v1/` and the number of further segments.
fn message_of(path: &str) -> &'static str {
    let path = path
        .split('?')
        .next()
        .unwrap()
        .trim_start_matches("/api/v1/");
    let (kind, count) = match path.split_once('/') {
        Some((kind, rest)) => (kind, rest.split('/').count()),
        None => (path, 0),
    };
    match (kind, count) {
        ("version", _) => "flyteidl.admin.GetVersionResponse",
        ("projects", _) => "flyteidl.admin.Projects",
        ("domains", _) => "flyteidl.admin.GetDomainsResponse",
        ("task_ids" | "workflow_ids", _) => "flyteidl.admin.NamedEntityIdentifierList",
        ("tasks", 4) => "flyteidl.admin.Task",
        ("tasks", _) => "flyteidl.admin.TaskList",
        ("workflows", 4) => "flyteidl.admin.Workflow",
        ("workflows", _) => "flyteidl.admin.WorkflowList",
        ("launch_plans", 4) => "flyteidl.admin.LaunchPlan",
        ("launch_plans" | "active_launch_plans", _) => "flyteidl.admin.LaunchPlanList",
        ("executions", _) => "flyteidl.admin.Execution",
        ("node_executions", 4) => "flyteidl.admin.NodeExecution",
        ("node_executions", _) => "flyteidl.admin.NodeExecutionList",
        ("task_executions", _) => "flyteidl.admin.TaskExecutionList",
        ("data", 4) => "flyteidl.admin.WorkflowExecutionGetDataResponse",
        ("data", _) => "flyteidl.admin.NodeExecutionGetDataResponse",
        ("named_entities", 4) => "flyteidl.admin.NamedEntity",
        ("named_entities", _) => "flyteidl.admin.NamedEntityList",
        ("description_entities", _) => "flyteidl.admin.DescriptionEntity",
        _ => panic!("no message is known for {path}"),
    }
}

/// An answer as a value that can be compared.
fn read(world: &World, path: &str, status: u64, codec: &str, body: &[u8]) -> Value {
    if body.is_empty() || path == "/api/v1/openapi" {
        return Value::Null;
    }
    let value = if codec == "proto" {
        let name = match status {
            200 => message_of(path),
            _ => "google.rpc.Status",
        };
        let message = descriptors::pool().get_message_by_name(name).unwrap();
        let message = DynamicMessage::decode(message, body).unwrap();
        json::dynamic_to_value(json::Codec::ProtoNames, &message).unwrap()
    } else {
        serde_json::from_slice(body).unwrap()
    };
    let text = redacted(path, value).to_string();
    serde_json::from_str(&text.replace(&world.blobs.base(), seed::BUCKET)).unwrap()
}

async fn the_three_codecs_write_what_the_reference_writes(store: Store) {
    let world = World::start(store).await;
    seed::all(&world).await;
    let mut wrong = Vec::new();
    for case in recorded("rest.jsonl") {
        let path = text(&case, "path");
        for (codec, accept) in [
            ("json", Some("application/json")),
            ("camel", None),
            ("proto", Some("application/octet-stream")),
        ] {
            let expected = &case[codec];
            let mut request = Request::get(path);
            if let Some(accept) = accept {
                request = request.header("accept", accept);
            }
            let response = world.http(request.body(Body::empty()).unwrap()).await;
            let status = u64::from(response.status().as_u16());
            if is_missing(path) {
                assert_eq!(status, 501, "{path} has been built");
                continue;
            }
            let mut problems = Vec::new();
            if status != expected["status"] {
                problems.push(format!("status {}, not {status}", expected["status"]));
            }
            let content_type = response.headers().get("content-type");
            let content_type = content_type.map(|value| value.to_str().unwrap());
            if content_type != expected["content_type"].as_str() {
                problems.push(format!(
                    "{}, not {content_type:?}",
                    expected["content_type"]
                ));
            }
            // Five bodies held paths of the recording's machine.
            if let Some(body) = expected["body"].as_str() {
                let bytes = match codec {
                    "proto" if status == 200 && path != "/api/v1/openapi" => seed::decode(body),
                    _ => body.as_bytes().to_vec(),
                };
                let theirs = read(&world, path, status, codec, &bytes);
                let ours = read(&world, path, status, codec, response.body());
                if ours != theirs {
                    problems.push(format!("{theirs}\n    not\n{ours}"));
                }
            }
            if !problems.is_empty() {
                wrong.push(format!("{path} in {codec}: {}", problems.join("; ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Without what differs from run to run: times of registration and the build.
fn redacted(path: &str, mut value: Value) -> Value {
    let names: &[&str] = match path.split('/').nth(3).unwrap_or_default() {
        "tasks" | "workflows" | "launch_plans" => {
            &["created_at", "createdAt", "updated_at", "updatedAt"]
        }
        "version" => &["Build", "Version", "BuildTime"],
        _ => &[],
    };
    redact(&mut value, names);
    value
}

fn redact(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                if names.contains(&name.as_str()) {
                    *member = json!("redacted");
                } else {
                    redact(member, names);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, names)),
        _ => {}
    }
}
