//! From an attempt to its pod (spec 05 §4.3, §6).

mod base;
pub(crate) mod copilot;
mod environment;
mod placement;
mod resources;

use std::collections::BTreeMap;

use flyte_core::{names, unique_id};
use flyte_crd::PodFinalizer;
use flyte_idl::{
    core::{K8sPod, LiteralMap, task_template::Target},
    json::{self, Codec},
};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Deserialize;
use serde_json::Value;

pub use base::{TemplateName, template_name};

use crate::{
    Plugin, TaskContext,
    config::PluginsConfig,
    secrets,
    template::{self, TemplateError},
};
use base::{Base, Role};
use copilot::Copilot;

/// Names the container whose end is the task's end.
pub const PRIMARY_ANNOTATION: &str = "primary_container_name";

/// The task cannot become a pod; a user error that no retry mends.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A command or argument.
    #[error("could not build resource for task: {0}")]
    Template(#[from] TemplateError),
    /// A resource.
    #[error(
        "could not build resource for task: container {container:?}: {name} {value:?} is not a quantity"
    )]
    Quantity {
        /// The name of the container.
        container: String,
        /// cpu, memory, …
        name: String,
        /// What the task says.
        value: String,
    },
    /// The task itself.
    #[error("could not build resource for task: BadTaskSpecification: {0}")]
    BadTask(String),
}

/// Whether [`build`] needs the task's inputs.
pub fn needs_inputs(context: &TaskContext<'_>) -> bool {
    match &context.template.target {
        Some(Target::Container(container)) => {
            template::needs_inputs(container.command.iter().chain(&container.args))
        }
        // A pod's containers are only known once its spec is decoded; their arguments may well name inputs.
        Some(Target::K8sPod(_)) | None => true,
        Some(Target::Sql(_)) => false,
    }
}

/// Whether [`build`] names the uploaded task template.
pub fn needs_task_template(context: &TaskContext<'_>) -> bool {
    match &context.template.target {
        Some(Target::Container(container)) => {
            template::needs_task_template(container.command.iter().chain(&container.args))
        }
        Some(Target::K8sPod(_)) | None => true,
        Some(Target::Sql(_)) => false,
    }
}

/// What was read for a pod before it is built.
#[derive(Clone, Copy, Debug, Default)]
pub struct Supplies<'a> {
    /// The task's inputs, where [`needs_inputs`] asks for them.
    pub inputs: Option<&'a LiteralMap>,
    /// The PodTemplate that [`template_name`] names.
    pub template: Option<&'a PodTemplateSpec>,
}

/// The pod of one attempt.
pub fn build(
    context: &TaskContext<'_>,
    plugin: Plugin,
    supplies: Supplies<'_>,
    config: &PluginsConfig,
) -> Result<Pod, BuildError> {
    let Raw {
        mut spec,
        primary,
        labels: own_labels,
        annotations: own_annotations,
    } = raw(context, plugin, config)?;
    let base = Base::new(supplies.template);
    primary_of(&mut spec, &primary)?;
    for container in spec.init_containers.iter_mut().flatten() {
        prepare(container, context, supplies.inputs, config)?;
        let template = base.resources(&container.name, Role::Init);
        resources::merge(container, template, context, config);
    }
    for container in &mut spec.containers {
        prepare(container, context, supplies.inputs, config)?;
        if container.name == primary {
            let template = base.resources(&container.name, Role::Primary);
            resources::merge(container, template, context, config);
        } else {
            let template = base.resources(&container.name, Role::Other);
            resources::within_range(container, template, context);
        }
    }
    let downloader = match Copilot::of(context, config) {
        Some(copilot) => copilot.join(&mut spec, &primary)?,
        None => None,
    };
    placement::apply(&mut spec, context, config);
    let container = primary_of(&mut spec, &primary)?;
    if container.security_context.is_none() {
        container
            .security_context
            .clone_from(&config.k8s.default_security_context);
    }
    let mut spec = base.under(spec, &primary, downloader.as_deref())?;
    placement::accelerators(&mut spec, context, config);
    placement::shared_memory(&mut spec, &primary, context)?;
    if !context.container_image.is_empty() {
        primary_of(&mut spec, &primary)?.image = Some(context.container_image.to_owned());
    }
    let template = base.metadata();
    let mut labels = template.labels.unwrap_or_default();
    labels.extend(own_labels);
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.extend(own_annotations);
    let single = spec.containers.len() == 1 && context.template.r#type != "raw-container";
    if plugin == Plugin::Sidecar || single {
        annotations.insert(PRIMARY_ANNOTATION.to_owned(), primary);
    }
    if spec
        .service_account_name
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        let run_as = context.security_context.run_as.as_ref();
        spec.service_account_name = run_as
            .map(|identity| identity.k8s_service_account.clone())
            .filter(|account| !account.is_empty());
    }
    Ok(Pod {
        metadata: metadata(context, labels, annotations, config),
        spec: Some(spec),
        status: None,
    })
}

