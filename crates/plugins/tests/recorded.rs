//! Pods that Go propeller created are reproduced field by field.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says where"
)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use flyte_core::{identifiers::ExecutionId, layout};
use flyte_crd::{FlyteWorkflow, NodeSpec};
use flyte_platform::config::StringMap;
use flyte_plugins::{
    Plugin, TaskContext,
    config::{K8sConfig, PluginsConfig},
    pod,
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};
use serde_json::{Value, json};

fn lines(path: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn config() -> PluginsConfig {
    PluginsConfig {
        k8s: K8sConfig {
            image_pull_policy: "Always".into(),
            default_env_vars: StringMap::from([
                ("FLYTE_AWS_ENDPOINT", "http://127.0.0.1:9000".to_owned()),
                ("FLYTE_AWS_ACCESS_KEY_ID", "minio".to_owned()),
                ("FLYTE_AWS_SECRET_ACCESS_KEY", "miniostorage".to_owned()),
                ("FLYTE_PLATFORM_URL", "localhost:8089".to_owned()),
                ("FLYTE_PLATFORM_INSECURE", "true".to_owned()),
            ]),
            ..K8sConfig::default()
        },
        ..PluginsConfig::default()
    }
}

/// What the API server fills in and the engine never sends (spec 05 §6.13), and maps of random order.
fn comparable(mut pod: Value) -> Value {
    let metadata = pod["metadata"].as_object_mut().unwrap();
    for key in [
        "creationTimestamp",
        "generation",
        "resourceVersion",
        "uid",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        metadata.remove(key);
    }
    let spec = pod["spec"].as_object_mut().unwrap();
    for key in [
        "dnsPolicy",
        "enableServiceLinks",
        "preemptionPolicy",
        "priority",
        "schedulerName",
        "securityContext",
        "terminationGracePeriodSeconds",
        "serviceAccount",
        "nodeName",
    ] {
        spec.remove(key);
    }
    let keep: Vec<Value> = spec
        .remove("tolerations")
        .and_then(|tolerations| tolerations.as_array().cloned())
        .unwrap_or_default()
        .into_iter()
        .filter(|toleration| {
            !toleration["key"]
                .as_str()
                .unwrap_or_default()
                .starts_with("node.kubernetes.io/")
        })
        .collect();
    if !keep.is_empty() {
        spec.insert("tolerations".into(), keep.into());
    }
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let container = container.as_object_mut().unwrap();
            container.remove("terminationMessagePath");
            container.remove("imagePullPolicy");
            if container.get("terminationMessagePolicy") == Some(&json!("File")) {
                container.remove("terminationMessagePolicy");
            }
            // The defaults of configuration come in random order at the end.
            if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
                let own = env.iter().position(|variable| {
                    variable["name"].as_str().unwrap().starts_with("FLYTE_AWS")
                        || variable["name"]
                            .as_str()
                            .unwrap()
                            .starts_with("FLYTE_PLATFORM")
                        || variable["name"].as_str().unwrap().contains("ARRAY")
                });
                if let Some(own) = own {
                    env[own..].sort_by_key(|variable| variable["name"].to_string());
                }
            }
            container.retain(|_, value| !value.is_null() && *value != json!([]));
        }
    }
    pod
}

fn argument(pod: &Value, name: &str) -> Option<String> {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    containers.iter().find_map(|container| {
        let args: Vec<_> = container["args"]
            .as_array()?
            .iter()
            .map(|arg| arg.as_str().unwrap())
            .collect();
        let at = args.iter().position(|arg| *arg == name)?;
        Some(args[at + 1].to_owned())
    })
}

fn find_node<'a>(workflow: &'a FlyteWorkflow, node: &str, task: &str) -> Option<&'a NodeSpec> {
    let specs = workflow.spec.iter().chain(workflow.sub_workflows.values());
    let mut nodes = specs.flat_map(|spec| spec.nodes.values().chain(spec.on_failure.as_deref()));
    let tasks = workflow.tasks.as_ref().unwrap();
    nodes.find(|spec| {
        let template = spec.task.as_ref().and_then(|key| tasks.get(key));
        let name = template
            .and_then(|template| template.id.as_ref())
            .map(|id| id.name.as_str());
        spec.id == node
            && name.is_some_and(|name| flyte_core::names::sanitized_label_value(name) == task)
    })
}

