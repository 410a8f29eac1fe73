//! A node that runs pods in no time: a pod ends as the first argument of its container says.
//!
//! `ok` writes an output `o0`; `fail:N` exits with 1 in its first N attempts, and in those of `shutdown:N` its machine goes; `error` and `recoverable` write an
//! error document, `error:N` one with a message of N bytes; `only:NAME` does in any execution but that; `slow` and `slow-error` take two minutes; `stay`
//! runs until it is deleted. `compute:…` reads its inputs and writes what [`Behaviour`] makes of them; `makes(…)` leaves a workflow behind (`made`); of
//! `elements:A,B,…` each element of an array does what stands in its place, and one that ends well writes the number that is its fourth argument; `pyflyte…`
//! was recorded elsewhere with all that it wrote.

use std::sync::Arc;

use flyte_idl::core::{
    ContainerError, ErrorDocument, Literal, LiteralMap, Primitive, Scalar, container_error,
    execution_error::ErrorKind, literal, primitive, scalar,
};
use futures::StreamExt as _;
use k8s_openapi::api::{
    core::v1::{EnvVar, Pod},
    events::v1::Event,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use object_store::{ObjectStoreExt as _, PutPayload, memory::InMemory, path::Path};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{NAMESPACE, made};
use crate::truth::{
    compute::{Behaviour, End},
    values,
};

/// Reason of a pod's failure that makes it the task's own (spec 05 §9.5); a machine's shutdown makes it the system's.
const EVICTED: &str = "Evicted";

/// What the node says about a pod before and while it runs.
pub const NOTES: [&str; 4] = [
    "assigned to the simulation",
    "the image is being pulled",
    "the image is there",
    "the container was started",
];

/// Whether the node makes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Silent,
    Talkative,
}

/// Runs every pod that appears, each status in a write of its own.
pub(super) async fn run(client: Client, objects: Arc<InMemory>, manner: Manner) {
    let said: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    let api: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let mut events = watcher::watcher(api.clone(), watcher::Config::default())
        .default_backoff()
        .boxed();
    let mut pods = JoinSet::new();
    while let Some(event) = events.next().await {
        while pods.try_join_next().is_some() {}
        let Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = event else {
            continue;
        };
        if pod.metadata.deletion_timestamp.is_some() {
            // What a kubelet does when the processes are gone.
            drop(
                api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                    .await,
            );
            continue;
        }
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default();
        match phase.as_str() {
            "" | "Pending" => {
                if manner == Manner::Talkative {
                    say(&said, &pod, 0..2).await;
                }
                set(&api, &pod, json!({ "phase": "Running", "containerStatuses": [state(&pod, &json!({ "running": {} }))] })).await;
                if manner == Manner::Talkative {
                    say(&said, &pod, 2..4).await;
                }
            }
            "Running" => {
                let (api, objects) = (api.clone(), objects.clone());
                pods.spawn(async move { finish(&api, &pod, &objects).await });
            }
            _ => {}
        }
    }
}

/// Makes events about a pod, as kubelet and scheduler do.
async fn say(api: &Api<Event>, pod: &Pod, which: std::ops::Range<usize>) {
    let name = pod.name_any();
    for (index, note) in NOTES.iter().enumerate().take(which.end).skip(which.start) {
        let event = json!({
            "metadata": { "name": format!("{name}.{index}"), "namespace": NAMESPACE },
            "regarding": { "kind": "Pod", "namespace": NAMESPACE, "name": name },
            "reason": "Simulated", "action": "Simulating", "note": note, "type": "Normal",
            "reportingController": "simulation", "reportingInstance": "simulation",
            "eventTime": "2026-01-01T00:00:00.000000Z",
        });
        let event = serde_json::from_value(event).expect("the event is well-formed");
        // The pod may have been seen before.
        drop(api.create(&PostParams::default(), &event).await);
    }
}

