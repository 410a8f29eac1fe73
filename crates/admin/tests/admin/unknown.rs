//! Fields of a newer flyteidl: they are stored with what they belong to, answered again, and change nothing else.

use axum::body::Body;
use flyte_idl::{
    descriptors,
    json::{Unknown, dynamic_from_slice},
};
use http::Request;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value as Field};
use serde_json::{Value, json};

use crate::{
    harness::{Store, World, message, recorded, text},
    on_both_databases,
};

on_both_databases!(
    registrations_keep_them,
    a_registration_without_them_is_the_same,
    executions_keep_them,
    what_events_bring_keeps_them,
    signals_keep_them,
    projects_and_descriptions_keep_them,
    dynamic_workflows_keep_them,
    binary_rest_carries_them
);

const SERVICE: &str = "flyteidl.service.AdminService";

/// Text of the unknown field.
const MARK: &str = "from a newer client";

/// Gives the message at `path` an unknown field; of a list its first element, of a map the value of `n`.
fn mark(message: &mut DynamicMessage, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        let mut field = Vec::new();
        prost::encoding::string::encode(9000, &MARK.to_owned(), &mut field);
        message.merge(field.as_slice()).unwrap();
        return;
    };
    let value = message.get_field_by_name_mut(first).unwrap();
    let inner = match value {
        Field::List(items) => items[0].as_message_mut(),
        Field::Map(entries) => entries.values_mut().next().unwrap().as_message_mut(),
        value => value.as_message_mut(),
    };
    mark(inner.unwrap(), rest);
}

