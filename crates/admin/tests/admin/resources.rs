//! The first version of every recorded resource, from its request.

use flyte_idl::{admin, core};
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    harness::{Store, World, recorded, text},
    seed,
};

/// The launch plan behind an execution: recwf.NAME, except for the child that a node launched.
fn plan(name: &str, resource: &Value) -> String {
    if name == "rec-with-child-n0-0" {
        return "rec_child_lp".to_owned();
    }
    let id = resource["spec"]["id"].as_str().unwrap();
    id.rsplit(':').next().unwrap().to_owned()
}

/// Labels that an engine passes on to a child: all of the parent's but the shard key.
fn labels(name: &str, resource: &Value) -> Option<admin::Labels> {
    if name != "rec-with-child-n0-0" {
        return None;
    }
    let labels = resource["metadata"]["labels"].as_object().unwrap();
    let values = labels
        .iter()
        .filter(|(key, _)| *key != "shard-key")
        .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    Some(admin::Labels { values })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_resource_is_made_again_from_its_request() {
    let world = World::start(Store::Sqlite).await;
    seed::entities(&world).await;
    for case in recorded("resources.jsonl") {
        let (name, expected) = (text(&case, "name"), &case["resource"]);
        let inputs = seed::decode(text(&case, "user_inputs"));
        let request = admin::ExecutionCreateRequest {
            project: "flytesnacks".to_owned(),
            domain: "development".to_owned(),
            name: name.to_owned(),
            spec: Some(admin::ExecutionSpec {
                launch_plan: Some(core::Identifier {
                    resource_type: core::ResourceType::LaunchPlan as i32,
                    project: "flytesnacks".to_owned(),
                    domain: "development".to_owned(),
                    name: plan(name, expected),
                    version: "rec1".to_owned(),
                    org: String::new(),
                }),
                labels: labels(name, expected),
                // An engine passes its own limit on to a child.
                max_parallelism: if name == "rec-with-child-n0-0" { 25 } else { 0 },
                ..admin::ExecutionSpec::default()
            }),
            inputs: Some(core::LiteralMap::decode(inputs.as_slice()).unwrap()),
            org: String::new(),
        };
        let _: admin::ExecutionCreateResponse =
            world.admin("CreateExecution", &request).await.unwrap();
        let mut ours = world
            .cluster
            .workflow("flytesnacks-development", name)
            .await
            .unwrap();
        let accepted = ours["acceptedAt"].take();
        assert!(accepted.as_str().is_some_and(|time| time.ends_with('Z')));
        ours.as_object_mut().unwrap().remove("acceptedAt");
        assert_eq!(
            differences("", expected, &ours),
            Vec::<String>::new(),
            "{name}"
        );
    }
}

/// Paths at which two JSON values differ.
fn differences(path: &str, expected: &Value, ours: &Value) -> Vec<String> {
    match (expected, ours) {
        (Value::Object(theirs), Value::Object(own)) => {
            let mut names: Vec<&String> = theirs.keys().chain(own.keys()).collect();
            names.sort();
            names.dedup();
            names
                .into_iter()
                .flat_map(|name| {
                    let absent = json!("absent");
                    differences(
                        &format!("{path}/{name}"),
                        theirs.get(name).unwrap_or(&absent),
                        own.get(name).unwrap_or(&absent),
                    )
                })
                .collect()
        }
        (theirs, own) if theirs == own => Vec::new(),
        (theirs, own) => vec![format!("{path}: {theirs} not {own}")],
    }
}