fn state(pod: &Pod, state: &Value) -> Value {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.containers.first())
        .map_or("", |first| first.name.as_str());
    json!({ "name": name, "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state })
}

async fn set(api: &Api<Pod>, pod: &Pod, status: Value) {
    // The pod may have been deleted in the meantime.
    drop(
        api.patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Merge(json!({ "status": status })),
        )
        .await,
    );
}

async fn finish(api: &Api<Pod>, pod: &Pod, objects: &InMemory) {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let arguments = container
        .and_then(|container| container.args.clone())
        .unwrap_or_default();
    let variables = container
        .and_then(|container| container.env.clone())
        .unwrap_or_default();
    let attempt: u32 = variables
        .iter()
        .find(|variable| variable.name == "FLYTE_ATTEMPT_NUMBER")
        .and_then(|variable| variable.value.as_ref()?.parse().ok())
        .unwrap_or_default();
    let key = |reference: &String| reference.trim_start_matches("mem://bucket/").to_owned();
    let (behaviour, outputs) = match arguments.as_slice() {
        [behaviour, outputs, ..] => (behaviour.as_str(), key(outputs)),
        _ => ("ok", String::new()),
    };
    let behaviour = match behaviour.strip_prefix("elements:") {
        Some(all) => of_element(all, &variables),
        None => behaviour,
    };
    let value = arguments.get(3).and_then(|value| value.parse().ok());
    if behaviour.starts_with("pyflyte") {
        // A task that was recorded: what it wrote is there.
        return end(api, pod, None).await;
    }
    if let Some(behaviour) = Behaviour::of(behaviour) {
        let inputs = arguments.get(2).map(key).unwrap_or_default();
        let failed = compute(objects, &behaviour, attempt, (&inputs, &outputs)).await;
        return end(api, pod, failed.then_some(EVICTED)).await;
    }
    let (why, failing_attempts) = match behaviour.split_once(':') {
        Some(("fail", attempts)) => (EVICTED, attempts.parse().unwrap_or(0)),
        Some(("shutdown", attempts)) => ("Shutdown", attempts.parse().unwrap_or(0)),
        _ => (EVICTED, 0),
    };
    if let Some(execution) = behaviour.strip_prefix("only:") {
        let ours = variables.iter().any(|variable| {
            variable.name == "FLYTE_INTERNAL_EXECUTION_ID"
                && variable.value.as_deref() == Some(execution)
        });
        if !ours {
            let kind = container_error::Kind::NonRecoverable;
            write_error(objects, &outputs, "USER:ValueError", kind).await;
            return end(api, pod, None).await;
        }
    }
    let failure = (attempt < failing_attempts).then_some(why);
    if let Some(bytes) = behaviour.strip_prefix("error:") {
        let bytes = bytes.parse().expect("a number of bytes");
        let message = format!("the beginning of {} and its end", "e".repeat(bytes));
        let code = "USER:ValueError";
        let kind = container_error::Kind::NonRecoverable;
        write_error_with(objects, &outputs, (code, message), kind).await;
        return end(api, pod, failure).await;
    }
    if behaviour.starts_with("slow") {
        tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    }
    if made::is_dynamic(behaviour) {
        let made = made::of(behaviour).encode_to_vec();
        write(objects, &format!("{outputs}/futures.pb"), made).await;
        return end(api, pod, failure).await;
    }
    match behaviour {
        "stay" => return,
        "error" | "slow-error" | "recoverable" => {
            let kind = if behaviour == "recoverable" {
                container_error::Kind::Recoverable
            } else {
                container_error::Kind::NonRecoverable
            };
            write_error(objects, &outputs, "USER:ValueError", kind).await;
        }
        _ if failure.is_none() => {
            let literal = Literal {
                value: Some(literal::Value::Scalar(Box::new(Scalar {
                    value: Some(scalar::Value::Primitive(Primitive {
                        value: Some(primitive::Value::Integer(value.unwrap_or(7))),
                    })),
                }))),
                ..Literal::default()
            };
            let literals = LiteralMap {
                literals: [("o0".to_owned(), literal)].into(),
            };
            write(
                objects,
                &format!("{outputs}/outputs.pb"),
                literals.encode_to_vec(),
            )
            .await;
        }
        _ => {}
    }
    end(api, pod, failure).await;
}

