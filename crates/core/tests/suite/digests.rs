//! Digests as the reference computed them (recorded/digests.tsv, entities.jsonl, vectors.json, blobs.jsonl).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_core::digest;
use flyte_idl::{
    admin::{LaunchPlan, WorkflowClosure},
    core::{CompiledTask, CompiledWorkflowClosure},
};
use prost::Message as _;
use serde_json::Value;

fn bytes(row: &Value, name: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(row[name].as_str().unwrap()).unwrap()
}

#[test]
fn entities_have_the_recorded_digests() {
    let mut seen = 0;
    for line in include_str!("../data/digests.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let proto = bytes(&row, "proto");
        let digest = match row["message"].as_str().unwrap() {
            "flyteidl.core.CompiledTask" => {
                digest::of_message(&CompiledTask::decode(&*proto).unwrap())
            }
            "flyteidl.core.CompiledWorkflowClosure" => {
                digest::of_message(&CompiledWorkflowClosure::decode(&*proto).unwrap())
            }
            "flyteidl.admin.LaunchPlan" => {
                digest::of_message(&LaunchPlan::decode(&*proto).unwrap())
            }
            other => panic!("{other}"),
        };
        let what = row["what"].as_str().unwrap();
        match row["sha256"].as_str() {
            Some(expected) => assert_eq!(digest.unwrap().hex(), expected, "{what}"),
            None => assert_eq!(
                digest.unwrap_err().to_string(),
                row["error"].as_str().unwrap(),
                "{what}"
            ),
        }
        seen += 1;
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn stored_closures_have_the_recorded_digests() {
    for line in include_str!("../data/closures.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let closure = WorkflowClosure::decode(&*bytes(&row, "closure")).unwrap();
        let digest = digest::of_message(&closure.compiled_workflow.unwrap()).unwrap();
        assert_eq!(
            digest.hex(),
            row["sha256"].as_str().unwrap(),
            "{}",
            row["name"]
        );
    }
}