#[test]
fn every_recorded_pod_of_a_plain_task_is_reproduced() {
    let mut count = 0;
    for recorded in lines("tests/data/pods.jsonl") {
        let name = recorded["metadata"]["name"].as_str().unwrap();
        let labels = &recorded["metadata"]["labels"];
        let execution_name = recorded["metadata"]["ownerReferences"][0]["name"]
            .as_str()
            .unwrap();
        let file = format!("../crd/tests/data/{execution_name}.jsonl");
        let resource = lines(&file).remove(0);
        let workflow: FlyteWorkflow = serde_json::from_value(resource).unwrap();
        let (node, task) = (
            labels["node-id"].as_str().unwrap(),
            labels["task-name"].as_str().unwrap(),
        );
        // Nodes of dynamic and array tasks are not in the resource; the next issue brings them.
        let Some(spec) = find_node(&workflow, node, task) else {
            continue;
        };
        let template = &workflow.tasks.as_ref().unwrap()[spec.task.as_ref().unwrap()];
        let execution = ExecutionId::from_proto(Some(&workflow.execution_id.0)).unwrap();
        let attempt: u32 = name.rsplit('-').next().unwrap().parse().unwrap();
        let raw_output = layout::raw_output("s3://my-s3-bucket/data", name).unwrap();
        let previous = name
            .rsplit_once('-')
            .filter(|_| attempt > 0)
            .map(|(stem, _)| {
                let name = format!("{stem}-{}", attempt - 1);
                layout::checkpoints(&layout::raw_output("s3://my-s3-bucket/data", &name).unwrap())
                    .unwrap()
            });
        let owner: OwnerReference =
            serde_json::from_value(recorded["metadata"]["ownerReferences"][0].clone()).unwrap();
        let empty = BTreeMap::new();
        let interruptible = labels["interruptible"] == "true";
        let context = TaskContext {
            template,
            execution: &execution,
            workflow: &recorded["spec"]["containers"][0]["env"]
                .as_array()
                .unwrap()
                .iter()
                .find(|variable| variable["name"] == "FLYTE_INTERNAL_EXECUTION_WORKFLOW")
                .map(|variable| variable["value"].as_str().unwrap().to_owned())
                .unwrap(),
            node_id: &spec.id,
            unique_node_id: "unused",
            attempt,
            generated_name: name,
            namespace: "flytesnacks-development",
            owner,
            labels: workflow.metadata.labels.as_ref().unwrap(),
            annotations: workflow.metadata.annotations.as_ref().unwrap_or(&empty),
            inputs: argument(&recorded, "--inputs").unwrap_or_default(),
            output_folder: argument(&recorded, "--output-prefix").unwrap_or_default(),
            checkpoints: layout::checkpoints(&raw_output).unwrap(),
            raw_output,
            previous_checkpoints: previous.unwrap_or_default(),
            task_template: String::new(),
            resources: &spec.resources,
            extended_resources: spec.extended_resources.as_deref(),
            container_image: &spec.container_image,
            pod_template: spec.pod_template.as_deref(),
            platform: &workflow.execution_config.task_resources,
            environment: workflow
                .execution_config
                .environment_variables
                .as_ref()
                .unwrap_or(&empty),
            interruptible,
            service_account: &workflow.service_account_name,
            security_context: &workflow.security_context,
            console_url: "",
        };
        let plugin = if template.r#type == "sidecar" {
            Plugin::Sidecar
        } else {
            Plugin::Container
        };
        let built: Pod = pod::build(&context, plugin, pod::Supplies::default(), &config())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut built = serde_json::to_value(&built).unwrap();
        built["apiVersion"] = "v1".into();
        built["kind"] = "Pod".into();
        let expected = comparable(recorded.clone());
        let built = comparable(built);
        for part in ["metadata", "spec"] {
            for (key, value) in expected[part].as_object().unwrap() {
                assert_eq!(&built[part][key], value, "{name}: {part}.{key}");
            }
            for key in built[part].as_object().unwrap().keys() {
                assert!(
                    expected[part].get(key).is_some(),
                    "{name}: {part}.{key} was not recorded: {}",
                    built[part][key]
                );
            }
        }
        count += 1;
    }
    assert!(count >= 20, "only {count} pods were compared");
}
