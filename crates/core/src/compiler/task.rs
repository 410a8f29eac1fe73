//! Compilation of one task (spec 08 A3).

use flyte_idl::{
    core::{CompiledTask, Container, K8sPod, TaskTemplate, resources, task_template::Target},
    json::struct_to_json,
};
use k8s_openapi::api::core::v1::PodSpec;
use prost_types::Struct;
use serde_json::Value;

use super::errors::{Collector, CompileError, CompileErrors};
use crate::{names, quantity::Quantity};

/// Checks a task template and wraps it, unchanged.
pub fn compile_task(template: TaskTemplate) -> Result<CompiledTask, CompileErrors> {
    let mut errors = Collector::default();
    if template.id.is_none() {
        errors.add(CompileError::value_required("root", "Id"));
    }
    match &template.target {
        Some(Target::Container(container)) => check_container(&template, container, &mut errors),
        Some(Target::K8sPod(pod)) => check_pod(pod, &mut errors),
        // Plugin tasks register freely.
        Some(Target::Sql(_)) | None => {}
    }
    errors.finish(CompiledTask {
        template: Some(template),
    })
}

fn check_container(template: &TaskTemplate, container: &Container, errors: &mut Collector) {
    let has_variables = template.interface.as_ref().is_some_and(|interface| {
        [&interface.inputs, &interface.outputs]
            .into_iter()
            .flatten()
            .any(|variables| !variables.variables.is_empty())
    });
    if has_variables && container.command.is_empty() && container.args.is_empty() {
        errors.add(CompileError::value_required("container", "command"));
    }
    if container.image.is_empty() {
        errors.add(CompileError::value_required("container", "image"));
    }
    let resources = container.resources.iter();
    for entry in resources.flat_map(|resources| resources.requests.iter().chain(&resources.limits))
    {
        check_quantity(entry, errors);
    }
}

fn check_quantity(entry: &resources::ResourceEntry, errors: &mut Collector) {
    if entry.value.parse::<Quantity>().is_err() {
        let name = resources::ResourceName::try_from(entry.name).map_or_else(
            |_| entry.name.to_string(),
            |name| name.as_str_name().to_owned(),
        );
        errors.add(CompileError::unrecognized_value(
            &format!("resources.{name}"),
            &entry.value,
        ));
    }
}

fn check_pod(pod: &K8sPod, errors: &mut Collector) {
    let Ok(spec) = pod_spec(pod.pod_spec.as_ref()) else {
        errors.add(CompileError::invalid_value("root", "k8s pod spec"));
        return;
    };
    for container in &spec.containers {
        if !names::is_rfc1123_label(&container.name) {
            errors.add(CompileError::invalid_value(
                "root",
                "k8s pod spec container name",
            ));
        }
    }
}

/// Why a Struct is not a pod spec.
#[derive(Debug, thiserror::Error)]
pub enum PodSpecError {
    /// A part has another type than Kubernetes wants.
    #[error("pod spec cannot be read")]
    Json(#[from] serde_json::Error),
    /// A resource, overhead or size limit is not a quantity.
    #[error("pod spec has quantity {value:?}")]
    Quantity {
        /// The quantity as the task has it.
        value: String,
        /// What is wrong with it.
        #[source]
        source: crate::quantity::QuantityError,
    },
}

/// A Struct as a core/v1 pod spec; quantities may be numbers. An absent one reads as empty.
pub fn pod_spec(spec: Option<&Struct>) -> Result<PodSpec, PodSpecError> {
    let mut json = spec.map_or_else(|| Value::Object(serde_json::Map::new()), struct_to_json);
    quantities_to_text(&mut json)?;
    Ok(serde_json::from_value(json)?)
}

/// Kubernetes reads a quantity from a number as from a text; our types know only the text.
fn quantities_to_text(spec: &mut Value) -> Result<(), PodSpecError> {
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            for kind in ["/resources/requests", "/resources/limits"] {
                if let Some(amounts) = container.pointer_mut(kind) {
                    check_amounts(amounts)?;
                }
            }
        }
    }
    if let Some(amounts) = spec.get_mut("overhead") {
        check_amounts(amounts)?;
    }
    for volume in spec
        .get_mut("volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(size) = volume.pointer_mut("/emptyDir/sizeLimit") {
            check_amount(size)?;
        }
    }
    Ok(())
}

fn check_amounts(amounts: &mut Value) -> Result<(), PodSpecError> {
    if let Value::Object(amounts) = amounts {
        for amount in amounts.values_mut() {
            check_amount(amount)?;
        }
    }
    Ok(())
}

fn check_amount(amount: &mut Value) -> Result<(), PodSpecError> {
    let text = match &*amount {
        Value::Null => return Ok(()),
        Value::String(text) => text.trim().to_owned(),
        other => flyte_idl::json::value_to_string(other),
    };
    if let Err(source) = text.parse::<Quantity>() {
        return Err(PodSpecError::Quantity {
            value: text,
            source,
        });
    }
    *amount = Value::String(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use flyte_idl::json::json_to_struct;
    use serde_json::json;

    use super::*;

    fn pod(spec: &Value) -> TaskTemplate {
        TaskTemplate {
            id: Some(flyte_idl::core::Identifier::default()),
            target: Some(Target::K8sPod(K8sPod {
                pod_spec: Some(json_to_struct(spec.as_object().unwrap())),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    fn text(template: TaskTemplate) -> Option<String> {
        let errors = compile_task(template).err()?;
        let texts: Vec<String> = errors
            .iter()
            .map(|error| format!("{} {}: {};", error.code, error.node, error.description))
            .collect();
        Some(texts.concat())
    }

    #[test]
    fn pod_specs_are_those_of_kubernetes() {
        for (spec, expected) in [
            (
                json!({"containers": [{"name": "primary", "resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}]}),
                None,
            ),
            (
                json!({"containers": [{"name": "Primary"}]}),
                Some("InvalidValue root: Invalid value [k8s pod spec container name].;"),
            ),
            (
                json!({"containers": "x"}),
                Some("InvalidValue root: Invalid value [k8s pod spec].;"),
            ),
            (
                json!({"containers": [{"name": "p", "resources": {"limits": {"cpu": "zz"}}}]}),
                Some("InvalidValue root: Invalid value [k8s pod spec].;"),
            ),
        ] {
            assert_eq!(text(pod(&spec)).as_deref(), expected, "{spec}");
        }
    }

    #[test]
    fn containers_have_an_image_and_readable_resources() {
        let entry = |value: &str| resources::ResourceEntry {
            name: resources::ResourceName::Cpu as i32,
            value: value.into(),
        };
        let container = Container {
            resources: Some(flyte_idl::core::Resources {
                requests: vec![entry("1")],
                limits: vec![entry("x")],
            }),
            ..Default::default()
        };
        let template = TaskTemplate {
            target: Some(Target::Container(container)),
            ..Default::default()
        };
        assert_eq!(
            text(template).as_deref(),
            Some(
                "UnrecognizedValue resources.CPU: Unrecognized value [x].;ValueRequired container: Value required [image].;ValueRequired root: Value required [Id].;"
            )
        );
    }
}
