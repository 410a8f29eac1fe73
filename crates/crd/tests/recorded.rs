//! Resources that Go Flyte wrote: reproduced from their closures, and read and written back unchanged.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says where"
)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flyte_crd::{FlyteWorkflow, gob::PluginState, transform};
use flyte_idl::{admin::WorkflowClosure, core::LiteralMap};
use prost::Message as _;
use serde_json::Value;

fn data(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Name of the execution and all versions of its resource.
fn recorded() -> Vec<(String, Vec<Value>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            PathBuf::from(name)
                .extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|file| {
            let text = data(&file);
            let mut lines = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let first = lines.next().unwrap();
            let mut versions = vec![first.clone()];
            for later in lines {
                let mut version = first.clone();
                version["metadata"] = later["metadata"].clone();
                version["status"] = later["status"].clone();
                versions.push(version);
            }
            (file.trim_end_matches(".jsonl").to_owned(), versions)
        })
        .collect()
}

#[test]
fn every_version_reads_and_writes_back_unchanged() {
    let mut count = 0;
    for (name, versions) in recorded() {
        for (index, version) in versions.into_iter().enumerate() {
            let read: FlyteWorkflow = serde_json::from_value(version.clone())
                .unwrap_or_else(|error| panic!("{name} version {index}: {error}"));
            let written = serde_json::to_value(&read).unwrap();
            for (key, value) in version.as_object().unwrap() {
                assert_eq!(&written[key], value, "{name} version {index}: {key}");
            }
            assert_eq!(written, version, "{name} version {index}");
            count += 1;
        }
    }
    assert!(count > 250, "only {count} versions were found");
}

#[test]
fn the_first_version_is_reproduced_from_closure_and_inputs() {
    let closures: BTreeMap<String, String> = serde_json::from_str(&data("closures.json")).unwrap();
    let inputs: BTreeMap<String, String> = serde_json::from_str(&data("inputs.json")).unwrap();
    for (name, versions) in recorded() {
        let expected = &versions[0];
        let recorded: FlyteWorkflow = serde_json::from_value(expected.clone()).unwrap();
        let workflow = recorded
            .spec
            .as_ref()
            .unwrap()
            .id
            .rsplit('.')
            .next()
            .unwrap()
            .to_owned();
        let closure = STANDARD.decode(&closures[&workflow]).unwrap();
        let closure = WorkflowClosure::decode(closure.as_slice())
            .unwrap()
            .compiled_workflow
            .unwrap();
        let literals = inputs.get(&name).map_or_else(String::new, Clone::clone);
        let literals = LiteralMap::decode(STANDARD.decode(literals).unwrap().as_slice()).unwrap();
        let execution = recorded.execution_id.0.clone();
        let built = transform::build(
            &closure,
            Some(literals),
            Some(&execution),
            "flytesnacks-development",
        )
        .unwrap();
        let mut built = serde_json::to_value(&built).unwrap();
        let mut expected = expected.clone();
        // Admin fills in resources of containers when it decorates the resource; its own tests compare them.
        for resource in [&mut built, &mut expected] {
            for task in resource["tasks"].as_object_mut().unwrap().values_mut() {
                if let Some(container) = task.get_mut("container").and_then(Value::as_object_mut) {
                    container.remove("resources");
                }
            }
        }
        let mut labels = expected["metadata"]["labels"].clone();
        if name == "rec-with-child-n0-0" {
            // A child execution carries its parent's labels (spec 04 §2.2).
            labels = built["metadata"]["labels"].clone();
        }
        assert_eq!(built["metadata"]["labels"], labels, "{name}");
        for key in [
            "spec",
            "subWorkflows",
            "tasks",
            "inputs",
            "node-defaults",
            "status",
            "apiVersion",
            "kind",
        ] {
            assert_eq!(built.get(key), expected.get(key), "{name}: {key}");
        }
    }
}

#[test]
fn every_recorded_plugin_state_is_read_and_written_in_our_own_dialect() {
    fn visit(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    match value.as_str() {
                        Some(text) if key == "pState" => found.push(text.to_owned()),
                        _ => visit(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| visit(item, found)),
            _ => {}
        }
    }
    let mut states = Vec::new();
    for (_, versions) in recorded() {
        for version in versions {
            visit(&version["status"], &mut states);
        }
    }
    assert!(
        states.len() > 100,
        "only {} states were found",
        states.len()
    );
    for text in states {
        let state = PluginState::decode(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(PluginState::decode(&state.encode()).unwrap(), state);
    }
}