fn primary_of<'a>(spec: &'a mut PodSpec, primary: &str) -> Result<&'a mut Container, BuildError> {
    spec.containers
        .iter_mut()
        .find(|container| container.name == primary)
        .ok_or_else(|| {
            BuildError::BadTask(format!(
                "primary container {primary:?} is not among the pod's containers"
            ))
        })
}

/// The pod's name and labels without building it, for finding and deleting it.
pub fn name(context: &TaskContext<'_>) -> String {
    object_name(context.generated_name)
}

/// The Kubernetes name of a generated name.
pub fn object_name(generated_name: &str) -> String {
    if names::is_rfc1123_subdomain(generated_name) {
        generated_name.to_owned()
    } else {
        unique_id::object_name(generated_name)
    }
}

/// A pod before Flyte's own settings.
struct Raw {
    spec: PodSpec,
    primary: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn raw(
    context: &TaskContext<'_>,
    plugin: Plugin,
    config: &PluginsConfig,
) -> Result<Raw, BuildError> {
    let template = context.template;
    if plugin == Plugin::Sidecar && template.task_type_version < 2 {
        return sidecar(context);
    }
    let mut raw = match &template.target {
        Some(Target::Container(container)) => {
            let name = container_name(context.generated_name);
            Raw {
                spec: PodSpec {
                    containers: vec![resources::container(&name, container, config)?],
                    ..PodSpec::default()
                },
                primary: name,
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
            }
        }
        Some(Target::K8sPod(pod)) => {
            let primary = template.config.get(PRIMARY_ANNOTATION).cloned().ok_or_else(|| {
                BuildError::BadTask(format!("config has no {PRIMARY_ANNOTATION:?}; it names the container that runs the task"))
            })?;
            of_pod(pod, primary)?
        }
        Some(Target::Sql(_)) | None => {
            return Err(BuildError::BadTask(format!(
                "task type {:?} has neither a container nor a pod to run",
                template.r#type
            )));
        }
    };
    if let Some(over) = context.pod_template {
        if over.pod_spec.is_some() {
            let primary = if over.primary_container_name.is_empty() {
                raw.primary.clone()
            } else {
                over.primary_container_name.clone()
            };
            let replaced = of_pod(over, primary)?;
            raw.spec = replaced.spec;
            raw.primary = replaced.primary;
        }
        if let Some(metadata) = &over.metadata {
            raw.labels.extend(metadata.labels.clone());
            raw.annotations.extend(metadata.annotations.clone());
        }
    }
    Ok(raw)
}

fn of_pod(pod: &K8sPod, primary: String) -> Result<Raw, BuildError> {
    let spec = pod
        .pod_spec
        .as_ref()
        .ok_or_else(|| BuildError::BadTask("the pod has no spec".into()))?;
    let metadata = pod.metadata.clone().unwrap_or_default();
    Ok(Raw {
        spec: pod_spec(spec)?,
        primary,
        labels: metadata.labels,
        annotations: metadata.annotations,
    })
}

fn pod_spec(spec: &prost_types::Struct) -> Result<PodSpec, BuildError> {
    let bad = |error: &dyn std::fmt::Display| {
        BuildError::BadTask(format!("the pod spec cannot be read: {error}"))
    };
    let value = struct_value(spec).map_err(|error| bad(&error))?;
    serde_json::from_value(value).map_err(|error| bad(&error))
}

/// A Struct as JSON; whole numbers as integers, because ports and ids are read as such.
fn struct_value(spec: &prost_types::Struct) -> Result<Value, json::EncodeError> {
    use prost::Message as _;
    let descriptor = flyte_idl::descriptors::message::<flyte_idl::core::K8sPod>();
    let wrapped = K8sPod {
        pod_spec: Some(spec.clone()),
        ..K8sPod::default()
    };
    let dynamic =
        prost_reflect::DynamicMessage::decode(descriptor, wrapped.encode_to_vec().as_slice());
    let value = match dynamic {
        Ok(dynamic) => json::dynamic_to_value(Codec::Jsonpb, &dynamic)?,
        Err(_) => Value::Null,
    };
    Ok(whole_numbers(
        value.get("podSpec").cloned().unwrap_or(Value::Null),
    ))
}

fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "checked to be a whole number in range"
            )]
            let whole = number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && float.abs() < 9e15)
                .map(|float| float as i64);
            whole.map_or(Value::Number(number), Value::from)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(whole_numbers).collect()),
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(key, value)| (key, whole_numbers(value)))
                .collect(),
        ),
        other => other,
    }
}

