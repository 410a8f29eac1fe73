//! Workflows that Go's engine began end as they ended there, from whichever version of the resource they are taken over.

use std::{collections::BTreeMap, fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flyte_core::unique_id::{self, Parent};
use flyte_crd::{FlyteWorkflow, TERMINATION_LABEL, WorkflowPhase, status::ArrayNodeStatus};
use flyte_idl::core::{ContainerError, ErrorDocument, container_error};
use flyte_tests::simulation::{Beginning, Run, Simulation};
use k8s_openapi::api::core::v1::Pod;
use prost::Message as _;
use serde_json::{Value, json};

/// Executions whose nodes are all of kinds that this engine runs.
const SUPPORTED: [&str; 14] = [
    "rec-all-types",
    "rec-bindings",
    "rec-branches",
    "rec-branches-fail",
    "rec-cached-pair",
    "rec-cached-pair2",
    "rec-dyn",
    "rec-failing",
    "rec-files",
    "rec-mapped",
    "rec-nested",
    "rec-pods",
    "rec-policy",
    "rec-with-child-n0-0",
];

/// What tasks of the recording wrote when they failed: the attempt's folder, code, and whether it may be tried again.
const ERRORS: [(&str, &str, &str, bool); 4] = [
    ("rec-failing", "n0/data/0", "USER:RuntimeError", false),
    ("rec-policy", "n0/data/0", "USER:Recoverable", true),
    ("rec-policy", "n0/data/1", "USER:Recoverable", true),
    ("rec-policy", "n0/data/2", "USER:Recoverable", true),
];

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An execution as it was recorded, put where the simulation runs workflows.
struct Recording {
    name: &'static str,
    /// All versions of the resource.
    versions: Vec<Value>,
    /// All files that the execution left.
    objects: BTreeMap<String, Vec<u8>>,
}

impl Recording {
    fn of(name: &'static str) -> Self {
        let text = read(&format!("../crates/crd/tests/data/{name}.jsonl"))
            .replace("s3://my-s3-bucket", "mem://bucket")
            .replace("flytesnacks", "project");
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
        for version in &mut versions {
            let metadata = version["metadata"].as_object_mut().unwrap();
            metadata.retain(|name, _| {
                ["name", "namespace", "labels", "finalizers"].contains(&name.as_str())
            });
        }
        let all: BTreeMap<String, BTreeMap<String, String>> =
            serde_json::from_str(&read("tests/simulation/data/recorded-blobs.json")).unwrap();
        let folder = format!("metadata/propeller/project-development-{name}");
        let mut objects: BTreeMap<String, Vec<u8>> = all[name]
            .iter()
            .map(|(path, bytes)| (format!("{folder}/{path}"), STANDARD.decode(bytes).unwrap()))
            .collect();
        for (_, path, code, again) in ERRORS.iter().filter(|(execution, ..)| *execution == name) {
            let kind = if *again {
                container_error::Kind::Recoverable
            } else {
                container_error::Kind::NonRecoverable
            };
            let document = ErrorDocument {
                error: Some(ContainerError {
                    code: (*code).into(),
                    kind: kind.into(),
                    ..ContainerError::default()
                }),
            };
            objects.insert(
                format!("{folder}/{path}/error.pb"),
                document.encode_to_vec(),
            );
        }
        Self {
            name,
            versions,
            objects,
        }
    }

    /// The last version before the engine let go of it that is not yet over, and whether it fits a description.
    fn version(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let mut found = self
            .versions
            .iter()
            .filter(|version| fits(&version["status"]));
        found.next().unwrap().clone()
    }

    /// Takes the workflow over in this state.
    fn resume(&self, version: Value) -> Result<Run, String> {
        let workflow: FlyteWorkflow = serde_json::from_value(version.clone()).unwrap();
        let mut names = Vec::new();
        pods_of(
            self.name,
            &version["status"]["nodeStatus"],
            None,
            &mut names,
        );
        let pods = names
            .iter()
            .map(|name| pod(name, &version["metadata"]))
            .collect();
        Simulation::new(workflow)
            .resuming(Beginning {
                pods,
                objects: self.objects.clone(),
            })
            .attempt()
    }
}

/// Names of the pods of all attempts that a status shows under way.
fn pods_of(execution: &str, statuses: &Value, around: Option<&Parent>, names: &mut Vec<String>) {
    let number = |status: &Value| u32::try_from(status["attempts"].as_u64().unwrap_or(0)).unwrap();
    // Of an arm, the branch is around it; both stand in one map.
    fn place(statuses: &Value, id: &str, around: Option<&Parent>) -> Option<Parent> {
        let Some(branch) = statuses[id]["parentNode"].as_str() else {
            return around.cloned();
        };
        let of_branch = place(statuses, branch, around);
        Some(Parent {
            unique_id: unique_id::node(of_branch.as_ref(), branch),
            attempt: 0,
        })
    }
    for (id, status) in statuses.as_object().into_iter().flatten() {
        if id == "dynamic-node" {
            // No node, but where those are that a dynamic task has made.
            pods_of(execution, &status["subNodeStatus"], around, names);
            continue;
        }
        let parent = place(statuses, id, around);
        let unique = unique_id::node(parent.as_ref(), id);
        let attempt = number(status);
        if status["TaskNodeStatus"]["pState"].is_string() {
            names.push(unique_id::generated_name(execution, &unique, attempt, 50).unwrap());
        }
        let inside = Parent {
            unique_id: unique,
            attempt,
        };
        elements_of(execution, status, &inside, names);
        pods_of(execution, &status["subNodeStatus"], Some(&inside), names);
    }
}

/// Names of the pods of elements of an array that have one.
fn elements_of(execution: &str, status: &Value, array: &Parent, names: &mut Vec<String>) {
    let Ok(known) = serde_json::from_value::<ArrayNodeStatus>(status["arrayNodeStatus"].clone())
    else {
        return;
    };
    for index in 0..known.subphase.len() {
        if known.subtphase.get(index) != 0 {
            let unique = unique_id::node(Some(array), &format!("n{index}"));
            let attempt = known.subattempts.get(index);
            names.push(unique_id::generated_name(execution, &unique, attempt, 50).unwrap());
        }
    }
}

fn pod(name: &str, workflow: &Value) -> Pod {
    let pod = json!({
        "metadata": {
            "name": name, "namespace": workflow["namespace"], "labels": workflow["labels"],
            "annotations": { "primary_container_name": name },
        },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": name, "image": "i", "args": ["pyflyte-execute"] }] },
    });
    serde_json::from_value(pod).unwrap()
}

/// Phases of nodes that have one.
fn phases(status: &Value) -> BTreeMap<String, u64> {
    let nodes = status["nodeStatus"].as_object().into_iter().flatten();
    nodes
        .filter_map(|(id, node)| Some((id.clone(), node["phase"].as_u64()?)))
        .collect()
}

/// Phases and error code, and that nothing is left over.
fn compare(run: &Run, expected: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in ["/phase", "/error/code"] {
        let (found, expected) = (run.status.pointer(path), expected.pointer(path));
        if found != expected {
            wrong.push(format!("{path} is {found:?}, not {expected:?}"));
        }
    }
    let told = run.records.workflow().0;
    let ended = match expected["phase"].as_i64().map(WorkflowPhase::from) {
        Some(WorkflowPhase::Success) => "SUCCEEDED",
        _ => "FAILED",
    };
    if told != ended {
        wrong.push(format!("admin has {told}, not {ended}"));
    }
    if phases(&run.status) != phases(expected) {
        wrong.push(format!(
            "nodes {:?}, not {:?}",
            phases(&run.status),
            phases(expected)
        ));
    }
    if !run.left.is_empty() || !run.doubles().is_empty() {
        wrong.push(format!(
            "pods {:?} left, {:?} twice",
            run.left,
            run.doubles()
        ));
    }
    wrong
}

#[test]
fn every_version_that_go_wrote_is_driven_to_its_end() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for name in SUPPORTED {
        let recording = Recording::of(name);
        let end = recording.versions.last().unwrap()["status"].clone();
        for (index, version) in recording.versions.iter().enumerate() {
            if version["metadata"]["finalizers"].is_null() {
                // Over, and let go of.
                continue;
            }
            count += 1;
            match recording.resume(version.clone()) {
                Ok(run) => wrong.extend(
                    compare(&run, &end)
                        .into_iter()
                        .map(|what| format!("{name} version {index}: {what}")),
                ),
                Err(why) => wrong.push(format!(
                    "{name} version {index}: {}",
                    &why[..why.len().min(600)]
                )),
            }
        }
    }
    assert!(count > 150, "only {count} versions were found");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The label says that admin has the end. Where it is missing, admin is told, and no node runs again.
#[test]
fn an_end_of_which_no_label_says_that_it_was_told_is_told() {
    for name in SUPPORTED {
        let recording = Recording::of(name);
        let mut version = recording.versions.last().unwrap().clone();
        let end = version["status"].clone();
        let labels = version["metadata"]["labels"].as_object_mut().unwrap();
        assert!(labels.remove(TERMINATION_LABEL).is_some(), "{name}");
        let run = recording
            .resume(version)
            .unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(compare(&run, &end), [""; 0], "{name}");
    }
}

const FAILED: u64 = 6;
const SUCCEEDED: u64 = 5;

fn failed() -> Value {
    json!({ "phase": FAILED, "stoppedAt": "2026-11-21T12:36:35Z",
            "error": { "code": "USER:Inside", "message": "inside", "kind": "USER" } })
}

#[test]
fn states_patched_from_outside_are_driven_to_their_end() {
    let nested = Recording::of("rec-nested");
    let branches = Recording::of("rec-branches");
    let success = |recording: &Recording| recording.versions.last().unwrap()["status"].clone();
    let all_inside = |status: &Value| {
        status["nodeStatus"]["the-sub"]["subNodeStatus"]["end-node"]["phase"] == SUCCEEDED
    };
    let arm_over = |status: &Value| {
        status["nodeStatus"]["n0-n0"]["phase"] == SUCCEEDED
            && status["nodeStatus"]["n0"]["phase"] == 2
    };
    let queued = |status: &Value| status["nodeStatus"]["end-node"]["phase"] == 1;
    for (case, recording, version) in [
        (
            "all inside a sub-workflow is over",
            &nested,
            nested.version(all_inside),
        ),
        (
            "the arm of a branch is over",
            &branches,
            branches.version(arm_over),
        ),
        ("the end node is queued", &nested, nested.version(queued)),
    ] {
        let run = recording
            .resume(version)
            .unwrap_or_else(|why| panic!("{case}: {why}"));
        assert_eq!(compare(&run, &success(recording)), [""; 0], "{case}");
    }

    let mut inside_failed = nested.version(all_inside);
    let inside = &mut inside_failed["status"]["nodeStatus"]["the-sub"]["subNodeStatus"];
    inside["n1"] = failed();
    inside.as_object_mut().unwrap().remove("end-node");
    let mut arm_failed = branches.version(arm_over);
    arm_failed["status"]["nodeStatus"]["n0-n0"] = failed();
    arm_failed["status"]["nodeStatus"]["n0-n0"]["parentNode"] = "n0".into();
    for (case, recording, version, code) in [
        (
            "a node in a sub-workflow failed",
            &nested,
            inside_failed,
            "USER:Inside",
        ),
        (
            "the arm of a branch failed",
            &branches,
            arm_failed,
            "USER:Inside",
        ),
    ] {
        let run = recording
            .resume(version)
            .unwrap_or_else(|why| panic!("{case}: {why}"));
        let workflow = run.records.workflow();
        assert_eq!(workflow, ("FAILED".to_owned(), code.to_owned()), "{case}");
    }
}

/// A phase of a newer engine: nobody knows what the node waits for, so the workflow fails and says why.
#[test]
fn a_node_in_an_unknown_phase_fails_its_workflow() {
    let nested = Recording::of("rec-nested");
    let mut version = nested.version(|status| status["nodeStatus"]["n1"]["phase"] == 2);
    version["status"]["nodeStatus"]["n1"]["phase"] = 77.into();
    let run = nested.resume(version).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(run.records.workflow().0, "FAILED");
    let message = run.status["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("77"), "{}", run.status);
}