/// What the element of an array does that these variables make of a pod; the last of them for all that follow.
fn of_element<'a>(all: &'a str, variables: &[EnvVar]) -> &'a str {
    let value = |name: &str| {
        let mut of_name = variables.iter().filter(|variable| variable.name == name);
        of_name.next()?.value.clone()
    };
    let index: Option<usize> = value("BATCH_JOB_ARRAY_INDEX_VAR_NAME")
        .and_then(|name| value(&name))
        .and_then(|index| index.parse().ok());
    let index = index.expect("an element of an array is told which it is");
    let mut behaviours = all.split(',');
    behaviours
        .clone()
        .nth(index)
        .or(behaviours.next_back())
        .unwrap_or("ok")
}

/// Does what the task does, and answers whether its container fails.
async fn compute(
    objects: &InMemory,
    behaviour: &Behaviour,
    attempt: u32,
    (inputs, outputs): (&str, &str),
) -> bool {
    tokio::time::sleep(std::time::Duration::from_secs(behaviour.seconds)).await;
    match behaviour.end {
        End::Crashes(times) if attempt < times => return true,
        End::Recoverable(times) if attempt < times => {
            let code = format!("USER:Recoverable{}", behaviour.salt);
            write_error(objects, outputs, &code, container_error::Kind::Recoverable).await;
        }
        End::Error => {
            let code = format!("USER:Error{}", behaviour.salt);
            write_error(
                objects,
                outputs,
                &code,
                container_error::Kind::NonRecoverable,
            )
            .await;
        }
        End::Well | End::Crashes(_) | End::Recoverable(_) => {
            let found = objects.get(&Path::from(inputs)).await;
            let bytes = match found {
                Ok(found) => found.bytes().await.expect("memory can be read"),
                Err(error) => panic!("a task was started without its inputs: {error}"),
            };
            let inputs = LiteralMap::decode(bytes).expect("inputs are a map of literals");
            let made = values::to_literals(&behaviour.outputs(&values::of_literals(&inputs)));
            write(
                objects,
                &format!("{outputs}/outputs.pb"),
                made.encode_to_vec(),
            )
            .await;
        }
    }
    false
}

async fn write_error(objects: &InMemory, outputs: &str, code: &str, kind: container_error::Kind) {
    let message = "a value is wrong".to_owned();
    write_error_with(objects, outputs, (code, message), kind).await;
}

async fn write_error_with(
    objects: &InMemory,
    outputs: &str,
    (code, message): (&str, String),
    kind: container_error::Kind,
) {
    let document = ErrorDocument {
        error: Some(ContainerError {
            code: code.into(),
            message,
            kind: kind.into(),
            origin: ErrorKind::User.into(),
            ..ContainerError::default()
        }),
    };
    write(
        objects,
        &format!("{outputs}/error.pb"),
        document.encode_to_vec(),
    )
    .await;
}

/// Ends a pod, well or with this reason of its failure.
async fn end(api: &Api<Pod>, pod: &Pod, failure: Option<&str>) {
    let (phase, reason) = match failure {
        Some(_) => ("Failed", "Error"),
        None => ("Succeeded", "Completed"),
    };
    let exit_code = i32::from(failure.is_some());
    let ended = json!({ "terminated": { "exitCode": exit_code, "reason": reason } });
    let mut status = json!({ "phase": phase, "containerStatuses": [state(pod, &ended)] });
    if let Some(failure) = failure {
        status["reason"] = failure.into();
    }
    set(api, pod, status).await;
}

async fn write(objects: &InMemory, key: &str, bytes: Vec<u8>) {
    objects
        .put(&Path::from(key), PutPayload::from(bytes))
        .await
        .expect("memory takes every object");
}
