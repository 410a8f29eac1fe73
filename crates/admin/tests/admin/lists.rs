//! 1213 list requests, with codes and texts of the reference.

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