/// Paths of messages with unknown fields, in order.
fn marked(message: &DynamicMessage) -> Vec<String> {
    fn visit(value: &Field, path: &str, found: &mut Vec<String>) {
        match value {
            Field::Message(message) => {
                if message.unknown_fields().next().is_some() {
                    found.push(path.to_owned());
                }
                for (field, value) in message.fields() {
                    visit(value, &format!("{path}.{}", field.name()), found);
                }
            }
            Field::List(items) => {
                for (place, item) in items.iter().enumerate() {
                    visit(item, &format!("{path}[{place}]"), found);
                }
            }
            Field::Map(entries) => entries.values().for_each(|value| visit(value, path, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    visit(&Field::Message(message.clone()), "", &mut found);
    found.sort();
    found
}

/// The message of a recorded registration, marked at `paths`.
fn fixture(method: &str, paths: &[&[&str]]) -> DynamicMessage {
    let rpc = format!("{SERVICE}/{method}");
    let fixtures = recorded("compiler-errors.jsonl");
    let fixture = fixtures
        .iter()
        .find(|case| text(case, "note") == "fixture" && text(case, "rpc") == rpc)
        .unwrap();
    let mut request = message(&rpc, &fixture["request"]);
    for path in paths {
        mark(&mut request, path);
    }
    request
}

fn message_of(full_name: &str, value: &Value) -> DynamicMessage {
    let descriptor = descriptors::pool().get_message_by_name(full_name).unwrap();
    dynamic_from_slice(Unknown::Refuse, &descriptor, value.to_string().as_bytes()).unwrap()
}

async fn send(world: &World, method: &str, request: &DynamicMessage) -> DynamicMessage {
    world
        .send(&format!("{SERVICE}/{method}"), request)
        .await
        .unwrap()
}

async fn get(world: &World, method: &str, request: &Value) -> Vec<String> {
    marked(
        &world
            .call(&format!("{SERVICE}/{method}"), request)
            .await
            .unwrap(),
    )
}

fn entity(kind: &str, name: &str) -> Value {
    json!({"id": {"resource_type": kind, "project": "flytesnacks", "domain": "staging", "name": name, "version": "v1"}})
}

fn list(name: &str) -> Value {
    json!({"id": {"project": "flytesnacks", "domain": "staging", "name": name}, "limit": 10})
}

/// Registers a task, a workflow of it and a launch plan, all of a newer client.
async fn register(world: &World) {
    let spec: &[&str] = &["spec"];
    let template: &[&str] = &["spec", "template"];
    let interface: &[&str] = &["spec", "template", "interface"];
    let node: &[&str] = &["spec", "template", "nodes"];
    let defaults: &[&str] = &["spec", "default_inputs"];
    for (method, paths) in [
        ("CreateTask", &[spec, template, interface][..]),
        ("CreateWorkflow", &[template, interface, node]),
        ("CreateLaunchPlan", &[spec, defaults]),
    ] {
        send(world, method, &fixture(method, paths)).await;
    }
}

async fn registrations_keep_them(store: Store) {
    let world = World::start(store).await;
    register(&world).await;
    let of_task = [
        ".closure.compiled_task.template",
        ".closure.compiled_task.template.interface",
    ];
    assert_eq!(
        get(&world, "GetTask", &entity("TASK", "api.inc")).await,
        of_task
    );
    let of_workflow = [
        ".closure.compiled_workflow.primary.template",
        ".closure.compiled_workflow.primary.template.interface",
        ".closure.compiled_workflow.primary.template.nodes[2]",
        ".closure.compiled_workflow.tasks[0].template",
        ".closure.compiled_workflow.tasks[0].template.interface",
    ];
    assert_eq!(
        get(&world, "GetWorkflow", &entity("WORKFLOW", "api.wf")).await,
        of_workflow
    );
    let of_plan = [".closure.expected_inputs", ".spec", ".spec.default_inputs"];
    let plan = entity("LAUNCH_PLAN", "api.lpe");
    assert_eq!(get(&world, "GetLaunchPlan", &plan).await, of_plan);
    let first = |field: &str, paths: &[&str]| -> Vec<String> {
        paths
            .iter()
            .map(|path| format!(".{field}[0]{path}"))
            .collect()
    };
    assert_eq!(
        get(&world, "ListTasks", &list("api.inc")).await,
        first("tasks", &of_task)
    );
    assert_eq!(
        get(&world, "ListWorkflows", &list("api.wf")).await,
        first("workflows", &of_workflow[1..2])
    );
    assert_eq!(
        get(&world, "ListLaunchPlans", &list("api.lpe")).await,
        first("launch_plans", &of_plan)
    );
}

/// The digest is of the known fields' JSON, here as in the reference.
async fn a_registration_without_them_is_the_same(store: Store) {
    let world = World::start(store).await;
    register(&world).await;
    for method in ["CreateTask", "CreateWorkflow", "CreateLaunchPlan"] {
        let rpc = format!("{SERVICE}/{method}");
        let status = world.send(&rpc, &fixture(method, &[])).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::AlreadyExists, "{method}");
        assert!(
            status.message().contains("identical"),
            "{}",
            status.message()
        );
    }
}

/// Asks for execution `newer` of what [`register`] registered.
fn creation() -> DynamicMessage {
    message(
        &format!("{SERVICE}/CreateExecution"),
        &json!({
            "project": "flytesnacks", "domain": "staging", "name": "newer",
            "spec": {"launch_plan": entity("LAUNCH_PLAN", "api.lpe")["id"], "metadata": {}},
            "inputs": {"literals": {
                "d": {"scalar": {"primitive": {"datetime": "2026-01-01T00:00:00Z"}}},
            }},
        }),
    )
}

async fn executions_keep_them(store: Store) {
    let world = World::start(store).await;
    register(&world).await;
    let execution = json!({"project": "flytesnacks", "domain": "staging", "name": "newer"});
    let mut request = creation();
    for path in [
        &["spec"][..],
        &["spec", "metadata"],
        &["inputs", "literals"],
    ] {
        mark(&mut request, path);
    }
    send(&world, "CreateExecution", &request).await;
    let id = json!({"id": execution});
    assert_eq!(
        get(&world, "GetExecution", &id).await,
        [".spec", ".spec.metadata"]
    );
    for file in ["inputs", "user_inputs"] {
        let uri = format!(
            "{}/metadata/flytesnacks/staging/newer/{file}",
            world.blobs.base()
        );
        let bytes = world.blobs.get(&uri).await.unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains(MARK), "{file}");
    }
    assert_eq!(
        get(&world, "GetExecutionData", &id).await,
        [".full_inputs.literals"]
    );
    // A relaunch repeats what was asked, all of it.
    let again = json!({"id": execution, "name": "again"});
    world
        .call(&format!("{SERVICE}/RelaunchExecution"), &again)
        .await
        .unwrap();
    let again = json!({"id": {"project": "flytesnacks", "domain": "staging", "name": "again"}});
    assert_eq!(
        get(&world, "GetExecution", &again).await,
        [".spec", ".spec.metadata"]
    );
}

async fn what_events_bring_keeps_them(store: Store) {
    let world = World::start(store).await;
    register(&world).await;
    let execution = json!({"project": "flytesnacks", "domain": "staging", "name": "newer"});
    send(&world, "CreateExecution", &creation()).await;
    let node = json!({"node_id": "n0", "execution_id": execution});
    let time = "2026-01-01T00:00:00Z";
    let error = json!({"code": "c", "message": "m"});
    let task = &entity("TASK", "api.inc")["id"];
    let attempt = json!({"task_id": task, "parent_node_execution_id": node, "phase": "FAILED", "occurred_at": time,
        "logs": [{"uri": "u", "name": "l"}], "error": error});
    for (method, event, paths) in [
        (
            "CreateNodeEvent",
            json!({"id": node, "phase": "FAILED", "occurred_at": time, "error": error, "event_version": 2}),
            &[&["event", "error"][..], &["event"]][..],
        ),
        (
            "CreateTaskEvent",
            attempt,
            &[&["event", "error"], &["event", "logs"]],
        ),
        (
            "CreateWorkflowEvent",
            json!({"execution_id": execution, "phase": "FAILED", "occurred_at": time, "error": error}),
            &[&["event", "error"]],
        ),
    ] {
        let mut event = message(&format!("{SERVICE}/{method}"), &json!({"event": event}));
        for path in paths {
            mark(&mut event, path);
        }
        send(&world, method, &event).await;
    }
    let mut event = message(
        &format!("{SERVICE}/CreateNodeEvent"),
        &json!({"event": {
            "id": {"node_id": "n1", "execution_id": execution}, "phase": "SUCCEEDED", "occurred_at": time,
            "output_data": {"literals": {"o0": {"scalar": {"primitive": {"integer": "1"}}}}},
        }}),
    );
    mark(&mut event, &["event", "output_data", "literals"]);
    send(&world, "CreateNodeEvent", &event).await;
    let with_data = json!({"id": {"node_id": "n1", "execution_id": execution}});
    assert_eq!(
        get(&world, "GetNodeExecutionData", &with_data).await,
        [".full_outputs.literals"]
    );
    let attempt = json!({"id": {"task_id": task, "node_execution_id": node}});
    for (method, id, expected) in [
        (
            "GetNodeExecution",
            json!({"id": node}),
            &[".closure.error"][..],
        ),
        (
            "GetTaskExecution",
            attempt,
            &[".closure.error", ".closure.logs[0]"],
        ),
        (
            "GetExecution",
            json!({"id": execution}),
            &[".closure.error"],
        ),
    ] {
        assert_eq!(get(&world, method, &id).await, expected, "{method}");
    }
}

async fn signals_keep_them(store: Store) {
    let world = World::start(store).await;
    let execution = json!({"project": "flytesnacks", "domain": "staging", "name": "newer"});
    let id = json!({"signal_id": "s", "execution_id": execution});
    let service = "flyteidl.service.SignalService";
    for (method, request, path) in [
        (
            "GetOrCreateSignal",
            json!({"id": id, "type": {"simple": "INTEGER"}}),
            "type",
        ),
        (
            "SetSignal",
            json!({"id": id, "value": {"scalar": {"primitive": {"integer": "1"}}}}),
            "value",
        ),
    ] {
        let rpc = format!("{service}/{method}");
        let mut request = message(&rpc, &request);
        mark(&mut request, &[path]);
        world.send(&rpc, &request).await.unwrap();
    }
    let list = json!({"workflow_execution_id": execution, "limit": 10});
    let list = world.call(&format!("{service}/ListSignals"), &list).await;
    assert_eq!(
        marked(&list.unwrap()),
        [".signals[0].type", ".signals[0].value"]
    );
}

async fn projects_and_descriptions_keep_them(store: Store) {
    let world = World::start(store).await;
    let project = json!({"id": "newer", "name": "newer", "labels": {"values": {"a": "b"}}});
    let mut register = message(
        &format!("{SERVICE}/RegisterProject"),
        &json!({"project": project}),
    );
    mark(&mut register, &["project", "labels"]);
    send(&world, "RegisterProject", &register).await;
    let id = json!({"id": "newer"});
    assert_eq!(get(&world, "GetProject", &id).await, [".labels"]);
    let mut update = message(&format!("{SERVICE}/UpdateProject"), &project);
    mark(&mut update, &[]);
    mark(&mut update, &["labels"]);
    send(&world, "UpdateProject", &update).await;
    assert_eq!(get(&world, "GetProject", &id).await, ["", ".labels"]);
    let listed = json!({"filters": "eq(identifier,newer)"});
    assert_eq!(
        get(&world, "ListProjects", &listed).await,
        [".projects[0]", ".projects[0].labels"]
    );

    for (method, field, kind, name) in [
        ("CreateTask", "tasks", "TASK", "api.inc"),
        ("CreateWorkflow", "workflows", "WORKFLOW", "api.wf"),
    ] {
        let mut request = fixture(method, &[]);
        let spec = request.get_field_by_name_mut("spec").unwrap();
        let spec = spec.as_message_mut().unwrap();
        let long = json!({"long_description": {"value": "how it works"}});
        let description = message_of("flyteidl.admin.DescriptionEntity", &long);
        spec.set_field_by_name("description", Field::Message(description));
        mark(&mut request, &["spec", "description", "long_description"]);
        send(&world, method, &request).await;
        let answer = get(&world, "GetDescriptionEntity", &entity(kind, name)).await;
        assert_eq!(answer, [".long_description"], "{field}");
        let mut listed = list(name);
        listed["resource_type"] = json!(kind);
        assert_eq!(
            get(&world, "ListDescriptionEntities", &listed).await,
            [".descriptionEntities[0].long_description"],
            "{field}"
        );
    }
}

async fn dynamic_workflows_keep_them(store: Store) {
    let world = World::start(store).await;
    register(&world).await;
    let execution = json!({"project": "flytesnacks", "domain": "staging", "name": "newer"});
    send(&world, "CreateExecution", &creation()).await;
    let node = json!({"node_id": "n0", "execution_id": execution});
    let mut event = message(
        &format!("{SERVICE}/CreateNodeEvent"),
        &json!({"event": {
            "id": node, "phase": "RUNNING", "occurred_at": "2026-01-01T00:00:00Z", "is_parent": true, "is_dynamic": true,
            "task_node_metadata": {"dynamic_workflow": {
                "id": entity("WORKFLOW", "api.wf")["id"],
                "compiled_workflow": {"primary": {"template": {"id": entity("WORKFLOW", "api.wf")["id"]}}},
            }},
        }}),
    );
    let closure = [
        "event",
        "task_node_metadata",
        "dynamic_workflow",
        "compiled_workflow",
    ];
    let template: Vec<&str> = closure.into_iter().chain(["primary", "template"]).collect();
    mark(&mut event, &template);
    send(&world, "CreateNodeEvent", &event).await;
    assert_eq!(
        get(&world, "GetDynamicNodeWorkflow", &json!({"id": node})).await,
        [".compiled_workflow.primary.template"]
    );
}

async fn binary_rest_carries_them(store: Store) {
    let world = World::start(store).await;
    let request = fixture("CreateTask", &[&["spec", "template"]]);
    let post = Request::post("/api/v1/tasks")
        .header("content-type", "application/octet-stream")
        .body(Body::from(request.encode_to_vec()))
        .unwrap();
    assert_eq!(world.http(post).await.status(), 200);
    let get = Request::get("/api/v1/tasks/flytesnacks/staging/api.inc/v1")
        .header("accept", "application/octet-stream")
        .body(Body::empty())
        .unwrap();
    let answer = world.http(get).await;
    let task = descriptors::pool()
        .get_message_by_name("flyteidl.admin.Task")
        .unwrap();
    let task = DynamicMessage::decode(task, answer.body().clone()).unwrap();
    assert_eq!(marked(&task), [".closure.compiled_task.template"]);
}
