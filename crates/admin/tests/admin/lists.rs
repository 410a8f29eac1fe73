//! 1213 list requests, with codes and texts of the reference.

use flyte_idl::json;

use crate::{
    harness::{Store, World, code_name, recorded, text},
    on_both_databases, seed,
};

on_both_databases!(every_recorded_list_request_is_answered_as_by_the_reference);

/// UNKNOWN or INTERNAL answers are defects of the reference, answered INVALID_ARGUMENT here with the same
/// text (docs/compatibility.md, "Lists").
const DEFECTS: [&str; 2] = ["UNKNOWN", "INTERNAL"];

/// A list of values for a function that takes one: the reference matches nothing, silently.
fn is_silent_list(filters: &str) -> bool {
    filters.starts_with("contains(") && filters.contains(';')
}

async fn every_recorded_list_request_is_answered_as_by_the_reference(store: Store) {
    let world = World::start(store).await;
    seed::all(&world).await;
    // The attempt that errors.jsonl creates ("older phase version") was there when the lists were recorded.
    for case in recorded("errors.jsonl") {
        if text(&case, "note") == "older phase version" {
            world
                .call(text(&case, "rpc"), &case["request"])
                .await
                .unwrap();
        }
    }
    let mut wrong = Vec::new();
    for case in recorded("lists.jsonl") {
        let (rpc, code) = (text(&case, "rpc"), text(&case, "code"));
        let answer = world.call(rpc, &case["request"]).await;
        let (ours, message) = match &answer {
            Ok(_) => ("OK", String::new()),
            Err(status) => (code_name(status.code()), status.message().to_owned()),
        };
        let expected =
            if DEFECTS.contains(&code) || is_silent_list(text(&case["request"], "filters")) {
                "INVALID_ARGUMENT"
            } else {
                code
            };
        if let Ok(answer) = &answer
            && let Some(expected) = complete_answer(&case)
        {
            let ours = ids(answer);
            if ours != expected {
                wrong.push(format!(
                    "{rpc} {} {}: {expected:?}, not {ours:?}",
                    text(&case, "note"),
                    case["request"]
                ));
            }
        }
        // PostgreSQL checks types while it plans, so a defect's text may name another problem first.
        let texts_agree =
            DEFECTS.contains(&code) || code == "OK" || message == text(&case, "message");
        if ours != expected || !texts_agree {
            wrong.push(format!(
                "{rpc} {} {}: {code} {:?}, not {ours} {message:?}",
                text(&case, "note"),
                case["request"],
                text(&case, "message")
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of 1213:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The sorted ids of a recorded answer, where the seeded rows decide it alone.
fn complete_answer(case: &serde_json::Value) -> Option<Vec<String>> {
    let rpc = text(case, "rpc");
    let seeded = [
        "ListNodeExecutions",
        "ListTaskExecutions",
        "ListSignals",
        "ListDescriptionEntities",
    ];
    let about_names = seeded.iter().any(|method| rpc.ends_with(method));
    // The reference ignores the resource type of descriptions (spec 01 §24 no. 15).
    let other_kind = rpc.ends_with("ListDescriptionEntities")
        && text(&case["request"], "resource_type") != "TASK";
    if !about_names || other_kind || !text(case, "token").is_empty() {
        return None;
    }
    let mut ids: Vec<String> = case["ids"]
        .as_array()?
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    Some(ids)
}

/// Ids of the listed things as the recording writes them, sorted.
fn ids(answer: &prost_reflect::DynamicMessage) -> Vec<String> {
    let value = json::dynamic_to_value(json::Codec::ProtoNames, answer).unwrap();
    let lists = [
        "node_executions",
        "task_executions",
        "signals",
        "descriptionEntities",
    ];
    let list = lists
        .iter()
        .find_map(|name| value[*name].as_array())
        .unwrap();
    let mut ids: Vec<String> = list
        .iter()
        .map(|item| {
            let id = &item["id"];
            let part = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            if id["task_id"].is_object() {
                let node = part(&id["node_execution_id"]["node_id"]);
                return format!(
                    "{node}/{}/{}",
                    part(&id["task_id"]["name"]),
                    id["retry_attempt"]
                );
            }
            if id["version"].is_string() {
                return format!("{}@{}", part(&id["name"]), part(&id["version"]));
            }
            part(&id["node_id"]) + &part(&id["signal_id"])
        })
        .collect();
    ids.sort();
    ids
}
