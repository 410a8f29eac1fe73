//! Pods on their way in: the defaults of kube-apiserver, and what of a pod may change.

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec};
use serde_json::{Map, Value, json};

use crate::cluster::admission::typed::{self, WrongType};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

mod affinity;
mod containers;
mod gates;
mod network;
pub(super) mod ports;
pub(super) mod probes;
mod resources;
mod security;
mod spec;
mod updates;
mod volumes;

/// Fills in what recorded/resources/pods.jsonl shows that a real server fills in.
pub(crate) fn default_pod(object: &mut Map<String, Value>) {
    let spec = object.entry("spec").or_insert_with(|| json!({}));
    let Some(spec) = spec.as_object_mut() else {
        return;
    };
    default_spec(spec);
    spec.entry("priority").or_insert_with(|| json!(0));
    spec.entry("preemptionPolicy")
        .or_insert_with(|| json!("PreemptLowerPriority"));
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    if let Some(tolerations) = tolerations.as_array_mut() {
        for key in [
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
        ] {
            if !tolerations
                .iter()
                .any(|toleration| toleration.get("key").and_then(Value::as_str) == Some(key))
            {
                tolerations.push(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
                }));
            }
        }
    }
    let mut status = json!({ "phase": "Pending", "qosClass": quality(spec) });
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if let (true, Some(members)) = (gates::is_gated(spec), status.as_object_mut()) {
        members.insert("conditions".to_owned(), json!([gates::condition()]));
    }
    object.insert("status".to_owned(), status);
}

/// The defaults that the spec of a pod has in a template, too.
pub(super) fn default_spec(spec: &mut Map<String, Value>) {
    for (name, default) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
    ] {
        let given = spec.entry(name).or_insert(Value::Null);
        if given.is_null() || given.as_str() == Some("") {
            *given = default;
        }
    }
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        spec.entry("serviceAccount").or_insert(account);
    }
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(container) = container.as_object_mut() {
                // Kubernetes has restart policies of containers behind a feature that is off.
                let stays =
                    container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
                if list == "containers" || !stays {
                    container.shift_remove("restartPolicy");
                }
                default_container(container);
            }
        }
    }
    for volume in spec
        .get_mut("volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        volumes::default_volume(volume);
    }
}

fn default_container(container: &mut Map<String, Value>) {
    container
        .entry("terminationMessagePath")
        .or_insert_with(|| "/dev/termination-log".into());
    container
        .entry("terminationMessagePolicy")
        .or_insert_with(|| "File".into());
    let image = container
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let moving = !last.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    let policy = if moving { "Always" } else { "IfNotPresent" };
    container
        .entry("imagePullPolicy")
        .or_insert_with(|| policy.into());
    probes::fill_defaults(container);
    let resources = container.entry("resources").or_insert_with(|| json!({}));
    if let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned()
        && let Some(resources) = resources.as_object_mut()
    {
        let requests = resources.entry("requests").or_insert_with(|| json!({}));
        if let Some(requests) = requests.as_object_mut() {
            for (name, limit) in limits {
                requests.entry(name).or_insert(limit);
            }
        }
    }
}

/// The quality-of-service class.
fn quality(spec: &Map<String, Value>) -> &'static str {
    let lists = ["containers", "initContainers"].into_iter();
    let containers: Vec<&Value> = lists
        .flat_map(|list| {
            spec.get(list)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
        })
        .collect();
    let amount = |container: &Value, kind: &str, name: &str| {
        container
            .pointer(&format!("/resources/{kind}/{name}"))
            .cloned()
    };
    let guaranteed = containers.iter().all(|container| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = amount(container, "limits", name);
            limit.is_some() && limit == amount(container, "requests", name)
        })
    });
    let none = containers.iter().all(|container| {
        let kinds = ["requests", "limits"].iter();
        kinds.clone().all(|kind| {
            ["cpu", "memory"]
                .iter()
                .all(|name| amount(container, kind, name).is_none())
        })
    });
    match (none, guaranteed) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    }
}

pub(crate) use gates::is_gated;
pub(crate) use updates::guard_spec;

/// Adds a cause for each rule that a new pod breaks, and that does not hold for one that is there.
pub(super) fn guard_new(pod: &Value, causes: &mut Causes) {
    if let Some(spec) = pod.get("spec") {
        gates::guard_new(spec, causes);
    }
}

/// Adds a cause for each rule of Kubernetes that the pod breaks.
pub(crate) fn validate(pod: &Value, causes: &mut Causes) -> Result<(), WrongType> {
    let pod: Pod = typed::read(pod)?;
    let spec = pod.spec.unwrap_or_default();
    spec::validate(&spec, causes);
    if has_ephemeral(&spec) {
        causes.push(StatusCause::forbidden(
            "spec.ephemeralContainers",
            "cannot be set on create",
        ));
    }
    Ok(())
}

fn has_ephemeral(spec: &PodSpec) -> bool {
    spec.ephemeral_containers
        .as_ref()
        .is_some_and(|containers| !containers.is_empty())
}

/// Adds a cause for each rule that the pod in a template breaks.
pub(super) fn validate_template(template: &PodTemplateSpec, causes: &mut Causes) {
    let spec = template.spec.clone().unwrap_or_default();
    let walk = |causes: &mut Causes| {
        spec::validate(&spec, causes);
        if has_ephemeral(&spec) {
            let rule = "ephemeral containers not allowed in pod template";
            causes.push(StatusCause::forbidden("spec.ephemeralContainers", rule));
        }
    };
    causes.renamed(walk, |field| format!("template.{field}"));
}