/// The older sidecar tasks, whose pod stands in `custom`.
fn sidecar(context: &TaskContext<'_>) -> Result<Raw, BuildError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Job {
        pod_spec: PodSpec,
        primary_container_name: String,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }
    let template = context.template;
    let custom = template
        .custom
        .as_ref()
        .ok_or_else(|| BuildError::BadTask("a sidecar task has no custom part".into()))?;
    if template.task_type_version == 0 {
        let bad = |error: &dyn std::fmt::Display| {
            BuildError::BadTask(format!("the sidecar job cannot be read: {error}"))
        };
        let value = struct_value(custom).map_err(|error| bad(&error))?;
        let job: Job = serde_json::from_value(value).map_err(|error| bad(&error))?;
        return Ok(Raw {
            spec: job.pod_spec,
            primary: job.primary_container_name,
            labels: job.labels,
            annotations: job.annotations,
        });
    }
    let primary = template
        .config
        .get(PRIMARY_ANNOTATION)
        .cloned()
        .ok_or_else(|| {
            BuildError::BadTask(format!(
                "config has no {PRIMARY_ANNOTATION:?}; it names the container that runs the task"
            ))
        })?;
    let metadata = match &template.target {
        Some(Target::K8sPod(pod)) => pod.metadata.clone().unwrap_or_default(),
        _ => flyte_idl::core::K8sObjectMetadata::default(),
    };
    Ok(Raw {
        spec: pod_spec(custom)?,
        primary,
        labels: metadata.labels,
        annotations: metadata.annotations,
    })
}

/// A generated name is a container's name unless it has dots or is too long for one.
fn container_name(generated_name: &str) -> String {
    if names::is_rfc1123_label(generated_name) {
        generated_name.to_owned()
    } else {
        // Go takes four random letters; a hash says the same each time it is asked.
        unique_id::fixed_length(
            &format!("{generated_name}:container"),
            20,
            unique_id::Width::Bits32,
        )
        .unwrap_or_else(|too_long| too_long.name)
    }
}

fn prepare(
    container: &mut Container,
    context: &TaskContext<'_>,
    inputs: Option<&LiteralMap>,
    config: &PluginsConfig,
) -> Result<(), BuildError> {
    for templates in [&mut container.command, &mut container.args]
        .into_iter()
        .flatten()
    {
        for text in templates {
            *text = template::render(text, context, inputs)?;
        }
    }
    environment::add(container, context, config);
    Ok(())
}

fn metadata(
    context: &TaskContext<'_>,
    own_labels: BTreeMap<String, String>,
    own_annotations: BTreeMap<String, String>,
    config: &PluginsConfig,
) -> ObjectMeta {
    let of_task = match &context.template.target {
        Some(Target::K8sPod(pod)) => pod.metadata.clone().unwrap_or_default(),
        _ => flyte_idl::core::K8sObjectMetadata::default(),
    };
    let mut annotations = config.k8s.default_annotations.0.clone();
    annotations.extend(own_annotations);
    annotations.extend(of_task.annotations);
    annotations.extend(context.annotations.clone());
    let mut labels = config.k8s.default_labels.0.clone();
    labels.extend(own_labels);
    labels.extend(of_task.labels);
    labels.extend(context.labels.clone());
    let task_name = context
        .template
        .id
        .as_ref()
        .map_or("", |id| id.name.as_str());
    labels.insert(
        "node-id".into(),
        names::sanitized_label_value(context.node_id),
    );
    labels.insert("task-name".into(), names::sanitized_label_value(task_name));
    labels.insert("interruptible".into(), context.interruptible.to_string());
    let secrets = context
        .template
        .security_context
        .as_ref()
        .map_or(&[][..], |security| &security.secrets);
    if !secrets.is_empty() {
        labels.insert(secrets::INJECT_LABEL.into(), "true".into());
        annotations.extend(secrets::annotations(secrets));
    }
    let identity = context
        .security_context
        .run_as
        .as_ref()
        .map_or("", |identity| identity.execution_identity.as_str());
    if !identity.is_empty() {
        labels.insert(
            "execution-identity".into(),
            names::sanitized_label_value(identity),
        );
    }
    ObjectMeta {
        name: Some(name(context)),
        namespace: Some(context.namespace.to_owned()),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![context.owner.clone()]),
        finalizers: config
            .k8s
            .inject_finalizer
            .then(|| vec![PodFinalizer::NAME.to_owned()]),
        ..ObjectMeta::default()
    }
}
