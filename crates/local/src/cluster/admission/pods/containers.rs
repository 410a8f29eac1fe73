//! What a container must be: name, image, environment, mounts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, PodSpec, Volume, VolumeMount};

use super::{ports, probes, resources, security};
use crate::cluster::admission::names::{
    DATA_KEY_RULE, DNS_LABEL_RULE, DNS_SUBDOMAIN_RULE, ENVIRONMENT_NAME_RULE, QUALIFIED_NAME_RULE,
    is_data_key, is_dns_label, is_dns_subdomain, is_environment_name, is_qualified_name,
};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// What of its pod a container is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) spec: &'a PodSpec,
    /// The volumes that the pod declares rightly.
    pub(super) volumes: &'a BTreeMap<String, Volume>,
    /// Whether it runs beside the others, and not before them.
    pub(super) stays: bool,
}

/// Adds a cause for each rule that the container at `field` breaks. `names` are those of the containers before.
pub(super) fn validate(
    container: &Container,
    field: &str,
    names: &mut BTreeSet<String>,
    context: Context<'_>,
    causes: &mut Causes,
) {
    let name = &container.name;
    let at = |member: &str| format!("{field}.{member}");
    if name.is_empty() {
        causes.push(StatusCause::required(at("name")));
    } else if !is_dns_label(name) {
        causes.push(StatusCause::value(at("name"), name, DNS_LABEL_RULE));
    } else if !names.insert(name.clone()) {
        causes.push(StatusCause::duplicate(at("name"), name));
    }
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        causes.push(StatusCause::required(at("image")));
    } else if image.trim() != image {
        let rule = "must not have leading or trailing whitespace";
        causes.push(StatusCause::value(at("image"), image, rule));
    }
    for (member, given, known) in [
        (
            "imagePullPolicy",
            &container.image_pull_policy,
            &["Always", "IfNotPresent", "Never"][..],
        ),
        (
            "terminationMessagePolicy",
            &container.termination_message_policy,
            &["FallbackToLogsOnError", "File"],
        ),
    ] {
        if let Some(given) = given.as_deref().filter(|given| !known.contains(given)) {
            causes.push(StatusCause::unsupported(at(member), given, known));
        }
    }
    ports::validate(container, context.spec, field, causes);
    security::validate(container, field, causes);
    for policy in container.resize_policy.iter().flatten() {
        const POLICIES: &[&str] = &["NotRequired", "RestartContainer"];
        let given = policy.restart_policy.as_str();
        if !POLICIES.contains(&given) {
            causes.push(StatusCause::unsupported(
                at("resizePolicy"),
                given,
                POLICIES,
            ));
        }
    }
    probes::validate(container, context, field, causes);
    validate_environment(container, field, causes);
    resources::validate(container, context.spec, field, causes);
    validate_mounts(container, field, context.volumes, causes);
}

fn validate_mounts(
    container: &Container,
    field: &str,
    volumes: &BTreeMap<String, Volume>,
    causes: &mut Causes,
) {
    let mut paths = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let field = format!("{field}.volumeMounts[{index}]");
        validate_mount(mount, &field, (&mut paths, volumes), causes);
        mounted_how(container, mount, &field, causes);
    }
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        let field = format!("{field}.volumeDevices[{index}].name");
        match volumes.get(&device.name) {
            None => causes.push(StatusCause::not_found(field, &device.name)),
            Some(volume)
                if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() =>
            {
                let rule = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                causes.push(StatusCause::value(field, &device.name, rule));
            }
            Some(_) => {}
        }
    }
}

