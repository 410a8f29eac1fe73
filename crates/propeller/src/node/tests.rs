//! What each kind of node does next, as tables: (where it stands, what its last effect brought) -> (what it becomes,
//! events, effect). A broken rule fails with its own name.

mod arrays;
mod caches;
mod containers;
mod dynamic;
mod gates;
mod launch_plans;
mod scene;
mod tasks;

use std::sync::Arc;

use flyte_crd::NodePhase;
use serde_json::json;

use super::*;
use scene::*;

#[test]
fn nodes_begin_and_end_as_the_table_says() {
    let new = |kind: &str| Scene::of(kind, json!({})).at(NodePhase::NotYetStarted);
    let no_node = resolve::ResolveError {
        variable: "x".into(),
        cause: resolve::PromiseError {
            node: "n7".into(),
            fault: resolve::PromiseFault::NoNode,
        },
    };
    let end = Scene::of("end", json!({}));
    check(vec![
        (
            "a start node ends at once",
            new("start"),
            None,
            "SUCCEEDED, Succeeded",
        ),
        (
            "any other writes its inputs",
            new("task"),
            None,
            "write the inputs",
        ),
        (
            "and is queued then",
            new("task"),
            Some(NodeResult::Prepared(Ok(Arc::default()))),
            "QUEUED, Queued",
        ),
        (
            "or fails",
            new("end"),
            Some(NodeResult::Prepared(Err(no_node))),
            "FAILED, Failed BindingResolutionFailure",
        ),
        (
            "an end node whose outputs this process wrote",
            end.clone()
                .change(|scene| scene.inputs = Some(Arc::default())),
            None,
            "SUCCEEDED, Succeeded",
        ),
        (
            "an end node that another process queued",
            end.clone(),
            None,
            "copy the outputs",
        ),
        (
            "is not copied twice",
            end.clone(),
            Some(NodeResult::Copied(true)),
            "SUCCEEDED, Succeeded",
        ),
        (
            "also when there is nothing to copy",
            end,
            Some(NodeResult::Copied(false)),
            "SUCCEEDED, Succeeded",
        ),
        (
            "a phase of a newer version",
            new("task").at(NodePhase::Unknown(77)),
            None,
            "FAILED, Failed IllegalStateError",
        ),
        (
            "what has ended",
            new("task").at(NodePhase::Skipped),
            None,
            "wait",
        ),
        (
            "an array that does not say of what",
            Scene::of("array", json!({})),
            None,
            "FAILED, Failed BadSpecificationError",
        ),
    ]);
}
