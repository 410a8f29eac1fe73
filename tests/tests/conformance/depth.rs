//! Nesting through REST: JSON in, rows and resource, JSON out.

use axum::{Router, body::Body};
use flyte_idl::{json, nesting::MAX_LEVELS};
use flyte_platform::sql::DatabaseConfig;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{
    sequences::{DOMAIN, PROJECT},
    subjects,
};

fn nested_type(levels: usize) -> String {
    let open = r#"{"collection_type":"#.repeat(levels);
    open + r#"{"simple":"INTEGER"}"# + &"}".repeat(levels)
}

fn nested_literal(levels: usize) -> String {
    let open = r#"{"collection":{"literals":["#.repeat(levels);
    open + r#"{"scalar":{"primitive":{"integer":"42"}}}"# + &"]}}".repeat(levels)
}

fn variables(levels: usize) -> String {
    format!(
        r#"{{"variables":{{"v":{{"type":{}}}}}}}"#,
        nested_type(levels)
    )
}

fn interface(levels: usize) -> String {
    format!(r#"{{"inputs":{},"outputs":{{}}}}"#, variables(levels))
}

fn id(kind: &str) -> String {
    subjects::entity(kind, "deep").to_string()
}

fn task(levels: usize) -> String {
    format!(
        r#"{{"id":{},"spec":{{"template":{{"type":"container","interface":{},"container":{{"image":"i","args":["x"]}},
            "metadata":{{"runtime":{{"version":"1"}}}}}}}}}}"#,
        id("TASK"),
        interface(levels)
    )
}

fn workflow(levels: usize) -> String {
    format!(
        r#"{{"id":{},"spec":{{"template":{{"interface":{},"nodes":[{{"id":"n0","task_node":{{"reference_id":{}}},
            "inputs":[{{"var":"v","binding":{{"promise":{{"var":"v"}}}}}}]}}]}}}}}}"#,
        id("WORKFLOW"),
        interface(levels),
        id("TASK")
    )
}

fn launch_plan() -> String {
    format!(
        r#"{{"id":{},"spec":{{"workflow_id":{},"entity_metadata":{{}}}}}}"#,
        id("LAUNCH_PLAN"),
        id("WORKFLOW")
    )
}

fn execution(literal: &str) -> String {
    format!(
        r#"{{"project":"{PROJECT}","domain":"{DOMAIN}","name":"deep","spec":{{"launch_plan":{},"metadata":{{}}}},
            "inputs":{{"literals":{{"v":{literal}}}}}}}"#,
        id("LAUNCH_PLAN")
    )
}

async fn send(router: &Router, method: &str, path: &str, body: String) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1/{path}"))
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// How many lists of the given member are within each other in `value`.
fn depth(value: &Value, member: &str) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, levels)) = open.pop() {
        deepest = deepest.max(levels);
        match value {
            Value::Object(members) => open.extend(
                members
                    .iter()
                    .map(|(name, value)| (value, if name == member { levels + 1 } else { levels })),
            ),
            Value::Array(items) => open.extend(items.iter().map(|item| (item, levels))),
            _ => {}
        }
    }
    deepest
}

fn parsed(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap()
}

async fn rest_takes_a_thousand_levels(levels: usize) {
    let folder = tempfile::tempdir().unwrap();
    let database = DatabaseConfig::sqlite(folder.path().join("admin.db"));
    let (admin, cluster) = Box::pin(subjects::bare_admin(&database)).await;
    let router = admin.http();
    for (path, body) in [
        ("tasks", task(levels)),
        ("workflows", workflow(levels)),
        ("launch_plans", launch_plan()),
        ("executions", execution(&nested_literal(levels))),
    ] {
        let (status, answer) = send(&router, "POST", path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let name = format!("{PROJECT}/{DOMAIN}/deep");
    for (path, member) in [
        (format!("tasks/{name}/v"), "collection_type"),
        (format!("workflows/{name}/v"), "collection_type"),
        (format!("launch_plans/{name}/v"), "collection_type"),
        (format!("data/executions/{name}"), "collection"),
    ] {
        let (status, answer) = send(&router, "GET", &path, String::new()).await;
        assert_eq!(status, 200, "{path}: {answer}");
        assert_eq!(depth(&parsed(&answer), member), levels, "{path}");
    }
    let path =
        format!("/apis/flyte.lyft.com/v1alpha1/namespaces/{PROJECT}-{DOMAIN}/flyteworkflows/deep");
    let request = Request::get(path).body(Vec::new()).unwrap();
    let resource = cluster.client().request_text(request).await.unwrap();
    let resource = parsed(&resource);
    assert_eq!(depth(&resource["inputs"], "collection"), levels);
    assert_eq!(depth(&resource["tasks"], "collectionType"), levels);

    let refused = [
        ("tasks", task(levels + 1)),
        ("workflows", workflow(levels + 1)),
        ("executions", execution(&nested_literal(levels + 1))),
    ];
    for (path, body) in refused {
        let (status, answer) = send(&router, "POST", path, body).await;
        assert_eq!(status, 400, "{path}: {answer}");
        let answer = parsed(&answer);
        assert_eq!(answer["code"], 3, "{path}");
        assert!(
            answer["message"].as_str().unwrap().contains("1000 levels"),
            "{path}: {answer}"
        );
    }
}

/// On threads with as much stack as the services give theirs: prost and serde recurse.
#[test]
fn a_thousand_levels_of_json_are_taken_and_one_more_is_refused() {
    flyte_platform::cli::runtime().unwrap().block_on(async {
        let mut tests = tokio::task::JoinSet::new();
        tests.spawn(rest_takes_a_thousand_levels(MAX_LEVELS));
        tests.join_all().await;
    });
}
