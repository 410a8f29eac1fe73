//! The PodTemplate object under a task's pod (spec 05 §6.9).
//!
//! An operator keeps what all pods share, such as volumes and tolerations, in a PodTemplate. The template comes first and
//! the built pod on top:
//!
//! - scalars: the built value wins, unless it is empty, zero or false;
//! - maps: per key, the built value wins;
//! - lists: the template's items, then the built ones;
//! - structures: member by member.
//!
//! Containers are not added by a template. Each built one starts from the template's container `default`, then `primary`
//! for the primary container, or the container of the same name for any other; init containers from `default-init`, then
//! `primary-init` for the one that brings the task its inputs, and the container of the same name.

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, ResourceRequirements};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::BuildError;
use crate::{TaskContext, config::K8sConfig};

/// Members that are maps, where an empty built value is still a value.
const MAPS: [&str; 6] = [
    "annotations",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "requests",
];

/// Which PodTemplate a task's pod starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateName<'a> {
    /// The task names it: without it the task cannot run.
    OfTask(&'a str),
    /// The configuration names it for all tasks: it may be absent.
    Default(&'a str),
}

/// The PodTemplate that this task's pod starts from; none for no template.
pub fn template_name<'a>(
    context: &TaskContext<'a>,
    config: &'a K8sConfig,
) -> Option<TemplateName<'a>> {
    let named = context
        .template
        .metadata
        .as_ref()
        .map_or("", |metadata| metadata.pod_template_name.as_str());
    match (named, config.default_pod_template_name.as_str()) {
        ("", "") => None,
        ("", default) => Some(TemplateName::Default(default)),
        (named, _) => Some(TemplateName::OfTask(named)),
    }
}

/// Whether a container runs before the others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    Primary,
    Other,
}

/// What a template says about containers and the pod.
#[derive(Clone, Copy)]
pub(super) struct Base<'a>(Option<&'a PodTemplateSpec>);

impl<'a> Base<'a> {
    pub(super) fn new(template: Option<&'a PodTemplateSpec>) -> Self {
        Self(template)
    }

