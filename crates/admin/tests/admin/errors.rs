//! Requests, most of them bad, with what clients see.

use serde_json::json;
use tonic::{Code, Status};

use crate::{
    harness::{Store, World, code_name, recorded, text},
    on_both_databases, seed,
};

on_both_databases!(
    bad_requests_are_answered_as_by_the_reference,
    an_rpc_of_a_later_version_is_unimplemented,
    a_message_over_the_limit_is_refused_in_the_words_that_propeller_knows,
    a_deeply_nested_message_is_refused_without_recursion,
    an_error_is_no_larger_than_what_clients_accept
);

/// Requests whose recorded answer is a defect or a risk, by rpc and note, with what is answered instead
/// (docs/compatibility.md).
const DEVIATIONS: &[(&str, &str, &str)] = &[
    // Empty ids match arbitrary rows in the reference (spec 01 §24 no. 1).
    ("GetTask", "empty request", "missing id"),
    ("GetExecutionData", "empty request", "missing id"),
    ("GetNodeExecution", "empty request", "missing id"),
    ("GetNodeExecutionData", "empty request", "missing id"),
    ("GetDynamicNodeWorkflow", "empty request", "missing id"),
    ("CreateNodeEvent", "empty request", "missing event"),
    ("CreateNodeEvent", "no node id", "missing node_id"),
    ("RelaunchExecution", "empty request", "missing id"),
    // The store of the tests cannot sign, and signs for its own container only (spec 01 §24 no. 22).
    ("CreateDownloadLocation", "*", ""),
    ("CreateUploadLocation", "path up", ""),
    ("CreateUploadLocation", "short md5", ""),
    // The diff is for people (spec 08 A12).
    ("CreateTask", "other structure under the same id", ""),
    // Of two nodes with one id the reference drops the second, which is the user's own (spec 08 A18, 3).
    (
        "CreateWorkflow",
        "duplicate node",
        "failed to compile workflow for [resource_type:WORKFLOW project:\"flytesnacks\" domain:\"development\" name:\"w.duplicate-node\" version:\"v\"] with err: Collected Errors: 1\n\tError 0: Code: DuplicateId, Node Id: n0, Description: Trying to insert two nodes with the same id.\n",
    ),
    (
        "CreateWorkflow",
        "reserved id",
        "failed to compile workflow for [resource_type:WORKFLOW project:\"flytesnacks\" domain:\"development\" name:\"w.reserved-id\" version:\"v\"] with err: Collected Errors: 1\n\tError 0: Code: DuplicateId, Node Id: start-node, Description: Trying to insert two nodes with the same id.\n",
    ),
    // The types are put in words, not in bytes.
    ("SetSignal", "wrong type", ""),
];

/// RPCs that this version does not have, with the number of their recorded requests: one that is built
/// without being taken from this list fails the replay.
const NOT_BUILT: [(&str, usize); 12] = [
    ("RecoverExecution", 3),
    ("GetExecutionMetrics", 2),
    ("ListMatchableAttributes", 1),
    ("UpdateProjectDomainAttributes", 7),
    ("GetProjectDomainAttributes", 1),
    ("DeleteProjectDomainAttributes", 1),
    ("UpdateProjectAttributes", 1),
    ("GetProjectAttributes", 1),
    ("DeleteProjectAttributes", 1),
    ("UpdateWorkflowAttributes", 1),
    ("GetWorkflowAttributes", 1),
    ("DeleteWorkflowAttributes", 1),
];

fn is_built(rpc: &str) -> bool {
    let method = rpc.rsplit('/').next().unwrap();
    NOT_BUILT.iter().all(|(known, _)| *known != method)
}

fn deviation(rpc: &str, note: &str) -> Option<&'static str> {
    let method = rpc.rsplit('/').next().unwrap();
    DEVIATIONS
        .iter()
        .find(|(known, about, _)| *known == method && (*about == note || *about == "*"))
        .map(|(_, _, message)| *message)
}

fn without_row(message: &str) -> &str {
    match message.find("for node execution ") {
        Some(place) => &message[..place],
        None => message,
    }
}

