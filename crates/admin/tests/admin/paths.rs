//! What users name stays in its folder, and nobody else is there.

use std::collections::BTreeMap;

use flyte_idl::admin;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    events::{node_event, started, task_event},
    harness::{Store, World},
    on_both_databases,
};

on_both_databases!(
    node_ids_that_leave_their_folder_are_refused,
    tasks_of_any_name_stay_below_their_node,
    nodes_whose_ids_make_no_folder_are_not_registered,
    each_version_of_a_workflow_has_its_own_closure,
    a_closure_that_is_anothers_is_not_run
);

/// Every blob and its bytes.
async fn blobs(world: &World) -> BTreeMap<String, Vec<u8>> {
    let base = world.blobs.base();
    let mut found = BTreeMap::new();
    for uri in world.blobs.list(&base, 10_000).await.unwrap() {
        let bytes = world.blobs.get(&uri).await.unwrap();
        found.insert(uri, bytes.to_vec());
    }
    found
}

fn data() -> Value {
    json!({"literals": {"x": {"scalar": {"primitive": {"integer": "666"}}}}})
}

async fn node_ids_that_leave_their_folder_are_refused(store: Store) {
    let world = started(store).await;
    let before = blobs(&world).await;
    for node in [
        "..",
        "../inputs",
        "../../../production/ev/n0",
        "n0/../../inputs",
        "%2e%2e/inputs",
        "n0#",
        "n0?x",
        "a/b",
    ] {
        let more = json!({"input_data": data(), "output_data": data()});
        let code = node_event(&world, node, "RUNNING", more).await;
        assert_eq!(code, "INVALID_ARGUMENT", "{node}");
    }
    assert_eq!(blobs(&world).await, before);
    assert_eq!(
        node_event(&world, "n0", "RUNNING", json!({"input_data": data()})).await,
        "OK"
    );
    let after = blobs(&world).await;
    let new: Vec<_> = after
        .keys()
        .filter(|uri| !before.contains_key(*uri))
        .collect();
    let base = world.blobs.base();
    let expected = format!("{base}/metadata/flytesnacks/development/ev/n0/offloaded_inputs");
    assert_eq!(new, [&expected]);
}

async fn tasks_of_any_name_stay_below_their_node(store: Store) {
    let world = started(store).await;
    assert_eq!(node_event(&world, "n0", "RUNNING", json!({})).await, "OK");
    let before = blobs(&world).await;
    for (name, version) in [
        ("../../../../x", "v"),
        ("a", "../../../../inputs"),
        ("a/x", "y"),
        ("a", "x/y"),
        ("%2e%2e%2f..", "v?#"),
    ] {
        let task = json!({"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": name, "version": version});
        let more = json!({"task_id": task, "input_data": data()});
        assert_eq!(task_event(&world, "RUNNING", 0, more).await, "OK");
    }
    let after = blobs(&world).await;
    let base = world.blobs.base();
    let folder = format!("{base}/metadata/flytesnacks/development/ev/n0/");
    let new: Vec<_> = after
        .keys()
        .filter(|uri| !before.contains_key(*uri))
        .collect();
    assert_eq!(new.len(), 5, "{new:?}");
    assert!(new.iter().all(|uri| uri.starts_with(&folder)), "{new:?}");
    assert!(
        before
            .iter()
            .all(|(uri, bytes)| after.get(uri) == Some(bytes))
    );
}

fn workflow_id(name: &str, version: &str) -> Value {
    json!({"resource_type": "WORKFLOW", "project": "flytesnacks", "domain": "development", "name": name, "version": version})
}

/// A workflow of one gate, whose node has a name of its own.
fn workflow(name: &str, version: &str, node: &str) -> Value {
    json!({"id": workflow_id(name, version), "spec": {"template": {
        "nodes": [{"id": node, "gate_node": {"sleep": {"duration": "1s"}}}], "interface": {},
    }}})
}

async fn register(world: &World, request: &Value) -> Result<(), tonic::Status> {
    world
        .get::<admin::WorkflowCreateResponse>("CreateWorkflow", request)
        .await
        .map(drop)
}

/// The nodes of a registered workflow, but start and end.
async fn nodes(world: &World, name: &str, version: &str) -> Result<Vec<String>, tonic::Status> {
    let request = json!({"id": workflow_id(name, version)});
    let found: admin::Workflow = world.get("GetWorkflow", &request).await?;
    let compiled = found.closure.unwrap().compiled_workflow.unwrap();
    let template = compiled.primary.unwrap().template.unwrap();
    let ids = template.nodes.into_iter().map(|node| node.id);
    Ok(ids.filter(|id| !id.ends_with("-node")).collect())
}

async fn nodes_whose_ids_make_no_folder_are_not_registered(store: Store) {
    let world = World::start(store).await;
    for node in [
        "..",
        "a/b",
        "../flytesnacks-production-x/secret",
        "a?b",
        "a#b",
        "a%",
        "a b",
        "schön",
    ] {
        let status = register(&world, &workflow("w", "v", node))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{node}");
        assert!(status.message().contains("InvalidValue"), "{status}");
    }
    register(&world, &workflow("w", "v", "n0-A_b.c"))
        .await
        .unwrap();
}

async fn each_version_of_a_workflow_has_its_own_closure(store: Store) {
    let world = World::start(store).await;
    let ids = [
        ("a", "y"),
        ("a/x", "y"),
        ("a", "x/y"),
        ("a//x", "y"),
        ("/a", "y"),
        ("a", "y/"),
        ("%61", "y"),
        ("a%2Fx", "y"),
        ("b c", "y"),
        ("b%20c", "y"),
        ("a", "z/../../b"),
        ("a", "v?x"),
        ("a", "v#y"),
    ];
    for (number, (name, version)) in ids.iter().enumerate() {
        let request = workflow(name, version, &format!("n{number}"));
        register(&world, &request).await.unwrap();
    }
    for (number, (name, version)) in ids.iter().enumerate() {
        let found = nodes(&world, name, version).await.unwrap();
        assert_eq!(found, [format!("n{number}")], "{name} {version}");
    }
    let base = world.blobs.base();
    let plain = format!("{base}/metadata/admin/flytesnacks/development/a/y");
    assert!(world.blobs.exists(&plain).await.unwrap(), "Go's place");
}

async fn a_closure_that_is_anothers_is_not_run(store: Store) {
    let world = World::start(store).await;
    register(&world, &workflow("first", "v", "n1"))
        .await
        .unwrap();
    let base = world.blobs.base();
    let place = |name: &str| format!("{base}/metadata/admin/flytesnacks/development/{name}/v");
    let first = world.blobs.get(&place("first")).await.unwrap();
    // Go let names share a place: another workflow is where this one would be.
    world
        .blobs
        .put(&place("second"), first.clone())
        .await
        .unwrap();
    register(&world, &workflow("second", "v", "n2"))
        .await
        .unwrap();
    assert_eq!(nodes(&world, "second", "v").await.unwrap(), ["n2"]);
    assert_eq!(world.blobs.get(&place("second")).await.unwrap(), first);
    // And one that Go wrote over another's is not taken for it, until it is registered again.
    register(&world, &workflow("third", "v", "n3"))
        .await
        .unwrap();
    world
        .blobs
        .put(&place("third"), first.clone())
        .await
        .unwrap();
    let status = nodes(&world, "third", "v").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let status = register(&world, &workflow("third", "v", "n3"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(nodes(&world, "third", "v").await.unwrap(), ["n3"]);
    assert_eq!(world.blobs.get(&place("third")).await.unwrap(), first);
}
