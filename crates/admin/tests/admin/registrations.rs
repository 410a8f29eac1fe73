//! Registrations, valid and not, with the compiler's verdicts.

use flyte_admin::config::CompilerRules;
use serde_json::json;
use tonic::Code;

use crate::{
    harness::{Store, World, code_name, config, recorded, text},
    on_both_databases,
};

on_both_databases!(
    registrations_get_the_verdict_of_the_reference,
    workflows_that_cannot_work_are_refused_unless_configured,
    concurrent_registrations_of_one_task_end_with_one_winner
);

/// The compiler decides otherwise on purpose, or prints in order what Go prints at random (spec 08 A18).
const COMPILER_DEVIATIONS: [&str; 10] = [
    "sub-workflow without id",
    "cycle not reachable from start",
    "scalar operand",
    "promise variable with a dash",
    "two words as variable",
    "dataclass for an integer",
    "integer for a dataclass",
    "branch input promises a later node",
    "branch input promises a later branch",
    "approve gate promises a later gate",
];

/// Workflows that Go registers, or refuses for another reason, although they cannot work (spec 08 A18, 3-5).
const CANNOT_WORK: [(&str, &str); 6] = [
    ("two nodes with one id", "DuplicateId, Node Id: n0"),
    (
        "user node named start-node",
        "DuplicateId, Node Id: start-node",
    ),
    ("user node named end-node", "DuplicateId, Node Id: end-node"),
    (
        "explicit upstream id unknown, only upstream",
        "NodeReferenceNotFound, Node Id: n0",
    ),
    (
        "explicit upstream id unknown, other upstream known",
        "NodeReferenceNotFound, Node Id: n0",
    ),
    (
        "union with a collection variant not bound",
        "ParameterNotBound, Node Id: n0",
    ),
];

async fn workflows_that_cannot_work_are_refused_unless_configured(store: Store) {
    let strict = World::start(store).await;
    let mut config = config();
    config.registration.compiler_rules = CompilerRules::Reference;
    let lenient = World::start_with(store, config).await;
    for case in recorded("compiler-errors.jsonl") {
        let (rpc, note) = (text(&case, "rpc"), text(&case, "note"));
        let refused = strict.call(rpc, &case["request"]).await;
        let answer = lenient.call(rpc, &case["request"]).await;
        if let Some((_, cause)) = CANNOT_WORK.iter().find(|(known, _)| *known == note) {
            let refused = refused.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{note}");
            assert!(refused.message().contains(cause), "{note}: {refused}");
            let code = answer.map_or_else(|status| code_name(status.code()), |_| "OK");
            assert_eq!(code, text(&case, "code"), "{note}");
        }
    }
}

async fn registrations_get_the_verdict_of_the_reference(store: Store) {
    let world = World::start(store).await;
    let mut wrong = Vec::new();
    for case in recorded("compiler-errors.jsonl") {
        let (rpc, code) = (text(&case, "rpc"), text(&case, "code"));
        let answer = world.call(rpc, &case["request"]).await;
        let (ours, message) = match &answer {
            Ok(_) => ("OK", String::new()),
            Err(status) => (code_name(status.code()), status.message().to_owned()),
        };
        let note = text(&case, "note");
        if COMPILER_DEVIATIONS.contains(&note)
            || CANNOT_WORK.iter().any(|(known, _)| *known == note)
        {
            continue;
        }
        // INTERNAL is a panic of the reference.
        if code != "INTERNAL" && (ours != code || message != text(&case, "message")) {
            wrong.push(format!(
                "{} ({}):\n    recorded {code} {:?}\n    ours     {ours} {message:?}",
                text(&case, "note"),
                text(&case, "rule"),
                text(&case, "message")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

fn task(name: &str, image: &str) -> serde_json::Value {
    json!({
        "id": {"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": name, "version": "v"},
        "spec": {"template": {
            "type": "python-task",
            "metadata": {"runtime": {"type": "FLYTE_SDK", "version": "1", "flavor": "python"}},
            "interface": {},
            "container": {"image": image, "args": ["x"]},
        }},
    })
}

async fn concurrent_registrations_of_one_task_end_with_one_winner(store: Store) {
    let world = World::start(store).await;
    let rpc = "flyteidl.service.AdminService/CreateTask";
    let request = task("raced", "i");
    let answers = futures::future::join_all((0..8).map(|_| world.call(rpc, &request))).await;
    let codes: Vec<_> = answers
        .iter()
        .map(|answer| {
            answer
                .as_ref()
                .map_or_else(|status| code_name(status.code()), |_| "OK")
        })
        .collect();
    assert_eq!(
        codes.iter().filter(|code| **code == "OK").count(),
        1,
        "{codes:?}"
    );
    assert!(
        codes
            .iter()
            .all(|code| matches!(*code, "OK" | "ALREADY_EXISTS")),
        "{codes:?}"
    );
    let status = world.call(rpc, &task("raced", "other")).await.unwrap_err();
    assert!(
        status.message().starts_with("raced task with different structure already exists. (Please register a new version of the task):\n/template/container/image:"),
        "{}",
        status.message()
    );
}
