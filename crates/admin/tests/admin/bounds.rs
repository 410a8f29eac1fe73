//! What a request may ask for at most, and that what workflows need is less.

use axum::body::Body;
use flyte_admin::config::RegistrationConfig;
use flyte_idl::admin;
use http::Request;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    harness::{Store, World, config},
    on_both_databases,
};

on_both_databases!(
    filters_beyond_a_bound_are_refused,
    values_beyond_a_bound_are_refused,
    a_page_is_no_larger_than_a_message,
    a_workflow_of_many_tasks_and_launch_plans_is_registered,
    a_body_costs_time_by_its_size_however_deep,
    what_json_cannot_say_is_refused,
);

const LIST: &str = "flyteidl.service.AdminService/ListExecutions";

fn list(filters: String) -> Value {
    json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 5, "filters": filters})
}

async fn filters_beyond_a_bound_are_refused(store: Store) {
    let world = World::start(store).await;
    let filters = |count: usize| vec!["eq(phase,QUEUED)"; count].join("+");
    assert!(world.call(LIST, &list(filters(100))).await.is_ok());
    for count in [101, 1_000, 200_000] {
        let status = world.call(LIST, &list(filters(count))).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            format!("{count} filters are more than 100, the most that one request may have")
        );
    }
    let form = format!("limit=5&filters={}", filters(200_000).replace('+', "%2B"));
    let request = Request::post("/api/v1/executions/flytesnacks/development")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form))
        .unwrap();
    let response = world.http(request).await;
    assert_eq!(response.status(), 400);
    // Tags are conditions of one subquery.
    let tags = vec!["eq(execution_tag.key,a)"; 100].join("+");
    assert!(world.call(LIST, &list(tags)).await.is_ok());
}

async fn values_beyond_a_bound_are_refused(store: Store) {
    let world = World::start(store).await;
    let filter = |count: usize| format!("value_in(phase,{})", vec!["QUEUED"; count].join(";"));
    assert!(world.call(LIST, &list(filter(10_000))).await.is_ok());
    for (filters, count) in [
        (filter(10_001), 10_001),
        (filter(32_767), 32_767),
        (filter(65_536), 65_536),
        (vec![filter(500); 50].join("+"), 25_000),
    ] {
        let status = world.call(LIST, &list(filters)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            format!(
                "{count} values in filters are more than 10000, the most that one request may have"
            )
        );
    }
}

/// More than the 1,000 terms that SQLite's expressions may nest, and than fit into one statement.
async fn a_page_is_no_larger_than_a_message(store: Store) {
    const LIMIT: usize = 8 * 1024;
    let mut config = config();
    config.server.grpc.max_message_size_bytes = LIMIT;
    let world = World::start_with(store, config).await;
    let names: Vec<String> = (0..40).map(|number| format!("task{number:02}")).collect();
    for name in &names {
        let task = json!({
            "id": {"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": name, "version": "v"},
            "spec": {"template": {"type": "python-task", "metadata": {"runtime": {"version": "1"}}, "interface": {},
                "container": {"image": "i".repeat(700), "args": ["x"]}}},
        });
        let _: admin::TaskCreateResponse = world.get("CreateTask", &task).await.unwrap();
    }
    let (mut listed, mut pages, mut token) = (Vec::new(), 0, String::new());
    loop {
        let request = json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 100, "token": token,
            "sort_by": {"key": "name", "direction": "ASCENDING"}});
        let page: admin::TaskList = world.get("ListTasks", &request).await.unwrap();
        assert!(page.encoded_len() <= LIMIT, "{} bytes", page.encoded_len());
        pages += 1;
        listed.extend(page.tasks.into_iter().map(|task| task.id.unwrap().name));
        token = page.token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, names);
    assert!(pages > 3, "{pages} pages");
}