fn validate_environment(container: &Container, field: &str, causes: &mut Causes) {
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let field = format!("{field}.env[{index}]");
        if variable.name.is_empty() {
            causes.push(StatusCause::required(format!("{field}.name")));
        } else if !is_environment_name(&variable.name) {
            causes.push(StatusCause::value(
                format!("{field}.name"),
                &variable.name,
                ENVIRONMENT_NAME_RULE,
            ));
        }
        if let Some(from) = &variable.value_from {
            validate_source(variable, from, &format!("{field}.valueFrom"), causes);
        }
    }
    let list = format!("{field}.envFrom");
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        let field = format!("{field}.envFrom[{index}]");
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty())
            && !is_environment_name(prefix)
        {
            causes.push(StatusCause::value(
                format!("{field}.prefix"),
                prefix,
                ENVIRONMENT_NAME_RULE,
            ));
        }
        let named = [
            (
                "configMapRef",
                source.config_map_ref.as_ref().map(|map| &map.name),
            ),
            (
                "secretRef",
                source.secret_ref.as_ref().map(|secret| &secret.name),
            ),
        ];
        // Without the index, as Kubernetes says it.
        match named.iter().filter(|(_, name)| name.is_some()).count() {
            0 => causes.push(StatusCause::value(
                &list,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            1 => {}
            _ => causes.push(StatusCause::value(
                &list,
                "",
                "may not have more than one field specified at a time",
            )),
        }
        for (member, name) in named {
            let field = format!("{field}.{member}.name");
            match name {
                Some(name) if name.is_empty() => causes.push(StatusCause::required(field)),
                Some(name) if !is_dns_subdomain(name) => {
                    causes.push(StatusCause::value(field, name, DNS_SUBDOMAIN_RULE));
                }
                Some(_) | None => {}
            }
        }
    }
}

fn validate_source(variable: &EnvVar, from: &EnvVarSource, field: &str, causes: &mut Causes) {
    let given = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
    ];
    let valued = variable
        .value
        .as_ref()
        .is_some_and(|value| !value.is_empty());
    match given.iter().filter(|given| **given).count() {
        0 => causes.push(StatusCause::value(
            field,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        )),
        _ if valued => causes.push(StatusCause::value(
            field,
            "",
            "may not be specified when `value` is not empty",
        )),
        1 => {}
        _ => causes.push(StatusCause::value(
            field,
            "",
            "may not have more than one field specified at a time",
        )),
    }
    if let Some(reference) = &from.field_ref {
        let field = format!("{field}.fieldRef");
        match reference.api_version.as_deref() {
            None | Some("" | "v1") => validate_field_path(&reference.field_path, &field, causes),
            Some(version) => {
                let rule =
                    format!("error converting fieldPath: unsupported pod version: {version}");
                let field = format!("{field}.fieldPath");
                causes.push(StatusCause::value(field, &reference.field_path, &rule));
            }
        }
    }
    if let Some(reference) = &from.resource_field_ref {
        resources::validate_field(reference, &format!("{field}.resourceFieldRef"), causes);
    }
    let keys = [
        (
            "configMapKeyRef",
            from.config_map_key_ref
                .as_ref()
                .map(|map| (&map.name, &map.key)),
        ),
        (
            "secretKeyRef",
            from.secret_key_ref
                .as_ref()
                .map(|secret| (&secret.name, &secret.key)),
        ),
    ];
    for (member, reference) in keys {
        let Some((name, key)) = reference else {
            continue;
        };
        if name.is_empty() {
            causes.push(StatusCause::required(format!("{field}.{member}.name")));
        }
        validate_key(key, &format!("{field}.{member}.key"), causes);
    }
}

/// A key of a ConfigMap or Secret.
pub(super) fn validate_key(key: &str, field: &str, causes: &mut Causes) {
    if key.is_empty() {
        causes.push(StatusCause::required(field));
    } else if !is_data_key(key) {
        causes.push(StatusCause::value(field, key, DATA_KEY_RULE));
    }
}