    fn spec(self) -> Option<&'a PodSpec> {
        self.0?.spec.as_ref()
    }

    /// Labels and annotations of the template.
    pub(super) fn metadata(self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        self.0
            .and_then(|template| template.metadata.clone())
            .unwrap_or_default()
    }

    /// Requests and limits for what a container leaves open: those of the same name's container, else of `primary`, else
    /// of `default` (spec 05 §6.4).
    pub(super) fn resources(self, container: &str, role: Role) -> Option<&'a ResourceRequirements> {
        let names = match role {
            Role::Init => [container, "primary-init", "default-init"],
            Role::Primary | Role::Other => [container, "primary", "default"],
        };
        names
            .into_iter()
            .find_map(|name| self.container(name, role))?
            .resources
            .as_ref()
    }

    fn container(self, name: &str, role: Role) -> Option<&'a Container> {
        let spec = self.spec()?;
        let listed = match role {
            Role::Init => spec.init_containers.as_deref().unwrap_or_default(),
            Role::Primary | Role::Other => &spec.containers,
        };
        listed.iter().find(|container| container.name == name)
    }

    /// The built pod on top of the template. `primary_init` is the init container that brings the task its inputs.
    pub(super) fn under(
        self,
        mut built: PodSpec,
        primary: &str,
        primary_init: Option<&str>,
    ) -> Result<PodSpec, BuildError> {
        let Some(template) = self.spec() else {
            return Ok(built);
        };
        let containers = std::mem::take(&mut built.containers)
            .into_iter()
            .map(|container| {
                let role = if container.name == primary {
                    Role::Primary
                } else {
                    Role::Other
                };
                self.under_container(&container, role, None)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let init_containers = built
            .init_containers
            .take()
            .map(|containers| {
                containers
                    .iter()
                    .map(|container| self.under_container(container, Role::Init, primary_init))
                    .collect::<Result<Vec<_>, _>>()
            })
            .transpose()?;
        let bare = PodSpec {
            containers: Vec::new(),
            init_containers: None,
            ..template.clone()
        };
        Ok(PodSpec {
            containers,
            init_containers,
            ..merged(&bare, &built)?
        })
    }

    fn under_container(
        self,
        built: &Container,
        role: Role,
        primary_init: Option<&str>,
    ) -> Result<Container, BuildError> {
        let layers = match role {
            Role::Init if primary_init == Some(&built.name) => ["default-init", "primary-init"],
            Role::Init => ["default-init", built.name.as_str()],
            Role::Primary => ["default", "primary"],
            Role::Other => ["default", built.name.as_str()],
        };
        let mut below = Container::default();
        let mut last = None;
        for name in layers {
            // A container that is itself named `default` is met once.
            if last != Some(name)
                && let Some(layer) = self.container(name, role)
            {
                below = merged(&below, layer)?;
            }
            last = Some(name);
        }
        merged(&below, built)
    }
}

/// One structure on top of another of its kind.
fn merged<T: Serialize + DeserializeOwned>(below: &T, above: &T) -> Result<T, BuildError> {
    let unreadable = |error: serde_json::Error| {
        BuildError::BadTask(format!("the PodTemplate cannot be merged: {error}"))
    };
    let mut value = serde_json::to_value(below).map_err(unreadable)?;
    lay(
        &mut value,
        serde_json::to_value(above).map_err(unreadable)?,
        Within::Structure,
    );
    serde_json::from_value(value).map_err(unreadable)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Structure,
    Map,
}

fn lay(below: &mut Value, above: Value, within: Within) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (name, value) in above {
                let inner = if MAPS.contains(&name.as_str()) {
                    Within::Map
                } else {
                    Within::Structure
                };
                match below.get_mut(&name) {
                    Some(present) if within == Within::Structure => lay(present, value, inner),
                    _ => {
                        below.insert(name, value);
                    }
                }
            }
        }
        (Value::Array(below), Value::Array(above)) => below.extend(above),
        (_, above) if is_empty(&above) => {}
        (below, above) => *below = above,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => value.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn laid(below: Value, above: Value) -> Value {
        let mut value = below;
        lay(&mut value, above, Within::Structure);
        value
    }

    #[test]
    fn values_are_laid_by_their_kind() {
        for (case, below, above, expected) in [
            (
                "a built scalar wins",
                json!({ "a": 1, "b": "x", "c": false }),
                json!({ "a": 2, "b": "y", "c": true }),
                json!({ "a": 2, "b": "y", "c": true }),
            ),
            (
                "an empty one does not",
                json!({ "a": 1, "b": "x", "c": true }),
                json!({ "a": 0, "b": "", "c": false }),
                json!({ "a": 1, "b": "x", "c": true }),
            ),
            (
                "an entry of a map wins even when it is empty",
                json!({ "labels": { "a": "x", "b": "y" } }),
                json!({ "labels": { "a": "", "c": "z" } }),
                json!({ "labels": { "a": "", "b": "y", "c": "z" } }),
            ),
            (
                "lists follow each other",
                json!({ "args": ["first"], "env": [{ "name": "A" }] }),
                json!({ "args": ["second"], "env": [{ "name": "A" }] }),
                json!({ "args": ["first", "second"], "env": [{ "name": "A" }, { "name": "A" }] }),
            ),
            (
                "structures are laid member by member",
                json!({ "securityContext": { "runAsUser": 1, "runAsGroup": 2 } }),
                json!({ "securityContext": { "runAsUser": 3 } }),
                json!({ "securityContext": { "runAsUser": 3, "runAsGroup": 2 } }),
            ),
        ] {
            assert_eq!(laid(below, above), expected, "{case}");
        }
    }

    #[test]
    fn containers_start_from_the_templates_and_none_is_added() {
        let template: PodTemplateSpec = serde_json::from_value(json!({
            "spec": {
                "restartPolicy": "Always",
                "tolerations": [{ "key": "of-template" }],
                "volumes": [{ "name": "shared", "emptyDir": {} }],
                "initContainers": [{ "name": "default-init", "imagePullPolicy": "Always" }],
                "containers": [
                    { "name": "default", "image": "ignored", "env": [{ "name": "FROM", "value": "default" }],
                      "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }] },
                    { "name": "primary", "env": [{ "name": "FROM", "value": "primary" }] },
                    { "name": "main", "env": [{ "name": "FROM", "value": "same name as the primary" }] },
                    { "name": "helper", "workingDir": "/help" },
                    { "name": "never-used" },
                ],
            },
        }))
        .unwrap();
        let built: PodSpec = serde_json::from_value(json!({
            "restartPolicy": "Never",
            "tolerations": [{ "key": "of-task" }],
            "initContainers": [{ "name": "prepare", "image": "i" }],
            "containers": [
                { "name": "main", "image": "m", "env": [{ "name": "FROM", "value": "task" }] },
                { "name": "helper", "image": "h" },
            ],
        }))
        .unwrap();
        let pod = Base::new(Some(&template))
            .under(built, "main", None)
            .unwrap();
        assert_eq!(
            serde_json::to_value(pod).unwrap(),
            json!({
                "restartPolicy": "Never",
                "tolerations": [{ "key": "of-template" }, { "key": "of-task" }],
                "volumes": [{ "name": "shared", "emptyDir": {} }],
                "initContainers": [{ "name": "prepare", "image": "i", "imagePullPolicy": "Always" }],
                "containers": [
                    { "name": "main", "image": "m",
                      "env": [{ "name": "FROM", "value": "default" }, { "name": "FROM", "value": "primary" },
                              { "name": "FROM", "value": "task" }],
                      "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }] },
                    { "name": "helper", "image": "h", "workingDir": "/help",
                      "env": [{ "name": "FROM", "value": "default" }],
                      "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }] },
                ],
            })
        );
    }

    #[test]
    fn resources_come_from_the_nearest_container_of_the_template() {
        let template: PodTemplateSpec = serde_json::from_value(json!({
            "spec": { "containers": [
                { "name": "default", "resources": { "limits": { "cpu": "1" } } },
                { "name": "primary", "resources": { "limits": { "cpu": "2" } } },
                { "name": "helper", "resources": { "limits": { "cpu": "3" } } },
            ] },
        }))
        .unwrap();
        let base = Base::new(Some(&template));
        for (name, role, expected) in [
            ("main", Role::Primary, Some("2")),
            ("helper", Role::Other, Some("3")),
            ("other", Role::Other, Some("2")),
            ("prepare", Role::Init, None),
        ] {
            let found = base
                .resources(name, role)
                .and_then(|resources| resources.limits.as_ref()?.get("cpu"))
                .map(|quantity| quantity.0.as_str());
            assert_eq!(found, expected, "{name}");
        }
    }
}