async fn a_workflow_of_many_tasks_and_launch_plans_is_registered(store: Store) {
    const COUNT: usize = 1_100;
    let world = World::start_with(
        store,
        flyte_admin::config::AdminConfig {
            registration: RegistrationConfig {
                max_workflow_nodes: 0,
                ..RegistrationConfig::default()
            },
            ..config()
        },
    )
    .await;
    let id = |kind: &str, name: String| json!({"resource_type": kind, "project": "flytesnacks", "domain": "development", "name": name, "version": "v"});
    let empty = json!({"id": id("WORKFLOW", "inner".to_owned()), "spec": {"template": {
        "nodes": [{"id": "n0", "task_node": {"reference_id": id("TASK", "t0".to_owned())}}],
        "interface": {"inputs": {}, "outputs": {}},
    }}});
    let create = async |method: &str, request: Value| {
        world
            .call(&format!("flyteidl.service.AdminService/{method}"), &request)
            .await
            .unwrap()
    };
    let mut nodes = Vec::new();
    for number in 0..COUNT {
        let task = id("TASK", format!("t{number}"));
        let registration = json!({"id": task, "spec": {"template": {
            "type": "python-task", "metadata": {"runtime": {"version": "1"}}, "interface": {},
            "container": {"image": "i", "args": ["x"]},
        }}});
        create("CreateTask", registration).await;
        nodes.push(json!({"id": format!("t{number}"), "task_node": {"reference_id": task}}));
    }
    create("CreateWorkflow", empty).await;
    for number in 0..COUNT {
        let plan = id("LAUNCH_PLAN", format!("l{number}"));
        let spec = json!({"workflow_id": id("WORKFLOW", "inner".to_owned())});
        create("CreateLaunchPlan", json!({"id": plan, "spec": spec})).await;
        nodes.push(json!({"id": format!("l{number}"), "workflow_node": {"launchplan_ref": plan}}));
    }
    let wide = json!({"id": id("WORKFLOW", "wide".to_owned()), "spec": {"template": {"nodes": nodes, "interface": {}}}});
    create("CreateWorkflow", wide).await;
    let found: admin::Workflow = world
        .get(
            "GetWorkflow",
            &json!({"id": id("WORKFLOW", "wide".to_owned())}),
        )
        .await
        .unwrap();
    let compiled = found.closure.unwrap().compiled_workflow.unwrap();
    assert_eq!(compiled.tasks.len(), COUNT);
}

/// A task whose `custom` holds `levels` lists in each other around `values` numbers.
fn nested(levels: usize, values: usize) -> String {
    format!(
        r#"{{"id": {{"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": "deep", "version": "v"}},
            "spec": {{"template": {{"custom": {{"a": {}{}{}}}}}}}}}"#,
        "[".repeat(levels),
        vec!["1"; values].join(","),
        "]".repeat(levels)
    )
}

async fn a_body_costs_time_by_its_size_however_deep(store: Store) {
    let world = World::start(store).await;
    let took = async |levels: usize| {
        let request = Request::post("/api/v1/tasks")
            .header("content-type", "application/json")
            .body(Body::from(nested(levels, 100_000)))
            .unwrap();
        let start = std::time::Instant::now();
        world.http(request).await;
        start.elapsed()
    };
    let (flat, deep) = (took(1).await, took(100).await);
    assert!(deep < flat * 10, "{deep:?} is not {flat:?}");
}

async fn what_json_cannot_say_is_refused(store: Store) {
    use flyte_idl::core::{TaskTemplate, TypedInterface};
    use prost_types::{Struct, Value, value::Kind};
    let world = World::start(store).await;
    let request = |number: f64| admin::TaskCreateRequest {
        id: Some(flyte_idl::core::Identifier {
            resource_type: 1,
            project: "flytesnacks".into(),
            domain: "development".into(),
            name: "t".into(),
            version: "v".into(),
            ..Default::default()
        }),
        spec: Some(admin::TaskSpec {
            template: Some(TaskTemplate {
                r#type: "echo".into(),
                interface: Some(TypedInterface::default()),
                custom: Some(Struct {
                    fields: [(
                        "a".to_owned(),
                        Value {
                            kind: Some(Kind::NumberValue(number)),
                        },
                    )]
                    .into(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
    };
    for number in [f64::INFINITY, f64::NAN] {
        let refused = world
            .admin::<_, admin::TaskCreateResponse>("CreateTask", &request(number))
            .await;
        let status = refused.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("NaN or infinite"), "{status}");
    }
}