/// A field of the pod, as an environment variable may name it.
fn validate_field_path(path: &str, field: &str, causes: &mut Causes) {
    const KNOWN: [&str; 9] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let reference = field;
    let field = format!("{field}.fieldPath");
    let keyed = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .find_map(|map| path.strip_prefix(map)?.strip_suffix("']"));
    if path.is_empty() {
        causes.push(StatusCause::required(field));
    } else if let Some(key) = keyed {
        if !is_qualified_name(&key.to_lowercase()) {
            causes.push(StatusCause::value(reference, path, QUALIFIED_NAME_RULE));
        }
    } else if !KNOWN.contains(&path) {
        let rule = format!("error converting fieldPath: field label not supported: {path}");
        causes.push(StatusCause::value(field, path, &rule));
    }
}

fn validate_mount(
    mount: &VolumeMount,
    field: &str,
    (paths, volumes): (&mut BTreeSet<String>, &BTreeMap<String, Volume>),
    causes: &mut Causes,
) {
    let at = |member: &str| format!("{field}.{member}");
    if mount.name.is_empty() {
        causes.push(StatusCause::required(at("name")));
    } else if !volumes.contains_key(&mount.name) {
        causes.push(StatusCause::not_found(at("name"), &mount.name));
    }
    if mount.mount_path.is_empty() {
        causes.push(StatusCause::required(at("mountPath")));
    } else if !paths.insert(mount.mount_path.clone()) {
        causes.push(StatusCause::value(
            at("mountPath"),
            &mount.mount_path,
            "must be unique",
        ));
    }
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (path, expression) = (given(&mount.sub_path), given(&mount.sub_path_expr));
    if let (Some(_), Some(expression)) = (&path, &expression) {
        causes.push(StatusCause::value(
            at("subPathExpr"),
            expression,
            "subPathExpr and subPath are mutually exclusive",
        ));
    }
    for (member, path) in [("subPath", path), ("subPathExpr", expression)] {
        if let Some(path) = path {
            validate_relative(&path, &format!("{}.{member}", of_list(field)), causes);
        }
    }
}

/// The field of the list that an item is in: Kubernetes names some members of mounts so.
fn of_list(field: &str) -> &str {
    field.rsplit_once('[').map_or(field, |(list, _)| list)
}

/// Checks how a volume is mounted.
fn mounted_how(container: &Container, mount: &VolumeMount, field: &str, causes: &mut Causes) {
    const PROPAGATIONS: &[&str] = &["Bidirectional", "HostToContainer", "None"];
    const RECURSIVE: &[&str] = &["Disabled", "Enabled", "IfPossible"];
    let at = |member: &str| format!("{}.{member}", of_list(field));
    let is_privileged = container
        .security_context
        .as_ref()
        .is_some_and(|context| context.privileged == Some(true));
    match mount.mount_propagation.as_deref() {
        Some("Bidirectional") if !is_privileged => causes.push(StatusCause::forbidden(
            at("mountPropagation"),
            "Bidirectional mount propagation is available only to privileged containers",
        )),
        Some(given) if !PROPAGATIONS.contains(&given) => {
            let cause = StatusCause::unsupported(at("mountPropagation"), given, PROPAGATIONS);
            causes.push(cause);
        }
        Some(_) | None => {}
    }
    match mount.recursive_read_only.as_deref() {
        Some("Enabled" | "IfPossible") if mount.read_only != Some(true) => {
            let rule = "may only be specified when readOnly is true";
            causes.push(StatusCause::forbidden(at("recursiveReadOnly"), rule));
        }
        Some(given) if !RECURSIVE.contains(&given) => {
            let cause = StatusCause::unsupported(at("recursiveReadOnly"), given, RECURSIVE);
            causes.push(cause);
        }
        Some(_) | None => {}
    }
}

/// A path below a folder that it must not leave.
pub(super) fn validate_relative(path: &str, field: &str, causes: &mut Causes) {
    if path.starts_with('/') {
        causes.push(StatusCause::value(field, path, "must be a relative path"));
    }
    if path.split('/').any(|part| part == "..") {
        causes.push(StatusCause::value(field, path, "must not contain '..'"));
    }
}