async fn bad_requests_are_answered_as_by_the_reference(store: Store) {
    let world = World::start(store).await;
    seed::all(&world).await;
    let mut wrong = Vec::new();
    let cases = recorded("errors.jsonl");
    for (method, count) in NOT_BUILT {
        let about = |case: &&serde_json::Value| text(case, "rpc").ends_with(&format!("/{method}"));
        assert_eq!(cases.iter().filter(about).count(), count, "{method}");
    }
    for case in cases {
        let (rpc, note, code) = (text(&case, "rpc"), text(&case, "note"), text(&case, "code"));
        let answer = world.call(rpc, &case["request"]).await;
        let (ours, message, details) = match &answer {
            Ok(_) => ("OK", String::new(), String::new()),
            Err(status) => (
                code_name(status.code()),
                status.message().to_owned(),
                hex::encode(status.details()),
            ),
        };
        let agrees = match deviation(rpc, note) {
            _ if !is_built(rpc) => ours == "UNIMPLEMENTED",
            Some("") => true,
            Some(expected) => ours == "INVALID_ARGUMENT" && message == expected,
            None => {
                // UNKNOWN asks flytekit to log in (spec 08 C1); row numbers differ.
                let expected = if code == "UNKNOWN" {
                    "INVALID_ARGUMENT"
                } else {
                    code
                };
                ours == expected && without_row(&message) == without_row(text(&case, "message"))
            }
        };
        // The details of node and task events carry the stored phase, not the event's (spec 01 §24 no. 7).
        let details_agree = !is_built(rpc)
            || text(&case, "details_hex").is_empty()
            || rpc.ends_with("NodeEvent")
            || rpc.ends_with("TaskEvent")
            || details == text(&case, "details_hex");
        if !agrees || !details_agree {
            wrong.push(format!(
                "{rpc} ({note}) {}:\n    recorded {code} {:?}\n    ours     {ours} {message:?}",
                case["request"],
                text(&case, "message")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

async fn an_rpc_of_a_later_version_is_unimplemented(store: Store) {
    let world = World::start(store).await;
    let methods = NOT_BUILT.map(|(method, _)| format!("flyteidl.service.AdminService/{method}"));
    let services = ["flyteidl.service.IdentityService/UserInfo".to_owned()];
    for rpc in methods.iter().chain(&services) {
        let status = world.call(rpc, &json!({})).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{rpc}");
        if !services.contains(rpc) {
            assert_eq!(status.message(), format!("{rpc} is not built yet"));
        }
    }
}

async fn a_message_over_the_limit_is_refused_in_the_words_that_propeller_knows(store: Store) {
    let world = World::start(store).await;
    let mut frame = vec![0];
    frame.extend(5_000_000_u32.to_be_bytes());
    frame.resize(5_000_005, 0);
    let status = world
        .call_frame("flyteidl.service.AdminService/CreateTask", frame)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "grpc: received message larger than max (5000000 vs. 4194304)"
    );
}

/// flytekit accepts 32 KiB of metadata, and counts 32 bytes more for each header.
async fn an_error_is_no_larger_than_what_clients_accept(store: Store) {
    let world = crate::events::started(store).await;
    let execution =
        |name: &str| json!({"project": "flytesnacks", "domain": "development", "name": name});
    let foreign = |producer: String| {
        let event = json!({"execution_id": execution("ev"), "phase": "RUNNING",
            "occurred_at": "2026-01-01T00:00:01Z", "producer_id": producer});
        json!({"event": event})
    };
    for letter in ["x", " ", "{", "é"] {
        let long = letter.repeat(1_100_000);
        for (method, request) in [
            ("AdminService/CreateWorkflowEvent", foreign(long.clone())),
            ("AdminService/GetExecution", json!({"id": execution(&long)})),
            (
                "DataProxyService/GetData",
                json!({"flyte_url": format!("flyte://{long}")}),
            ),
        ] {
            let status = world
                .call(&format!("flyteidl.service.{method}"), &request)
                .await
                .unwrap_err();
            assert_ne!(status.code(), Code::Internal, "{method} {letter}");
            let size = sent(status);
            assert!(
                (20_000..32_000).contains(&size),
                "{method} {letter}: {size}"
            );
        }
    }
    let long = "{".repeat(15_000);
    for path in [
        format!("{long}/GetTask"),
        format!("flyteidl.service.AdminService/{long}"),
    ] {
        let status = world.call_frame(&path, vec![0; 5]).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        let size = sent(status);
        assert!((20_000..32_000).contains(&size), "{size}");
    }
}

/// What the headers of a status take.
fn sent(status: Status) -> usize {
    let response = status.into_http::<()>();
    let headers = response.headers().iter();
    headers
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

async fn a_deeply_nested_message_is_refused_without_recursion(store: Store) {
    let world = World::start(store).await;
    // A literal of collections of collections, a hundred thousand deep.
    let mut literal = Vec::new();
    for _level in 0..100_000_u32 {
        let mut outer = Vec::new();
        let mut collection = Vec::new();
        nest(1, &literal, &mut collection);
        nest(2, &collection, &mut outer);
        literal = outer;
        if literal.len() > 400_000 {
            break;
        }
    }
    let mut entry = Vec::new();
    nest(2, &literal, &mut entry);
    let (mut map, mut request) = (Vec::new(), Vec::new());
    nest(1, &entry, &mut map);
    nest(5, &map, &mut request);
    let mut frame = vec![0];
    frame.extend(u32::try_from(request.len()).unwrap().to_be_bytes());
    frame.extend(request);
    let status = world
        .call_frame("flyteidl.service.AdminService/CreateExecution", frame)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("1000 levels"),
        "{}",
        status.message()
    );
}

/// Appends `bytes` as length-delimited field `number`.
fn nest(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, out);
    prost::encoding::encode_varint(bytes.len() as u64, out);
    out.extend(bytes);
}
